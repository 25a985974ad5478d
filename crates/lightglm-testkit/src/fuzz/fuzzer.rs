//! `Fuzzer`: the run.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::failure::{Defect, Failure};
use super::mutator::Mutator;
use super::peak_memory::peak_memory;

/// Inputs kept besides the seeds; past it a new one takes the place of an old one in turn.
const MOST_KEPT: usize = 4_096;

/// A fuzzing run, ready to start.
#[derive(Clone, Debug)]
pub struct Fuzzer {
    /// Names the run in messages and files.
    pub target: String,
    /// Inputs to start from: run as they are first, then mutated. May be empty.
    pub seeds: Vec<Vec<u8>>,
    /// Tokens of the input's language, inserted whole.
    pub dictionary: Vec<Vec<u8>>,
    /// Decides every mutation.
    pub seed: u64,
    /// Longest input, in bytes.
    pub max_len: usize,
    /// The run ends after so many executions.
    pub max_executions: u64,
    /// The run ends after this time, where given.
    pub max_time: Option<Duration>,
    /// A single execution that takes longer is a failure.
    pub slow: Duration,
    /// Growth of the process' peak of virtual memory, in bytes over the whole run, that is a
    /// failure. Where the system does not tell (not Linux) nothing is checked.
    pub max_memory_growth: Option<u64>,
    /// Where a failing input is written, as `<target>-<execution>.bin`; made where it is not there.
    pub artifacts: PathBuf,
    /// Writes every input to `<target>-last.bin` before it is run: for targets that take the whole
    /// process down (stack overflow, out of memory), at the price of a file write each.
    pub keep_last: bool,
}

/// What a run without failure did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Inputs run.
    pub executions: u64,
    /// Different fingerprints seen.
    pub outcomes: usize,
    /// The slowest execution.
    pub slowest: Duration,
    /// Wall-clock time of the run.
    pub elapsed: Duration,
}

impl Fuzzer {
    /// A run of target `target` without seeds: 20,000 executions, inputs of up to 64 KiB, 10 s for
    /// each, files in the system's temporary folder. The environment can change it:
    ///
    /// - `LIGHTGLM_FUZZ_EXECS`: executions
    /// - `LIGHTGLM_FUZZ_SECONDS`: end after so many seconds
    /// - `LIGHTGLM_FUZZ_SEED`: the seed
    /// - `LIGHTGLM_FUZZ_ARTIFACTS`: the folder for failing inputs
    /// - `LIGHTGLM_FUZZ_KEEP_LAST`: keep the last input
    ///
    /// # Panics
    /// Where one of the numbers is not a number: a typing error must not shorten a run in silence.
    pub fn new(target: &str) -> Self {
        let artifacts = std::env::var_os("LIGHTGLM_FUZZ_ARTIFACTS").map(PathBuf::from);
        Self {
            target: target.into(),
            seeds: Vec::new(),
            dictionary: Vec::new(),
            seed: number_from_env("LIGHTGLM_FUZZ_SEED").unwrap_or(1),
            max_len: 64 * 1024,
            max_executions: number_from_env("LIGHTGLM_FUZZ_EXECS").unwrap_or(20_000),
            max_time: number_from_env("LIGHTGLM_FUZZ_SECONDS").map(Duration::from_secs),
            slow: Duration::from_secs(10),
            max_memory_growth: None,
            artifacts: artifacts.unwrap_or_else(|| std::env::temp_dir().join("lightglm-fuzz")),
            keep_last: std::env::var_os("LIGHTGLM_FUZZ_KEEP_LAST").is_some(),
        }
    }

    /// Runs `target` on the seeds and then on mutations of them.
    ///
    /// The target returns a [`fingerprint`](super::fingerprint) of what it made of the input.
    ///
    /// # Errors
    /// The first [`Failure`].
    pub fn run(&self, mut target: impl FnMut(&[u8]) -> u64) -> Result<Report, Box<Failure>> {
        let started = Instant::now();
        let memory_before = self.max_memory_growth.and_then(|_| peak_memory());
        let mut mutator = Mutator::new(self.seed, self.dictionary.clone(), self.max_len);
        let mut corpus = self.seeds.clone();
        let mut outcomes = HashSet::new();
        let mut report =
            Report { executions: 0, outcomes: 0, slowest: Duration::ZERO, elapsed: Duration::ZERO };
        let mut kept = 0;
        while report.executions < self.max_executions
            && self.max_time.is_none_or(|limit| started.elapsed() < limit)
        {
            let seed = usize::try_from(report.executions).ok().and_then(|i| self.seeds.get(i));
            let input = seed.cloned().unwrap_or_else(|| mutator.next_input(&corpus));
            let (outcome, time) = self
                .execute(&mut target, &input, memory_before)
                .map_err(|defect| Box::new(self.failure(report.executions, defect, &input)))?;
            report.executions += 1;
            report.slowest = report.slowest.max(time);
            if outcomes.insert(outcome) && seed.is_none() {
                if kept < MOST_KEPT {
                    corpus.push(input);
                } else {
                    corpus[self.seeds.len() + kept % MOST_KEPT] = input;
                }
                kept += 1;
            }
        }
        report.outcomes = outcomes.len();
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// One execution: the target's fingerprint and how long it took, or what it did wrong.
    fn execute(
        &self,
        target: &mut impl FnMut(&[u8]) -> u64,
        input: &[u8],
        memory_before: Option<u64>,
    ) -> Result<(u64, Duration), Defect> {
        if self.keep_last {
            // Best effort: the run itself does not depend on it.
            let _ = self.write("last", input);
        }
        let started = Instant::now();
        // A target that panicked is not called again, so what it left behind is never seen.
        let outcome = catch_unwind(AssertUnwindSafe(|| target(input)))
            .map_err(|payload| Defect::Panic(panic_message(&*payload)))?;
        let time = started.elapsed();
        if time > self.slow {
            return Err(Defect::Slow(time));
        }
        if let (Some(before), Some(limit)) = (memory_before, self.max_memory_growth) {
            let growth = peak_memory().unwrap_or(before).saturating_sub(before);
            if growth > limit {
                return Err(Defect::Memory(growth));
            }
        }
        Ok((outcome, time))
    }

    fn failure(&self, execution: u64, defect: Defect, input: &[u8]) -> Failure {
        Failure {
            target: self.target.clone(),
            seed: self.seed,
            execution,
            defect,
            input: input.to_vec(),
            file: self.write(&execution.to_string(), input).map_err(|error| error.to_string()),
        }
    }

    fn write(&self, name: &str, input: &[u8]) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(&self.artifacts)?;
        let file = self.artifacts.join(format!("{}-{name}.bin", self.target));
        std::fs::write(&file, input)?;
        Ok(file)
    }
}

/// The number in the environment variable `name`, where it is set.
fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{name}={text}: {error}"),
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
