//! `SentenceConfig`: what sentence-transformers' files say about how a text becomes one vector.
//!
//! Source: sentence-transformers 6.2.0, `base/modules/transformer.py`,
//! `sentence_transformer/modules/pooling.py` and `base/modules/dense.py`.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::encoder_config::named_activation;
use super::fields::{Fields, read_json};
use super::{ConfigError, ScoreActivation};

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// That of the first token.
    Cls,
    /// The largest of each element.
    Max,
    /// The mean.
    Mean,
    /// The sum divided by the root of the number of tokens.
    MeanSqrtLen,
}

/// Behind a dense step's projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenseActivation {
    /// As it is.
    Identity,
    /// The hyperbolic tangent.
    Tanh,
}

/// What happens to a pooled vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentenceStep {
    /// It gets the length 1.
    Normalize,
    /// It is projected.
    Dense {
        /// The folder of the projection's weights.
        folder: PathBuf,
        /// Elements of the vector before it.
        in_features: usize,
        /// And behind it.
        out_features: usize,
        /// Whether it has a bias.
        bias: bool,
        /// Behind it.
        activation: DenseActivation,
    },
}

/// What sentence-transformers' files say about a model: modules.json and what it names. A folder without
/// modules.json is an encoder whose tokens' mean is taken, as there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentenceConfig {
    /// The folder with the encoder's config.json, weights and tokenizer.
    pub encoder: PathBuf,
    /// What is taken of the tokens' vectors, one behind the other.
    pub pooling: Vec<Pooling>,
    /// Whether no file says what is taken, so that it is the mean; a cache that another program filled may lack the
    /// file.
    pub assumes_mean: bool,
    /// What happens to that.
    pub steps: Vec<SentenceStep>,
    /// Tokens of the longest text, those around it included, where a file says so.
    pub max_seq_length: Option<usize>,
    /// Whether letters are made small first.
    pub do_lower_case: bool,
    /// What is written in front of every text.
    pub prompt: String,
    /// What a cross-encoder's score is, where that is not said in config.json.
    pub score_activation: Option<ScoreActivation>,
}

impl SentenceConfig {
    /// Reads the files of a model's folder.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Unsupported`] names a module, or a way of pooling, that is not known.
    pub fn from_dir(folder: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let folder = folder.as_ref();
        let mut config = Self::plain(folder)?;
        let file = folder.join("modules.json");
        if file.exists() {
            config.assumes_mean = false;
            config.read_modules(folder, &file)?;
        }
        config.read_encoder()?;
        Ok(config)
    }

    /// Reads the files of a cross-encoder's folder, which has no pooling.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn of_pairs(folder: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let mut config = Self::plain(folder.as_ref())?;
        config.read_encoder()?;
        Ok(config)
    }

    /// What config_sentence_transformers.json says; the rest as where there are no files.
    fn plain(folder: &Path) -> Result<Self, ConfigError> {
        let mut config = Self {
            encoder: folder.to_owned(),
            pooling: vec![Pooling::Mean],
            assumes_mean: true,
            steps: Vec::new(),
            max_seq_length: None,
            do_lower_case: false,
            prompt: String::new(),
            score_activation: None,
        };
        let file = folder.join("config_sentence_transformers.json");
        if file.exists() {
            let value = read_json(&file)?;
            let fields = Fields::root(&file, &value)?;
            config.prompt = prompt(&fields)?;
            let named = fields.string("activation_fn")?;
            let named = named.map(|named| named_activation(&fields, named));
            config.score_activation = named.transpose()?;
        }
        Ok(config)
    }

    fn read_modules(&mut self, folder: &Path, file: &Path) -> Result<(), ConfigError> {
        let value = read_json(file)?;
        let wrong = |index: usize, kind: &str, supported| ConfigError::Unsupported {
            file: file.into(),
            key: format!("[{index}].type"),
            value: kind.to_owned(),
            supported,
        };
        let modules = value.as_array().map(Vec::as_slice).unwrap_or_default();
        for (index, module) in modules.iter().enumerate() {
            let fields = Fields::root(file, module)?;
            let path = folder.join(plain_path(&fields)?);
            let kind = fields.string("type")?.unwrap_or_default();
            match (index, kind.rsplit('.').next().unwrap_or_default()) {
                (0, "Transformer") => self.encoder = path,
                (0, _) => return Err(wrong(index, kind, "a Transformer, as the first")),
                (1, "Pooling") => self.pooling = pooling(&path.join("config.json"))?,
                (1, _) => return Err(wrong(index, kind, "a Pooling, as the second")),
                (_, "Normalize") => self.steps.push(SentenceStep::Normalize),
                (_, "Dense") => self.steps.push(dense(path)?),
                // It does nothing to a model that is not trained.
                (_, "Dropout") => {}
                _ => {
                    return Err(wrong(
                        index,
                        kind,
                        "Transformer, Pooling, Dense, Normalize, Dropout",
                    ));
                }
            }
        }
        if modules.len() < 2 {
            let reason = "a Transformer and a Pooling are needed";
            return Err(ConfigError::impossible(file, "(the file)", modules.len(), reason));
        }
        Ok(())
    }

    /// The longest text: sentence-transformers' own file, else the tokenizer's.
    fn read_encoder(&mut self) -> Result<(), ConfigError> {
        // The first is written today; the others were, for the models of their names.
        const NAMES: [&str; 7] = [
            "sentence_bert_config.json",
            "sentence_roberta_config.json",
            "sentence_distilbert_config.json",
            "sentence_camembert_config.json",
            "sentence_albert_config.json",
            "sentence_xlm-roberta_config.json",
            "sentence_xlnet_config.json",
        ];
        let mut files = NAMES.iter().map(|name| self.encoder.join(name));
        if let Some(file) = files.find(|file| file.exists()) {
            let value = read_json(&file)?;
            let fields = Fields::root(&file, &value)?;
            self.max_seq_length = fields.integer("max_seq_length")?.map(clamped);
            self.do_lower_case = fields.boolean("do_lower_case")?.unwrap_or(false);
            if self.max_seq_length == Some(0) {
                return Err(ConfigError::impossible(
                    &file,
                    "max_seq_length",
                    0,
                    "must be at least 1",
                ));
            }
        }
        let file = self.encoder.join("tokenizer_config.json");
        if self.max_seq_length.is_none() && file.exists() {
            let value = read_json(&file)?;
            // transformers writes 1e30 where there is none.
            let most = Fields::root(&file, &value)?.number("model_max_length")?;
            self.max_seq_length = most.filter(|most| *most >= 1.0).map(|most| most as usize);
        }
        Ok(())
    }
}

