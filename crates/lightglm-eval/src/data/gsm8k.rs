//! GSM8K: word problems with worked solutions.

use std::path::Path;

use serde::Deserialize;

use super::bytes::read_text;
use super::error::EvalDataError;
use super::records::records;
use crate::metrics::final_answer;

/// A word problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `idx` where the file has it, else the record's number, counting from 0.
    pub id: String,
    /// What is asked.
    pub question: String,
    /// The worked solution, with calculator annotations (`<<48/2=24>>`), ending in `#### 72`.
    pub solution: String,
    /// The final answer, without commas.
    pub answer: String,
}

/// Reads JSON lines with `question` and `answer`, in the file's order.
///
/// # Errors
/// [`EvalDataError`], naming line and field: also where a solution has no final answer.
pub fn read_problems(path: &Path) -> Result<Vec<Problem>, EvalDataError> {
    let text = read_text(path)?;
    let mut problems = Vec::new();
    for (number, record) in records(path, &text)?.into_iter().enumerate() {
        let line = record.line;
        let Row { question, answer: solution, idx } = record.parse(path)?;
        let answer = final_answer(&solution).ok_or_else(|| {
            EvalDataError::malformed(path, line, "answer", "no final answer after `#### `")
        })?;
        let id = idx.unwrap_or(number as u64).to_string();
        problems.push(Problem { id, question, solution, answer });
    }
    Ok(problems)
}

#[derive(Deserialize)]
struct Row {
    question: String,
    answer: String,
    idx: Option<u64>,
}
