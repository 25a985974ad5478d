//! What a model answers to the questions of rows, how much of that is right, and how likely it finds
//! the wanted answers.

use lightglm_core::LabelledSpan;
use lightglm_distill::{DistillError, Divergence, Teacher};
use lightglm_generation::SamplingParams;
use lightglm_text::ChatText;
use lightglm_train::data::{Conversation, ConversationTokenizer, Example};
use lightglm_train::trainer::TokenizedExample;
use serde::Serialize;

use super::model_teacher::ModelTeacher;
use crate::error::Error;
use crate::model::{Model, Prompt, Request, SEQUENCES};
use crate::progress::ProgressSink;

/// How many answers are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// Questions asked.
    pub asked: usize,
    /// Answers that are the wanted one, or contain what is expected where the row says so.
    pub right: usize,
    /// `right / asked`.
    pub accuracy: f64,
}

impl Accuracy {
    /// Compares `answers` with what the conversations want, one by one, upper and lower case alike. A
    /// row with a field `expect` wants an answer that contains one of its texts.
    pub fn of(conversations: &[&Conversation], answers: &[String]) -> Self {
        let mut total = Self::default();
        for (conversation, answer) in conversations.iter().zip(answers) {
            let same = answer.trim().eq_ignore_ascii_case(conversation.answer().trim());
            total.asked += 1;
            total.right += usize::from(conversation.meets_expectations(answer).unwrap_or(same));
        }
        total.accuracy = total.right as f64 / total.asked.max(1) as f64;
        total
    }
}

/// The conversations among `examples` whose last turn is a text that can be asked for: no plain texts, no
/// preferences, no calls of tools.
pub fn conversations(examples: &[Example]) -> Vec<&Conversation> {
    let conversations = examples.iter().filter_map(Example::conversation);
    conversations.filter(|conversation| !conversation.answer().trim().is_empty()).collect()
}

/// The model's likeliest answers to the conversations' last questions, each at most as long as the
/// longest wanted answer and a quarter.
///
/// # Errors
/// [`Error::Tokenize`] with the line of a question that cannot be encoded; where the model refuses one;
/// [`Error::Interrupted`].
pub fn answers(
    model: &Model,
    conversations: &[&Conversation],
    progress: &ProgressSink,
) -> Result<Vec<String>, Error> {
    let text = model.text();
    let mut longest = 0;
    for conversation in conversations {
        longest = longest.max(text.encode(conversation.answer())?.len());
    }
    let max_tokens = longest + longest / 4 + 2;
    let greedy = SamplingParams { temperature: 0.0, max_tokens, ..SamplingParams::default() };
    let tokenizer = ConversationTokenizer::new(text);
    let total = conversations.len() as u64;
    let mut answers = Vec::with_capacity(conversations.len());
    progress.working("asking", 0, total)?;
    for batch in conversations.chunks(SEQUENCES) {
        let requests = batch.iter().map(|conversation| {
            let prompt = Prompt::Tokens(tokenizer.question(conversation)?);
            Ok(Request { prompt, sampling: Some(greedy.clone()) })
        });
        for reply in model.batch(requests.collect::<Result<Vec<_>, Error>>()?)? {
            answers.push(reply?.text);
        }
        progress.working("asking", answers.len() as u64, total)?;
    }
    Ok(answers)
}

/// Perplexity over the labels of `rows`, each row on its own: `exp` of the mean loss of a label.
///
/// # Errors
/// [`Error::Option`] where no row has a label; where the model refuses a row; [`Error::Interrupted`].
pub fn perplexity(
    model: &Model,
    rows: &[TokenizedExample],
    progress: &ProgressSink,
) -> Result<f64, Error> {
    let (mut loss, mut labels, total) = (0.0, 0, rows.len() as u64);
    for (done, row) in rows.iter().enumerate() {
        progress.working("measuring", done as u64, total)?;
        let losses = model.inner.runtime.label_losses(&row.tokens, &row.targets)?;
        loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        labels += losses.len();
    }
    progress.working("measuring", total, total)?;
    Ok(mean(loss, labels)?.exp())
}

/// Kullback-Leibler divergence of the model's predictions from those of `teacher` over the labels of `rows`, each row on
/// its own, in nats a label; both models read the same tokens.
///
/// # Errors
/// [`Error::Distill`] for another vocabulary size or logits that are not finite; otherwise as [`perplexity`].
pub fn kl_divergence(
    model: &Model,
    teacher: &Model,
    rows: &[TokenizedExample],
    progress: &ProgressSink,
) -> Result<f64, Error> {
    let (asked, wanted) = (model.config().vocab_size, teacher.config().vocab_size);
    if asked != wanted {
        return Err(DistillError::Vocabulary { teacher: wanted, student: asked }.into());
    }
    let (mut sum, mut labels, total) = (0.0, 0, rows.len() as u64);
    for (done, row) in rows.iter().enumerate() {
        progress.working("measuring", done as u64, total)?;
        let (tokens, targets) = (&row.tokens, &row.targets);
        let said = ModelTeacher(teacher).rows(&[LabelledSpan::text(tokens, targets)])?;
        let logits = model.inner.runtime.label_logits(tokens, targets)?;
        let losses = Divergence::ForwardKl.losses(&said, &logits, 1.0)?;
        sum += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        labels += losses.len();
    }
    progress.working("measuring", total, total)?;
    mean(sum, labels)
}

fn mean(sum: f64, labels: usize) -> Result<f64, Error> {
    match labels {
        0 => Err(Error::Option { option: "rows", reason: "no row has a label".to_owned() }),
        labels => Ok(sum / labels as f64),
    }
}
