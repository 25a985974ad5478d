//! Models: opened, asked, scored.

mod adapters;
mod alone;
mod batch;
mod chat;
mod copied_weights;
mod imported;
mod language_model;
mod load;
mod load_options;
mod memory;
mod reply;
mod runtime;
mod sampling;
mod sight;
#[cfg(feature = "structured")]
mod structured;
#[cfg(feature = "media")]
mod transcribe;
mod turn;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub(crate) use adapters::read_adapter;
#[cfg(feature = "train")]
pub(crate) use alone::QuantizedBlock;
pub(crate) use alone::{AloneGlm, alone, run_alone};
pub use batch::{Prompt, Request};
pub use chat::{Answer, Chat};
pub(crate) use imported::{imported, imported_scheme, is_imported};
pub use language_model::{LanguageModel, LoadAdapter, Loaded};
#[cfg(feature = "train")]
pub(crate) use load::EMBEDDING;
pub use load::{
    Quantized, QuantizedGlm, load, load_quantized, load_source, matrices, quantize_source,
};
pub(crate) use load::{check, interrupted, is_packed, load_as};
pub use load_options::{LoadOptions, Sparsity, Weights};
#[cfg(feature = "serve")]
pub(crate) use memory::available_memory;
pub(crate) use memory::weight_bytes;
pub use reply::{Reply, Speed};
#[cfg(feature = "train")]
pub(crate) use runtime::SEQUENCES;
pub(crate) use runtime::{CacheOptions, EXACT_LAYERS};
pub use sampling::recommended;
pub(crate) use sight::refuse_encoder;
#[cfg(all(feature = "media", feature = "serve"))]
pub(crate) use transcribe::PIECE_SECONDS;
#[cfg(feature = "media")]
pub use transcribe::{Segment, Transcription};
pub use turn::{IntoMedium, IntoTurn, Medium, Turn, UserMessage, user};

use lightglm_generation::media::MediaStore;
use lightglm_generation::{ContiguousKvCache, SamplingParams};
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_text::{ChatText, ModelText};

use crate::device::{DeviceJob, run_on};
use crate::error::Error;
use runtime::{OnBackend, Runtime};

/// A model that is ready to answer. Clones share it.
///
/// Which backend it runs on does not show in its type; [`Model::loaded`] gives the generic parts to
/// those who need them.
#[derive(Clone)]
pub struct Model {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) text: Arc<ModelText>,
    pub(crate) sampling: SamplingParams,
    pub(crate) runtime: Box<dyn Runtime>,
    pub(crate) options: LoadOptions,
    pub(crate) name: String,
    pub(crate) max_context: usize,
    /// Of a model that sees or hears; not in training.
    pub(crate) media: Option<Arc<MediaStore>>,
    /// Whether its weights are those of its checkpoint's files: not in training, without an adapter.
    #[cfg(feature = "train")]
    pub(crate) is_as_stored: bool,
    #[cfg(feature = "structured")]
    pub(crate) vocabulary: structured::Vocabulary,
}

impl Model {
    /// Opens a model: a folder in Hugging Face layout, one that this project wrote (quantized or
    /// fine-tuned), or a `.gguf` file; with the feature `tiny` also `DEFAULT_MODEL`, which is compiled
    /// in; with the feature `hub` also a hub id or `SMALL_MODEL`, which is fetched where it is not there
    /// yet.
    ///
    /// # Errors
    /// Where the model cannot be found, fetched or read, and where `options` do not fit it; the
    /// latter before any weight is read.
    pub fn open(model: impl AsRef<Path>, options: LoadOptions) -> Result<Self, Error> {
        options.check()?;
        let checkpoint = crate::checkpoint::open(model.as_ref(), &options.progress)?;
        Self::from_checkpoint(checkpoint, options)
    }

