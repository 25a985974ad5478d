//! A packed batch: the rows of all spans one after another, nothing padded.
//!
//! Shapes: `T` rows, `M` of them media, `D` hidden_size, `r` rotary dimensions, `R` requested logit rows.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use lightglm_core::{
    KvCache, LabelledSpan, LmError, LogitRows, MediaFault, Positions, SequenceId, Span,
};
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
    /// Of media places any id: what is embedded there is replaced.
    pub(super) ids: Vec<u32>,
    /// `[time, height, width]`.
    pub(super) positions: Vec<[u32; 3]>,
    spans: Vec<PackedSpan>,
    logit_rows: Vec<i32>,
    /// `[M, D]`.
    media: Vec<f32>,
    /// The places of `media`, ascending.
    media_rows: Vec<Range<usize>>,
}

/// What a batch has to keep to.
#[derive(Clone, Copy)]
pub(super) struct BatchLimits {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    /// Positions that the model was made for.
    pub(super) max_positions: usize,
}

impl PackedBatch {
    /// Checks the spans and packs them; positions start at 0 (no cache).
    pub(super) fn uncached(spans: &[Span<'_>], limits: BatchLimits) -> Result<Self, LmError> {
        Self::pack(spans, limits, |_| Ok(0))
    }

    /// Checks the spans, reserves room in `cache` and packs them after what it holds.
    pub(super) fn cached<B: Backend>(
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
        limits: BatchLimits,
    ) -> Result<Self, LmError> {
        let past = |span: &Span<'_>| Ok(cache.sequence(span.sequence)?.1);
        let mut batch = Self::pack(spans, limits, past)?;
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
        limits: BatchLimits,
    ) -> Result<Self, LmError> {
        let (mut spans, logits) = (Vec::with_capacity(batch.len()), LogitRows::None);
        for (i, span) in batch.iter().enumerate() {
            let (media, positions) = (span.media, span.positions);
            let text = Span::text(SequenceId(i), span.tokens, logits);
            spans.push(Span { media, positions, ..text });
        }
        let mut packed = Self::pack(&spans, limits, |_| Ok(0))?;
        let BatchLimits { vocab_size, .. } = limits;
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
        limits: BatchLimits,
        past: impl Fn(&Span<'_>) -> Result<usize, LmError>,
    ) -> Result<Self, LmError> {
        if spans.is_empty() {
            return Err(LmError::EmptySpan(None));
        }
        let mut batch = Self {
            ids: vec![],
            positions: vec![],
            spans: vec![],
            logit_rows: vec![],
            media: vec![],
            media_rows: vec![],
        };
        for (i, span) in spans.iter().enumerate() {
            if span.tokens.is_empty() {
                return Err(LmError::EmptySpan(Some(span.sequence)));
            }
            if spans[..i].iter().any(|other| other.sequence == span.sequence) {
                return Err(LmError::RepeatedSequence(span.sequence));
            }
            let (first_row, rows) = (batch.ids.len(), span.tokens.len());
            let past = past(span)?;
            batch.push_positions(span, past, limits.max_positions)?;
            batch.push_ids(span, limits)?;
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

    /// Appends a span's positions; its rows need not be as many as its positions are apart.
    fn push_positions(
        &mut self,
        span: &Span<'_>,
        past: usize,
        limit: usize,
    ) -> Result<(), LmError> {
        let rows = span.tokens.len();
        let (first, end) = match span.positions {
            Positions::Follow => (past, past + rows),
            Positions::From(first) => (first as usize, first as usize + rows),
            Positions::Axes(axes) if axes.len() != rows => {
                let (given, tokens) = (axes.len(), rows);
                return Err(media_fault(span, MediaFault::Positions { given, tokens }));
            }
            Positions::Axes(axes) => {
                let last = axes.iter().flatten().copied().max().unwrap_or(0);
                (0, last as usize + 1)
            }
        };
        if end > limit {
            return Err(LmError::TooLong { position: limit, limit });
        }
        match span.positions {
            Positions::Axes(axes) => self.positions.extend_from_slice(axes),
            _ => self.positions.extend((first as u32..end as u32).map(|at| [at; 3])),
        }
        Ok(())
    }

    /// Appends a span's ids and the rows of its media, which stand exactly where no token of the vocabulary does.
    fn push_ids(&mut self, span: &Span<'_>, limits: BatchLimits) -> Result<(), LmError> {
        let BatchLimits { vocab_size, hidden_size, .. } = limits;
        let (first_row, tokens) = (self.ids.len(), span.tokens.len());
        let all_of_vocabulary = |range: Range<usize>| {
            let outside = span.tokens[range].iter().find(|&&token| token as usize >= vocab_size);
            outside.map_or(Ok(()), |&token| Err(LmError::TokenOutOfRange { token, vocab_size }))
        };
        self.ids.extend_from_slice(span.tokens);
        let mut from = 0;
        for media in span.media {
            let values = media.rows.len();
            if values == 0 || !values.is_multiple_of(hidden_size) {
                return Err(media_fault(span, MediaFault::Width { values, hidden_size }));
            }
            let place = media.at..media.at.saturating_add(values / hidden_size);
            if place.start < from || place.end > tokens {
                let (from, to) = (place.start, place.end);
                return Err(media_fault(span, MediaFault::Place { from, to, tokens }));
            }
            all_of_vocabulary(from..place.start)?;
            let ids = &span.tokens[place.clone()];
            if let Some(row) = ids.iter().position(|&id| (id as usize) < vocab_size) {
                let (at, id) = (place.start + row, ids[row]);
                return Err(media_fault(span, MediaFault::OverText { at, id }));
            }
            if let Some(value) = media.rows.iter().position(|value| !value.is_finite()) {
                let at = place.start + value / hidden_size;
                return Err(media_fault(span, MediaFault::NotFinite { at }));
            }
            from = place.end;
            let place = first_row + place.start..first_row + place.end;
            self.ids[place.clone()].fill(0);
            self.media.extend_from_slice(media.rows);
            self.media_rows.push(place);
        }
        all_of_vocabulary(from..tokens)
    }

    /// Whether any row is of media.
    pub(super) fn has_media(&self) -> bool {
        !self.media_rows.is_empty()
    }

    /// The rows of media that came with the batch: `[M, D]`.
    pub(super) fn media<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2> {
        let rows: usize = self.media_rows.iter().map(Range::len).sum();
        let width = self.media.len() / rows.max(1);
        Tensor::from_data(TensorData::new(self.media.clone(), [rows, width]), device)
    }

    /// `hidden: [T, D]` with `media: [M, D]` at the places of media; the other rows are the same.
    pub(super) fn with_media<B: Backend>(
        &self,
        hidden: Tensor<B, 2>,
        media: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let rows = hidden.dims()[0];
        let mut parts = Vec::with_capacity(2 * self.media_rows.len() + 1);
        let (mut from, mut taken) = (0, 0);
        for place in &self.media_rows {
            if from < place.start {
                parts.push(hidden.clone().narrow(0, from, place.start - from));
            }
            parts.push(media.clone().narrow(0, taken, place.len()));
            (from, taken) = (place.end, taken + place.len());
        }
        if from < rows {
            parts.push(hidden.narrow(0, from, rows - from));
        }
        Tensor::cat(parts, 0)
    }

    /// The rows of `hidden: [T, D]` at the places of media: `[M, D]`.
    pub(super) fn media_of<B: Backend>(&self, hidden: &Tensor<B, 2>) -> Tensor<B, 2> {
        let places = self.media_rows.iter().cloned();
        Tensor::cat(
            places.map(|place| hidden.clone().narrow(0, place.start, place.len())).collect(),
            0,
        )
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

fn media_fault(span: &Span<'_>, fault: MediaFault) -> LmError {
    LmError::Media { sequence: span.sequence, fault }
}
