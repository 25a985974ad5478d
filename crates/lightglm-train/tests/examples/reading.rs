//! Files of `tests/data`, and bytes as if they stood in one, through the readers.

use std::path::{Path, PathBuf};

use lightglm_train::data::{
    DataError, DropReason, Example, ExampleReader, ExampleSet, OnBadRow, ReadOptions, read_examples,
};

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub(crate) fn read_with(name: &str, options: &ReadOptions) -> ExampleSet {
    read_examples(file(name), options).unwrap_or_else(|error| panic!("{error}"))
}

/// Why, how many, and the first lines.
pub(crate) type DroppedRows = (DropReason, usize, Vec<usize>);

/// The examples of `bytes`, as if they stood in a file `name`.
pub(crate) fn read_bytes(
    bytes: &[u8],
    name: &str,
    options: ReadOptions,
) -> (Vec<Result<Example, DataError>>, Vec<DroppedRows>) {
    let mut reader = match ExampleReader::new(bytes, Path::new(name), options) {
        Ok(reader) => reader,
        Err(error) => return (vec![Err(error)], vec![]),
    };
    let examples = reader.by_ref().collect();
    let dropped = reader.into_report().dropped.into_iter();
    (examples, dropped.map(|(reason, d)| (reason, d.count, d.first_lines)).collect())
}

pub(crate) fn dropping() -> ReadOptions {
    ReadOptions { on_bad_row: OnBadRow::Drop, allow_dropped: true, ..Default::default() }
}
