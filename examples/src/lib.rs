//! What the example programs share: groups of options, progress bars, plots.
//!
//! **Should I use this crate?** No: it is not published. Read it as an example of its own.

pub mod adapter_args;
pub mod evaluate_args;
pub mod model_args;
pub mod progress_bar;
pub mod sampling_args;
pub mod shape;
pub mod sparsity_plot;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lightglm_kernels::cpu::team;

/// Ends a program: an error is one line on stderr, each cause told once, and exit status 1.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut line = String::new();
    for cause in error.chain().map(|cause| cause.to_string()) {
        if !line.contains(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    eprintln!("error: {line}");
    ExitCode::FAILURE
}

/// A flag that Ctrl-C raises. A second Ctrl-C does not wait for the step that is under way.
///
/// # Errors
/// Where there is a handler already.
pub fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(stop)
}

/// Ctrl-C cancels `cancel`; a second one in a row finds it cancelled already, and ends the program.
///
/// # Errors
/// Where there is a handler already.
pub fn cancel_on_ctrl_c(cancel: lightglm::CancelToken) -> anyhow::Result<()> {
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        cancel.cancel();
    })?;
    Ok(())
}

/// Applies `--threads` to our kernels and to burn's own operations; returns how many there are.
///
/// # Errors
/// Where `threads` is 0.
pub fn use_threads(threads: Option<usize>) -> anyhow::Result<usize> {
    if let Some(threads) = threads {
        anyhow::ensure!(threads > 0, "--threads must be at least 1");
        team::set_num_threads(threads);
        // Fails only where the pool runs already; it then keeps its size.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    Ok(team::num_threads())
}
