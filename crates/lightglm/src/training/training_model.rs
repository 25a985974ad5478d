//! `TrainingModel`: a model that learns, whatever the method.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{ControlFlow, Deref};
use std::path::Path;
use std::sync::Arc;

use lightglm_core::{KvDtype, Objective, save_safetensors};
use lightglm_distill::{CachedTeacher, RecordedTeacher, TeacherCache};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::DenseGlm;
use lightglm_quant::{CheckpointQuantizer, QuantizedCheckpoint};
use lightglm_text::ModelText;
use lightglm_train::checkpoint::{CheckpointFolder, TrainCheckpointError};
use lightglm_train::data::{ConversationTokenizer, DropReport, Example, ExampleSet, OnBadRow};
use lightglm_train::lora::Lora;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::trainer::{
    TokenizedExample, TrainConfig, TrainError, TrainEvent, TrainOutcome, Trainer,
};

use super::distill::{DistillConfig, Distilled, Towards};
use super::method::Method;
use super::student::{self, Opened, Student, Train, Watch};
use crate::device::Cpu;
use crate::error::Error;
use crate::model::{LoadOptions, Loaded, Model, is_imported, quantize_source};
use crate::model_folder::ModelFolder;
use crate::progress::ProgressSink;

/// How a model is opened for training.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// Tokens of a row at most: longer conversations are left out, longer texts are cut. 1024 by
    /// default, or what the model was made for where that is less.
    pub max_tokens: usize,
    /// Decides the adapters' first values.
    pub seed: u64,
    /// What an adapter's configuration calls the model below it: a name on the hub, or a folder; if
    /// omitted what the model was opened by.
    pub base_model: Option<String>,
    /// What to do about rows that the model's chat template refuses or does not write.
    pub on_bad_row: OnBadRow,
    /// Whether more than half of the rows may be dropped.
    pub allow_dropped: bool,
    /// Told how far loading is.
    pub progress: ProgressSink,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            max_tokens: 1024,
            seed: 0,
            base_model: None,
            on_bad_row: OnBadRow::Drop,
            allow_dropped: false,
            progress: ProgressSink::default(),
        }
    }
}

/// Rows as token ids, of which the answers are learnt; and what was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizedRows {
    /// The rows.
    pub rows: Vec<TokenizedExample>,
    /// What was left out, in reading and in tokenizing, and which fields have no effect.
    pub report: DropReport,
}

impl Deref for TokenizedRows {
    type Target = [TokenizedExample];

    fn deref(&self) -> &[TokenizedExample] {
        &self.rows
    }
}

/// What a training run has beside rows and settings.
#[derive(Clone, Copy, Default)]
pub struct RunOptions<'a> {
    /// Rows that are scored and not learnt.
    pub validation: &'a [TokenizedExample],
    /// Where checkpoints are kept; if omitted nowhere.
    pub checkpoints: Option<Checkpoints<'a>>,
}

/// Where a run keeps its checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints<'a> {
    /// The folder.
    pub folder: &'a CheckpointFolder,
    /// Whether the run goes on after the last checkpoint there, if there is one.
    pub resume: bool,
}

/// A model that learns on the CPU, in f32: all parameters, LoRA adapters beside weights that are in f32 or
/// packed, or weights that are about to be quantized, as [`Method`] says.
///
/// See the [module](super) for programs.
pub struct TrainingModel {
    checkpoint: Arc<Checkpoint>,
    text: Arc<ModelText>,
    method: Method,
    options: TrainingOptions,
    base_model: String,
    student: Box<dyn Student>,
    lora: Option<Lora>,
    scheme: String,
    integer: bool,
    distilled: Option<Distilled>,
}

impl TrainingModel {
    /// Opens a model for training, by path or name as [`Model::open`] does.
    ///
    /// # Errors
    /// Where the method is impossible or does not fit the model ([`Error::Lora`], [`Error::Option`],
    /// [`Error::Policy`]), before weights are read; where the model cannot be found, fetched or read,
    /// or is quantized and its weights are to be trained. Adapters ([`Method::Lora`]) are trained beside
    /// quantized weights, which stay packed as they are stored, GGUF's blocks too (QLoRA).
    pub fn open(model: impl AsRef<Path>, method: Method) -> Result<Self, Error> {
        Self::open_with(model, method, TrainingOptions::default())
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        model: impl AsRef<Path>,
        method: Method,
        mut options: TrainingOptions,
    ) -> Result<Self, Error> {
        method.check()?;
        let model = model.as_ref();
        let checkpoint = crate::checkpoint::open(model, &options.progress)?;
        if !is_nickname(model) {
            options.base_model.get_or_insert_with(|| model.display().to_string());
        }
        Self::from_checkpoint(checkpoint, method, options)
    }

