//! `Runtime` and `Session`: a loaded model and its caches, whatever the backend.
//!
//! The price of not naming the backend is one virtual call a step.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lightglm_core::{CausalLm, KvCache, KvDtype, KvShape, PageBudget, SequenceId};
use lightglm_generation::batched::{
    self, BatchOptions, BatchSubject, ReplyControl, log_likelihoods,
};
use lightglm_generation::{
    ContiguousKvCache, Generation, GenerationError, GenerationRequest, Generator, PrefillProgress,
    RunControl, Step,
};
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_text::Detokenize;

use super::language_model::{LanguageModel, Loaded};
use super::load_options::LoadOptions;
use crate::error::Error;
use crate::sparse::PromptNeuronsLm;

/// Layers whose attention stays exact with a page budget.
///
/// Source: Tang et al. 2024, "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference",
/// section 4.1.
pub(crate) const EXACT_LAYERS: usize = 2;

/// Requests of a batch that are worked on at once: a decode step reads every weight once for all of them.
pub(crate) const SEQUENCES: usize = 32;

/// Turns one reply's tokens into text.
pub(crate) type BoxedDetokenizer = Box<dyn Detokenize + Send>;

/// A request of [`Session::generate`] and [`Runtime::batch`].
pub(crate) type Request = GenerationRequest<BoxedDetokenizer>;

/// Steps of a generation as they come.
pub(crate) type Steps<'a> = Box<dyn Iterator<Item = Result<Step, Error>> + 'a>;

/// A loaded model of any backend.
pub(crate) trait Runtime: Send + Sync {
    /// A cache of one sequence, and the model to fill it.
    fn session(&self, positions: usize) -> Box<dyn Session>;

    /// Whether prompts choose their neurons, so that sequences cannot share steps.
    fn is_for_one_conversation(&self) -> bool;

    /// Runs `requests`, [`SEQUENCES`] at a time, with room for `positions` each; once `stop` is raised, those
    /// that have not ended are cancelled.
    fn batch(
        &self,
        requests: Vec<Request>,
        positions: usize,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(usize, &Step),
    ) -> Result<Vec<Result<Generation, GenerationError>>, Error>;

    /// `ln p(continuation | prompt)` for each continuation.
    fn score(&self, prompt: &[u32], continuations: &[Vec<u32>]) -> Result<Vec<f64>, Error>;

    /// The loss in nats of each target that there is, each token attending to those in front of it.
    #[cfg(feature = "train")]
    fn label_losses(&self, tokens: &[u32], targets: &[Option<u32>]) -> Result<Vec<f32>, Error>;

    /// The logits of each target that there is: `[R, V]`.
    #[cfg(feature = "train")]
    fn label_logits(&self, tokens: &[u32], targets: &[Option<u32>]) -> Result<Vec<f32>, Error>;

    /// The same with an adapter.
    fn with_adapter(&self, name: &str) -> Result<Box<dyn Runtime>, Error>;

    /// An engine of many requests, with `blocks` blocks of keys and values.
    #[cfg(feature = "serve")]
    fn engine(
        &self,
        blocks: usize,
        shape: KvShape,
        dtype: KvDtype,
        config: lightglm_serve::engine::EngineConfig,
    ) -> std::io::Result<lightglm_serve::engine::EngineThread>;

    /// Bytes of weights that one step of `rows` rows must read.
    fn bytes_read(&self, rows: usize) -> usize;

    /// How weights are held.
    fn scheme(&self) -> &str;

    /// Whether projections multiply integers.
    fn is_integer(&self) -> bool;

    /// The [`Loaded`] model inside.
    fn loaded(&self) -> &dyn Any;
}

/// One sequence of a cache, and the model that fills it.
pub(crate) trait Session: Send {
    /// Positions that the cache holds.
    fn held(&self) -> usize;

    /// Positions of the cache that another prompt with the same beginning may go on with.
    fn reusable(&self) -> usize;

    /// Forgets all but the first `len` positions.
    fn truncate(&mut self, len: usize) -> Result<(), Error>;

    /// Generates behind what the cache holds.
    fn generate<'a>(
        &'a mut self,
        request: Request,
        on_prefill: Box<dyn FnMut(PrefillProgress) + 'a>,
    ) -> Result<Steps<'a>, GenerationError>;
}

/// The one sequence of a session's cache.
const SEQUENCE: SequenceId = SequenceId(0);

/// What caches are made of.
#[derive(Clone, Copy)]
pub(crate) struct CacheOptions {
    shape: KvShape,
    dtype: KvDtype,
    budget: Option<PageBudget>,
}

impl CacheOptions {
    pub(crate) fn new(config: &GlmConfig, options: &LoadOptions) -> Self {
        Self::of(config, options.kv_dtype, options.kv_budget)
    }

    /// Of this type, with decode steps that attend to at most `budget` positions.
    pub(crate) fn of(config: &GlmConfig, dtype: KvDtype, budget: Option<usize>) -> Self {
        let budget = budget.map(|positions| PageBudget { positions });
        Self { shape: KvShape::of(config), dtype, budget }
    }

