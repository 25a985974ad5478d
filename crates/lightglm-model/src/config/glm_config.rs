//! `GlmConfig`: the shape of a GLM decoder.
//!
//! Source: transformers 5.23.0, `configuration_glm4.py` and `configuration_glm.py` (names and
//! defaults).

use std::path::Path;

use lightglm_core::{ProjectionLayout, python_json};
use serde_json::json;

use super::chatglm;
use super::fields::Fields;
use super::llama_family::LlamaFamily;
use super::media_config::MediaFamily;
use super::{ConfigError, RopeParameters};

/// What a configuration without a file is called in errors.
const UNNAMED: &str = "config.json";

/// Largest size of one dimension. No published model is within a factor of 30 of it, and products of
/// two still are far below 2^63.
const MAX_DIMENSION: usize = 1 << 24;

/// Most layers: every layer costs a dozen tensor names before the first weight is read.
const MAX_LAYERS: usize = 1 << 12;

/// Most positions: they are kept in 31 bits.
pub(super) const MAX_POSITIONS: usize = 1 << 31;

/// Most parameters of a model (35 trillion).
const MAX_PARAMETERS: u128 = 1 << 45;

/// Which decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelType {
    /// `glm4`, of 2025 (GLM-4-9B-0414): an RMSNorm before and after attention, before and after the
    /// feed-forward.
    Glm4,
    /// `glm`, of 2024 (glm-4-9b-chat-hf): an RMSNorm before each only.
    Glm,
    /// `glm` with an RMSNorm of each head of q and of k before they are rotated: what `qwen3` computes. No
    /// other program has it in GLM's layout, so its name is our own.
    GlmQkNorm,
}

impl ModelType {
    /// The name in `config.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Glm4 => "glm4",
            Self::Glm => "glm",
            Self::GlmQkNorm => "glm_qk_norm",
        }
    }
}

/// How the projections of a model are laid out outside of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layouts {
    /// In the weights beside the configuration.
    pub weights: WeightLayout,
    /// Whether another program quantized those weights, so that they are not the decoder's tensors.
    pub is_imported: bool,
    /// In adapters that are made for the model. A model of the Llama family that was converted keeps those it
    /// had: its configuration says so under [`ADAPTERS_KEY`].
    pub adapters: ProjectionLayout,
}

/// How a folder's weights are named and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// As transformers writes a `glm` or `glm4`.
    Glm,
    /// As it writes those of the Llama family: [`LlamaCheckpoint`](crate::weights::LlamaCheckpoint).
    Llama,
    /// As ChatGLM's own code does: [`ChatGlmCheckpoint`](crate::weights::ChatGlmCheckpoint).
    ChatGlm,
    /// As transformers writes the decoder inside of a `glm4v`, `glm46v` or `glm_ocr`: those of a `glm4`, under
    /// `model.language_model`.
    GlmInMedia,
    /// As it writes the decoder inside of a `glmasr`: a `llama`, under `language_model`.
    LlamaInMedia,
}

/// The key of `config.json` that says in a converted model whose layout its adapters have: `llama`.
pub const ADAPTERS_KEY: &str = "lightglm_adapters";

/// The shape of a GLM decoder, with the names of Hugging Face's `config.json`.
///
/// A value that came from [`GlmConfig::from_file`] or [`GlmConfig::from_json`] is possible: no size
/// is zero, the heads divide, the products fit. Whoever changes a field calls [`GlmConfig::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct GlmConfig {
    /// Which decoder.
    pub model_type: ModelType,
    /// Width of the residual stream, `D`.
    pub hidden_size: usize,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads, `H`.
    pub num_attention_heads: usize,
    /// Key and value heads, `K`; divides `H`.
    pub num_key_value_heads: usize,
    /// Elements of a head; `H * head_dim` need not be `D`.
    pub head_dim: usize,
    /// Neurons of the feed-forward, `F`.
    pub intermediate_size: usize,
    /// Rows of the embedding and of the head, `V`.
    pub vocab_size: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether q, k and v have a bias (o never has).
    pub attention_bias: bool,
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
    /// The longest context that the file names, in tokens, before any stretch:
    /// [`Self::context_length`] is what counts.
    pub max_position_embeddings: usize,
    /// The rotary position embedding.
    pub rope: RopeParameters,
    /// Tokens that end a generation.
    pub eos_token_ids: Vec<u32>,
    /// The token that fills shorter rows of a batch.
    pub pad_token_id: Option<u32>,
    /// The token a text begins with.
    pub bos_token_id: Option<u32>,
    /// The weights' precision as the file spells it: `bfloat16`.
    pub dtype: Option<String>,
}

