//! `TeacherRows`: what a teacher says of the labelled tokens of a batch. Shapes: `R` rows, `V` vocab_size.

use crate::error::DistillError;
use crate::row_divergence::Row;
use crate::tail_sample::TailSample;

/// What a teacher says of the labelled tokens of a batch: a distribution for each.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherRows(Rows);

#[derive(Clone, Debug, PartialEq)]
enum Rows {
    Logits { logits: Vec<f32>, vocab_size: usize },
    Top { rows: Vec<TopRow>, vocab_size: usize, temperature: f64 },
}

impl TeacherRows {
    /// The whole distributions, as logits `[R, V]`. Minus infinity bans a token.
    ///
    /// # Errors
    /// [`DistillError::Shape`] where they are no rows of that width, [`DistillError::NotFinite`].
    pub fn logits(logits: Vec<f32>, vocab_size: usize) -> Result<Self, DistillError> {
        if vocab_size == 0 || !logits.len().is_multiple_of(vocab_size) {
            return Err(DistillError::Shape { numbers: logits.len(), vocab_size });
        }
        for (row, logits) in logits.chunks_exact(vocab_size).enumerate() {
            let wrong = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY);
            let none = logits.iter().all(|logit| *logit == f32::NEG_INFINITY).then_some(0);
            if let Some(token) = wrong.or(none) {
                return Err(DistillError::NotFinite { row, token, value: logits[token] });
            }
        }
        Ok(Self(Rows::Logits { logits, vocab_size }))
    }

    /// The likeliest tokens of each row at `temperature`, and how much all others have together.
    ///
    /// # Errors
    /// [`DistillError::TopRow`] where a token is not below `vocab_size`, or a row has all tokens and a rest;
    /// [`DistillError::Setting`] for the temperature.
    pub fn top(
        rows: Vec<TopRow>,
        vocab_size: usize,
        temperature: f64,
    ) -> Result<Self, DistillError> {
        check_temperature(temperature)?;
        for (row, top) in rows.iter().enumerate() {
            let wrong = |reason: String| Err(DistillError::TopRow { row, reason });
            // They ascend.
            if let Some(last) = top.ids.last().filter(|last| **last as usize >= vocab_size) {
                return wrong(format!("token {last} is not below {vocab_size}"));
            }
            let drawn = top.sample.iter().flat_map(|sample| sample.ids().last());
            if let Some(last) = drawn.copied().find(|last| *last as usize >= vocab_size) {
                return wrong(format!("token {last} of its sample is not below {vocab_size}"));
            }
            if top.ids.len() == vocab_size && top.log_tail.exp() > 1e-3 {
                return wrong("it has all tokens, and a rest".to_owned());
            }
            if top.ids.len() < vocab_size && top.log_tail == f32::NEG_INFINITY && top.ids.is_empty()
            {
                return wrong("it has no tokens, and no rest".to_owned());
            }
        }
        Ok(Self(Rows::Top { rows, vocab_size, temperature }))
    }

    /// Rows.
    pub fn len(&self) -> usize {
        match &self.0 {
            Rows::Logits { logits, vocab_size } => logits.len() / vocab_size,
            Rows::Top { rows, .. } => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that the distributions are over.
    pub fn vocab_size(&self) -> usize {
        match &self.0 {
            Rows::Logits { vocab_size, .. } | Rows::Top { vocab_size, .. } => *vocab_size,
        }
    }

    /// Refuses rows that are not those of a student's logits `[rows, vocab_size]` at `temperature`.
    ///
    /// # Errors
    /// [`DistillError`].
    pub fn check(
        &self,
        rows: usize,
        vocab_size: usize,
        temperature: f64,
    ) -> Result<(), DistillError> {
        check_temperature(temperature)?;
        if self.vocab_size() != vocab_size {
            let (teacher, student) = (self.vocab_size(), vocab_size);
            return Err(DistillError::Vocabulary { teacher, student });
        }
        if self.len() != rows {
            return Err(DistillError::Rows { teacher: self.len(), student: rows });
        }
        match &self.0 {
            Rows::Top { temperature: teacher, .. } if *teacher != temperature => {
                Err(DistillError::Temperature { teacher: *teacher, wanted: temperature })
            }
            _ => Ok(()),
        }
    }

    /// The logits `[R, V]`, where the distributions are whole.
    pub(crate) fn whole(&self) -> Option<&[f32]> {
        match &self.0 {
            Rows::Logits { logits, .. } => Some(logits),
            Rows::Top { .. } => None,
        }
    }

    pub(crate) fn row(&self, row: usize) -> Row<'_> {
        match &self.0 {
            Rows::Logits { logits, vocab_size } => {
                Row::Logits(&logits[row * vocab_size..][..*vocab_size])
            }
            Rows::Top { rows, .. } => Row::Top(&rows[row]),
        }
    }
}

