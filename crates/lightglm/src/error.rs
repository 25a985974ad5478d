//! `Error`: what can go wrong in this crate; what the crates below say is kept as it is.

use std::path::PathBuf;

use lightglm_core::{KvCacheError, LmError, MediaKind, WeightError};
use lightglm_eval::EvalError;
use lightglm_eval::data::EvalDataError;
use lightglm_eval::metrics::ScoreError;
use lightglm_eval::prompting::AskError;
use lightglm_generation::batched::BatchError;
use lightglm_generation::media::{MediaPlacesError, MediaStoreError};
use lightglm_generation::{GenerationError, SamplingError};
use lightglm_model::checkpoint::CheckpointError;
use lightglm_model::encoder::EncoderError;
use lightglm_quant::formats::FormatError;
use lightglm_quant::methods::MethodError;
use lightglm_quant::{PolicyError, QuantError, SchemeError};
use lightglm_sparse::SparsityError;
use lightglm_text::{ChatTextError, TextError};
use lightglm_train::peft::PeftError;

use crate::sparse::SparseModelError;

/// What can go wrong in this crate.
///
/// What the crates below found out is passed on unchanged, so that it can be matched on; each names
/// the file, the tensor, the line or the field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that cannot be.
    #[error("{option}: {reason}")]
    Option {
        /// The option's field.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Weights that are quantized on disk were to be converted or quantized again.
    #[error("{}: is quantized already: it is loaded with `Weights::Stored`", file.display())]
    AlreadyQuantized {
        /// The checkpoint.
        file: PathBuf,
    },
    /// The model and a conversation with it need more memory than there is.
    #[error(
        "{}: does not fit: weights take {}, keys and values of {positions} positions {}, and {} of memory are available{}",
        file.display(), gigabytes(*weights), gigabytes(*kv_cache), gigabytes(*available), advice(fitting)
    )]
    Memory {
        /// The checkpoint.
        file: PathBuf,
        /// Bytes of the weights as they were to be held.
        weights: u64,
        /// Bytes of the keys and values of one conversation of the longest length.
        kv_cache: u64,
        /// That length, in tokens ([`LoadOptions::max_context`](crate::LoadOptions::max_context)).
        positions: u64,
        /// Bytes that the machine has, or [`LoadOptions::memory`](crate::LoadOptions::memory).
        available: u64,
        /// A scheme that would fit, and the bytes of its weights.
        fitting: Option<(&'static str, u64)>,
    },
    /// The backend was not compiled in.
    #[error("this program was built without `{device}`: build it with the feature `{device}`")]
    BackendNotBuilt {
        /// The backend.
        device: &'static str,
    },
    /// The machine has no such device.
    #[error("no usable {device} device on this machine (is its driver installed?)")]
    NoDevice {
        /// The backend.
        device: &'static str,
    },
    /// The conversation has outgrown its room.
    #[error(
        "the conversation has {tokens} tokens and the limit is {limit}: max_context, or the model's own context where that is less"
    )]
    ConversationTooLong {
        /// Tokens of the whole conversation.
        tokens: usize,
        /// [`Model::max_context`](crate::Model::max_context).
        limit: usize,
    },
    /// A text that was to become a vector, or a pair that was to be scored, is longer than the encoder reads.
    #[error("text {index} has {tokens} tokens and the limit is {limit}")]
    TextTooLong {
        /// Which text, from 0.
        index: usize,
        /// Its tokens, those around it included.
        tokens: usize,
        /// [`Embedder::max_tokens`](crate::Embedder::max_tokens).
        limit: usize,
    },
    /// The model reads no such medium, or this program was built without the feature that it takes.
    #[error("the model takes no {}, or this program was built without the feature `vision` or `speech`", kind.name())]
    NoMedia {
        /// What it was given.
        kind: MediaKind,
    },
    /// A model that sees or hears was to be written anew, and its encoder would have been lost.
    #[error("{}: has an encoder of pictures or speech, which {doing} would leave out", file.display())]
    WithEncoder {
        /// The checkpoint.
        file: PathBuf,
        /// What was to be done.
        doing: &'static str,
    },
    /// A file is no picture or recording, or beyond the limits.
    #[cfg(feature = "media")]
    #[error(transparent)]
    MediaFile(#[from] lightglm_media::MediaError),
    /// A picture or a recording cannot be encoded.
    #[error(transparent)]
    Media(#[from] MediaStoreError),
    /// The chat template has not written a place for each picture and recording.
    #[error(transparent)]
    MediaPlaces(#[from] MediaPlacesError),
    /// An encoder, or what it was to read, is wrong.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A quantized checkpoint was to be trained, not adapters beside it: what rounding took is not there to
    /// learn from.
    #[cfg(feature = "train")]
    #[error(
        "{}: is quantized: only a dense model's own weights can be trained; train adapters beside it (LoRA)",
        file.display()
    )]
    QuantizedForTraining {
        /// The checkpoint.
        file: PathBuf,
    },
    /// A model that is not trained by LoRA has no adapter to save.
    #[cfg(feature = "train")]
    #[error("a model whose method is `{method}` has no adapter: save the model")]
    NoAdapter {
        /// [`Method::describe`](crate::training::Method::describe).
        method: String,
    },
    /// A training run failed halfway before, and the model was lost with it.
    #[cfg(feature = "train")]
    #[error("the last training run failed: open the model again, and resume from a checkpoint")]
    TrainingFailed,
    /// There is no adapter of this name.
    #[error("adapter `{name}`: {reason}")]
    Adapter {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The engine's thread could not be started.
    #[cfg(feature = "serve")]
    #[error("the engine's thread: {source}")]
    EngineThread {
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The server cannot listen.
    #[cfg(feature = "serve")]
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The server's configuration is wrong.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Server(#[from] lightglm_serve::http::ServerConfigError),
    /// A certificate or a key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] lightglm_serve::http::TlsError),
    /// A keys file is wrong.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    KeysFile(#[from] lightglm_serve::http::KeysFileError),
    /// A constraint on replies is wrong, or asks too much.
    #[cfg(feature = "structured")]
    #[error(transparent)]
    Structured(#[from] lightglm_serve::structured::StructuredError),
    /// The folder that is to be written holds something, and may not be overwritten.
    #[error("{}: is not empty", folder.display())]
    FolderNotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder that is to be written is the model that is read.
    #[error("{}: is the model itself", folder.display())]
    FolderIsModel {
        /// The folder.
        folder: PathBuf,
    },
    /// The models to be compared cut the text into other tokens.
    #[error("`{reference}` and `{candidate}` cut the text into other tokens")]
    OtherTokens {
        /// The reference's name.
        reference: String,
        /// The candidate's name.
        candidate: String,
    },
    /// Fewer solved examples than are wanted.
    #[error("{}: has {found} examples only, {wanted} are wanted", file.display())]
    TooFewShots {
        /// The file.
        file: PathBuf,
        /// Examples in it.
        found: usize,
        /// Examples wanted.
        wanted: usize,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A progress callback or a stop flag ended the work.
    #[error("interrupted while {doing}")]
    Interrupted {
        /// `quantizing`, `calibrating`, ...
        doing: &'static str,
    },
    /// The model that is compiled in cannot be unpacked.
    #[cfg(feature = "tiny")]
    #[error(transparent)]
    Embedded(#[from] lightglm_tiny::UnpackError),
    /// The model is not here and cannot be fetched.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] lightglm_hub::HubError),
    /// The checkpoint cannot be opened.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor is missing or malformed.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A matrix cannot be quantized, or a quantized one not be read.
    #[error(transparent)]
    Quantization(#[from] QuantError),
    /// The policy is malformed, or does not fit the model.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There is no such scheme.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// Thresholds or neurons do not fit the model.
    #[error(transparent)]
    Sparse(#[from] SparsityError),
    /// A model cannot be made sparse so.
    #[error(transparent)]
    SparseModel(#[from] SparseModelError),
    /// Each prompt chooses its neurons, so a model that is held so is for one conversation at a time.
    #[error(
        "{doing}: the model's neurons are chosen by each prompt (PromptNeurons), for one conversation at a time"
    )]
    OneConversation {
        /// What was asked of it.
        doing: &'static str,
    },
    /// An adapter's files are malformed or do not fit the model.
    #[error(transparent)]
    Peft(#[from] PeftError),
    /// The configuration of adapters is impossible.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Lora(#[from] lightglm_train::lora::LoraError),
    /// A file of rows cannot be read, or has a bad row.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Rows(#[from] lightglm_train::data::DataError),
    /// Rows cannot be divided as wanted.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Split(#[from] lightglm_train::data::SplitError),
    /// A row cannot be turned into tokens.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Tokenize(#[from] lightglm_train::data::TokenizeError),
    /// Nothing can be learnt from the teacher so.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Distill(#[from] lightglm_distill::DistillError),
    /// A file of a teacher's distributions is of something else, damaged, or cannot be written.
    #[cfg(feature = "train")]
    #[error(transparent)]
    TeacherCache(#[from] lightglm_distill::TeacherCacheError),
    /// A teacher's vocabulary has as many tokens as the student's, but others.
    #[cfg(feature = "train")]
    #[error(
        "token {token} is {teacher:?} of the teacher and {student:?} of the student: they need one vocabulary"
    )]
    TeacherVocabulary {
        /// The first token that differs.
        token: u32,
        /// What it is to the teacher.
        teacher: String,
        /// What it is to the student.
        student: String,
    },
    /// A file of a teacher's answers cannot be begun or gone on with.
    #[cfg(feature = "train")]
    #[error("{}: {reason}", file.display())]
    AnswersFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A teacher's server could not be asked, or answered with something else.
    #[cfg(feature = "teacher-server")]
    #[error(transparent)]
    TeacherServer(#[from] crate::training::server_teacher::ServerTeacherError),
    /// Training could not begin, or failed.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Training(#[from] lightglm_train::trainer::TrainError),
    /// A folder of training checkpoints cannot be used.
    #[cfg(feature = "train")]
    #[error(transparent)]
    TrainingCheckpoint(#[from] lightglm_train::checkpoint::TrainCheckpointError),
    /// Text cannot be encoded, or the chat template refused it.
    #[error(transparent)]
    Text(#[from] ChatTextError),
    /// The tokenizer or the chat template is malformed.
    #[error(transparent)]
    TextFiles(#[from] TextError),
    /// Sampling parameters contradict themselves.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A generation could not start or go on.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// A batch could not be run.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The model refused the tokens.
    #[error(transparent)]
    Model(#[from] LmError),
    /// The cache refused.
    #[error(transparent)]
    Cache(#[from] KvCacheError),
    /// A measurement could not be carried out.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Calibration, or the method that chooses codes, failed.
    #[error(transparent)]
    Calibration(#[from] MethodError),
    /// An export could not be written or read.
    #[error(transparent)]
    Export(#[from] FormatError),
    /// The folder was quantized by another program, in a way that is not read here.
    #[error("{}: {source}", file.display())]
    ForeignQuantization {
        /// Its config.json.
        file: PathBuf,
        /// What is not read.
        source: Box<FormatError>,
    },
    /// A file of questions or of predictions is malformed.
    #[error(transparent)]
    Data(#[from] EvalDataError),
    /// The model could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Predictions could not be scored.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A model cannot be cut.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Prune(#[from] crate::prune::PruneError),
    /// Nothing can be chosen for the blocks of a teacher.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Search(#[from] lightglm_distill::search::SearchError),
    /// A teacher has no such student.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Student(lightglm_distill::student::StudentError),
    /// A file of expectations cannot be compared with.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Expected(#[from] crate::verify::ExpectedError),
}

#[cfg(feature = "train")]
impl From<lightglm_distill::student::StudentError> for Error {
    fn from(error: lightglm_distill::student::StudentError) -> Self {
        match error {
            lightglm_distill::student::StudentError::Weights(error) => Self::Weights(error),
            error => Self::Student(error),
        }
    }
}

fn gigabytes(bytes: u64) -> String {
    match bytes < 10_000_000 {
        true => format!("{:.2} MB", bytes as f64 / 1e6),
        false => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

fn advice(fitting: &Option<(&'static str, u64)>) -> String {
    fitting.map_or(String::new(), |(scheme, bytes)| {
        format!("; the scheme `{scheme}` would fit: its weights take {}", gigabytes(bytes))
    })
}
