//! `GrammarProcessor`: logits that follow a grammar.
//!
//! Shapes: `V` vocabulary.

use std::sync::Arc;

use lightglm_generation::{LogitsProcessor, ProcessorError, TokenHistory};
use llguidance::Matcher;

use crate::structured::error::message;
use crate::structured::json_guard::{Fault, JsonGuard};
use crate::structured::token_mask::{ban_unset, contains, insert, remove};
use crate::structured::vocabulary::TokenTable;

/// Bans every token after which the reply could no longer follow the grammar.
///
/// An end-of-sequence token is allowed exactly where the grammar accepts, and nothing else once the
/// grammar has ended. After an error it bans everything and repeats the error: a reply never goes on
/// without its constraint.
pub(crate) struct GrammarProcessor {
    matcher: Matcher,
    tokens: Arc<TokenTable>,
    guard: Option<JsonGuard>,
    /// How many generated tokens the matcher has taken.
    taken: usize,
    /// An end-of-sequence token was chosen.
    ended: bool,
    failed: Option<String>,
    /// Tokens that may follow those taken, where they were looked for.
    allowed: Vec<u32>,
    is_known: bool,
}

impl Clone for GrammarProcessor {
    /// Shares nothing that a step changes.
    fn clone(&self) -> Self {
        Self {
            matcher: self.matcher.deep_clone(),
            tokens: Arc::clone(&self.tokens),
            guard: self.guard,
            taken: self.taken,
            ended: self.ended,
            failed: self.failed.clone(),
            allowed: self.allowed.clone(),
            is_known: self.is_known,
        }
    }
}

impl GrammarProcessor {
    pub(crate) fn new(matcher: Matcher, tokens: Arc<TokenTable>, guard: Option<JsonGuard>) -> Self {
        let allowed = Vec::with_capacity(tokens.text.len());
        let (taken, ended, failed, is_known) = (0, false, None, false);
        Self { matcher, tokens, guard, taken, ended, failed, allowed, is_known }
    }

    /// Finds the first tokens, of which there must be one.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        self.know()
    }

    fn run(&mut self, generated: &[u32], vocab_size: usize) -> Result<(), String> {
        if vocab_size != self.tokens.vocab_size {
            let expected = self.tokens.vocab_size;
            return Err(format!("{vocab_size} logits where the vocabulary has {expected}"));
        }
        let Some(new) = generated.get(self.taken..) else {
            return Err("tokens were taken back".to_owned());
        };
        for &token in new {
            self.take(token)?;
            self.taken += 1;
        }
        self.know()
    }

    /// Finds the tokens that may follow, unless it has.
    fn know(&mut self) -> Result<(), String> {
        if !self.is_known {
            self.allow()?;
            self.is_known = true;
        }
        Ok(())
    }

    /// Follows one chosen token.
    fn take(&mut self, token: u32) -> Result<(), String> {
        self.is_known = false;
        let is_eos = self.tokens.eos.contains(&token);
        if is_eos && (self.ended || self.matcher.is_stopped()) {
            self.ended = true;
            return Ok(());
        }
        if self.ended || !(is_eos || contains(&self.tokens.text, token)) {
            return Err(format!("token {token} cannot follow"));
        }
        if !is_eos && let Some(guard) = &mut self.guard {
            guard.push(self.tokens.bytes(token)).map_err(|fault| match fault {
                Fault::Depth => "the JSON is nested too deeply".to_owned(),
                Fault::Number => "a number has too many digits".to_owned(),
            })?;
        }
        self.matcher.consume_token(token).map_err(message)?;
        self.ended = is_eos;
        Ok(())
    }

    /// Finds the tokens that may follow.
    fn allow(&mut self) -> Result<(), String> {
        self.allowed.clear();
        if self.ended || self.matcher.is_stopped() {
            if let Some(error) = self.matcher.get_error() {
                return Err(message(error));
            }
            self.allowed.resize(self.tokens.text.len(), 0);
            self.allow_eos();
            return Ok(());
        }
        let mask = self.matcher.compute_mask().map_err(message)?;
        self.allowed
            .extend(mask.as_slice().iter().zip(&self.tokens.text).map(|(m, text)| m & text));
        self.allowed.resize(self.tokens.text.len(), 0);
        // Not by the mask's own bits: a grammar may name any token by its id.
        let may_end = self.matcher.is_accepting().map_err(message)?;
        if let Some(guard) = self.guard {
            self.ban_unreadable(guard, may_end);
        }
        if may_end {
            self.allow_eos();
        }
        if self.allowed.iter().all(|word| *word == 0) {
            return Err("no token of the vocabulary can follow".to_owned());
        }
        Ok(())
    }

    fn allow_eos(&mut self) {
        for &eos in &self.tokens.eos {
            insert(&mut self.allowed, eos);
        }
    }

    /// Takes the tokens out that make JSON nobody reads. Few are looked at, and only where a number
    /// or the last levels of nesting are written.
    fn ban_unreadable(&mut self, guard: JsonGuard, may_end: bool) {
        let tokens = &self.tokens;
        let mut ban = |candidates: &[u32]| {
            for &token in candidates {
                if contains(&self.allowed, token) && { guard }.push(tokens.bytes(token)).is_err() {
                    remove(&mut self.allowed, token);
                }
            }
        };
        if guard.nears_depth(tokens.most_openers) {
            ban(&tokens.openers);
        }
        ban(&tokens.unreadable);
        if guard.in_number() {
            ban(&tokens.numeric);
        }
        if guard.in_long_number() {
            let could_go_on: Vec<u32> =
                tokens.numeric.iter().copied().filter(|&t| contains(&self.allowed, t)).collect();
            could_go_on.iter().for_each(|&token| remove(&mut self.allowed, token));
            // A multiple of seven cannot end anywhere.
            if !may_end && self.allowed.iter().all(|word| *word == 0) {
                could_go_on.iter().for_each(|&token| insert(&mut self.allowed, token));
            }
        }
    }
}

impl LogitsProcessor for GrammarProcessor {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        if self.failed.is_none() {
            self.failed = self.run(history.generated, logits.len()).err();
        }
        if let Some(reason) = &self.failed {
            logits.fill(f32::NEG_INFINITY);
            return Err(ProcessorError { processor: "grammar".to_owned(), reason: reason.clone() });
        }
        ban_unset(&self.allowed, logits);
        Ok(())
    }
}
