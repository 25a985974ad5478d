//! A teacher's answers as rows to learn from: sequence-level distillation.
//!
//! Prompts are conversations without their last answer, and a teacher, a [`Model`](crate::Model) or a server,
//! answers them. The rows are appended to a file of JSON lines as they come, in the order of the prompts, and a run
//! that ended early goes on where it was, to the bytes of a run that did not.
//!
//! Source: Kim and Rush 2016, "Sequence-Level Knowledge Distillation", section 3.2.

mod answer_source;
mod answers_file;
mod model_source;
mod row;

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use lightglm_generation::SamplingParams;
use lightglm_train::data::{Conversation, Example};

pub use self::answer_source::{AnswerSource, Answered, Asking, Question, TeacherAnswer};
use self::answers_file::{AnswersFile, Place};
#[cfg(feature = "teacher-server")]
pub(super) use self::row::messages_of;
use self::row::row_of;
pub(super) use self::row::{LOGPROBS, TEACHER};
use super::seeds::mixed;
use crate::error::Error;
use crate::progress::{Progress, ProgressSink};

/// How rows are made of a teacher's answers.
#[derive(Clone, Debug)]
pub struct GenerationOptions {
    /// How answers are sampled; each has a seed of its own, made of this one.
    pub sampling: SamplingParams,
    /// Answers to each prompt.
    pub samples: usize,
    /// Whether answers that the limit of tokens cut become rows, too: a student learns from them to break off.
    pub keep_cut: bool,
    /// Whether a file that is there is gone on with; otherwise it is refused.
    pub resume: bool,
    /// Told how many answers there are; breaking off ends the work, and what is answered is kept.
    pub progress: ProgressSink,
}

impl Default for GenerationOptions {
    /// One answer to each prompt, the likeliest, of at most 512 tokens.
    fn default() -> Self {
        let sampling = SamplingParams::default();
        let progress = ProgressSink::default();
        Self { sampling, samples: 1, keep_cut: false, resume: false, progress }
    }
}

impl GenerationOptions {
    fn check(&self) -> Result<(), Error> {
        self.sampling.validate()?;
        let refused =
            |reason: &str| Err(Error::Option { option: "samples", reason: reason.into() });
        match (self.samples, self.sampling.temperature) {
            (0, _) => refused("must be at least 1"),
            (2.., 0.0) => refused("at temperature 0 all answers to a prompt are the same"),
            _ => Ok(()),
        }
    }
}

/// What became of the answers that a run asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generations {
    /// Answers that runs before this one had asked for.
    pub before: u64,
    /// Rows written.
    pub written: u64,
    /// Rows of these with log-probabilities.
    pub with_logprobs: u64,
    /// Answers left out because the limit of tokens cut them, or they went round in a circle.
    pub cut: u64,
    /// Answers left out because they say nothing.
    pub empty: u64,
    /// Prompts that the teacher refused: the row's line, and why.
    pub refused: Vec<(usize, String)>,
}

/// The conversations among `examples` that can be answered: those in which somebody asks.
pub fn prompts(examples: &[Example]) -> Vec<&Conversation> {
    let conversations = examples.iter().filter_map(Example::conversation);
    conversations.filter(|conversation| !conversation.question().is_empty()).collect()
}

