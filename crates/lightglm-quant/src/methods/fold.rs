//! Folding: channels scaled in front of a projection and back inside it, without changing the model.
//!
//! Shapes: `C` channels of the source, `K` columns of a consumer, `H` heads, `G` kv heads,
//! `d` head_dim, `F` intermediate_size.

use bytes::Bytes;
use half::{bf16, f16};
use lightglm_core::{StoredTensor, TensorView, WeightDtype, WeightError, WeightSource};

use super::MethodError;

/// What makes the inputs of a projection, and can be divided by a scale per channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoldSource {
    /// The weight of an RMS norm.
    Norm {
        /// Its name without `.weight`.
        name: String,
    },
    /// The rows of v_proj, which attention averages and o_proj reads: `C = G d`, `K = H d`.
    ValueRows {
        /// Its name without `.weight`.
        name: String,
        /// `d`.
        head_dim: usize,
        /// `H / G`: query heads that read one kv head.
        sharing: usize,
    },
    /// The up rows of gate_up_proj, the second half: `C = K = F`.
    UpRows {
        /// Its name without `.weight`.
        name: String,
    },
}

impl FoldSource {
    /// The tensor's name without `.weight`.
    pub fn name(&self) -> &str {
        match self {
            Self::Norm { name } | Self::ValueRows { name, .. } | Self::UpRows { name } => name,
        }
    }

    /// The channel that a consumer's column reads.
    pub fn channel(&self, column: usize) -> usize {
        match self {
            Self::ValueRows { head_dim, sharing, .. } => {
                let (head, within) = (column / head_dim, column % head_dim);
                head / sharing * head_dim + within
            }
            Self::Norm { .. } | Self::UpRows { .. } => column,
        }
    }

    /// `C` for consumers of `columns` columns.
    pub fn channels(&self, columns: usize) -> usize {
        match self {
            Self::ValueRows { sharing, .. } => columns / sharing,
            Self::Norm { .. } | Self::UpRows { .. } => columns,
        }
    }
}

/// A source and the projections that read it, and nothing else does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldPair {
    /// What is divided.
    pub source: FoldSource,
    /// The projections whose columns are multiplied, without `.weight`.
    pub consumers: Vec<String>,
}

/// The pairs of a GLM-family decoder with heads of `head_dim`, in the order of the layers.
///
/// Norms feed q, k and v and gate_up. GLM-4-0414's post-norms stand after o_proj and down_proj, so
/// these two are fed by v_proj's and up's rows. A tied head reads a norm, but is the embedding table
/// as well, which must not be scaled.
///
/// # Errors
/// [`MethodError::Fold`] where q and v_proj have no whole number of heads of that size.
pub fn fold_pairs(
    weights: &dyn WeightSource,
    head_dim: usize,
) -> Result<Vec<FoldPair>, MethodError> {
    let mut pairs = Vec::new();
    let shape = |name: &str| weights.shape(&format!("{name}.weight"));
    for layer in 0.. {
        let part = |part: &str| format!("model.layers.{layer}.{part}");
        let (o_proj, v_proj) = (part("self_attn.o_proj"), part("self_attn.v_proj"));
        let (Some(o_shape), Some(v_shape)) = (shape(&o_proj), shape(&v_proj)) else { break };
        let (queries, values) = (o_shape.get(1).copied(), v_shape.first().copied());
        let (queries, values) = (queries.unwrap_or(0), values.unwrap_or(0));
        let whole = head_dim > 0 && values > 0 && values.is_multiple_of(head_dim);
        if !whole || !queries.is_multiple_of(values) {
            return Err(MethodError::Fold { name: v_proj, shape: v_shape, scales: queries });
        }
        let sharing = queries / values;
        let norm = |name| FoldSource::Norm { name: part(name) };
        let attention = ["q_proj", "k_proj", "v_proj"].map(|p| part(&format!("self_attn.{p}")));
        let gate_up = part("mlp.gate_up_proj");
        pairs.push(FoldPair { source: norm("input_layernorm"), consumers: attention.into() });
        let source = FoldSource::ValueRows { name: v_proj, head_dim, sharing };
        pairs.push(FoldPair { source, consumers: vec![o_proj] });
        let source = norm("post_attention_layernorm");
        pairs.push(FoldPair { source, consumers: vec![gate_up.clone()] });
        let source = FoldSource::UpRows { name: gate_up };
        pairs.push(FoldPair { source, consumers: vec![part("mlp.down_proj")] });
    }
    if shape("lm_head").is_some() {
        let source = FoldSource::Norm { name: "model.norm".into() };
        pairs.push(FoldPair { source, consumers: vec!["lm_head".into()] });
    }
    Ok(pairs)
}

