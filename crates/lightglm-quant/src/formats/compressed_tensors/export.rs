//! `export_compressed_tensors`: a model folder that vLLM and transformers load.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row, `b` bits of a code.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use half::{bf16, f16};
use lightglm_core::{
    SafetensorsWriter, StoredDtype, TensorSpec, WeightDtype, WeightError, WeightSource,
    temporary_in,
};
use lightglm_kernels::{ActivationFormat, QuantizedMatrix, WeightBits};
use serde_json::{Map, Value};

use super::config::config_value;
use super::packing::{pack, per_word};
use super::{CompressedFormat, WeightArgs, WeightStrategy};
use crate::formats::FormatError;
use crate::{Granularity, QuantError, WeightScheme};

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// How a model is exported.
#[derive(Clone, Debug)]
pub struct CompressedTensorsScheme {
    /// Where codes and scales lie.
    pub format: CompressedFormat,
    /// How weights became codes; the same for all layers.
    pub weights: WeightArgs,
    /// How inputs are quantized at run time, or `None` where they are not.
    pub activation: Option<ActivationFormat>,
    /// Precision of the stored scales. F32 is always exact, and what the package computes with then;
    /// a 16-bit one is refused where it would round a scale.
    pub scale_dtype: WeightDtype,
}

impl CompressedTensorsScheme {
    /// `int-quantized`: INT8 weights per output channel, INT8 activations per token. What vLLM calls
    /// W8A8 INT8.
    pub const W8A8: Self = Self {
        format: CompressedFormat::IntQuantized,
        weights: WeightArgs {
            bits: WeightBits::Eight,
            strategy: WeightStrategy::Channel,
            symmetric: true,
        },
        activation: Some(ActivationFormat::INT8_PER_TOKEN),
        scale_dtype: WeightDtype::F32,
    };

    /// `pack-quantized`: INT4 weights in groups of `group_size` columns, activations as they are.
    /// What vLLM calls W4A16.
    pub const fn w4a16(group_size: usize, symmetric: bool) -> Self {
        Self {
            format: CompressedFormat::PackQuantized,
            weights: WeightArgs {
                bits: WeightBits::Four,
                strategy: WeightStrategy::Group(group_size),
                symmetric,
            },
            activation: None,
            scale_dtype: WeightDtype::F32,
        }
    }

    /// The scheme that weights must be quantized with.
    pub fn weight_scheme(&self) -> WeightScheme {
        WeightScheme {
            bits: self.weights.bits,
            granularity: match self.weights.strategy {
                WeightStrategy::Group(size) => Granularity::PerGroup(size),
                _ => Granularity::PerChannel,
            },
            symmetric: self.weights.symmetric,
            scale_dtype: match self.scale_dtype {
                WeightDtype::F16 => lightglm_kernels::ScaleDtype::F16,
                _ => lightglm_kernels::ScaleDtype::F32,
            },
        }
    }

    fn group_size(&self, k: usize) -> usize {
        match self.weights.strategy {
            WeightStrategy::Group(size) => size,
            _ => k.max(1),
        }
    }
}

/// Writes `config.json` and `model.safetensors` to the folder `dir`, creating it: the layers of
/// `source` that are not in `ignore` in the form of `scheme`, everything else as `source` has it.
///
/// Layers are the tensors `*.weight` of two dimensions, less `embed_tokens`; `ignore` has their names
/// without `.weight`, usually `lm_head`. `config` is the model's config.json, to which
/// `quantization_config` is added. `quantize` makes a layer's matrix from its name; it is called for
/// one after the other, and what it returned is dropped once it is written.
///
/// `progress` is told the bytes written since it was last called, and may break off. The weights get
/// their name when they are complete, config.json comes last; nothing unfinished stays behind.
///
/// # Errors
/// [`FormatError::Shape`] where a row is no whole number of groups; [`FormatError::Scheme`],
/// [`FormatError::Minimum`], [`FormatError::InexactScale`] for matrices that the scheme cannot hold;
/// [`FormatError::Unsupported`] for strategy `tensor`; [`FormatError::Quantize`] as `quantize` says;
/// [`FormatError::Weights`], with [`io::ErrorKind::Interrupted`] where `progress` broke off.
pub fn export_compressed_tensors(
    dir: impl AsRef<Path>,
    source: &dyn WeightSource,
    config: &Map<String, Value>,
    scheme: &CompressedTensorsScheme,
    ignore: &[String],
    quantize: &mut dyn FnMut(&str) -> Result<QuantizedMatrix, QuantError>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), FormatError> {
    let dir = dir.as_ref();
    let io = |file: &Path, source| WeightError::Io { file: file.into(), source };
    let (specs, layers) = plan(source, scheme, ignore)?;
    fs::create_dir_all(dir).map_err(|source| io(dir, source))?;
    let file = dir.join(FILE);
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer = SafetensorsWriter::create(&file, specs, &metadata)?;
    // The parts of a layer stand together unless their sizes keep them apart; those wait here.
    let mut waiting: HashMap<String, Vec<u8>> = HashMap::new();
    for spec in writer.order().to_vec() {
        // A layer's bias stays as it is.
        let layer = spec.name.rsplit_once('.').filter(|(_, part)| part.starts_with("weight"));
        let layer = layer.map(|(layer, _)| layer);
        let shape = layer.and_then(|layer| layers.get(layer).map(|shape| (layer, *shape)));
        let written = if let Some(bytes) = waiting.remove(&spec.name) {
            writer.write(&bytes)?;
            bytes.len()
        } else if let Some((layer, shape)) = shape {
            let matrix = quantize(layer)?;
            check_matrix(layer, &matrix, shape, scheme)?;
            let parts = parts(layer, &matrix, scheme)?;
            drop(matrix);
            waiting.extend(
                parts.into_iter().map(|(suffix, part)| (format!("{layer}.{suffix}"), part)),
            );
            let bytes = waiting.remove(&spec.name).expect("every planned part is made");
            writer.write(&bytes)?;
            bytes.len()
        } else {
            let tensor = source.tensor(&spec.name)?;
            writer.write(&tensor.bytes)?;
            tensor.bytes.len()
        };
        if progress(written as u64).is_break() {
            return Err(io(&file, io::ErrorKind::Interrupted.into()).into());
        }
    }
    writer.finish()?;
    // What a reader would prefer to the file just written.
    let stale = dir.join(INDEX);
    match fs::remove_file(&stale) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(io(&stale, source).into());
        }
        _ => {}
    }
    let mut config = config.clone();
    let mut ignore = ignore.to_vec();
    if !layers.contains_key("lm_head") && !ignore.iter().any(|name| name == "lm_head") {
        // Tied to the embeddings: a module without a tensor of its own.
        ignore.push("lm_head".to_owned());
    }
    let quantization = config_value(scheme.format, &scheme.weights, scheme.activation, &ignore);
    config.insert("quantization_config".into(), quantization);
    write_text(&dir.join("config.json"), &format!("{:#}\n", Value::Object(config)))?;
    Ok(())
}

