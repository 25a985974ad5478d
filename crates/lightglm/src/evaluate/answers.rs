//! `Answers`: a model's answers to a question set.

use lightglm_core::CausalLm;
use lightglm_eval::data::Predictions;
use lightglm_eval::metrics::Metric;
use lightglm_eval::prompting::{
    AskError, Prompt, SpanTask, ask, is_solved, label_prompt, most_likely_labels, problem_prompt,
    spoken_label,
};
use lightglm_generation::batched::{BatchOptions, BatchSubject};
use lightglm_generation::{ContiguousKvCache, RunControl};
use lightglm_kernels::{LmBackend, LmGradients};

use super::prompt_text::{PromptStyle, Prompts};
use super::questions::{Kind, QuestionSet, ScoreOptions};
use super::watch::watched;
use crate::device::{DeviceJob, run_on};
use crate::error::Error;
use crate::model::Model;
use crate::progress::ProgressSink;

/// What is under way, for progress and interruptions.
const DOING: &str = "asking";

/// Longest answers, in tokens: a span of a text, and a solution.
const SPAN_TOKENS: usize = 48;
const SOLUTION_TOKENS: usize = 320;

/// How questions are asked.
#[derive(Clone, Debug)]
pub struct AskOptions {
    /// How they become prompts; by default by the model's chat template.
    pub prompt_style: PromptStyle,
    /// Longest answer, in tokens; if omitted 48 for spans and 320 for solutions.
    pub max_new_tokens: Option<usize>,
    /// Questions answered at once; by default 8. No answer depends on it.
    pub batch: usize,
    /// Told how many questions are answered. Breaking off keeps what was answered.
    pub progress: ProgressSink,
}

impl Default for AskOptions {
    fn default() -> Self {
        Self {
            prompt_style: PromptStyle::default(),
            max_new_tokens: None,
            batch: 8,
            progress: ProgressSink::default(),
        }
    }
}

/// A model's answers to a question set.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The answers by the ids of the questions.
    pub predictions: Predictions,
    /// BANKING77: the likeliest labels by the mean log-likelihood a byte, where `predictions` has them
    /// by the sum.
    pub normalized: Option<Predictions>,
    /// Questions that were to be asked; more than were answered where the run was broken off.
    pub asked: usize,
}

impl Answers {
    /// Whether the run was not broken off.
    pub fn is_complete(&self) -> bool {
        self.predictions.len() == self.asked
    }
}

impl Model {
    /// Answers `questions`, greedily and in batches.
    ///
    /// # Errors
    /// [`Error::Ask`] naming the prompt; [`Error::Option`] for a batch of none;
    /// [`Error::Interrupted`] where progress broke off before the first answer.
    pub fn answer(&self, questions: &QuestionSet, options: &AskOptions) -> Result<Answers, Error> {
        self.refuse_one_conversation("answer")?;
        if options.batch == 0 {
            let reason = "must be at least 1".to_owned();
            return Err(Error::Option { option: "batch", reason });
        }
        run_on(self.options().device, Ask { model: self, questions, options })?
    }

    /// Answers `questions` and scores the answers.
    ///
    /// # Errors
    /// As [`answer`](Self::answer) and [`QuestionSet::score_answers`].
    pub fn evaluate(
        &self,
        questions: &QuestionSet,
        options: &AskOptions,
        scoring: &ScoreOptions,
    ) -> Result<Vec<Metric>, Error> {
        questions.score_answers(&self.answer(questions, options)?, scoring)
    }
}

/// Asking, on the model's device.
struct Ask<'a> {
    model: &'a Model,
    questions: &'a QuestionSet,
    options: &'a AskOptions,
}

impl DeviceJob for Ask<'_> {
    type Output = Result<Answers, Error>;

    fn run<B: LmGradients>(self, _: B::Device) -> Self::Output {
        let Self { model, questions, options } = self;
        let (predictions, normalized) =
            watched(DOING, &options.progress, &[model], |control| self.ask::<B>(control))?;
        let asked = questions.len();
        if predictions.is_empty() && asked > 0 {
            return Err(Error::Interrupted { doing: DOING });
        }
        Ok(Answers { predictions, normalized, asked })
    }
}

impl Ask<'_> {
    fn ask<B: LmBackend>(
        &self,
        control: &mut RunControl<'_>,
    ) -> Result<(Predictions, Option<Predictions>), AskError> {
        let Self { model, questions, options } = self;
        let text = Prompts { style: options.prompt_style, text: model.text() };
        let end_tokens = &model.text().eos_token_ids;
        let batch = BatchOptions { sequences: options.batch, ..BatchOptions::default() };
        let mut make_cache = |sequences, positions| Ok(model.cache::<B>(sequences, positions));
        let decoder: &dyn CausalLm<B> = &*model.on::<B>().model;
        let mut subject = BatchSubject::new(decoder, &mut make_cache, ContiguousKvCache::truncate);
        let mut predictions = Predictions::new("the model's answers");
        let mut reply = |prompts: &[Prompt], longest, is_complete: &dyn Fn(&str) -> bool| {
            let end = (&end_tokens[..], options.max_new_tokens.unwrap_or(longest));
            ask(&mut subject, &text, prompts, end, is_complete, &batch, control)
        };
        match &questions.kind {
            Kind::Spans { task, questions, shots } => {
                let prompts: Vec<Prompt> =
                    questions.iter().map(|question| task.prompt(question, shots)).collect();
                let replies = reply(&prompts, SPAN_TOKENS, &SpanTask::is_answered)?;
                for (question, reply) in questions.iter().zip(replies) {
                    if let Some(reply) = reply {
                        predictions.insert(&question.id, task.answer(&reply));
                    }
                }
            }
            Kind::Problems { problems, shots } => {
                let prompts: Vec<Prompt> =
                    problems.iter().map(|problem| problem_prompt(problem, shots)).collect();
                let replies = reply(&prompts, SOLUTION_TOKENS, &is_solved)?;
                for (problem, reply) in problems.iter().zip(replies) {
                    if let Some(reply) = reply {
                        predictions.insert(&problem.id, reply);
                    }
                }
            }
            Kind::Labels { texts, labels, shots } => {
                let prompts: Vec<Prompt> =
                    texts.iter().map(|text| label_prompt(&text.text, shots)).collect();
                let spoken: Vec<String> = labels.iter().map(|label| spoken_label(label)).collect();
                let chosen =
                    most_likely_labels(&mut subject, &text, &prompts, &spoken, &batch, control)?;
                let mut normalized = Predictions::new("the model's answers");
                for (text, chosen) in texts.iter().zip(chosen) {
                    if let Some([by_sum, by_mean]) = chosen {
                        predictions.insert(&text.id, &labels[by_sum]);
                        normalized.insert(&text.id, &labels[by_mean]);
                    }
                }
                return Ok((predictions, Some(normalized)));
            }
        }
        Ok((predictions, None))
    }
}
