//! A plan as a table.

use std::path::Path;

use lightglm::prune::PlanReport;
use lightglm::{ProgressSink, checkpoint};
use lightglm_model::config::GlmConfig;

/// The configuration of `model`, which may be a config.json without a model beside it.
///
/// # Errors
/// Where it cannot be found, fetched or read.
pub fn config(model: &str, progress: &ProgressSink) -> anyhow::Result<GlmConfig> {
    let file = Path::new(model);
    match file.is_file() && file.extension().is_some_and(|end| end == "json") {
        true => Ok(GlmConfig::from_file(file)?),
        false => Ok(checkpoint::open(model, progress)?.config().clone()),
    }
}

/// Prints what a model costs before there is one; rows of training have `context` tokens.
pub fn print(report: &PlanReport, context: usize) {
    let billions = |count: u64| count as f64 / 1e9;
    println!(
        "{:.3} B parameters, {:.3} B without tables of tokens",
        billions(report.parameters),
        billions(report.parameters_of_blocks)
    );
    println!("\n{:<14}{:>12}{:>18}", "scheme", "GB", "bits per weight");
    for scheme in &report.schemes {
        match (scheme.bytes, scheme.bits_per_weight) {
            (Some(bytes), Some(bits)) => {
                println!("{:<14}{:>12.3}{bits:>18.3}", scheme.scheme, billions(bytes));
            }
            _ => println!("{:<14}{:>12}", scheme.scheme, "does not fit"),
        }
    }
    println!(
        "\nkeys and values of a token: {} bytes in 16 bits, {} in 8",
        report.kv_bytes_16_bit, report.kv_bytes_8_bit
    );
    println!(
        "a token in rows of {context}: {:.2} GFLOP forward, {:.2} to train on{}",
        report.forward_flops / 1e9,
        report.training_flops / 1e9,
        report.distillation_flops.map_or(String::new(), |flops| {
            format!(", {:.2} with its teacher asked", flops / 1e9)
        })
    );
    println!("\n{:.3} B tokens, at an assumed share of each machine's peak:", report.tokens / 1e9);
    println!(
        "{:<14}{:>14}{:>10}{:>12}{:>16}",
        "machine", "peak TFLOP/s", "assumed", "hours", "with teacher"
    );
    for hours in &report.hours {
        let teacher = hours.distillation.map_or("-".to_owned(), |hours| format!("{hours:.1}"));
        println!(
            "{:<14}{:>14.2}{:>9.0}%{:>12.1}{teacher:>16}",
            hours.machine,
            hours.peak_flops / 1e12,
            100.0 * hours.utilisation,
            hours.training,
        );
    }
}
