//! `CorpusConversation`: a context, and what is asked about it.

use super::language::Language;
use super::random::Random;

/// A context, questions about it, and their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusConversation {
    /// The language of all of it.
    pub language: Language,
    /// What the answers are taken from; none where there is nothing to answer from.
    pub context: Option<String>,
    /// What is asked, in order.
    pub exchanges: Vec<Exchange>,
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What is asked.
    pub question: String,
    /// What is answered.
    pub answer: String,
    /// Whether the context tells.
    pub answerable: bool,
}

impl Exchange {
    pub(super) fn refused(language: Language, question: String) -> Self {
        Self { question, answer: language.refusal().to_owned(), answerable: false }
    }
}

impl CorpusConversation {
    /// The turns, as `(role, content)`: the context as the system's instructions, or before the first question in one of
    /// the ways in which programs put it there.
    pub fn turns(&self, random: &mut Random) -> Vec<(&'static str, String)> {
        let mut turns = Vec::new();
        let mut layout = 0;
        if let Some(context) = &self.context {
            layout = random.below(10);
            if layout < 3 {
                turns.push(("system", instructed(context, self.language, random)));
            }
        }
        for (i, exchange) in self.exchanges.iter().enumerate() {
            let question = &exchange.question;
            let question = match &self.context {
                Some(context) if i == 0 && layout >= 3 => {
                    before(context, question, layout, self.language)
                }
                _ => question.clone(),
            };
            turns.push(("user", question));
            turns.push(("assistant", exchange.answer.clone()));
        }
        turns
    }
}

/// The context, at times behind what an assistant is usually told.
fn instructed(context: &str, language: Language, random: &mut Random) -> String {
    let instruction = match (random.below(12), language) {
        (0, Language::English) => "You are a helpful assistant. Answer from this text.",
        (1, Language::English) => "Answer the customer's questions from the following text.",
        (2, Language::English) => "You are the assistant of a business. What you know:",
        (0, Language::Chinese) => "你是客服助手，请根据以下内容回答问题。",
        (1, Language::Chinese) => "请根据下面的资料回答顾客的问题：",
        (2, Language::Chinese) => "你是一个有用的助手。已知信息：",
        _ => return context.to_owned(),
    };
    format!("{instruction}\n\n{context}")
}

fn before(context: &str, question: &str, layout: usize, language: Language) -> String {
    match (layout, language) {
        // As programs of this project put it.
        (3..=6, _) => format!("{context}\n\nAnswer from the text above. {question}"),
        (7, Language::English) => format!("{context}\n\nQuestion: {question}"),
        (7, Language::Chinese) => format!("{context}\n\n问题：{question}"),
        (8, Language::Chinese) => format!("{context}\n\n请根据上文回答：{question}"),
        _ => format!("{context}\n\n{question}"),
    }
}
