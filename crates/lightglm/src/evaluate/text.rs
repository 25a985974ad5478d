//! Perplexity of a text, and how far one model is from another on it.

use lightglm_core::{CausalLm, KvCache, KvCacheError};
use lightglm_eval::metrics::{Estimates, IntervalMethod, Metric};
use lightglm_eval::{KlDivergence, Perplexity, Protocol, Subject, kl_divergence, perplexity};
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_text::Tokenizer;

use super::watch::watched;
use crate::device::{DeviceJob, run_on};
use crate::error::Error;
use crate::model::Model;
use crate::progress::ProgressSink;

/// What is under way, for progress and interruptions.
const DOING: &str = "measuring";

/// How a text is cut, and how much of it is read.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// The windows; by default of 512 tokens, each 256 after the one before it.
    pub protocol: Protocol,
    /// Only the first so many tokens; all if omitted.
    pub max_tokens: Option<usize>,
    /// Told how many tokens are scored.
    pub progress: ProgressSink,
}

impl Default for TextOptions {
    fn default() -> Self {
        let protocol = Protocol { context_length: 512, stride: 256, bos: None, context_only: 0 };
        Self { protocol, max_tokens: None, progress: ProgressSink::default() }
    }
}

impl TextOptions {
    /// Only the first so many windows, at least 1.
    pub fn with_windows(self, windows: usize) -> Self {
        let Protocol { context_length, stride, .. } = self.protocol;
        let more = stride.saturating_mul(windows.saturating_sub(1));
        Self { max_tokens: Some(more.saturating_add(context_length)), ..self }
    }
}

impl Model {
    /// Perplexity of `text`: `exp` of the mean negative log-likelihood of a token.
    ///
    /// Every window begins with what the tokenizer puts in front of every text (GLM's `[gMASK]<sop>`, a BOS),
    /// as prompts and training rows do: the model has not learnt to read without. It is context, and not
    /// scored.
    ///
    /// With a [`kv_budget`](crate::LoadOptions::kv_budget) what is scored is run token by token, and the
    /// [`context_only`](Protocol::context_only) tokens before it at once, exactly.
    ///
    /// # Errors
    /// [`Error::Eval`] for impossible windows and for a text without two tokens;
    /// [`Error::Interrupted`].
    pub fn perplexity(&self, text: &str, options: &TextOptions) -> Result<Perplexity, Error> {
        self.refuse_one_conversation("perplexity")?;
        options.protocol.check()?;
        let tokens = self.tokens(text, options)?;
        run_on(self.options().device, OfText { model: self, tokens: &tokens, options })?
    }

    /// Kullback-Leibler divergence of this model's predictions from those of `reference` on `text`, and
    /// both perplexities. The models may run on different devices.
    ///
    /// # Errors
    /// As [`perplexity`](Self::perplexity); [`Error::OtherTokens`] where the two do not read `text` as
    /// the same tokens.
    pub fn kl_divergence(
        &self,
        reference: &Model,
        text: &str,
        options: &TextOptions,
    ) -> Result<KlDivergence, Error> {
        self.refuse_one_conversation("kl_divergence")?;
        reference.refuse_one_conversation("kl_divergence")?;
        options.protocol.check()?;
        let tokens = self.tokens(text, options)?;
        let same_front = front(self) == front(reference);
        if !same_front || tokens != reference.tokens(text, options)? {
            let (reference, candidate) = (reference.name().to_owned(), self.name().to_owned());
            return Err(Error::OtherTokens { reference, candidate });
        }
        let pair = Pair { reference, candidate: self, tokens: &tokens, options };
        run_on(reference.options().device, pair)?
    }

    fn tokens(&self, text: &str, options: &TextOptions) -> Result<Vec<u32>, Error> {
        first_tokens(&self.text().tokenizer, text, options.max_tokens.unwrap_or(usize::MAX))
    }
}

/// The first `most` tokens of `text`, without a look at the rest of a text that is much longer.
///
/// # Errors
/// [`Error::TextFiles`] where the tokenizer refuses the text.
pub fn first_tokens(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<Vec<u32>, Error> {
    // A cut changes the tokens beside it; so many are let go.
    const BESIDE_THE_CUT: usize = 64;
    let enough = most.saturating_add(BESIDE_THE_CUT);
    let mut bytes = enough.saturating_mul(8);
    loop {
        let end = text.floor_char_boundary(bytes);
        let mut tokens = tokenizer.encode_text(&text[..end])?;
        if end == text.len() || tokens.len() >= enough {
            tokens.truncate(most);
            return Ok(tokens);
        }
        bytes = bytes.saturating_mul(2);
    }
}

/// Perplexity on the model's device.
struct OfText<'a> {
    model: &'a Model,
    tokens: &'a [u32],
    options: &'a TextOptions,
}

