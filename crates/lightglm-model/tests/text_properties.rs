//! What holds for every text, whatever it says.

use lightglm_generation::ChatText;
use lightglm_model::text::{
    ChatTemplate, Message, ModelText, ParsedReply, Tokenizer, ToolCallEvent, ToolCallStream,
    parse_tool_calls,
};
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

/// Names, braces and line breaks, so that calls are found, broken and cut short.
fn reply_text() -> impl Strategy<Value = String> {
    let pieces = vec![
        "f",
        "get_weather",
        "get",
        "\n",
        " ",
        "{",
        "}",
        "{}",
        "\"",
        "\"a\":",
        "1",
        "[",
        "]",
        ",",
        "\\",
        "{\"a\": {\"b\": \"}\"}}",
        "text",
        "你",
        "null",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..40).prop_map(|p| p.concat())
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
    fn a_streamed_reply_is_the_parsed_reply(text in reply_text(), step in 1usize..7) {
        let names = ["f", "get_weather", "get", "null"];
        let whole = parse_tool_calls(&text, &names);
        let mut stream = ToolCallStream::new(&names);
        let characters: Vec<char> = text.chars().collect();
        let mut events = Vec::new();
        for piece in characters.chunks(step) {
            events.extend(stream.push(&piece.iter().collect::<String>()));
        }
        events.extend(stream.finish());
        let mut reply = ParsedReply::default();
        let mut open = 0;
        for event in events {
            match event {
                ToolCallEvent::Content(text) => reply.content += &text,
                ToolCallEvent::CallStarted { .. } => open += 1,
                ToolCallEvent::CallFinished(call) => { open -= 1; reply.calls.push(call); }
                _ => open -= 1,
            }
            prop_assert!((0..=1).contains(&open));
        }
        prop_assert_eq!(open, 0);
        if whole.calls.is_empty() {
            prop_assert_eq!(&whole.content, &text);
        }
        prop_assert_eq!(reply, whole);
    }

    #[test]
    fn the_parser_takes_anything(text: String, bytes: Vec<u8>) {
        parse_tool_calls(&text, &[text.as_str(), "f"]);
        parse_tool_calls(&String::from_utf8_lossy(&bytes), &["f"]);
        // A tokenizer.json that is none.
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
