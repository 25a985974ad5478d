//! `read_examples`: all examples of a file or a folder.

use std::path::{Path, PathBuf};

use super::container::extension;
use super::drop_report::DropReport;
use super::example::Example;
use super::fault::DataError;
use super::format::DataFormat;
use super::options::ReadOptions;
use super::reader::ExampleReader;

/// The examples of a file or of a folder's files, their format, and what was left out.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleSet {
    /// The examples, in the file's order; files by their names.
    pub examples: Vec<Example>,
    /// The format that was named or found out: that of the first row.
    pub format: DataFormat,
    /// What was left out, and how the files were read.
    pub report: DropReport,
}

/// Reads a file of examples, or all files in a folder and its subfolders that hold rows.
///
/// # Errors
/// [`DataError`]: with file, line and field where a row is bad and bad rows are not dropped.
pub fn read_examples(
    path: impl AsRef<Path>,
    options: &ReadOptions,
) -> Result<ExampleSet, DataError> {
    let path = path.as_ref();
    if !path.is_dir() {
        return read_file(path, options);
    }
    let mut report = DropReport::default();
    let (mut examples, mut format) = (Vec::new(), None);
    let mut files = Files::default();
    files.collect(path)?;
    report.passed_over = files.others.iter().map(|file| file.display().to_string()).collect();
    for file in files.rows {
        let set = read_file(&file, options)?;
        examples.extend(set.examples);
        format = format.or(Some(set.format));
        report.join(set.report, &file.display().to_string());
    }
    let format = format.ok_or_else(|| DataError::Empty { path: path.to_owned() })?;
    Ok(ExampleSet { examples, format, report })
}

fn read_file(path: &Path, options: &ReadOptions) -> Result<ExampleSet, DataError> {
    let mut reader = ExampleReader::open(path, options.clone())?;
    let examples = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    let path = || path.to_owned();
    let (format, report) = (reader.format(), reader.into_report());
    match format {
        _ if report.rows == 0 => Err(DataError::Empty { path: path() }),
        Some(format) if !examples.is_empty() => Ok(ExampleSet { examples, format, report }),
        _ => Err(DataError::NothingLeft { path: path(), report: Box::new(report) }),
    }
}

/// Extensions of files with rows.
const ROWS: [&str; 14] = [
    "jsonl", "ndjson", "json", "csv", "tsv", "tab", "txt", "text", "xlsx", "xls", "xlsb", "ods",
    "parquet", "arrow",
];

/// Names of files that describe a data set.
const DESCRIPTIONS: [&str; 6] =
    ["readme", "license", "dataset_info", "dataset_infos", "dataset_dict", "state"];

/// Files of a folder.
#[derive(Default)]
struct Files {
    rows: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl Files {
    /// The files in `folder` by their names; hidden ones are no part of it.
    fn collect(&mut self, folder: &Path) -> Result<(), DataError> {
        let failed = |source| DataError::Read { path: folder.to_owned(), source };
        let entries = std::fs::read_dir(folder).map_err(failed)?;
        let entries: Result<Vec<PathBuf>, _> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut entries = entries.map_err(failed)?;
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            let stem = name.split('.').next().unwrap_or_default();
            if name.starts_with('.') {
                continue;
            } else if path.is_dir() {
                self.collect(&path)?;
            } else if ROWS.contains(&extension(&path).as_str()) && !DESCRIPTIONS.contains(&stem) {
                self.rows.push(path);
            } else {
                self.others.push(path);
            }
        }
        Ok(())
    }
}
