//! Does our decoder compute what Hugging Face transformers computes?
//!
//! A folder of a fixture has a small model's config.json and weights, and `expected.safetensors`, which
//! transformers wrote: each group of tensors in it (a prefix such as `nopad` or `leftpad`) is one batch.
//! `input_ids` with `attention_mask` are prefilled with every inner value observed, then
//! `decode_input_ids` are fed one by one, then the model continues greedily on its own. Padded rows are
//! run as the shorter sequences they are. A folder of the Llama family is compared under the names and in the
//! order of rows that transformers has. Where `expected_train.safetensors` is present, loss and
//! gradients are compared as well.
//!
//! This is a module of the facade, not of the testkit, as it needs a decoder, its gradients and a device
//! that is chosen at run time, which no crate below has together.

mod batch;
mod comparison;
mod expected;
mod training;

use std::path::Path;

use burn::backend::Autodiff;
use lightglm_core::{ProjectionLayout, WeightDtype, WeightSource};
use lightglm_kernels::LmGradients;
use lightglm_model::checkpoint::CheckpointError;
use lightglm_model::config::{GlmConfig, WeightLayout};
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::{ChatGlmCheckpoint, LlamaCheckpoint, SafetensorsCheckpoint};

use batch::Batch;
use comparison::Comparisons;
pub use comparison::{Comparison, Outcome};
use expected::Expected;
pub use expected::ExpectedError;

use crate::device::{Device, DeviceJob, run_on};
use crate::error::Error;

/// Runs the model of `folder` with the configuration `config` on `device` and tells `on_comparison` what
/// became of each expected tensor.
///
/// On CUDA, where burn multiplies f32 matrices in TF32 (10 bits of mantissa), norms are compared.
///
/// # Errors
/// Where the folder's files are malformed ([`Error::Expected`] for the expectations), and where the
/// device is not there. A comparison that failed is no error.
pub fn verify(
    folder: &Path,
    config: &Path,
    device: Device,
    on_comparison: &mut dyn FnMut(&Comparison),
) -> Result<(), Error> {
    let comparisons = Comparisons { tf32: device == Device::Cuda, tell: on_comparison };
    run_on(device, Verify { folder, config, comparisons })?
}

struct Verify<'a> {
    folder: &'a Path,
    config: &'a Path,
    comparisons: Comparisons<'a>,
}

impl DeviceJob for Verify<'_> {
    type Output = Result<(), Error>;

    fn run<B: LmGradients>(mut self, device: B::Device) -> Self::Output {
        let (config, layouts) =
            GlmConfig::with_layouts(self.config).map_err(CheckpointError::from)?;
        let (folder, precision) = (self.folder, LoadPrecision::Convert(WeightDtype::F32));
        let file = SafetensorsCheckpoint::open(folder)?;
        let weights: Box<dyn WeightSource> = match layouts.weights {
            WeightLayout::Glm => Box::new(file),
            WeightLayout::ChatGlm => Box::new(ChatGlmCheckpoint::new(file, &config)?),
            WeightLayout::Llama => Box::new(LlamaCheckpoint::new(file, folder, &config)?),
            WeightLayout::GlmInMedia | WeightLayout::LlamaInMedia => {
                let (file, doing) = (folder.to_owned(), "comparing texts alone");
                return Err(Error::WithEncoder { file, doing });
            }
        };
        let layout = match layouts.weights {
            WeightLayout::Llama => ProjectionLayout::Llama { head_dim: config.head_dim },
            _ => ProjectionLayout::Glm,
        };
        let model = DenseGlm::<B>::load(&config, &*weights, folder, precision, &device)?;
        let expected = Expected::read(&folder.join("expected.safetensors"))?;
        for prefix in expected.prefixes() {
            let batch = Batch { expected: &expected, prefix: &prefix, config: &config };
            batch.verify(&model, &device, &mut self.comparisons)?;
        }
        let train = folder.join("expected_train.safetensors");
        if train.exists() {
            let train = Expected::read(&train)?;
            let model =
                DenseGlm::<Autodiff<B>>::load(&config, &*weights, folder, precision, &device)?;
            training::verify(model, layout, &train, &mut self.comparisons)?;
        }
        Ok(())
    }
}
