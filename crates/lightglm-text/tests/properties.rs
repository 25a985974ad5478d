//! What holds for every text, whatever it says.

use lightglm_text::ChatText;
use lightglm_text::{ChatTemplate, Message, ModelText, Tokenizer};
use proptest::prelude::*;
use std::sync::LazyLock;

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_bytes(include_bytes!("data/text/tokenizer.json")).unwrap());

static TEXT: LazyLock<ModelText> = LazyLock::new(|| ModelText {
    tokenizer: TOKENIZER.clone(),
    template: ChatTemplate::glm4_0414(),
    eos_token_ids: vec![304],
});

/// Control tokens, their halves, and ordinary text, in any order.
fn hostile_text() -> impl Strategy<Value = String> {
    let names: Vec<String> = TOKENIZER
        .special_token_ids()
        .iter()
        .map(|id| TOKENIZER.id_to_token(*id).unwrap().to_owned())
        .collect();
    let piece = prop_oneof![
        proptest::sample::select(names.clone()),
        (proptest::sample::select(names), 0usize..20, 0usize..20).prop_map(|(name, a, b)| {
            let (a, b) = (a.min(name.len()), b.min(name.len()));
            name[a.min(b)..a.max(b)].to_owned()
        }),
        proptest::sample::select(vec!["<|", "|>", " ", "\n", "你", "😀", "\0", "\u{100000}", "\""])
            .prop_map(str::to_owned),
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_text_becomes_a_control_token(text in hostile_text()) {
        let ids = TOKENIZER.encode_text(&text).unwrap();
        prop_assert!(!ids.iter().any(|id| TOKENIZER.is_special(*id)));
        prop_assert_eq!(TOKENIZER.decode(&ids, false), text.as_str());
        prop_assert_eq!(TOKENIZER.decode(&ids, true), text.as_str());
        // As a server sees it: what the tokenizer puts in front of every text, and the text.
        let prompt = TEXT.encode_prompt(&text).unwrap();
        let (front, rest) = prompt.split_at(prompt.len() - ids.len());
        prop_assert_eq!(front, TOKENIZER.encode_with_post_processor("").unwrap());
        prop_assert_eq!(rest, ids);
        let bytes = rest.iter().filter_map(|&id| TEXT.token_bytes(id)).flatten();
        prop_assert!(bytes.copied().eq(text.bytes()));
        prop_assert!(front.iter().all(|&id| TEXT.token_bytes(id).is_none()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn contents_add_no_control_token(
        system in hostile_text(), user in hostile_text(), meta in hostile_text()
    ) {
        let messages = [
            Message::system(system),
            Message::user(user.as_str()),
            Message::assistant(user).with("metadata", format!("f{meta}")),
        ];
        let tools = [serde_json::json!({ "name": meta, "parameters": { meta.as_str(): meta } })];
        let prompt = ChatTemplate::glm4_0414().render(&messages, &tools, true).unwrap();
        let ids = prompt.encode(&TOKENIZER).unwrap();
        let special: Vec<u32> =
            ids.iter().copied().filter(|id| TOKENIZER.is_special(*id)).collect();
        prop_assert_eq!(special, [304, 306, 308, 308, 309, 310, 310]);
        prop_assert_eq!(TOKENIZER.decode(&ids, false), prompt.text());
    }

    #[test]
    fn streamed_ids_are_the_text_of_all_ids(
        ids in proptest::collection::vec(0u32..330, 0..60), skip_special: bool
    ) {
        let mut stream = TOKENIZER.decode_stream(skip_special);
        let mut text = String::new();
        for id in &ids {
            if let Some(piece) = stream.push(*id) {
                prop_assert!(!piece.is_empty());
                text += &piece;
            }
        }
        text += &stream.finish().unwrap_or_default();
        prop_assert_eq!(text, TOKENIZER.decode(&ids, skip_special));
    }

    #[test]
    fn no_tokenizer_is_made_of_anything(bytes: Vec<u8>) {
        prop_assert!(Tokenizer::from_bytes(&bytes).is_err());
    }
}

#[test]
fn long_texts_of_one_kind_survive() {
    for unit in [" ", "\n", "a", "1", "|", "<|user|>", "你", " \n", "\t"] {
        let text = unit.repeat(50_000);
        let ids = TOKENIZER.encode_text(&text).unwrap();
        assert_eq!(TOKENIZER.decode(&ids, true), text, "{unit:?}");
    }
}
