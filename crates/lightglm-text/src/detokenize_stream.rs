//! Token ids to text while they arrive.

use std::sync::Arc;

use crate::detokenize::Detokenize;

use crate::token_table::TokenTable;

/// Turns ids into text one at a time, never half a character.
///
/// The pieces, in order and with [`finish`](Self::finish), are what
/// [`Tokenizer::decode`](super::Tokenizer::decode) makes of all the ids. Each push costs the bytes
/// of its own token and at most three bytes held back.
#[derive(Clone, Debug)]
pub struct DetokenizeStream {
    table: Arc<TokenTable>,
    skip_special: bool,
    /// A space in front of everything is still to be left out.
    strips_space: bool,
    // Always an incomplete but so far valid UTF-8 character: at most three bytes.
    pending: Vec<u8>,
}

impl DetokenizeStream {
    /// `strips_space` leaves out the space that a text begins with.
    pub(crate) fn new(table: Arc<TokenTable>, skip_special: bool, strips_space: bool) -> Self {
        Self { table, skip_special, strips_space, pending: Vec::new() }
    }

    /// Takes the next id; the text that is certain now, if there is any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let mut bytes = self.table.bytes(id, self.skip_special);
        if bytes.is_empty() {
            return None;
        }
        if std::mem::take(&mut self.strips_space) {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let text = drain_complete(&mut self.pending);
        (!text.is_empty()).then_some(text)
    }

    /// Ends the stream: U+FFFD where bytes of an incomplete character were held back.
    pub fn finish(&mut self) -> Option<String> {
        if self.pending.is_empty() {
            return None;
        }
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        Some(text)
    }
}

impl Detokenize for DetokenizeStream {
    fn push(&mut self, token: u32) -> Option<String> {
        Self::push(self, token)
    }

    fn finish(&mut self) -> Option<String> {
        Self::finish(self)
    }
}

/// Takes everything but an incomplete last character out of `pending`; what can never become valid
/// is replaced as [`String::from_utf8_lossy`] replaces it.
pub(crate) fn drain_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut consumed = 0;
    let mut held_back = 0;
    for chunk in pending.utf8_chunks() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        consumed += chunk.valid().len() + invalid.len();
        if invalid.is_empty() {
            continue;
        }
        // Only at the end can bytes be incomplete rather than wrong.
        let incomplete = consumed == pending.len()
            && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if incomplete {
            held_back = invalid.len();
        } else {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    pending.drain(..pending.len() - held_back);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(bytes: &[u8], step: usize) -> String {
        let mut pending = Vec::new();
        let mut text = String::new();
        for piece in bytes.chunks(step) {
            pending.extend_from_slice(piece);
            text += &drain_complete(&mut pending);
            assert!(pending.len() <= 3);
        }
        text + &String::from_utf8_lossy(&pending)
    }

    #[test]
    fn invalid_bytes_are_replaced_as_in_one_go() {
        let cases: [&[u8]; 6] = [
            "你好😀é".as_bytes(),
            b"\xF0\x9F\x98",
            b"\xE4\xBDabc",
            b"\xFF\xFE\xC3\xA9",
            b"\xF0\x80\x80a\xED\xA0\x80",
            b"",
        ];
        for bytes in cases {
            for step in 1..5 {
                assert_eq!(streamed(bytes, step), String::from_utf8_lossy(bytes), "{bytes:?}");
            }
        }
    }
}
