//! The merges of a vocabulary whose tokens have ranks instead.

use std::collections::HashMap;
use std::hash::Hash;

use crate::error::TextError;

/// The longest token that is taken apart, in bytes. No published vocabulary has one of a quarter of it, and
/// what an entry costs grows with its square.
const MAX_TOKEN_BYTES: usize = 1024;

/// All pairs of tokens that make a token, as ids: those of the best token first, those that make the same
/// token by their ids. `ranked` is best first; `parts` cuts a token in two in every way.
///
/// With them, BPE by merges finds what merging by the best token finds, leftmost first; texts of
/// characters in runs tell other orders from it.
///
/// Source: transformers 5.24.0, `generate_merges`, `TikTokenConverter` (convert_slow_tokenizer.py).
///
/// # Errors
/// [`TextError::Malformed`] for a token that is too long.
pub(crate) fn from_ranks<'t, T: Hash + Eq + AsRef<[u8]> + ?Sized + 't>(
    origin: &str,
    ranked: &[(&'t T, u32)],
    parts: impl Fn(&'t T) -> Vec<(&'t T, &'t T)>,
) -> Result<Vec<(u32, u32)>, TextError> {
    let ids: HashMap<&T, u32> = ranked.iter().copied().collect();
    let mut merges = Vec::new();
    for &(token, id) in ranked {
        let bytes = token.as_ref().len();
        if bytes > MAX_TOKEN_BYTES {
            return Err(TextError::Malformed {
                origin: origin.to_owned(),
                field: format!("token {id}"),
                reason: format!("{bytes} bytes long, more than {MAX_TOKEN_BYTES}"),
            });
        }
        let pairs = parts(token).into_iter();
        let mut pairs: Vec<(u32, u32)> =
            pairs.filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?))).collect();
        pairs.sort_unstable();
        merges.extend(pairs);
    }
    Ok(merges)
}