    /// An empty cache.
    pub(crate) fn cache<B: LmBackend>(
        &self,
        sequences: usize,
        positions: usize,
        device: &B::Device,
    ) -> ContiguousKvCache<B> {
        let cache = ContiguousKvCache::new(self.shape, sequences, positions, self.dtype, device);
        match self.budget {
            Some(budget) => cache.with_page_budget(budget, EXACT_LAYERS),
            None => cache,
        }
    }
}

/// A [`Runtime`] of the backend `B`.
pub(crate) struct OnBackend<B: LmBackend> {
    pub(crate) loaded: Loaded<B>,
    pub(crate) cache: CacheOptions,
}

impl<B: LmBackend> Runtime for OnBackend<B> {
    fn session(&self, positions: usize) -> Box<dyn Session> {
        let cache = self.cache.cache::<B>(1, positions, &self.loaded.device);
        let conversation =
            self.loaded.prompt_neurons.as_ref().map(|neurons| Arc::new(neurons.conversation()));
        let model: Arc<dyn LanguageModel<B>> = match &conversation {
            Some(conversation) => conversation.clone(),
            None => Arc::clone(&self.loaded.model),
        };
        Box::new(OneSequence { model, prompt_neurons: conversation, cache })
    }

    fn is_for_one_conversation(&self) -> bool {
        self.loaded.prompt_neurons.is_some()
    }

    fn batch(
        &self,
        requests: Vec<Request>,
        positions: usize,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(usize, &Step),
    ) -> Result<Vec<Result<Generation, GenerationError>>, Error> {
        let mut make_cache = |sequences, positions| {
            Ok(self.cache.cache::<B>(sequences, positions, &self.loaded.device))
        };
        let model = as_causal(&*self.loaded.model);
        let mut subject = BatchSubject::new(model, &mut make_cache, ContiguousKvCache::truncate);
        let max_positions = Some(positions);
        let options = BatchOptions { sequences: SEQUENCES, max_positions, ..Default::default() };
        let mut replies = ReplyControl { on_step: Some(on_step), ..ReplyControl::default() };
        let control = &mut RunControl { stop: Some(stop), ..RunControl::default() };
        Ok(batched::generate(&mut subject, requests, &options, &mut replies, control)?)
    }

    fn score(&self, prompt: &[u32], continuations: &[Vec<u32>]) -> Result<Vec<f64>, Error> {
        let mut make_cache = |sequences, positions| {
            Ok(self.cache.cache::<B>(sequences, positions, &self.loaded.device))
        };
        let model = as_causal(&*self.loaded.model);
        let mut subject = BatchSubject::new(model, &mut make_cache, ContiguousKvCache::truncate);
        let (options, mut control) = (BatchOptions::default(), RunControl::default());
        let prompts = [prompt.to_vec()];
        let mut scores =
            log_likelihoods(&mut subject, &prompts, continuations, &options, &mut control)?;
        // Nobody can raise a stop flag, so the one prompt is done.
        Ok(scores.pop().flatten().unwrap_or_default())
    }

    #[cfg(feature = "train")]
    fn label_losses(&self, tokens: &[u32], targets: &[Option<u32>]) -> Result<Vec<f32>, Error> {
        let Some((logits, labels)) = self.labelled(tokens, targets)? else { return Ok(Vec::new()) };
        let losses = B::cross_entropy(logits, &labels).into_data().convert::<f32>();
        Ok(losses.into_vec().expect("converted to f32"))
    }

    #[cfg(feature = "train")]
    fn label_logits(&self, tokens: &[u32], targets: &[Option<u32>]) -> Result<Vec<f32>, Error> {
        let Some((logits, _)) = self.labelled(tokens, targets)? else { return Ok(Vec::new()) };
        let logits = logits.into_data().convert::<f32>();
        Ok(logits.into_vec().expect("converted to f32"))
    }

    fn with_adapter(&self, name: &str) -> Result<Box<dyn Runtime>, Error> {
        let Some(load) = &self.loaded.adapters else {
            let reason = "the model was opened without a folder of adapters".to_owned();
            return Err(Error::Adapter { name: name.to_owned(), reason });
        };
        let loaded = Loaded { model: load(name)?, adapters: None, ..self.loaded.clone() };
        Ok(Box::new(Self { loaded, cache: self.cache }))
    }

    #[cfg(feature = "serve")]
    fn engine(
        &self,
        blocks: usize,
        shape: KvShape,
        dtype: KvDtype,
        config: lightglm_serve::engine::EngineConfig,
    ) -> std::io::Result<lightglm_serve::engine::EngineThread> {
        use lightglm_serve::engine::{EngineBuilder, SharedModel};
        use lightglm_serve::kv::PagedKvCache;

        let cache = PagedKvCache::<B>::new(shape, blocks, dtype, &self.loaded.device);
        let model: SharedModel<B> = self.loaded.model.clone();
        let builder = EngineBuilder::new(model, cache, config);
        let builder = match self.loaded.adapters.clone() {
            Some(load) => builder.with_adapters(Box::new(move |name| {
                let adapted = load(name).map_err(|error| fault(&error))?;
                Ok(adapted as SharedModel<B>)
            })),
            None => builder,
        };
        builder.build().spawn()
    }

