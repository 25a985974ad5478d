//! The text side of a model is the same whatever file it comes in; and what is left of it without a
//! chat template.

use std::path::{Path, PathBuf};

use lightglm::{Error, LoadOptions, Model, Request};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_text::{ChatText, ChatTextError, Message, ModelText};
use lightglm_train::data::{ConversationTokenizer, DropReport, ReadOptions, TokenizeError};
use lightglm_train::data::{Example, read_examples};

use crate::tiny_model::greedy;

/// `shared/cases`.
fn cases() -> Option<PathBuf> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let cases = shared.unwrap_or(beside).join("cases");
    if !cases.is_dir() {
        println!("skipped: {} is not there", cases.display());
        return None;
    }
    Some(cases)
}

fn text(path: &Path) -> ModelText {
    Checkpoint::open(path).unwrap().text().unwrap()
}

/// Plain texts and conversations, of which the answers are learnt.
fn rows() -> Vec<Example> {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        r#"{"text": "Parcels come within 3 to 10 days. 包裹 12345"}"#,
        r#"{"text": "[gMASK] is no token here.\n\nNor is <|user|>."}"#,
        r#"{"messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hi.\n"},
            {"role": "user", "content": "1234?"}, {"role": "assistant", "content": "No."}]}"#,
    ];
    let read = |(at, row): (usize, &str)| {
        let file = folder.path().join(format!("{at}.jsonl"));
        std::fs::write(&file, row.replace('\n', " ")).unwrap();
        read_examples(&file, &ReadOptions::default()).unwrap().examples
    };
    rows.into_iter().enumerate().flat_map(read).collect()
}

#[test]
fn a_folder_and_its_gguf_give_the_same_ids() {
    let Some(cases) = cases() else { return };
    let folder = crate::tiny_model::folder(8);
    let folder = text(folder.path());
    let rows = rows();
    for name in ["glm4", "glm4-chatglmbpe", "glm4-nopre"] {
        let gguf = text(&cases.join(format!("gguf/{name}.gguf")));
        let both = [&folder, &gguf];
        for said in ["Where is my parcel? 12345", "我的包裹\n\n在哪里？", " [gMASK]<sop>"] {
            let [a, b] = both.map(|text| text.encode(said).unwrap());
            assert_eq!(a, b, "{name}: {said}");
            let [a, b] = both.map(|text| text.encode_prompt(said).unwrap());
            assert_eq!(a, b, "{name}: {said}");
            assert_eq!(gguf.tokenizer.decode(&b[..2], false), "[gMASK]<sop>");
            let turns = [Message::system("1"), Message::user(said), Message::assistant(said)];
            for prompt in [true, false] {
                let ids = both.map(|text| text.encode_conversation(&turns, &[], prompt).unwrap());
                assert_eq!(ids[0], ids[1], "{name}: {said}");
            }
        }
        assert_eq!(folder.reply_opening(false), gguf.reply_opening(false));
        // What a perplexity has in front of its windows, too.
        assert_eq!(folder.tokenizer.front(), gguf.tokenizer.front());
        assert_eq!(folder.tokenizer.decode(gguf.tokenizer.front(), false), "[gMASK]<sop>");
        let [a, b] = both.map(|text| {
            let mut report = DropReport::default();
            ConversationTokenizer::new(text).tokenize(&rows, 512, &mut report).unwrap()
        });
        assert_eq!(a.len(), rows.len());
        for (a, b) in a.iter().zip(&b) {
            assert_eq!((&a.tokens, &a.targets), (&b.tokens, &b.targets), "{name}");
        }
    }
}

#[test]
fn without_a_template_texts_are_continued_and_chats_are_told() {
    let Some(cases) = cases() else { return };
    let path = cases.join("gguf2/llama-base-no-template.gguf");
    let model = Model::open(&path, LoadOptions::default()).unwrap();
    let reply = model.complete(Request::text("ab").with_sampling(greedy(4))).unwrap();
    assert_eq!(reply.token_ids.len(), 4);
    assert!(model.score("ab", &["c"]).unwrap()[0].is_finite());
    let check = |error: Error| {
        assert!(matches!(&error, Error::Text(ChatTextError::NoTemplate { .. })), "{error:?}");
        let said = error.to_string();
        for part in ["no chat template", "[gMASK]", "<sop>", "<|assistant|>"] {
            assert!(said.contains(part), "{said}");
        }
    };
    check(model.complete("Hi").unwrap_err());
    check(model.chat().ask("Hi").map(|_| ()).unwrap_err());
    let [text, conversation] = [0, 2].map(|at| rows().swap_remove(at));
    let tokenizer = ConversationTokenizer::new(model.text());
    let mut report = DropReport::default();
    assert_eq!(tokenizer.tokenize(&[text], 512, &mut report).unwrap().len(), 1);
    // The model is at fault, not the row.
    let error = tokenizer.tokenize(&[conversation], 512, &mut report).unwrap_err();
    let TokenizeError::Conversation { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source, ChatTextError::NoTemplate { .. }), "{error:?}");
}
