//! A set of tokens as bits, and logits that follow it.
//!
//! Shapes: `V` vocabulary.

/// Bits of a word.
pub(crate) const WORD: usize = u32::BITS as usize;

/// Sets `logits: [V]` to minus infinity where `allowed: [ceil(V / 32)]` has no bit.
///
/// Whole words are the common case: most states of a grammar allow nearly nothing or, inside a
/// string, nearly all. The mixed ones are a select without branches over 32 lanes.
pub(crate) fn ban_unset(allowed: &[u32], logits: &mut [f32]) {
    for (lanes, &word) in logits.chunks_mut(WORD).zip(allowed) {
        match word {
            u32::MAX => {}
            0 => lanes.fill(f32::NEG_INFINITY),
            word => {
                for (bit, logit) in lanes.iter_mut().enumerate() {
                    *logit = if word >> bit & 1 == 0 { f32::NEG_INFINITY } else { *logit };
                }
            }
        }
    }
}

/// Whether `token` is in the set.
pub(crate) fn contains(set: &[u32], token: u32) -> bool {
    let word = set.get(token as usize / WORD);
    word.is_some_and(|word| word >> (token as usize % WORD) & 1 == 1)
}

/// Puts `token` into the set, where there is room for it.
pub(crate) fn insert(set: &mut [u32], token: u32) {
    if let Some(word) = set.get_mut(token as usize / WORD) {
        *word |= 1 << (token as usize % WORD);
    }
}

/// Takes `token` out of the set.
pub(crate) fn remove(set: &mut [u32], token: u32) {
    if let Some(word) = set.get_mut(token as usize / WORD) {
        *word &= !(1 << (token as usize % WORD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_follow_the_bits() {
        for len in [0, 1, 31, 32, 33, 64, 100] {
            let mut set = vec![0; len / WORD + 1];
            for token in (0..len).filter(|t| t % 3 == 0 || (32..64).contains(t)) {
                insert(&mut set, token as u32);
            }
            remove(&mut set, 3);
            let mut logits: Vec<f32> = (0..len).map(|t| t as f32).collect();
            ban_unset(&set, &mut logits);
            for (token, logit) in logits.into_iter().enumerate() {
                let kept = token != 3 && (token % 3 == 0 || (32..64).contains(&token));
                assert_eq!(contains(&set, token as u32), kept);
                assert_eq!(logit, if kept { token as f32 } else { f32::NEG_INFINITY });
            }
        }
        assert!(!contains(&[0], 32));
    }
}
