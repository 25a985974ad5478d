//! `LoraLinear`. Shapes: `T` rows, `K` in_features, `N` out_features, `r` rank.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, backend::Backend};
use lightglm_core::{EffectiveWeight, Linear, MasterWeight, ReplaceWeight};
use lightglm_kernels::LmBackend;

use super::dropout::DropoutSeed;

/// A low-rank update of one projection.
#[derive(Module, Debug)]
pub struct LoraAdapter<B: Backend> {
    /// The name by which adapters are switched.
    #[module(skip)]
    pub name: String,
    /// `[r, K]`.
    pub lora_a: Param<Tensor<B, 2>>,
    /// `[N, r]`.
    pub lora_b: Param<Tensor<B, 2>>,
    /// `alpha / r`.
    pub scale: f64,
    /// Share of inputs that are zero in training.
    pub dropout: f64,
    #[module(skip)]
    pub(super) stream: u64,
    #[module(skip)]
    pub(super) dropout_seed: DropoutSeed,
    /// Whether it takes part.
    #[module(skip)]
    pub enabled: bool,
}

/// `y = base(x) + sum over enabled adapters of scale B A dropout(x)`, where a weight that was saved whole
/// (PEFT's `modules_to_save`) stands in place of the base.
///
/// The base is any projection, a quantized one too; gradients reach what it lets through.
#[derive(Module, Debug)]
pub struct LoraLinear<B: Backend, L: Module<B>> {
    /// The projection that is adapted.
    pub base: L,
    /// Adapters, in the order they were added.
    pub adapters: Vec<LoraAdapter<B>>,
    /// `[N, K]`: in place of the base's weight, whose bias is none then.
    pub saved: Option<Param<Tensor<B, 2>>>,
    /// Whether the base holds the enabled adapters' updates already.
    #[module(skip)]
    merged: bool,
}

impl<B: Backend> LoraAdapter<B> {
    /// An adapter with these matrices: `lora_a: [r, K]`, `lora_b: [N, r]`.
    pub fn new(name: &str, lora_a: Tensor<B, 2>, lora_b: Tensor<B, 2>, scale: f64) -> Self {
        Self {
            name: name.to_owned(),
            lora_a: Param::from_tensor(lora_a),
            lora_b: Param::from_tensor(lora_b),
            scale,
            dropout: 0.0,
            stream: 0,
            dropout_seed: DropoutSeed::default(),
            enabled: true,
        }
    }

    /// `scale B A x`: `x: [T, K] -> [T, N]`.
    pub(super) fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2>
    where
        B: LmBackend,
    {
        let low = B::project(x, self.lora_a.val(), None) * self.scale;
        B::project(low, self.lora_b.val(), None)
    }

    /// `scale B A: [N, K]`.
    fn update(&self) -> Tensor<B, 2> {
        self.lora_b.val().matmul(self.lora_a.val()) * self.scale
    }
}

impl<B: Backend, L: Linear<B>> LoraLinear<B, L> {
    /// A projection without adapters yet.
    pub fn new(base: L) -> Self {
        Self { base, adapters: Vec::new(), saved: None, merged: false }
    }

    /// Adds an adapter, which is used from now on.
    ///
    /// # Panics
    /// Where its matrices do not fit the projection, or the base is merged.
    pub fn push(&mut self, adapter: LoraAdapter<B>) {
        let ([n, k], a, b) = (self.base.shape(), adapter.lora_a.dims(), adapter.lora_b.dims());
        assert!(!self.merged, "unmerge before adding an adapter");
        assert!(a[1] == k && b[0] == n && a[0] == b[1], "an adapter of {a:?} and {b:?} on {n}x{k}");
        self.adapters.push(adapter);
    }

    /// Switches the adapters called `name` on or off; returns whether there are any.
    ///
    /// # Panics
    /// Where the base is merged.
    pub fn enable(&mut self, name: &str, enabled: bool) -> bool {
        assert!(!self.merged, "unmerge before switching adapters");
        let named = self.adapters.iter_mut().filter(|adapter| adapter.name == name);
        named.map(|adapter| adapter.enabled = enabled).count() > 0
    }

    pub(super) fn base_device(&self) -> B::Device {
        self.base.devices().into_iter().next().unwrap_or_default()
    }

    fn enabled(&self) -> impl Iterator<Item = &LoraAdapter<B>> {
        self.adapters.iter().filter(|adapter| adapter.enabled && !self.merged)
    }

    /// `weight: [N, K]` with the enabled adapters' updates added.
    fn updated(&self, mut weight: Tensor<B, 2>) -> Tensor<B, 2> {
        for adapter in self.enabled() {
            if weight.dtype() != DType::F32 {
                weight = weight.cast(DType::F32);
            }
            weight = weight + adapter.update();
        }
        weight
    }
}

impl<B: LmBackend, L: Linear<B>> Linear<B> for LoraLinear<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut y = match &self.saved {
            Some(weight) if !self.merged => B::project(x.clone(), weight.val(), None),
            _ => self.base.forward(x.clone()),
        };
        for adapter in self.enabled() {
            let x = adapter.dropout_seed.apply(x.clone(), adapter.dropout, adapter.stream);
            y = y + adapter.project(x);
        }
        y
    }

    fn shape(&self) -> [usize; 2] {
        self.base.shape()
    }

    fn bytes_read(&self) -> usize {
        let bytes = |x: &Param<Tensor<B, 2>>| x.shape().num_elements() * x.dtype().size();
        let adapters = self.enabled().map(|a| bytes(&a.lora_a) + bytes(&a.lora_b));
        let weight = match &self.saved {
            Some(saved) if !self.merged => bytes(saved),
            _ => self.base.bytes_read(),
        };
        weight + adapters.sum::<usize>()
    }
}

impl<B: LmBackend, L: EffectiveWeight<B>> EffectiveWeight<B> for LoraLinear<B, L> {
    fn weight(&self) -> Tensor<B, 2> {
        match &self.saved {
            Some(weight) if !self.merged => self.updated(weight.val()),
            _ => self.updated(self.base.weight()),
        }
    }

    fn bias(&self) -> Option<Tensor<B, 1>> {
        self.base.bias()
    }
}

/// The base's with the enabled adapters added, in f32 where there are any.
impl<B: LmBackend, L: Linear<B> + MasterWeight<B>> MasterWeight<B> for LoraLinear<B, L> {
    fn master_weight(&self) -> Tensor<B, 2> {
        match &self.saved {
            Some(weight) if !self.merged => self.updated(weight.val()),
            _ => self.updated(self.base.master_weight()),
        }
    }
}

impl<B: LmBackend, L: ReplaceWeight<B>> LoraLinear<B, L> {
    /// Adds the enabled adapters to the base weight, so that they cost nothing any more.
    #[must_use]
    pub fn merge(mut self) -> Self {
        if !self.merged {
            let weight = self.weight();
            self.base = self.base.with_weight(weight);
            self.merged = true;
        }
        self
    }

    /// Takes merged adapters out again. The base is what it was up to rounding; keep the original
    /// where that matters, and where the base's whole weight was replaced, which does not come back.
    #[must_use]
    pub fn unmerge(mut self) -> Self {
        if self.merged {
            self.merged = false;
            let mut weight = self.base.weight().cast(DType::F32);
            for adapter in self.enabled() {
                weight = weight - adapter.update();
            }
            self.base = self.base.with_weight(weight);
        }
        self
    }

    /// The base with the enabled adapters added, without adapters.
    pub fn into_merged(self) -> L {
        self.merge().base
    }
}
