//! `JsonTexts`: which bytes of JSON stand inside of its texts.

/// Follows the quotation marks of JSON, byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JsonTexts {
    open: bool,
    escaped: bool,
}

impl JsonTexts {
    /// Whether a text has begun and not ended.
    pub(super) fn is_open(self) -> bool {
        self.open
    }

    /// Whether `byte` ends the line that a text stands on. No text goes on behind a line's end: this one lacks
    /// its mark, and the next line is something new, lest one mark swallow the whole file.
    pub(super) fn is_cut_by(self, byte: u8) -> bool {
        self.open && byte == b'\n'
    }

    /// Takes the next byte; whether it stands outside of texts and of the marks around them.
    pub(super) fn is_outside(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.open => self.escaped = true,
            b'"' => self.open = !self.open,
            _ => return !self.open,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_from_what_is_around_them() {
        let mut texts = JsonTexts::default();
        let json = r#"{"a\"{": [1, "\\"], b}"#;
        let outside: String =
            json.bytes().filter(|byte| texts.is_outside(*byte)).map(char::from).collect();
        assert_eq!(outside, "{: [1, ], b}");
        assert!(!texts.is_open() && !texts.is_cut_by(b'\n'));
        assert!(!texts.is_outside(b'"') && texts.is_cut_by(b'\n'));
    }
}
