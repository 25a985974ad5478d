//! What a span is known by.

use lightglm_core::LabelledSpan;

use crate::mixing::Fnv;

/// A span's tokens and targets in 64 bits.
pub(super) fn span_key(span: &LabelledSpan<'_>) -> u64 {
    let mut hash = Fnv::new();
    hash.add_word(span.tokens.len() as u64);
    span.tokens.iter().for_each(|token| hash.add_word(u64::from(*token)));
    span.targets.iter().for_each(|target| hash.add_word(target.map_or(u64::MAX, u64::from)));
    hash.finish()
}

/// Tokens and targets of a whole text in 64 bits, for [`CacheHeader::text`](super::CacheHeader::text).
pub fn text_hash(spans: &[LabelledSpan<'_>]) -> u64 {
    let mut hash = Fnv::new();
    spans.iter().for_each(|span| hash.add_word(span_key(span)));
    hash.finish()
}