impl GlmConfig {
    /// Reads a `config.json`, in the layout of 2025 (`rope_theta` at the top level) or of
    /// transformers 5 (`rope_parameters`).
    ///
    /// `llama`, `mistral` and `qwen2` are read as the [`ModelType::Glm`] that computes the same, with whole
    /// heads rotated, `qwen3` as [`ModelType::GlmQkNorm`], `chatglm` as the `glm` that it is; [`WeightLayout`]
    /// says who reads their weights.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file and the key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Ok(Self::with_layouts(path)?.0)
    }

    /// [`GlmConfig::from_file`], and how the projections of such a model are laid out.
    ///
    /// # Errors
    /// As [`GlmConfig::from_file`].
    pub fn with_layouts(path: impl AsRef<Path>) -> Result<(Self, Layouts), ConfigError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| ConfigError::Io { file: path.into(), source })?;
        Self::parse(&bytes, path)
    }

    /// [`GlmConfig::from_file`] for the file's contents; errors call the file `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Ok(Self::parse(json.as_ref(), Path::new(UNNAMED))?.0)
    }

    fn parse(bytes: &[u8], file: &Path) -> Result<(Self, Layouts), ConfigError> {
        let value =
            python_json(bytes).map_err(|source| ConfigError::Json { file: file.into(), source })?;
        let root = Fields::root(file, &value)?;
        if let Some(family) = MediaFamily::of(root)? {
            let (config, layouts) = family.parse_text(root)?;
            config.check_in(file)?;
            return Ok((config, layouts));
        }
        let family = parse_model_type(root)?;
        check_hidden_act(root)?;
        let is_imported = is_quantized_elsewhere(root)?;
        let (config, layouts) = match family {
            Family::Glm(model_type) => {
                let config = Self::parse_glm(root, model_type)?;
                let adapters = adapter_layout(root, config.head_dim)?;
                (config, Layouts { weights: WeightLayout::Glm, is_imported, adapters })
            }
            Family::ChatGlm => {
                let adapters = ProjectionLayout::Glm;
                let weights = WeightLayout::ChatGlm;
                (chatglm::parse(root)?, Layouts { weights, is_imported, adapters })
            }
            Family::Llama(family) => {
                let config = family.parse(root)?;
                let adapters = ProjectionLayout::Llama { head_dim: config.head_dim };
                (config, Layouts { weights: WeightLayout::Llama, is_imported, adapters })
            }
        };
        config.check_in(file)?;
        Ok((config, layouts))
    }

    fn parse_glm(root: Fields<'_>, model_type: ModelType) -> Result<Self, ConfigError> {
        let hidden_size = root.size("hidden_size", 4096)?;
        let num_attention_heads = root.size("num_attention_heads", 32)?;
        let vocab_size = root.size("vocab_size", 151_552)?;
        let max_position_embeddings = root.size("max_position_embeddings", 131_072)?;
        // transformers' default ids are those of the 9B vocabulary; a smaller one has none.
        let in_vocabulary = |id: &u32| (*id as usize) < vocab_size;
        let default_eos =
            || [151_329, 151_336, 151_338].into_iter().filter(in_vocabulary).collect();
        let pad_token_id = match root.token_id_or_none("pad_token_id")? {
            None if root.value("pad_token_id").is_none() && !root.is_null("pad_token_id") => {
                Some(151_329).filter(in_vocabulary)
            }
            given => given,
        };
        Ok(Self {
            model_type,
            hidden_size,
            num_hidden_layers: root.size("num_hidden_layers", 40)?,
            num_attention_heads,
            num_key_value_heads: root.size("num_key_value_heads", 2)?,
            head_dim: parse_head_dim(root, hidden_size, num_attention_heads)?,
            intermediate_size: root.size("intermediate_size", 13_696)?,
            vocab_size,
            rms_norm_eps: root.number("rms_norm_eps")?.unwrap_or(1.5625e-7),
            attention_bias: root.boolean("attention_bias")?.unwrap_or(true),
            tie_word_embeddings: root.boolean("tie_word_embeddings")?.unwrap_or(false),
            max_position_embeddings,
            rope: RopeParameters::parse(root, max_position_embeddings, 0.5)?,
            eos_token_ids: root.token_ids("eos_token_id")?.unwrap_or_else(default_eos),
            pad_token_id,
            bos_token_id: root.token_id_or_none("bos_token_id")?,
            dtype: parse_dtype(root)?,
        })
    }

    /// The longest context, in tokens: `max_position_embeddings`, or what the scaling of the rotary
    /// embedding stretches it to (YaRN: `original_max_position_embeddings` times `factor`; linear:
    /// `max_position_embeddings` times `factor`), whichever is more.
    ///
    /// Source: vLLM's `_get_and_verify_max_len`.
    pub fn context_length(&self) -> usize {
        self.rope.context_length(self.max_position_embeddings)
    }

    /// Checks that the values are possible together; parsed configurations have passed it.
    ///
    /// # Errors
    /// [`ConfigError::Impossible`] naming the first key at fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_in(Path::new(UNNAMED))
    }

    /// [`GlmConfig::check`] with the name of the file that the values come from.
    pub(crate) fn check_in(&self, file: &Path) -> Result<(), ConfigError> {
        let sizes = [
            ("hidden_size", self.hidden_size, MAX_DIMENSION),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_DIMENSION),
            ("num_key_value_heads", self.num_key_value_heads, MAX_DIMENSION),
            ("head_dim", self.head_dim, MAX_DIMENSION),
            ("intermediate_size", self.intermediate_size, MAX_DIMENSION),
            ("vocab_size", self.vocab_size, MAX_DIMENSION),
            ("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS),
        ];
        for (key, size, most) in sizes {
            if size == 0 || size > most {
                let reason = format!("must be from 1 to {most}");
                return Err(ConfigError::impossible(file, key, size, reason));
            }
        }
        self.check_heads(file)?;
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            let reason = "must be above 0 and below 1";
            return Err(ConfigError::impossible(file, "rms_norm_eps", self.rms_norm_eps, reason));
        }
        self.check_token_ids(file)?;
        let parameters = self.count_parameters();
        if parameters > MAX_PARAMETERS {
            let reason = format!("the sizes make {parameters} parameters, over {MAX_PARAMETERS}");
            let (key, layers) = ("num_hidden_layers", self.num_hidden_layers);
            return Err(ConfigError::impossible(file, key, layers, reason));
        }
        Ok(())
    }

    fn check_heads(&self, file: &Path) -> Result<(), ConfigError> {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % kv_heads != 0 {
            let reason = format!("must divide num_attention_heads, {heads}");
            return Err(ConfigError::impossible(file, "num_key_value_heads", kv_heads, reason));
        }
        let width = heads.saturating_mul(self.head_dim);
        if width > MAX_DIMENSION {
            let reason = format!("num_attention_heads * head_dim is over {MAX_DIMENSION}");
            return Err(ConfigError::impossible(file, "head_dim", self.head_dim, reason));
        }
        let factor = self.rope.partial_rotary_factor;
        let rotary_dim = self.rotary_dim();
        if !(factor > 0.0 && factor <= 1.0) || rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
            let reason = format!(
                "rotates {rotary_dim} of head_dim {}, which must be even and not zero",
                self.head_dim
            );
            return Err(ConfigError::impossible(file, "partial_rotary_factor", factor, reason));
        }
        if let Some(section) = self.rope.mrope_section
            && section.iter().sum::<usize>() != rotary_dim / 2
        {
            let (value, reason) =
                (format!("{section:?}"), format!("must sum to {}", rotary_dim / 2));
            return Err(ConfigError::impossible(file, "mrope_section", value, reason));
        }
        Ok(())
    }

    fn check_token_ids(&self, file: &Path) -> Result<(), ConfigError> {
        let eos = self.eos_token_ids.iter().map(|id| ("eos_token_id", *id));
        let others = [("pad_token_id", self.pad_token_id), ("bos_token_id", self.bos_token_id)];
        let others = others.into_iter().filter_map(|(key, id)| id.map(|id| (key, id)));
        for (key, id) in eos.chain(others) {
            if id as usize >= self.vocab_size {
                let reason = format!("must be below vocab_size, {}", self.vocab_size);
                return Err(ConfigError::impossible(file, key, id, reason));
            }
        }
        Ok(())
    }

    /// The configuration as a `config.json` in the layout of transformers 5.
    pub fn to_json(&self) -> String {
        let architecture = match self.model_type {
            ModelType::Glm4 => "Glm4ForCausalLM",
            ModelType::Glm => "GlmForCausalLM",
            ModelType::GlmQkNorm => "GlmQkNormForCausalLM",
        };
        let value = json!({
            "architectures": [architecture],
            "attention_bias": self.attention_bias,
            "bos_token_id": self.bos_token_id,
            "dtype": self.dtype,
            "eos_token_id": self.eos_token_ids,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": self.model_type.name(),
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "pad_token_id": self.pad_token_id,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": self.rope.to_json(),
            "tie_word_embeddings": self.tie_word_embeddings,
            "vocab_size": self.vocab_size,
        });
        format!("{value:#}\n")
    }
}

