//! Files as people have them: encodings, separators, shapes of rows, wrappings.

use std::path::{Path, PathBuf};

use crate::reading::read_bytes;
use lightglm_train::data::{
    DataError, DataFormat, DropReason, Example, ExampleSet, OnBadRow, ReadOptions, Role,
    TextEncoding, read_examples,
};

/// What becomes of a file.
#[derive(Debug)]
enum Outcome {
    /// So many rows are examples; the report says these words.
    Used(usize, &'static [&'static str]),
    /// Nothing is read, and the error says these words.
    Refused(&'static [&'static str]),
}
use Outcome::{Refused, Used};

/// Every file of the cases, and what becomes of it where bad rows are dropped.
const CASES: [(&str, Outcome); 38] = [
    ("alpaca_empty_instr.json", Used(4, &["alpaca"])),
    ("alpaca_missing_output_some.json", Used(3, &["1  empty answer"])),
    ("assistant_first.jsonl", Used(4, &["messages"])),
    ("conv_single_key.jsonl", Used(4, &["sharegpt"])),
    ("cr_only.jsonl", Used(4, &["question-answer"])),
    ("dict_of_rows.json", Used(4, &["the rows in \"data\""])),
    ("dpo.json", Used(4, &["preference"])),
    ("dpo_trl.jsonl", Used(4, &["preference"])),
    ("empty_assistant.jsonl", Used(3, &["1  empty answer"])),
    ("excel_gbk.csv", Used(4, &["GB18030"])),
    ("excel_utf16.txt", Used(4, &["UTF-16LE", "a table with tabs"])),
    ("excel_utf8bom.csv", Used(4, &["UTF-8"])),
    ("image_rows.jsonl", Refused(&["no row can be used", "images, audio or video", "images: "])),
    ("input_output.jsonl", Used(4, &["question-answer"])),
    ("instr_response.jsonl", Used(4, &["alpaca"])),
    ("lone_surrogate.jsonl", Refused(&["not JSON", "surrogate"])),
    ("nan.jsonl", Used(4, &["score"])),
    ("numbers.jsonl", Used(4, &["question-answer"])),
    ("pretty.jsonl", Used(4, &["one object after the other"])),
    ("prompt_response.jsonl", Used(4, &["question-answer"])),
    ("query_response.jsonl", Used(4, &["question-answer"])),
    ("rows.jsonl.gz", Used(4, &["question-answer"])),
    ("rows.xlsx", Refused(&["rows.xlsx", "spreadsheet"])),
    ("sep_line.csv", Used(4, &["a table with ','"])),
    ("special_tokens.jsonl", Used(4, &["messages"])),
    ("swift_loss.jsonl", Used(4, &["messages"])),
    ("swift_noloss.jsonl", Used(4, &["messages"])),
    ("swift_weight.jsonl", Used(4, &["messages"])),
    ("tools_no_call.jsonl", Used(4, &["messages"])),
    ("tools_openai.jsonl", Used(4, &["messages"])),
    ("tools_sharegpt.json", Used(4, &["sharegpt"])),
    ("tools_stripped.jsonl", Used(4, &["messages"])),
    ("trailing_comma.json", Used(4, &["a list of rows"])),
    ("two_users.jsonl", Used(4, &["messages"])),
    ("utf16.jsonl", Used(4, &["UTF-16LE"])),
    ("zh_header.csv", Used(4, &["question-answer"])),
    // The folder as a whole, and one that is not there.
    ("", Refused(&["can"])),
    ("nowhere.jsonl", Refused(&["nowhere.jsonl"])),
];

#[test]
fn files_that_people_bring() {
    let folder = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = folder.unwrap_or(beside).join("cases/data");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let options = ReadOptions { on_bad_row: OnBadRow::Drop, ..Default::default() };
    for (name, outcome) in &CASES {
        let (said, expected) = match (read_examples(folder.join(name), &options), outcome) {
            (Ok(set), Used(count, words)) => {
                let report = set.report.to_string();
                assert_eq!(set.examples.len(), *count, "{name}: {report}");
                (report, words)
            }
            (Err(error), Refused(words)) => (error.to_string(), words),
            (other, _) => panic!("{name}: expected {outcome:?}, found {other:?}"),
        };
        for word in *expected {
            assert!(said.contains(word), "{name}: no {word:?} in {said}");
        }
    }
    for entry in std::fs::read_dir(&folder).expect("it is there") {
        let name = entry.expect("it is there").file_name().into_string().expect("UTF-8");
        assert!(CASES.iter().any(|(case, _)| *case == name), "no case tells about {name}");
    }
}

