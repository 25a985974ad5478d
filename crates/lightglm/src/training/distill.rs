//! `DistillConfig`: how a student learns from a teacher; and the teachers there are.

use lightglm_core::{LabelledSpan, LmError};
use lightglm_distill::{
    CacheHeader, CachedTeacher, DistillError, Distillation, Divergence, LiveTeacher,
    RecordedTeacher, Teacher, TeacherRows,
};
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::DenseGlm;
use lightglm_text::{ChatText, ModelText};
use lightglm_train::trainer::{TokenizedExample, TrainConfig};

use super::model_teacher::ModelTeacher;
use super::own_answers::OwnAnswers;
use crate::device::Cpu;
use crate::error::Error;
use crate::model::Model;

/// How a student learns from a teacher.
#[derive(Clone, Debug, PartialEq)]
pub struct DistillConfig {
    /// How far the two distributions are apart.
    pub divergence: Divergence,
    /// Share of the divergence in the loss, from 0 to 1; the rest is that of the rows' answers.
    pub weight: f64,
    /// Divides the logits of both; the divergence is multiplied by its square.
    pub temperature: f64,
    /// Lets the student answer in the place of the rows; if omitted it learns from the rows' answers alone.
    pub on_policy: Option<OnPolicy>,
}

impl Default for DistillConfig {
    /// The forward divergence alone, at temperature 1, over the rows' answers.
    fn default() -> Self {
        let (divergence, weight, temperature) = (Divergence::ForwardKl, 1.0, 1.0);
        Self { divergence, weight, temperature, on_policy: None }
    }
}

/// On-policy distillation: some steps learn from what the student itself answers, at temperature 1, with the
/// teacher's distributions behind each of its tokens. Of such an answer exactly the generated tokens are learnt.
///
/// Of a row with several answers the last one is given anew; a plain text is continued from its first token.
///
/// Source: Agarwal et al. 2024, "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes"
/// (GKD), algorithm 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnPolicy {
    /// The share of steps whose answers are the student's own, lambda: from 0 to 1. Which steps is decided by the
    /// seed of the run.
    pub fraction: f64,
    /// Tokens of such an answer at most.
    pub max_tokens: usize,
}

impl Default for OnPolicy {
    /// Half of the steps, answers of 128 tokens.
    fn default() -> Self {
        Self { fraction: 0.5, max_tokens: 128 }
    }
}

/// Whom a student learns from.
pub(super) enum Towards {
    /// The student before quantization.
    Before(Box<DenseGlm<Cpu>>),
    /// Another model.
    Model(Model),
    /// What a teacher said earlier.
    Recorded(RecordedTeacher),
    /// What a teacher was asked once about all rows.
    Cached(CachedTeacher),
}