/// Whose fields and defaults a file has.
enum Family {
    Glm(ModelType),
    ChatGlm,
    Llama(LlamaFamily),
}

fn parse_model_type(root: Fields<'_>) -> Result<Family, ConfigError> {
    match root.string("model_type")? {
        Some("glm4") => Ok(Family::Glm(ModelType::Glm4)),
        Some("glm") => Ok(Family::Glm(ModelType::Glm)),
        Some("chatglm") => Ok(Family::ChatGlm),
        Some("glm_qk_norm") => Ok(Family::Glm(ModelType::GlmQkNorm)),
        Some("llama") => Ok(Family::Llama(LlamaFamily::Llama)),
        Some("mistral") => Ok(Family::Llama(LlamaFamily::Mistral)),
        Some("qwen2") => Ok(Family::Llama(LlamaFamily::Qwen2)),
        Some("qwen3") => Ok(Family::Llama(LlamaFamily::Qwen3)),
        Some(other) => Err(ConfigError::Unsupported {
            file: root.file().into(),
            key: root.path("model_type"),
            value: other.into(),
            supported: "glm4, glm, chatglm, llama, mistral, qwen2, qwen3, glm4v, glm46v, glm_ocr, glmasr",
        }),
        None => {
            Err(ConfigError::Missing { file: root.file().into(), key: root.path("model_type") })
        }
    }
}

