//! `Sampler`: chooses a token from logits.

use lightglm_core::max_of;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::dry::Dry;
use crate::exp_sum::{BLOCK, exp_in_place};
use crate::logits_processor::{LogitsProcessor, TokenHistory};
use crate::logprobs::{TokenLogprob, log_sum_exp, top_logprobs_with};
use crate::penalties::{Ban, Bias, Penalties};
use crate::sample_error::SampleError;
use crate::sampling_params::{SamplingError, SamplingParams};
use crate::truncation::{MinP, Temperature, TopK, TopP};

/// Below this temperature the choice is greedy: division would only overflow.
///
/// Source: vLLM, `v1/sample/sampler.py`, `_SAMPLING_EPS`.
const GREEDY_BELOW: f32 = 1e-5;

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// `ln p(token)` under the model, where asked for.
    pub logprob: Option<f32>,
    /// The most likely tokens under the model, as many as asked for.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// One request's way to choose tokens, and its random numbers.
///
/// The order is vLLM's: log-probabilities are taken from the raw logits; then bias, `min_tokens`,
/// repetition, frequency and presence penalty, DRY; then, unless greedy, temperature, min-p, top-k, top-p;
/// then the draw. (Hugging Face transformers puts the bias after the repetition penalty and min-p
/// after top-p.)
///
/// Source: vLLM, `v1/sample/sampler.py`.
pub struct Sampler {
    processors: Vec<Box<dyn LogitsProcessor>>,
    /// Empty where the choice is greedy.
    warpers: Vec<Box<dyn LogitsProcessor>>,
    greedy: bool,
    random: ChaCha8Rng,
    logprobs: Option<usize>,
    raw: Vec<f32>,
}

impl Sampler {
    /// The sampler of a request to a model of `vocab_size` tokens.
    ///
    /// # Errors
    /// [`SamplingError`] where the parameters are out of range or name unknown tokens.
    pub fn new(
        params: &SamplingParams,
        eos_token_ids: &[u32],
        vocab_size: usize,
    ) -> Result<Self, SamplingError> {
        params.validate_for(vocab_size)?;
        let greedy = params.temperature < GREEDY_BELOW;
        Ok(Self {
            processors: processors(params, eos_token_ids),
            warpers: if greedy { Vec::new() } else { warpers(params) },
            greedy,
            random: ChaCha8Rng::seed_from_u64(params.seed),
            logprobs: params.logprobs,
            raw: Vec::new(),
        })
    }

    /// Adds a processor that acts after the penalties and before the temperature.
    pub fn push_processor(&mut self, processor: Box<dyn LogitsProcessor>) {
        self.processors.push(processor);
    }

    /// Chooses the token that follows `history`; `logits: [V]` is used up as scratch space.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn sample(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<Sampled, SampleError> {
        refuse_bad_logits(logits)?;
        // The model's own distribution is kept apart: processors edit the logits in place.
        let model = self.logprobs.map(|n| {
            self.raw.clear();
            self.raw.extend_from_slice(logits);
            let normalizer = log_sum_exp(logits);
            (normalizer, top_logprobs_with(logits, n, normalizer))
        });
        for processor in self.processors.iter_mut().chain(&mut self.warpers) {
            processor.process(history, logits)?;
        }
        refuse_bad_logits(logits)?;
        let max = max_of(logits);
        if max == f32::NEG_INFINITY {
            return Err(SampleError::NothingToSample);
        }
        let token = if self.greedy {
            logits.iter().position(|&logit| logit == max).unwrap_or_default()
        } else {
            draw(&mut self.random, logits, max)
        } as u32;
        let Some((normalizer, top_logprobs)) = model else {
            return Ok(Sampled { token, logprob: None, top_logprobs: Vec::new() });
        };
        let logprob = (f64::from(self.raw[token as usize]) - normalizer) as f32;
        Ok(Sampled { token, logprob: Some(logprob), top_logprobs })
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler")
            .field("processors", &(self.processors.len() + self.warpers.len()))
            .field("greedy", &self.greedy)
            .field("logprobs", &self.logprobs)
            .finish_non_exhaustive()
    }
}