/// The turns of the examples as `role: content` joined by bars, `*` behind those that are not learnt.
fn shown(examples: &[Example]) -> Vec<String> {
    let turns = |turns: &[lightglm_train::data::Turn]| {
        let turn = |turn: &lightglm_train::data::Turn| {
            let unlearnt = turn.role == Role::Assistant && !turn.learn;
            let extra: String =
                turn.extra.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{}: {}{extra}{}", turn.role, turn.content, if unlearnt { "*" } else { "" })
        };
        turns.iter().map(turn).collect::<Vec<_>>().join(" | ")
    };
    let example = |example: &Example| match example {
        Example::Conversation(conversation) => turns(&conversation.turns),
        Example::Text(text) => text.text.clone(),
        Example::Preference(row) => {
            format!("{} > {} > {}", turns(&row.prompt), turns(&row.chosen), turns(&row.rejected))
        }
    };
    examples.iter().map(example).collect()
}

fn read(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<ExampleSet, DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    read_examples(path, options)
}

fn set(name: &str, bytes: &[u8]) -> ExampleSet {
    read(name, bytes, &ReadOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a row is read as.
fn row(json: &str) -> String {
    shown(&set("x.jsonl", json.as_bytes()).examples).remove(0)
}

const QA: &str = "user: 如何退货? | assistant: 七天内可退。";

#[test]
fn encodings() {
    let table = "问题;答案\r\n如何退货?;七天内可退。\r\nHow long?;Three days.\r\n";
    let utf16 = |text: &str, big: bool| -> Vec<u8> {
        let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(unit).collect()
    };
    let gbk = encoding_rs::GBK.encode(table).0.into_owned();
    for (bytes, encoding) in [
        (table.as_bytes().to_vec(), "UTF-8"),
        (format!("\u{feff}{table}").into_bytes(), "UTF-8"),
        (gbk.clone(), "GB18030"),
        (utf16(&format!("\u{feff}{table}"), false), "UTF-16LE"),
        (utf16(&format!("\u{feff}{table}"), true), "UTF-16BE"),
        (utf16(table, false), "UTF-16LE"),
        (utf16(table, true), "UTF-16BE"),
        (table.replace("\r\n", "\r").into_bytes(), "UTF-8"),
    ] {
        let set = set("x.csv", &bytes);
        assert_eq!(shown(&set.examples), [QA, "user: How long? | assistant: Three days."]);
        let report = set.report.to_string();
        assert!(
            report.contains(&format!("{encoding}, a table with ';', question-answer")),
            "{report}"
        );
    }
    // From a stream, by its beginning; and as one says.
    let (examples, _) = read_bytes(&gbk, "x.csv", ReadOptions::default());
    assert_eq!(examples[0].as_ref().map(|example| example.line()).ok(), Some(2));
    let big5 = encoding_rs::BIG5.encode("question,answer\n退貨,七天\n").0.into_owned();
    let encoding = Some("big5".parse::<TextEncoding>().expect("known"));
    let options = ReadOptions { encoding, ..Default::default() };
    let examples = read("x.csv", &big5, &options).expect("Big5").examples;
    assert_eq!(shown(&examples), ["user: 退貨 | assistant: 七天"]);
    // What does not decode is named.
    let error = read("x.csv", b"question,answer\n\xff,b\n", &options).expect_err("no Big5");
    assert!(error.to_string().contains("x.csv:2: it does not decode as Big5"), "{error}");
}

#[test]
fn most_of_a_file_is_not_dropped_unasked() {
    let rows = "{\"question\": \"a\", \"answer\": \"b\"}\n{}\n{\"a\": 1}\n";
    let dropping = ReadOptions { on_bad_row: OnBadRow::Drop, ..Default::default() };
    match read("x.jsonl", rows.as_bytes(), &dropping) {
        Err(DataError::MostDropped { report, .. }) => {
            assert_eq!((report.rows, report.count(DropReason::FieldMissing)), (3, 2));
        }
        other => panic!("{other:?}"),
    }
    let allowed = ReadOptions { allow_dropped: true, ..dropping.clone() };
    assert_eq!(read("x.jsonl", rows.as_bytes(), &allowed).expect("allowed").examples.len(), 1);
    // Half is not more than half; duplicates were asked for.
    let half = "{\"question\": \"a\", \"answer\": \"b\"}\n{}\n";
    assert!(read("x.jsonl", half.as_bytes(), &dropping).is_ok());
    let same = "{\"text\": \"a\"}\n".repeat(9);
    let once = ReadOptions { deduplicate: true, ..dropping };
    assert_eq!(read("x.jsonl", same.as_bytes(), &once).expect("asked for").report.kept(), 1);
}

#[test]
fn tables() {
    for (name, table) in [
        ("x.csv", "sep=;\nquestion;answer\n如何退货?;七天内可退。\n"),
        ("x.csv", "\"sep=|\"\r\nQuestion|Answer\r\n如何退货?|七天内可退。\r\n"),
        ("x.csv", "提问\t回复\n如何退货?\t七天内可退。\n"),
        ("x.tsv", "id,问题,回答\n1,如何退货?,七天内可退。\n"),
        ("x.txt", "question\tanswer\n如何退货?\t七天内可退。\n"),
        ("x.dat", "指令|输入|输出\n如何退货?||七天内可退。\n"),
        ("x.txt", "{\"query\": \"如何退货?\", \"response\": \"七天内可退。\"}\n"),
    ] {
        assert_eq!(shown(&set(name, table.as_bytes()).examples), [QA], "{table}");
    }
    let columns = Some("question=客户问题,answer=回复".parse().expect("columns"));
    let options = ReadOptions { columns, ..Default::default() };
    let table = "编号;客户问题;问题;回复\n1;如何退货?;x;七天内可退。\n";
    let set = read("x.csv", table.as_bytes(), &options).expect("named");
    assert_eq!(shown(&set.examples), [QA]);
    assert_eq!(set.report.unused.keys().collect::<Vec<_>>(), ["编号", "问题"]);
    for malformed in ["", "question=a", "question=a,answer=", "a=b,c=d", "question=a,question=b"] {
        assert!(malformed.parse::<lightglm_train::data::Columns>().is_err(), "{malformed}");
    }
    // A text that has a comma in its first line stays one.
    let text = super::shapes::set("x.txt", "question, he said\nand so on\n".as_bytes());
    assert_eq!(text.format, DataFormat::Text);
}

#[test]
fn what_stands_twice_is_told() {
    let table = "question,answer,answer,,\n如何退货?,七天内可退。,old,,x\n";
    let set = set("x.csv", table.as_bytes());
    assert_eq!(shown(&set.examples), [QA]);
    assert_eq!(set.report.unused.keys().collect::<Vec<_>>(), ["(column 3) answer", "(column 5)"]);
    let twice = r#"{"question": "a", "answer": "b", "answer": "c"}"#;
    let error = read("x.jsonl", twice.as_bytes(), &ReadOptions::default()).expect_err("twice");
    assert!(error.to_string().contains("\"answer\" stands twice"), "{error}");
    let columns = Some("question=a,answer=b".parse().expect("columns"));
    let options = ReadOptions { columns, format: Some(DataFormat::Alpaca), ..Default::default() };
    let error = read("x.jsonl", b"{}", &options).expect_err("of another format");
    assert!(matches!(error, DataError::ColumnsOfOtherFormat { .. }), "{error}");
}

#[test]
fn layouts_of_json() {
    let one = r#"{"question": "如何退货?", "answer": "七天内可退。"}"#;
    let pretty = one.replace(", ", ",\n  ").replace('{', "{\n  ").replace('}', "\n}");
    for (file, count, unused) in [
        (format!("{{\"data\": [{one}, {one}]}}"), 2, &[][..]),
        (
            format!("{{\"version\": 1, \"rows\": [\n{one},\n{one},\n], \"n\": 2}}"),
            2,
            &["n", "version"],
        ),
        (format!("{{\"1\": {one},\n \"b:\\\"\": {one}}}"), 2, &[]),
        (format!("{pretty}\n{pretty}\n{pretty}\n"), 3, &[]),
        (format!("[{pretty},\n{one},]"), 2, &[]),
        (format!("{one}\n{{\"prompt\": \"如何退货?\", \"response\": \"七天内可退。\"}}"), 2, &[]),
        (
            r#"{"question": ["如何退货?"], "answer": ["七天内可退。"], "k": 1}"#.to_owned(),
            1,
            &["k"],
        ),
        (r#"{"answer": {"0": "七天内可退。"}, "question": {"0": "如何退货?"}}"#.to_owned(), 1, &[]),
    ] {
        for name in ["x.json", "x.jsonl"] {
            let set = set(name, file.as_bytes());
            assert_eq!(shown(&set.examples), vec![QA; count], "{file}");
            assert_eq!(set.report.unused.keys().collect::<Vec<_>>(), unused, "{file}");
        }
    }
    let columns = Some("question=客户问题,answer=回复内容".parse().expect("columns"));
    let options = ReadOptions { columns, ..Default::default() };
    let named = r#"{"list": [{"客户问题": "如何退货?", "回复内容": "七天内可退。"}]}"#;
    let named = read("x.json", named.as_bytes(), &options).expect("named");
    assert_eq!(shown(&named.examples), [QA]);
    let joined = format!("{one}\n\u{feff}{one}\n");
    assert_eq!(shown(&set("x.jsonl", joined.as_bytes()).examples), [QA, QA]);
    let dict = format!("{{\"data\": [\n{one},\n{{\"question\": \"x\"}}]}}");
    let error = read("x.json", dict.as_bytes(), &ReadOptions::default()).expect_err("no answer");
    assert_eq!(error.to_string().split('/').next_back(), Some("x.json:3: answer: it is not there"));
    let cut = format!("{{\"data\": [{one}, ");
    assert!(read("x.json", cut.as_bytes(), &ReadOptions::default()).is_err());
}

#[test]
fn folders_and_compression() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("one")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    };
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let gbk = encoding_rs::GBK.encode("问题,答案\n如何退货?,七天内可退。\n").0;
    std::io::Write::write_all(&mut gz, &gbk).expect("in memory");
    write("data/b.csv.gz", &gz.finish().expect("in memory"));
    write("data/a.jsonl", b"{\"prompt\": \"a\", \"completion\": \"b\", \"id\": 1}\n{}\n");
    write("README.md", b"about it");
    write(".hidden.jsonl", b"?");
    let dropping = ReadOptions { on_bad_row: OnBadRow::Drop, ..Default::default() };
    let set = read_examples(folder.path(), &dropping).expect("rows");
    assert_eq!(shown(&set.examples), ["user: a | assistant: b", QA]);
    let report = set.report.to_string();
    for word in
        ["a.jsonl: UTF-8", "b.csv.gz: GB18030", "README.md: passed over", "a.jsonl: prompt", "id"]
    {
        assert!(report.contains(word), "no {word} in {report}");
    }
    for (name, bytes, word) in [
        ("x.parquet", &b"PAR1...."[..], "Parquet"),
        ("x.jsonl", b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
        ("x.jsonl.zst", b"\x28\xb5\x2f\xfd", "zstd"),
    ] {
        let error = read(name, bytes, &dropping).expect_err("no text").to_string();
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
}

#[test]
fn pairs_of_fields() {
    for (json, expected) in [
        (r#"{"query": "a", "response": "b", "system": "s", "history": [["c", "d"]]}"#,
         "system: s | user: c | assistant: d | user: a | assistant: b"),
        (r#"{"instruction": "a", "context": "c", "response": "b", "category": "qa"}"#,
         "user: a\nc | assistant: b"),
        (r#"{"instruction": "", "input": "a", "output": "b"}"#, "user: a | assistant: b"),
        (r#"{"problem": "a", "solution": "b", "reasoning_content": "c"}"#, "user: a | assistant: b reasoning_content=\"c\""),
        (r#"{"Q": "a", "A": "b"}"#, "user: a | assistant: b"),
        (r#"{"content": "a", "summary": "b"}"#, "user: a | assistant: b"),
        (r#"{"text": "a", "label": 3}"#, "user: a | assistant: 3"),
        (r#"{"问题": "a", "回复": "b"}"#, "user: a | assistant: b"),
        (r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "h"}, {"role": "user", "content": "c"}],
            "completion": [{"role": "assistant", "content": "b"}]}"#.replace('\n', "").leak(),
         "user: a | assistant: h* | user: c | assistant: b"),
        (r#"{"messages": "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"bot\", \"content\": \"b\"}]"}"#,
         "user: a | assistant: b"),
        (r#"{"conversation": [{"system": "s", "input": "a", "output": "b"}, {"input": "c", "output": "d"}]}"#,
         "system: s | user: a | assistant: b | user: c | assistant: d"),
        (r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#,
         "user: a > assistant: b > assistant: c"),
        (r#"{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]}"#,
         "user: a > assistant: b > assistant: c"),
        (r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected_response": "c"}"#,
         "user: a > assistant: b > assistant: c"),
        (r#"{"instruction": "a", "input": "x", "chosen": "b", "rejected": "c"}"#,
         "user: a\nx > assistant: b > assistant: c"),
    ] {
        assert_eq!(row(json), expected, "{json}");
    }
}
