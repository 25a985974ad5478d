//! A small architecture search: what stays of each block of a teacher, under a budget of bytes or of milliseconds.
//!
//! | step | how |
//! |---|---|
//! | choices of a block | kept in one of a few schemes, or dropped; for all of them together one of a few `intermediate_size`s |
//! | what a choice costs | bytes, exactly; or milliseconds of a decode step, from a table measured on this machine ([`LatencyTable`]) |
//! | what a choice loses | the KL divergence from the teacher, on a text, of the teacher in which this block alone is replaced |
//! | what is chosen | the smallest sum of losses within the budget ([`lightglm_distill::search::choose`]) |
//!
//! **The sum is an approximation.** Blocks that are replaced together can lose more or less than one by one, and mostly
//! lose more where many are. [`FoundStudent`] therefore has both: the sum that decided, and what the chosen student
//! loses as a whole. Nothing is learnt here: the student is to be taught, or calibrated, afterwards.
//!
//! ```no_run
//! use lightglm::prune::search::{Budget, SearchOptions, search};
//! use lightglm::evaluate::first_tokens;
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let teacher = lightglm::checkpoint::open("glm-4-9b-0414", &Default::default())?;
//! let text = std::fs::read_to_string("calibration.txt").unwrap_or_default();
//! let options = SearchOptions {
//!     calibration: first_tokens(&teacher.tokenizer()?, &text, 4096)?,
//!     ..SearchOptions::new(Budget::Bytes(5_000_000_000))
//! };
//! let found = search(&teacher, &options, "searched".as_ref())?;
//! println!("layers {:?}, {}", found.layers, found.policy);
//! let (dense, packed) = ("student".as_ref(), "student-packed".as_ref());
//! found.write(&teacher, dense, packed, false, &Default::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! Source: Bercovich et al. 2024, "Puzzle: Distillation-Based NAS for Inference-Optimized LLMs". There the choices of a
//! block are trained before they are scored; here they are what rounding and leaving out make of it.

mod block_variant;
mod costs;
mod found;
mod job;
mod latency_table;
mod options;
mod score_file;
mod teacher_on_text;

use std::fs;
use std::path::Path;

use lightglm_model::checkpoint::Checkpoint;

pub use found::{ChosenBlock, FoundStudent};
pub use latency_table::LatencyTable;
pub use lightglm_distill::search::SearchError;
pub use options::{BlockChoice, Budget, SearchOptions};

use crate::device::run_on;
use crate::error::Error;
use crate::new_folder::at;
use costs::Costs;
use job::SearchJob;
use score_file::ScoreFile;

/// Where scores are kept, a line each.
const SCORES: &str = "scores.jsonl";

/// Where what was measured on this machine is kept.
const LATENCIES: &str = "latency.json";

/// Where the result is.
const FOUND: &str = "found.json";

/// Chooses, block by block, what stays of the teacher of `checkpoint`, and measures the choice as a whole.
///
/// `folder`, which is made where it is not there, gets `scores.jsonl`, a line as soon as a choice is scored;
/// with a budget of milliseconds `latency.json`, unless [`SearchOptions::latency_table`] names another; and `found.json`, the
/// [`FoundStudent`]. A search that was interrupted goes on where it was: scores are known by the teacher's weights, the
/// text and the choice, whatever the budget. So another budget costs next to nothing.
///
/// The teacher is held in its own precision, beside it one block at a time, and the residual stream of the text twice.
///
/// # Errors
/// Before anything is measured: [`Error::Prune`] for a quantized teacher, and for a budget of bytes that nothing fits,
/// with the smallest student there is; [`Error::Student`] for sizes that it has no student of, and without a text;
/// [`Error::Option`]; [`Error::Policy`] for a scheme that nothing is quantized to, [`Error::Quantization`] for one that does
/// not fit a matrix. Then [`Error::Prune`] for files in
/// `folder` that cannot be used, a table of another machine, and a budget of milliseconds that nothing fits;
/// [`Error::Student`] for a score that is not finite; [`Error::Distill`], [`Error::Model`], [`Error::Io`],
/// [`Error::Interrupted`].
pub fn search(
    checkpoint: &Checkpoint,
    options: &SearchOptions,
    folder: &Path,
) -> Result<FoundStudent, Error> {
    super::refuse_quantized(checkpoint)?;
    options.check(checkpoint)?;
    let of_bytes = Costs::of_bytes(checkpoint, options)?;
    if let Budget::Bytes(_) = options.budget {
        of_bytes.check(options.budget)?;
    }
    fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
    let of_time = match options.budget {
        Budget::Bytes(_) => None,
        Budget::Milliseconds(_) => {
            let file = options.latency_table.clone();
            let (file, may_grow) =
                file.map_or_else(|| (folder.join(LATENCIES), true), |file| (file, false));
            let costs = Costs::of_time(checkpoint, options, &file, may_grow)?;
            costs.check(options.budget)?;
            Some(costs)
        }
    };
    let scores = ScoreFile::open(&folder.join(SCORES), checkpoint, options)?;
    let job = SearchJob { checkpoint, options, of_bytes: &of_bytes, of_time: of_time.as_ref() };
    let found = run_on(options.device, job.with_scores(scores))??;
    found.save(&folder.join(FOUND))?;
    Ok(found)
}
