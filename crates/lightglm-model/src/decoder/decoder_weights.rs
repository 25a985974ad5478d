//! `DecoderWeights`: a decoder in memory as a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{DType, Tensor, backend::Backend};
use bytes::Bytes;
use lightglm_core::{
    EffectiveWeight, Embedding, Linear, MasterWeight, TensorView, WeightDtype, WeightError,
    WeightSource,
};

use super::glm::Glm;
use super::norm::RmsNorm;
use super::place::own;
use super::swiglu::SwiGlu;

/// The weights of a decoder, in f32, under their names in checkpoints: a quantizer or a file can be
/// made of them. They are copies; the decoder may be dropped.
#[derive(Clone, Debug)]
pub struct DecoderWeights {
    tensors: BTreeMap<String, (Vec<usize>, Bytes)>,
}

impl DecoderWeights {
    /// Names and shapes, sorted by name.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
    }

    fn insert<B: Backend, const D: usize>(&mut self, name: String, tensor: Tensor<B, D>) {
        let shape = tensor.dims().to_vec();
        let values = tensor.cast(DType::F32).into_data().into_vec::<f32>().expect("cast to f32");
        self.tensors.insert(name, (shape, own(values)));
    }
}

impl WeightSource for DecoderWeights {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|(shape, _)| shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let Some((shape, bytes)) = self.tensors.get(name) else {
            let file = PathBuf::from("weights of a model in memory");
            return Err(WeightError::Missing { file, name: name.to_owned() });
        };
        Ok(TensorView { dtype: WeightDtype::F32, shape: shape.clone(), bytes: bytes.clone() })
    }
}

impl<B, L, E> Glm<B, L, SwiGlu<B, L>, E>
where
    B: Backend,
    L: EffectiveWeight<B> + MasterWeight<B>,
    E: Embedding<B> + MasterWeight<B>,
{
    /// The decoder's weights as a checkpoint holds them: master weights, biases, norms.
    ///
    /// Adapters are merged into the weights; what else wraps a projection is looked through, and its
    /// own parameters (learned scales) are left out.
    pub fn weights(&self) -> DecoderWeights {
        let mut weights = DecoderWeights { tensors: BTreeMap::new() };
        let table = self.embed_tokens.master_weight();
        weights.insert("model.embed_tokens.weight".to_owned(), table);
        self.for_each_linear(|name, linear| {
            weights.insert(format!("{name}.weight"), linear.master_weight());
            if let Some(bias) = linear.bias() {
                weights.insert(format!("{name}.bias"), bias);
            }
        });
        self.for_each_norm(|name, norm| {
            weights.insert(format!("{name}.weight"), norm.weight.val())
        });
        weights
    }
}

impl<B: Backend, L: Linear<B>, E: Embedding<B>> Glm<B, L, SwiGlu<B, L>, E> {
    /// Shows every norm and its checkpoint name without `.weight`.
    fn for_each_norm(&self, mut visit: impl FnMut(&str, &RmsNorm<B>)) {
        for (index, block) in self.layers.iter().enumerate() {
            for (part, norm) in block.norms() {
                visit(&format!("model.layers.{index}.{part}"), norm);
            }
        }
        visit("model.norm", &self.norm);
    }
}
