//! `GptqAwqCheckpoint`: a GPTQ or AWQ folder's packed tensors as matrices.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lightglm_core::{TensorView, WeightError, WeightSource};
use lightglm_kernels::{QuantizedMatrix, ScaleDtype, page_out};

use super::words::{along_inputs, along_outputs, per_word};
use super::{GptqAwqConfig, WordLayout};
use crate::formats::imported::{Part, UNROUNDED, dequantized};
use crate::formats::{FormatError, ImportedCheckpoint, ImportedLayer};
use crate::{Granularity, QuantizedScheme, WeightScheme};

/// The tensor that makes a layer one that is quantized.
const CODES: &str = ".qweight";

/// Tensors that belong to a quantized layer, its codes among them.
const PARTS: [&str; 4] = ["qweight", "qzeros", "scales", "g_idx"];

/// A checkpoint in the layouts of GPTQ or AWQ.
pub struct GptqAwqCheckpoint<'a> {
    source: &'a dyn WeightSource,
    config: GptqAwqConfig,
    path: PathBuf,
    layers: BTreeSet<String>,
}

impl<'a> GptqAwqCheckpoint<'a> {
    /// The checkpoint whose tensors are in `source`; `path` is what errors call it.
    pub fn new(
        source: &'a dyn WeightSource,
        config: GptqAwqConfig,
        path: impl Into<PathBuf>,
    ) -> Self {
        let names = source.names().into_iter();
        let layers = names.filter_map(|name| Some(name.strip_suffix(CODES)?.to_owned())).collect();
        Self { source, config, path: path.into(), layers }
    }

    /// `[N, K]` of a quantized layer.
    fn matrix_shape(&self, layer: &str) -> Option<[usize; 2]> {
        let [rows, columns] = self.source.shape(&format!("{layer}{CODES}"))?.try_into().ok()?;
        let p = per_word(self.config.bits);
        let (n, k) = match self.config.layout {
            WordLayout::Gptq | WordLayout::GptqV2 => (columns, rows.checked_mul(p)?),
            WordLayout::AwqGemm => (columns.checked_mul(p)?, rows),
        };
        n.checked_mul(k)?.checked_mul(4).map(|_| [n, k])
    }

    fn words(&self, layer: &str, part: &str) -> Result<Part, FormatError> {
        Part::read(self.source, &format!("{layer}.{part}"), &["I32"], "I32")
    }

    /// Refuses columns that are not grouped as they stand.
    fn check_order(&self, layer: &str, k: usize, group_size: usize) -> Result<(), FormatError> {
        let name = format!("{layer}.g_idx");
        if self.source.shape(&name).is_none_or(|shape| shape == [0]) {
            return match self.config.desc_act {
                true => Err(FormatError::ActivationOrder { name }),
                false => Ok(()),
            };
        }
        let part = Part::read(self.source, &name, &["I32", "I64"], "I32")?;
        if part.tensor.shape != [k] {
            return Err(part.error(&format!("[{k}]")));
        }
        let size = if part.tensor.dtype == "I64" { 8 } else { 4 };
        let bytes = part.bytes(size)?;
        let is_in_order = bytes.chunks_exact(size).enumerate().all(|(column, bytes)| {
            let group = (column / group_size) as u64;
            bytes == &group.to_le_bytes()[..size]
        });
        if is_in_order { Ok(()) } else { Err(FormatError::ActivationOrder { name }) }
    }

    /// Zero points: `[N, G]`.
    fn zeros(&self, layer: &str, n: usize, groups: usize) -> Result<Vec<u8>, FormatError> {
        let GptqAwqConfig { layout, bits, .. } = self.config;
        let part = self.words(layer, "qzeros")?;
        let words = n / per_word(bits);
        if part.tensor.shape != [groups, words] || !n.is_multiple_of(per_word(bits)) {
            return Err(part.error(&format!("[{groups}, {n} / {}]", per_word(bits))));
        }
        Ok(along_outputs(&part.bytes(4)?, [n, groups], bits, layout))
    }

