//! `ServeArgs`: which model is served, and how much of the machine it may take.

use std::path::PathBuf;

use anyhow::{Context, Result};
use lightglm::{
    Embedder, KvDtype, LoadOptions, Model, Policy, Reranker, Scheme, Server, ServerOptions, Weights,
};

use lightglm_examples::model_args::{ModelArgs, tell_context};
use lightglm_examples::progress_bar;

/// Which model is served, and how much of the machine it may take.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// The model. Dense weights become int8 unless --scheme, --policy or --dtype says otherwise; a GGUF
    /// file's blocks and folders that `quantize` wrote are served as they are stored.
    #[command(flatten)]
    pub model: ModelArgs,
    /// A folder whose folders are LoRA adapters in PEFT's layout; requests name them as their model.
    #[arg(long, value_name = "DIR")]
    pub adapters: Option<PathBuf>,
    /// The model's name in requests; the last part of --model if omitted.
    #[arg(long)]
    pub model_name: Option<String>,
    /// Memory for keys and values, in MiB; if omitted what --max-running requests of 1024 tokens need,
    /// and one of --max-context.
    #[arg(long, value_name = "MIB")]
    pub kv_memory: Option<usize>,
    /// Longest conversation, prompt and reply together, in tokens: as far as model and --kv-memory allow.
    #[arg(long, default_value_t = 8192)]
    pub max_context: usize,
    /// Tokens of a chat's reply where the request does not say; if omitted the model's max_new_tokens, or as
    /// many as fit --max-context.
    #[arg(long, value_name = "N")]
    pub default_max_tokens: Option<usize>,
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
    /// Write tools and their results into ordinary messages where the model's chat template has no place
    /// for them; otherwise such requests get a 400.
    #[arg(long)]
    pub fold_tools: bool,
    /// An encoder for /v1/embeddings, and by the cosine of its vectors for /v1/rerank: a folder, a name on a
    /// hub, or all-minilm-l6-v2.
    #[arg(long, value_name = "MODEL")]
    pub embedding_model: Option<String>,
    /// A cross-encoder for /v1/rerank: a folder, or a name on a hub.
    #[arg(long, value_name = "MODEL")]
    pub rerank_model: Option<String>,
    /// Cut texts that are too long for these two where a request does not say; they are refused otherwise.
    #[arg(long)]
    pub embedding_truncate: bool,
}

impl ServeArgs {
    /// The server's options as the library takes them.
    pub fn options(&self) -> ServerOptions {
        ServerOptions {
            model_name: Some(self.name()),
            kv_memory: self.kv_memory.map(|mib| mib.saturating_mul(1 << 20)),
            default_max_tokens: self.default_max_tokens,
            max_running: self.max_running,
            max_waiting: self.max_waiting,
            max_open_per_key: self.max_open_per_key,
            token_budget: self.token_budget,
            speculation: !self.no_speculation,
            truncate_inputs: self.embedding_truncate,
            ..ServerOptions::default()
        }
    }

    /// Loads the model and starts its engine.
    ///
    /// # Errors
    /// Where the model or an option is at fault; what can be refused is refused before the weights are
    /// read.
    pub fn start(&self, options: ServerOptions) -> Result<Started> {
        options.check()?;
        let mut load = LoadOptions {
            max_context: Some(self.max_context),
            adapters: self.adapters.clone(),
            fold_tools: self.fold_tools,
            ..self.model.options()
        };
        Server::check_model(&load)?;
        // The small models first: a name that is wrong is found before a large one is read.
        let progress = progress_bar::on_stderr();
        let embedder = self.embedding_model.as_ref().map(|model| Embedder::open(model, &progress));
        let embedder = embedder.transpose().context("--embedding-model")?;
        let reranker = self.rerank_model.as_ref().map(|model| Reranker::open(model, &progress));
        let reranker = reranker.transpose().context("--rerank-model")?;
        let checkpoint = self.model.checkpoint()?;
        if load.weights == Weights::Stored && !lightglm::checkpoint::is_quantized(&checkpoint) {
            load.weights = Weights::Policy(Policy::uniform(Scheme::INT8));
        }
        let model = Model::from_checkpoint(checkpoint, load)?;
        tell_context(&model, Some(self.max_context));
        let (scheme, kv_dtype) = (model.scheme().to_owned(), self.model.kv_dtype);
        let mut server = Server::new(model, options)?;
        if let Some(embedder) = embedder {
            if embedder.assumes_mean() {
                let name = embedder.name();
                eprintln!("{name}: no modules.json, so the mean of a text's tokens is taken");
            }
            server = server.with_embedder(embedder);
        }
        if let Some(reranker) = reranker {
            server = server.with_reranker(reranker);
        }
        Ok(Started { server, scheme, kv_dtype })
    }

    /// `--model-name`, or the last part of `--model`.
    pub fn name(&self) -> String {
        let given = self.model_name.clone();
        given.unwrap_or_else(|| {
            let model = self.model.name().trim_end_matches('/');
            let last = model.rsplit(['/', '\\']).next().unwrap_or(model);
            last.strip_suffix(".gguf").unwrap_or(last).to_owned()
        })
    }
}

/// A server whose engine runs.
pub struct Started {
    /// The server.
    pub server: Server,
    /// How weights are held.
    pub scheme: String,
    /// How keys and values are held.
    pub kv_dtype: KvDtype,
}
