//! Files of every format through the readers.

use std::path::{Path, PathBuf};

use crate::reading::{dropping, file, read_bytes, read_with};
use lightglm_train::data::{
    Columns, Conversation, DataFormat, DropReason, Example, ExampleReader, ExampleSet, OnBadRow,
    ReadOptions, Role, TextUnit, read_examples,
};

fn read(name: &str) -> ExampleSet {
    read_with(name, &ReadOptions::default())
}

/// The turns as `(role, content, learn)`.
fn turns(example: &Example) -> Vec<(Role, &str, bool)> {
    let turns = &example.conversation().expect("a conversation").turns;
    turns.iter().map(|turn| (turn.role, turn.content.as_str(), turn.learn)).collect()
}

use Role::{Assistant, System, Tool, User};

#[test]
fn messages() {
    let set = read("messages.jsonl");
    assert_eq!((set.format, set.examples.len()), (DataFormat::Messages, 3));
    assert_eq!(
        turns(&set.examples[0]),
        [
            (System, "You answer briefly.", false),
            (User, "When do you open?", false),
            (Assistant, "At nine.", true)
        ]
    );
    assert_eq!(
        turns(&set.examples[1]),
        [
            (User, "你好", false),
            (Assistant, "您好!", false),
            (User, "几点关门?", false),
            (Assistant, "晚上六点。", true)
        ]
    );
    assert_eq!(turns(&set.examples[2])[1], (Tool, "", false));
    assert_eq!(set.examples.iter().map(Example::line).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(set.examples[0].conversation().expect("one").extra["id"], 7);
    assert_eq!((set.report.rows, set.report.kept()), (3, 3));
}

#[test]
fn expectations() {
    let set = read("messages.jsonl");
    let conversation = |index: usize| set.examples[index].conversation().expect("one");
    assert!(conversation(0).expectations().is_empty());
    assert_eq!(conversation(0).meets_expectations("At nine."), None);
    assert_eq!(conversation(1).expectations(), ["六点", "18:00"]);
    assert_eq!(conversation(1).meets_expectations("我们 18:00 关门"), Some(true));
    assert_eq!(conversation(1).meets_expectations("七点"), Some(false));
    assert_eq!(conversation(2).meets_expectations("NO"), Some(true));
    assert_eq!(conversation(1).answer(), "晚上六点。");
    assert_eq!(conversation(1).question().len(), 3);
}

#[test]
fn byte_order_mark_carriage_returns_and_blank_lines() {
    let set = read("messages_bom_crlf.jsonl");
    assert_eq!(set.examples.iter().map(Example::line).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(turns(&set.examples[1]), [(User, "二", false), (Assistant, "2", true)]);
    for name in ["faq.csv", "alpaca.json", "text.jsonl"] {
        let plain = std::fs::read_to_string(file(name)).expect("it is there");
        let marked = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
        let examples = read_bytes(marked.as_bytes(), name, ReadOptions::default()).0;
        let lines: Vec<_> =
            examples.into_iter().map(|example| example.expect("good").line()).collect();
        let expected: Vec<_> = read(name).examples.iter().map(Example::line).collect();
        assert_eq!(lines, expected, "{name}");
    }
}

#[test]
fn alpaca_array() {
    let set = read("alpaca.json");
    assert_eq!(set.format, DataFormat::Alpaca);
    assert_eq!(
        turns(&set.examples[0]),
        [(User, "Translate into Chinese.\nGood morning", false), (Assistant, "早上好", true)]
    );
    assert_eq!(turns(&set.examples[1])[0], (User, "说出三种茶。", false));
    assert_eq!(
        turns(&set.examples[2]),
        [
            (System, "Be odd.", false),
            (User, "First?", false),
            (Assistant, "Yes, first.", true),
            (User, "And now?", false),
            (Assistant, "Now \"[this]\", and that}.", true)
        ]
    );
    assert_eq!(set.examples.iter().map(Example::line).collect::<Vec<_>>(), [2, 7, 8]);
}

#[test]
fn alpaca_lines() {
    let set = read("alpaca.jsonl");
    assert_eq!((set.format, set.examples.len()), (DataFormat::Alpaca, 2));
    assert_eq!(turns(&set.examples[1])[0].1, "Add the numbers.\n1, 2");
}

#[test]
fn sharegpt() {
    let set = read("sharegpt.json");
    assert_eq!(set.format, DataFormat::ShareGpt);
    let first = turns(&set.examples[0]);
    assert_eq!(first[0], (User, "Hello", false));
    assert_eq!(first.iter().filter(|(.., learn)| *learn).count(), 2);
    let second = turns(&set.examples[1]);
    assert_eq!(second[0], (System, "Be kind.", false));
    assert_eq!(second[2], (Tool, "{\"sky\": \"blue\"}", false));
    assert_eq!(set.examples[1].line(), 2);
    // The same with the field names of messages.
    let other =
        br#"{"conversations": [{"role": "user", "content": "a"}, {"from": "gpt", "value": "b"}]}"#;
    let examples = read_bytes(other, "x.jsonl", ReadOptions::default()).0;
    assert_eq!(
        turns(examples[0].as_ref().expect("good")),
        [(User, "a", false), (Assistant, "b", true)]
    );
}

#[test]
fn prompt_and_completion() {
    let set = read("prompt_completion.jsonl");
    assert_eq!(set.format, DataFormat::PromptCompletion);
    assert_eq!(
        turns(&set.examples[0]),
        [(User, "The capital of France is", false), (Assistant, " Paris.", true)]
    );
}

#[test]
fn text_lines_paragraphs_and_files() {
    let texts = |set: ExampleSet| {
        let text = |example: &Example| match example {
            Example::Text(text) => (text.line, text.text.clone()),
            other => panic!("{other:?}"),
        };
        assert_eq!(set.format, DataFormat::Text);
        set.examples.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(texts(read("text.jsonl"))[1], (2, "茶叶可以保存十八个月。".into()));
    assert_eq!(
        texts(read("paragraphs.txt")),
        [(1, "First line,\nsecond line.".into()), (5, "  indented 段落\n\tand more".into())]
    );
    let options = ReadOptions { text_unit: TextUnit::File, ..Default::default() };
    let whole = std::fs::read_to_string(file("paragraphs.txt")).expect("it is there");
    assert_eq!(texts(read_with("paragraphs.txt", &options)), [(1, whole)]);
}

#[test]
fn questions_and_answers() {
    let set = read("faq.csv");
    assert_eq!(set.format, DataFormat::QuestionAnswer);
    assert_eq!(
        turns(&set.examples[0]),
        [(User, "Do you ship to \"islands\"?", false), (Assistant, "Yes,\nbut slowly.", true)]
    );
    let second = set.examples[1].conversation().expect("one");
    assert_eq!((second.line, second.answer()), (5, "九点。"));
    assert_eq!(second.extra["topic"], "hours");
}

#[test]
fn texts_and_labels() {
    let set = read("banking.csv");
    assert_eq!(set.format, DataFormat::QuestionAnswer);
    let answers: Vec<_> = set.examples.iter().filter_map(Example::conversation).collect();
    let answers: Vec<&str> = answers.into_iter().map(Conversation::answer).collect();
    assert_eq!(answers, ["card_arrival", "card_arrival", "get_physical_pin"]);
    assert_eq!(turns(&set.examples[2])[0].1, "My 5\" screen shows no PIN");
    let lines = br#"{"text": "Where is it?", "category": "card_arrival", "idx": 3}"#;
    let examples = read_bytes(lines, "x.jsonl", ReadOptions::default()).0;
    assert_eq!(turns(examples[0].as_ref().expect("good"))[1].1, "card_arrival");
}

#[test]
fn named_columns_and_a_system_turn() {
    let columns = Columns { question: "utterance".into(), answer: "intent".into() };
    let system = Some("Name the intent.".to_owned());
    let options = ReadOptions { columns: Some(columns), system, ..Default::default() };
    let set = read_with("intents.tsv", &options);
    assert_eq!(
        turns(&set.examples[0]),
        [
            (System, "Name the intent.", false),
            (User, "Where is \"my\" card?", false),
            (Assistant, "card_arrival", true)
        ]
    );
    // Who has a system turn keeps it.
    let options = ReadOptions { system: options.system, ..Default::default() };
    let set = read_with("messages.jsonl", &options);
    assert_eq!(turns(&set.examples[0])[0].1, "You answer briefly.");
    assert_eq!(turns(&set.examples[1])[0].1, "Name the intent.");
}

#[test]
fn a_named_format_wins_over_the_fields() {
    let line =
        br#"{"text": "t", "prompt": "p", "completion": "c", "question": "q", "answer": "a"}"#;
    for (format, question) in
        [(DataFormat::PromptCompletion, "p"), (DataFormat::QuestionAnswer, "q")]
    {
        let options = ReadOptions { format: Some(format), ..Default::default() };
        let examples = read_bytes(line, "x.txt", options).0;
        assert_eq!(turns(examples[0].as_ref().expect("good"))[0].1, question, "{format}");
    }
}

#[test]
fn names_of_formats() {
    for format in DataFormat::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    let error = "parquet".parse::<DataFormat>().expect_err("no such format");
    assert!(error.to_string().contains("sharegpt"), "{error}");
    assert_eq!("drop".parse(), Ok(OnBadRow::Drop));
    assert!("maybe".parse::<OnBadRow>().is_err());
    assert_eq!(TextUnit::File.to_string().parse(), Ok(TextUnit::File));
}

#[test]
fn duplicates_go_only_where_asked() {
    assert_eq!(read_with("bad_messages.jsonl", &dropping()).report.kept(), 2);
    let options = ReadOptions { deduplicate: true, ..dropping() };
    let report = read_with("bad_messages.jsonl", &options).report;
    assert_eq!(report.kept(), 1);
    assert_eq!(report.dropped[&DropReason::Duplicate].first_lines, [19]);
    // On one line, and without an error where bad rows fail.
    let array = br#"[{"text": "a"}, {"text": "b"}, {"text": "a", "id": 3}]"#;
    let options = ReadOptions { deduplicate: true, ..Default::default() };
    let (examples, dropped) = read_bytes(array, "x.json", options);
    assert_eq!(examples.iter().filter(|example| example.is_ok()).count(), 2);
    assert_eq!(dropped, [(DropReason::Duplicate, 1, vec![1])]);
}

/// A stream that gives one byte at a time, and an interruption before each.
struct Trickle<'a>(&'a [u8], bool);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let len = buffer.len().min(1).min(self.0.len());
        buffer[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

#[test]
fn pieces_of_any_size_read_the_same() {
    for name in ["messages_bom_crlf.jsonl", "alpaca.json", "faq.csv", "paragraphs.txt"] {
        let bytes = std::fs::read(file(name)).expect("it is there");
        let trickle = std::io::BufReader::with_capacity(1, Trickle(&bytes, false));
        let reader = ExampleReader::new(trickle, Path::new(name), ReadOptions::default());
        let examples: Vec<_> =
            reader.expect("good").map(|example| example.expect("good")).collect();
        assert_eq!(examples, read(name).examples, "{name}");
    }
}

// What the project itself brings along.

#[test]
fn the_faq_is_learnable_and_measurable() {
    let path =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(name);
    let options = ReadOptions { deduplicate: true, ..Default::default() };
    let read = |name: &str| read_examples(path(name), &options).expect("good");
    let (train, test) = (read("faq_train.jsonl"), read("faq_test.jsonl"));
    assert_eq!((train.report.kept(), test.report.kept()), (60, 24));
    let conversations = |set: ExampleSet| {
        let examples = set.examples.into_iter();
        examples.filter_map(|example| example.conversation().cloned()).collect::<Vec<_>>()
    };
    let (train, test) = (conversations(train), conversations(test));
    let chinese = |conversation: &&Conversation| {
        conversation.answer().chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
    };
    assert_eq!(train.iter().filter(chinese).count(), 30);
    assert_eq!(test.iter().filter(chinese).count(), 12);
    for conversation in &test {
        let question = &conversation.question()[0].content;
        assert_eq!(conversation.meets_expectations(conversation.answer()), Some(true));
        assert_eq!(conversation.meets_expectations(question), Some(false), "{question}");
        let mut asked = train.iter().map(|other| &other.question()[0].content);
        assert!(asked.all(|other| other != question), "{question}");
        let mut answers = train.iter().map(Conversation::answer);
        assert!(answers.any(|answer| answer == conversation.answer()), "{question}");
    }
}

#[test]
fn banking77_as_it_is_distributed() {
    let Some(path) = shared("data/banking77/train.jsonl") else { return };
    let set = read_examples(&path, &ReadOptions::default()).expect("good");
    assert_eq!((set.format, set.examples.len()), (DataFormat::QuestionAnswer, 10_003));
    let label = |example: &Example| example.conversation().map(|c| c.answer().to_owned());
    let drawn = lightglm_train::data::take_evenly(set.examples, 2_000, 1, label);
    let mut counts = std::collections::BTreeMap::new();
    drawn.iter().for_each(|example| *counts.entry(label(example)).or_insert(0) += 1);
    assert_eq!((drawn.len(), counts.len()), (2_000, 77));
    assert!(counts.values().all(|count| (25..=26).contains(count)), "{counts:?}");
}

/// A file of the shared folder, where there is one.
fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = folder.unwrap_or(beside).join(name);
    let found = path.exists();
    if !found {
        println!("skipped: {} is not there", path.display());
    }
    found.then_some(path)
}