/// Refuses a temperature that is none.
pub(crate) fn check_temperature(temperature: f64) -> Result<(), DistillError> {
    if temperature > 0.0 && temperature.is_finite() {
        return Ok(());
    }
    let expected = "it must be above 0";
    Err(DistillError::Setting { setting: "temperature", value: temperature, expected })
}

/// The likeliest tokens of a row, and how much all others have together.
#[derive(Clone, Debug, PartialEq)]
pub struct TopRow {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
    log_tail: f32,
    sample: Option<TailSample>,
}

impl TopRow {
    /// Of tokens, which ascend, and the logarithms of their probabilities. What is missing to 1 is the others'.
    ///
    /// # Errors
    /// [`DistillError::TopRow`] where tokens do not ascend, a probability is none, or they are more than 1 together.
    pub fn new(ids: Vec<u32>, log_probs: Vec<f32>) -> Result<Self, DistillError> {
        let wrong = |reason: &str| DistillError::TopRow { row: 0, reason: reason.to_owned() };
        if ids.len() != log_probs.len() {
            return Err(wrong("it has other tokens than probabilities"));
        }
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(wrong("its tokens do not ascend"));
        }
        // A rounding above 0 is forgiven.
        if log_probs.iter().any(|log_prob| log_prob.is_nan() || *log_prob > 1e-3) {
            return Err(wrong("a probability is above 1, or none"));
        }
        let together: f64 = log_probs.iter().map(|log_prob| f64::from(*log_prob).exp()).sum();
        if together > 1.0 + 1e-2 {
            return Err(wrong("its probabilities are more than 1 together"));
        }
        let log_tail = (1.0 - together).max(0.0).ln() as f32;
        Ok(Self { ids, log_probs, log_tail, sample: None })
    }

    /// The same with `log_tail` as it was stored: what is missing to 1 is too coarse where almost nothing is.
    pub(crate) fn with_log_tail(mut self, log_tail: f32) -> Result<Self, DistillError> {
        if (log_tail.exp() - self.log_tail.exp()).abs() > 1e-3 || log_tail.is_nan() {
            let reason = "its probabilities and the rest are not 1 together".to_owned();
            return Err(DistillError::TopRow { row: 0, reason });
        }
        self.log_tail = log_tail;
        Ok(self)
    }

    /// With tokens that stand for the others.
    ///
    /// # Errors
    /// [`DistillError::TopRow`] where one of them is among the likeliest, or nothing is left for them.
    pub fn with_sample(mut self, sample: TailSample) -> Result<Self, DistillError> {
        let wrong = |reason: String| DistillError::TopRow { row: 0, reason };
        if self.log_tail == f32::NEG_INFINITY {
            return Err(wrong("it has a sample of nothing".to_owned()));
        }
        if let Some(id) = sample.ids().iter().find(|id| self.ids.binary_search(id).is_ok()) {
            return Err(wrong(format!("token {id} is in its sample and among the likeliest")));
        }
        self.sample = Some(sample);
        Ok(self)
    }

    /// The `k` likeliest tokens of `logits: [V]` at `temperature`; of equals the first.
    ///
    /// # Errors
    /// [`DistillError::NotFinite`], [`DistillError::Setting`].
    pub fn of_logits(logits: &[f32], k: usize, temperature: f64) -> Result<Self, DistillError> {
        check_temperature(temperature)?;
        TeacherRows::logits(logits.to_vec(), logits.len())?;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let k = k.min(order.len());
        let likelier =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if k > 0 && k < order.len() {
            order.select_nth_unstable_by(k - 1, likelier);
        }
        order.truncate(k);
        order.sort_unstable();
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let exp = |logit: f32| ((f64::from(logit) - largest) / temperature).exp();
        let sum: f64 = logits.iter().map(|logit| exp(*logit)).sum();
        let mut top = order.iter().peekable();
        let others = logits
            .iter()
            .enumerate()
            .filter(|(v, _)| top.next_if(|id| **id as usize == *v).is_none());
        let tail: f64 = others.map(|(_, logit)| exp(*logit)).sum();
        let log = |logit: f32| ((f64::from(logit) - largest) / temperature - sum.ln()) as f32;
        let log_probs = order.iter().map(|id| log(logits[*id as usize])).collect();
        Ok(Self { log_probs, log_tail: (tail / sum).ln() as f32, ids: order, sample: None })
    }

    /// The tokens, which ascend.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The logarithms of their probabilities.
    pub fn log_probs(&self) -> &[f32] {
        &self.log_probs
    }

    /// The logarithm of what all others have together; minus infinity for nothing.
    pub fn log_tail(&self) -> f32 {
        self.log_tail
    }

    /// The tokens that stand for the others, where some were drawn.
    pub fn sample(&self) -> Option<&TailSample> {
        self.sample.as_ref()
    }
}
