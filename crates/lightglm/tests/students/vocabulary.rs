//! Smaller vocabularies: the same pieces for the texts that decided, the same texts back for all others, and the logits
//! of the tokens that are left.

use std::fs;
use std::path::Path;

use lightglm::prune::{KeepTokens, PruneOptions, kept_tokens, prune};
use lightglm::{LoadOptions, Model};
use lightglm_text::{Message, Tokenizer};
use serde_json::{Value, json};

use super::fixture::{logits, open};
use super::tiny_model;

const TEXT: &str = "The theory in the end: 中文, then the rest of the other one.\n  And so on…";

fn keep() -> KeepTokens {
    KeepTokens { texts: vec![TEXT.to_owned()], ids: vec![299] }
}

fn pruned(folder: &Path, student: &Path) -> Vec<u32> {
    let vocabulary = Some(keep());
    let options = PruneOptions { vocabulary, ..PruneOptions::default() };
    let report = prune(&open(folder), &options, student).unwrap();
    assert!(report.after.parameters < report.before.parameters);
    report.slice.vocabulary.iter().map(|&id| id as u32).collect()
}

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode_text(text).unwrap();
    ids.into_iter().map(|id| tokenizer.id_to_token(id).unwrap().to_owned()).collect()
}

#[test]
fn texts_keep_their_pieces_and_others_come_back() {
    let folder = tiny_model::folder(1);
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    let kept = pruned(folder.path(), &student);
    let (before, after) = (open(folder.path()), open(&student));
    let (before, after) = (before.tokenizer().unwrap(), after.tokenizer().unwrap());
    assert!(after.vocab_size() < before.vocab_size());
    assert_eq!(after.vocab_size(), kept.len());
    assert!(after.covers_every_byte());
    assert_eq!(pieces(&after, TEXT), pieces(&before, TEXT));
    // The new ids are those that the rows of the table have.
    let ids = after.encode_text(TEXT).unwrap();
    let old: Vec<u32> = ids.iter().map(|&id| kept[id as usize]).collect();
    assert_eq!(old, before.encode_text(TEXT).unwrap());
    for text in
        ["Größe 🙂 다른", "a <|user|> that is none", "\u{0}\u{7f} \t\r\n", "", "0x7f == 127"]
    {
        let ids = after.encode_text(text).unwrap();
        assert_eq!(after.decode(&ids, false), text);
    }
    for token in ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|endoftext|>"] {
        let (old, new) = (before.token_to_id(token).unwrap(), after.token_to_id(token).unwrap());
        assert_eq!(kept[new as usize], old, "{token}");
        assert!(after.is_special(new));
    }
    let front = |tokenizer: &Tokenizer| -> Vec<String> {
        let names = tokenizer.front().iter().map(|&id| tokenizer.id_to_token(id).unwrap());
        names.map(str::to_owned).collect()
    };
    assert_eq!(front(&after), front(&before));
}

/// Random pieces of text: what the kept vocabulary makes of a text that it was made for is what the whole one made.
#[test]
fn any_text_keeps_its_pieces_where_it_decides() {
    let folder = tiny_model::folder(2);
    let checkpoint = open(folder.path());
    let before = checkpoint.tokenizer().unwrap();
    let words =
        ["the", " the", "  in", "de", "ar", "中文", "的", "他们", " other", "ing", "\n\n", "!?"];
    let mut state = 1_u64;
    for case in 0..20 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text += words[(state >> 33) as usize % words.len()];
        }
        let keep = KeepTokens { texts: vec![text.clone()], ids: Vec::new() };
        let out = tempfile::tempdir().unwrap();
        let options = PruneOptions { vocabulary: Some(keep), ..PruneOptions::default() };
        prune(&checkpoint, &options, &out.path().join("student")).unwrap();
        let after = open(&out.path().join("student")).tokenizer().unwrap();
        assert_eq!(pieces(&after, &text), pieces(&before, &text), "{case}: {text:?}");
        // A text of other words, in the one direction or the other.
        let other: String = text.chars().rev().collect();
        assert_eq!(after.decode(&after.encode_text(&other).unwrap(), false), other);
    }
}

