//! Fine-tuning and quantization-aware training, on the CPU.
//!
//! Rows become token ids through the model's own chat template, and exactly the answers are learnt.
//!
//! Adapters from a company's own questions and answers, which PEFT loads too:
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use lightglm::training::{LoraConfig, Method, ReadOptions, TrainingModel, read_examples};
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let lora = Method::Lora(LoraConfig { rank: 16, ..LoraConfig::default() });
//! let mut student = TrainingModel::open("glm-4-9b-0414", lora)?;
//! let rows = student.tokenize(&read_examples("faq.jsonl", &ReadOptions::default())?)?;
//! let outcome = student.train(&rows, &student.recommended(), |_| ControlFlow::Continue(()))?;
//! println!("{outcome:?}");
//! student.save_adapter("adapter")?;
//! # Ok(())
//! # }
//! ```
//!
//! A model that bears its own quantization, in a folder that [`Model::open`](crate::Model::open)
//! opens; any text of the kind that it will meet does:
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use lightglm::training::{Method, ReadOptions, TrainingModel, read_examples};
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let mut student = TrainingModel::open("model", Method::qat("int4wo-g128")?)?;
//! let rows = student.tokenize(&read_examples("text.txt", &ReadOptions::default())?)?;
//! student.train(&rows, &student.recommended(), |_| ControlFlow::Continue(()))?;
//! student.save("packed")?;
//! # Ok(())
//! # }
//! ```
//!
//! A student of a larger model, which it hears what it should have said behind each token:
//!
//! ```no_run
//! use lightglm::training::{DistillConfig, Method, TrainingModel};
//! use lightglm::{LoadOptions, Model};
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let teacher = Model::open("large", LoadOptions::default())?;
//! let student = TrainingModel::open("small", Method::Full)?
//!     .with_teacher(teacher, DistillConfig::default())?;
//! # drop(student);
//! # Ok(())
//! # }
//! ```
//!
//! The same of a teacher that is asked once, for several students and epochs:
//!
//! ```no_run
//! use lightglm::training::{
//!     DistillConfig, Method, ReadOptions, TrainingModel, cache_teacher, read_examples,
//! };
//! use lightglm::{LoadOptions, Model, ProgressSink};
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let student = TrainingModel::open("small", Method::Full)?;
//! let rows = student.tokenize(&read_examples("text.txt", &ReadOptions::default())?)?;
//! let teacher = Model::open("large", LoadOptions::default())?;
//! cache_teacher(&teacher, &rows, "teacher.cache", &ProgressSink::default())?;
//! let student = student.with_cached_teacher("teacher.cache", DistillConfig::default())?;
//! # drop(student);
//! # Ok(())
//! # }
//! ```

mod answers;
mod distill;
pub mod generations;
mod method;
mod model_teacher;
mod own_answers;
mod recorded;
mod seeds;
#[cfg(feature = "teacher-server")]
pub mod server_teacher;
mod student;
mod teacher_cache;
mod token_logprobs;
mod training_model;

pub use answers::{Accuracy, answers, conversations, kl_divergence, perplexity};
pub use distill::{DistillConfig, OnPolicy, check_same_tokens};
pub use lightglm_core::Activations;
pub use lightglm_distill::{
    DistillError, Divergence, RecordedTeacher, TeacherCache, TeacherCacheError, TopRow,
};
pub use lightglm_train::checkpoint::CheckpointFolder;
pub use lightglm_train::data::{
    self, Columns, Conversation, ConversationTokenizer, DataFormat, DropReport, Example,
    ExampleSet, OnBadRow, ReadOptions, TextEncoding, TextUnit, read_examples,
};
pub use lightglm_train::lora::LoraConfig;
pub use lightglm_train::optimizer::{AdamWConfig, MuonConfig, ScheduleShape};
pub use lightglm_train::trainer::{
    MetricsFile, StopReason, TokenizedExample, TrainConfig, TrainEvent, TrainOutcome,
};
pub use method::{Method, QatConfig};
pub use recorded::Recorded;
pub use teacher_cache::{TeacherCacheOptions, cache_teacher, cache_teacher_with};
pub use token_logprobs::TokenLogprobs;
pub use training_model::{Checkpoints, RunOptions, TokenizedRows, TrainingModel, TrainingOptions};
