//! `Rows`: a file cut into rows, one at a time and each up to a limit, before anything is parsed.

use std::io::{self, BufRead};

use super::bytes::{Bytes, Gathered};
use super::container::Container;
use super::csv_record::Place;
use super::fault::Fault;

/// The rows of a stream.
pub(super) struct Rows<R> {
    bytes: Bytes<R>,
    container: Container,
    limit: usize,
    state: State,
}

/// A row as it stands in the file.
pub(super) struct Row {
    /// Line, counting from 1, on which it begins.
    pub(super) line: usize,
    /// Its bytes.
    pub(super) bytes: Result<Vec<u8>, Fault>,
    /// Whether the file ended within quotation marks (CSV) or within the row (JSON array).
    pub(super) cut: bool,
}

enum State {
    /// Nothing was read.
    Start,
    /// Between two rows.
    Within,
    /// Behind a JSON array, where nothing but white space may stand.
    Behind,
    End,
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(bytes: Bytes<R>, container: Container, limit: usize) -> Self {
        Self { bytes, container, limit, state: State::Start }
    }

    /// The next row that is not blank.
    pub(super) fn next(&mut self) -> io::Result<Option<Row>> {
        match self.container {
            Container::JsonLines => self.next_line(),
            Container::JsonArray => self.next_element(),
            Container::Csv { delimiter } => self.next_record(delimiter),
            Container::Paragraphs => self.next_paragraph(),
            Container::Whole => self.whole(),
        }
    }

    fn row(&self, line: usize, gathered: Gathered, cut: bool) -> Option<Row> {
        let bytes = gathered.finish().ok_or(Fault::TooLarge { limit: self.limit });
        Some(Row { line, bytes, cut })
    }

    fn next_line(&mut self) -> io::Result<Option<Row>> {
        loop {
            let (line, mut gathered) = (self.bytes.line(), Gathered::new(self.limit));
            if !self.bytes.line_into(&mut gathered)? {
                return Ok(None);
            }
            if !gathered.is_blank() {
                return Ok(self.row(line, gathered, false));
            }
        }
    }

    /// Lines up to a blank one, joined by line feeds whatever ended them.
    fn next_paragraph(&mut self) -> io::Result<Option<Row>> {
        let mut paragraph: Option<(usize, Gathered)> = None;
        loop {
            let (number, mut line) = (self.bytes.line(), Gathered::new(self.limit));
            let any = self.bytes.line_into(&mut line)?;
            if line.is_blank() {
                match paragraph {
                    None if any => continue,
                    None => return Ok(None),
                    Some((first_line, gathered)) => {
                        return Ok(self.row(first_line, gathered, false));
                    }
                }
            }
            let (_, gathered) = match &mut paragraph {
                None => paragraph.insert((number, Gathered::new(self.limit))),
                Some(paragraph) => {
                    paragraph.1.push(b'\n');
                    paragraph
                }
            };
            match line.finish() {
                Some(bytes) => gathered.extend(bytes.strip_suffix(b"\r").unwrap_or(&bytes)),
                None => gathered.overflow(),
            }
        }
    }

    fn whole(&mut self) -> io::Result<Option<Row>> {
        let (line, mut gathered) = (self.bytes.line(), Gathered::new(self.limit));
        if matches!(self.state, State::End) || self.bytes.peek()?.is_none() {
            return Ok(None);
        }
        self.state = State::End;
        while let Some(byte) = self.bytes.next()? {
            gathered.push(byte);
        }
        Ok(self.row(line, gathered, false))
    }

    /// The next element of the array: up to a comma or a bracket that stands in no string and no
    /// inner list or object. Whether it is JSON is for the parser to say.
    fn next_element(&mut self) -> io::Result<Option<Row>> {
        let first = self.bytes.skip_blanks()?;
        let line = self.bytes.line();
        match (&self.state, first) {
            (State::End, _) | (State::Behind, None) => return Ok(None),
            (State::Start, _) => {
                // The container was told by this bracket.
                self.bytes.next()?;
                if self.bytes.skip_blanks()? == Some(b']') {
                    self.bytes.next()?;
                    self.state = State::Behind;
                } else {
                    self.state = State::Within;
                }
                return self.next_element();
            }
            (State::Behind, Some(_)) => {
                self.state = State::End;
                return Ok(Some(broken(line, "something stands behind the array")));
            }
            (State::Within, None) => {
                self.state = State::End;
                return Ok(Some(broken(line, "the file ends within the array")));
            }
            (State::Within, Some(_)) => {}
        }
        let mut gathered = Gathered::new(self.limit);
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        while let Some(byte) = self.bytes.next()? {
            match byte {
                _ if escaped && byte != b'\n' => escaped = false,
                b'\\' if quoted => escaped = true,
                // No string goes on behind a line's end: this one lacks its mark. The next line is
                // a new element, lest one mark swallow the whole file.
                b'\n' if quoted => return Ok(self.row(line, gathered, false)),
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'{' | b'[' => depth += 1,
                b',' if depth == 0 => return Ok(self.row(line, gathered, false)),
                b']' if depth == 0 => {
                    self.state = State::Behind;
                    return Ok(self.row(line, gathered, false));
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            gathered.push(byte);
        }
        self.state = State::End;
        Ok(self.row(line, gathered, true))
    }

    /// The next record: up to a line end that stands in no quotation.
    fn next_record(&mut self, delimiter: u8) -> io::Result<Option<Row>> {
        loop {
            let line = self.bytes.line();
            let mut gathered = Gathered::new(self.limit);
            let mut place = Place::FieldStart;
            let mut any = false;
            while let Some(byte) = self.bytes.next()? {
                any = true;
                place = match place.behind(byte, delimiter) {
                    Some(place) => place,
                    None => break,
                };
                gathered.push(byte);
            }
            if !any {
                return Ok(None);
            }
            // A line of tabs is a record of empty fields, a line of spaces a field.
            if !gathered.is_empty() {
                return Ok(self.row(line, gathered, place == Place::Quoted));
            }
        }
    }
}

fn broken(line: usize, reason: &str) -> Row {
    let fault = Fault::NotJson { reason: reason.into(), column: 0 };
    Row { line, bytes: Err(fault), cut: false }
}
