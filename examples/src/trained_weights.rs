//! `TrainedWeights`: a trained module as a checkpoint's weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, backend::Backend};
use bytes::Bytes;
use lightglm_core::{TensorView, WeightDtype, WeightError, WeightSource, save_safetensors};
use lightglm_model::checkpoint::Checkpoint;

use crate::model_folder::ModelFolder;

/// Parts of a module's path that wrappers add and a checkpoint does not know.
const WRAPPERS: [&str; 2] = ["inner", "base"];

/// Parts of a module's path that are no weights of the model itself.
const EXTRAS: [&str; 2] = ["adapters", "quantizer"];

/// The weights of a decoder, in f32, under their names in checkpoints: a quantizer or a file can be
/// made of them.
pub struct TrainedWeights {
    tensors: BTreeMap<String, (Vec<usize>, Bytes)>,
}

impl TrainedWeights {
    /// Those of `module`; what wraps its projections is looked through, adapters are left out.
    pub fn of<B: Backend, M: Module<B>>(module: &M) -> Self {
        let mut collect = Collect { path: Vec::new(), tensors: BTreeMap::new() };
        module.visit(&mut collect);
        Self { tensors: collect.tensors }
    }

    /// Names and shapes, as the quantizer's `save` asks for them.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
    }
}

impl WeightSource for TrainedWeights {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|(shape, _)| shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let Some((shape, bytes)) = self.tensors.get(name) else {
            let file = PathBuf::from("(trained weights)");
            return Err(WeightError::Missing { file, name: name.to_owned() });
        };
        Ok(TensorView { dtype: WeightDtype::F32, shape: shape.clone(), bytes: bytes.clone() })
    }
}

struct Collect {
    path: Vec<String>,
    tensors: BTreeMap<String, (Vec<usize>, Bytes)>,
}

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let has = |part: &&str| self.path.iter().any(|name| name == part);
        if EXTRAS.iter().any(has) {
            return;
        }
        let known = |name: &&String| !WRAPPERS.contains(&name.as_str());
        let name = self.path.iter().filter(known).cloned().collect::<Vec<_>>().join(".");
        let name = match name.starts_with("lm_head") {
            true => name,
            false => format!("model.{name}"),
        };
        let value = param.val();
        let shape = value.dims().to_vec();
        let data = value.cast(DType::F32).into_data();
        let values = data.to_vec::<f32>().expect("cast to f32");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name, (shape, Bytes::from(bytes)));
    }
}

/// Writes the weights of `module` as a model folder, with the text side and the configuration of
/// `checkpoint`; config.json comes last, so that an unfinished folder is no model.
///
/// # Errors
/// Where the folder cannot be written.
pub fn save<B: Backend, M: Module<B>>(
    module: &M,
    checkpoint: &Checkpoint,
    folder: &Path,
) -> Result<()> {
    let output = ModelFolder::begin(folder, checkpoint, None)?;
    save_safetensors(output.weights(), &TrainedWeights::of(module), &BTreeMap::new())?;
    Ok(output.finish()?)
}
