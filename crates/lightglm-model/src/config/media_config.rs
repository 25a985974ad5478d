//! `MediaConfig`: the encoder in front of a decoder that sees or hears, and the decoder inside of such a file.
//!
//! Source: transformers 5.23.0, `configuration_glm4v.py`, `configuration_glm46v.py`, `configuration_glm_ocr.py`,
//! `configuration_glmasr.py` (names and defaults), `modeling_glm_ocr.py` (what has a bias).

use std::path::Path;

use lightglm_core::ProjectionLayout;

use super::fields::{Fields, read_json};
use super::glm_config::{check_hidden_act, parse_dtype, split_heads, unsupported};
use super::llama_family::LlamaFamily;
use super::{ConfigError, GlmConfig, Layouts, ModelType, RopeParameters, WeightLayout};

/// Largest size of one dimension of an encoder.
const MAX_DIMENSION: usize = 1 << 20;

/// Most layers.
const MAX_LAYERS: usize = 1 << 12;

/// Models with an encoder in front of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaFamily {
    /// `glm4v` and `glm46v`.
    Glm4v,
    GlmOcr,
    GlmAsr,
}

/// The encoder of a model that sees or hears.
#[derive(Clone, Debug, PartialEq)]
pub enum MediaConfig {
    /// It sees.
    Vision(VisionConfig),
    /// It hears.
    Audio(AudioConfig),
}

/// A tower that turns pictures into rows: `glm4v`'s, or `glm_ocr`'s.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of a patch's row, `D`.
    pub hidden_size: usize,
    /// Heads of attention; divide `D` into heads of whole quarters.
    pub num_heads: usize,
    /// Colours of a pixel.
    pub in_channels: usize,
    /// Pixels of a side of the pictures whose patches have positions in the table.
    pub image_size: usize,
    /// Pixels of a patch's side.
    pub patch_size: usize,
    /// Pictures of a patch.
    pub temporal_patch_size: usize,
    /// Patches of a side that become one row, `m`.
    pub spatial_merge_size: usize,
    /// Neurons of a block's feed-forward.
    pub mlp_size: usize,
    /// Neurons of the merger's.
    pub merger_size: usize,
    /// Width of what comes out: the decoder's.
    pub out_hidden_size: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether `qkv` has a bias.
    pub attention_bias: bool,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Whether attention's output and the feed-forward have biases, and the heads of q and k are normed
    /// (`glm_ocr`).
    pub is_ocr: bool,
    /// The token in whose place a picture's rows stand.
    pub image_token_id: u32,
    /// That of a video's.
    pub video_token_id: u32,
}

/// An encoder that turns speech into rows: `glmasr`'s.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioConfig {
    /// Layers.
    pub num_hidden_layers: usize,
    /// Width of a frame's row.
    pub hidden_size: usize,
    /// Neurons of the feed-forward, and the width of the frames that become one row.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Bands of the spectrum.
    pub num_mel_bins: usize,
    /// The rotary embedding.
    pub rope: RopeParameters,
    /// Width of what comes out: the decoder's.
    pub out_hidden_size: usize,
    /// The token in whose place a recording's rows stand.
    pub audio_token_id: u32,
}

impl MediaConfig {
    /// The encoder that a `config.json` describes; `None` for a model of text.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file and the key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Option<Self>, ConfigError> {
        let path = path.as_ref();
        let value = read_json(path)?;
        let root = Fields::root(path, &value)?;
        let Some(family) = MediaFamily::of(root)? else { return Ok(None) };
        Ok(Some(match family {
            MediaFamily::Glm4v => Self::Vision(VisionConfig::parse(root, false)?),
            MediaFamily::GlmOcr => Self::Vision(VisionConfig::parse(root, true)?),
            MediaFamily::GlmAsr => Self::Audio(AudioConfig::parse(root)?),
        }))
    }

    /// The token in whose place a content's rows stand.
    pub fn token_id(&self) -> u32 {
        match self {
            Self::Vision(config) => config.image_token_id,
            Self::Audio(config) => config.audio_token_id,
        }
    }
}

