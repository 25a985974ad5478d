//! Perplexity and distance of models on a text, as metrics of a report.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lightglm_eval::data::read_text;
use lightglm_eval::metrics::{Estimates, IntervalMethod, Metric};
use lightglm_eval::{KlDivergence, Perplexity, Protocol, Subject, kl_divergence, perplexity};
use lightglm_generation::RunControl;
use lightglm_kernels::LmBackend;
use lightglm_text::Tokenizer;

use crate::loaded::Loaded;

/// How a program cuts a text.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct TextWindows {
    /// perplexity and kld: tokens the model sees at once.
    #[arg(long, default_value_t = 512)]
    pub context: usize,
    /// perplexity and kld: tokens from one window to the next.
    #[arg(long, default_value_t = 256)]
    pub stride: usize,
    /// perplexity and kld: positions at the start of each window that are context and are not scored.
    #[arg(long, default_value_t = 0)]
    pub context_only: usize,
}

/// A text as a model reads it.
pub struct TokenizedText {
    /// Where it is from.
    pub file: PathBuf,
    /// Its ids.
    pub tokens: Vec<u32>,
    /// How they are cut.
    pub protocol: Protocol,
}

impl TokenizedText {
    /// Reads `file`, and leaves out what is after the first `limit` windows.
    ///
    /// # Errors
    /// Where the windows are impossible, and where the file cannot be read.
    pub fn read(
        file: &Path,
        windows: &TextWindows,
        limit: Option<usize>,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let TextWindows { context, stride, context_only } = *windows;
        let protocol = Protocol { context_length: context, stride, bos: None, context_only };
        protocol.check()?;
        let most = limit.map_or(usize::MAX, |limit| {
            stride.saturating_mul(limit.saturating_sub(1)).saturating_add(context)
        });
        let tokens = first_tokens(tokenizer, &read_text(file)?, most)?;
        Ok(Self { file: file.to_owned(), tokens, protocol })
    }
}

/// The first `most` tokens of `text`, without a look at the rest of a text that is much longer.
///
/// # Errors
/// As [`Tokenizer::encode_text`].
pub fn first_tokens(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<Vec<u32>> {
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

/// Perplexity of `model`.
///
/// # Errors
/// As [`perplexity`].
pub fn text_perplexity<B: LmBackend>(
    model: &Loaded<B>,
    text: &TokenizedText,
    control: &mut RunControl<'_>,
) -> Result<Vec<Metric>> {
    let mut make_cache = |positions| model.boxed_cache(positions);
    let mut subject = Subject::new(&*model.decoder, &mut make_cache);
    let result = perplexity(&mut subject, &text.tokens, &text.protocol, control)
        .with_context(|| text.file.display().to_string())?;
    Ok(perplexity_metrics("", &result))
}

/// Distance of `model` from `reference`, which must read `text` as it is.
///
/// # Errors
/// As [`kl_divergence`], and where the two cut the text into other tokens.
pub fn text_divergence<B: LmBackend>(
    reference: &Loaded<B>,
    model: &Loaded<B>,
    text: &TokenizedText,
    of_reference: &TokenizedText,
    estimates: &Estimates,
    control: &mut RunControl<'_>,
) -> Result<Vec<Metric>> {
    ensure!(
        text.tokens == of_reference.tokens,
        "--model and --reference cut the text into other tokens"
    );
    let mut reference_cache = |positions| reference.boxed_cache(positions);
    let mut reference = Subject::new(&*reference.decoder, &mut reference_cache);
    let mut candidate_cache = |positions| model.boxed_cache(positions);
    let mut candidate = Subject::new(&*model.decoder, &mut candidate_cache);
    let (tokens, protocol) = (&text.tokens, &text.protocol);
    let result = kl_divergence(&mut reference, &mut candidate, tokens, protocol, control)
        .with_context(|| text.file.display().to_string())?;
    let KlDivergence { mean, standard_error, .. } = result;
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
    metrics.extend(perplexity_metrics("", &result.candidate));
    metrics.extend(perplexity_metrics("reference_", &result.reference).into_iter().take(2));
    Ok(metrics)
}

fn perplexity_metrics(prefix: &str, result: &Perplexity) -> Vec<Metric> {
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