/// Lets `teacher` answer the last questions of `conversations`, and appends a row for each answer to `file`.
///
/// Beside `file` stands one with `.settings` behind its name: what the answers depend on, so that a run of other
/// settings does not go on with it.
///
/// # Errors
/// [`Error::AnswersFile`] where the file is there and not to be gone on with, or was begun with other settings;
/// [`Error::Option`], [`Error::Sampling`]; [`Error::Interrupted`]; what ends the teacher's work. What was answered
/// until then is in the file.
pub fn generate_rows(
    teacher: &dyn AnswerSource,
    conversations: &[&Conversation],
    file: impl AsRef<Path>,
    options: &GenerationOptions,
) -> Result<Generations, Error> {
    options.check()?;
    let settings = settings(teacher, conversations, options);
    let (mut file, last) = AnswersFile::open(file.as_ref(), &settings, options.resume)?;
    let samples = options.samples as u64;
    let total = conversations.len() as u64 * samples;
    let begin = last.map_or(0, |Place { prompt, sample }| prompt * samples + sample + 1);
    let mut outcome = Generations { before: begin, ..Generations::default() };
    let mut done = begin;
    while done < total {
        let end = (done + teacher.at_once().max(1) as u64).min(total);
        let questions: Vec<Question<'_>> =
            (done..end).map(|at| question(conversations, options, at)).collect();
        let stop = AtomicBool::new(false);
        // One at a time, and never backwards.
        let told = Mutex::new(done);
        let tell = |answered: usize| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            *told = (*told).max(done + answered as u64);
            let progress = Progress::Working { doing: ASKING, done: *told, total };
            if options.progress.report(progress).is_break() {
                stop.store(true, Ordering::Relaxed);
            }
        };
        tell(0);
        let asking = Asking { sampling: &options.sampling, stop: &stop, tell: &tell };
        let answers = teacher.answers(&questions, &asking)?;
        let (rows, ended) = outcome.take(&questions, answers, options);
        file.append(&rows)?;
        if let Some(ended) = ended {
            return Err(ended);
        }
        done = end;
    }
    options.progress.working(ASKING, total, total)?;
    Ok(outcome)
}

/// What is being done.
const ASKING: &str = "asking the teacher";

/// The question whose answer is number `at` of all.
fn question<'a>(
    conversations: &[&'a Conversation],
    options: &GenerationOptions,
    at: u64,
) -> Question<'a> {
    let (prompt, sample) = (at / options.samples as u64, at % options.samples as u64);
    // Servers take what fits a signed number of 32 bits.
    let seed = mixed(&[options.sampling.seed, prompt, sample]) & 0x7fff_ffff;
    Question { conversation: conversations[prompt as usize], prompt, sample, seed }
}

/// What the answers depend on.
fn settings(
    teacher: &dyn AnswerSource,
    conversations: &[&Conversation],
    options: &GenerationOptions,
) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for conversation in conversations {
        let row = row::messages_of(conversation).to_string();
        let tools = conversation.extra.get("tools").map(ToString::to_string).unwrap_or_default();
        for byte in row.bytes().chain(tools.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let sampling = serde_json::to_string(&options.sampling).unwrap_or_default();
    let GenerationOptions { samples, keep_cut, .. } = options;
    let prompts = conversations.len();
    format!(
        "teacher: {}\nprompts: {prompts} {hash:016x}\nsamples: {samples}\nkeep cut: {keep_cut}\n\
         sampling: {sampling}\n",
        teacher.name()
    )
}

impl Generations {
    /// The rows of `answers`, up to the first that is none, and what ended the work there.
    fn take(
        &mut self,
        questions: &[Question<'_>],
        answers: Vec<Answered>,
        options: &GenerationOptions,
    ) -> (Vec<String>, Option<Error>) {
        let mut rows = Vec::new();
        for (question, answered) in questions.iter().zip(answers) {
            match answered {
                Answered::Failed(error) => return (rows, Some(error)),
                Answered::Unanswered => {
                    return (rows, Some(Error::Interrupted { doing: ASKING }));
                }
                Answered::Refused(reason) => {
                    let line = question.conversation.line;
                    if self.refused.last().is_none_or(|(last, _)| *last != line) {
                        self.refused.push((line, reason));
                    }
                }
                Answered::Answer(answer) if answer.is_empty() => self.empty += 1,
                Answered::Answer(answer) if answer.is_cut && !options.keep_cut => self.cut += 1,
                Answered::Answer(answer) => {
                    self.written += 1;
                    self.with_logprobs += u64::from(answer.logprobs.is_some());
                    rows.push(row_of(question, answer));
                }
            }
        }
        (rows, None)
    }
}
