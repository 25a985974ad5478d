//! A model on disk, whatever its format: weights, configuration, tokenizer, template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lightglm_core::{ProjectionLayout, WeightDtype, WeightError, WeightSource};
use lightglm_kernels::LmBackend;

use crate::config::{
    ConfigError, GenerationConfig, GlmConfig, MediaConfig, PreprocessorConfig, WeightLayout,
};
use crate::decoder::{DenseGlm, LoadPrecision};
use crate::weights::{
    ChatGlmCheckpoint, GgufCheckpoint, LlamaCheckpoint, RearrangedWeights, SafetensorsCheckpoint,
    first_part,
};
use lightglm_text::{
    ChatTemplate, GgufVocabulary, ModelText, TextError, Tokenizer, TokenizerFamily,
};

/// A model folder in Hugging Face layout, or a GGUF file.
///
/// Opening reads the headers; weights are mapped and read when a decoder is loaded from them.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: GlmConfig,
    weights: Weights,
    /// Of `weights`.
    layout: ProjectionLayout,
    adapter_layout: ProjectionLayout,
    media: Option<MediaConfig>,
}

#[derive(Debug)]
enum Weights {
    Safetensors(SafetensorsCheckpoint),
    /// The decoder inside of a model with an encoder.
    Inner(RearrangedWeights<SafetensorsCheckpoint>),
    InnerLlama(LlamaCheckpoint<RearrangedWeights<SafetensorsCheckpoint>>),
    Llama(LlamaCheckpoint),
    ChatGlm(ChatGlmCheckpoint),
    Gguf(GgufCheckpoint),
}

/// Tensors of one stored precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stored {
    /// How many.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
}

