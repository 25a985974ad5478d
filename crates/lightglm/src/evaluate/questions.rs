//! `QuestionSet`: what is asked, and how answers are scored.

use std::path::{Path, PathBuf};

use lightglm_eval::data::{
    LabeledText, Predictions, Problem, Question, labels_of, read_labeled_texts, read_labels,
    read_na_probs, read_problems, read_questions,
};
use lightglm_eval::metrics::{
    Estimates, Metric, Missing, NoAnswer, accuracy, cmrc2018, gsm8k, squad2,
};
use lightglm_eval::prompting::{SpanTask, choose, in_random_order};

use super::answers::Answers;
use crate::error::Error;

/// A question set with its official metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// SQuAD 2.0: English; spans of a text, or that there is no answer.
    Squad2,
    /// CMRC 2018: Chinese; spans of a text.
    Cmrc2018,
    /// GSM8K: word problems in grade-school mathematics.
    Gsm8k,
    /// BANKING77: intents of messages to a bank; the likeliest label counts.
    Banking77,
}

/// Which questions are asked, and what is shown before them.
#[derive(Clone, Debug, Default)]
pub struct QuestionOptions {
    /// Only the first so many; all if omitted.
    pub limit: Option<usize>,
    /// Whether they are taken in the random order that [`seed`](Self::seed) decides.
    pub shuffle: bool,
    /// Decides the order and the shots.
    pub seed: u64,
    /// Solved examples in front of every question.
    pub shots: usize,
    /// Where the examples come from: a training file of the task's format.
    pub shots_from: Option<PathBuf>,
    /// BANKING77: a JSON array of all labels; those of the data and of the examples if omitted.
    pub labels: Option<PathBuf>,
}

/// How answers are scored.
#[derive(Clone, Debug, Default)]
pub struct ScoreOptions {
    /// How intervals are estimated.
    pub estimates: Estimates,
    /// SQuAD 2.0: how likely each question is to have no answer.
    pub no_answer: Option<NoAnswer>,
    /// What becomes of questions that have no answer; of interest for predictions from elsewhere.
    pub missing: Missing,
}

/// How likely each question is to have no answer, from a JSON object `{id: probability}`; above
/// `threshold` it counts as unanswered.
///
/// # Errors
/// [`Error::Data`].
pub fn read_no_answer(file: &Path, threshold: f64) -> Result<NoAnswer, Error> {
    Ok(NoAnswer::new(file.display().to_string(), read_na_probs(file)?, threshold))
}

/// The questions to ask and the solved examples to show.
#[derive(Clone, Debug)]
pub struct QuestionSet {
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Spans { task: SpanTask, questions: Vec<Question>, shots: Vec<Question> },
    Problems { problems: Vec<Problem>, shots: Vec<Problem> },
    Labels { texts: Vec<LabeledText>, labels: Vec<String>, shots: Vec<LabeledText> },
}

impl QuestionSet {
    /// Reads the questions of `task` from `data`, a file as it is distributed, plain, gzipped or zstd.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file and the line; [`Error::TooFewShots`].
    pub fn read(task: Task, data: &Path, options: &QuestionOptions) -> Result<Self, Error> {
        let QuestionOptions { shots: count, seed, .. } = *options;
        let spans = |task| -> Result<Kind, Error> {
            let (questions, shots) = read_both(data, options, read_questions)?;
            let questions = select(options, questions);
            Ok(Kind::Spans { task, questions, shots: choose(&shots, count, seed) })
        };
        let kind = match task {
            Task::Squad2 => spans(SpanTask::Squad2)?,
            Task::Cmrc2018 => spans(SpanTask::Cmrc2018)?,
            Task::Gsm8k => {
                let (problems, shots) = read_both(data, options, read_problems)?;
                let shots = choose(&shots, count, seed);
                Kind::Problems { problems: select(options, problems), shots }
            }
            Task::Banking77 => {
                let (texts, shots) = read_both(data, options, read_labeled_texts)?;
                let labels = match &options.labels {
                    Some(file) => read_labels(file)?,
                    None => labels_of(texts.iter().chain(&shots)),
                };
                LabeledText::check(&texts, data, &labels)?;
                if let Some(file) = &options.shots_from {
                    LabeledText::check(&shots, file, &labels)?;
                }
                let shots = choose(&shots, count, seed);
                Kind::Labels { texts: select(options, texts), labels, shots }
            }
        };
        Ok(Self { kind })
    }

    /// How many questions.
    pub fn len(&self) -> usize {
        match &self.kind {
            Kind::Spans { questions, .. } => questions.len(),
            Kind::Problems { problems, .. } => problems.len(),
            Kind::Labels { texts, .. } => texts.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Scores predictions, a model's or anybody's.
    ///
    /// # Errors
    /// [`Error::Score`].
    pub fn score(
        &self,
        predictions: &Predictions,
        options: &ScoreOptions,
    ) -> Result<Vec<Metric>, Error> {
        let ScoreOptions { estimates, no_answer, missing } = options;
        Ok(match &self.kind {
            Kind::Spans { task: SpanTask::Squad2, questions, .. } => {
                squad2(questions, predictions, no_answer.as_ref(), *missing, estimates)?
            }
            Kind::Spans { questions, .. } => cmrc2018(questions, predictions, *missing, estimates)?,
            Kind::Problems { problems, .. } => gsm8k(problems, predictions, *missing, estimates)?,
            Kind::Labels { texts, labels, .. } => {
                accuracy(texts, labels, predictions, *missing, estimates)?
            }
        })
    }

    /// Scores a model's answers: over the questions that were answered, where it was interrupted.
    ///
    /// # Errors
    /// [`Error::Score`].
    pub fn score_answers(
        &self,
        answers: &Answers,
        options: &ScoreOptions,
    ) -> Result<Vec<Metric>, Error> {
        let answered = self.answered(&answers.predictions);
        let mut metrics = answered.score(&answers.predictions, options)?;
        if let Some(normalized) = &answers.normalized {
            let mut norm = answered.score(normalized, options)?.remove(0);
            norm.name = "accuracy_norm".to_owned();
            metrics.insert(1, norm);
        }
        Ok(metrics)
    }

    /// The questions that `predictions` has an answer to.
    fn answered(&self, predictions: &Predictions) -> Self {
        let mut answered = self.clone();
        let is_answered = |id: &str| predictions.get(id).is_some();
        match &mut answered.kind {
            Kind::Spans { questions, .. } => questions.retain(|question| is_answered(&question.id)),
            Kind::Problems { problems, .. } => problems.retain(|problem| is_answered(&problem.id)),
            Kind::Labels { texts, .. } => texts.retain(|text| is_answered(&text.id)),
        }
        answered
    }
}

/// Reads the questions and, where examples are wanted, those.
fn read_both<T, E>(
    data: &Path,
    options: &QuestionOptions,
    read: impl Fn(&Path) -> Result<Vec<T>, E>,
) -> Result<(Vec<T>, Vec<T>), Error>
where
    Error: From<E>,
{
    let shots = match &options.shots_from {
        Some(file) => read(file)?,
        None => Vec::new(),
    };
    if shots.len() < options.shots {
        let file = options.shots_from.clone().unwrap_or_default();
        return Err(Error::TooFewShots { file, found: shots.len(), wanted: options.shots });
    }
    Ok((read(data)?, shots))
}

/// Applies `shuffle` and `limit`.
fn select<T: Clone>(options: &QuestionOptions, mut items: Vec<T>) -> Vec<T> {
    if options.shuffle {
        items = in_random_order(&items, options.seed);
    }
    items.truncate(options.limit.unwrap_or(usize::MAX));
    items
}
