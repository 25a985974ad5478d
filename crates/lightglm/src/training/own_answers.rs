//! `OwnAnswers`: rows of a step with answers that the student gives itself.

use std::sync::atomic::AtomicBool;

use lightglm_core::{CausalLm, KvDtype, LmError};
use lightglm_generation::batched::{self, BatchOptions, BatchSubject, ReplyControl};
use lightglm_generation::{
    ContiguousKvCache, ForwardError, GenerationError, GenerationRequest, RunControl, SamplingParams,
};
use lightglm_model::config::GlmConfig;
use lightglm_text::{ChatText, ModelText};
use lightglm_train::trainer::TokenizedExample;

use super::distill::OnPolicy;
use super::seeds::mixed;
use crate::device::Cpu;
use crate::model::{CacheOptions, SEQUENCES};

/// Makes the rows of steps that learn from the student's own answers.
pub(super) struct OwnAnswers<'a> {
    config: OnPolicy,
    seed: u64,
    /// Tokens of a row at most.
    limit: usize,
    cache: CacheOptions,
    text: &'a ModelText,
}

impl<'a> OwnAnswers<'a> {
    /// Answers of a model of `model`, in rows of at most `limit` tokens.
    pub(super) fn new(
        config: OnPolicy,
        seed: u64,
        limit: usize,
        model: &GlmConfig,
        text: &'a ModelText,
    ) -> Self {
        let cache = CacheOptions::of(model, KvDtype::F32, None);
        Self { config, seed, limit, cache, text }
    }

    /// Whether step `step` learns from them: a function of the run's seed and the step.
    pub(super) fn are_due(&self, step: u64) -> bool {
        let drawn = (mixed(&[self.seed, step]) >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < self.config.fraction
    }

    /// The `planned` rows with answers of `student`; those without a question, or without room for an answer, as
    /// they are.
    pub(super) fn rows(
        &self,
        step: u64,
        student: &dyn CausalLm<Cpu>,
        planned: &[&TokenizedExample],
    ) -> Result<Vec<TokenizedExample>, LmError> {
        let mut rows: Vec<TokenizedExample> = planned.iter().map(|row| (*row).clone()).collect();
        let (mut asked, mut requests) = (Vec::new(), Vec::new());
        for (index, row) in planned.iter().enumerate() {
            let Some(prompt) = question(row) else { continue };
            let room = self.limit.saturating_sub(prompt.len()).min(self.config.max_tokens);
            if room == 0 {
                continue;
            }
            let params = SamplingParams {
                temperature: 1.0,
                max_tokens: room,
                seed: mixed(&[self.seed, step, index as u64 + 1]),
                ..SamplingParams::default()
            };
            let ends = self.text.eos_token_ids().to_vec();
            let detokenizer = self.text.detokenizer();
            asked.push(index);
            requests.push(GenerationRequest::new(prompt.to_vec(), params, ends, detokenizer));
        }
        if requests.is_empty() {
            return Ok(rows);
        }
        let mut make_cache = |sequences, positions| {
            Ok(self.cache.cache::<Cpu>(sequences, positions, &Default::default()))
        };
        let mut subject = BatchSubject::new(student, &mut make_cache, ContiguousKvCache::truncate);
        let options = BatchOptions { sequences: SEQUENCES, ..BatchOptions::default() };
        let stop = AtomicBool::new(false);
        let mut control = RunControl { stop: Some(&stop), ..RunControl::default() };
        let mut replies = ReplyControl { stop_at_error: true, ..ReplyControl::default() };
        let answers =
            batched::generate(&mut subject, requests, &options, &mut replies, &mut control);
        let answers = answers.map_err(|error| refused(&error))?;
        for (index, answer) in asked.into_iter().zip(answers) {
            let answer = answer.map_err(as_lm_error)?;
            let prompt = question(planned[index]).unwrap_or_default();
            let tokens = [prompt, &answer.tokens].concat();
            let learn: Vec<bool> = (0..tokens.len()).map(|at| at >= prompt.len()).collect();
            rows[index] = TokenizedExample::new(tokens, &learn, planned[index].line);
        }
        Ok(rows)
    }
}

/// What stands in front of the last run of tokens that are learnt; `None` where none is.
fn question(row: &TokenizedExample) -> Option<&[u32]> {
    let last = row.targets.iter().rposition(Option::is_some)?;
    let before = row.targets[..last].iter().rposition(Option::is_none);
    // The first target stands beside the last token of the question.
    Some(&row.tokens[..=before.map_or(0, |before| before + 1)])
}

fn as_lm_error(error: GenerationError) -> LmError {
    match error {
        GenerationError::Forward(ForwardError::Model(error)) => error,
        error => refused(&error),
    }
}

fn refused(error: &dyn std::fmt::Display) -> LmError {
    LmError::Objective { reason: format!("the student's own answers: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_in_front_of_the_last_answer() {
        let row = |learn: &[u8]| {
            let learn: Vec<bool> = learn.iter().map(|learn| *learn == 1).collect();
            TokenizedExample::new((0..learn.len() as u32).collect(), &learn, 1)
        };
        assert_eq!(question(&row(&[0, 0, 1, 1])), Some(&[0, 1][..]));
        assert_eq!(question(&row(&[0, 1, 0, 0, 1, 1, 0])), Some(&[0, 1, 2, 3][..]));
        assert_eq!(question(&row(&[1, 1, 1])), Some(&[0][..]));
        assert_eq!(question(&row(&[0, 0])), None);
    }
}
