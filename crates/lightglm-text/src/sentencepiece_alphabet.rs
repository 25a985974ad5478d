//! SentencePiece's alphabet: `▁` for a space, `<0xE4>` for a byte without a token of its own.

/// What stands for a space.
pub(crate) const SPACE: char = '▁';

/// The bytes that a piece of a vocabulary stands for.
pub(crate) fn token_bytes(token: &str) -> Box<[u8]> {
    match byte(token) {
        Some(byte) => [byte].into(),
        None => token.replace(SPACE, " ").into_bytes().into(),
    }
}

/// The name of the piece that stands for `byte`.
pub(crate) fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte that `token` is the name of.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_bytes_are_told_from_text() {
        assert_eq!(&*token_bytes("▁the▁"), b" the ");
        assert_eq!(&*token_bytes("中"), "中".as_bytes());
        for value in 0..=u8::MAX {
            assert_eq!(&*token_bytes(&byte_token(value)), [value]);
        }
        for text in ["<0x1>", "<0x+1>", "<0x100>", "0x10"] {
            assert_eq!(&*token_bytes(text), text.as_bytes());
        }
    }
}