impl MediaFamily {
    pub(super) fn of(root: Fields<'_>) -> Result<Option<Self>, ConfigError> {
        Ok(match root.string("model_type")? {
            Some("glm4v" | "glm46v") => Some(Self::Glm4v),
            Some("glm_ocr") => Some(Self::GlmOcr),
            Some("glmasr") => Some(Self::GlmAsr),
            Some(other @ ("glm4v_moe" | "glm4v_moe_text")) => {
                let supported = "glm4v, glm46v, glm_ocr, glmasr: no mixture of experts";
                return Err(unsupported(root, "model_type", other, supported));
            }
            _ => None,
        })
    }

    /// The decoder inside.
    pub(super) fn parse_text(self, root: Fields<'_>) -> Result<(GlmConfig, Layouts), ConfigError> {
        let text = object(root, "text_config")?;
        check_hidden_act(text)?;
        let key = "model_type";
        let (weights, mut config) = match (self, text.string(key)?) {
            (Self::Glm4v, None | Some("glm4v_text" | "glm46v_text")) => {
                (WeightLayout::GlmInMedia, parse_glm4v_text(text)?)
            }
            (Self::GlmOcr, None | Some("glm_ocr_text")) => {
                (WeightLayout::GlmInMedia, parse_ocr_text(text)?)
            }
            (Self::GlmAsr, None | Some("llama")) => {
                (WeightLayout::LlamaInMedia, LlamaFamily::GlmAsr.parse(text)?)
            }
            (_, Some(other)) => {
                let supported = "the dense decoder of its family";
                return Err(unsupported(text, key, other, supported));
            }
        };
        if let Some(tied) = root.boolean("tie_word_embeddings")? {
            config.tie_word_embeddings = tied;
        }
        if config.dtype.is_none() {
            config.dtype = parse_dtype(root)?;
        }
        let adapters = match weights {
            WeightLayout::LlamaInMedia => ProjectionLayout::Llama { head_dim: config.head_dim },
            _ => ProjectionLayout::Glm,
        };
        Ok((config, Layouts { weights, is_imported: false, adapters }))
    }
}

fn object<'a>(root: Fields<'a>, key: &'a str) -> Result<Fields<'a>, ConfigError> {
    let missing = || ConfigError::Missing { file: root.file().into(), key: root.path(key) };
    root.object(key)?.ok_or_else(missing)
}

/// What differs between the two decoders.
struct TextDefaults {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    max_positions: usize,
    attention_bias: bool,
    partial_rotary: f64,
}

/// How frequencies are shared out where the file does not say.
const MROPE_SECTION: [usize; 3] = [8, 12, 12];

fn parse_glm4v_text(text: Fields<'_>) -> Result<GlmConfig, ConfigError> {
    parse_text(
        text,
        TextDefaults {
            vocab_size: 151_552,
            hidden_size: 4096,
            intermediate_size: 13_696,
            layers: 40,
            heads: 32,
            kv_heads: 2,
            max_positions: 32_768,
            attention_bias: true,
            partial_rotary: 0.5,
        },
    )
}

fn parse_ocr_text(text: Fields<'_>) -> Result<GlmConfig, ConfigError> {
    parse_text(
        text,
        TextDefaults {
            vocab_size: 59_392,
            hidden_size: 1024,
            intermediate_size: 4096,
            layers: 16,
            heads: 16,
            kv_heads: 8,
            max_positions: 131_072,
            attention_bias: false,
            partial_rotary: 1.0,
        },
    )
}

fn parse_text(text: Fields<'_>, defaults: TextDefaults) -> Result<GlmConfig, ConfigError> {
    let hidden_size = text.size("hidden_size", defaults.hidden_size)?;
    let heads = text.size("num_attention_heads", defaults.heads)?;
    let max_position_embeddings = text.size("max_position_embeddings", defaults.max_positions)?;
    let mut rope = RopeParameters::parse(text, max_position_embeddings, defaults.partial_rotary)?;
    rope.mrope_section.get_or_insert(MROPE_SECTION);
    let head_dim = match text.value("head_dim") {
        Some(_) => text.size("head_dim", 0)?,
        None => split_heads(text, hidden_size, heads)?,
    };
    Ok(GlmConfig {
        model_type: ModelType::Glm4,
        hidden_size,
        num_hidden_layers: text.size("num_hidden_layers", defaults.layers)?,
        num_attention_heads: heads,
        num_key_value_heads: text.size("num_key_value_heads", defaults.kv_heads)?,
        head_dim,
        intermediate_size: text.size("intermediate_size", defaults.intermediate_size)?,
        vocab_size: text.size("vocab_size", defaults.vocab_size)?,
        rms_norm_eps: text.number("rms_norm_eps")?.unwrap_or(1e-5),
        attention_bias: defaults.attention_bias,
        tie_word_embeddings: text.boolean("tie_word_embeddings")?.unwrap_or(false),
        max_position_embeddings,
        rope,
        eos_token_ids: text.token_ids("eos_token_id")?.unwrap_or_default(),
        pad_token_id: text.token_id_or_none("pad_token_id")?,
        bos_token_id: text.token_id_or_none("bos_token_id")?,
        dtype: parse_dtype(text)?,
    })
}

