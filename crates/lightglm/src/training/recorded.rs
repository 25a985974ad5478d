//! `Recorded`: rows that a teacher answered, with what it said of their tokens.

use lightglm_core::LabelledSpan;
use lightglm_distill::{DistillError, RecordedTeacher, TopRow};
use lightglm_train::data::{Conversation, ConversationTokenizer, DropReport, Example};
use lightglm_train::trainer::TokenizedExample;
use serde_json::Value;

use super::generations::{LOGPROBS, TEACHER};
use super::token_logprobs::{TokenLogprobs, TokensByBytes};
use super::training_model::{TokenizedRows, TrainingModel};
use crate::error::Error;

/// The logarithm of the probability that a token has of which nothing but itself is known: 0.999, and the rest for
/// all others, so that no divergence is infinite.
const SAID: f32 = -0.001_000_5;

/// Rows, and a teacher that knows them.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The rows.
    pub rows: TokenizedRows,
    /// What is known of their labels: the likeliest tokens where the teacher told them, or else the row's own token.
    pub teacher: RecordedTeacher,
    /// Rows of whose answer the likeliest tokens are known.
    pub with_logprobs: usize,
    /// The other rows' lines, and why they teach their text alone.
    pub text_alone: Vec<(usize, String)>,
}

impl TrainingModel {
    /// The rows as [`tokenize_examples`](Self::tokenize_examples) has them, with the log-probabilities that
    /// [`generate_rows`](super::generations::generate_rows) wrote, where the teacher's tokens are the student's: each
    /// of the answer's tokens has the bytes of one of the student's, and the student cuts the answer into the same.
    /// What ends an answer, and what a template writes in front of it, is taken for said.
    ///
    /// # Errors
    /// As [`tokenize_examples`](Self::tokenize_examples), but that any number of rows may be dropped.
    pub fn recorded(&self, examples: &[Example]) -> Result<Recorded, Error> {
        let config = self.checkpoint().config();
        let (text, vocab_size) = (self.text(), config.vocab_size);
        let limit = self.options().max_tokens.min(config.context_length());
        let tokenizer = ConversationTokenizer::new(text)
            .with_on_bad_row(self.options().on_bad_row)
            .with_dropped_allowed(true);
        let tokens = TokensByBytes::new(text, vocab_size);
        let mut report = DropReport { rows: examples.len(), ..DropReport::default() };
        let mut recorded = Recorded {
            rows: TokenizedRows::default(),
            teacher: RecordedTeacher::new(vocab_size),
            with_logprobs: 0,
            text_alone: Vec::new(),
        };
        for example in examples {
            let mut pieces =
                tokenizer.tokenize(std::slice::from_ref(example), limit, &mut report)?;
            // The last piece has the last answer.
            let Some(last) = pieces.pop() else { continue };
            for piece in pieces {
                let said = said_alone(&piece)?;
                recorded.record(piece, said)?;
            }
            let rows = match logprobs(example.conversation()) {
                Ok(said) => rows_of(&tokens, &last, &said),
                Err(reason) => Err(reason),
            };
            match rows {
                Ok(rows) => {
                    recorded.with_logprobs += 1;
                    recorded.record(last, rows)?;
                }
                Err(reason) => {
                    recorded.text_alone.push((example.line(), reason));
                    let said = said_alone(&last)?;
                    recorded.record(last, said)?;
                }
            }
        }
        recorded.rows.report = report;
        Ok(recorded)
    }
}

impl Recorded {
    fn record(&mut self, row: TokenizedExample, said: Vec<TopRow>) -> Result<(), DistillError> {
        let span = LabelledSpan::text(&row.tokens, &row.targets);
        self.teacher.record(span, said)?;
        self.rows.rows.push(row);
        Ok(())
    }
}

/// What a row says of its answer's tokens.
fn logprobs(conversation: Option<&Conversation>) -> Result<Vec<TokenLogprobs>, String> {
    let field =
        |conversation: &Conversation| Some(conversation.extra.get(TEACHER)?.get(LOGPROBS)?.clone());
    match conversation.and_then(field) {
        Some(Value::Array(tokens)) if !tokens.is_empty() => {
            let tokens: Option<Vec<_>> = tokens.iter().map(TokenLogprobs::from_json).collect();
            tokens.ok_or_else(|| format!("{TEACHER}.{LOGPROBS} is malformed"))
        }
        _ => Err("it has no log-probabilities".to_owned()),
    }
}

/// A distribution for each label, of which nothing else is known.
fn said_alone(row: &TokenizedExample) -> Result<Vec<TopRow>, DistillError> {
    row.targets.iter().flatten().map(|&target| TopRow::new(vec![target], vec![SAID])).collect()
}

/// A distribution for each label of `row`, in whose last answer the tokens that were `said` stand.
fn rows_of(
    tokens: &TokensByBytes<'_>,
    row: &TokenizedExample,
    said: &[TokenLogprobs],
) -> Result<Vec<TopRow>, String> {
    let ids = tokens.said(said).ok_or("a token of the teacher's is none of the student's")?;
    let labels: Vec<u32> = row.targets.iter().flatten().copied().collect();
    let last = row.targets.iter().rposition(Option::is_some).unwrap_or(0);
    let before = row.targets[..last].iter().rposition(Option::is_none).unwrap_or(0);
    // Labels of earlier answers.
    let earlier = row.targets[..before].iter().flatten().count();
    let begin = labels[earlier..].windows(ids.len()).position(|window| window == ids);
    let begin = earlier + begin.ok_or("the student cuts the answer into other tokens")?;
    let mut rows = said_alone(row).map_err(|error| error.to_string())?;
    for ((out, id), said) in rows[begin..].iter_mut().zip(ids).zip(said) {
        *out = tokens.top_row(id, said).map_err(|error| error.to_string())?;
    }
    Ok(rows)
}
