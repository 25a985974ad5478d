//! `fingerprint`: what a target made of an input, in 64 bits.

use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hasher};

/// Longest debug output looked at, in bytes; the rest says little about the path taken.
const LONGEST: usize = 512;

/// Hashes the debug output of `outcome` with every number and every quoted text left out.
///
/// So two inputs that fail the same check with other values count as treated alike, and an error
/// type needs to implement nothing for fuzzing.
pub fn fingerprint(outcome: &dyn Debug) -> u64 {
    let mut skeleton = Skeleton::default();
    // The only error is the skeleton's own, once it has seen enough.
    let _ = write!(skeleton, "{outcome:?}");
    skeleton.hasher.finish()
}

/// A text hashed as it is written, less its numbers and quotations.
#[derive(Default)]
struct Skeleton {
    hasher: DefaultHasher,
    seen: usize,
    quoted: bool,
    escaped: bool,
}

impl Write for Skeleton {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for &byte in text.as_bytes() {
            self.seen += 1;
            if self.seen > LONGEST {
                return Err(std::fmt::Error);
            }
            if self.escaped {
                self.escaped = false;
            } else if self.quoted && byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.quoted = !self.quoted;
            } else if !self.quoted && !byte.is_ascii_digit() {
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
    }

    #[test]
    fn endless_output_ends() {
        assert_eq!(fingerprint(&vec![(); 10_000]), fingerprint(&vec![(); 20_000]));
    }
}