/// Why a model could not be opened; the sources name file and key, or file and tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The path is neither a folder nor a `.gguf` file.
    #[error("{}: not a model (expected a folder with config.json, or a .gguf file)", path.display())]
    NotAModel {
        /// The path.
        path: PathBuf,
    },
    /// A folder without config.json has more than one model in it.
    #[error("{}: no config.json, and several models ({}): name one of them", path.display(), files.join(", "))]
    SeveralModels {
        /// The folder.
        path: PathBuf,
        /// The `.gguf` files, of a model in several files the first.
        files: Vec<String>,
    },
    /// The model has no encoder of the kind that is asked for.
    #[error("{}: the model has no encoder of this kind: it reads text, or another medium", path.display())]
    NoEncoder {
        /// The folder or file.
        path: PathBuf,
    },
    /// config.json or generation_config.json is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are wrong.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The tokenizer or the chat template is wrong.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl Checkpoint {
    /// Opens a folder with config.json and safetensors, or a GGUF file: any one of the several files of a
    /// model, or a folder that has one model in GGUF and no config.json.
    ///
    /// # Errors
    /// [`CheckpointError`]: not a model, or what is wrong with its configuration or headers.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let found = gguf_in(path)?;
        let path = found.as_deref().unwrap_or(path);
        let mut layout = ProjectionLayout::Glm;
        let mut media = None;
        let (config, weights, adapter_layout) = if path.is_dir() {
            let (config, layouts) = GlmConfig::with_layouts(path.join("config.json"))?;
            let file = SafetensorsCheckpoint::open(path)?;
            // Older GPTQ and AWQ folders say so in a file beside config.json.
            let is_imported = layouts.is_imported || has_quantized_layers(&file);
            let weights = match layouts.weights {
                WeightLayout::ChatGlm => Weights::ChatGlm(ChatGlmCheckpoint::new(file, &config)?),
                WeightLayout::Llama if !is_imported => {
                    Weights::Llama(LlamaCheckpoint::new(file, path, &config)?)
                }
                WeightLayout::Llama => {
                    layout = ProjectionLayout::Llama { head_dim: config.head_dim };
                    Weights::Safetensors(file)
                }
                WeightLayout::Glm => Weights::Safetensors(file),
                WeightLayout::GlmInMedia => Weights::Inner(inner(file, path, &config)),
                WeightLayout::LlamaInMedia => {
                    let inner = inner(file, path, &config);
                    Weights::InnerLlama(LlamaCheckpoint::new(inner, path, &config)?)
                }
            };
            media = MediaConfig::from_file(path.join("config.json"))?;
            (config, weights, layouts.adapters)
        } else if is_gguf(path) {
            let gguf = GgufCheckpoint::open(path)?;
            let (config, layout) = (gguf.config()?, gguf.adapter_layout()?);
            (config, Weights::Gguf(gguf), layout)
        } else {
            return Err(CheckpointError::NotAModel { path: path.to_path_buf() });
        };
        Ok(Self { path: path.to_path_buf(), config, weights, layout, adapter_layout, media })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's configuration.
    pub fn config(&self) -> &GlmConfig {
        &self.config
    }

    /// The encoder in front of the decoder; `None` for a model of text.
    pub fn media_config(&self) -> Option<&MediaConfig> {
        self.media.as_ref()
    }

    /// The weights of the encoder, under the file's names; `None` for a model of text.
    pub fn media_weights(&self) -> Option<&SafetensorsCheckpoint> {
        match &self.weights {
            Weights::Inner(weights) => Some(weights.source()),
            Weights::InnerLlama(weights) => Some(weights.file().source()),
            _ => None,
        }
    }

    /// How pictures and recordings are made ready for the encoder.
    ///
    /// # Errors
    /// [`ConfigError`] where the file is there and wrong.
    pub fn preprocessor_config(&self) -> Result<PreprocessorConfig, CheckpointError> {
        Ok(PreprocessorConfig::from_dir(&self.path)?)
    }

    /// The weights by name.
    pub fn weights(&self) -> &dyn WeightSource {
        match &self.weights {
            Weights::Safetensors(weights) => weights,
            Weights::Inner(weights) => weights,
            Weights::InnerLlama(weights) => weights,
            Weights::Llama(weights) => weights,
            Weights::ChatGlm(weights) => weights,
            Weights::Gguf(weights) => weights,
        }
    }

    /// How [`Self::weights`] lay out the decoder's projections: as the decoder does, but for a folder of the
    /// Llama family that another program quantized. Its tensors can be put in order only by who reads them.
    pub fn weights_layout(&self) -> ProjectionLayout {
        self.layout
    }

    /// How the folder's files name and lay out its tensors; `None` for a GGUF file.
    pub fn folder_layout(&self) -> Option<WeightLayout> {
        match (&self.weights, self.layout) {
            (Weights::Gguf(_), _) => None,
            (Weights::Inner(_), _) => Some(WeightLayout::GlmInMedia),
            (Weights::InnerLlama(_), _) => Some(WeightLayout::LlamaInMedia),
            (Weights::ChatGlm(_), _) => Some(WeightLayout::ChatGlm),
            (Weights::Llama(_), _) | (_, ProjectionLayout::Llama { .. }) => {
                Some(WeightLayout::Llama)
            }
            (Weights::Safetensors(_), ProjectionLayout::Glm) => Some(WeightLayout::Glm),
        }
    }

    /// How adapters that are made for this model lay out its projections.
    pub fn adapter_layout(&self) -> ProjectionLayout {
        self.adapter_layout
    }

    /// Whether [`Self::weights`] are laid out otherwise than the folder's own, so that its config.json does
    /// not describe them; that of [`Self::config`] does.
    pub fn is_translated(&self) -> bool {
        !matches!(self.weights, Weights::Safetensors(_))
    }

    /// generation_config.json, or `general.sampling.*` of a GGUF file; defaults where there is none.
    ///
    /// # Errors
    /// [`ConfigError`] where the file is there and wrong.
    pub fn generation_config(&self) -> Result<GenerationConfig, CheckpointError> {
        let file = self.path.join("generation_config.json");
        match &self.weights {
            Weights::Gguf(gguf) => Ok(gguf.generation_config()?),
            _ if file.exists() => Ok(GenerationConfig::from_file(&file)?),
            _ => Ok(GenerationConfig::default()),
        }
    }

    /// Ids that end a reply: those of the configuration, of generation_config.json and of the
    /// GGUF vocabulary, each once.
    ///
    /// # Errors
    /// As [`Self::generation_config`], or what is wrong with the GGUF vocabulary.
    pub fn eos_token_ids(&self) -> Result<Vec<u32>, CheckpointError> {
        let mut ids = self.config.eos_token_ids.clone();
        ids.extend(self.generation_config()?.eos_token_ids);
        if let Weights::Gguf(gguf) = &self.weights {
            let vocabulary = gguf.vocabulary()?;
            // GLM-4 ends a reply by opening the next turn; its GGUF files do not say so.
            let opens_turn = |token: &&str| ["<|user|>", "<|observation|>"].contains(token);
            let tokens = vocabulary.tokens.iter().map(String::as_str).zip(0..);
            ids.extend(tokens.filter(|(token, _)| opens_turn(token)).map(|(_, id)| id));
            ids.extend(vocabulary.eos_token_ids);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn tokenizer_family(&self) -> TokenizerFamily {
        match self.adapter_layout {
            ProjectionLayout::Glm => TokenizerFamily::Glm,
            ProjectionLayout::Llama { .. } => TokenizerFamily::Llama,
        }
    }

    /// The tokenizer: tokenizer.json or tokenizer.model in the folder, or the GGUF vocabulary.
    ///
    /// # Errors
    /// [`TextError`] where there is none or it is malformed.
    pub fn tokenizer(&self) -> Result<Tokenizer, CheckpointError> {
        match &self.weights {
            Weights::Gguf(gguf) => Ok(Tokenizer::from_gguf(&gguf.vocabulary()?)?),
            _ => Ok(Tokenizer::from_dir(&self.path, self.tokenizer_family())?),
        }
    }

    /// Tokenizer, chat template and the ends of a reply together.
    ///
    /// # Errors
    /// Those of [`tokenizer`](Self::tokenizer), [`chat_template`](Self::chat_template) and
    /// [`eos_token_ids`](Self::eos_token_ids).
    pub fn text(&self) -> Result<ModelText, CheckpointError> {
        let tokenizer = self.tokenizer()?;
        let template = match self.own_template()? {
            Some(template) => template,
            None => self.built_in_template(&tokenizer),
        };
        Ok(ModelText { tokenizer, template, eos_token_ids: self.eos_token_ids()? })
    }

    /// The checkpoint's own chat template. Where it has none, the built-in one of GLM-4-0414 for a
    /// vocabulary that has its tokens, and for others one that refuses every conversation, saying what
    /// is missing.
    ///
    /// # Errors
    /// [`TextError`] where the checkpoint's template does not parse, and those of
    /// [`tokenizer`](Self::tokenizer) where it has none.
    pub fn chat_template(&self) -> Result<ChatTemplate, CheckpointError> {
        match self.own_template()? {
            Some(template) => Ok(template),
            None => Ok(self.built_in_template(&self.tokenizer()?)),
        }
    }

    fn own_template(&self) -> Result<Option<ChatTemplate>, CheckpointError> {
        let template = match &self.weights {
            Weights::Gguf(gguf) => ChatTemplate::from_gguf(&gguf.vocabulary()?),
            _ => ChatTemplate::from_dir(&self.path),
        };
        match template {
            Err(TextError::NoChatTemplate { .. }) => Ok(None),
            template => Ok(Some(template?)),
        }
    }

    fn built_in_template(&self, tokenizer: &Tokenizer) -> ChatTemplate {
        ChatTemplate::built_in_for(tokenizer, self.path.display().to_string())
    }

    /// The files of a model folder beside config.json and the weights, by name: tokenizer, chat
    /// template, generation settings, as they lie in this folder or as this GGUF file's vocabulary
    /// stands for. With them a folder of converted weights is a model of its own.
    ///
    /// # Errors
    /// [`CheckpointError::Weights`] for a file that cannot be read, [`CheckpointError::Text`] for a
    /// vocabulary that is none.
    pub fn text_files(&self) -> Result<Vec<(String, Vec<u8>)>, CheckpointError> {
        const NAMES: [&str; 11] = [
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "chat_template.jinja",
            "generation_config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "README.md",
            "LICENSE",
            "LICENSE.txt",
        ];
        if let Weights::Gguf(gguf) = &self.weights {
            return text_files_of_gguf(&gguf.vocabulary()?);
        }
        let read = |name: &str| {
            let file = self.path.join(name);
            match std::fs::read(&file) {
                Ok(bytes) => Some(Ok::<_, CheckpointError>((name.to_owned(), bytes))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(source) => Some(Err(WeightError::Io { file, source }.into())),
            }
        };
        let mut files = NAMES.into_iter().filter_map(read).collect::<Result<Vec<_>, _>>()?;
        match Tokenizer::json_of_dir(&self.path, self.tokenizer_family()) {
            // A folder without a tokenizer stays one.
            Ok(None) | Err(TextError::NoTokenizer { .. }) => {}
            Ok(Some(json)) => {
                files.push(("tokenizer.json".to_owned(), json.into_bytes()));
                without_remote_code(&mut files);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(files)
    }

    /// What the file stores: for each dtype (`BF16`, `Q4_1`, ...) its tensors and parameters.
    ///
    /// # Errors
    /// [`WeightError`] naming the tensor whose header entry is wrong.
    pub fn stored_dtypes(&self) -> Result<BTreeMap<String, Stored>, CheckpointError> {
        let mut stored = BTreeMap::<String, Stored>::new();
        let mut count = |dtype: String, shape: &[usize]| {
            let entry = stored.entry(dtype).or_default();
            entry.tensors += 1;
            entry.parameters += shape.iter().product::<usize>() as u64;
        };
        let mut count_all = |weights: &SafetensorsCheckpoint| {
            for name in weights.names() {
                let stored = weights.stored(&name)?;
                count(stored.dtype, &stored.shape);
            }
            Ok::<_, WeightError>(())
        };
        match &self.weights {
            Weights::Safetensors(weights) => count_all(weights)?,
            Weights::Inner(weights) => count_all(weights.source())?,
            Weights::InnerLlama(weights) => count_all(weights.file().source())?,
            Weights::Llama(weights) => count_all(weights.file())?,
            Weights::ChatGlm(weights) => count_all(weights.file())?,
            Weights::Gguf(gguf) => {
                for tensor in gguf.file().tensors().values() {
                    count(tensor.ggml_type.name().to_owned(), &tensor.shape);
                }
            }
        }
        Ok(stored)
    }

    /// The precision the projections come in, judged by the first one.
    ///
    /// # Errors
    /// [`WeightError`] where it is missing or malformed.
    pub fn stored_dtype(&self) -> Result<WeightDtype, CheckpointError> {
        Ok(self.weights().tensor("model.layers.0.self_attn.o_proj.weight")?.dtype)
    }

    /// Loads the decoder onto `device`.
    ///
    /// # Errors
    /// [`WeightError`] naming file and tensor; it names what is missing in a folder that another program
    /// quantized.
    pub fn load<B: LmBackend>(
        &self,
        precision: LoadPrecision,
        device: &B::Device,
    ) -> Result<DenseGlm<B>, CheckpointError> {
        Ok(DenseGlm::load(&self.config, self.weights(), &self.path, precision, device)?)
    }
}

/// The decoder's tensors of a model with an encoder, under the names they have alone. Layers behind the last one
/// (GLM-OCR's of multi-token prediction) are none of them.
fn inner(
    file: SafetensorsCheckpoint,
    path: &Path,
    config: &GlmConfig,
) -> RearrangedWeights<SafetensorsCheckpoint> {
    let prefixes = ["model.language_model.", "language_model.model."];
    let is_behind = |name: &str| {
        let layer = name.strip_prefix("layers.").and_then(|name| name.split('.').next());
        layer.and_then(|layer| layer.parse::<usize>().ok()) >= Some(config.num_hidden_layers)
    };
    RearrangedWeights::renamed(file, path, |name| {
        if let Some(name) = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            return (!is_behind(name)).then(|| format!("model.{name}"));
        }
        let head = name.strip_prefix("language_model.").unwrap_or(name);
        (head == "lm_head.weight").then(|| head.to_owned())
    })
}

/// The files that the vocabulary of a GGUF file stands for.
fn text_files_of_gguf(
    vocabulary: &GgufVocabulary,
) -> Result<Vec<(String, Vec<u8>)>, CheckpointError> {
    let tokenizer = Tokenizer::json_of_gguf(vocabulary)?;
    let special = vocabulary.special_tokens().map(|(name, text)| (name, text.into())).collect();
    let config = serde_json::Value::Object(special);
    let mut files = vec![
        ("tokenizer.json".to_owned(), tokenizer.into_bytes()),
        ("tokenizer_config.json".to_owned(), format!("{config:#}\n").into_bytes()),
    ];
    let template = vocabulary.chat_template.clone();
    files.extend(template.map(|text| ("chat_template.jinja".to_owned(), text.into_bytes())));
    Ok(files)
}

/// Lets a tokenizer_config.json say that the tokenizer stands in tokenizer.json: not in a class whose code or
/// vocabulary is not among the files.
fn without_remote_code(files: &mut [(String, Vec<u8>)]) {
    let config = files.iter_mut().find(|(name, _)| name == "tokenizer_config.json");
    let Some((_, bytes)) = config else { return };
    if let Ok(serde_json::Value::Object(mut config)) = serde_json::from_slice(bytes) {
        config.remove("auto_map");
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        *bytes = format!("{:#}\n", serde_json::Value::Object(config)).into_bytes();
    }
}

/// Whether there are codes of GPTQ or AWQ among the tensors.
fn has_quantized_layers(file: &SafetensorsCheckpoint) -> bool {
    file.names().iter().any(|name| name.ends_with(".qweight"))
}

/// The GGUF model of a folder that has no config.json; `None` where it has none, and for what is no folder.
fn gguf_in(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    if !folder.is_dir() || folder.join("config.json").exists() {
        return Ok(None);
    }
    let unreadable = |source| WeightError::Io { file: folder.to_owned(), source };
    // By its first file, which may be the one that is missing.
    let mut models = BTreeMap::<PathBuf, PathBuf>::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_gguf(&path) {
            let first = first_part(&path).unwrap_or_else(|| path.clone());
            models.entry(first).or_insert(path);
        }
    }
    match models.len() {
        0 => Ok(None),
        1 => Ok(models.into_iter().next().map(|(first, found)| match first.exists() {
            true => first,
            false => found,
        })),
        _ => {
            let name = |path: &PathBuf| path.file_name().unwrap_or_default().display().to_string();
            let files = models.keys().map(name).collect();
            Err(CheckpointError::SeveralModels { path: folder.to_owned(), files })
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}
