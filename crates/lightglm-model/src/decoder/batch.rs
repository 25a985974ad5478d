//! A packed batch: the rows of all spans one after another, nothing padded.
//!
//! Shapes: `T` rows, `r` rotary dimensions, `R` requested logit rows.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use lightglm_core::{KvCache, LabelledSpan, LmError, LogitRows, SequenceId, Span};
use lightglm_kernels::AttentionSpan;

/// Where one span's rows lie and which blocks its sequence has.
struct PackedSpan {
    first_row: usize,
    rows: usize,
    past: usize,
    block_table: Vec<u32>,
}

/// What every layer needs to know about the batch, worked out once per step.
pub(super) struct PackedBatch {
    pub(super) ids: Vec<u32>,
    pub(super) positions: Vec<u32>,
    spans: Vec<PackedSpan>,
    logit_rows: Vec<i32>,
}

impl PackedBatch {
    /// Checks the spans and packs them; positions start at 0 (no cache).
    pub(super) fn uncached(
        spans: &[Span<'_>],
        vocab_size: usize,
        max_positions: usize,
    ) -> Result<Self, LmError> {
        Self::pack(spans, vocab_size, max_positions, |_| Ok(0))
    }

    /// Checks the spans, reserves room in `cache` and packs them after what it holds.
    pub(super) fn cached<B: Backend>(
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
        vocab_size: usize,
        max_positions: usize,
    ) -> Result<Self, LmError> {
        let past = |span: &Span<'_>| Ok(cache.sequence(span.sequence)?.1);
        let mut batch = Self::pack(spans, vocab_size, max_positions, past)?;
        for span in spans {
            cache.reserve(span.sequence, span.tokens.len())?;
        }
        for (packed, span) in batch.spans.iter_mut().zip(spans) {
            packed.block_table = cache.sequence(span.sequence)?.0.to_vec();
        }
        Ok(batch)
    }

    /// Checks the spans and packs them; rows with a target are those whose logits are wanted.
    ///
    /// # Panics
    /// Where a span has more or fewer targets than tokens.
    pub(super) fn labelled(
        batch: &[LabelledSpan<'_>],
        vocab_size: usize,
        max_positions: usize,
    ) -> Result<Self, LmError> {
        let (mut spans, logits) = (Vec::with_capacity(batch.len()), LogitRows::None);
        for (i, span) in batch.iter().enumerate() {
            spans.push(Span { sequence: SequenceId(i), tokens: span.tokens, logits });
        }
        let mut packed = Self::pack(&spans, vocab_size, max_positions, |_| Ok(0))?;
        for (span, at) in batch.iter().zip(&packed.spans) {
            assert_eq!(span.targets.len(), span.tokens.len(), "a target for each token, or None");
            let labelled = span.targets.iter().enumerate().filter(|(_, target)| target.is_some());
            packed.logit_rows.extend(labelled.map(|(i, _)| (at.first_row + i) as i32));
        }
        let targets = batch.iter().flat_map(|span| span.targets).flatten();
        match targets.copied().find(|&token| token as usize >= vocab_size) {
            Some(token) => Err(LmError::TokenOutOfRange { token, vocab_size }),
            None => Ok(packed),
        }
    }

    /// Whether no row's logits are wanted.
    pub(super) fn has_no_logits(&self) -> bool {
        self.logit_rows.is_empty()
    }

    fn pack(
        spans: &[Span<'_>],
        vocab_size: usize,
        max_positions: usize,
        past: impl Fn(&Span<'_>) -> Result<usize, LmError>,
    ) -> Result<Self, LmError> {
        if spans.is_empty() {
            return Err(LmError::EmptySpan(None));
        }
        let mut batch = Self { ids: vec![], positions: vec![], spans: vec![], logit_rows: vec![] };
        for (i, span) in spans.iter().enumerate() {
            check_span(span, &spans[..i], vocab_size)?;
            let (first_row, rows) = (batch.ids.len(), span.tokens.len());
            let past = past(span)?;
            if past + rows > max_positions {
                return Err(LmError::TooLong { position: max_positions, limit: max_positions });
            }
            batch.ids.extend_from_slice(span.tokens);
            batch.positions.extend(past as u32..(past + rows) as u32);
            let wanted = match span.logits {
                LogitRows::None => first_row + rows..first_row + rows,
                LogitRows::Last => first_row + rows - 1..first_row + rows,
                LogitRows::All => first_row..first_row + rows,
            };
            batch.logit_rows.extend(wanted.map(|row| row as i32));
            batch.spans.push(PackedSpan { first_row, rows, past, block_table: vec![] });
        }
        Ok(batch)
    }

    /// The spans as attention wants them.
    pub(super) fn attention_spans(&self) -> Vec<AttentionSpan<'_>> {
        self.spans
            .iter()
            .map(|s| AttentionSpan {
                first_row: s.first_row,
                rows: s.rows,
                past: s.past,
                block_table: &s.block_table,
            })
            .collect()
    }

    /// The requested rows of `hidden: [T, D] -> [R, D]`, `None` where no row is wanted.
    pub(super) fn select_logit_rows<B: Backend>(
        &self,
        hidden: Tensor<B, 2>,
    ) -> Option<Tensor<B, 2>> {
        match self.logit_rows.len() {
            0 => None,
            n if n == self.ids.len() => Some(hidden),
            n => {
                let rows = TensorData::new(self.logit_rows.clone(), [n]);
                let rows = Tensor::<B, 1, Int>::from_data(rows, &hidden.device());
                Some(hidden.select(0, rows))
            }
        }
    }
}

fn check_span(span: &Span<'_>, before: &[Span<'_>], vocab_size: usize) -> Result<(), LmError> {
    if span.tokens.is_empty() {
        return Err(LmError::EmptySpan(Some(span.sequence)));
    }
    if before.iter().any(|other| other.sequence == span.sequence) {
        return Err(LmError::RepeatedSequence(span.sequence));
    }
    match span.tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(LmError::TokenOutOfRange { token, vocab_size }),
        None => Ok(()),
    }
}