impl DeviceJob for OfText<'_> {
    type Output = Result<Perplexity, Error>;

    fn run<B: LmGradients>(self, _: B::Device) -> Self::Output {
        let Self { model, tokens, options } = self;
        let mut cache = caches::<B>(model);
        let mut subject = Subject::new(decoder::<B>(model), &mut cache).with_front(front(model));
        watched(DOING, &options.progress, &[model], |control| {
            perplexity(&mut subject, tokens, &options.protocol, control)
        })
    }
}

/// Two models; on the reference's device.
#[derive(Clone, Copy)]
struct Pair<'a> {
    reference: &'a Model,
    candidate: &'a Model,
    tokens: &'a [u32],
    options: &'a TextOptions,
}

impl DeviceJob for Pair<'_> {
    type Output = Result<KlDivergence, Error>;

    fn run<R: LmGradients>(self, _: R::Device) -> Self::Output {
        let mut cache = caches::<R>(self.reference);
        let mut reference = Subject::new(decoder::<R>(self.reference), &mut cache)
            .with_front(front(self.reference));
        run_on(
            self.candidate.options().device,
            Candidate { pair: self, reference: &mut reference },
        )?
    }
}

/// The candidate, on its device, beside a reference on another or the same.
struct Candidate<'a, 's, R: LmBackend> {
    pair: Pair<'a>,
    reference: &'a mut Subject<'s, R>,
}

impl<R: LmBackend> DeviceJob for Candidate<'_, '_, R> {
    type Output = Result<KlDivergence, Error>;

    fn run<C: LmGradients>(self, _: C::Device) -> Self::Output {
        let Pair { reference, candidate, tokens, options } = self.pair;
        let mut cache = caches::<C>(candidate);
        let mut subject =
            Subject::new(decoder::<C>(candidate), &mut cache).with_front(front(candidate));
        let models = [reference, candidate];
        watched(DOING, &options.progress, &models, |control| {
            kl_divergence(self.reference, &mut subject, tokens, &options.protocol, control)
        })
    }
}

/// Caches of one sequence.
fn caches<B: LmBackend>(
    model: &Model,
) -> impl FnMut(usize) -> Result<Box<dyn KvCache<B>>, KvCacheError> + '_ {
    |positions| Ok(Box::new(model.cache::<B>(1, positions)))
}

/// What `model` has in front of every text, and of every window of one.
fn front(model: &Model) -> &[u32] {
    model.text().tokenizer.front()
}

fn decoder<B: LmBackend>(model: &Model) -> &dyn CausalLm<B> {
    &*model.on::<B>().model
}

/// A perplexity as metrics of a report.
pub fn perplexity_metrics(result: &Perplexity) -> Vec<Metric> {
    prefixed_metrics("", result)
}

/// A divergence as metrics of a report, with both perplexities.
pub fn divergence_metrics(result: &KlDivergence, estimates: &Estimates) -> Vec<Metric> {
    let KlDivergence { mean, standard_error, .. } = *result;
    let interval = [mean - 1.96 * standard_error, mean + 1.96 * standard_error];
    let agreed = (result.top1_agreement * result.tokens as f64).round() as usize;
    let agreements: Vec<f64> =
        (0..result.tokens).map(|i| f64::from(u8::from(i < agreed))).collect();
    let mut metrics = vec![
        Metric::within("kl_divergence", mean, interval, IntervalMethod::Normal),
        Metric::number("kl_divergence_median", result.median),
        Metric::number("kl_divergence_99th", result.percentile_99),
        Metric::number("kl_divergence_max", result.max),
        estimates.percentage("top1_agreement", &agreements),
    ];
    metrics.extend(prefixed_metrics("", &result.candidate));
    metrics.extend(prefixed_metrics("reference_", &result.reference).into_iter().take(2));
    metrics
}

fn prefixed_metrics(prefix: &str, result: &Perplexity) -> Vec<Metric> {
    let name = |name: &str| format!("{prefix}{name}");
    let (ppl, interval) = (result.perplexity, result.confidence_interval);
    let margin = 1.96 * result.nll_standard_error;
    let nll = [result.nll_mean - margin, result.nll_mean + margin];
    vec![
        Metric::within(name("perplexity"), ppl, interval, IntervalMethod::Normal),
        Metric::within(name("nll_mean"), result.nll_mean, nll, IntervalMethod::Normal),
        Metric::count(name("tokens"), result.tokens),
    ]
}