fn processors(params: &SamplingParams, eos_token_ids: &[u32]) -> Vec<Box<dyn LogitsProcessor>> {
    let mut list: Vec<Box<dyn LogitsProcessor>> = Vec::new();
    if !params.logit_bias.is_empty() {
        list.push(Box::new(Bias(params.logit_bias.clone())));
    }
    if params.min_tokens > 0 {
        let eos = if params.ignore_eos { &[] } else { eos_token_ids };
        let tokens = [eos, &params.stop_token_ids].concat();
        list.push(Box::new(Ban { tokens, until: params.min_tokens }));
    }
    let (repetition, frequency) = (params.repetition_penalty, params.frequency_penalty);
    if (repetition, frequency, params.presence_penalty) != (1.0, 0.0, 0.0) {
        list.push(Box::new(Penalties::new(repetition, frequency, params.presence_penalty)));
    }
    if params.dry_multiplier > 0.0 {
        let (multiplier, base) = (params.dry_multiplier, params.dry_base);
        list.push(Box::new(Dry::new(multiplier, base, params.dry_allowed_length)));
    }
    list
}

fn warpers(params: &SamplingParams) -> Vec<Box<dyn LogitsProcessor>> {
    let mut list: Vec<Box<dyn LogitsProcessor>> = Vec::new();
    if params.temperature != 1.0 {
        list.push(Box::new(Temperature(params.temperature)));
    }
    if params.min_p > 0.0 {
        list.push(Box::new(MinP(params.min_p)));
    }
    if params.top_k > 0 {
        list.push(Box::new(TopK(params.top_k)));
    }
    if params.top_p < 1.0 {
        list.push(Box::new(TopP(params.top_p)));
    }
    list
}

/// Refuses NaN and plus infinity: every choice among them would be arbitrary.
fn refuse_bad_logits(logits: &[f32]) -> Result<(), SampleError> {
    // One vectorized pass first; the position is only searched for where there is one.
    if logits.iter().fold(true, |good, &logit| good & (logit < f32::INFINITY)) {
        return Ok(());
    }
    let bad = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY);
    match bad {
        Some(token) => Err(SampleError::BadLogit { token, logit: logits[token] }),
        None => Ok(()),
    }
}

