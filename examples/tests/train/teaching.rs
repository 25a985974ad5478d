//! Conversations as token ids, through the chat template of GLM-4-0414: what is learnt of them.

use std::fs;
use std::path::{Path, PathBuf};

use lightglm_examples::teaching::{Classroom, mark};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_text::Tokenizer;
use lightglm_train::data::{Conversation, DropReport, Example, Role, Text, Turn};

/// The fixture model with the fixture tokenizer as one folder, whose end tokens are GLM-4's; `None`
/// where there are no fixtures.
fn folder() -> Option<tempfile::TempDir> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let fixtures = shared.unwrap_or(beside).join("fixtures");
    if !fixtures.is_dir() {
        println!("skipped: {} is not there", fixtures.display());
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let copies = [
        ("glm4/model.safetensors", "model.safetensors"),
        ("tokenizer/tokenizer.json", "tokenizer.json"),
        ("tokenizer/tokenizer_config.json", "tokenizer_config.json"),
        ("tokenizer/chat_template.jinja", "chat_template.jinja"),
    ];
    for (from, to) in copies {
        fs::copy(fixtures.join(from), folder.path().join(to)).unwrap();
    }
    let config = fs::read_to_string(fixtures.join("glm4/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    let ends = ["<|endoftext|>", "<|user|>", "<|observation|>"];
    config["eos_token_id"] = ends.map(|end| tokenizer.token_to_id(end).unwrap()).to_vec().into();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Some(folder)
}

fn conversation(turns: &[(Role, &str)]) -> Conversation {
    let turns = turns.iter().map(|(role, content)| Turn::new(*role, *content)).collect();
    Conversation { turns, line: 7, extra: serde_json::Map::new() }
}

/// The whole text, and what is learnt of it, each run by itself.
fn learnt(folder: &Path, example: Example) -> (String, Vec<String>) {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let classroom = Classroom::open(&checkpoint).unwrap();
    let mut report = DropReport::default();
    let all = classroom.tokenize(&[example], 500, &mut report).unwrap();
    assert_eq!((all.len(), report.total_dropped(), all[0].line), (1, 0, 7));
    let (mut runs, mut run) = (Vec::new(), Vec::new());
    for target in all[0].targets.iter().chain([&None]) {
        match target {
            Some(token) => run.push(*token),
            None if run.is_empty() => {}
            None => runs.push(tokenizer.decode(&std::mem::take(&mut run), false)),
        }
    }
    (tokenizer.decode(&all[0].tokens, false), runs)
}

#[test]
fn answers_are_learnt_with_the_token_that_ends_them() {
    let Some(folder) = folder() else { return };
    use Role::{Assistant, System, User};
    let one = conversation(&[(System, "Be brief."), (User, "Hi"), (Assistant, "Hello 您好")]);
    let (text, runs) = learnt(folder.path(), Example::Conversation(one));
    assert_eq!(runs, ["\nHello 您好<|user|>"], "{text}");
    assert!(text.ends_with("<|user|>\nHi<|assistant|>\nHello 您好<|user|>"), "{text}");

    let mut two = conversation(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]);
    let (text, runs) = learnt(folder.path(), Example::Conversation(two.clone()));
    assert_eq!(runs, ["\nb<|user|>", "\nd<|user|>"], "{text}");
    two.turns[1].learn = false;
    let (text, runs) = learnt(folder.path(), Example::Conversation(two));
    assert_eq!(runs, ["\nd<|user|>"], "{text}");
}

/// What a user writes is never a special token, in training as little as in serving.
#[test]
fn special_tokens_in_contents_stay_text() {
    let Some(folder) = folder() else { return };
    let turns = [(Role::User, "<|assistant|>"), (Role::Assistant, "<|user|>ok")];
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let classroom = Classroom::open(&checkpoint).unwrap();
    let example = Example::Conversation(conversation(&turns));
    let all = classroom.tokenize(&[example], 500, &mut DropReport::default()).unwrap();
    let id = |token| checkpoint.tokenizer().unwrap().token_to_id(token).unwrap();
    let count = |token| all[0].tokens.iter().filter(|&&t| t == id(token)).count();
    // The template's own, and the one that ends the answer.
    assert_eq!((count("<|user|>"), count("<|assistant|>")), (2, 1));
    assert_eq!(all[0].targets.iter().flatten().last(), Some(&id("<|user|>")));
}

#[test]
fn texts_are_cut_and_long_conversations_left_out() {
    let Some(folder) = folder() else { return };
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let classroom = Classroom::open(&checkpoint).unwrap();
    let text = Example::Text(Text { text: "abc ".repeat(40), line: 7 });
    let long = Example::Conversation(conversation(&[
        (Role::User, "a"),
        (Role::Assistant, &"b ".repeat(40)),
    ]));
    let mut report = DropReport::default();
    let all = classroom.tokenize(&[text, long], 16, &mut report).unwrap();
    assert_eq!(report.total_dropped(), 1);
    assert!(all.len() > 2 && all.iter().all(|piece| piece.tokens.len() <= 16));
    let tokens: Vec<u32> = all.iter().flat_map(|piece| piece.tokens.clone()).collect();
    let decoded = checkpoint.tokenizer().unwrap().decode(&tokens, true);
    assert_eq!(decoded, "abc ".repeat(40));
}

#[test]
fn marks() {
    let mut faq = conversation(&[(Role::User, "How long?"), (Role::Assistant, "30 days.")]);
    let label = conversation(&[(Role::User, "x"), (Role::Assistant, "card_arrival")]);
    faq.extra.insert("expect".into(), serde_json::json!(["30 days"]));
    let answers = ["You have 30 days for it.", " Card_arrival\n", "card"].map(|a| Some(a.into()));
    let rows = [&faq, &label, &label];
    let marks = mark(&rows, &answers);
    assert_eq!((marks.asked, marks.right), (3, 2));
    // Who was not asked does not count.
    let marks = mark(&rows, &[None, None, Some("card_arrival".into())]);
    assert_eq!((marks.asked, marks.right, marks.accuracy), (1, 1, 1.0));
}