/// More than a machine counts is any number.
fn clamped(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A module's folder, inside of the model's.
fn plain_path(fields: &Fields<'_>) -> Result<PathBuf, ConfigError> {
    let path = fields.string("path")?.unwrap_or_default();
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    match inside && !path.contains(['\\', ':', '\0']) {
        true => Ok(PathBuf::from(path)),
        false => {
            let reason = "must be a folder of the model";
            Err(ConfigError::impossible(fields.file(), fields.path("path"), path, reason))
        }
    }
}

/// The prompt that every text gets.
fn prompt(fields: &Fields<'_>) -> Result<String, ConfigError> {
    let Some(name) = fields.string("default_prompt_name")? else { return Ok(String::new()) };
    match fields.value("prompts").and_then(|prompts| prompts.get(name)).and_then(Value::as_str) {
        Some(prompt) => Ok(prompt.to_owned()),
        None => {
            let reason = "`prompts` has no such text";
            Err(ConfigError::impossible(fields.file(), "default_prompt_name", name, reason))
        }
    }
}

/// Pooling's config.json, as it is written today and as it was.
fn pooling(file: &Path) -> Result<Vec<Pooling>, ConfigError> {
    const KEYS: [(&str, &str); 6] = [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
        ("pooling_mode_lasttoken", "lasttoken"),
    ];
    let value = read_json(file)?;
    let fields = Fields::root(file, &value)?;
    if fields.boolean("include_prompt")? == Some(false) {
        return Err(ConfigError::Unsupported {
            file: file.into(),
            key: "include_prompt".to_owned(),
            value: "false".to_owned(),
            supported: "true",
        });
    }
    let mut names = fields.strings("pooling_mode")?.unwrap_or_default();
    if names.is_empty() {
        for (key, name) in KEYS {
            if fields.boolean(key)? == Some(true) {
                names.push(name.to_owned());
            }
        }
    }
    if names.is_empty() {
        names.push("mean".to_owned());
    }
    let known = |name: String| match name.as_str() {
        "cls" => Ok(Pooling::Cls),
        "max" => Ok(Pooling::Max),
        "mean" => Ok(Pooling::Mean),
        "mean_sqrt_len_tokens" => Ok(Pooling::MeanSqrtLen),
        _ => Err(ConfigError::Unsupported {
            file: file.into(),
            key: "pooling_mode".to_owned(),
            value: name,
            supported: "cls, max, mean, mean_sqrt_len_tokens",
        }),
    };
    names.into_iter().map(known).collect()
}

fn dense(folder: PathBuf) -> Result<SentenceStep, ConfigError> {
    let file = folder.join("config.json");
    let value = read_json(&file)?;
    let fields = Fields::root(&file, &value)?;
    let size = |key: &str| match fields.size(key, 0)? {
        0 => Err(ConfigError::Missing { file: file.clone(), key: key.to_owned() }),
        size => Ok(size),
    };
    let unsupported = |key: &str, value: &str, supported| ConfigError::Unsupported {
        file: file.clone(),
        key: key.to_owned(),
        value: value.to_owned(),
        supported,
    };
    if fields.boolean("use_residual")? == Some(true) {
        return Err(unsupported("use_residual", "true", "false"));
    }
    for key in ["module_input_name", "module_output_name"] {
        if let Some(name) = fields.string(key)?.filter(|name| *name != "sentence_embedding") {
            return Err(unsupported(key, name, "sentence_embedding"));
        }
    }
    let named = fields.string("activation_function")?.unwrap_or("Tanh");
    let activation = match named.rsplit('.').next() {
        Some("Tanh") => DenseActivation::Tanh,
        Some("Identity") => DenseActivation::Identity,
        _ => return Err(unsupported("activation_function", named, "Tanh, Identity")),
    };
    let (in_features, out_features) = (size("in_features")?, size("out_features")?);
    let bias = fields.boolean("bias")?.unwrap_or(true);
    Ok(SentenceStep::Dense { folder, in_features, out_features, bias, activation })
}