/// The tensors of the file, and the shapes of the layers among them.
type Plan = (Vec<TensorSpec>, BTreeMap<String, [usize; 2]>);

fn plan(
    source: &dyn WeightSource,
    scheme: &CompressedTensorsScheme,
    ignore: &[String],
) -> Result<Plan, FormatError> {
    if scheme.weights.strategy == WeightStrategy::Tensor {
        let (field, value) = ("strategy".into(), "tensor".into());
        return Err(FormatError::Unsupported { field, value, supported: "channel or group" });
    }
    let (mut specs, mut layers) = (Vec::new(), BTreeMap::new());
    for name in source.names() {
        let shape = source.shape(&name).unwrap_or_default();
        let layer = name.strip_suffix(".weight").filter(|layer| {
            !layer.ends_with("embed_tokens") && !ignore.iter().any(|ignored| ignored == layer)
        });
        let ([n, k], Some(layer)) = (&shape[..], layer) else {
            let dtype = source.tensor(&name)?.dtype.into();
            specs.push(TensorSpec { name, dtype, shape });
            continue;
        };
        let (n, k) = (*n, *k);
        let group_size = scheme.group_size(k);
        if group_size == 0 || !k.is_multiple_of(group_size) {
            let expected = format!("rows of a multiple of {group_size} columns");
            return Err(FormatError::Shape { name, actual: shape, expected });
        }
        let (bits, groups) = (scheme.weights.bits, k / group_size);
        let mut spec = |suffix: &str, dtype, shape: &[usize]| {
            let name = format!("{layer}.{suffix}");
            specs.push(TensorSpec { name, dtype, shape: shape.into() });
        };
        let words = |codes: usize| codes.div_ceil(per_word(bits));
        let packed = scheme.format == CompressedFormat::PackQuantized;
        match packed {
            false => spec("weight", StoredDtype::I8, &[n, k]),
            true => spec("weight_packed", StoredDtype::I32, &[n, words(k)]),
        }
        spec("weight_scale", scheme.scale_dtype.into(), &[n, groups]);
        if !scheme.weights.symmetric {
            match packed {
                false => spec("weight_zero_point", StoredDtype::I8, &[n, groups]),
                true => spec("weight_zero_point", StoredDtype::I32, &[words(n), groups]),
            }
        }
        if packed {
            spec("weight_shape", StoredDtype::I64, &[2]);
        }
        layers.insert(layer.to_owned(), [n, k]);
    }
    Ok((specs, layers))
}

fn check_matrix(
    layer: &str,
    matrix: &QuantizedMatrix,
    shape: [usize; 2],
    scheme: &CompressedTensorsScheme,
) -> Result<(), FormatError> {
    let check = matrix.check();
    check.map_err(|source| FormatError::Matrix { name: layer.to_owned(), source })?;
    let differ = |part, actual: String, expected: String| match actual == expected {
        true => Ok(()),
        false => Err(FormatError::Scheme { name: layer.to_owned(), part, actual, expected }),
    };
    let k = shape[1].max(1);
    differ("shape", format!("{:?}", matrix.shape), format!("{shape:?}"))?;
    let bits = |bits: WeightBits| bits.count().to_string();
    differ("bits", bits(matrix.bits), bits(scheme.weights.bits))?;
    let (actual, expected) = (matrix.group_size.min(k), scheme.group_size(k).min(k));
    differ("group_size", actual.to_string(), expected.to_string())?;
    // A symmetric matrix can stand in a scheme with zero points: they are all the same.
    if scheme.weights.symmetric && matrix.minimums.is_some() {
        return differ("minimums", "some".into(), "none".into());
    }
    Ok(())
}