    /// A checkpoint that was opened already, to look at it first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_checkpoint(
        checkpoint: Checkpoint,
        method: Method,
        options: TrainingOptions,
    ) -> Result<Self, Error> {
        method.check()?;
        if options.max_tokens < 2 {
            let reason = "must be at least 2".to_owned();
            return Err(Error::Option { option: "max_tokens", reason });
        }
        let adapted = matches!(method, Method::Lora(_));
        let quantized =
            QuantizedCheckpoint::is_one(checkpoint.weights()) || is_imported(&checkpoint)?;
        if !adapted && quantized {
            return Err(Error::QuantizedForTraining { file: checkpoint.path().to_owned() });
        }
        method.check_for(checkpoint.config())?;
        let text = Arc::new(checkpoint.text()?);
        let Opened { student, lora, scheme, integer, teacher } =
            student::open(&checkpoint, &method, options.seed, &options.progress)?;
        let path = || checkpoint.path().display().to_string();
        let base_model = options.base_model.clone().unwrap_or_else(path);
        let checkpoint = Arc::new(checkpoint);
        let distilled = match (&method, teacher) {
            (Method::Qat(config), Some(before)) => {
                let config = DistillConfig { weight: config.kl_weight, ..DistillConfig::default() };
                Some(Distilled { towards: Towards::Before(Box::new(before)), config })
            }
            _ => None,
        };
        Ok(Self {
            checkpoint,
            text,
            method,
            options,
            base_model,
            student,
            lora,
            scheme,
            integer,
            distilled,
        })
    }

    /// Trains it towards `teacher`, of any backend and however its weights are held, which is asked about each batch
    /// anew. [`Method::Qat`] then learns from it instead of the model before quantization.
    ///
    /// # Errors
    /// Where the two have other vocabularies ([`Error::Distill`], [`Error::TeacherVocabulary`]), where the settings
    /// are impossible, and [`Error::OneConversation`] for a teacher whose prompts choose its neurons.
    pub fn with_teacher(self, teacher: Model, config: DistillConfig) -> Result<Self, Error> {
        self.towards(Towards::Model(teacher), config)
    }

    /// Trains it towards what a teacher said earlier of the same rows:
    /// [`recorded`](Self::recorded) makes one of rows that a server answered.
    ///
    /// # Errors
    /// As [`with_teacher`](Self::with_teacher); [`Error::Option`] for answers of the student's own, of which such a
    /// teacher knows nothing.
    pub fn with_recorded_teacher(
        self,
        teacher: RecordedTeacher,
        config: DistillConfig,
    ) -> Result<Self, Error> {
        self.towards(Towards::Recorded(teacher), config)
    }

    /// Trains it towards what a teacher was asked once about all rows: `path` is a file that
    /// [`cache_teacher`](super::cache_teacher) has finished. Beside the student nothing is in memory but the file's index,
    /// and the teacher is not needed any more.
    ///
    /// The loss is on average that of the live teacher with [`ForwardKl`](super::Divergence::ForwardKl); other divergences
    /// see what is not stored of a distribution as one outcome. [`Method::Qat`] learns from it instead of the model before
    /// quantization. The file knows how many tokens its teacher has, not which:
    /// [`check_same_tokens`](super::check_same_tokens) compares two models' own.
    ///
    /// # Errors
    /// [`Error::TeacherCache`] where the file is not there, unfinished or damaged, and in training for a row that it does
    /// not have; [`Error::Distill`] for another vocabulary size or temperature, and for settings that are impossible;
    /// [`Error::Option`] for answers of the student's own.
    pub fn with_cached_teacher(
        self,
        path: impl AsRef<Path>,
        config: DistillConfig,
    ) -> Result<Self, Error> {
        let cache = TeacherCache::open(path.as_ref())?;
        self.towards(Towards::Cached(CachedTeacher::new(cache)), config)
    }

    fn towards(mut self, towards: Towards, config: DistillConfig) -> Result<Self, Error> {
        let distilled = Distilled { towards, config };
        distilled.check(self.checkpoint.config(), &self.text)?;
        self.distilled = Some(distilled);
        Ok(self)
    }

    /// The rows as token ids, through the model's tokenizer and chat template, of which exactly the
    /// answers are learnt, each with the token that ends it ([`ConversationTokenizer`]).
    ///
    /// # Errors
    /// [`Error::Tokenize`] with the line of the row that the template or the tokenizer refuses, where
    /// [`TrainingOptions::on_bad_row`] says so, and where more than half of the rows is dropped.
    pub fn tokenize(&self, examples: &ExampleSet) -> Result<TokenizedRows, Error> {
        self.tokenize_with(&examples.examples, examples.report.clone())
    }

    /// As [`tokenize`](Self::tokenize), for examples from anywhere.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize).
    pub fn tokenize_examples(&self, examples: &[Example]) -> Result<TokenizedRows, Error> {
        let report = DropReport { rows: examples.len(), ..DropReport::default() };
        self.tokenize_with(examples, report)
    }

    fn tokenize_with(
        &self,
        examples: &[Example],
        mut report: DropReport,
    ) -> Result<TokenizedRows, Error> {
        let limit = self.options.max_tokens.min(self.checkpoint.config().context_length());
        let tokenizer = ConversationTokenizer::new(&*self.text)
            .with_on_bad_row(self.options.on_bad_row)
            .with_dropped_allowed(self.options.allow_dropped);
        let rows = tokenizer.tokenize(examples, limit, &mut report)?;
        Ok(TokenizedRows { rows, report })
    }

    /// Settings that suit the method, for rows of [`TrainingOptions::max_tokens`] tokens.
    pub fn recommended(&self) -> TrainConfig {
        let config = self.method.recommended();
        let micro_batch_tokens = config.micro_batch_tokens.max(self.options.max_tokens);
        TrainConfig { micro_batch_tokens, ..config }
    }

    /// Learns from `rows`. `watch` hears of every step and can end the run.
    ///
    /// # Errors
    /// [`Error::Training`]. Where settings or rows are at fault the model is as it was; where a run
    /// fails halfway (numbers that are not finite, a full disk) the model is lost, and says
    /// [`Error::TrainingFailed`] from then on.
    pub fn train(
        &mut self,
        rows: &[TokenizedExample],
        config: &TrainConfig,
        watch: impl FnMut(&TrainEvent) -> ControlFlow<()>,
    ) -> Result<TrainOutcome, Error> {
        self.train_with(rows, config, RunOptions::default(), watch)
    }

    /// As [`train`](Self::train), with validation rows, and checkpoints from which an interrupted run
    /// is resumed to the bit.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_with(
        &mut self,
        rows: &[TokenizedExample],
        config: &TrainConfig,
        run: RunOptions<'_>,
        mut watch: impl FnMut(&TrainEvent) -> ControlFlow<()>,
    ) -> Result<TrainOutcome, Error> {
        let Self { student, lora, distilled, .. } = self;
        let distilled = distilled.as_ref();
        let (towards_teacher, mut own) = (distilled.map(Distilled::objective), None);
        let objective: &dyn Objective<Train> = match &towards_teacher {
            Some(towards_teacher) => towards_teacher,
            None => &CrossEntropy,
        };
        let mut trainer = Trainer::new(config, objective).with_validation(run.validation);
        if let Some(distilled) = distilled {
            distilled.check_rows(rows)?;
            distilled.check_rows(run.validation)?;
            trainer = trainer.with_settings(distilled.settings());
            own = distilled.own_answers(self.checkpoint.config(), &self.text, config);
        }
        if let Some(Checkpoints { folder, resume }) = run.checkpoints {
            if let (false, Some(step)) = (resume, folder.steps().map_err(TrainError::from)?.pop()) {
                let folder = folder.path().to_path_buf();
                return Err(TrainError::from(TrainCheckpointError::InUse { folder, step }).into());
            }
            trainer = trainer.with_checkpoints(folder, resume);
        }
        if let Some(lora) = lora {
            trainer = trainer.with_dropout(lora.dropout_seed());
        }
        let watch: Watch<'_> = &mut watch;
        student.train(&trainer, rows, own.as_ref(), watch)
    }

    /// The model as it is now, to be asked: with [`Method::Qat`] the packed one, otherwise as it is trained.
    /// What is not quantized shares its memory with this one.
    ///
    /// # Errors
    /// [`Error::Quantization`]; [`Error::TrainingFailed`].
    pub fn model(&self) -> Result<Model, Error> {
        let device = Default::default();
        let loaded = match &self.method {
            Method::Qat(qat) => {
                let (weights, file) = (self.student.weights()?, Path::new(IN_MEMORY));
                let config = self.checkpoint.config();
                let progress = &self.options.progress;
                let packed =
                    quantize_source(config, &weights, file, &qat.policy, progress, &device)?;
                packed.into_loaded(&device)
            }
            Method::Full | Method::Lora(_) => {
                Loaded::new(self.student.inference()?, &*self.scheme, self.integer, &device)
            }
        };
        self.answering(loaded)
    }

    /// The model that is trained towards: that of [`with_teacher`](Self::with_teacher), or with [`Method::Qat`] the
    /// one before quantization; `None` where there is none.
    ///
    /// # Errors
    /// Where the checkpoint's generation_config.json is malformed.
    pub fn teacher(&self) -> Result<Option<Model>, Error> {
        match self.distilled.as_ref().map(|distilled| &distilled.towards) {
            Some(Towards::Before(model)) => {
                let model = DenseGlm::clone(model);
                Ok(Some(self.answering(dense(Arc::new(model)))?))
            }
            Some(Towards::Model(model)) => Ok(Some(model.clone())),
            Some(Towards::Recorded(_) | Towards::Cached(_)) | None => Ok(None),
        }
    }

    fn answering(&self, loaded: Loaded<Cpu>) -> Result<Model, Error> {
        let options = LoadOptions { kv_dtype: KvDtype::F32, ..LoadOptions::default() };
        Model::of_loaded(Arc::clone(&self.checkpoint), Arc::clone(&self.text), loaded, options)
    }

    /// Writes the model as it is now to a folder that [`Model::open`] opens: in f32 with
    /// [`Method::Full`], in f32 with the adapters added to the weights with [`Method::Lora`], packed
    /// with [`Method::Qat`].
    ///
    /// A model that is in the folder already is replaced; an unfinished folder is no model.
    ///
    /// # Errors
    /// Where the folder cannot be written to; [`Error::TrainingFailed`].
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let weights = self.student.weights()?;
        let (folder, checkpoint) = (folder.as_ref(), &*self.checkpoint);
        let output = match &self.method {
            Method::Qat(qat) => {
                let output = ModelFolder::begin(folder, checkpoint, Some(&qat.policy))?;
                let quantizer =
                    CheckpointQuantizer::new(&weights, Path::new(IN_MEMORY), &qat.policy);
                quantizer.save(&output.weights(), &weights.shapes())?;
                output
            }
            Method::Full | Method::Lora(_) => {
                let output = ModelFolder::begin(folder, checkpoint, None)?;
                save_safetensors(output.weights(), &weights, &BTreeMap::new())?;
                output
            }
        };
        output.finish()
    }

    /// Writes the adapters of [`Method::Lora`] in PEFT's layout: what
    /// [`Model::with_adapter`] and PEFT load.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] with other methods, before anything is written; [`Error::Peft`];
    /// [`Error::TrainingFailed`].
    pub fn save_adapter(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        match (&self.method, &self.lora) {
            (Method::Lora(_), Some(lora)) => {
                let layout = self.checkpoint.adapter_layout();
                self.student.save_adapter(lora, &self.base_model, layout, folder.as_ref())
            }
            // Adapters that were trained for rounded weights do not fit others.
            _ => Err(Error::NoAdapter { method: self.method.describe() }),
        }
    }

    /// Elements of the parameters that are trained.
    ///
    /// # Errors
    /// [`Error::TrainingFailed`].
    pub fn trainable_parameters(&self) -> Result<usize, Error> {
        self.student.trainable_parameters()
    }

    /// How its rows are made into tokens.
    pub(super) fn options(&self) -> &TrainingOptions {
        &self.options
    }

    /// How it is trained.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The files that it came from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Its text side: tokenizer and chat template.
    pub fn text(&self) -> &ModelText {
        &self.text
    }
}

impl fmt::Debug for TrainingModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.checkpoint.path();
        f.debug_struct("TrainingModel").field("path", &path).field("method", &self.method).finish()
    }
}

/// What errors call the weights of a model in training.
const IN_MEMORY: &str = "trained weights";

fn dense(model: Arc<dyn crate::model::LanguageModel<Cpu>>) -> Loaded<Cpu> {
    Loaded::new(model, "f32", false, &Default::default())
}

/// A name that only this project knows: an adapter that calls its base so finds nobody else's.
fn is_nickname(model: &Path) -> bool {
    #[cfg(feature = "tiny")]
    if model.to_str() == Some(lightglm_tiny::NAME) {
        return true;
    }
    #[cfg(feature = "hub")]
    if model.to_str() == Some(lightglm_hub::SMALL_MODEL) {
        return true;
    }
    let _ = model;
    false
}
