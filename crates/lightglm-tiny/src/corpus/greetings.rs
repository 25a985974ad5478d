//! What is said without a text to answer from: greetings, thanks, who it is, and questions that need a text.

use super::conversation::{CorpusConversation, Exchange};
use super::fact_conversations::FactConversations;
use super::language::Language;
use super::questions::as_written;
use super::random::Random;

/// The next conversation without a context; questions about nothing in particular come from `facts`.
pub(super) fn next(
    facts: &FactConversations<'_>,
    language: Language,
    random: &mut Random,
) -> CorpusConversation {
    let mut exchanges = Vec::new();
    for _ in 0..random.within(1..=3) {
        let (questions, answer): (&[&str], &str) = match (random.below(5), language) {
            (0, Language::English) => {
                (&HELLO, "Hello! Give me a text, and I answer questions about it.")
            }
            (0, Language::Chinese) => (&HELLO_ZH, "你好！请给我一段文字，我来回答有关它的问题。"),
            (1, Language::English) => (&THANKS, "You are welcome."),
            (1, Language::Chinese) => (&THANKS_ZH, "不客气。"),
            (2, Language::English) => {
                (&WHO, "I am lightglm-tiny, a very small model that answers from a text.")
            }
            (2, Language::Chinese) => {
                (&WHO_ZH, "我是 lightglm-tiny，一个根据文字回答问题的很小的模型。")
            }
            _ => {
                let question = facts.any_question(language, random);
                exchanges.push(Exchange {
                    question,
                    answer: language.no_context().to_owned(),
                    answerable: false,
                });
                continue;
            }
        };
        let question = as_written(random.pick(questions), language, random);
        exchanges.push(Exchange { question, answer: answer.to_owned(), answerable: false });
    }
    CorpusConversation { language, context: None, exchanges }
}

const HELLO: [&str; 8] = [
    "Hello",
    "Hi",
    "Hi there!",
    "Good morning",
    "Hello!",
    "Hey",
    "Good evening.",
    "Hello, can you help me?",
];
const HELLO_ZH: [&str; 7] =
    ["你好", "您好", "你好！", "早上好", "嗨", "在吗？", "你好，能帮我吗？"];
const THANKS: [&str; 5] =
    ["Thanks", "Thank you!", "Thank you very much.", "Great, thanks", "ok thanks"];
const THANKS_ZH: [&str; 5] = ["谢谢", "谢谢！", "多谢", "好的，谢谢", "非常感谢"];
const WHO: [&str; 6] = [
    "Who are you?",
    "What are you?",
    "What can you do?",
    "What is your name?",
    "Are you a person?",
    "Which model are you?",
];
const WHO_ZH: [&str; 6] = [
    "你是谁？",
    "你叫什么名字？",
    "你能做什么？",
    "你是真人吗？",
    "你是什么模型？",
    "介绍一下你自己",
];
