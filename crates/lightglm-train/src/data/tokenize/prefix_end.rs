//! `PrefixEnd`: where a conversation's beginning, rendered by itself, ends in the whole.

/// Where a prefix ends among the tokens of a longer text.
///
/// The tokenizer may merge the prefix' last characters with the first ones behind it (a template that
/// opens an answer with a line feed, and an answer that begins with one). The token that is both is
/// counted on either side, as transformers' mask counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrefixEnd {
    /// Tokens with something of the prefix.
    pub(super) within: usize,
    /// The first token with something that is not of the prefix.
    pub(super) behind: usize,
}

impl PrefixEnd {
    /// Where `prefix` ends in `tokens`; `None` where they begin otherwise. `token_bytes` has none for
    /// control tokens.
    pub(super) fn find<'t>(
        token_bytes: impl Fn(u32) -> Option<&'t [u8]>,
        tokens: &[u32],
        prefix: &[u32],
    ) -> Option<Self> {
        let same = tokens.iter().zip(prefix).take_while(|(a, b)| a == b).count();
        let mut rest: Vec<u8> = Vec::new();
        for &token in &prefix[same..] {
            // A control token is itself or is missing.
            rest.extend(token_bytes(token)?);
        }
        let mut rest = rest.as_slice();
        let mut at = same;
        while !rest.is_empty() {
            let bytes = token_bytes(*tokens.get(at)?)?;
            match rest.strip_prefix(bytes) {
                Some(left) => rest = left,
                None if bytes.starts_with(rest) => {
                    return Some(Self { within: at + 1, behind: at });
                }
                None => return None,
            }
            at += 1;
        }
        Some(Self { within: at, behind: at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens are bytes; 256 is two line feeds, 257 and 258 are control tokens.
    const BYTES: [u8; 256] = {
        let mut bytes = [0; 256];
        let mut i = 0;
        while i < 256 {
            bytes[i] = i as u8;
            i += 1;
        }
        bytes
    };

    fn token_bytes(token: u32) -> Option<&'static [u8]> {
        match token {
            0..=255 => BYTES.get(token as usize..=token as usize),
            256 => Some(b"\n\n"),
            _ => None,
        }
    }

    #[test]
    fn a_token_of_both_sides_counts_on_either() {
        let find = |tokens: &[u32], prefix: &[u32]| {
            PrefixEnd::find(token_bytes, tokens, prefix).map(|end| (end.within, end.behind))
        };
        assert_eq!(find(&[257, 65, 66], &[257, 65]), Some((2, 2)));
        assert_eq!(find(&[257, 65], &[257, 65]), Some((2, 2)));
        // "A\n" and "\nB" are "A", "\n\n", "B" together.
        assert_eq!(find(&[257, 65, 256, 66], &[257, 65, 10]), Some((3, 2)));
        // The same text in other tokens.
        assert_eq!(find(&[65, 256, 66], &[65, 10, 10]), Some((2, 2)));
        assert_eq!(find(&[65, 10, 10, 66], &[65, 256]), Some((3, 3)));
        for other in [&[66, 65][..], &[258, 65], &[257, 66, 66], &[257]] {
            assert_eq!(find(other, &[257, 65]), None, "{other:?}");
        }
        assert_eq!(find(&[65, 258], &[65, 10]), None);
    }
}