    /// Scales: `[N, G]`.
    fn scales(&self, layer: &str, n: usize, groups: usize) -> Result<Vec<f32>, FormatError> {
        let part = Part::of_floats(self.source, &format!("{layer}.scales"))?;
        if part.tensor.shape != [groups, n] {
            return Err(part.error(&format!("[{groups}, {n}]")));
        }
        let values = part.floats()?;
        let of_row = |row: usize| (0..groups).map(move |group| group * n + row);
        Ok((0..n).flat_map(of_row).map(|at| values[at]).collect())
    }

    fn layer_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_suffix(".weight").filter(|layer| self.is_quantized(layer))
    }

    /// Whether the tensor is a part of a quantized layer.
    fn is_part(&self, name: &str) -> bool {
        let split = name.rsplit_once('.');
        split.is_some_and(|(layer, part)| self.is_quantized(layer) && PARTS.contains(&part))
    }
}

impl ImportedCheckpoint for GptqAwqCheckpoint<'_> {
    fn layers(&self) -> Vec<String> {
        self.layers.iter().cloned().collect()
    }

    fn is_quantized(&self, name: &str) -> bool {
        self.layers.contains(name)
    }

    fn scheme(&self, _: &str) -> Result<QuantizedScheme, FormatError> {
        let GptqAwqConfig { bits, group_size, symmetric, .. } = self.config;
        Ok(QuantizedScheme {
            weight: WeightScheme {
                bits,
                granularity: group_size.map_or(Granularity::PerChannel, Granularity::PerGroup),
                symmetric,
                scale_dtype: ScaleDtype::F32,
            },
            activation: UNROUNDED,
        })
    }

    fn layer(&self, name: &str) -> Result<ImportedLayer, FormatError> {
        let GptqAwqConfig { layout, bits, group_size, symmetric, .. } = self.config;
        let words = self.words(name, "qweight")?;
        words.matrix()?;
        let shape = self.matrix_shape(name);
        let [n, k] = shape.ok_or_else(|| words.error("a matrix that memory can hold"))?;
        let group_size = group_size.unwrap_or(k).min(k);
        let groups = k.div_ceil(group_size);
        // The small parts first: what does not fit is found before the codes are read.
        self.check_order(name, k, group_size)?;
        let scales = self.scales(name, n, groups)?;
        let zeros = self.zeros(name, n, groups)?;
        let minimums = match symmetric {
            true => {
                if zeros.iter().any(|&zero| zero != bits.offset()) {
                    let name = format!("{name}.qzeros");
                    return Err(FormatError::UnexpectedZeroPoints { name });
                }
                None
            }
            false => {
                let minimum = |(zero, scale): (&u8, &f32)| -(f32::from(*zero) * scale);
                Some(zeros.iter().zip(&scales).map(minimum).collect())
            }
        };
        let bytes = words.bytes(4)?;
        let codes = match layout {
            WordLayout::Gptq | WordLayout::GptqV2 => along_inputs(&bytes, [n, k], bits),
            WordLayout::AwqGemm => along_outputs(&bytes, [n, k], bits, layout),
        };
        // The file's pages would count as memory beside what is made of them.
        words.tensor.parts.iter().for_each(|part| page_out(part));
        let matrix = QuantizedMatrix { shape: [n, k], bits, group_size, codes, scales, minimums };
        let check = matrix.check();
        check.map_err(|source| FormatError::Matrix { name: name.to_owned(), source })?;
        Ok(ImportedLayer { matrix, activation: None })
    }
}

impl WeightSource for GptqAwqCheckpoint<'_> {
    fn names(&self) -> Vec<String> {
        let names = self.source.names().into_iter();
        let mut names: BTreeSet<String> = names.filter(|name| !self.is_part(name)).collect();
        names.extend(self.layers.iter().map(|layer| format!("{layer}.weight")));
        names.into_iter().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.layer_of(name) {
            Some(layer) => Some(self.matrix_shape(layer)?.into()),
            None => self.source.shape(name),
        }
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        match self.layer_of(name) {
            Some(layer) => dequantized(self.layer(layer), &self.path, "GPTQ or AWQ checkpoint"),
            None => self.source.tensor(name),
        }
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.source.metadata(key)
    }
}
