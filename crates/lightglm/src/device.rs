//! `Device`: where a model runs, and jobs that are written once for every backend.

use lightglm_kernels::LmGradients;

use crate::Error;

/// The CPU backend: burn-flex with our own kernels.
pub type Cpu = burn_flex::Flex;

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor, with our own kernels.
    #[default]
    Cpu,
    /// Any GPU with Vulkan, Metal or DirectX 12 (feature `wgpu`).
    Wgpu,
    /// An NVIDIA GPU (feature `cuda`).
    Cuda,
}

impl Device {
    /// `cpu`, `wgpu` or `cuda`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }
}

/// A job that is written once and runs on every backend.
pub trait DeviceJob {
    /// What it returns.
    type Output;
    /// Runs on `device`.
    fn run<B: LmGradients>(self, device: B::Device) -> Self::Output;
}

/// Runs `job` on `device`.
///
/// # Errors
/// [`Error::BackendNotBuilt`] without the backend's feature, [`Error::NoDevice`] where the machine
/// has no such device.
pub fn run_on<J: DeviceJob>(device: Device, job: J) -> Result<J::Output, Error> {
    match device {
        Device::Cpu => Ok(job.run::<Cpu>(Default::default())),
        #[cfg(feature = "wgpu")]
        Device::Wgpu => run_on_gpu::<burn::backend::Wgpu, J>(device, job),
        #[cfg(feature = "cuda")]
        Device::Cuda => run_on_gpu::<burn::backend::Cuda, J>(device, job),
        #[allow(unreachable_patterns, reason = "which devices are left depends on the features")]
        other => Err(Error::BackendNotBuilt { device: other.name() }),
    }
}

/// The GPU runtimes panic where no device is found, so the first tensor is made under guard.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn run_on_gpu<B: LmGradients, J: DeviceJob>(device: Device, job: J) -> Result<J::Output, Error> {
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

    use burn::tensor::Tensor;

    let place = B::Device::default();
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let probe = catch_unwind(AssertUnwindSafe(|| {
        Tensor::<B, 1>::ones([1], &place).into_data().to_vec::<f32>().is_ok()
    }));
    set_hook(hook);
    match probe {
        Ok(true) => Ok(job.run::<B>(place)),
        _ => Err(Error::NoDevice { device: device.name() }),
    }
}
