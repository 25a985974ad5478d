//! `EncoderConfig`: the shape of a BERT-class encoder.
//!
//! Source: transformers 5.24.0, `configuration_bert.py`, `configuration_xlm_roberta.py` (names and
//! defaults).

use std::path::Path;

use super::ConfigError;
use super::fields::Fields;

/// Largest size of one dimension, as of a decoder.
const MAX_DIMENSION: usize = 1 << 24;

/// Most layers: every layer costs a dozen tensor names before the first weight is read.
const MAX_LAYERS: usize = 1 << 12;

/// The values of `model_type`, and those of them that count positions as RoBERTa does.
const MODEL_TYPES: &str = "bert, roberta, xlm-roberta, camembert";

pub use lightglm_kernels::cpu::Activation as EncoderActivation;

/// How positions are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// From 0 on (BERT).
    FromZero,
    /// From behind the padding token's id on, which itself is the position of every padding token (RoBERTa).
    BehindPadding,
}

/// What a cross-encoder makes of its one logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreActivation {
    /// Between 0 and 1.
    Sigmoid,
    /// As it is.
    Identity,
}

/// The shape of a BERT-class encoder; a value that exists is possible.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EncoderConfig {
    /// Tokens that have an embedding.
    pub vocab_size: usize,
    /// Width of a token's vector, a multiple of `num_attention_heads`.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of a layer's attention.
    pub num_attention_heads: usize,
    /// Width inside of a feed-forward part.
    pub intermediate_size: usize,
    /// Rows of the table of positions.
    pub max_position_embeddings: usize,
    /// Kinds of text that are told apart: 2 for BERT, 1 for XLM-RoBERTa.
    pub type_vocab_size: usize,
    /// Added to a variance before its root is taken.
    pub layer_norm_eps: f32,
    /// Between the projections of a feed-forward part.
    pub hidden_act: EncoderActivation,
    /// The token that stands for none.
    pub pad_token_id: u32,
    /// How positions are numbered.
    pub positions: Positions,
    /// Whether `architectures` names a head that classifies: a cross-encoder.
    pub classifies: bool,
    /// What a cross-encoder's score is.
    pub score_activation: ScoreActivation,
}

