//! `Protocol`: how a long text is cut into windows. A perplexity without it is not a number.

use serde::{Deserialize, Serialize};

use crate::error::EvalError;

/// Sliding windows over a text.
///
/// A window starts every `stride` tokens and holds `context_length` tokens. Of each window only the
/// tokens which no earlier window held are scored, so every token counts once, and all but those of
/// the first window have at least `context_length - stride` tokens of context (one less where the
/// window starts with a BOS). With `stride == context_length` the windows are disjoint, which is
/// the fastest and gives the highest perplexity; then, and at the start of the text, a window's
/// first token has nothing to be predicted from and is not scored, unless there is a BOS.
///
/// Source: Hugging Face, "Perplexity of fixed-length models" (transformers' docs/perplexity.md).
/// One difference: that page multiplies each window's mean loss by one token too few where windows
/// overlap; here every scored token has weight one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Tokens that the model sees at once, BOS included; at least 2.
    pub context_length: usize,
    /// Tokens between the starts of consecutive windows; at least 1.
    pub stride: usize,
    /// Put in front of every window where given; it is never scored itself.
    pub bos: Option<u32>,
    /// Positions at the start of every window (BOS included) that are context and nothing else: what
    /// is predicted there is not scored. 0 scores every token that has something before it.
    ///
    /// With half of `context_length` the second halves alone are scored: for what only starts there
    /// ([`Subject::with_prefix`](crate::Subject::with_prefix)), or only shows at a depth.
    #[serde(default)]
    pub context_only: usize,
}

/// A stretch of the text that the model sees at once, without the BOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First token of text.
    pub begin: usize,
    /// First token that this window scores.
    pub first_target: usize,
    /// One past the last token, which is also scored.
    pub end: usize,
}

impl Window {
    /// Tokens that this window scores.
    pub const fn targets(&self) -> usize {
        self.end - self.first_target
    }
}

impl Protocol {
    /// Checks the protocol by itself.
    ///
    /// # Errors
    /// [`EvalError::ContextTooShort`], [`EvalError::NothingScored`], [`EvalError::ZeroStride`],
    /// [`EvalError::StrideTooLong`].
    pub fn check(&self) -> Result<(), EvalError> {
        let Self { context_length, context_only, .. } = *self;
        if context_length < 2 {
            return Err(EvalError::ContextTooShort { context_length });
        }
        if context_only > context_length - 2 {
            return Err(EvalError::NothingScored { context_only, context_length });
        }
        if self.stride == 0 {
            return Err(EvalError::ZeroStride);
        }
        let window = self.window_tokens();
        if self.stride > window {
            return Err(EvalError::StrideTooLong { stride: self.stride, window });
        }
        Ok(())
    }

    /// Cuts a text of `tokens` tokens; windows that score nothing are left out.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), and [`EvalError::EmptyText`].
    pub fn windows(&self, tokens: usize) -> Result<Vec<Window>, EvalError> {
        self.check()?;
        let mut windows = Vec::new();
        let (mut begin, mut scored) = (0_usize, 0_usize);
        while scored < tokens {
            let end = begin.saturating_add(self.window_tokens()).min(tokens);
            // Without a BOS nothing stands before a window's first token.
            let first = begin + usize::from(self.bos.is_none());
            let first_target = scored.max(first.saturating_add(self.context_only));
            if first_target < end {
                windows.push(Window { begin, first_target, end });
            }
            scored = end;
            begin += self.stride;
        }
        if windows.is_empty() { Err(EvalError::EmptyText { tokens }) } else { Ok(windows) }
    }

