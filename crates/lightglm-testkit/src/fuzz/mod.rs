//! Seeded mutation fuzzing on the stable toolchain.
//!
//! A run takes seed inputs, mutates them, feeds them to a target and fails on the first input that
//! makes it panic, be slow or swallow memory; that input is written to a file. The same seed and
//! the same number of executions give the same inputs, so a failure in CI is a failure at the desk.
//!
//! There is no coverage instrumentation. What takes its place: a target returns a [`fingerprint`]
//! of what it made of the input, and inputs with a new one join the corpus, so a mutation that gets
//! past a check is built upon.
//!
//! ```
//! use lightglm_testkit::fuzz::{Fuzzer, fingerprint};
//! let mut fuzzer = Fuzzer::new("utf8");
//! fuzzer.seeds = vec![b"hello".to_vec(), "καλημέρα".into()];
//! fuzzer.max_executions = 1_000;
//! let report = fuzzer.run(|input| fingerprint(&std::str::from_utf8(input).map(str::len)));
//! assert_eq!(report.expect("from_utf8 does not panic").executions, 1_000);
//! ```

mod failure;
mod fingerprint;
mod fuzzer;
mod mutator;
mod peak_memory;

pub use failure::{Defect, Failure};
pub use fingerprint::fingerprint;
pub use fuzzer::{Fuzzer, Report};
pub use mutator::Mutator;
