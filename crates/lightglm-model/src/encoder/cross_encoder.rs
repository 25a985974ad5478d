//! `CrossEncoder`: a score for a pair of texts that are read together.

use std::path::{Path, PathBuf};

use lightglm_core::WeightError;
use lightglm_text::{EncoderInput, EncoderTokenizer};

use super::error::EncoderError;
use super::layers::Encoder;
use super::parameters::{Affine, Parameters};
use super::sentence_encoder::TOKENS_PER_PASS;
use crate::config::{EncoderConfig, Positions, ScoreActivation, SentenceConfig};
use crate::weights::SafetensorsCheckpoint;

/// An encoder with a head that says how well two texts go together: a folder with
/// `BertForSequenceClassification` or `XLMRobertaForSequenceClassification` of one label
/// (ms-marco-MiniLM, bge-reranker).
#[derive(Clone, Debug)]
pub struct CrossEncoder {
    folder: PathBuf,
    encoder: Encoder,
    tokenizer: EncoderTokenizer,
    /// Before the last projection: `tanh(dense(x))` of the first token.
    dense: Affine,
    score: Affine,
    activation: ScoreActivation,
    max_tokens: usize,
}

impl CrossEncoder {
    /// Opens a folder: config.json, safetensors and tokenizer.json.
    ///
    /// # Errors
    /// [`EncoderError`] naming the file, and the key or the tensor; a head of several labels has another
    /// shape than one label's.
    pub fn open(folder: &Path) -> Result<Self, EncoderError> {
        let config = EncoderConfig::from_file(folder.join("config.json"))?;
        if !config.classifies {
            return Err(EncoderError::NoScores { folder: folder.to_owned() });
        }
        let sentence = SentenceConfig::of_pairs(folder)?;
        let tokenizer = EncoderTokenizer::from_dir(folder, sentence.do_lower_case)?;
        let added = tokenizer.added_to_pair();
        let most = sentence.max_seq_length.unwrap_or(usize::MAX).min(config.max_tokens());
        if most <= added {
            return Err(EncoderError::NoRoom { folder: folder.into(), max_tokens: most, added });
        }
        let file = SafetensorsCheckpoint::open(folder)?;
        let encoder = Encoder::load(&config, &file, file.path())?;
        let (dense, score) = head(&config, &file)?;
        Ok(Self {
            folder: folder.to_owned(),
            encoder,
            tokenizer,
            dense,
            score,
            activation: sentence.score_activation.unwrap_or(config.score_activation),
            max_tokens: most,
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

    /// Tokens of the longest pair, those around the texts included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokens of a pair; the longer of the two texts is cut where they have more than
    /// [`Self::max_tokens`].
    ///
    /// # Errors
    /// [`EncoderError::Text`] where the tokenizer gives up on a text.
    pub fn encode(&self, first: &str, second: &str) -> Result<EncoderInput, EncoderError> {
        Ok(self.tokenizer.encode_pair(first, second, self.max_tokens)?)
    }

    /// The scores of pairs: from 0 to 1, or logits where the model's configuration says so. A score does not
    /// depend on the other pairs.
    ///
    /// # Errors
    /// As [`Encoder::forward`]; a pair is named by its place in `inputs`.
    pub fn score(&self, inputs: &[EncoderInput]) -> Result<Vec<f32>, EncoderError> {
        let mut scores = Vec::with_capacity(inputs.len());
        for pass in EncoderInput::runs(inputs, TOKENS_PER_PASS) {
            let states = self.encoder.forward(pass).map_err(|error| error.behind(scores.len()))?;
            let d = states.hidden_size();
            scores.extend(states.inputs().map(|rows| self.score_of(&rows[..d])));
        }
        Ok(scores)
    }

    /// The score of a pair by the vector of its first token.
    fn score_of(&self, first: &[f32]) -> f32 {
        let mut x = self.dense.project(first);
        x.iter_mut().for_each(|x| *x = x.tanh());
        let logit = self.score.project(&x)[0];
        match self.activation {
            ScoreActivation::Identity => logit,
            ScoreActivation::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        }
    }
}

/// What stands behind the encoder: BERT's pooler and classifier, or RoBERTa's classifier of two parts.
fn head(
    config: &EncoderConfig,
    file: &SafetensorsCheckpoint,
) -> Result<(Affine, Affine), WeightError> {
    let inside = Parameters::of(file, file.path())?;
    let beside = inside.beside();
    let d = config.hidden_size;
    match config.positions {
        Positions::FromZero => {
            Ok((inside.affine("pooler.dense", [d, d])?, beside.affine("classifier", [1, d])?))
        }
        Positions::BehindPadding => Ok((
            beside.affine("classifier.dense", [d, d])?,
            beside.affine("classifier.out_proj", [1, d])?,
        )),
    }
}
