//! `--device`: one program, any backend it was built with.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use anyhow::{Result, bail};
use burn::tensor::Tensor;
use lightglm_kernels::LmGradients;

/// Where the model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The processor, with our own kernels.
    #[default]
    Cpu,
    /// Any GPU with Vulkan, Metal or DirectX 12 (build with `--features wgpu`).
    Wgpu,
    /// An NVIDIA GPU (build with `--features cuda`).
    Cuda,
}

/// A job that is written once and runs on every backend.
pub trait DeviceJob {
    /// What it returns.
    type Output;
    /// Runs on `device`.
    fn run<B: LmGradients>(self, device: B::Device) -> Result<Self::Output>;
}

/// Runs `job` on `device`.
///
/// # Errors
/// Where this program was built without the backend, where the machine has no such device, and
/// what the job returns.
pub fn run_on<J: DeviceJob>(device: Device, job: J) -> Result<J::Output> {
    match device {
        Device::Cpu => job.run::<burn_flex::Flex>(Default::default()),
        #[cfg(feature = "wgpu")]
        Device::Wgpu => run_on_gpu::<burn::backend::Wgpu, J>("wgpu", job),
        #[cfg(feature = "cuda")]
        Device::Cuda => run_on_gpu::<burn::backend::Cuda, J>("cuda", job),
        #[allow(unreachable_patterns)]
        other => {
            let name = format!("{other:?}").to_lowercase();
            bail!("this program was built without `{name}`: build it with --features {name}")
        }
    }
}

/// The GPU runtimes panic where no device is found, so the first tensor is made under guard.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
fn run_on_gpu<B: LmGradients, J: DeviceJob>(name: &str, job: J) -> Result<J::Output> {
    let device = B::Device::default();
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let probe = catch_unwind(AssertUnwindSafe(|| {
        Tensor::<B, 1>::ones([1], &device).into_data().to_vec::<f32>().is_ok()
    }));
    set_hook(hook);
    match probe {
        Ok(true) => job.run::<B>(device),
        _ => bail!("no usable {name} device on this machine (is its driver installed?)"),
    }
}
