//! Training files of every format, mutated: no panic, no hang, no memory that a row made up.
//!
//! `LIGHTGLM_FUZZ_EXECS` and the other variables (docs/contributing.md, "Fuzzing") lengthen the run.

use std::path::Path;

use lightglm_testkit::fuzz::{Fuzzer, fingerprint};
use lightglm_train::data::{
    DataError, Example, ExampleReader, OnBadRow, ReadOptions, Role, TextUnit,
};

/// Address space that one run may grow by: far above what 64 KiB of input can ask for with reason.
const MEMORY_GROWTH: u64 = 8 << 30;

/// Below the longest input, so that the limit is met as well.
const MAX_ROW_BYTES: usize = 4 << 10;

fn fuzz(name: &str, extension: &str, seeds: &[&str], tokens: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let seed = |name: &&str| std::fs::read(folder.join(name)).expect("it is there");
    let mut fuzzer = Fuzzer::new(name);
    fuzzer.seeds = seeds.iter().map(seed).collect();
    let all = ["\n", "\r", "\r\n", "\u{feff}", "\u{0}", "\\ud800", " ", "茶"];
    fuzzer.dictionary = all.iter().chain(tokens).map(|token| token.as_bytes().to_vec()).collect();
    // The beginning of UTF-16, and a character of GB18030.
    fuzzer.dictionary.extend([b"\xff\xfe".to_vec(), b"\xb2\xe8".to_vec()]);
    fuzzer.max_memory_growth = Some(MEMORY_GROWTH);
    let path = Path::new("fuzzed").with_extension(extension);
    let report = fuzzer.run(|input| outcome(input, &path)).unwrap_or_else(|f| panic!("{f}"));
    assert!(report.outcomes > 1, "the mutations of {name} all looked alike: {report:?}");
    println!("{name}: {report:?}");
}

/// What failing and dropping make of `input`, and what they promise about each other.
fn outcome(input: &[u8], path: &Path) -> u64 {
    let count = |end: u8| input.iter().filter(|byte| **byte == end).count();
    let lines = count(b'\n').max(count(b'\r')) + 1;
    let options = |on_bad_row| ReadOptions {
        on_bad_row,
        allow_dropped: true,
        max_row_bytes: MAX_ROW_BYTES,
        text_unit: if lines % 2 == 0 { TextUnit::File } else { TextUnit::Paragraph },
        ..Default::default()
    };
    let mut strict = match ExampleReader::new(input, path, options(OnBadRow::Fail)) {
        Ok(reader) => reader,
        // As many as there are headers: no reason to build on each.
        Err(DataError::UnknownFormat { .. }) => return 1,
        Err(error) => return fingerprint(&format_args!("{error}")),
    };
    let read: Vec<Result<Example, DataError>> = strict.by_ref().collect();
    let mut dropping =
        ExampleReader::new(input, path, options(OnBadRow::Drop)).expect("as a moment ago");
    let kept: Vec<_> = dropping.by_ref().collect();
    let mut last_line = 0;
    for example in read.iter().chain(&kept).flatten() {
        check(example);
        // Of a file of columns it is the row's number.
        assert!(example.line() <= lines.max(input.len()));
    }
    for example in kept.iter().flatten() {
        assert!(example.line() >= last_line, "lines go backwards");
        last_line = example.line();
    }
    // What was read until the first error is what dropping begins with.
    let good = read.iter().take_while(|example| example.is_ok()).count();
    let equal = |(left, right): (&Result<_, DataError>, &Result<_, DataError>)| match (left, right)
    {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    };
    assert!(kept.len() >= good && read[..good].iter().zip(&kept).all(equal));
    let report = dropping.report();
    let unknown = kept.iter().filter(|example| example.is_err()).count();
    assert_eq!(report.rows, kept.len() + report.total_dropped(), "{unknown} errors");
    for dropped in report.dropped.values() {
        let last = lines.max(input.len());
        assert!(dropped.first_lines.iter().all(|line| (1..=last).contains(line)), "{report}");
    }
    let error = match read.last() {
        Some(Err(DataError::UnknownFormat { .. })) => 1,
        Some(Err(error)) => fingerprint(&format_args!("{error}")),
        _ => 0,
    };
    let reasons: Vec<_> = report.dropped.keys().collect();
    let reasons = reasons.iter().map(|reason| **reason as u64 + 1).fold(0, |a, b| a * 31 + b);
    error ^ reasons.rotate_left(20) ^ (kept.len().min(15) as u64).rotate_left(40)
}

