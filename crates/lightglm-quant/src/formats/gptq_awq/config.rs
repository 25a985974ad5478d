//! `GptqAwqConfig`: the `quantization_config` of a config.json whose `quant_method` is `gptq` or `awq`.

use lightglm_kernels::WeightBits;
use serde_json::Value;

use crate::formats::FormatError;
use crate::formats::fields::Fields;

/// Most columns of a group that are believed.
const LARGEST_GROUP: i64 = 1 << 30;

/// How codes and zero points stand in the words of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WordLayout {
    /// GPTQ's, zero points less 1.
    Gptq,
    /// GPTQ's, zero points as they are.
    GptqV2,
    /// AWQ's, version `gemm`.
    AwqGemm,
}

/// The `quantization_config` of a GPTQ or AWQ folder, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GptqAwqConfig {
    /// How words are laid out.
    pub layout: WordLayout,
    /// Bits of a code.
    pub bits: WeightBits,
    /// Columns that share a scale; `None` where a row does.
    pub group_size: Option<usize>,
    /// Whether all zero points are in the middle.
    pub symmetric: bool,
    /// Whether columns may have been quantized in another order, and grouped in it.
    pub desc_act: bool,
}

impl GptqAwqConfig {
    /// The configuration in the value of `quantization_config`.
    ///
    /// # Errors
    /// [`FormatError::MissingField`], [`FormatError::Field`] or [`FormatError::Unsupported`] with the
    /// field's path.
    pub fn from_value(value: &Value) -> Result<Self, FormatError> {
        let fields = Fields::new(value, "quantization_config")?;
        fields.require("quant_method")?;
        match fields.text("quant_method")? {
            Some("gptq") => Self::gptq(fields),
            Some("awq") => Self::awq(fields),
            _ => Err(fields.unsupported("quant_method", "gptq or awq")),
        }
    }

    fn gptq(fields: Fields<'_>) -> Result<Self, FormatError> {
        let mut layout = WordLayout::Gptq;
        for name in ["checkpoint_format", "format"] {
            layout = match fields.text(name)? {
                None => layout,
                Some("gptq") => WordLayout::Gptq,
                Some("gptq_v2") => WordLayout::GptqV2,
                Some(_) => return Err(fields.unsupported(name, "gptq or gptq_v2")),
            };
        }
        if fields.flag("is_marlin_format")? == Some(true) {
            return Err(fields.unsupported("is_marlin_format", "false"));
        }
        if !matches!(fields.text("pack_dtype")?, None | Some("int32")) {
            return Err(fields.unsupported("pack_dtype", "int32"));
        }
        // What changes a layer beyond its own tensors.
        for name in ["rotation", "adapter"] {
            if fields.get(name).is_some() {
                return Err(fields.unsupported(name, "null"));
            }
        }
        // Layers that are left out say so by their tensors; those with fields of their own do not.
        if let Some(Value::Object(patterns)) = fields.get("dynamic")
            && patterns.keys().any(|pattern| !pattern.starts_with("-:"))
        {
            return Err(fields.unsupported("dynamic", "patterns that begin with -:"));
        }
        let bits = match fields.integer("bits")? {
            None => return Err(FormatError::MissingField { field: fields.path("bits") }),
            Some(4) => WeightBits::Four,
            Some(8) => WeightBits::Eight,
            Some(_) => return Err(fields.unsupported("bits", "4 or 8")),
        };
        Ok(Self {
            layout,
            bits,
            group_size: group_size(fields, "group_size")?,
            symmetric: fields.flag("sym")?.unwrap_or(true),
            desc_act: fields.flag("desc_act")?.unwrap_or(false),
        })
    }

    fn awq(fields: Fields<'_>) -> Result<Self, FormatError> {
        for name in ["version", "format", "checkpoint_format"] {
            if !fields.text(name)?.is_none_or(|version| version.eq_ignore_ascii_case("gemm")) {
                return Err(fields.unsupported(name, "gemm"));
            }
        }
        // AutoAWQ's own names, and transformers'.
        let either = |first, second| if fields.get(first).is_some() { first } else { second };
        let bits = either("bits", "w_bit");
        match fields.integer(bits)? {
            None => return Err(FormatError::MissingField { field: fields.path("bits") }),
            Some(4) => {}
            Some(_) => return Err(fields.unsupported(bits, "4")),
        }
        Ok(Self {
            layout: WordLayout::AwqGemm,
            bits: WeightBits::Four,
            group_size: group_size(fields, either("group_size", "q_group_size"))?,
            symmetric: false,
            desc_act: false,
        })
    }
}

fn group_size(fields: Fields<'_>, name: &str) -> Result<Option<usize>, FormatError> {
    match fields.integer(name)? {
        None => Err(FormatError::MissingField { field: fields.path(name) }),
        Some(-1) => Ok(None),
        Some(size @ 1..=LARGEST_GROUP) => Ok(Some(size as usize)),
        Some(_) => Err(fields.wrong(name, "a positive number of columns, or -1")),
    }
}
