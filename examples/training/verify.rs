//! Does our decoder compute what Hugging Face transformers computes?
//!
//! `cargo run --release --example verify -- DIR` loads DIR's config.json and weights, reads
//! DIR/expected.safetensors, and prints the largest absolute difference for each expected tensor.
//! Exit status 1 where one is above 2e-4 or a greedy token differs. On CUDA, where burn multiplies f32
//! matrices in TF32 (10 bits of mantissa), the norm of the difference is compared with the tensor's, and
//! may be up to 1e-2 of it.
//!
//! Each group of tensors in the file (a prefix such as `nopad` or `leftpad`) is one batch:
//! `input_ids` with `attention_mask` are prefilled with every inner value observed, then
//! `decode_input_ids` are fed one by one, then the model continues greedily on its own. Padded rows
//! are run as the shorter sequences they are. Where DIR/expected_train.safetensors is present, loss
//! and gradients are compared as well.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use lightglm::Device;
use lightglm::verify::{Comparison, verify};
use lightglm_examples::model_args::device;

#[derive(Parser)]
struct Args {
    /// Folder with config.json, the weights and expected.safetensors.
    dir: PathBuf,
    /// Configuration to use; if omitted config.json, then config.legacy.json where there is one.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where to run: cpu, wgpu, cuda.
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let configs = match args.config {
        Some(config) => vec![config],
        None => {
            let [config, legacy] =
                ["config.json", "config.legacy.json"].map(|name| args.dir.join(name));
            let legacy = legacy.exists().then_some(legacy);
            [config].into_iter().chain(legacy).collect()
        }
    };
    let (mut compared, mut failed) = (0, 0);
    let mut print = |comparison: &Comparison| {
        let Comparison { name, outcome } = comparison;
        let mark = match outcome.passed() {
            Some(true) => "ok  ",
            Some(false) => "FAIL",
            None => "----",
        };
        compared += usize::from(outcome.passed().is_some());
        failed += usize::from(outcome.passed() == Some(false));
        println!("  {mark} {name:<62} {outcome}");
    };
    for config in configs {
        println!("{} on {:?}", config.display(), args.device);
        verify(&args.dir, &config, args.device, &mut print)?;
    }
    println!("{compared} compared, {failed} failed");
    ensure!(failed == 0, "{failed} of {compared} differ from the reference");
    Ok(())
}