/// Refuses a size of 0 or beyond what an encoder may have.
fn check_size(
    fields: Fields<'_>,
    key: &str,
    size: usize,
    most: usize,
) -> Result<usize, ConfigError> {
    if (1..=most).contains(&size) {
        return Ok(size);
    }
    let reason = format!("must be from 1 to {most}");
    Err(ConfigError::impossible(fields.file(), fields.path(key), size, reason))
}

fn dimension(fields: Fields<'_>, key: &str, default: usize) -> Result<usize, ConfigError> {
    check_size(fields, key, fields.size(key, default)?, MAX_DIMENSION)
}

fn layers(fields: Fields<'_>, key: &str, default: usize) -> Result<usize, ConfigError> {
    check_size(fields, key, fields.size(key, default)?, MAX_LAYERS)
}

fn eps(fields: Fields<'_>) -> Result<f64, ConfigError> {
    match fields.number("rms_norm_eps")?.unwrap_or(1e-5) {
        eps if eps > 0.0 && eps < 1.0 => Ok(eps),
        eps => {
            let (key, reason) = (fields.path("rms_norm_eps"), "must be above 0 and below 1");
            Err(ConfigError::impossible(fields.file(), key, eps, reason))
        }
    }
}

impl VisionConfig {
    fn parse(root: Fields<'_>, is_ocr: bool) -> Result<Self, ConfigError> {
        let vision = object(root, "vision_config")?;
        check_hidden_act(vision)?;
        let [hidden, heads, out, inner] =
            if is_ocr { [1024, 16, 1536, 4096] } else { [1536, 12, 4096, 13_696] };
        let hidden_size = dimension(vision, "hidden_size", hidden)?;
        let num_heads = dimension(vision, "num_heads", heads)?;
        let out_hidden_size = dimension(vision, "out_hidden_size", out)?;
        let intermediate_size = dimension(vision, "intermediate_size", inner)?;
        let in_channels = dimension(vision, "in_channels", 3)?;
        if in_channels != 3 {
            return Err(unsupported(vision, "in_channels", in_channels, "3"));
        }
        let (mlp_size, merger_size) = match is_ocr {
            true => (intermediate_size, out_hidden_size * in_channels),
            false => (out_hidden_size, intermediate_size),
        };
        if hidden_size % num_heads != 0 || !(hidden_size / num_heads).is_multiple_of(4) {
            let reason = format!("must cut hidden_size {hidden_size} into heads of whole quarters");
            let key = vision.path("num_heads");
            return Err(ConfigError::impossible(vision.file(), key, num_heads, reason));
        }
        let rope = vision.object("rope_parameters")?;
        let theta = rope.map(|rope| rope.number("rope_theta")).transpose()?.flatten();
        let rope_theta = theta.unwrap_or(10_000.0);
        if !(rope_theta > 1.0 && rope_theta <= f64::from(f32::MAX)) {
            let (key, reason) = (vision.path("rope_parameters.rope_theta"), "must be above 1");
            return Err(ConfigError::impossible(vision.file(), key, rope_theta, reason));
        }
        let [image, video] = if is_ocr { [59_280, 59_281] } else { [151_343, 151_344] };
        let config = Self {
            depth: layers(vision, "depth", 24)?,
            hidden_size,
            num_heads,
            in_channels,
            image_size: dimension(vision, "image_size", 336)?,
            patch_size: dimension(vision, "patch_size", 14)?,
            temporal_patch_size: dimension(vision, "temporal_patch_size", 2)?,
            spatial_merge_size: dimension(vision, "spatial_merge_size", 2)?,
            mlp_size,
            merger_size,
            out_hidden_size,
            rms_norm_eps: eps(vision)?,
            attention_bias: vision.boolean("attention_bias")?.unwrap_or(is_ocr),
            rope_theta,
            is_ocr,
            image_token_id: root.token_id("image_token_id")?.unwrap_or(image),
            video_token_id: root.token_id("video_token_id")?.unwrap_or(video),
        };
        let patch = config.patch_width();
        check_size(vision, "patch_size", patch, MAX_DIMENSION)?;
        if config.image_size < config.patch_size {
            let reason = format!("is less than patch_size, {}", config.patch_size);
            let (key, value) = (vision.path("image_size"), config.image_size);
            return Err(ConfigError::impossible(vision.file(), key, value, reason));
        }
        check_width(root, out_hidden_size, vision.path("out_hidden_size"))?;
        Ok(config)
    }