/// A pair with the scales that its source is divided and its consumers' columns are multiplied by.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// Where.
    pub pair: FoldPair,
    /// `[C]`, positive and finite.
    pub scales: Vec<f32>,
}

/// A checkpoint with folds applied, one tensor at a time as it is asked for; folded tensors come in
/// f32.
///
/// The model computes what it computed before, up to rounding.
pub struct FoldedWeights<'a> {
    weights: &'a dyn WeightSource,
    folds: Vec<Fold>,
}

impl<'a> FoldedWeights<'a> {
    /// Applies `folds` to `weights`.
    ///
    /// # Errors
    /// [`MethodError::Fold`] where a tensor has another number of channels than a fold has scales,
    /// or a scale is not positive and finite.
    pub fn new(weights: &'a dyn WeightSource, folds: Vec<Fold>) -> Result<Self, MethodError> {
        for Fold { pair, scales } in &folds {
            let usable = scales.iter().all(|&s| s.is_finite() && s > 0.0);
            let wrong = |name: &str, shape: Vec<usize>| {
                let name = format!("{name}.weight");
                MethodError::Fold { name, shape, scales: scales.len() }
            };
            let shape = |name: &str| weights.shape(&format!("{name}.weight")).unwrap_or_default();
            let source = shape(pair.source.name());
            let rows = source.first().copied().unwrap_or(0);
            let channels = match pair.source {
                FoldSource::UpRows { .. } => rows / 2,
                _ => rows,
            };
            if channels != scales.len() || !usable {
                return Err(wrong(pair.source.name(), source));
            }
            for consumer in &pair.consumers {
                let shape = shape(consumer);
                let columns = shape.get(1).copied().unwrap_or(0);
                if pair.source.channels(columns) != scales.len() {
                    return Err(wrong(consumer, shape));
                }
            }
        }
        Ok(Self { weights, folds })
    }

    fn touches(&self, name: &str) -> bool {
        let (layer, is_weight) = layer_of(name);
        self.folds.iter().any(|fold| {
            let consumes = is_weight && fold.pair.consumers.iter().any(|c| c == layer);
            consumes || fold.pair.source.name() == layer
        })
    }
}

/// `(name without its last part, whether that is `weight`)`.
fn layer_of(name: &str) -> (&str, bool) {
    let (layer, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    (layer, kind == "weight")
}

impl WeightSource for FoldedWeights<'_> {
    fn names(&self) -> Vec<String> {
        self.weights.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.weights.shape(name)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let view = self.weights.tensor(name)?;
        if !self.touches(name) {
            return Ok(view);
        }
        let mut values = to_f32(&view);
        let (layer, is_weight) = layer_of(name);
        let columns = if view.shape.len() > 1 { view.shape[1] } else { 1 };
        for Fold { pair, scales } in &self.folds {
            if pair.source.name() == layer {
                let first = match pair.source {
                    FoldSource::UpRows { .. } => view.shape[0] / 2,
                    _ => 0,
                };
                let rows = values[first * columns..].chunks_exact_mut(columns);
                for (row, &scale) in rows.zip(scales) {
                    row.iter_mut().for_each(|w| *w /= scale);
                }
            }
            if is_weight && pair.consumers.iter().any(|consumer| consumer == layer) {
                for row in values.chunks_exact_mut(columns) {
                    for (column, w) in row.iter_mut().enumerate() {
                        *w *= scales[pair.source.channel(column)];
                    }
                }
            }
        }
        let bytes = Bytes::from(bytemuck::cast_slice::<f32, u8>(&values).to_vec());
        Ok(TensorView { dtype: WeightDtype::F32, shape: view.shape, bytes })
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        if !self.touches(name) {
            return self.weights.stored(name);
        }
        let TensorView { dtype, shape, bytes } = self.tensor(name)?;
        Ok(StoredTensor { dtype: dtype.name().to_owned(), shape, parts: vec![bytes] })
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        match self.touches(name) {
            true => Ok(vec![self.stored(name)?]),
            false => self.weights.stored_rows(name),
        }
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.weights.metadata(key)
    }
}

/// A stored tensor's elements.
pub(crate) fn to_f32(view: &TensorView) -> Vec<f32> {
    let pairs = || view.bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match view.dtype {
        WeightDtype::F32 => {
            let quads = view.bytes.chunks_exact(4);
            quads.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        WeightDtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        WeightDtype::Bf16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
    }
}