impl EncoderConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Unsupported`] for another architecture than BERT's and RoBERTa's.
    pub fn from_file(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let file = file.as_ref();
        let value = super::fields::read_json(file)?;
        Self::of(&Fields::root(file, &value)?)
    }

    /// Tokens of the longest input, those around the text included.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    /// The position of the first token.
    pub fn first_position(&self) -> usize {
        match self.positions {
            Positions::FromZero => 0,
            Positions::BehindPadding => self.pad_token_id as usize + 1,
        }
    }

    fn of(fields: &Fields<'_>) -> Result<Self, ConfigError> {
        let unsupported = |key: &str, value: &str, supported| ConfigError::Unsupported {
            file: fields.file().into(),
            key: fields.path(key),
            value: value.to_owned(),
            supported,
        };
        let (positions, vocabulary, padding) = match fields.string("model_type")? {
            Some("bert") => (Positions::FromZero, 30_522, 0),
            Some("roberta" | "xlm-roberta" | "camembert") => (Positions::BehindPadding, 50_265, 1),
            Some(other) => return Err(unsupported("model_type", other, MODEL_TYPES)),
            None => {
                let (file, key) = (fields.file().into(), "model_type".to_owned());
                return Err(ConfigError::Missing { file, key });
            }
        };
        let kind = fields.string("position_embedding_type")?.unwrap_or("absolute");
        if kind != "absolute" {
            return Err(unsupported("position_embedding_type", kind, "absolute"));
        }
        for key in ["is_decoder", "add_cross_attention"] {
            if fields.boolean(key)? == Some(true) {
                return Err(unsupported(key, "true", "false"));
            }
        }
        if fields.object("quantization_config")?.is_some() {
            return Err(unsupported(
                "quantization_config",
                "(an object)",
                "f32, f16 and bf16 weights",
            ));
        }
        let hidden_act = match fields.string("hidden_act")?.unwrap_or("gelu") {
            "gelu" | "gelu_python" => EncoderActivation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => EncoderActivation::GeluTanh,
            "relu" => EncoderActivation::Relu,
            other => {
                return Err(unsupported(
                    "hidden_act",
                    other,
                    "gelu, gelu_new, gelu_pytorch_tanh, relu",
                ));
            }
        };
        let eps = fields.number("layer_norm_eps")?.unwrap_or(1e-12);
        if !(0.0..1.0).contains(&eps) {
            let reason = "must be at least 0 and less than 1";
            return Err(ConfigError::impossible(fields.file(), "layer_norm_eps", eps, reason));
        }
        let size = |key, default, most| dimension(fields, key, default, most);
        let config = Self {
            vocab_size: size("vocab_size", vocabulary, MAX_DIMENSION)?,
            hidden_size: size("hidden_size", 768, MAX_DIMENSION)?,
            num_hidden_layers: size("num_hidden_layers", 12, MAX_LAYERS)?,
            num_attention_heads: size("num_attention_heads", 12, MAX_DIMENSION)?,
            intermediate_size: size("intermediate_size", 3072, MAX_DIMENSION)?,
            max_position_embeddings: size("max_position_embeddings", 512, MAX_DIMENSION)?,
            type_vocab_size: size("type_vocab_size", 2, MAX_DIMENSION)?,
            layer_norm_eps: eps as f32,
            hidden_act,
            pad_token_id: fields.token_id("pad_token_id")?.unwrap_or(padding),
            positions,
            classifies: fields.strings("architectures")?.is_some_and(|all| {
                all.iter().any(|one| one.ends_with("ForSequenceClassification"))
            }),
            score_activation: score_activation(fields)?,
        };
        config.checked(fields)
    }

    fn checked(self, fields: &Fields<'_>) -> Result<Self, ConfigError> {
        let impossible = |key: &str, value: usize, reason: String| {
            Err(ConfigError::impossible(fields.file(), key, value, reason))
        };
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        if !width.is_multiple_of(heads) {
            let reason = format!("must be a multiple of `num_attention_heads`, which is {heads}");
            return impossible("hidden_size", width, reason);
        }
        if self.max_position_embeddings <= self.first_position() {
            let reason = format!("positions begin at {}", self.first_position());
            return impossible("max_position_embeddings", self.max_position_embeddings, reason);
        }
        Ok(self)
    }
}

/// A size from 1 to `most`.
fn dimension(
    fields: &Fields<'_>,
    key: &str,
    default: usize,
    most: usize,
) -> Result<usize, ConfigError> {
    let value = fields.size(key, default)?;
    if value == 0 || value > most {
        let reason = format!("must be from 1 to {most}");
        return Err(ConfigError::impossible(fields.file(), fields.path(key), value, reason));
    }
    Ok(value)
}

/// What sentence-transformers wrote about a cross-encoder's score in config.json, from its version 4 on and
/// before.
fn score_activation(fields: &Fields<'_>) -> Result<ScoreActivation, ConfigError> {
    let newer = match fields.object("sentence_transformers")? {
        Some(own) => own.string("activation_fn")?,
        None => None,
    };
    let said = match newer {
        Some(said) => Some(said),
        None => fields.string("sbert_ce_default_activation_function")?,
    };
    said.map_or(Ok(ScoreActivation::Sigmoid), |said| named_activation(fields, said))
}

/// The activation that torch calls by `path`: `torch.nn.modules.activation.Sigmoid`.
pub(super) fn named_activation(
    fields: &Fields<'_>,
    path: &str,
) -> Result<ScoreActivation, ConfigError> {
    match path.rsplit('.').next() {
        Some("Sigmoid") => Ok(ScoreActivation::Sigmoid),
        Some("Identity") => Ok(ScoreActivation::Identity),
        _ => Err(ConfigError::Unsupported {
            file: fields.file().into(),
            key: fields.path("activation_fn"),
            value: path.to_owned(),
            supported: "Sigmoid, Identity",
        }),
    }
}
