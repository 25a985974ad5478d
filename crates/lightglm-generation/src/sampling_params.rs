//! `SamplingParams`: how the next token is chosen, and when to stop.

use serde::{Deserialize, Serialize};

/// How tokens are chosen and when a generation ends; the names and meanings are vLLM's.
///
/// The order in which the parameters act is the [`Sampler`](crate::Sampler)'s.
///
/// Source: vLLM, `vllm/sampling_params.py`; Hugging Face transformers,
/// `generation/configuration_utils.py`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    /// Divides the logits; 0 chooses the most likely token (greedy), the lowest id among equals.
    pub temperature: f32,
    /// Keeps the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens whose probabilities sum to `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least `min_p` times as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Over 1: makes tokens of prompt and output less likely (divides positive logits, multiplies
    /// negative ones); 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit once per time it stands in the output.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit where it stands in the output at all.
    pub presence_penalty: f32,
    /// What it costs a token to continue `dry_allowed_length` tokens that stood in the output before; 0 is off. See
    /// [`Dry`](crate::Dry).
    pub dry_multiplier: f32,
    /// By how much more each further token of such a run costs, at least 1.
    pub dry_base: f32,
    /// Tokens of a run that is repeated for nothing, and one more, at least 1.
    pub dry_allowed_length: usize,
    /// Ends the generation where its last tokens are the same run, three times over or more, so many tokens in all
    /// at least; 0 is off. Runs of more than 128 tokens are not found.
    pub loop_tokens: usize,
    /// Added to tokens' logits; minus infinity bans a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seeds this request's random numbers: the same seed gives the same tokens.
    pub seed: u64,
    /// Ends the generation after this many tokens.
    pub max_tokens: usize,
    /// Bans end-of-sequence and stop tokens, and ignores stop strings, for this many tokens.
    pub min_tokens: usize,
    /// Strings that end the generation; they are not part of the text.
    pub stop: Vec<String>,
    /// Tokens that end the generation; they are not part of the text.
    pub stop_token_ids: Vec<u32>,
    /// Goes on after the model's end-of-sequence tokens.
    pub ignore_eos: bool,
    /// `Some(n)` reports the log-probability of each chosen token and of the `n` most likely ones.
    pub logprobs: Option<usize>,
}

impl Default for SamplingParams {
    /// vLLM's defaults, but greedy, and 512 tokens instead of 16.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            loop_tokens: 0,
            logit_bias: Vec::new(),
            seed: 0,
            max_tokens: 512,
            min_tokens: 0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            logprobs: None,
        }
    }
}

impl SamplingParams {
    /// Checks every field's range.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] names the first field that is wrong; [`SamplingError::EmptyStop`]
    /// for an empty stop string.
    pub fn validate(&self) -> Result<(), SamplingError> {
        // `contains` is false for NaN, so NaN is out of every range.
        let check = |field, value: f32, good: bool, range| {
            let out = SamplingError::OutOfRange { field, value: f64::from(value), range };
            if good { Ok(()) } else { Err(out) }
        };
        let t = self.temperature;
        check("temperature", t, (0.0..=f32::MAX).contains(&t), "0 or more, finite")?;
        let top_p = self.top_p;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "over 0, up to 1")?;
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 to 1")?;
        let penalty = self.repetition_penalty;
        let good = penalty > 0.0 && penalty.is_finite();
        check("repetition_penalty", penalty, good, "over 0, finite")?;
        let penalties = [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ];
        for (field, penalty) in penalties {
            check(field, penalty, (-2.0..=2.0).contains(&penalty), "-2 to 2")?;
        }
        let (multiplier, base) = (self.dry_multiplier, self.dry_base);
        check("dry_multiplier", multiplier, (0.0..=100.0).contains(&multiplier), "0 to 100")?;
        check("dry_base", base, (1.0..=10.0).contains(&base), "1 to 10")?;
        let allowed = self.dry_allowed_length;
        check("dry_allowed_length", allowed as f32, allowed > 0, "1 or more")?;
        for &(_, bias) in &self.logit_bias {
            let good = bias < f32::INFINITY;
            check("logit_bias", bias, good, "finite, or minus infinity")?;
        }
        check("max_tokens", 0.0, self.max_tokens > 0, "1 or more")?;
        let (min, max) = (self.min_tokens, self.max_tokens);
        check("min_tokens", min as f32, min <= max, "0 to max_tokens")?;
        if self.stop.iter().any(String::is_empty) {
            return Err(SamplingError::EmptyStop);
        }
        Ok(())
    }

    /// [`SamplingParams::validate`], and that every named token is below `vocab_size`.
    ///
    /// # Errors
    /// As `validate`; [`SamplingError::TokenOutOfRange`].
    pub fn validate_for(&self, vocab_size: usize) -> Result<(), SamplingError> {
        self.validate()?;
        let biased = self.logit_bias.iter().map(|&(token, _)| ("logit_bias", token));
        let stops = self.stop_token_ids.iter().map(|&token| ("stop_token_ids", token));
        match biased.chain(stops).find(|&(_, token)| token as usize >= vocab_size) {
            Some((field, token)) => {
                Err(SamplingError::TokenOutOfRange { field, token, vocab_size })
            }
            None => Ok(()),
        }
    }
}

