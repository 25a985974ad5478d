//! `LlamaCheckpoint`: safetensors in the layout of Llama, Mistral and Qwen as a weight source of the decoder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lightglm_core::{ProjectionLayout, StoredTensor, TensorView, WeightError, WeightSource};

use super::joined::joined;
use super::safetensors::SafetensorsCheckpoint;
use crate::config::GlmConfig;

/// What both errors of a file that contradicts itself call the format.
const FORMAT: &str = "Llama checkpoint";

/// A folder (or any other source of its tensors) whose `config.json` says `llama`, `mistral`, `qwen2` or `qwen3`, under the names of the GLM decoder.
///
/// Rows of `q_proj` and `k_proj`, and elements of their norms, come in the order in which the decoder rotates them, `gate_proj` and
/// `up_proj` stacked as one projection, gate's rows first. Those are copied at each call of `tensor`; all
/// others are views of the mapping.
#[derive(Clone, Debug)]
pub struct LlamaCheckpoint<S = SafetensorsCheckpoint> {
    file: S,
    /// What errors call it.
    path: PathBuf,
    layout: ProjectionLayout,
    /// By the decoder's names.
    origins: BTreeMap<String, Origin>,
}

/// Where a tensor comes from.
#[derive(Clone, Debug)]
enum Origin {
    /// The file's tensor of the same name.
    Same,
    /// The file's tensor of the same name, its rows in another order.
    Reordered,
    /// Two tensors of the file, one below the other.
    Stacked([String; 2]),
}

impl<S: WeightSource> LlamaCheckpoint<S> {
    /// The tensors of `file`, which errors call `path`, for a model of `config`, whose heads have
    /// `config.head_dim` elements.
    ///
    /// A bias that the decoder has no place for is passed over where it is zero.
    ///
    /// # Errors
    /// [`WeightError::Missing`] for half of a feed-forward; [`WeightError::Malformed`] for halves that do
    /// not fit, for rows that make no whole heads, and for a bias outside of q, k and v that is not zero.
    pub fn new(file: S, path: &Path, config: &GlmConfig) -> Result<Self, WeightError> {
        let layout = ProjectionLayout::Llama { head_dim: config.head_dim };
        let mut origins = BTreeMap::new();
        for name in file.names() {
            if let Some(layer) = name.strip_suffix("gate_proj.weight") {
                let up = format!("{layer}up_proj.weight");
                let halves = Origin::Stacked([name.clone(), up]);
                origins.insert(format!("{layer}gate_up_proj.weight"), halves);
            } else if let Some(layer) = name.strip_suffix("up_proj.weight") {
                let gate = format!("{layer}gate_proj.weight");
                if file.shape(&gate).is_none() {
                    return Err(missing(path, gate));
                }
            } else if !(is_other_bias(&name) && is_zero(&file.tensor(&name)?.bytes)) {
                let reordered = is_reordered(layout, &name);
                let origin = if reordered { Origin::Reordered } else { Origin::Same };
                origins.insert(name, origin);
            }
        }
        let checkpoint = Self { file, path: path.to_owned(), layout, origins };
        checkpoint.check(config)?;
        Ok(checkpoint)
    }

    /// The file with its own names.
    pub fn file(&self) -> &S {
        &self.file
    }

    fn check(&self, config: &GlmConfig) -> Result<(), WeightError> {
        let head_dim = config.head_dim;
        for (name, origin) in &self.origins {
            match origin {
                Origin::Same if is_other_bias(name) => {
                    let reason = format!("`{name}` is not zero, and the decoder has no such bias");
                    return Err(self.malformed(reason));
                }
                Origin::Same => {}
                Origin::Reordered => {
                    let shape = self.file.shape(name).unwrap_or_default();
                    if !shape.first().is_some_and(|rows| rows.is_multiple_of(head_dim)) {
                        let reason = format!("`{name}` {shape:?} has no heads of {head_dim} rows");
                        return Err(self.malformed(reason));
                    }
                }
                Origin::Stacked([gate, up]) => {
                    if self.file.shape(up).is_none() {
                        return Err(missing(&self.path, up.clone()));
                    }
                    if self.stacked(gate, up).is_none() {
                        let of = |name: &str| self.file.shape(name).unwrap_or_default();
                        let (first, second) = (of(gate), of(up));
                        let reason =
                            format!("`{gate}` is {first:?}, beside an up projection of {second:?}");
                        return Err(self.malformed(reason));
                    }
                }
            }
        }
        // Where the decoder's name stands for two of the file's, the file's is the one to say.
        let without = |layer: &usize| !self.origins.contains_key(&mlp(*layer, "gate_up_proj"));
        match (0..config.num_hidden_layers).find(without) {
            Some(layer) => Err(missing(&self.path, mlp(layer, "gate_proj"))),
            None => Ok(()),
        }
    }

    fn malformed(&self, reason: String) -> WeightError {
        WeightError::Malformed { file: self.path.clone(), format: FORMAT, reason }
    }

