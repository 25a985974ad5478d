//! `Subject`, and the walk of a model over one window.
//!
//! Shapes: `R` rows of logits in a step, `V` vocab_size.

use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCache, KvCacheError, LogitRows, SequenceId, Span};

use lightglm_generation::RunControl;

use crate::error::{EvalError, ModelRole};
use crate::protocol::{Protocol, Window};

/// The sequence that every window is scored as; the caches handed out must know it.
const SEQUENCE: SequenceId = SequenceId(0);

/// Makes an empty cache with room for the given number of positions of `SequenceId(0)`.
type MakeCache<'a, B> = dyn FnMut(usize) -> Result<Box<dyn KvCache<B>>, KvCacheError> + 'a;

/// A model under evaluation, with the means to make it a KV cache per window.
pub struct Subject<'a, B: Backend> {
    model: &'a dyn CausalLm<B>,
    /// Runs the first so many positions of each window.
    prefix: Option<(usize, &'a dyn CausalLm<B>)>,
    front: &'a [u32],
    make_cache: &'a mut MakeCache<'a, B>,
}

impl<'a, B: Backend> Subject<'a, B> {
    /// `make_cache(positions)` returns an empty cache which holds `SequenceId(0)` and has room for
    /// that many positions; it is called once a window.
    pub fn new(
        model: &'a dyn CausalLm<B>,
        make_cache: &'a mut (dyn FnMut(usize) -> Result<Box<dyn KvCache<B>>, KvCacheError> + 'a),
    ) -> Self {
        Self { model, prefix: None, front: &[], make_cache }
    }

    /// Lets `model` run the first `positions` of each window and fill the cache for the subject,
    /// which takes over from there: a prompt in the dense model, and what follows in a sparse one.
    /// Together with [`Protocol::context_only`] the subject's own predictions alone are scored.
    ///
    /// Both models must have the vocabulary and the cache's layout in common.
    ///
    /// Source: Liu et al. 2024, "Training-Free Activation Sparsity in Large Language Models", where
    /// the first half of each sequence is dense.
    pub fn with_prefix(self, positions: usize, model: &'a dyn CausalLm<B>) -> Self {
        Self { prefix: Some((positions, model)), ..self }
    }

    /// Puts the tokens in front of every window that the model has in front of every text: GLM's
    /// `[gMASK]<sop>`, a BOS. They come on top of [`Protocol::context_length`] and count as positions of
    /// [`with_prefix`](Self::with_prefix); none of them is scored, and which tokens of the text are does not
    /// change.
    pub fn with_front(self, front: &'a [u32]) -> Self {
        Self { front, ..self }
    }

    /// The model's vocabulary size.
    pub fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// Checks that every id of the text, and of what is put in front of it, is in the vocabulary.
    pub(crate) fn check_tokens(
        &self,
        tokens: &[u32],
        protocol: &Protocol,
    ) -> Result<(), EvalError> {
        let vocab_size = self.vocab_size();
        let outside = |token: &u32| *token as usize >= vocab_size;
        let front = self.front.iter().copied().chain(protocol.bos);
        if let Some(token) = front.into_iter().find(outside) {
            return Err(EvalError::BosOutOfRange { token, vocab_size });
        }
        match tokens.iter().position(outside) {
            Some(index) => {
                Err(EvalError::TokenOutOfRange { index, token: tokens[index], vocab_size })
            }
            None => Ok(()),
        }
    }
}

/// Reports progress to `control`; fails where its stop flag is up.
pub(crate) fn checkpoint(
    control: &mut RunControl<'_>,
    scored: usize,
    total: usize,
) -> Result<(), EvalError> {
    control.report(scored, total);
    if scored < total && control.is_stopped() {
        return Err(EvalError::Interrupted { scored, total });
    }
    Ok(())
}

/// Logits on the host, each row with the token that it predicts.
pub(crate) struct Rows {
    /// `[R, V]`, row-major.
    pub(crate) logits: Vec<f32>,
    /// Position in the text of the first target; the others follow.
    pub(crate) first_target: usize,
    /// Rows, at least 1.
    pub(crate) count: usize,
}