    fn bytes_read(&self, rows: usize) -> usize {
        self.loaded.model.bytes_read(rows)
    }

    fn scheme(&self) -> &str {
        &self.loaded.scheme
    }

    fn is_integer(&self) -> bool {
        self.loaded.integer
    }

    fn loaded(&self) -> &dyn Any {
        &self.loaded
    }
}

/// Logits `[R, V]`, and the target of each row.
#[cfg(feature = "train")]
type Labelled<B> = (burn::tensor::Tensor<B, 2>, Vec<u32>);

#[cfg(feature = "train")]
impl<B: LmBackend> OnBackend<B> {
    /// The logits `[R, V]` behind the tokens that have a target, and these targets; `None` without any.
    fn labelled(
        &self,
        tokens: &[u32],
        targets: &[Option<u32>],
    ) -> Result<Option<Labelled<B>>, Error> {
        use burn::tensor::{Int, Tensor, TensorData};
        use lightglm_core::{LmError, LogitRows, Span};

        let (model, device) = (&self.loaded.model, &self.loaded.device);
        let Some(first) = targets.iter().position(Option::is_some) else { return Ok(None) };
        let labelled = targets.iter().enumerate().filter_map(|(row, target)| target.zip(Some(row)));
        let (labels, rows): (Vec<u32>, Vec<i32>) =
            labelled.map(|(target, row)| (target, (row - first) as i32)).unzip();
        let vocab_size = model.vocab_size();
        if let Some(&token) = labels.iter().find(|&&label| label as usize >= vocab_size) {
            return Err(LmError::TokenOutOfRange { token, vocab_size }.into());
        }
        let mut cache = self.cache.cache::<B>(1, tokens.len(), device);
        let span = |tokens, logits| [Span::text(SEQUENCE, tokens, logits)];
        // A prompt's logits would take more room than all else.
        if first > 0 {
            model.forward(&span(&tokens[..first], LogitRows::None), &mut cache)?;
        }
        let logits = model.forward(&span(&tokens[first..], LogitRows::All), &mut cache)?;
        let rows = TensorData::new(rows, [labels.len()]);
        let logits = logits.select(0, Tensor::<B, 1, Int>::from_data(rows, device));
        Ok(Some((logits, labels)))
    }
}

fn as_causal<B: LmBackend>(model: &dyn LanguageModel<B>) -> &dyn CausalLm<B> {
    model
}

struct OneSequence<B: LmBackend> {
    model: Arc<dyn LanguageModel<B>>,
    /// The same model, where its prompts choose their neurons.
    prompt_neurons: Option<Arc<PromptNeuronsLm<B>>>,
    cache: ContiguousKvCache<B>,
}

impl<B: LmBackend> Session for OneSequence<B> {
    fn held(&self) -> usize {
        self.cache.sequence(SEQUENCE).map_or(0, |(_, len)| len)
    }

    /// All; none where a prompt chooses its neurons: all of it does, and the keys and values of a reply
    /// are of chosen ones.
    fn reusable(&self) -> usize {
        if self.prompt_neurons.is_some() { 0 } else { self.held() }
    }

    fn truncate(&mut self, len: usize) -> Result<(), Error> {
        Ok(self.cache.truncate(SEQUENCE, len)?)
    }

    fn generate<'a>(
        &'a mut self,
        request: Request,
        on_prefill: Box<dyn FnMut(PrefillProgress) + 'a>,
    ) -> Result<Steps<'a>, GenerationError> {
        let Self { model, prompt_neurons, cache } = self;
        let prompt = request.prompt.len();
        let generator = Generator::new(as_causal(&**model), cache, SEQUENCE, request)?;
        let steps = generator.with_prefill_callback(on_prefill);
        let Some(neurons) = prompt_neurons else {
            return Ok(Box::new(steps.map(|step| step.map_err(Error::from))));
        };
        neurons.begin_prompt(prompt);
        // A forward pass cannot say why no neurons were chosen. Nothing follows such an error.
        let mut steps = steps.map(|step| match neurons.take_failure() {
            Some(error) => Err(error),
            None => step.map_err(Error::from),
        });
        let mut failed = false;
        Ok(Box::new(std::iter::from_fn(move || {
            let step = if failed { None } else { steps.next() };
            failed = step.as_ref().is_some_and(Result::is_err);
            step
        })))
    }
}

/// What clients of a server are told of an adapter, and what only its log.
#[cfg(feature = "serve")]
fn fault(error: &Error) -> lightglm_serve::engine::AdapterFault {
    use lightglm_serve::engine::AdapterFault;

    let told = match error {
        Error::Peft(error) => error.without_folders(),
        Error::Adapter { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    told.map_or_else(|| AdapterFault::Loader(error.to_string()), AdapterFault::Adapter)
}
