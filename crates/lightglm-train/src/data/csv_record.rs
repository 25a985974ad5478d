//! `Place`, `fields`: CSV, byte by byte.
//!
//! Not the csv crate, because rows are cut out of a stream up to a limit, which the crate has none
//! of, and a reader of its own for each row takes 40 microseconds to build. What its readers make of
//! a file is what the test below holds this one to.
//!
//! Source: RFC 4180, and for what that leaves open the csv crate: a quotation mark opens a quotation
//! at the beginning of a field alone, and what follows a closed quotation belongs to the field.

/// Where in a record the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing of the field was read.
    FieldStart,
    /// Within a field, outside of quotation marks.
    Field,
    /// Between quotation marks.
    Quoted,
    /// Behind a quotation mark that ends the quotation, unless another one follows.
    QuoteInQuoted,
}

impl Place {
    /// The place behind `byte`; `None` where it ends the record.
    pub(super) fn behind(self, byte: u8, delimiter: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Quoted, b'"') => Some(Self::QuoteInQuoted),
            (Self::Quoted, _) => Some(Self::Quoted),
            (Self::FieldStart | Self::QuoteInQuoted, b'"') => Some(Self::Quoted),
            (_, b'\n' | b'\r') => None,
            (_, byte) if byte == delimiter => Some(Self::FieldStart),
            _ => Some(Self::Field),
        }
    }
}

/// The fields of a record that stands in `row`.
pub(super) fn fields(row: &str, delimiter: u8) -> Vec<String> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut place = Place::FieldStart;
    for character in row.chars() {
        // No part of a longer character is a mark.
        let byte = u8::try_from(character).ok().filter(u8::is_ascii).unwrap_or(b'x');
        let Some(next) = place.behind(byte, delimiter) else { break };
        match (place, next) {
            (_, Place::FieldStart) => fields.push(std::mem::take(&mut field)),
            // The marks themselves; a doubled one was passed over once.
            (Place::FieldStart, Place::Quoted) | (_, Place::QuoteInQuoted) => {}
            _ => field.push(character),
        }
        place = next;
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bytes::Bytes;
    use super::super::container::Container;
    use super::super::rows::Rows;
    use super::*;

    /// The records and their lines, as read here.
    fn records(file: &str) -> Vec<(usize, Vec<String>)> {
        let container = Container::Csv { delimiter: b',', is_told: false };
        let bytes = Bytes::new(file.as_bytes()).expect("in memory");
        let mut rows = Rows::new(bytes, container, usize::MAX);
        let mut records = Vec::new();
        while let Some(row) = rows.next().expect("in memory") {
            let bytes = row.bytes.expect("below the limit");
            records.push((row.line, fields(std::str::from_utf8(&bytes).expect("text"), b',')));
        }
        records
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn as_the_csv_crate_reads(file in "[\",\n\ra茶 \"]{0,40}") {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(file.as_bytes());
            let expected: Vec<Vec<String>> = reader
                .records()
                .map(|record| record.expect("text").iter().map(String::from).collect())
                .collect();
            let found: Vec<Vec<String>> = records(&file).into_iter().map(|(_, r)| r).collect();
            prop_assert_eq!(found, expected, "{:?}", file);
        }
    }

    #[test]
    fn lines_of_records() {
        let file = "a,b\r\n\n\"x\ny\",\"\"\"\"\nc,";
        let texts = |texts: [&str; 2]| texts.map(String::from).to_vec();
        let expected = [(1, texts(["a", "b"])), (3, texts(["x\ny", "\""])), (5, texts(["c", ""]))];
        assert_eq!(records(file), expected);
    }
}