/// One window on its way through one model.
pub(crate) struct WindowScan<'a, B: Backend> {
    model: &'a dyn CausalLm<B>,
    prefix: Option<(usize, &'a dyn CausalLm<B>)>,
    cache: Box<dyn KvCache<B>>,
    role: ModelRole,
    window: Window,
    /// What is put in front, and the text of the window. The last token is only ever a target.
    tokens: Vec<u32>,
    /// Tokens of `tokens` in the cache.
    fed: usize,
}

impl<'a, B: Backend> WindowScan<'a, B> {
    /// Makes the cache for `window` of `text`.
    pub(crate) fn start(
        subject: &'a mut Subject<'_, B>,
        role: ModelRole,
        text: &[u32],
        window: Window,
        bos: Option<u32>,
    ) -> Result<Self, EvalError> {
        let front = subject.front.iter().copied().chain(bos);
        let tokens: Vec<u32> =
            front.chain(text[window.begin..window.end].iter().copied()).collect();
        let cache = (subject.make_cache)(tokens.len() - 1)
            .map_err(|source| EvalError::Cache { role, source })?;
        let (model, prefix) = (subject.model, subject.prefix);
        Ok(Self { model, prefix, cache, role, window, tokens, fed: 0 })
    }

    /// The next at most `rows_per_step` rows, or `None` after the last.
    pub(crate) fn next_rows(&mut self, rows_per_step: usize) -> Result<Option<Rows>, EvalError> {
        // Row `i` predicts token `i + 1`: targets are the last tokens, rows stand one before them.
        let last_row = self.tokens.len() - 1;
        let first_row = last_row - self.window.targets();
        if self.fed < first_row {
            self.feed(first_row, LogitRows::None)?;
        }
        if self.fed == last_row {
            return Ok(None);
        }
        let first_target = self.window.end - (last_row - self.fed);
        let until = last_row.min(self.fed.saturating_add(rows_per_step.max(1)));
        let count = until - self.fed;
        let logits = self.feed(until, LogitRows::All)?;
        Ok(Some(Rows { logits, first_target, count }))
    }

    /// Runs the models up to token `until`.
    fn feed(&mut self, until: usize, rows: LogitRows) -> Result<Vec<f32>, EvalError> {
        let Some((positions, model)) = self.prefix.filter(|(positions, _)| self.fed < *positions)
        else {
            return self.run(self.model, until, rows);
        };
        let mut logits = self.run(model, until.min(positions), rows)?;
        if self.fed < until {
            logits.extend(self.run(self.model, until, rows)?);
        }
        Ok(logits)
    }

    /// Runs `model` up to token `until`.
    fn run(
        &mut self,
        model: &dyn CausalLm<B>,
        until: usize,
        rows: LogitRows,
    ) -> Result<Vec<f32>, EvalError> {
        let role = self.role;
        let span = Span::text(SEQUENCE, &self.tokens[self.fed..until], rows);
        let expected = [rows.count(span.tokens.len()), self.model.vocab_size()];
        let logits = model.forward(&[span], self.cache.as_mut()).map_err(|source| {
            // What is in front stands where the window's first token does.
            let front = self.tokens.len() - (self.window.end - self.window.begin);
            let index = self.window.begin + self.fed.saturating_sub(front);
            EvalError::Model { role, index, source }
        })?;
        self.fed = until;
        if expected[0] == 0 {
            return Ok(Vec::new());
        }
        let actual = logits.dims();
        if actual != expected {
            return Err(EvalError::LogitsShape { role, expected, actual });
        }
        let data = logits
            .try_into_data()
            .map_err(|e| EvalError::ReadLogits { role, reason: format!("{e:?}") })?;
        data.convert::<f32>()
            .into_vec::<f32>()
            .map_err(|e| EvalError::ReadLogits { role, reason: format!("{e:?}") })
    }
}
