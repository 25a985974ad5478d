//! An encoder in memory as its checkpoint has it.

use burn::tensor::{DType, Tensor, backend::Backend};
use bytes::Bytes;
use lightglm_core::{EffectiveWeight, Linear, MasterWeight, TensorView, WeightDtype};
use lightglm_model::config::AudioConfig;
use lightglm_model::decoder::LayerNorm;
use lightglm_model::weights::HeadOrder;

use crate::tower::SpeechTower;
use crate::weights::TOWER;

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.cast(DType::F32).into_data().into_vec().expect("cast to f32")
}

impl<B: Backend, L: Linear<B> + MasterWeight<B> + EffectiveWeight<B>> SpeechTower<B, L> {
    /// The tensors of an encoder of `config`, in f32, under the names and in the layout of its checkpoint: what
    /// [`speech_weights`](crate::speech_weights) reads.
    pub fn tensors(&self, config: &AudioConfig) -> Vec<(String, TensorView)> {
        let shapes = config.tensor_shapes();
        let mut tensors = Vec::with_capacity(shapes.len());
        let mut add = |name: String, values: Vec<f32>| {
            let shape = shapes.iter().find(|(known, _)| *known == name);
            let shape = shape.map_or_else(|| vec![values.len()], |(_, shape)| shape.clone());
            let bytes =
                Bytes::from(values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
            tensors.push((name, TensorView { dtype: WeightDtype::F32, shape, bytes }));
        };
        let head_dim = config.head_dim();
        let order = |heads| HeadOrder { heads, head_dim, rotary_dim: config.rotary_dim() };
        let mut clone = |name: &str, linear: &L| {
            let order = match name.rsplit('.').next() {
                Some("q_proj") => Some(order(config.num_attention_heads)),
                Some("k_proj") => Some(order(config.num_key_value_heads)),
                _ => None,
            };
            let weight = values(linear.master_weight());
            add(format!("{name}.weight"), in_file(weight, linear.shape()[0], order));
            if let Some(bias) = linear.bias() {
                let bias = values(bias);
                let rows = bias.len();
                add(format!("{name}.bias"), in_file(bias, rows, order));
            }
        };
        self.for_each_linear(&mut clone);
        let mut norm = |name: String, norm: &LayerNorm<B>| {
            add(format!("{TOWER}.{name}.weight"), values(norm.weight.val()));
            add(format!("{TOWER}.{name}.bias"), values(norm.bias.val()));
        };
        for (i, layer) in self.layers.iter().enumerate() {
            norm(format!("layers.{i}.input_layernorm"), &layer.input_layernorm);
            norm(format!("layers.{i}.post_attention_layernorm"), &layer.post_attention_layernorm);
        }
        norm("norm".to_owned(), &self.norm);
        tensors
    }
}

/// `values` of `rows` rows, each where the file has it.
fn in_file(values: Vec<f32>, rows: usize, order: Option<HeadOrder>) -> Vec<f32> {
    let Some(order) = order else { return values };
    let width = values.len() / rows.max(1);
    let mut ordered = vec![0.0; values.len()];
    for (row, own) in values.chunks_exact(width.max(1)).enumerate() {
        let at = order.row_in_file(row) * width;
        ordered[at..at + width].copy_from_slice(own);
    }
    ordered
}
