//! What is wrong with files and rows, said with file, line and field, or dropped and counted.

use crate::reading::{dropping, file, read_bytes, read_with};
use lightglm_train::data::{
    Columns, DataError, DataFormat, DropReason, Fault, OnBadRow, ReadOptions, RowError,
    read_examples,
};

fn row_error(bytes: &[u8], name: &str) -> RowError {
    match read_bytes(bytes, name, ReadOptions::default()).0.pop() {
        Some(Err(DataError::Row(error))) => error,
        other => panic!("{other:?}"),
    }
}

/// Line, field and fault of each bad row of a file, and that dropping counts the same.
fn check_bad(name: &str, expected: &[(usize, &str, DropReason)]) {
    let text = std::fs::read_to_string(file(name)).expect("it is there");
    let mut dropped = Vec::new();
    for (reason, rows) in read_with(name, &dropping()).report.dropped {
        assert!(rows.first_lines.len() <= rows.count && rows.first_lines.len() <= 5, "{name}");
        dropped.extend(rows.first_lines.into_iter().map(|line| (line, reason)));
    }
    dropped.sort();
    let pairs: Vec<_> = expected.iter().map(|(line, _, reason)| (*line, *reason)).collect();
    assert_eq!(dropped, pairs, "{name}");
    // Each bad row by itself, behind a good one.
    let lines: Vec<&str> = text.lines().collect();
    for (line, field, reason) in expected.iter().filter(|_| name.ends_with(".jsonl")) {
        let two = format!("{}\n{}\n", lines[0], lines[line - 1]);
        let error = row_error(two.as_bytes(), name);
        assert_eq!((error.line, error.field.as_str()), (2, *field), "{error}");
        assert_eq!(error.fault.reason(), *reason, "{error}");
        assert!(error.to_string().starts_with(&format!("{name}:2")), "{error}");
    }
}

#[test]
fn bad_messages() {
    use DropReason::*;
    check_bad(
        "bad_messages.jsonl",
        &[
            (2, "", NotJson),
            (3, "", NoAssistantTurn),
            (4, "messages", WrongType),
            (5, "messages[0].content", FieldMissing),
            (6, "messages[1].content", WrongType),
            (7, "messages[0].role", UnknownRole),
            (8, "", NoAssistantTurn),
            (9, "", NoAssistantTurn),
            (10, "messages[1].content", EmptyAnswer),
            (11, "messages[0].content", EmptyQuestion),
            (12, "", LastTurnNotAssistant),
            (13, "", NothingToLearn),
            (14, "messages[1].weight", WrongType),
            (15, "messages[1].tool_calls[0]", ToolCalls),
            (16, "messages[0].content", WrongType),
            (17, "messages[0].role", FieldMissing),
            (18, "", WrongType),
        ],
    );
}

#[test]
fn bad_alpaca() {
    use DropReason::*;
    // The open quotation of line 5 does not swallow line 6.
    check_bad(
        "bad_alpaca.json",
        &[(3, "", FieldMissing), (4, "", WrongType), (5, "", NotJson), (7, "", WrongType)],
    );
}

#[test]
fn bad_csv() {
    use DropReason::*;
    check_bad(
        "bad_faq.csv",
        &[(3, "", FieldCount), (4, "", FieldCount), (5, "", EmptyAnswer), (6, "", FieldCount)],
    );
    // What an open quotation swallows does not pass for one bad row.
    let swallowed = format!("question,answer\na,b\n\"open,here\n{}", "c,d\n".repeat(8));
    let options = ReadOptions { on_bad_row: OnBadRow::Drop, ..Default::default() };
    match read_bytes(swallowed.as_bytes(), "x.csv", options).0.pop() {
        Some(Err(DataError::MostDropped { report, .. })) => {
            assert_eq!((report.rows, report.count(FieldCount)), (10, 9));
        }
        other => panic!("{other:?}"),
    }
    let error = row_error(b"question,answer\n\"open,here\n", "x.csv");
    let expected = Fault::FieldCount { expected: 2, actual: 1, open_quote: true };
    assert_eq!((error.line, error.fault), (2, expected));
}

