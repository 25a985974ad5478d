//! LoRA: low-rank adapters beside frozen projections.

mod config;
mod dropout;
mod linear;
mod random;

pub use config::{LoraConfig, LoraError};
pub use dropout::DropoutSeed;
pub use linear::{LoraAdapter, LoraLinear};

use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::Linear;

/// Puts adapters of one configuration beside projections.
///
/// ```
/// use burn::backend::Autodiff;
/// use burn::module::Module;
/// use burn_flex::{Flex, FlexDevice};
/// use lightglm_core::WeightDtype;
/// use lightglm_model::config::GlmConfig;
/// use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
/// use lightglm_model::weights::SeededWeights;
/// use lightglm_train::lora::{Lora, LoraConfig};
/// type Train = Autodiff<Flex>;
///
/// let config = GlmConfig::tiny();
/// let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 0);
/// let file = std::path::Path::new("seeded");
/// let model =
///     DenseGlm::<Train>::load(&config, &weights, file, LoadPrecision::Stored, &FlexDevice)?;
/// let lora = Lora::new("default", LoraConfig::default(), 0)?;
/// let mut wrap = |name: &str, linear: DenseLinear<Train>| lora.wrap(name, linear);
/// let model = model.no_grad().map_linears(&mut wrap);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
#[derive(Clone, Debug)]
pub struct Lora {
    name: String,
    config: LoraConfig,
    seed: u64,
    dropout: DropoutSeed,
}

impl Lora {
    /// Adapters called `name`; `seed` decides their first values.
    ///
    /// # Errors
    /// [`LoraError`] for an impossible configuration.
    pub fn new(name: &str, config: LoraConfig, seed: u64) -> Result<Self, LoraError> {
        config.check()?;
        Ok(Self { name: name.to_owned(), config, seed, dropout: DropoutSeed::default() })
    }

    /// The adapters' name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Their configuration.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// What decides the dropout masks of a step; a trainer sets it.
    pub fn dropout_seed(&self) -> DropoutSeed {
        self.dropout.clone()
    }

    /// The projection `name` with an adapter beside it, or by itself where it is not a target.
    pub fn wrap<B: Backend, L: Linear<B>>(&self, name: &str, linear: L) -> LoraLinear<B, L> {
        self.add(name, LoraLinear::new(linear))
    }

    /// Another adapter beside those that the projection `name` has; it is switched on, the others
    /// stay as they are.
    pub fn add<B: Backend, L: Linear<B>>(
        &self,
        name: &str,
        mut linear: LoraLinear<B, L>,
    ) -> LoraLinear<B, L> {
        if self.config.is_target(name) {
            let device = linear.devices_of_base();
            linear.push(self.adapter(name, linear.base.shape(), &device));
        }
        linear
    }

    /// A fresh adapter: `A` uniform within `1 / sqrt(K)`, as in PEFT, and `B` zero, so that nothing
    /// changes at first.
    fn adapter<B: Backend>(
        &self,
        name: &str,
        [n, k]: [usize; 2],
        device: &B::Device,
    ) -> LoraAdapter<B> {
        let (rank, bound) = (self.config.rank, 1.0 / (k as f32).sqrt());
        let a = random::uniform(self.seed, name, rank * k, bound);
        let a = Tensor::from_data(TensorData::new(a, [rank, k]), device);
        LoraAdapter {
            name: self.name.clone(),
            lora_a: Param::from_tensor(a),
            lora_b: Param::from_tensor(Tensor::zeros([n, rank], device)),
            scale: self.config.scale(),
            dropout: self.config.dropout,
            stream: random::stream(self.seed, name),
            dropout_seed: self.dropout.clone(),
            enabled: true,
        }
    }
}
