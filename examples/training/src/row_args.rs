//! `RowArgs`: the options that say how files of rows are read.

use std::path::Path;

use anyhow::Result;
use lightglm::training::{
    Columns, DataFormat, Example, OnBadRow, ReadOptions, TextEncoding, conversations, read_examples,
};

/// How files of rows are read.
#[derive(Clone, Debug, clap::Args)]
pub struct RowArgs {
    /// The files' format; found out if omitted.
    #[arg(long)]
    pub format: Option<DataFormat>,
    /// The fields, or columns, of questions and answers; found out if omitted.
    #[arg(long, value_name = "question=NAME,answer=NAME")]
    pub columns: Option<Columns>,
    /// The files' encoding: utf-8, gb18030, utf-16le, big5, ...; found out if omitted.
    #[arg(long)]
    pub encoding: Option<TextEncoding>,
    /// Go on where more than half of the rows cannot be used.
    #[arg(long)]
    pub allow_dropped: bool,
}

impl RowArgs {
    /// How the files are read.
    pub fn options(&self, on_bad_row: OnBadRow) -> ReadOptions {
        ReadOptions {
            format: self.format,
            columns: self.columns.clone(),
            encoding: self.encoding,
            allow_dropped: self.allow_dropped,
            on_bad_row,
            ..ReadOptions::default()
        }
    }
}

/// The examples of a file or a folder; how it was read, and what of it was not, goes to stderr.
///
/// # Errors
/// Where it cannot be read, or its rows cannot be used.
pub fn read_rows(path: &Path, options: &ReadOptions) -> Result<Vec<Example>> {
    let set = read_examples(path, options)?;
    eprintln!("{}", set.report);
    Ok(set.examples)
}

/// Says on stderr how many of the examples have no answer that can be asked for.
pub fn tell_unasked(name: &str, examples: &[Example]) {
    let unasked = examples.len() - conversations(examples).len();
    if unasked > 0 {
        eprintln!(
            "{name}: {unasked} rows are plain texts, preferences or calls: they are not asked"
        );
    }
}
