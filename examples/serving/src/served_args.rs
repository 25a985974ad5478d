//! `ServedArgs`: a model that is served, and what it may take.

use std::path::PathBuf;

use lightglm::{LoadOptions, Policy, Scheme, ServedModel};
use lightglm_examples::model_args::{MAX_CONTEXT, ModelArgs};

/// A model that is served, and what it may take.
#[derive(Clone, Debug, clap::Args)]
pub struct ServedArgs {
    /// The model. Dense weights become int8 unless --scheme, --policy or --dtype says otherwise; a GGUF
    /// file's blocks and folders that `quantize` wrote are served as they are stored.
    #[command(flatten)]
    pub model: ModelArgs,
    /// A folder whose folders are LoRA adapters in PEFT's layout; requests name them as their model, and the first
    /// one loads it.
    #[arg(long, value_name = "DIR")]
    pub adapters: Option<PathBuf>,
    /// The model's name in requests; the last part of --model if omitted. With --models the name of the model
    /// of requests that name none, which are refused if it is omitted.
    #[arg(long)]
    pub model_name: Option<String>,
    /// Another name of the model in requests (may be given several times).
    #[arg(long = "model-alias", value_name = "NAME")]
    pub aliases: Vec<String>,
    /// Memory for keys and values, in MiB; if omitted what --max-running requests of 1024 tokens need,
    /// and one of --max-context.
    #[arg(long, value_name = "MIB")]
    pub kv_memory: Option<usize>,
    /// Longest conversation, prompt and reply together, in tokens: as far as model and --kv-memory allow;
    /// 8192 if omitted.
    #[arg(long)]
    pub max_context: Option<usize>,
    /// Tokens of a chat's reply where the request does not say; if omitted the model's max_new_tokens, or as
    /// many as fit --max-context.
    #[arg(long, value_name = "N")]
    pub default_max_tokens: Option<usize>,
    /// Write tools and their results into ordinary messages where the model's chat template has no place
    /// for them; otherwise such requests get a 400.
    #[arg(long)]
    pub fold_tools: bool,
}

impl ServedArgs {
    /// How the model is loaded.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            max_context: Some(self.max_context.unwrap_or(MAX_CONTEXT)),
            adapters: self.adapters.clone(),
            fold_tools: self.fold_tools,
            ..self.model.options()
        }
    }

    /// Bytes for keys and values, where they are said.
    pub fn kv_bytes(&self) -> Option<usize> {
        self.kv_memory.map(|mib| mib.saturating_mul(1 << 20))
    }

    /// The model as one of several.
    pub fn served(&self) -> ServedModel {
        ServedModel {
            aliases: self.aliases.clone(),
            load: self.load_options(),
            dense: Some(Policy::uniform(Scheme::INT8)),
            kv_memory: self.kv_bytes(),
            default_max_tokens: self.default_max_tokens,
            ..ServedModel::new(self.name(), self.model.name())
        }
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
