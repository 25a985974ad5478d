//! `LoadOptions`: how a model is held and run.

use std::path::PathBuf;

use lightglm_core::{KvDtype, WeightDtype};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{Policy, Scheme};

use crate::device::Device;
use crate::error::Error;
use crate::progress::ProgressSink;

/// Longest conversation, unless told otherwise, in tokens.
pub(crate) const DEFAULT_MAX_CONTEXT: usize = 8192;

/// How weights are held.
///
/// One choice, so that no two options can contradict each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Weights {
    /// As the checkpoint stores them, without loss: dense, quantized, or in GGUF's blocks, which are
    /// multiplied as they are, with activations of 16 bits.
    #[default]
    Stored,
    /// Dense, in this precision.
    Dtype(WeightDtype),
    /// Quantized while they are loaded.
    Policy(Policy),
}

impl Weights {
    /// All matrices quantized by one scheme: `int8`, `int4`, `int8wo`, `w8a16-g32`, ...
    ///
    /// ```
    /// use lightglm::Weights;
    /// assert!(matches!(Weights::scheme("int8")?, Weights::Policy(_)));
    /// assert!(Weights::scheme("int9").is_err());
    /// # Ok::<(), lightglm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Scheme`].
    pub fn scheme(name: &str) -> Result<Self, Error> {
        Ok(Self::Policy(Policy::uniform(name.parse::<Scheme>()?)))
    }

    /// A scheme for each matrix: `lm_head=int8,*.down_proj=int8,*=int4`; the first pattern that
    /// matches holds.
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub fn policy(rules: &str) -> Result<Self, Error> {
        Ok(Self::Policy(rules.parse()?))
    }
}

impl From<Policy> for Weights {
    fn from(policy: Policy) -> Self {
        Self::Policy(policy)
    }
}

/// Which activations a decoded token does without.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Sparsity {
    /// None: every weight is read for every token.
    #[default]
    Dense,
    /// Those below the thresholds in a file that [`sparsify`](crate::sparse) wrote: before every
    /// projection (TEAL), or behind the gates of the feed-forward parts (CATS), as the file says.
    Thresholds(PathBuf),
    /// Each prompt chooses this fraction of the feed-forward neurons, above 0 and at most 1, for the
    /// reply to it (GRIFFIN). For one conversation at a time: batches, scores and servers refuse it.
    /// A turn of a chat runs its whole conversation again, for all of it chooses.
    PromptNeurons(f64),
}

/// How a model is held and run. The defaults suit a conversation on the CPU.
///
/// What does not fit the model, or does not go together, is refused when the model is opened, before
/// any weight is read.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How weights are held; by default as they are stored.
    pub weights: Weights,
    /// Where the model runs; by default on the CPU.
    pub device: Device,
    /// How keys and values are held; by default as f16.
    pub kv_dtype: KvDtype,
    /// Positions that a decode step attends to at most, in all layers but the first two (Quest); by
    /// default all.
    pub kv_budget: Option<usize>,
    /// Tokens of the longest conversation, prompt and reply together; if omitted 8192, or what the
    /// model was made for where that is less.
    pub max_context: Option<usize>,
    /// Bytes that weights, and the keys and values of one conversation, may take on the CPU; by default
    /// what the machine has available. A model that needs more is refused. `u64::MAX` asks nothing.
    pub memory: Option<u64>,
    /// Copy weights out of their mapped file into memory, in huge pages; by default they are read where they
    /// are mapped. What is converted, quantized or packed while it is loaded is in memory in any case.
    pub copy_weights: bool,
    /// Which activations a decoded token does without; by default none.
    pub sparsity: Sparsity,
    /// Write tools, and what they returned, into ordinary messages where the chat template has no place for
    /// them; by default such a conversation is an error that names the tool, and a request to a server a 400.
    pub fold_tools: bool,
    /// A folder whose folders are LoRA adapters in PEFT's layout, for
    /// [`Model::with_adapter`](crate::Model::with_adapter) and for requests to a server.
    pub adapters: Option<PathBuf>,
    /// Told how far loading is.
    pub progress: ProgressSink,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            device: Device::default(),
            kv_dtype: KvDtype::F16,
            kv_budget: None,
            max_context: None,
            memory: None,
            copy_weights: false,
            sparsity: Sparsity::default(),
            fold_tools: false,
            adapters: None,
            progress: ProgressSink::default(),
        }
    }
}

impl LoadOptions {
    /// Tokens of the longest conversation with the model of `checkpoint`.
    pub(crate) fn max_context_of(&self, checkpoint: &Checkpoint) -> usize {
        let most = checkpoint.config().context_length();
        self.max_context.unwrap_or(DEFAULT_MAX_CONTEXT).min(most)
    }

    /// What can be refused without a model.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |option, reason: &str| Err(Error::Option { option, reason: reason.to_owned() });
        if self.max_context.is_some_and(|tokens| tokens < 2) {
            return wrong("max_context", "must be at least 2");
        }
        if self.kv_budget == Some(0) {
            return wrong("kv_budget", "must be at least 1");
        }
        if let Sparsity::PromptNeurons(keep) = self.sparsity
            && !(keep > 0.0 && keep <= 1.0)
        {
            return wrong("sparsity", "the fraction of neurons to keep is above 0 and at most 1");
        }
        if let Sparsity::Thresholds(file) = &self.sparsity
            && let Err(source) = std::fs::File::open(file)
        {
            return Err(Error::Io { file: file.clone(), source });
        }
        if let Some(folder) = &self.adapters {
            if self.sparsity != Sparsity::Dense {
                return wrong("adapters", "a sparse model takes no adapters");
            }
            if !folder.is_dir() {
                let reason = format!("{}: is not a folder", folder.display());
                return wrong("adapters", &reason);
            }
        }
        Ok(())
    }
}