#[test]
fn messages_read_well() {
    let error = row_error(br#"{"messages": [{"role": "user", "content": 5}]}"#, "x.jsonl");
    assert_eq!(
        error.to_string(),
        "x.jsonl:1: messages[0].content: invalid type: integer `5`, expected a text or a list of \
         text parts"
    );
    let error = row_error(b"{\"prompt\": \"a\"}", "x.jsonl");
    assert_eq!(error.to_string(), "x.jsonl:1: completion: it is not there");
    let error = row_error(b"\n{\"prompt\": \"a\",}", "x.jsonl");
    assert_eq!(error.to_string(), "x.jsonl:2: not JSON: trailing comma at column 16");
}

#[test]
fn messages_stay_short_and_plain() {
    let long = "x".repeat(1_000_000);
    for row in [
        format!(r#"{{"messages": [{{"role": "\u001b[2J{long}", "content": ""}}]}}"#),
        format!(r#"{{"messages": [{{"role": "user", "content": "", "weight": "{long}"}}]}}"#),
        format!(r#"{{"messages": "{long}"}}"#),
    ] {
        let message = row_error(row.as_bytes(), "x.jsonl").to_string();
        assert!(message.len() < 300 && !message.contains('\u{1b}'), "{message}");
    }
    let columns = vec![long; 10].join(",");
    let message = file_error(columns.as_bytes(), "x.csv", dropping()).to_string();
    assert!(message.len() < 1_000 && message.ends_with(", ..."), "{message}");
}

#[test]
fn not_utf8_names_the_line_and_goes_on() {
    let jsonl = b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n{\"text\": \"c\"}\n";
    let error = row_error(jsonl, "x.jsonl");
    assert_eq!((error.line, error.fault), (2, Fault::NotUtf8 { byte: 10 }));
    let (examples, dropped) = read_bytes(jsonl, "x.jsonl", dropping());
    assert_eq!(examples.len(), 2);
    assert_eq!(dropped, [(DropReason::NotUtf8, 1, vec![2])]);
    // In rows of several lines, the line within the row.
    let csv = b"question,answer\na,\"b\n\xff\"\nc,d\n";
    let (examples, dropped) = read_bytes(csv, "x.csv", dropping());
    assert_eq!((examples.len(), dropped), (1, vec![(DropReason::NotUtf8, 1, vec![3])]));
    let text = b"a\nb\xff\n\nc\n";
    let (examples, dropped) = read_bytes(text, "x.txt", dropping());
    assert_eq!((examples.len(), dropped), (1, vec![(DropReason::NotUtf8, 1, vec![2])]));
    let array = b"[{\"text\": \n\"\xff\"}, {\"text\": \"b\"}]";
    let (examples, dropped) = read_bytes(array, "x.json", dropping());
    assert_eq!((examples.len(), dropped), (1, vec![(DropReason::NotUtf8, 1, vec![2])]));
}

#[test]
fn rows_above_the_limit_are_refused() {
    let long = "x".repeat(100);
    for (name, bytes) in [
        ("x.jsonl", format!("{{\"text\": \"{long}\"}}\n{{\"text\": \"b\"}}\n")),
        ("x.json", format!("[{{\"text\": \"{long}\"}},\n{{\"text\": \"b\"}}]\n")),
        ("x.txt", format!("{long}\n\nb\n")),
        ("y.txt", format!("{}\n\nb\n", "line\n".repeat(20).trim_end())),
    ] {
        let options = ReadOptions { max_row_bytes: 50, ..dropping() };
        let (examples, dropped) = read_bytes(bytes.as_bytes(), name, options.clone());
        assert_eq!(examples.len(), 1, "{name}");
        assert_eq!(dropped, [(DropReason::TooLarge, 1, vec![1])], "{name}");
        let options = ReadOptions { on_bad_row: OnBadRow::Fail, ..options };
        match read_bytes(bytes.as_bytes(), name, options).0.pop() {
            Some(Err(DataError::Row(error))) => {
                assert_eq!(error.fault, Fault::TooLarge { limit: 50 }, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let csv = format!("text,label\n{long},b\nc,d\n");
    let options = ReadOptions { max_row_bytes: 50, ..dropping() };
    let (examples, dropped) = read_bytes(csv.as_bytes(), "x.csv", options);
    assert_eq!((examples.len(), dropped), (1, vec![(DropReason::TooLarge, 1, vec![2])]));
    // The limit itself is no violation.
    let line = format!("{{\"text\": \"{long}\"}}");
    let options = ReadOptions { max_row_bytes: line.len(), ..Default::default() };
    assert!(read_bytes(line.as_bytes(), "x.jsonl", options).0[0].is_ok());
}

fn file_error(bytes: &[u8], name: &str, options: ReadOptions) -> DataError {
    match read_bytes(bytes, name, options).0.pop() {
        Some(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn empty_files() {
    for (name, bytes) in [
        ("x.jsonl", &b""[..]),
        ("x.jsonl", b" \n\r\n"),
        ("x.json", b"\xef\xbb\xbf"),
        ("x.json", b"[ ]"),
        ("x.csv", b""),
        ("x.csv", b"question,answer\n\n"),
        ("x.txt", b"\n\n"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        match read_examples(&path, &dropping()) {
            Err(DataError::Empty { .. }) => {}
            other => panic!("{name} {bytes:?}: {other:?}"),
        }
    }
}

#[test]
fn files_of_no_known_format() {
    let error = file_error(b"\n{\"id\": 1, \"summary\": \"?\"}", "x.jsonl", dropping());
    assert_eq!(error.to_string(), "x.jsonl:2: not a known format: a record of \"id\", \"summary\"");
    let error = file_error(b"id,summary\n1,a\n", "x.csv", dropping());
    assert!(matches!(error, DataError::UnknownFormat { line: 1, .. }), "{error}");
    let error = file_error(b"\x89PNG\r\n", "x.png", dropping());
    assert!(matches!(&error, DataError::UnknownFormat { fields, .. } if fields.is_empty()));
    assert_eq!(error.to_string(), "x.png:1: not a known format: neither records nor text");
}

#[test]
fn columns_that_are_not_there() {
    let columns = Some(Columns { question: "utterance".into(), answer: "intent".into() });
    let options = ReadOptions { columns, ..Default::default() };
    let error = file_error(b"utterance,label\na,b\n", "x.csv", options);
    assert_eq!(error.to_string(), "x.csv:1: no column `intent`");
    let options = ReadOptions { format: Some(DataFormat::Alpaca), ..Default::default() };
    let error = file_error(b"instruction,input\na,b\n", "x.csv", options);
    assert!(matches!(&error, DataError::MissingColumn { column, .. } if column == "output"));
    let error = file_error(b"question,remark\na,b\n", "x.csv", ReadOptions::default());
    assert!(matches!(&error, DataError::MissingColumn { column, .. } if column == "answer"));
}

#[test]
fn arrays_that_do_not_end_well() {
    for (bytes, line) in [
        (&b"[{\"text\": \"a\"},\n{\"text\": "[..], 2),
        (b"[{\"text\": \"a\"},\n", 2),
        (b"[{\"text\": \"a\"}]\nmore", 2),
        (b"[{\"text\": \"a\"},\n}]", 2),
    ] {
        let (examples, dropped) = read_bytes(bytes, "x.json", dropping());
        assert_eq!(examples.len(), 1);
        assert_eq!(dropped, [(DropReason::NotJson, 1, vec![line])], "{bytes:?}");
    }
}

#[test]
fn a_file_that_is_not_there() {
    let error = read_examples(file("nowhere.jsonl"), &dropping()).expect_err("not there");
    assert!(matches!(error, DataError::Read { .. }), "{error}");
}

#[test]
fn a_file_without_a_good_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.jsonl");
    std::fs::write(&path, "{\"a\n}\n{\"text\": \" \"}\n").expect("a file");
    match read_examples(&path, &dropping()) {
        // Half an object is no JSON; the third row is, and empty.
        Err(DataError::NothingLeft { report, .. }) => {
            assert_eq!(report.count(DropReason::NotJson), 2);
            assert_eq!(report.count(DropReason::EmptyText), 1);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_report_is_a_table_and_json() {
    let mut report = read_with("bad_messages.jsonl", &dropping()).report;
    assert_eq!((report.rows, report.total_dropped(), report.kept()), (19, 17, 2));
    report.drop(1, DropReason::TooLong);
    assert_eq!(report.kept(), 1);
    (0..10).for_each(|line| report.drop(line, DropReason::NotJson));
    let table = report.to_string();
    assert!(
        table.contains("       11  not JSON                       2, 0, 1, 2, 3, ..."),
        "{table}"
    );
    assert!(table.contains("        1  too many tokens                1\n"), "{table}");
    let json = serde_json::to_value(&report).expect("it is plain data");
    assert_eq!(json["dropped"]["too_long"]["first_lines"], serde_json::json!([1]));
}

#[test]
fn the_reader_ends_at_its_first_error() {
    let bytes = b"{\"text\": \"a\"}\n?\n{\"text\": \"c\"}\n";
    let (examples, _) = read_bytes(bytes, "x.jsonl", ReadOptions::default());
    assert_eq!(examples.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
}
