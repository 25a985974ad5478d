//! Questions about short texts with what is right, and how many of them a model answers so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use lightglm::training::data::{Role, Turn};
use lightglm::training::{Conversation, Example, answers};
use lightglm::{Model, ProgressSink};
use lightglm_eval::metrics::{cmrc2018_f1, squad2_f1};
use lightglm_tiny::corpus::{CorpusConversation, Language};
use serde::{Deserialize, Serialize};

/// A question about a text.
#[derive(Clone, Debug, Deserialize)]
pub struct Question {
    /// Its name.
    pub id: String,
    /// The text.
    pub context: String,
    /// What is asked.
    pub question: String,
    /// Right answers; none where the text does not tell.
    pub answers: Vec<String>,
    /// What an answer must have in it, to the letter.
    #[serde(default)]
    pub slots: Vec<String>,
}

/// How well questions are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Questions that the text answers.
    pub answerable: usize,
    /// Of these, how many are answered rightly: exactly, or with an F1 of at least 0.6 against a right answer.
    pub right: usize,
    /// Of these, how many are refused.
    pub wrongly_refused: usize,
    /// Questions that the text does not answer.
    pub unanswerable: usize,
    /// Of these, how many are refused.
    pub refused: usize,
    /// Values that answers must have in them.
    pub slots: usize,
    /// Of these, how many are there to the letter, whatever else is said.
    pub slots_copied: usize,
    /// Values of questions whose answer is otherwise the right sentence.
    pub slots_told: usize,
    /// Of these, how many are there to the letter.
    pub slots_told_copied: usize,
}

/// The smallest F1 of an answer that is right.
const RIGHT: f64 = 0.6;

/// Reads questions, one JSON object a line.
///
/// # Errors
/// With file and line.
pub fn read(file: &Path) -> Result<Vec<Question>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            serde_json::from_str(line).with_context(|| format!("{}:{}", file.display(), i + 1))
        })
        .collect()
}

/// The questions of made conversations, each with nothing asked before it.
pub fn of_conversation(id: usize, conversation: &CorpusConversation) -> Vec<Question> {
    let exchanges = conversation.exchanges.iter().enumerate();
    exchanges
        .map(|(i, exchange)| Question {
            id: format!("{id}-{i}"),
            context: conversation.context.clone().unwrap_or_default(),
            question: exchange.question.clone(),
            answers: if exchange.answerable { vec![exchange.answer.clone()] } else { Vec::new() },
            slots: Vec::new(),
        })
        .collect()
}

/// Asks all of them; the answers with what they score.
///
/// # Errors
/// Where the model refuses a question.
pub fn ask(
    model: &Model,
    language: Language,
    questions: &[Question],
    progress: &ProgressSink,
) -> Result<(Vec<String>, Score)> {
    let wanted = |question: &Question| {
        question.answers.first().cloned().unwrap_or_else(|| language.refusal().to_owned())
    };
    let examples: Vec<Example> = questions
        .iter()
        .enumerate()
        .map(|(i, question)| {
            let asked = format!(
                "{}\n\nAnswer from the text above. {}",
                question.context, question.question
            );
            let turns =
                vec![Turn::new(Role::User, asked), Turn::new(Role::Assistant, wanted(question))];
            Example::Conversation(Conversation { turns, line: i + 1, extra: Default::default() })
        })
        .collect();
    let conversations: Vec<&Conversation> =
        examples.iter().filter_map(Example::conversation).collect();
    let answers = answers(model, &conversations, progress)?;
    let mut score = Score::default();
    for (question, answer) in questions.iter().zip(&answers) {
        score.add(question, answer, language);
    }
    Ok((answers, score))
}

/// Whether an answer is the refusal.
pub fn is_refusal(answer: &str, language: Language) -> bool {
    answer.trim() == language.refusal()
}

/// The best F1 of an answer against the right ones.
pub fn f1(question: &Question, answer: &str, language: Language) -> f64 {
    let f1 = |gold: &String| match language {
        Language::English => squad2_f1(gold, answer),
        Language::Chinese => cmrc2018_f1(gold, answer),
    };
    question.answers.iter().map(f1).fold(0.0, f64::max)
}

impl Score {
    fn add(&mut self, question: &Question, answer: &str, language: Language) {
        let refused = is_refusal(answer, language);
        if question.answers.is_empty() {
            self.unanswerable += 1;
            self.refused += usize::from(refused);
            return;
        }
        let right = !refused && f1(question, answer, language) >= RIGHT;
        let copied = question.slots.iter().filter(|slot| answer.contains(*slot)).count();
        self.answerable += 1;
        self.right += usize::from(right);
        self.wrongly_refused += usize::from(refused);
        self.slots += question.slots.len();
        self.slots_copied += copied;
        if right {
            self.slots_told += question.slots.len();
            self.slots_told_copied += copied;
        }
    }

    /// Answers and refusals that are right, of all questions.
    pub fn accuracy(&self) -> f64 {
        (self.right + self.refused) as f64 / (self.answerable + self.unanswerable).max(1) as f64
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
        write!(
            f,
            "{:5.1} % right of all {}; answerable {:5.1} % right, {:4.1} % refused; unanswerable {:5.1} % refused; values copied {:5.1} % ({:5.1} % in right answers)",
            100.0 * self.accuracy(),
            self.answerable + self.unanswerable,
            share(self.right, self.answerable),
            share(self.wrongly_refused, self.answerable),
            share(self.refused, self.unanswerable),
            share(self.slots_copied, self.slots),
            share(self.slots_told_copied, self.slots_told),
        )
    }
}