/// Whether the file says that its weights are quantized, in another way than this project's.
fn is_quantized_elsewhere(root: Fields<'_>) -> Result<bool, ConfigError> {
    let fields = root.object("quantization_config")?.filter(|fields| !fields.is_empty());
    Ok(match fields {
        Some(fields) => fields.string("quant_method")? != Some("lightglm"),
        None => false,
    })
}

pub(super) fn check_hidden_act(root: Fields<'_>) -> Result<(), ConfigError> {
    match root.string("hidden_act")?.unwrap_or("silu") {
        "silu" => Ok(()),
        other => Err(ConfigError::Unsupported {
            file: root.file().into(),
            key: root.path("hidden_act"),
            value: other.into(),
            supported: "silu",
        }),
    }
}

/// The layout of adapters that a converted model keeps.
fn adapter_layout(root: Fields<'_>, head_dim: usize) -> Result<ProjectionLayout, ConfigError> {
    match root.string(ADAPTERS_KEY)? {
        None => Ok(ProjectionLayout::Glm),
        Some("llama") => Ok(ProjectionLayout::Llama { head_dim }),
        Some(other) => Err(ConfigError::Unsupported {
            file: root.file().into(),
            key: root.path(ADAPTERS_KEY),
            value: other.into(),
            supported: "llama",
        }),
    }
}

/// The weights' precision, under its name of 2026 or of before.
pub(super) fn parse_dtype(root: Fields<'_>) -> Result<Option<String>, ConfigError> {
    let dtype = match root.string("dtype")? {
        Some(dtype) => Some(dtype),
        None => root.string("torch_dtype")?,
    };
    Ok(dtype.map(str::to_owned))
}

/// 128 where it is left out; a null means `hidden_size / num_attention_heads`.
fn parse_head_dim(root: Fields<'_>, hidden: usize, heads: usize) -> Result<usize, ConfigError> {
    if !root.is_null("head_dim") {
        return root.size("head_dim", 128);
    }
    split_heads(root, hidden, heads)
}

/// `hidden_size / num_attention_heads`.
pub(super) fn split_heads(
    root: Fields<'_>,
    hidden: usize,
    heads: usize,
) -> Result<usize, ConfigError> {
    match hidden.checked_rem(heads) {
        Some(0) => Ok(hidden / heads),
        _ => {
            let reason = format!("hidden_size {hidden} is not divisible by {heads} heads");
            Err(ConfigError::impossible(root.file(), root.path("head_dim"), "null", reason))
        }
    }
}

/// [`ConfigError::Unsupported`] from its parts.
pub(super) fn unsupported(
    root: Fields<'_>,
    key: &str,
    value: impl ToString,
    supported: &'static str,
) -> ConfigError {
    let (file, value) = (root.file().into(), value.to_string());
    ConfigError::Unsupported { file, key: root.path(key), value, supported }
}
