//! `Rows`: a file cut into rows, one at a time and each up to a limit, before anything is parsed.

use std::io::{self, BufRead};

use serde_json::{Map, Value};

use super::bytes::{Bytes, Gathered};
use super::container::Container;
use super::csv_record::Place;
use super::fault::Fault;
use super::json_texts::JsonTexts;

/// Most bytes of a file that is one JSON object of columns, which has to be read whole: 256 MiB.
const MAX_COLUMNS_BYTES: usize = 256 << 20;

/// The rows of a stream.
pub(super) struct Rows<R> {
    bytes: Bytes<R>,
    container: Container,
    limit: usize,
    state: State,
    /// Fields beside the rows, of the object that holds them.
    others: Vec<String>,
}

/// A row as it stands in the file.
pub(super) struct Row {
    /// Line, counting from 1, on which it begins.
    pub(super) line: usize,
    /// Its bytes.
    pub(super) bytes: Result<Vec<u8>, Fault>,
    /// Whether the file ended within quotation marks (CSV) or within the row (JSON).
    pub(super) cut: bool,
    /// Lines behind the first one that it took with it, where it was cut.
    pub(super) swallowed: usize,
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
        let others = match &container {
            Container::JsonList(list) => list.before.clone(),
            _ => Vec::new(),
        };
        Self { bytes, container, limit, state: State::Start, others }
    }

    /// Fields beside the rows, of the object that holds them; all of them once the rows have ended.
    pub(super) fn take_others(&mut self) -> Vec<String> {
        std::mem::take(&mut self.others)
    }

    /// The next row that is not blank.
    pub(super) fn next(&mut self) -> io::Result<Option<Row>> {
        match &self.container {
            Container::JsonLines => self.next_line(),
            Container::JsonValues => self.next_value(),
            Container::JsonList(list) => {
                let (skip, close) = (list.skip, list.close);
                let is_in_object = list.within.is_some();
                self.next_element(skip, close, is_in_object)
            }
            Container::JsonColumns => {
                self.limit = self.limit.max(MAX_COLUMNS_BYTES);
                self.whole()
            }
            Container::Csv { delimiter, is_told } => {
                let (delimiter, is_told) = (*delimiter, *is_told);
                if is_told && matches!(self.state, State::Start) {
                    self.bytes.skip_blanks()?;
                    self.bytes.line_into(&mut Gathered::new(0))?;
                }
                self.state = State::Within;
                self.next_record(delimiter)
            }
            Container::Paragraphs => self.next_paragraph(),
            Container::Whole => self.whole(),
        }
    }

    fn row(&self, line: usize, gathered: Gathered, cut: bool) -> Option<Row> {
        let bytes = gathered.finish().ok_or(Fault::TooLarge { limit: self.limit });
        let swallowed = if cut { self.bytes.line().saturating_sub(line + 1) } else { 0 };
        Some(Row { line, bytes, cut, swallowed })
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

    /// The next object, up to its last brace. One that is not closed ends where a line begins with
    /// another one's.
    fn next_value(&mut self) -> io::Result<Option<Row>> {
        if self.bytes.skip_blanks()?.is_none() {
            return Ok(None);
        }
        let (line, mut gathered) = (self.bytes.line(), Gathered::new(self.limit));
        let (mut depth, mut texts) = (0_usize, JsonTexts::default());
        while let Some(byte) = self.bytes.next()? {
            gathered.push(byte);
            if texts.is_cut_by(byte) {
                return Ok(self.row(line, gathered, false));
            }
            match byte {
                _ if !texts.is_outside(byte) => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            let is_begun = depth == 1 && byte == b'\n' && self.bytes.peek()? == Some(b'{');
            // What stands between two objects is a row of its own, and none that is read.
            let ends = depth == 0 && !texts.is_open() && matches!(byte, b'}' | b']' | b'\n');
            if ends || is_begun {
                return Ok(self.row(line, gathered, false));
            }
        }
        Ok(self.row(line, gathered, true))
    }

    /// The next element of the list, which begins behind `skip` bytes and ends with `close`: up to a
    /// comma or a bracket that stands in no string and no inner list or object. Whether it is JSON is
    /// for the parser to say.
    fn next_element(
        &mut self,
        skip: usize,
        close: u8,
        is_in_object: bool,
    ) -> io::Result<Option<Row>> {
        if matches!(self.state, State::Start) {
            // The container was told by what stands up to this bracket.
            self.bytes.skip_blanks()?;
            for _ in 0..skip {
                self.bytes.next()?;
            }
            self.state = State::Within;
        }
        let first = self.bytes.skip_blanks()?;
        let line = self.bytes.line();
        match (&self.state, first) {
            (State::End, _) => return Ok(None),
            (State::Behind, _) if is_in_object => {
                self.state = State::End;
                return self.rest_of_object(line);
            }
            (State::Behind, None) => return Ok(None),
            (State::Behind, _) => {
                self.state = State::End;
                return Ok(Some(broken(line, "something stands behind the array")));
            }
            (_, None) => {
                self.state = State::End;
                return Ok(Some(broken(line, "the file ends within the array")));
            }
            // Also behind a comma too many, which means nothing.
            (_, Some(byte)) if byte == close => {
                self.bytes.next()?;
                self.state = State::Behind;
                return self.next_element(skip, close, is_in_object);
            }
            _ => {}
        }
        let mut gathered = Gathered::new(self.limit);
        let (mut depth, mut texts) = (0_usize, JsonTexts::default());
        while let Some(byte) = self.bytes.next()? {
            if texts.is_cut_by(byte) {
                return Ok(self.row(line, gathered, false));
            }
            match byte {
                _ if !texts.is_outside(byte) => {}
                b'{' | b'[' => depth += 1,
                b',' if depth == 0 => return Ok(self.row(line, gathered.value(close), false)),
                _ if byte == close && depth == 0 => {
                    self.state = State::Behind;
                    return Ok(self.row(line, gathered.value(close), false));
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            gathered.push(byte);
        }
        self.state = State::End;
        Ok(self.row(line, gathered, true))
    }

    /// Notes the fields behind the list in the object that holds it; a broken row where it is no object.
    fn rest_of_object(&mut self, line: usize) -> io::Result<Option<Row>> {
        let mut gathered = Gathered::new(self.limit);
        while let Some(byte) = self.bytes.next()? {
            gathered.push(byte);
        }
        let rest = gathered.finish().unwrap_or_default();
        let object = [b"{\"\":0", rest.as_slice()].concat();
        match serde_json::from_slice::<Map<String, Value>>(&object) {
            Ok(fields) => {
                self.others.extend(fields.into_iter().map(|(name, _)| name).skip(1));
                Ok(None)
            }
            Err(_) => Ok(Some(broken(line, "the object does not end behind its rows"))),
        }
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
    Row { line, bytes: Err(fault), cut: false, swallowed: 0 }
}
