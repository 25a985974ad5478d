//! How good is a model? Perplexity of a text, distance from another model, and four question sets with
//! their official metrics, each with a 95 % interval.
//!
//! ```no_run
//! use lightglm::evaluate::{AskOptions, QuestionOptions, QuestionSet, ScoreOptions, Task};
//! use lightglm::{LoadOptions, Model};
//! # fn main() -> Result<(), lightglm::Error> {
//! let model = Model::open("glm-4-9b-0414", LoadOptions::default())?;
//! let first_hundred = QuestionOptions { limit: Some(100), ..Default::default() };
//! let questions = QuestionSet::read(Task::Squad2, "dev-v2.0.json".as_ref(), &first_hundred)?;
//! let metrics = model.evaluate(&questions, &AskOptions::default(), &ScoreOptions::default())?;
//! println!("{metrics:?}");
//! # Ok(())
//! # }
//! ```

mod answers;
mod prompt_text;
mod questions;
mod text;
mod watch;

pub use answers::{Answers, AskOptions};
pub use lightglm_eval::data::{Predictions, read_text};
pub use lightglm_eval::metrics::{
    Estimates, Interval, IntervalMethod, Metric, MetricValue, Missing, NoAnswer,
};
pub use lightglm_eval::{KlDivergence, Perplexity, Protocol, Report};
pub use prompt_text::PromptStyle;
pub use questions::{QuestionOptions, QuestionSet, ScoreOptions, Task, read_no_answer};
pub use text::{TextOptions, divergence_metrics, first_tokens, perplexity_metrics};