/// What the readers promise of an example.
fn check(example: &Example) {
    match example {
        Example::Text(text) => assert!(!text.text.trim().is_empty()),
        Example::Preference(preference) => {
            assert!(!preference.chosen.is_empty() && !preference.rejected.is_empty());
        }
        Example::Conversation(conversation) => {
            let turns = &conversation.turns;
            assert!(turns.last().is_some_and(|turn| turn.role == Role::Assistant));
            assert!(turns.iter().any(|turn| turn.learn));
            for turn in turns {
                assert!(!turn.learn || turn.role == Role::Assistant);
                let may_be_empty = matches!(turn.role, Role::System | Role::Tool);
                let says_more = !turn.extra.is_empty();
                assert!(may_be_empty || says_more || !turn.content.trim().is_empty());
            }
            conversation.meets_expectations("an answer");
        }
    }
}

const JSON: [&str; 14] = [
    "\"", "[", "]", "{", "}", ",", ":", "null", "-1e400", "\\", "[[[[[[[[", "\"text\"", "true",
    "},{",
];

#[test]
fn messages() {
    let seeds = ["messages.jsonl", "messages_bom_crlf.jsonl", "bad_messages.jsonl"];
    let tokens = ["\"messages\":", "\"role\":", "\"content\":", "\"weight\": 0", "\"assistant\""];
    fuzz("train_messages", "jsonl", &seeds, &[&JSON[..], &tokens].concat());
}

#[test]
fn alpaca() {
    let seeds = ["alpaca.json", "alpaca.jsonl", "bad_alpaca.json"];
    let tokens = ["\"instruction\":", "\"output\":", "\"history\":", "\"system\":"];
    fuzz("train_alpaca", "json", &seeds, &[&JSON[..], &tokens].concat());
}

#[test]
fn sharegpt() {
    let tokens = ["\"conversations\":", "\"from\":", "\"value\":", "\"gpt\"", "\"human\""];
    fuzz("train_sharegpt", "json", &["sharegpt.json"], &[&JSON[..], &tokens].concat());
}

#[test]
fn pairs_and_text_lines() {
    let seeds = ["prompt_completion.jsonl", "text.jsonl"];
    let tokens = ["\"prompt\":", "\"completion\":", "\"question\":", "\"answer\":", "\"label\":"];
    fuzz("train_pairs", "", &seeds, &[&JSON[..], &tokens].concat());
}

#[test]
fn layouts() {
    let seeds = ["alpaca.json", "messages.jsonl", "prompt_completion.jsonl", "layouts.json"];
    let tokens = [
        "{\"data\": [",
        "{\"0\": {",
        "\"chosen\":",
        "\"rejected\":",
        "\"tool_calls\":",
        "\"tools\":",
        "\"history\":",
        "\"loss\": 0",
        "NaN",
        "\"text\": [\"a\"",
    ];
    fuzz("train_layouts", "json", &seeds, &[&JSON[..], &tokens].concat());
}

#[test]
fn csv() {
    let seeds = ["faq.csv", "banking.csv", "bad_faq.csv"];
    fuzz(
        "train_csv",
        "csv",
        &seeds,
        &["\"", "\"\"", ",", "\",\"", "question", "answer", "text", "sep=;\n", ";"],
    );
}

#[test]
fn tsv() {
    fuzz("train_tsv", "tsv", &["banking.csv", "intents.tsv"], &["\"", "\t", "text", "category"]);
}

#[test]
fn text() {
    fuzz("train_text", "txt", &["paragraphs.txt"], &["\n\n", "\r\n\r\n", "\u{3000}"]);
}