    /// Values of a patch.
    pub fn patch_width(&self) -> usize {
        let pixels = self.patch_size.saturating_mul(self.patch_size);
        pixels.saturating_mul(self.in_channels * self.temporal_patch_size)
    }

    /// Patches of a side whose positions are in the table.
    pub fn table_side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Elements of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }
}

impl AudioConfig {
    fn parse(root: Fields<'_>) -> Result<Self, ConfigError> {
        let audio = object(root, "audio_config")?;
        for (fields, key) in [(audio, "hidden_act"), (root, "projector_hidden_act")] {
            match fields.string(key)?.unwrap_or("gelu") {
                "gelu" => {}
                other => return Err(unsupported(fields, key, other, "gelu")),
            }
        }
        let hidden_size = dimension(audio, "hidden_size", 1280)?;
        let heads = dimension(audio, "num_attention_heads", 20)?;
        let kv_heads = match audio.value("num_key_value_heads") {
            Some(_) => dimension(audio, "num_key_value_heads", heads)?,
            None => heads,
        };
        if hidden_size % heads != 0 || heads % kv_heads != 0 {
            let reason =
                format!("must divide hidden_size {hidden_size} and be whole groups of {kv_heads}");
            let key = audio.path("num_attention_heads");
            return Err(ConfigError::impossible(audio.file(), key, heads, reason));
        }
        let intermediate_size = dimension(audio, "intermediate_size", 5120)?;
        if !intermediate_size.is_multiple_of(hidden_size) {
            let reason = format!("must be whole frames of hidden_size {hidden_size}");
            let key = audio.path("intermediate_size");
            return Err(ConfigError::impossible(audio.file(), key, intermediate_size, reason));
        }
        let positions = dimension(audio, "max_position_embeddings", 1500)?;
        let rope = RopeParameters::parse(audio, positions, 0.5)?;
        let rotary = (hidden_size / heads) as f64 * rope.partial_rotary_factor;
        if !(rotary as usize).is_multiple_of(2) || rotary < 2.0 {
            let reason = "must rotate an even number of elements of a head";
            let (key, value) = (audio.path("partial_rotary_factor"), rope.partial_rotary_factor);
            return Err(ConfigError::impossible(audio.file(), key, value, reason));
        }
        let text = object(root, "text_config")?;
        let out_hidden_size = dimension(text, "hidden_size", 2048)?;
        Ok(Self {
            num_hidden_layers: layers(audio, "num_hidden_layers", 32)?,
            hidden_size,
            intermediate_size,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            num_mel_bins: dimension(audio, "num_mel_bins", 128)?,
            rope,
            out_hidden_size,
            audio_token_id: root.token_id("audio_token_id")?.unwrap_or(59_260),
        })
    }

    /// Elements of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Elements of a head that are rotated.
    pub fn rotary_dim(&self) -> usize {
        (self.head_dim() as f64 * self.rope.partial_rotary_factor) as usize
    }

    /// Frames of the encoder that become one row.
    pub fn merged_frames(&self) -> usize {
        self.intermediate_size / self.hidden_size
    }
}

/// Refuses a tower whose rows are not as wide as the decoder's.
fn check_width(root: Fields<'_>, width: usize, key: String) -> Result<(), ConfigError> {
    let text = object(root, "text_config")?;
    match text.integer("hidden_size")? {
        Some(hidden) if hidden != width as u64 => {
            let reason = format!("must be text_config.hidden_size, {hidden}");
            Err(ConfigError::impossible(root.file(), key, width, reason))
        }
        _ => Ok(()),
    }
}