    /// Tokens of text in a full window.
    fn window_tokens(&self) -> usize {
        self.context_length - usize::from(self.bos.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windows(
        context_length: usize,
        stride: usize,
        bos: Option<u32>,
        n: usize,
    ) -> Vec<[usize; 3]> {
        let protocol = Protocol { context_length, stride, bos, context_only: 0 };
        let windows = protocol.windows(n).expect("a valid protocol");
        windows.iter().map(|w| [w.begin, w.first_target, w.end]).collect()
    }

    #[test]
    fn windows_match_the_guide() {
        assert_eq!(windows(4, 2, None, 9), [[0, 1, 4], [2, 4, 6], [4, 6, 8], [6, 8, 9]]);
        assert_eq!(windows(4, 4, None, 9), [[0, 1, 4], [4, 5, 8]]);
        assert_eq!(windows(4, 3, Some(0), 7), [[0, 0, 3], [3, 3, 6], [6, 6, 7]]);
        assert_eq!(windows(8, 1, None, 3), [[0, 1, 3]]);
        assert_eq!(windows(2, 1, None, 3), [[0, 1, 2], [1, 2, 3]]);
    }

    #[test]
    fn context_only_leaves_the_starts_of_windows_out() {
        let windows = |stride, bos, n| {
            let protocol = Protocol { context_length: 8, stride, bos, context_only: 4 };
            let windows = protocol.windows(n).expect("a valid protocol");
            windows.iter().map(|w| [w.begin, w.first_target, w.end]).collect::<Vec<_>>()
        };
        // Positions 4 to 6 predict tokens 5 to 7.
        assert_eq!(windows(8, None, 16), [[0, 5, 8], [8, 13, 16]]);
        // The BOS is position 0, so position 4 holds token 3.
        assert_eq!(windows(7, Some(0), 14), [[0, 4, 7], [7, 11, 14]]);
        // Overlapping windows have more context than that already.
        assert_eq!(windows(3, None, 14), [[0, 5, 8], [3, 8, 11], [6, 11, 14]]);
        // A last window too short to hold a scored token is left out.
        assert_eq!(windows(8, None, 13), [[0, 5, 8]]);
    }

    #[test]
    fn nothing_to_predict_is_an_error() {
        let protocol = Protocol { context_length: 4, stride: 2, bos: None, context_only: 0 };
        for tokens in [0, 1] {
            assert_eq!(protocol.windows(tokens), Err(EvalError::EmptyText { tokens }));
        }
        let protocol = Protocol { bos: Some(1), ..protocol };
        assert_eq!(protocol.windows(0), Err(EvalError::EmptyText { tokens: 0 }));
        assert_eq!(protocol.windows(1).map(|w| w.len()), Ok(1));
    }

    #[test]
    fn impossible_protocols_are_errors() {
        let check = |context_length, stride, bos| {
            Protocol { context_length, stride, bos, context_only: 0 }.check()
        };
        assert_eq!(check(0, 1, None), Err(EvalError::ContextTooShort { context_length: 0 }));
        assert_eq!(check(1, 1, Some(0)), Err(EvalError::ContextTooShort { context_length: 1 }));
        assert_eq!(check(4, 0, None), Err(EvalError::ZeroStride));
        assert_eq!(check(4, 5, None), Err(EvalError::StrideTooLong { stride: 5, window: 4 }));
        assert_eq!(check(4, 4, Some(0)), Err(EvalError::StrideTooLong { stride: 4, window: 3 }));
        assert_eq!(check(4, 3, Some(0)), Ok(()));
        assert_eq!(check(usize::MAX, usize::MAX, None), Ok(()));
        let halves = |context_only| {
            Protocol { context_length: 4, stride: 4, bos: None, context_only }.check()
        };
        assert_eq!(halves(2), Ok(()));
        let nothing = EvalError::NothingScored { context_only: 3, context_length: 4 };
        assert_eq!(halves(3), Err(nothing));
    }

    proptest! {
        #[test]
        fn every_token_is_scored_at_most_once(
            context_length in 2_usize..40,
            stride in 1_usize..40,
            bos in proptest::option::of(0_u32..3),
            context_only in 0_usize..3,
            tokens in 2_usize..400,
        ) {
            let protocol = Protocol { context_length, stride, bos, context_only };
            prop_assume!(protocol.check().is_ok() && tokens > context_only + 1);
            let windows = protocol.windows(tokens).expect("enough tokens leave one to predict");
            let mut scored = vec![0; tokens];
            for w in &windows {
                prop_assert!(w.begin <= w.first_target && w.first_target < w.end);
                prop_assert!(w.end - w.begin + usize::from(bos.is_some()) <= context_length);
                scored[w.first_target..w.end].iter_mut().for_each(|count| *count += 1);
            }
            for (index, &count) in scored.iter().enumerate() {
                // Only a window's first tokens can go unscored.
                let unscored = context_only + usize::from(bos.is_none());
                let may_be_skipped = index % stride < unscored;
                prop_assert!(count == 1 || (count == 0 && may_be_skipped), "{index}: {count}");
            }
        }
    }
}
