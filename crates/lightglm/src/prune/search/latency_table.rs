//! `LatencyTable`: what a decode step takes on this machine, by shape and scheme.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use lightglm_core::WeightDtype;
use lightglm_kernels::cpu::team;
use lightglm_model::config::GlmConfig;
use lightglm_quant::{Policy, Scheme};
use serde::{Deserialize, Serialize};

use super::super::PruneError;
use super::block_variant::table_policy;
use super::options::SearchOptions;
use crate::error::Error;
use crate::new_folder::at;
use crate::speed::BlockLatency;
use crate::whole_file::write_whole;

const DOING: &str = "measuring latencies";

/// Tokens of a model of which only the block is timed.
const FEW_TOKENS: usize = 8;

/// The rule for all matrices of the only block.
const BLOCK: &str = "model.layers.0.*";

/// What a decode step of one sequence takes on a machine: each block, and everything else.
///
/// The numbers are of random weights, each the median of a few steps between which the caches were filled with something
/// else. They hold for one processor, one number of threads and one depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyTable {
    /// The processor, as it calls itself.
    pub processor: String,
    /// Threads that took part.
    pub threads: usize,
    /// Positions that the step looked back on.
    pub depth: usize,
    /// Milliseconds, by shape and scheme.
    pub milliseconds: BTreeMap<String, f64>,
}

impl LatencyTable {
    /// An empty one for this machine.
    pub fn here(depth: usize) -> Self {
        let threads = team::num_threads();
        Self { processor: processor(), threads, depth, milliseconds: BTreeMap::new() }
    }