#[test]
fn logits_are_the_kept_columns() {
    let folder = tiny_model::folder(3);
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    let kept = pruned(folder.path(), &student);
    let tokens: Vec<u32> = (0..24).map(|i| (i * 7) % kept.len() as u32).collect();
    let old: Vec<u32> = tokens.iter().map(|&id| kept[id as usize]).collect();
    let vocab_size = open(folder.path()).config().vocab_size;
    let whole = logits(folder.path(), &old);
    let rows = whole.chunks(vocab_size);
    let columns = |row: &[f32]| kept.iter().map(|&id| row[id as usize]).collect::<Vec<f32>>();
    let expected: Vec<f32> = rows.flat_map(columns).collect();
    assert_eq!(logits(&student, &tokens), expected);
}

/// What the files say of ids is said of the new ones.
#[test]
fn files_have_the_new_ids() {
    let folder = tiny_model::folder(4);
    let path = folder.path();
    let generation = json!({
        "eos_token_id": [302, 309, 311], "pad_token_id": 302, "temperature": 0.5,
        "suppress_tokens": [305, 290], "bad_words_ids": [[290], [304, 290], [304, 306]]
    });
    fs::write(path.join("generation_config.json"), generation.to_string()).unwrap();
    let decoder = json!({
        "302": {"content": "<|endoftext|>", "special": true}, "309": {"content": "<|user|>", "special": true}
    });
    let config = json!({"added_tokens_decoder": decoder, "eos_token": "<|endoftext|>"});
    fs::write(path.join("tokenizer_config.json"), config.to_string()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    let kept = pruned(path, &student);
    assert!(!kept.contains(&290), "the test's token that goes");
    let new = |id: u32| kept.binary_search(&id).unwrap();
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(student.join(name)).unwrap()).unwrap()
    };
    let expected = json!({
        "eos_token_id": [new(302), new(309), new(311)], "pad_token_id": new(302), "temperature": 0.5,
        "suppress_tokens": [new(305)], "bad_words_ids": [[new(304), new(306)]]
    });
    assert_eq!(read("generation_config.json"), expected);
    assert_eq!(read("config.json")["eos_token_id"], json!([new(302), new(309), new(311)]));
    assert_eq!(read("config.json")["vocab_size"], kept.len());
    let decoder = &read("tokenizer_config.json")["added_tokens_decoder"];
    assert_eq!(decoder[new(309).to_string()]["content"], "<|user|>");
    assert_eq!(decoder.as_object().unwrap().len(), 2);
    // It is a model that converses.
    let model = Model::open(&student, LoadOptions::default()).unwrap();
    let prompt = model.text().prompt(&[Message::user("the end")], &[], true).unwrap();
    let ids = prompt.encode(&model.text().tokenizer).unwrap();
    assert!(ids.iter().all(|&id| (id as usize) < kept.len()));
}

/// The other way of writing a vocabulary down: merges as texts, control tokens among the others, an unknown token, and
/// tokens around a text that a post-processor of another kind names.
#[test]
fn older_files_are_cut_too() {
    let folder = tiny_model::folder(5);
    let file = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for merge in json["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    json["model"]["vocab"]["<|endoftext|>"] = json!(302);
    json["model"]["unk_token"] = json!("<|endoftext|>");
    json["post_processor"] = json!({
        "type": "RobertaProcessing", "sep": ["<eop>", 307], "cls": ["<sop>", 306],
        "trim_offsets": true, "add_prefix_space": false
    });
    fs::write(&file, json.to_string()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    pruned(folder.path(), &student);
    let after = open(&student).tokenizer().unwrap();
    let before = open(folder.path()).tokenizer().unwrap();
    assert!(after.vocab_size() < before.vocab_size());
    assert_eq!(pieces(&after, TEXT), pieces(&before, TEXT));
    let ids = after.encode_with_post_processor("the end").unwrap();
    let around = [ids.first(), ids.last()].map(|id| after.id_to_token(*id.unwrap()).unwrap());
    assert_eq!(around, ["<sop>", "<eop>"]);
}

#[test]
fn both_halves_of_a_kept_token_are_kept() {
    let folder = tiny_model::folder(6);
    let checkpoint = open(folder.path());
    let keep = KeepTokens { texts: vec![" the".to_owned()], ids: Vec::new() };
    let kept = kept_tokens(&checkpoint, &keep).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    for token in ["Ġthe", "the", "he", "Ġ", "t"] {
        assert!(kept.number(tokenizer.token_to_id(token).unwrap()).is_some(), "{token}");
    }
}