/// What is wrong with [`SamplingParams`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A number is outside of its range, or not a number.
    #[error("{field} is {value}, it must be {range}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The values it may have, in words.
        range: &'static str,
    },
    /// A token id is not in the vocabulary.
    #[error("{field} names token {token}, the vocabulary has {vocab_size}")]
    TokenOutOfRange {
        /// The field's name.
        field: &'static str,
        /// The id.
        token: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// A stop string is empty: it would end every generation at once.
    #[error("stop holds an empty string")]
    EmptyStop,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(change: impl FnOnce(&mut SamplingParams)) -> Option<&'static str> {
        let mut params = SamplingParams::default();
        change(&mut params);
        match params.validate() {
            Ok(()) => None,
            Err(SamplingError::OutOfRange { field, .. }) => Some(field),
            Err(SamplingError::EmptyStop) => Some("stop"),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_field_is_checked_by_name() {
        let nan = f32::NAN;
        assert_eq!(field_of(|_| ()), None);
        for bad in [nan, -0.1, f32::INFINITY] {
            assert_eq!(field_of(|p| p.temperature = bad), Some("temperature"));
        }
        for bad in [nan, 0.0, -1.0, 1.01] {
            assert_eq!(field_of(|p| p.top_p = bad), Some("top_p"));
        }
        for bad in [nan, -0.1, 1.1] {
            assert_eq!(field_of(|p| p.min_p = bad), Some("min_p"));
        }
        for bad in [nan, 0.0, -1.0, f32::INFINITY] {
            assert_eq!(field_of(|p| p.repetition_penalty = bad), Some("repetition_penalty"));
        }
        for bad in [nan, -2.1, 2.1] {
            assert_eq!(field_of(|p| p.frequency_penalty = bad), Some("frequency_penalty"));
            assert_eq!(field_of(|p| p.presence_penalty = bad), Some("presence_penalty"));
        }
        for bad in [nan, f32::INFINITY] {
            assert_eq!(field_of(|p| p.logit_bias = vec![(0, bad)]), Some("logit_bias"));
        }
        assert_eq!(field_of(|p| p.logit_bias = vec![(0, f32::NEG_INFINITY)]), None);
        assert_eq!(field_of(|p| p.max_tokens = 0), Some("max_tokens"));
        assert_eq!(field_of(|p| p.min_tokens = 513), Some("min_tokens"));
        assert_eq!(field_of(|p| p.stop = vec!["a".into(), String::new()]), Some("stop"));
    }

    #[test]
    fn named_tokens_must_exist() {
        let params = SamplingParams { stop_token_ids: vec![3, 10], ..Default::default() };
        assert_eq!(params.validate_for(11), Ok(()));
        let expected =
            SamplingError::TokenOutOfRange { field: "stop_token_ids", token: 10, vocab_size: 10 };
        assert_eq!(params.validate_for(10), Err(expected));
    }
}
