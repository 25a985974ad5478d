//! `Decoded`: a stream of any encoding and any line ends as UTF-8 with line feeds.

use std::io::{self, BufRead, Read};

use encoding_rs::{Decoder, DecoderResult};

use super::encoding::TextEncoding;

/// Bytes of the beginning by which encoding, line ends and layout are told.
const HEAD: usize = 64 << 10;

/// What stands for bytes that are none of the encoding's: no part of UTF-8, so that the row which it
/// stands in is refused, and not read with a hole.
const UNDECODABLE: u8 = 0xff;

/// A stream as UTF-8, with line feeds where its lines end in carriage returns alone.
///
/// UTF-8 passes as it is: what is wrong with it is for the rows to say.
pub(super) struct Decoded<R> {
    input: R,
    encoding: TextEncoding,
    /// `None` for UTF-8.
    decoder: Option<Decoder>,
    /// Whether lines end in carriage returns alone, as those of old Macs.
    carriage_returns: bool,
    /// Bytes of the input that are not decoded yet.
    raw: Vec<u8>,
    ready: Vec<u8>,
    /// Bytes of `ready` that are consumed.
    at: usize,
    ended: bool,
}

impl<R: Read> Decoded<R> {
    /// Reads the beginning of `input`, which tells the encoding where none is given.
    pub(super) fn new(mut input: R, encoding: Option<TextEncoding>) -> io::Result<Self> {
        let mut raw = Vec::new();
        input.by_ref().take(HEAD as u64).read_to_end(&mut raw)?;
        let encoding = encoding.unwrap_or_else(|| TextEncoding::of_head(&raw));
        let decoder = (!encoding.is_utf8()).then(|| encoding.decoder());
        let (ready, at, carriage_returns, ended) = (Vec::new(), 0, false, raw.len() < HEAD);
        let mut decoded =
            Self { input, encoding, decoder, carriage_returns, raw, ready, at, ended };
        decoded.decode();
        decoded.carriage_returns =
            decoded.ready.contains(&b'\r') && !decoded.ready.contains(&b'\n');
        decoded.end_lines();
        Ok(decoded)
    }

    /// The encoding that it is read in.
    pub(super) fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    /// The beginning, of which nothing was consumed.
    pub(super) fn head(&self) -> &[u8] {
        self.ready.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.ready)
    }

    /// Moves what is in `raw` to `ready`, decoded.
    fn decode(&mut self) {
        (self.at, self.ready) = (0, Vec::new());
        let Some(decoder) = &mut self.decoder else {
            self.ready = std::mem::take(&mut self.raw);
            return;
        };
        let mut rest = self.raw.as_slice();
        loop {
            let start = self.ready.len();
            let room = decoder.max_utf8_buffer_length_without_replacement(rest.len());
            self.ready.resize(start + room.unwrap_or(HEAD), 0);
            let (result, read, written) = decoder.decode_to_utf8_without_replacement(
                rest,
                &mut self.ready[start..],
                self.ended,
            );
            rest = &rest[read..];
            self.ready.truncate(start + written);
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => self.ready.push(UNDECODABLE),
            }
        }
        self.raw.clear();
        if self.ended {
            // It was told that this was the last.
            self.decoder = None;
        }
    }

    fn end_lines(&mut self) {
        if self.carriage_returns {
            self.ready.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}

impl<R: Read> BufRead for Decoded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.ready.len() && !self.ended {
            // The decoder may swallow a piece whole: the beginning of a character.
            let mut raw = std::mem::take(&mut self.raw);
            raw.resize(HEAD, 0);
            let len = self.input.read(&mut raw)?;
            raw.truncate(len);
            (self.raw, self.ended) = (raw, len == 0);
            self.decode();
            self.end_lines();
        }
        Ok(&self.ready[self.at..])
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_encoding_and_line_end_comes_out_as_utf8_with_line_feeds() {
        let text = "问题\t答案\r\n一\t🎉 é\r\n".repeat(3_000);
        let utf16: Vec<u8> =
            format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let gb18030 = encoding_rs::GB18030.encode(&text).0.into_owned();
        for bytes in [text.clone().into_bytes(), utf16, gb18030] {
            let mut decoded = Decoded::new(&bytes[..], None).expect("in memory");
            assert!(text.as_bytes().starts_with(decoded.head()), "{}", decoded.encoding());
            let mut found = String::new();
            decoded.read_to_string(&mut found).expect("UTF-8");
            assert!(found == text, "{}", decoded.encoding());
        }
        let old = text.replace("\r\n", "\r");
        let mut found = String::new();
        Decoded::new(old.as_bytes(), None)
            .expect("in memory")
            .read_to_string(&mut found)
            .expect("");
        assert!(found == text.replace("\r\n", "\n"));
    }

    #[test]
    fn what_does_not_decode_is_marked() {
        // A lone surrogate, and half a unit.
        let bytes = b"\xff\xfea\0\0\xd8b\0c";
        let mut found = Vec::new();
        Decoded::new(&bytes[..], None).expect("in memory").read_to_end(&mut found).expect("read");
        assert_eq!(found, b"a\xffb\xff");
        let given = Some(TextEncoding::GB18030);
        let mut found = Vec::new();
        Decoded::new(&b"\xff,"[..], given).expect("in memory").read_to_end(&mut found).expect("");
        assert_eq!(found, b"\xff,");
    }
}