/// Draws an index with probability `softmax(logits)`; one random number a call.
fn draw(random: &mut ChaCha8Rng, logits: &mut [f32], max: f32) -> usize {
    let sums = exp_in_place(logits, max);
    let total: f64 = sums.iter().sum();
    // 53 random bits: every f64 in 0..1 that is a multiple of 2^-53 is equally likely.
    let unit = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut target = unit * total;
    let mut last = 0;
    for (block, &sum) in sums.iter().enumerate() {
        if sum == 0.0 {
            continue;
        }
        let first = block * BLOCK;
        let weights = &logits[first..logits.len().min(first + BLOCK)];
        last = first + weights.iter().rposition(|&weight| weight > 0.0).unwrap_or_default();
        if target >= sum {
            target -= sum;
            continue;
        }
        for (index, &weight) in weights.iter().enumerate() {
            target -= f64::from(weight);
            if target < 0.0 {
                return first + index;
            }
        }
        // Rounding let the sum of the block exceed the sum of its weights.
        return last;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: TokenHistory<'static> = TokenHistory { prompt: &[], generated: &[] };

    fn sampler(params: SamplingParams, vocab_size: usize) -> Sampler {
        Sampler::new(&params, &[], vocab_size).unwrap()
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals() {
        for temperature in [0.0, 1e-6] {
            let mut greedy = sampler(SamplingParams { temperature, ..Default::default() }, 4);
            let chosen = greedy.sample(NONE, &mut [1.0, 3.0, 3.0, 2.0]).unwrap();
            assert_eq!(chosen, Sampled { token: 1, logprob: None, top_logprobs: vec![] });
        }
    }

    #[test]
    fn bad_logits_are_errors() {
        let mut greedy = sampler(SamplingParams::default(), 3);
        for bad in [f32::NAN, f32::INFINITY] {
            let error = greedy.sample(NONE, &mut [0.0, 1.0, bad]).unwrap_err();
            assert!(matches!(error, SampleError::BadLogit { token: 2, .. }), "{error}");
        }
        let error = greedy.sample(NONE, &mut [f32::NEG_INFINITY; 3]).unwrap_err();
        assert_eq!(error, SampleError::NothingToSample);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let params = SamplingParams { temperature: 1.0, seed: 5, ..Default::default() };
        let mut sampler = sampler(params, 600);
        // Three tokens in three blocks, and nothing else.
        let mut logits = vec![f32::NEG_INFINITY; 600];
        let probabilities = [(3, 0.2f32), (300, 0.5), (599, 0.3)];
        for (token, p) in probabilities {
            logits[token] = p.ln() + 40.0;
        }
        let draws = 20_000;
        let mut counts = vec![0u32; 600];
        for _ in 0..draws {
            counts[sampler.sample(NONE, &mut logits.clone()).unwrap().token as usize] += 1;
        }
        assert_eq!(probabilities.iter().map(|&(t, _)| counts[t]).sum::<u32>(), draws);
        for (token, p) in probabilities {
            // Four standard deviations of a binomial count are 0.0142 at most.
            let frequency = counts[token] as f32 / draws as f32;
            assert!((frequency - p).abs() < 0.015, "token {token}: {frequency}");
        }
    }

    #[test]
    fn log_probabilities_are_the_models_own() {
        let params = SamplingParams {
            temperature: 0.3,
            top_k: 1,
            logit_bias: vec![(0, 50.0)],
            logprobs: Some(2),
            ..Default::default()
        };
        let mut logits: Vec<f32> = [0.1f32, 0.6, 0.3].iter().map(|p| p.ln()).collect();
        let chosen = sampler(params, 3).sample(NONE, &mut logits).unwrap();
        assert_eq!(chosen.token, 0);
        assert!((chosen.logprob.unwrap() - 0.1f32.ln()).abs() < 1e-6);
        assert_eq!(chosen.top_logprobs.iter().map(|t| t.token).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_large_vocabulary_takes_about_a_millisecond() {
        let vocab_size = 151_552;
        let logits: Vec<f32> =
            (0..vocab_size as u64).map(|i| (i * 2_654_435_761 % 9973) as f32 * 0.002).collect();
        let base = SamplingParams { temperature: 0.8, ..Default::default() };
        let cases = [
            ("plain", base.clone()),
            ("top_k", SamplingParams { top_k: 50, ..base.clone() }),
            ("top_p", SamplingParams { top_p: 0.9, ..base.clone() }),
            ("min_p", SamplingParams { min_p: 0.05, ..base.clone() }),
            (
                "all",
                SamplingParams {
                    top_k: 50,
                    top_p: 0.9,
                    min_p: 0.05,
                    repetition_penalty: 1.1,
                    logprobs: Some(20),
                    ..base.clone()
                },
            ),
            ("greedy", SamplingParams::default()),
        ];
        for (name, params) in cases {
            let mut sampler = sampler(params, vocab_size);
            let once = |sampler: &mut Sampler| {
                let mut scratch = logits.clone();
                let start = std::time::Instant::now();
                sampler.sample(NONE, &mut scratch).unwrap();
                start.elapsed()
            };
            // The best of many: a busy machine slows single runs down.
            let best = (0..50).map(|_| once(&mut sampler)).min().unwrap();
            println!("{name}: {best:?}");
            let limit = if cfg!(debug_assertions) { 200 } else { 5 };
            assert!(best.as_millis() < limit, "{name} took {best:?}");
        }
    }
}
