//! SQuAD 1.1 and 2.0, CMRC 2018: questions about a text, answered by a span of it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::bytes::read_text;
use super::error::EvalDataError;
use super::records::records;

/// A question about a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its id, without white space around it.
    pub id: String,
    /// Title of the article; empty where there is none.
    pub title: Arc<str>,
    /// The text.
    pub context: Arc<str>,
    /// What is asked.
    pub question: String,
    /// The gold answers; none where the text does not answer the question.
    pub answers: Vec<String>,
}

impl Question {
    /// Whether there is a gold answer.
    pub fn is_answerable(&self) -> bool {
        !self.answers.is_empty()
    }
}

/// Reads SQuAD's JSON document (`data[].paragraphs[].qas[]`), JSON lines of paragraphs (`context`,
/// `qas`), or CMRC 2018's first layout (`context_text`, `qas[].query_text`, plain answers), in the
/// file's order.
///
/// # Errors
/// [`EvalDataError`], naming line and field; [`EvalDataError::Empty`] where there is no question.
pub fn read_questions(path: &Path) -> Result<Vec<Question>, EvalDataError> {
    let text = read_text(path)?;
    let mut questions = Vec::new();
    for record in records(path, &text)? {
        if record.has("data") {
            for article in record.parse::<Document>(path)?.data {
                for paragraph in article.paragraphs {
                    paragraph.questions(article.title.as_deref(), &mut questions);
                }
            }
        } else if record.has("context_text") {
            record.parse::<FirstLayout>(path)?.questions(&mut questions);
        } else {
            record.parse::<Paragraph>(path)?.questions(None, &mut questions);
        }
    }
    if questions.is_empty() {
        return Err(EvalDataError::Empty { path: path.to_owned() });
    }
    let mut seen = HashSet::new();
    match questions.iter().find(|question| !seen.insert(question.id.as_str())) {
        Some(twice) => {
            Err(EvalDataError::DuplicateId { path: path.to_owned(), id: twice.id.clone() })
        }
        None => Ok(questions),
    }
}

#[derive(Deserialize)]
struct Document {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    title: Option<String>,
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    title: Option<String>,
    context: String,
    qas: Vec<Qa>,
}

#[derive(Deserialize)]
struct Qa {
    id: String,
    question: String,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

impl Paragraph {
    fn questions(self, title: Option<&str>, questions: &mut Vec<Question>) {
        let title: Arc<str> = self.title.as_deref().or(title).unwrap_or_default().into();
        let context: Arc<str> = self.context.into();
        questions.extend(self.qas.into_iter().map(|qa| Question {
            id: qa.id.trim().to_owned(),
            title: title.clone(),
            context: context.clone(),
            question: qa.question,
            answers: qa.answers.into_iter().map(|answer| answer.text).collect(),
        }));
    }
}

/// A paragraph as CMRC 2018 first published them.
#[derive(Deserialize)]
struct FirstLayout {
    title: Option<String>,
    context_text: String,
    qas: Vec<Query>,
}

#[derive(Deserialize)]
struct Query {
    query_id: String,
    query_text: String,
    answers: Vec<String>,
}

impl FirstLayout {
    fn questions(self, questions: &mut Vec<Question>) {
        let title: Arc<str> = self.title.unwrap_or_default().into();
        let context: Arc<str> = self.context_text.into();
        questions.extend(self.qas.into_iter().map(|query| Question {
            id: query.query_id.trim().to_owned(),
            title: title.clone(),
            context: context.clone(),
            question: query.query_text,
            answers: query.answers,
        }));
    }
}
