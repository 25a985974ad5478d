//! A model behind the HTTP API: what `serve` and `load_test` put together.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lightglm_core::{KV_BLOCK, KvDtype, KvShape};
use lightglm_generation::SamplingParams;
use lightglm_hub::DEFAULT_MODEL;
use lightglm_kernels::LmBackend;
use lightglm_quant::{Policy, QuantizedCheckpoint, Scheme};
use lightglm_serve::engine::{EngineBuilder, EngineConfig, EngineThread};
use lightglm_serve::http::{Server, ServerConfig, Structured};
use lightglm_serve::kv::PagedKvCache;
use lightglm_serve::structured::{GrammarVocabulary, StructuredLimits};
use lightglm_text::ChatText;

use crate::open_model;
use crate::precision::Precision;
use crate::sampling::recommended;
use crate::serving::policy_of;
use crate::shared_model::SharedLm;

/// Which model, and how much of the machine it may take.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    pub model: Option<String>,
    /// The model's name in requests; the last part of --model where left out.
    #[arg(long)]
    pub model_name: Option<String>,
    /// Quantize the weights while they are loaded: int8, int4, int8wo, ...; int8 (of GGUF, too) where
    /// neither this, --policy nor --dtype says otherwise, and as stored of folders that `quantize` wrote.
    #[arg(long, conflicts_with = "dtype")]
    pub scheme: Option<Scheme>,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with_all = ["scheme", "dtype"])]
    pub policy: Option<Policy>,
    /// Hold dense weights in this precision.
    #[arg(long, value_enum)]
    pub dtype: Option<Precision>,
    /// Hold keys and values as: f32, f16, bf16, int8, int8-rotated.
    #[arg(long, default_value = "f16")]
    pub kv_dtype: KvDtype,
    /// Memory for keys and values, in MiB; what --max-running requests of 1024 tokens need, and one of
    /// --max-context, where left out.
    #[arg(long, value_name = "MIB")]
    pub kv_memory: Option<usize>,
    /// Longest conversation, prompt and reply together, in tokens: as far as model and --kv-memory allow.
    #[arg(long, default_value_t = 8192)]
    pub max_context: usize,
    /// Requests that run at the same time.
    #[arg(long, default_value_t = 32)]
    pub max_running: usize,
    /// Requests that wait; more get a 429.
    #[arg(long, default_value_t = 256)]
    pub max_waiting: usize,
    /// Requests of one API key (or user) that wait or run.
    #[arg(long)]
    pub max_open_per_key: Option<usize>,
    /// Tokens of one forward pass.
    #[arg(long, default_value_t = 512)]
    pub token_budget: usize,
    /// Never guess tokens ahead.
    #[arg(long)]
    pub no_speculation: bool,
    /// A folder whose folders are LoRA adapters in PEFT's layout; requests name them as their model.
    #[arg(long, value_name = "DIR")]
    pub adapters: Option<PathBuf>,
}

/// An engine at work, and what a [`Server`] needs beside it.
pub struct Engine {
    /// The engine's thread.
    pub thread: EngineThread,
    /// The model's text side.
    pub text: Arc<dyn ChatText>,
    /// The model's name.
    pub name: String,
    /// How its weights are held.
    pub scheme: String,
    /// What requests get where they do not say.
    pub sampling: SamplingParams,
    /// Bytes of keys and values.
    pub kv_bytes: usize,
}

impl ServeArgs {
    /// Loads the model and starts its engine.
    ///
    /// # Errors
    /// Where the model or an option is at fault.
    pub fn start<B: LmBackend>(&self, device: &B::Device) -> Result<Engine> {
        let checkpoint = open_model(self.model.as_deref())?;
        let config = checkpoint.config();
        let mut policy = policy_of(self.scheme, self.policy.clone())?;
        if self.dtype.is_none() && !QuantizedCheckpoint::is_one(checkpoint.weights()) {
            policy.get_or_insert_with(|| Policy::uniform(Scheme::INT8));
        }
        let adapters = self.adapters.clone();
        if let Some(folder) = &adapters {
            ensure!(folder.is_dir(), "--adapters {}: is not a folder", folder.display());
        }
        let text: Arc<dyn ChatText> = Arc::new(checkpoint.text()?);
        let sampling = recommended(&checkpoint.generation_config()?);
        sampling.validate()?;
        // What can be refused is refused before the weights are read.
        let max_context = self.max_context.min(config.max_position_embeddings);
        ensure!(max_context > 1, "--max-context must be at least 2");
        let counts = [
            ("--max-running", self.max_running),
            ("--max-waiting", self.max_waiting),
            ("--max-open-per-key", self.max_open_per_key.unwrap_or(1)),
            ("--token-budget", self.token_budget),
        ];
        for (option, count) in counts {
            ensure!(count > 0, "{option} must be at least 1");
        }
        let shape = KvShape::of(config);
        let per_block = KV_BLOCK * shape.bytes_per_position(self.kv_dtype);
        let blocks = match self.kv_memory {
            Some(mib) => mib.saturating_mul(1 << 20) / per_block,
            None => {
                let typical = max_context.min(1024).div_ceil(KV_BLOCK);
                self.max_running.saturating_mul(typical).max(max_context.div_ceil(KV_BLOCK))
            }
        };
        ensure!(
            blocks > 0,
            "--kv-memory: too little for {KV_BLOCK} tokens, which take {per_block} bytes"
        );
        ensure!(
            blocks < u32::MAX as usize,
            "--kv-memory, --max-running: {blocks} blocks of keys and values are more than there can be"
        );
        let lm = SharedLm::<B>::open(&checkpoint, policy.as_ref(), self.dtype, adapters, device)?;
        let cache = PagedKvCache::new(shape, blocks, self.kv_dtype, device);
        let mut engine = EngineConfig::new(max_context);
        engine.max_running = self.max_running;
        engine.max_waiting = self.max_waiting;
        engine.max_open_per_key = self.max_open_per_key;
        engine.token_budget = self.token_budget;
        if self.no_speculation {
            engine.speculation = None;
        }
        let mut builder = EngineBuilder::new(lm.model, cache, engine);
        if let Some(loader) = lm.loader {
            builder = builder.with_adapters(loader);
        }
        let thread = builder.build().spawn().context("the engine's thread")?;
        Ok(Engine {
            thread,
            text,
            name: self.name(),
            scheme: lm.scheme,
            sampling,
            kv_bytes: blocks * per_block,
        })
    }

    /// A server's configuration, which can be checked before there is a model.
    pub fn server_config(&self) -> ServerConfig {
        ServerConfig::new(self.name())
    }

    fn name(&self) -> String {
        let given = self.model_name.clone();
        given.unwrap_or_else(|| {
            let model = self.model.as_deref().unwrap_or(DEFAULT_MODEL).trim_end_matches('/');
            let last = model.rsplit(['/', '\\']).next().unwrap_or(model);
            last.strip_suffix(".gguf").unwrap_or(last).to_owned()
        })
    }
}

impl Engine {
    /// A server of this engine, with structured output and the model's own way to sample.
    ///
    /// # Errors
    /// Where `config` asks for something impossible.
    pub fn server(&self, mut config: ServerConfig) -> Result<Server> {
        config.sampling = self.sampling.clone();
        let handle = self.thread.handle();
        let vocabulary = GrammarVocabulary::new(&*self.text, handle.limits().vocab_size)?;
        let structured = Structured::new(vocabulary, StructuredLimits::default());
        let server = Server::new(config, Arc::new(handle), Arc::clone(&self.text))?;
        Ok(server.with_constrain(Arc::new(structured)))
    }
}
