//! `SentenceEncoder`: texts to vectors, as sentence-transformers' files say.

use std::path::{Path, PathBuf};

use lightglm_text::{EncoderInput, EncoderTokenizer};

use super::arithmetic::normalize;
use super::error::EncoderError;
use super::layers::Encoder;
use super::parameters::{Affine, Parameters};
use crate::config::{DenseActivation, EncoderConfig, Pooling, SentenceConfig, SentenceStep};
use crate::weights::SafetensorsCheckpoint;

/// Tokens of one pass: enough for the matrix products to be as fast as they get, little enough for what
/// stands between them to stay in the last cache.
pub(super) const TOKENS_PER_PASS: usize = 1024;

/// An encoder, its tokenizer, and what makes one vector of a text: a folder in sentence-transformers' layout
/// (all-MiniLM-L6-v2, BGE), or that of a plain BERT.
#[derive(Clone, Debug)]
pub struct SentenceEncoder {
    folder: PathBuf,
    encoder: Encoder,
    tokenizer: EncoderTokenizer,
    pooling: Vec<Pooling>,
    assumes_mean: bool,
    steps: Vec<Step>,
    prompt: String,
    max_tokens: usize,
    dimensions: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Normalize,
    Dense(Affine, DenseActivation),
}

impl SentenceEncoder {
    /// Opens a folder: config.json, safetensors and tokenizer.json, and sentence-transformers' files where
    /// they are there.
    ///
    /// # Errors
    /// [`EncoderError`] naming the file, and the key or the tensor.
    pub fn open(folder: &Path) -> Result<Self, EncoderError> {
        let sentence = SentenceConfig::from_dir(folder)?;
        let config = EncoderConfig::from_file(sentence.encoder.join("config.json"))?;
        let tokenizer = EncoderTokenizer::from_dir(&sentence.encoder, sentence.do_lower_case)?;
        let added = tokenizer.added_tokens();
        let most = sentence.max_seq_length.unwrap_or(usize::MAX).min(config.max_tokens());
        if most <= added {
            return Err(EncoderError::NoRoom { folder: folder.into(), max_tokens: most, added });
        }
        let file = SafetensorsCheckpoint::open(&sentence.encoder)?;
        let encoder = Encoder::load(&config, &file, file.path())?;
        let mut dimensions = config.hidden_size * sentence.pooling.len();
        let mut steps = Vec::with_capacity(sentence.steps.len());
        for step in &sentence.steps {
            steps.push(Step::load(step, &mut dimensions)?);
        }
        Ok(Self {
            folder: folder.to_owned(),
            encoder,
            tokenizer,
            pooling: sentence.pooling,
            assumes_mean: sentence.assumes_mean,
            steps,
            prompt: sentence.prompt,
            max_tokens: most,
            dimensions,
        })
    }

    /// Where it was opened.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The shape of the encoder.
    pub fn config(&self) -> &EncoderConfig {
        self.encoder.config()
    }

    /// Elements of a text's vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Tokens of the longest text, those around it included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Whether the mean of a text's tokens is taken because no modules.json says what is.
    pub fn assumes_mean(&self) -> bool {
        self.assumes_mean
    }

    /// Whether vectors have the length 1.
    pub fn normalizes(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Normalize))
    }

    /// The tokens of a text, its end cut off where it has more than `max_tokens` (or than
    /// [`Self::max_tokens`]): [`EncoderInput::whole_len`] says what it had.
    ///
    /// # Errors
    /// [`EncoderError::Text`] where the tokenizer gives up on a text.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Result<EncoderInput, EncoderError> {
        let most = max_tokens.min(self.max_tokens);
        Ok(match self.prompt.as_str() {
            "" => self.tokenizer.encode(text, most)?,
            prompt => self.tokenizer.encode(&format!("{prompt}{text}"), most)?,
        })
    }

    /// The vectors of texts: [`Self::dimensions`] elements each. A vector does not depend on the other
    /// texts.
    ///
    /// # Errors
    /// As [`Encoder::forward`]; an input is named by its place in `inputs`.
    pub fn embed(&self, inputs: &[EncoderInput]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let mut vectors = Vec::with_capacity(inputs.len());
        for pass in EncoderInput::runs(inputs, TOKENS_PER_PASS) {
            let states = self.encoder.forward(pass).map_err(|error| error.behind(vectors.len()))?;
            vectors.extend(states.inputs().map(|rows| self.vector(rows)));
        }
        Ok(vectors)
    }

    /// One vector of a text's tokens, `rows: [T, D]`.
    fn vector(&self, rows: &[f32]) -> Vec<f32> {
        let d = self.encoder.config().hidden_size;
        let mut vector: Vec<f32> =
            self.pooling.iter().flat_map(|pooling| pooled(*pooling, rows, d)).collect();
        for step in &self.steps {
            match step {
                Step::Normalize => normalize(&mut vector),
                Step::Dense(projection, activation) => {
                    vector = projection.project(&vector);
                    if *activation == DenseActivation::Tanh {
                        vector.iter_mut().for_each(|x| *x = x.tanh());
                    }
                }
            }
        }
        vector
    }
}

impl Step {
    /// Reads a step that takes `dimensions` elements, which becomes what it gives.
    fn load(step: &SentenceStep, dimensions: &mut usize) -> Result<Self, EncoderError> {
        let SentenceStep::Dense { folder, in_features, out_features, bias, activation } = step
        else {
            return Ok(Self::Normalize);
        };
        if in_features != dimensions {
            let (module, expected, actual) = (folder.clone(), *in_features, *dimensions);
            return Err(EncoderError::Dimensions { module, expected, actual });
        }
        *dimensions = *out_features;
        let file = SafetensorsCheckpoint::open(folder)?;
        let parameters = Parameters::plain(&file, file.path());
        let projection = match bias {
            true => parameters.affine("linear", [*out_features, *in_features])?,
            false => Affine {
                weight: parameters.matrix("linear.weight", [*out_features, *in_features])?,
                bias: None,
                out_features: *out_features,
            },
        };
        Ok(Self::Dense(projection, *activation))
    }
}

/// One vector `[D]` of `rows: [T, D]`, `T` at least 1.
fn pooled(pooling: Pooling, rows: &[f32], d: usize) -> Vec<f32> {
    let mut vector = rows[..d].to_vec();
    let tokens = rows.len() / d;
    let others = rows.chunks_exact(d).skip(1);
    match pooling {
        Pooling::Cls => {}
        Pooling::Max => {
            others.for_each(|row| vector.iter_mut().zip(row).for_each(|(x, y)| *x = x.max(*y)));
        }
        Pooling::Mean | Pooling::MeanSqrtLen => {
            others.for_each(|row| vector.iter_mut().zip(row).for_each(|(x, y)| *x += y));
            let tokens = tokens as f32;
            let divisor = if pooling == Pooling::Mean { tokens } else { tokens.sqrt() };
            vector.iter_mut().for_each(|x| *x /= divisor);
        }
    }
    vector
}

impl EncoderError {
    /// The same of an input that `before` others stand in front of.
    pub(super) fn behind(mut self, before: usize) -> Self {
        match &mut self {
            Self::NoTokens { index }
            | Self::TooLong { index, .. }
            | Self::UnknownToken { index, .. }
            | Self::UnknownKind { index, .. } => *index += before,
            _ => {}
        }
        self
    }
}
