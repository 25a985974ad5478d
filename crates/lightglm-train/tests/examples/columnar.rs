//! Parquet files.

use std::path::Path;
use std::sync::Arc;

use lightglm_train::data::{DataError, Example, ReadOptions, read_examples};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Two columns of texts and one of numbers, three rows in each of two groups.
fn write(path: &Path, compression: Compression) {
    let schema = "message rows {
        optional binary question (UTF8);
        optional binary answer (UTF8);
        required int64 id;
    }";
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = std::fs::File::create(path).unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let groups = [
        [("如何退货?", Some("七天内可退。")), ("a", None), ("b\n\"c\"", Some("d"))],
        [("e", Some("f")), ("g", Some("h")), ("i", Some("j"))],
    ];
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        for column in 0..3 {
            let mut next = group.next_column().unwrap().unwrap();
            let texts: Vec<Option<&str>> = match column {
                0 => rows.iter().map(|row| Some(row.0)).collect(),
                _ => rows.iter().map(|row| row.1).collect(),
            };
            let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
            let texts: Vec<ByteArray> = texts.into_iter().flatten().map(ByteArray::from).collect();
            match column {
                2 => next.typed::<Int64Type>().write_batch(&[1, 2, 3], None, None),
                _ => next.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None),
            }
            .unwrap();
            next.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn rows_of_parquet_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faq.parquet");
    let options = ReadOptions { on_bad_row: "drop".parse().unwrap(), ..Default::default() };
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let gzip = Compression::GZIP(Default::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, gzip] {
        write(&path, compression);
        let set = read_examples(&path, &options).unwrap();
        let answers: Vec<_> = set.examples.iter().filter_map(Example::conversation).collect();
        let answers: Vec<_> = answers.iter().map(|row| (row.line, row.answer())).collect();
        assert_eq!(answers, [(1, "七天内可退。"), (3, "d"), (4, "f"), (5, "h"), (6, "j")]);
        let report = set.report.to_string();
        assert!(report.contains("id"), "{report}");
    }
}

/// Cut short or with any byte changed, a file is read or refused by its name.
#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faq.parquet");
    write(&path, Compression::SNAPPY);
    let whole = std::fs::read(&path).unwrap();
    let options = ReadOptions {
        on_bad_row: "drop".parse().unwrap(),
        allow_dropped: true,
        ..Default::default()
    };
    let hook = std::panic::take_hook();
    // The library's own panics, which are caught.
    std::panic::set_hook(Box::new(|_| {}));
    let mut refused = 0;
    for at in (0..whole.len()).step_by(5) {
        let mut changed = whole.clone();
        changed[at] ^= 0x5a;
        for bytes in [&changed[..], &whole[..at]] {
            std::fs::write(&path, bytes).unwrap();
            if let Err(error) = read_examples(&path, &options) {
                assert!(error.to_string().contains("faq.parquet"), "{error}");
                refused += 1;
            }
        }
    }
    std::panic::set_hook(hook);
    assert!(refused > whole.len() / 5);
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let error = read_examples(&path, &options).unwrap_err();
    assert!(matches!(error, DataError::Parquet { .. }), "{error}");
}
