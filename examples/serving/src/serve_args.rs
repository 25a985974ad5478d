//! `ServeArgs`: which model is served, and how much of the machine it may take.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use lightglm::{
    Embedder, Model, Policy, Reranker, Scheme, ServedModel, Server, ServerOptions, Weights,
};
use lightglm_examples::model_args::tell_context;
use lightglm_examples::{progress_bar, use_threads};

use crate::models_file::served_models;
use crate::served_args::ServedArgs;

/// Which model is served, and how much of the machine it may take.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// The model.
    #[command(flatten)]
    pub served: ServedArgs,
    /// Several models: a folder whose folders and .gguf files are models, or a TOML file with a table for each.
    /// Each is loaded when a request first names it.
    #[arg(long, value_name = "DIR|FILE")]
    pub models: Option<PathBuf>,
    /// Memory that several models may take together, in MiB; if omitted what the machine has available at the
    /// start, where they run on the CPU. For one more, those leave that nobody uses at that time.
    #[arg(long, value_name = "MIB", requires = "models")]
    pub model_memory: Option<u64>,
    /// Seconds after which one of several models leaves that nobody uses; if omitted when another needs its room.
    #[arg(long, value_name = "SECONDS", requires = "models")]
    pub unload_after: Option<u64>,
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
        let served = &self.served;
        let model_name = match &self.models {
            Some(_) => served.model_name.clone(),
            None => Some(served.name()),
        };
        ServerOptions {
            model_name,
            aliases: served.aliases.clone(),
            kv_memory: served.kv_bytes(),
            default_max_tokens: served.default_max_tokens,
            model_memory: self.model_memory.map(|mib| mib.saturating_mul(1 << 20)),
            unload_after: self.unload_after.map(Duration::from_secs),
            max_running: self.max_running,
            max_waiting: self.max_waiting,
            max_open_per_key: self.max_open_per_key,
            token_budget: self.token_budget,
            speculation: !self.no_speculation,
            truncate_inputs: self.embedding_truncate,
            ..ServerOptions::default()
        }
    }

    /// The models of `--models`; with none there is one, that of `--model`.
    ///
    /// # Errors
    /// Where the file is wrong, and where an option does not go with a server.
    pub fn several(&self) -> Result<Option<Vec<ServedModel>>> {
        let several = self.models.as_ref().map(|path| served_models(path, &self.served));
        if several.is_none() {
            Server::check_model(&self.served.load_options())?;
        }
        several.transpose()
    }

    /// Loads the model and starts its engine; of several those that are to stay.
    ///
    /// # Errors
    /// Where the model or an option is at fault; what can be refused is refused before the weights are
    /// read.
    pub fn start(&self, options: ServerOptions) -> Result<Started> {
        options.check()?;
        let several = self.several()?;
        // The small models first: a name that is wrong is found before a large one is read.
        let progress = progress_bar::on_stderr();
        let embedder = self.embedding_model.as_ref().map(|model| Embedder::open(model, &progress));
        let embedder = embedder.transpose().context("--embedding-model")?;
        let reranker = self.rerank_model.as_ref().map(|model| Reranker::open(model, &progress));
        let reranker = reranker.transpose().context("--rerank-model")?;
        let Started { mut server, told } = match several {
            Some(models) => self.start_several(models, options)?,
            None => self.start_one(options)?,
        };
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
        Ok(Started { server, told })
    }

    fn start_one(&self, options: ServerOptions) -> Result<Started> {
        let (served, mut load) = (&self.served, self.served.load_options());
        let checkpoint = served.model.checkpoint()?;
        if load.weights == Weights::Stored && !lightglm::checkpoint::is_quantized(&checkpoint) {
            load.weights = Weights::Policy(Policy::uniform(Scheme::INT8));
        }
        let model = Model::from_checkpoint(checkpoint, load)?;
        tell_context(&model, served.max_context);
        let (name, scheme) = (served.name(), model.scheme().to_owned());
        let (running, positions) = (self.max_running, model.max_context());
        let server = Server::new(model, options)?;
        let told = format!(
            "{name} ({scheme}), {running} requests at a time, {positions} tokens each at most, {} for keys and \
             values",
            size(server.kv_bytes() as u64)
        );
        Ok(Started { server, told })
    }

    fn start_several(&self, models: Vec<ServedModel>, options: ServerOptions) -> Result<Started> {
        use_threads(self.served.model.threads)?;
        let server = Server::of_models(models, options)?;
        let lines = server.models().iter().map(|model| {
            let bytes = model.bytes.map_or("size not known yet".into(), |it| size(it.total()));
            let positions =
                model.max_positions.map_or(String::new(), |it| format!(", {it} tokens"));
            let when = if model.keep { "loaded" } else { "loaded when it is used" };
            format!("{}: {bytes}{positions}, {when}", model.name)
        });
        let mut lines: Vec<String> = lines.collect();
        lines.extend(server.model_memory().map(|bytes| format!("models may take {}", size(bytes))));
        Ok(Started { server, told: lines.join("\n") })
    }
}

fn size(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A server whose engine runs.
pub struct Started {
    /// The server.
    pub server: Server,
    /// What there is, for people.
    pub told: String,
}