    /// The shape of two matrices, one below the other; `None` where they do not fit.
    fn stacked(&self, first: &str, second: &str) -> Option<Vec<usize>> {
        match (&self.file.shape(first)?[..], &self.file.shape(second)?[..]) {
            ([rows, columns], [more, others]) if columns == others => {
                Some(vec![rows.checked_add(*more)?, *columns])
            }
            _ => None,
        }
    }

    /// The rows of the file's tensor `name` as the decoder orders them.
    fn reordered(&self, name: &str, stored: StoredTensor) -> StoredTensor {
        let rows = stored.shape.first().copied().unwrap_or_default();
        let parts = stored.parts.iter().flat_map(|bytes| {
            let row_bytes = bytes.len() / rows.max(1);
            (0..rows).map(move |row| {
                let at = self.layout.row_in_file(projection(name), row) * row_bytes;
                bytes.slice(at..at + row_bytes)
            })
        });
        StoredTensor { parts: parts.collect(), ..stored }
    }

    fn origin(&self, name: &str) -> Result<&Origin, WeightError> {
        self.origins.get(name).ok_or_else(|| missing(&self.path, name.to_owned()))
    }
}

/// The tensors of a decoder as Llama's files have them: rows of q and k by halves, gate and up apart; what
/// [`LlamaCheckpoint`] reads as `weights`.
///
/// # Errors
/// Those of the source.
pub fn llama_tensors(
    weights: &dyn WeightSource,
    head_dim: usize,
) -> Result<Vec<(String, TensorView)>, WeightError> {
    let layout = ProjectionLayout::Llama { head_dim };
    let mut tensors = Vec::new();
    for name in weights.names() {
        let view = weights.tensor(&name)?;
        if let Some(layer) = name.strip_suffix("gate_up_proj.weight") {
            let half = view.bytes.len() / 2;
            let shape = vec![view.shape[0] / 2, view.shape[1]];
            for (part, bytes) in
                [("gate", view.bytes.slice(..half)), ("up", view.bytes.slice(half..))]
            {
                let view = TensorView { dtype: view.dtype, shape: shape.clone(), bytes };
                tensors.push((format!("{layer}{part}_proj.weight"), view));
            }
        } else if is_reordered(layout, &name) {
            let rows = view.shape[0];
            let row_bytes = view.bytes.len() / rows.max(1);
            let mut bytes = vec![0; view.bytes.len()];
            for row in 0..rows {
                let at = layout.row_in_file(projection(&name), row) * row_bytes;
                let own = &view.bytes[row * row_bytes..(row + 1) * row_bytes];
                bytes[at..at + row_bytes].copy_from_slice(own);
            }
            tensors.push((name, TensorView { bytes: Bytes::from(bytes), ..view }));
        } else {
            tensors.push((name, view));
        }
    }
    Ok(tensors)
}

/// `model.layers.0.self_attn.q_proj` of its weight or bias.
fn projection(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(projection, _)| projection)
}

fn is_reordered(layout: ProjectionLayout, name: &str) -> bool {
    let is_row = name.ends_with(".weight") || name.ends_with(".bias");
    is_row && layout.reorders(projection(name))
}

fn mlp(layer: usize, projection: &str) -> String {
    format!("model.layers.{layer}.mlp.{projection}.weight")
}

fn missing(file: &Path, name: String) -> WeightError {
    WeightError::Missing { file: file.to_owned(), name }
}

/// Whether a bias is none of those that q, k and v may have.
fn is_other_bias(name: &str) -> bool {
    let of_attention = ["q_proj", "k_proj", "v_proj"];
    let is_one = |projection: &&str| of_attention.iter().any(|known| projection.ends_with(known));
    name.strip_suffix(".bias").filter(|projection| !is_one(projection)).is_some()
}

/// Whether all numbers are +0.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

impl<S: WeightSource> WeightSource for LlamaCheckpoint<S> {
    fn names(&self) -> Vec<String> {
        self.origins.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.origins.get(name)? {
            Origin::Same | Origin::Reordered => self.file.shape(name),
            Origin::Stacked([first, second]) => self.stacked(first, second),
        }
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let views = match self.origin(name)? {
            Origin::Same => return self.file.tensor(name),
            Origin::Reordered => vec![self.file.tensor(name)?],
            Origin::Stacked([first, second]) => {
                vec![self.file.tensor(first)?, self.file.tensor(second)?]
            }
        };
        Ok(joined(self.stored(name)?, &views))
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        let mut rows = self.stored_rows(name)?.into_iter();
        let Some(mut all) = rows.next() else { return Err(missing(&self.path, name.to_owned())) };
        for more in rows {
            if more.dtype != all.dtype {
                let (file, name) = (self.path.clone(), name.to_owned());
                let dtype = format!("{} above {}", all.dtype, more.dtype);
                return Err(WeightError::UnsupportedDtype { file, name, dtype });
            }
            all.shape[0] += more.shape[0];
            all.parts.extend(more.parts);
        }
        Ok(all)
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        Ok(match self.origin(name)? {
            Origin::Same => vec![self.file.stored(name)?],
            Origin::Reordered => vec![self.reordered(name, self.file.stored(name)?)],
            Origin::Stacked([first, second]) => {
                vec![self.file.stored(first)?, self.file.stored(second)?]
            }
        })
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.file.metadata(key)
    }
}
