//! `fingerprint`: what a target made of an input, in 64 bits.

use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hasher};

/// Longest debug output looked at, in bytes; the rest says little about the path taken.
const LONGEST: usize = 512;

/// Hashes the debug output of `outcome` with every number and every text in `"` or `` ` `` left out.
///
/// So two inputs that fail the same check with other values count as treated alike, and an error
/// type needs to implement nothing for fuzzing. Where an error keeps its reason as a text, pass
/// `&format_args!("{error}")`, which has no quotes around it.
pub fn fingerprint(outcome: &dyn Debug) -> u64 {
    let mut skeleton = Skeleton::default();
    // A `Debug` that fails says no more than what it wrote until then.
    let _ = write!(skeleton, "{outcome:?}");
    skeleton.hasher.finish()
}

/// A text hashed as it is written, less its numbers and quotations.
#[derive(Default)]
struct Skeleton {
    hasher: DefaultHasher,
    seen: usize,
    /// The quotation mark that will end the text that is being left out.
    quoted: Option<u8>,
    escaped: bool,
}

impl Write for Skeleton {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for &byte in text.as_bytes() {
            self.seen += 1;
            // Not an error: there are implementations of `Debug` that unwrap what they get back.
            if self.seen > LONGEST {
                return Ok(());
            }
            if self.escaped {
                self.escaped = false;
            } else if let Some(mark) = self.quoted {
                self.escaped = byte == b'\\';
                self.quoted = (byte != mark).then_some(mark);
            } else if matches!(byte, b'"' | b'`') {
                self.quoted = Some(byte);
            } else if !byte.is_ascii_digit() {
                self.hasher.write_u8(byte);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by Debug alone")]
    enum Outcome {
        Length { expected: usize, actual: usize },
        Name(String),
        Other(String),
    }

    #[test]
    fn values_are_left_out_and_variants_are_not() {
        let length = |expected, actual| fingerprint(&Outcome::Length { expected, actual });
        let name = |name: &str| fingerprint(&Outcome::Name(name.into()));
        assert_eq!(length(1, 22), length(333, 4));
        assert_eq!(name("a"), name("b \" c \\"));
        assert_ne!(name("a"), length(1, 2));
        assert_ne!(name("a"), fingerprint(&Outcome::Other("a".into())));
        let message = |name: &str, reason: &str| fingerprint(&format_args!("`{name}`: {reason}"));
        assert_eq!(message("a", "no"), message("b", "no"));
        assert_ne!(message("a", "no"), message("a", "yes"));
    }

    #[test]
    fn endless_output_ends() {
        assert_eq!(fingerprint(&vec![(); 10_000]), fingerprint(&vec![(); 20_000]));
    }
}