impl Teacher for &Towards {
    fn rows(&self, batch: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError> {
        match self {
            Towards::Before(model) => {
                LiveTeacher::new(|batch: &[LabelledSpan<'_>]| model.labelled_logits(batch))
                    .rows(batch)
            }
            Towards::Model(model) => ModelTeacher(model).rows(batch),
            Towards::Recorded(teacher) => teacher.rows(batch),
            Towards::Cached(teacher) => teacher.rows(batch),
        }
    }
}

/// A teacher, and how a student learns from it.
pub(super) struct Distilled {
    pub(super) towards: Towards,
    pub(super) config: DistillConfig,
}

impl Distilled {
    /// What the student is trained towards.
    pub(super) fn objective(&self) -> Distillation<&Towards> {
        let DistillConfig { divergence, weight, temperature, .. } = self.config;
        Distillation::new(&self.towards, divergence)
            .with_weight(weight)
            .with_temperature(temperature)
    }

    /// Refuses settings that are impossible, and a teacher with another vocabulary than a student of `config` and
    /// `text`.
    pub(super) fn check(&self, config: &GlmConfig, text: &ModelText) -> Result<(), Error> {
        self.objective().check()?;
        let refused = |option, reason: &str| Err(Error::Option { option, reason: reason.into() });
        if let Some(OnPolicy { fraction, max_tokens }) = self.config.on_policy {
            if !(0.0..=1.0).contains(&fraction) {
                return refused("fraction", &format!("must be between 0 and 1, not {fraction}"));
            }
            if max_tokens == 0 {
                return refused("max_tokens", "an answer has at least one token");
            }
            if matches!(self.towards, Towards::Recorded(_) | Towards::Cached(_)) {
                return refused("on_policy", "a recorded teacher knows no new answers");
            }
            if self.config.weight < 1.0 {
                return refused("weight", "must be 1 where answers are the student's own");
            }
        }
        let teacher = match &self.towards {
            Towards::Before(_) => return Ok(()),
            Towards::Model(model) => model.config().vocab_size,
            Towards::Recorded(teacher) => teacher.vocab_size(),
            Towards::Cached(teacher) => teacher.cache().header().vocab_size,
        };
        if teacher != config.vocab_size {
            return Err(DistillError::Vocabulary { teacher, student: config.vocab_size }.into());
        }
        match &self.towards {
            Towards::Model(model) => {
                model.refuse_one_conversation("teacher")?;
                check_same_tokens(model.text(), text, config.vocab_size)
            }
            Towards::Cached(teacher) => {
                let (teacher, wanted) =
                    (teacher.cache().header().temperature, self.config.temperature);
                match teacher == wanted {
                    true => Ok(()),
                    false => Err(DistillError::Temperature { teacher, wanted }.into()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Refuses rows that the teacher cannot be asked about.
    pub(super) fn check_rows(&self, rows: &[TokenizedExample]) -> Result<(), Error> {
        match &self.towards {
            Towards::Before(_) => Ok(()),
            Towards::Model(model) => ModelTeacher(model).check_rows(rows),
            Towards::Recorded(teacher) => {
                let unknown = rows.iter().position(|row| {
                    let span = LabelledSpan::text(&row.tokens, &row.targets);
                    row.labels() > 0 && !teacher.knows(span)
                });
                match unknown {
                    Some(row) => Err(DistillError::Unrecorded { row }.into()),
                    None => Ok(()),
                }
            }
            Towards::Cached(teacher) => {
                for row in rows.iter().filter(|row| row.labels() > 0) {
                    let span = LabelledSpan::text(&row.tokens, &row.targets);
                    teacher.cache().row(&span, 0)?;
                }
                Ok(())
            }
        }
    }

    /// What of it decides the numbers of a run. Nothing of quantization-aware training, whose method does.
    pub(super) fn settings(&self) -> String {
        if matches!(self.towards, Towards::Before(_)) {
            return String::new();
        }
        let DistillConfig { divergence, weight, temperature, .. } = &self.config;
        let mut settings =
            format!("teacher {divergence:?} weight {weight} temperature {temperature}");
        if let Towards::Cached(teacher) = &self.towards {
            let CacheHeader { teacher, bytes_per_row, seed, .. } = teacher.cache().header();
            settings += &format!(" cached {teacher:016x} in {bytes_per_row} bytes seed {seed}");
        }
        if let Some(OnPolicy { fraction, max_tokens }) = self.on_policy() {
            settings += &format!(" on-policy {fraction} of {max_tokens}");
        }
        settings
    }

    /// What makes the student's own answers, where some steps learn from them.
    pub(super) fn own_answers<'a>(
        &self,
        config: &GlmConfig,
        text: &'a ModelText,
        train: &TrainConfig,
    ) -> Option<OwnAnswers<'a>> {
        let mut limit = config.context_length().min(train.micro_batch_tokens);
        if let Towards::Model(model) = &self.towards {
            limit = limit.min(model.max_context());
        }
        Some(OwnAnswers::new(self.on_policy()?, train.seed, limit, config, text))
    }

    fn on_policy(&self) -> Option<OnPolicy> {
        self.config.on_policy.filter(|on_policy| on_policy.fraction > 0.0)
    }
}

/// Refuses vocabularies in which one of the first `vocab_size` tokens is not the same.
///
/// # Errors
/// [`Error::TeacherVocabulary`] with the first that differs.
pub fn check_same_tokens(
    teacher: &ModelText,
    student: &ModelText,
    vocab_size: usize,
) -> Result<(), Error> {
    let spelled = |text: &ModelText, token: u32| {
        let bytes =
            text.token_bytes(token).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        bytes.or_else(|| text.tokenizer.id_to_token(token).map(str::to_owned)).unwrap_or_default()
    };
    for token in 0..vocab_size as u32 {
        let same = teacher.token_bytes(token) == student.token_bytes(token)
            && teacher.tokenizer.id_to_token(token) == student.tokenizer.id_to_token(token);
        if !same {
            let (teacher, student) = (spelled(teacher, token), spelled(student, token));
            return Err(Error::TeacherVocabulary { token, teacher, student });
        }
    }
    Ok(())
}
