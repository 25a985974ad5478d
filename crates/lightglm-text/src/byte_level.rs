//! GPT-2's alphabet: every byte as a printable character.
//!
//! Byte-level BPE writes its vocabulary in this alphabet, so that a token is valid text even where
//! it holds half a UTF-8 character.
//! Source: `bytes_to_unicode` in openai/gpt-2, src/encoder.py.

/// The character that stands for `byte`.
pub(crate) fn byte_to_char(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        // The rest are numbered from U+0100 in ascending order.
        0..=0x20 => shifted(u32::from(byte)),
        0x7F..=0xA0 => shifted(u32::from(byte) - 0x7F + 0x21),
        0xAD => shifted(0x43),
    }
}

fn shifted(index: u32) -> char {
    char::from_u32(0x100 + index).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that `character` stands for; `None` outside the alphabet.
pub(crate) fn char_to_byte(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The bytes that a vocabulary entry stands for; the entry's own UTF-8 where it holds a character
/// outside the alphabet.
pub(crate) fn token_bytes(token: &str) -> Box<[u8]> {
    token
        .chars()
        .map(char_to_byte)
        .collect::<Option<Box<[u8]>>>()
        .unwrap_or_else(|| token.as_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let mut seen = std::collections::HashSet::new();
        for byte in 0..=u8::MAX {
            let character = byte_to_char(byte);
            assert!(seen.insert(character));
            assert_eq!(char_to_byte(character), Some(byte));
        }
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
    }

    #[test]
    fn outside_the_alphabet_the_text_itself_counts() {
        assert_eq!(&*token_bytes("Ġthe"), b" the");
        assert_eq!(&*token_bytes("a b"), b"a b");
        assert_eq!(&*token_bytes("中"), "中".as_bytes());
    }
}
