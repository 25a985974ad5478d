//! `Bytes`: a stream's bytes one by one, with the number of the line.

use std::io::{self, BufRead};

/// A stream of which the next byte can be looked at, without a byte order mark.
pub(super) struct Bytes<R> {
    input: R,
    /// Line of the next byte, counting from 1.
    line: usize,
}

impl<R: BufRead> Bytes<R> {
    /// The bytes of `input` behind its byte order mark, if it has one, and its first blank lines.
    pub(super) fn new(input: R) -> io::Result<Self> {
        let mut bytes = Self { input, line: 1 };
        // EF can begin a character as well: the mark is all three bytes. They may come in pieces,
        // and what is no mark must not be swallowed; but no text begins with half a mark, so a
        // stream that does is not UTF-8, and is refused as well without its first bytes.
        for expected in [0xef, 0xbb, 0xbf] {
            if bytes.peek()? != Some(expected) {
                break;
            }
            bytes.next()?;
        }
        Ok(bytes)
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(fill(&mut self.input)?.first().copied())
    }

    pub(super) fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.input.consume(1);
            self.line += usize::from(byte == b'\n');
        }
        Ok(byte)
    }

    /// Passes over white space; the byte behind it.
    pub(super) fn skip_blanks(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.next()?;
        }
        Ok(None)
    }

    /// Appends a line to `row`, without its end; false at the end of the stream.
    pub(super) fn line_into(&mut self, row: &mut Gathered) -> io::Result<bool> {
        let mut any = false;
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return Ok(any);
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            row.extend(&buffer[..end.unwrap_or(buffer.len())]);
            let consumed = end.map_or(buffer.len(), |end| end + 1);
            self.input.consume(consumed);
            if end.is_some() {
                self.line += 1;
                return Ok(true);
            }
        }
    }
}

/// The buffered bytes, none only at the end; as everywhere in `std`, an interruption is no error.
fn fill(input: &mut impl BufRead) -> io::Result<&[u8]> {
    let at_end = loop {
        match input.fill_buf() {
            Ok(buffer) => break buffer.is_empty(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    // What is buffered is asked for once more: a borrow returned out of the loop would last through
    // it. At the end this would be another read.
    if at_end { Ok(&[]) } else { input.fill_buf() }
}

/// A row's bytes, up to a limit; what comes behind is counted out, not kept.
pub(super) struct Gathered {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl Gathered {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, over: false }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.over || bytes.len() > self.limit - self.bytes.len() {
            self.overflow();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Makes it longer than the limit.
    pub(super) fn overflow(&mut self) {
        (self.bytes, self.over) = (Vec::new(), true);
    }

    /// The value alone of a field and its value, where the list is an object, which `close` tells.
    pub(super) fn value(mut self, close: u8) -> Self {
        if close == b'}'
            && let Some(at) = end_of_name(&self.bytes)
        {
            self.bytes.drain(..at);
        }
        self
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        !self.over && self.bytes.is_empty()
    }

    /// Whether nothing but white space is in it.
    pub(super) fn is_blank(&self) -> bool {
        !self.over && self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// The bytes; `None` where they are more than the limit.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        (!self.over).then_some(self.bytes)
    }
}

/// Where behind `"name":` a field's value begins.
fn end_of_name(field: &[u8]) -> Option<usize> {
    let mut escaped = false;
    let start = field.iter().position(|byte| *byte == b'"')?;
    let end = field.iter().skip(start + 1).position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => *byte == b'"',
    })?;
    let behind = start + end + 2;
    let colon = field[behind..].iter().position(|byte| !byte.is_ascii_whitespace())?;
    (field[behind + colon] == b':').then_some(behind + colon + 1)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn marks_and_lines() {
        let mut bytes = Bytes::new(&b"\xef\xbb\xbf \n\na\r\nb"[..]).expect("in memory");
        assert_eq!(bytes.skip_blanks().expect("in memory"), Some(b'a'));
        assert_eq!(bytes.line(), 3);
        let mut row = Gathered::new(10);
        assert!(bytes.line_into(&mut row).expect("in memory"));
        assert_eq!(row.finish().as_deref(), Some(&b"a\r"[..]));
        let mut row = Gathered::new(0);
        assert!(bytes.line_into(&mut row).expect("in memory"));
        assert!(!row.is_blank());
        assert_eq!(row.finish(), None);
        assert!(!bytes.line_into(&mut Gathered::new(1)).expect("in memory"));
        assert_eq!(bytes.line(), 4);
    }

    #[test]
    fn what_is_over_the_limit_is_not_held() {
        let mut bytes = Bytes::new(io::BufReader::new(io::repeat(b'x').take(50_000_000)))
            .expect("no file is involved");
        let mut row = Gathered::new(1 << 20);
        assert!(bytes.line_into(&mut row).expect("no file is involved"));
        assert_eq!((row.over, row.bytes.capacity()), (true, 0));
    }
}
