//! BANKING77: short texts with one label each.

use std::path::Path;

use serde::Deserialize;

use super::bytes::read_text;
use super::error::EvalDataError;
use super::records::records;

/// A text and its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabeledText {
    /// `idx` where the file has it, else the record's number, counting from 0.
    pub id: String,
    /// The text.
    pub text: String,
    /// Its label (`card_arrival`).
    pub label: String,
    /// Line of the file, counting from 1.
    line: usize,
}

/// Reads the official CSV (with the header `text,category`) or JSON lines with these fields.
///
/// # Errors
/// [`EvalDataError`], naming line and field.
pub fn read_labeled_texts(path: &Path) -> Result<Vec<LabeledText>, EvalDataError> {
    let text = read_text(path)?;
    if text.trim().is_empty() {
        return Err(EvalDataError::Empty { path: path.to_owned() });
    }
    let rows = if text.trim_start().starts_with(['{', '[']) {
        let records = records(path, &text)?.into_iter();
        records
            .map(|record| Ok((record.line, record.parse::<Row>(path)?)))
            .collect::<Result<Vec<_>, EvalDataError>>()?
    } else {
        csv_rows(path, &text)?
    };
    if rows.is_empty() {
        return Err(EvalDataError::Empty { path: path.to_owned() });
    }
    let labeled = |(number, (line, row)): (usize, (usize, Row))| LabeledText {
        id: row.idx.unwrap_or(number as u64).to_string(),
        text: row.text,
        label: row.category,
        line,
    };
    Ok(rows.into_iter().enumerate().map(labeled).collect())
}

/// Reads a JSON array of labels.
///
/// # Errors
/// [`EvalDataError`], naming line and field; [`EvalDataError::DuplicateId`] for a label that is there
/// twice.
pub fn read_labels(path: &Path) -> Result<Vec<String>, EvalDataError> {
    let text = read_text(path)?;
    let mut labels: Vec<String> = Vec::new();
    for (number, record) in records(path, &text)?.into_iter().enumerate() {
        let line = record.line;
        let label = match record.value {
            serde_json::Value::String(label) if !label.is_empty() => label,
            _ => {
                return Err(EvalDataError::malformed(
                    path,
                    line,
                    format!("[{number}]"),
                    "not a label",
                ));
            }
        };
        if labels.contains(&label) {
            return Err(EvalDataError::DuplicateId { path: path.to_owned(), id: label });
        }
        labels.push(label);
    }
    Ok(labels)
}

/// The labels of `texts`, each once, sorted.
pub fn labels_of<'a>(texts: impl IntoIterator<Item = &'a LabeledText>) -> Vec<String> {
    let labels: std::collections::BTreeSet<&str> =
        texts.into_iter().map(|text| text.label.as_str()).collect();
    labels.into_iter().map(String::from).collect()
}

impl LabeledText {
    /// Checks that all `texts`, read from `path`, have one of `labels`.
    ///
    /// # Errors
    /// [`EvalDataError::UnknownLabel`].
    pub fn check(texts: &[Self], path: &Path, labels: &[String]) -> Result<(), EvalDataError> {
        match texts.iter().find(|text| !labels.contains(&text.label)) {
            Some(text) => Err(EvalDataError::UnknownLabel {
                path: path.to_owned(),
                line: text.line,
                label: text.label.clone(),
                labels: labels.len(),
            }),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Row {
    text: String,
    category: String,
    #[serde(default)]
    idx: Option<u64>,
}

fn csv_rows(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, EvalDataError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let failed = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        EvalDataError::malformed(path, line, "", error)
    };
    let headers = reader.headers().map_err(failed)?;
    let column = |name: &str| {
        let found = headers.iter().position(|header| header == name);
        found.ok_or_else(|| EvalDataError::malformed(path, 1, name, "no such column"))
    };
    let (text_column, label_column) = (column("text")?, column("category")?);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let line = record.position().map_or(1, |position| position.line() as usize);
        let field = |column: usize| record.get(column).unwrap_or_default().to_owned();
        let (text, category) = (field(text_column), field(label_column));
        if category.is_empty() {
            return Err(EvalDataError::malformed(path, line, "category", "it is empty"));
        }
        rows.push((line, Row { text, category, idx: None }));
    }
    Ok(rows)
}