/// The parts of a layer by their suffixes.
fn parts(
    layer: &str,
    matrix: &QuantizedMatrix,
    scheme: &CompressedTensorsScheme,
) -> Result<Vec<(&'static str, Vec<u8>)>, FormatError> {
    let ([n, k], bits) = (matrix.shape, matrix.bits);
    let signed = |code: &u8| code.wrapping_sub(bits.offset());
    let scales = scale_bytes(layer, matrix, scheme.scale_dtype)?;
    let zeros = match scheme.weights.symmetric {
        true => None,
        false => Some(zeros(layer, matrix)?),
    };
    let mut parts = vec![("weight_scale", scales)];
    if scheme.format == CompressedFormat::IntQuantized {
        parts.push(("weight", matrix.codes.iter().map(signed).collect()));
        parts.extend(zeros.map(|zeros| ("weight_zero_point", zeros.iter().map(signed).collect())));
        return Ok(parts);
    }
    let mut packed = Vec::with_capacity(n * k.div_ceil(per_word(bits)) * 4);
    for row in matrix.codes.chunks_exact(k.max(1)) {
        pack(row.iter().copied(), bits, &mut packed);
    }
    parts.push(("weight_packed", packed));
    let shape = [n as i64, k as i64];
    parts.push(("weight_shape", shape.iter().flat_map(|d| d.to_le_bytes()).collect()));
    if let Some(zeros) = zeros {
        parts.push(("weight_zero_point", pack_columns(&zeros, n, matrix.groups(), bits)));
    }
    Ok(parts)
}

/// `zeros: [N, G]` packed along the rows: `[ceil(N b / 32), G]` words.
fn pack_columns(zeros: &[u8], n: usize, groups: usize, bits: WeightBits) -> Vec<u8> {
    let mut packed = Vec::with_capacity(n.div_ceil(per_word(bits)) * groups * 4);
    for first in (0..n).step_by(per_word(bits)) {
        let rows = first..n.min(first + per_word(bits));
        for group in 0..groups {
            pack(rows.clone().map(|row| zeros[row * groups + group]), bits, &mut packed);
        }
    }
    packed
}

/// The code that stands for zero in each group: `[N, G]`.
fn zeros(layer: &str, matrix: &QuantizedMatrix) -> Result<Vec<u8>, FormatError> {
    let Some(minimums) = &matrix.minimums else {
        return Ok(vec![matrix.bits.offset(); matrix.scales.len()]);
    };
    let zero = |(at, (&minimum, &scale)): (usize, (&f32, &f32))| {
        // 0 / 0 where a scale is 0, which any zero point fits.
        let zero = (-minimum / scale).round_ties_even();
        let zero = if zero.is_nan() { 0.0 } else { zero };
        let fits = (0.0..=f32::from(matrix.bits.largest())).contains(&zero);
        match fits && -(zero * scale) == minimum {
            true => Ok(zero as u8),
            false => {
                let (name, row) = (layer.to_owned(), at / matrix.groups());
                Err(FormatError::Minimum { name, row, minimum, scale })
            }
        }
    };
    minimums.iter().zip(&matrix.scales).enumerate().map(zero).collect()
}

fn scale_bytes(
    layer: &str,
    matrix: &QuantizedMatrix,
    dtype: WeightDtype,
) -> Result<Vec<u8>, FormatError> {
    let exact = |at: usize, scale: f32, stored: f32| match stored == scale {
        true => Ok(()),
        false => Err(FormatError::InexactScale {
            name: layer.to_owned(),
            row: at / matrix.groups(),
            scale,
            dtype: dtype.name(),
        }),
    };
    let mut bytes = Vec::with_capacity(matrix.scales.len() * dtype.size());
    for (at, &scale) in matrix.scales.iter().enumerate() {
        match dtype {
            WeightDtype::F32 => bytes.extend(scale.to_le_bytes()),
            WeightDtype::F16 => {
                let stored = f16::from_f32(scale);
                exact(at, scale, stored.to_f32())?;
                bytes.extend(stored.to_le_bytes());
            }
            WeightDtype::Bf16 => {
                let stored = bf16::from_f32(scale);
                exact(at, scale, stored.to_f32())?;
                bytes.extend(stored.to_le_bytes());
            }
        }
    }
    Ok(bytes)
}

fn write_text(file: &Path, text: &str) -> Result<(), WeightError> {
    let write = || -> io::Result<()> {
        let mut out = temporary_in(file.parent().unwrap_or(Path::new(".")))?;
        out.write_all(text.as_bytes())?;
        out.as_file().sync_all()?;
        out.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| WeightError::Io { file: file.into(), source })
}