    /// Reads `file`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`PruneError::SearchFile`] for what is no table, or has a time that is none.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let json = std::fs::read(file).map_err(|source| at(file, source))?;
        let wrong = |reason: String| PruneError::SearchFile { file: file.to_owned(), reason };
        let table: Self =
            serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        let is_none = |time: &f64| !time.is_finite() || *time < 0.0;
        match table.milliseconds.iter().find(|(_, time)| is_none(time)) {
            Some((key, time)) => Err(wrong(format!("`{key}` takes {time} milliseconds")).into()),
            None => Ok(table),
        }
    }

    /// Writes `file`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, file: &Path) -> Result<(), Error> {
        let json = serde_json::to_string_pretty(self).expect("strings and numbers");
        write_whole(file, json + "\n")
    }

    /// Refuses a table that was not measured on such a machine as `here`.
    ///
    /// # Errors
    /// [`PruneError::LatencyMachine`]; `file` is named in it.
    pub fn check(&self, here: &Self, file: &Path) -> Result<(), PruneError> {
        let differs = |field, found: &str, expected: &str| {
            let (file, found, expected) = (file.to_owned(), found.to_owned(), expected.to_owned());
            Err(PruneError::LatencyMachine { file, field, found, expected })
        };
        if self.processor != here.processor {
            return differs("processor", &self.processor, &here.processor);
        }
        if self.threads != here.threads {
            return differs("threads", &self.threads.to_string(), &here.threads.to_string());
        }
        if self.depth != here.depth {
            return differs("depth", &self.depth.to_string(), &here.depth.to_string());
        }
        Ok(())
    }

    /// The table in `file` with all that a search needs: measured where it is not there, and what is missing where it
    /// `may_grow`.
    pub(super) fn for_search(
        file: &Path,
        may_grow: bool,
        config: &GlmConfig,
        dense: WeightDtype,
        options: &SearchOptions,
    ) -> Result<Self, Error> {
        let here = Self::here(options.depth);
        let (mut table, is_new) = match Self::load(file) {
            Ok(table) => (table, false),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                (here.clone(), true)
            }
            Err(error) => return Err(error),
        };
        table.check(&here, file)?;
        let mut widths = options.intermediate_sizes.clone();
        if widths.is_empty() {
            widths.push(config.intermediate_size);
        }
        let mut missing = Vec::new();
        for width in widths {
            let shape = Self::shape(config, width);
            let few = GlmConfig { vocab_size: FEW_TOKENS, ..shape.clone() };
            for &scheme in &options.schemes {
                missing.push((block_key(&shape, dense, scheme), few.clone(), scheme, false));
            }
        }
        missing.push((
            table_key(config, dense, options.tables),
            config.clone(),
            options.tables,
            true,
        ));
        missing.retain(|(key, ..)| !table.milliseconds.contains_key(key));
        let total = missing.len() as u64;
        if total > 0 && !is_new && !may_grow {
            let (file, key) = (file.to_owned(), missing.swap_remove(0).0);
            return Err(PruneError::LatencyMissing { file, key }.into());
        }
        for (done, (key, config, scheme, is_tables)) in missing.into_iter().enumerate() {
            options.progress.working(DOING, done as u64, total)?;
            let policy = match is_tables {
                true => table_policy(&config, scheme)?,
                false => Policy::new([(BLOCK, scheme)])?,
            };
            let (policy, config) = (&policy, &config);
            let (depth, repetitions) = (options.depth, options.repetitions);
            let found = BlockLatency { config, dense, policy, depth, repetitions }.measure()?;
            let milliseconds = match is_tables {
                true => (found.with_head - found.without_head).max(0.0),
                false => found.without_head,
            };
            table.milliseconds.insert(key, milliseconds);
            table.save(file)?;
        }
        options.progress.working(DOING, total, total)?;
        Ok(table)
    }

    /// `config` with blocks of another width.
    pub(super) fn shape(config: &GlmConfig, intermediate_size: usize) -> GlmConfig {
        GlmConfig { intermediate_size, ..config.clone() }
    }

    /// Milliseconds of a block of `shape` in `scheme`.
    pub(super) fn block(
        &self,
        shape: &GlmConfig,
        dense: WeightDtype,
        scheme: Scheme,
        file: &Path,
    ) -> Result<f64, PruneError> {
        self.get(block_key(shape, dense, scheme), file)
    }

    /// Milliseconds of the head of `config` in `scheme`.
    pub(super) fn tables(
        &self,
        config: &GlmConfig,
        dense: WeightDtype,
        scheme: Scheme,
        file: &Path,
    ) -> Result<f64, PruneError> {
        self.get(table_key(config, dense, scheme), file)
    }

    fn get(&self, key: String, file: &Path) -> Result<f64, PruneError> {
        let found = self.milliseconds.get(&key).copied();
        found.ok_or_else(|| PruneError::LatencyMissing { file: file.to_owned(), key })
    }
}

fn block_key(shape: &GlmConfig, dense: WeightDtype, scheme: Scheme) -> String {
    let GlmConfig { hidden_size, intermediate_size, head_dim, .. } = shape;
    let (heads, key_value_heads) = (shape.num_attention_heads, shape.num_key_value_heads);
    let norms = match (shape.has_post_norms(), shape.has_qk_norms()) {
        (false, false) => "",
        (true, false) => " post-norms",
        (false, true) => " qk-norms",
        (true, true) => " post-norms qk-norms",
    };
    let bias = if shape.attention_bias { " bias" } else { "" };
    let scheme = scheme_key(dense, scheme);
    format!(
        "block hidden {hidden_size} ffn {intermediate_size} heads {heads}/{key_value_heads} of {head_dim}{bias}{norms}: {scheme}"
    )
}

fn table_key(config: &GlmConfig, dense: WeightDtype, scheme: Scheme) -> String {
    let GlmConfig { hidden_size, vocab_size, .. } = config;
    format!("head hidden {hidden_size} vocab {vocab_size}: {}", scheme_key(dense, scheme))
}

fn scheme_key(dense: WeightDtype, scheme: Scheme) -> String {
    match scheme {
        Scheme::Dense => dense.name().to_owned(),
        Scheme::Quantized(_) => scheme.spelled_out(),
    }
}

/// What the first processor calls itself.
fn processor() -> String {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_all();
    let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
    brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
