//! `SamplingArgs`: the options that say how an answer is sampled.

use anyhow::Result;
use lightglm::SamplingParams;

/// How an answer is sampled.
#[derive(Debug, clap::Args)]
pub struct SamplingArgs {
    /// Longest answer, in tokens.
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    /// Always the most likely token.
    #[arg(long, conflicts_with_all = ["temperature", "top_p", "top_k", "min_p"])]
    greedy: bool,
    /// Sampling temperature; the checkpoint's own, or 0.2, if omitted.
    #[arg(long, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Keep the most likely tokens that together have this probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Keep this many of the most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Keep tokens at least this much as likely as the most likely one.
    #[arg(long)]
    min_p: Option<f32>,
    /// Above 1: repeat less.
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// The same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End the answer before this text (may be given several times).
    #[arg(long)]
    stop: Vec<String>,
}

impl SamplingArgs {
    /// The checkpoint's own sampling, with what the options say instead.
    ///
    /// # Errors
    /// Where a value is out of its range.
    pub fn params(&self, own: &SamplingParams) -> Result<SamplingParams> {
        let greedy = self.greedy.then_some(0.0);
        let params = SamplingParams {
            temperature: greedy.or(self.temperature).unwrap_or(own.temperature),
            top_p: self.top_p.unwrap_or(own.top_p),
            top_k: self.top_k.unwrap_or(own.top_k),
            min_p: self.min_p.unwrap_or(own.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(own.repetition_penalty),
            seed: self.seed,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            ..own.clone()
        };
        params.validate()?;
        Ok(params)
    }
}
