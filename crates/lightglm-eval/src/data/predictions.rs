//! `Predictions`: what a system answered, by question id.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::bytes::read_text;
use super::error::EvalDataError;
use crate::metrics::{Missing, ScoreError};

/// Answers by question id, in the order they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    origin: String,
    answers: Vec<(String, String)>,
    by_id: HashMap<String, usize>,
}

impl Predictions {
    /// No predictions; `origin` is what errors call them.
    pub fn new(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), ..Self::default() }
    }

    /// Reads a JSON object `{id: answer}`, the official scorers' format.
    ///
    /// # Errors
    /// [`EvalDataError`], naming the id of an answer that is not a text.
    pub fn read(path: &Path) -> Result<Self, EvalDataError> {
        let mut predictions = Self::new(path.display().to_string());
        for (id, value) in read_object(path)? {
            let Value::String(answer) = value else {
                return Err(EvalDataError::malformed(path, 1, id, "the prediction is not a text"));
            };
            predictions.insert(id, answer);
        }
        Ok(predictions)
    }

    /// Adds an answer, or replaces the one that is there.
    pub fn insert(&mut self, id: impl Into<String>, answer: impl Into<String>) {
        let (id, answer) = (id.into(), answer.into());
        match self.by_id.get(&id) {
            Some(&index) => self.answers[index].1 = answer,
            None => {
                self.by_id.insert(id.clone(), self.answers.len());
                self.answers.push((id, answer));
            }
        }
    }

    /// The answer to question `id`.
    pub fn get(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(|&index| self.answers[index].1.as_str())
    }

    /// Where they came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The official scorers' format.
    pub fn to_json(&self) -> Value {
        let answer = |(id, answer): &(String, String)| (id.clone(), Value::from(answer.as_str()));
        Value::Object(self.answers.iter().map(answer).collect())
    }

    /// The answers to `ids` in order, `None` where there is none.
    ///
    /// # Errors
    /// [`ScoreError::MissingPredictions`] for [`Missing::Refuse`].
    pub(crate) fn answered<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
        missing: Missing,
    ) -> Result<Vec<Option<&str>>, ScoreError> {
        let mut absent = Vec::new();
        let mut answers = Vec::new();
        for id in ids {
            let answer = self.get(id);
            if answer.is_none() {
                absent.push(id);
            }
            answers.push(answer);
        }
        match absent.first() {
            Some(first) if missing == Missing::Refuse => Err(ScoreError::MissingPredictions {
                origin: self.origin.clone(),
                missing: absent.len(),
                total: answers.len(),
                first: (*first).to_owned(),
            }),
            _ => Ok(answers),
        }
    }
}

/// Reads a JSON object `{id: probability}`, in the file's order.
///
/// # Errors
/// [`EvalDataError`], naming the id of a value that is not a number.
pub fn read_na_probs(path: &Path) -> Result<Vec<(String, f64)>, EvalDataError> {
    let number = |(id, value): (String, Value)| match value.as_f64() {
        Some(number) => Ok((id, number)),
        None => Err(EvalDataError::malformed(path, 1, id, "the probability is not a number")),
    };
    read_object(path)?.into_iter().map(number).collect()
}

fn read_object(path: &Path) -> Result<Map<String, Value>, EvalDataError> {
    let text = read_text(path)?;
    if text.trim().is_empty() {
        return Err(EvalDataError::Empty { path: path.to_owned() });
    }
    serde_json::from_str(&text)
        .map_err(|error| EvalDataError::malformed(path, error.line().max(1), "", error))
}
