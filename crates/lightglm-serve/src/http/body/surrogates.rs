//! `replace_lone_surrogates`: halves of characters in a JSON text become U+FFFD.
//!
//! A client that cuts a text in the middle of an emoji (by UTF-16 units, as JavaScript counts) sends half of
//! it, `"\ud83d"`. Browsers and Python send it without a word, and parsers refuse the whole body.

/// The escape of U+FFFD; as long as the one that it stands for.
const REPLACEMENT: &[u8; 6] = b"\\ufffd";

/// The bytes of U+FFFD, which are as many as those of a surrogate.
const REPLACEMENT_BYTES: &[u8; 3] = b"\xef\xbf\xbd";

/// Replaces escapes of surrogates without their other half, and surrogates that were encoded as if they were
/// characters (three bytes each, which is no UTF-8). Nothing gets longer or shorter.
pub(in crate::http) fn replace_lone_surrogates(text: &mut [u8]) {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' => at = escape(text, at),
            0xed if encoded(&text[at..]) => {
                text[at..at + 3].copy_from_slice(REPLACEMENT_BYTES);
                at += 3;
            }
            _ => at += 1,
        }
    }
}

/// Looks at the escape at `at`; returns where it ends.
fn escape(text: &mut [u8], at: usize) -> usize {
    match unit(text, at) {
        Some(0xd800..=0xdbff) if matches!(unit(text, at + 6), Some(0xdc00..=0xdfff)) => at + 12,
        Some(0xd800..=0xdfff) => {
            text[at..at + 6].copy_from_slice(REPLACEMENT);
            at + 6
        }
        // The escaped character, which may be a backslash.
        _ => at + 2,
    }
}

/// The UTF-16 unit that the escape at `at` is, where it is such.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at.checked_add(6)?)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether it begins with a surrogate in three bytes.
fn encoded(text: &[u8]) -> bool {
    matches!(text, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &[u8]) -> String {
        let mut bytes = text.to_vec();
        replace_lone_surrogates(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn halves_become_the_replacement() {
        let cases: [(&[u8], &str); 11] = [
            (br#""\ud83d""#, r#""\ufffd""#),
            (br#""\uDE00x""#, r#""\ufffdx""#),
            (br#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (br#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (br#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            // A backslash and letters.
            (br#""\\ud83d""#, r#""\\ud83d""#),
            (br#""\\\ud83d""#, r#""\\\ufffd""#),
            (br#""\ud83\ud83d\n""#, r#""\ud83\ufffd\n""#),
            (b"\"\xed\xa0\xbd\"", "\"\u{fffd}\""),
            // A Korean character.
            (b"\"\xed\x9e\xa3\"", "\"\u{d7a3}\""),
            (b"\\", "\\"),
        ];
        for (text, expected) in cases {
            assert_eq!(replaced(text), expected);
        }
    }
}