    /// A checkpoint that was opened already, to look at it first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_checkpoint(checkpoint: Checkpoint, options: LoadOptions) -> Result<Self, Error> {
        load::check(&checkpoint, &options)?;
        memory::check_memory(&checkpoint, &options)?;
        let mut text = checkpoint.text()?;
        text.template = text.template.with_folded_tools(options.fold_tools);
        let text = Arc::new(text);
        let sampling = recommended(&checkpoint.generation_config()?);
        sampling.validate()?;
        let job = Open { checkpoint: &checkpoint, options: &options };
        let runtime = run_on(options.device, job)??;
        let media = sight::store(&checkpoint, &options)?;
        let checkpoint = Arc::new(checkpoint);
        Ok(Self::assembled(checkpoint, text, sampling, runtime, options, media, true))
    }

    /// A decoder on the CPU that was made in memory, with the text side of `checkpoint`.
    #[cfg(feature = "train")]
    pub(crate) fn of_loaded(
        checkpoint: Arc<Checkpoint>,
        text: Arc<ModelText>,
        loaded: Loaded<crate::Cpu>,
        options: LoadOptions,
    ) -> Result<Self, Error> {
        let sampling = recommended(&checkpoint.generation_config()?);
        sampling.validate()?;
        let cache = CacheOptions::new(checkpoint.config(), &options);
        let runtime = Box::new(OnBackend { loaded, cache });
        Ok(Self::assembled(checkpoint, text, sampling, runtime, options, None, false))
    }

    fn assembled(
        checkpoint: Arc<Checkpoint>,
        text: Arc<ModelText>,
        sampling: SamplingParams,
        runtime: Box<dyn Runtime>,
        options: LoadOptions,
        media: Option<Arc<MediaStore>>,
        #[cfg_attr(not(feature = "train"), expect(unused_variables))] is_as_stored: bool,
    ) -> Self {
        let max_context = options.max_context_of(&checkpoint);
        let name = name_of(checkpoint.path());
        let inner = Inner {
            checkpoint,
            text,
            sampling,
            runtime,
            options,
            name,
            max_context,
            media,
            #[cfg(feature = "train")]
            is_as_stored,
            #[cfg(feature = "structured")]
            vocabulary: structured::Vocabulary::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A conversation, with the checkpoint's own way to sample.
    pub fn chat(&self) -> Chat {
        Chat::new(self.clone())
    }

    /// The model with the LoRA adapter `name`: a folder of that name in
    /// [`LoadOptions::adapters`]. The base model's weights are shared, so it costs the adapter alone.
    ///
    /// # Errors
    /// [`Error::Adapter`] and [`Error::Peft`].
    pub fn with_adapter(&self, name: &str) -> Result<Self, Error> {
        let runtime = self.inner.runtime.with_adapter(name)?;
        let inner = &self.inner;
        let inner = Inner {
            checkpoint: Arc::clone(&inner.checkpoint),
            text: Arc::clone(&inner.text),
            sampling: inner.sampling.clone(),
            runtime,
            options: inner.options.clone(),
            name: name.to_owned(),
            max_context: inner.max_context,
            media: inner.media.clone(),
            #[cfg(feature = "train")]
            is_as_stored: false,
            #[cfg(feature = "structured")]
            vocabulary: inner.vocabulary.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Tokens of `text`, nothing added.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn count_tokens(&self, text: &str) -> Result<usize, Error> {
        Ok(self.inner.text.encode(text)?.len())
    }

    /// `ln p(continuation | prompt)` in nats for each of `continuations` of the text `prompt`: which of
    /// some answers the model finds likeliest.
    ///
    /// # Errors
    /// Where a text has no tokens, or prompt and continuation together are too long.
    pub fn score(&self, prompt: &str, continuations: &[&str]) -> Result<Vec<f64>, Error> {
        self.refuse_one_conversation("score")?;
        let text = &self.inner.text;
        let encoded = continuations.iter();
        let encoded = encoded.map(|continuation| text.tokenizer.encode_continuation(continuation));
        let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
        self.inner.runtime.score(&text.encode_prompt(prompt)?, &encoded)
    }

    /// Refuses what runs several sequences at once on a model whose neurons each prompt chooses.
    ///
    /// # Errors
    /// [`Error::OneConversation`].
    pub(crate) fn refuse_one_conversation(&self, doing: &'static str) -> Result<(), Error> {
        match self.inner.runtime.is_for_one_conversation() {
            true => Err(Error::OneConversation { doing }),
            false => Ok(()),
        }
    }

    /// The model's files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.inner.checkpoint
    }

    /// The model's configuration.
    pub fn config(&self) -> &GlmConfig {
        self.inner.checkpoint.config()
    }

    /// The model's text side: tokenizer and chat template.
    pub fn text(&self) -> &ModelText {
        &self.inner.text
    }

    /// Keys of the model's generation_config.json that would change what is generated and are not used:
    /// `num_beams`, say.
    pub fn unused_generation_keys(&self) -> Vec<String> {
        // It was read when the model was opened.
        self.inner.checkpoint.generation_config().map(|config| config.unused).unwrap_or_default()
    }

    /// How the model answers where nobody says how: as its generation_config.json says.
    pub fn sampling(&self) -> &SamplingParams {
        &self.inner.sampling
    }

    /// A short name: of its folder or file, or of its adapter.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How weights are held: `bf16`, `int8`, a policy.
    pub fn scheme(&self) -> &str {
        self.inner.runtime.scheme()
    }

    /// Whether projections multiply integers: the model is quantized, or stored in GGUF's blocks.
    pub fn is_integer(&self) -> bool {
        self.inner.runtime.is_integer()
    }

    /// Bytes that the model's matrices would take, held as `weights` say. No weight is read.
    ///
    /// ```no_run
    /// # use lightglm::{LoadOptions, Model, Weights};
    /// let model = Model::open("glm-4-9b-0414", LoadOptions::default())?;
    /// let (now, int8) = (Weights::Stored, Weights::scheme("int8")?);
    /// println!("{} bytes, {} in int8", model.weight_bytes(&now)?, model.weight_bytes(&int8)?);
    /// # Ok::<(), lightglm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the checkpoint is at fault, or a scheme does not fit a matrix.
    pub fn weight_bytes(&self, weights: &Weights) -> Result<u64, Error> {
        memory::weight_bytes(self.checkpoint(), weights)
    }

    /// Bytes of weights that one step of `rows` rows must read.
    pub fn bytes_read(&self, rows: usize) -> usize {
        self.inner.runtime.bytes_read(rows)
    }

    /// Tokens of the longest conversation.
    pub fn max_context(&self) -> usize {
        self.inner.max_context
    }

    /// How it was opened.
    pub fn options(&self) -> &LoadOptions {
        &self.inner.options
    }

    /// An empty cache as the options want it: so many sequences of so many positions each.
    ///
    /// # Panics
    /// Where the model does not run on the backend `B`.
    pub(crate) fn cache<B: LmBackend>(
        &self,
        sequences: usize,
        positions: usize,
    ) -> ContiguousKvCache<B> {
        let device = &self.on::<B>().device;
        CacheOptions::new(self.config(), self.options()).cache(sequences, positions, device)
    }

    /// The model on the backend of its device.
    ///
    /// # Panics
    /// Where that is not `B`.
    pub(crate) fn on<B: LmBackend>(&self) -> &Loaded<B> {
        self.loaded().expect("a model is on the device that its options name")
    }

    /// The decoder itself, where it runs on the backend `B` ([`Cpu`](crate::Cpu), say).
    pub fn loaded<B: LmBackend>(&self) -> Option<&Loaded<B>> {
        self.inner.runtime.loaded().downcast_ref()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.inner.checkpoint.path();
        f.debug_struct("Model").field("path", &path).field("scheme", &self.scheme()).finish()
    }
}

/// The last part of a path, without `.gguf`.
fn name_of(path: &Path) -> String {
    let last = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    last.strip_suffix(".gguf").unwrap_or(&last).to_owned()
}

/// Loading on a device that is chosen at run time.
struct Open<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a LoadOptions,
}

impl DeviceJob for Open<'_> {
    type Output = Result<Box<dyn Runtime>, Error>;

    fn run<B: LmGradients>(self, device: B::Device) -> Self::Output {
        let loaded = load::<B>(self.checkpoint, self.options, &device)?;
        let cache = CacheOptions::new(self.checkpoint.config(), self.options);
        Ok(Box::new(OnBackend { loaded, cache }))
    }
}
