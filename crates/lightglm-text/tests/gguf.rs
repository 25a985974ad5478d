//! The tokenizer and template that a GGUF file carries, against llama.cpp.

use lightglm_text::GgufVocabulary;
use lightglm_text::{ChatTemplate, Message, TextError, Tokenizer};
use serde_json::Value;

/// A vocabulary in JSON, as tests/data/text/smollm2_reduced.json holds it.
struct Golden {
    vocabulary: GgufVocabulary,
    /// Ids in the whole vocabulary, by id in this one.
    whole_ids: Vec<u32>,
    items: Vec<Value>,
}

fn golden(bytes: &[u8]) -> Golden {
    let mut file: Value = serde_json::from_slice(bytes).unwrap();
    let mut take = |field: &str| file[field].take();
    let vocabulary = GgufVocabulary {
        model: serde_json::from_value(take("model")).unwrap(),
        pre: serde_json::from_value(take("pre")).unwrap(),
        tokens: serde_json::from_value(take("tokens")).unwrap(),
        token_types: serde_json::from_value(take("token_type")).unwrap(),
        merges: serde_json::from_value(take("merges")).unwrap(),
        bos_token_id: serde_json::from_value(take("bos_token_id")).unwrap(),
        eos_token_ids: vec![serde_json::from_value(take("eos_token_id")).unwrap()],
        chat_template: serde_json::from_value(take("chat_template")).unwrap(),
        ..GgufVocabulary::default()
    };
    Golden {
        vocabulary,
        whole_ids: serde_json::from_value(take("ids")).unwrap(),
        items: serde_json::from_value(take("items")).unwrap(),
    }
}

fn check(golden: &Golden) {
    let tokenizer = Tokenizer::from_gguf(&golden.vocabulary).unwrap();
    let template = ChatTemplate::from_gguf(&golden.vocabulary).unwrap();
    for item in &golden.items {
        let messages: Vec<Message> = serde_json::from_value(item["messages"].clone()).unwrap();
        let prompt = template.render(&messages, &[], true).unwrap();
        assert_eq!(prompt.text(), item["prompt"].as_str().unwrap());
        let ids = prompt.encode(&tokenizer).unwrap();
        let whole: Vec<u32> = ids.iter().map(|id| golden.whole_ids[*id as usize]).collect();
        assert_eq!(serde_json::to_value(&whole).unwrap(), item["prompt_tokens"]);
        assert_eq!(tokenizer.encode_with_specials(prompt.text()).unwrap(), ids);
        assert_eq!(tokenizer.decode(&ids, false), prompt.text());

        let mut stream = tokenizer.decode_stream(true);
        let mut output = String::new();
        for id in item["output_tokens"].as_array().unwrap() {
            let whole = u32::try_from(id.as_u64().unwrap()).unwrap();
            let id = golden.whole_ids.binary_search(&whole).unwrap();
            output += &stream.push(u32::try_from(id).unwrap()).unwrap_or_default();
        }
        assert_eq!(output, item["output"].as_str().unwrap());
    }
}

fn reduced() -> Golden {
    golden(include_bytes!("data/text/smollm2_reduced.json"))
}

#[test]
fn a_gguf_vocabulary_has_the_ids_of_llama_cpp() {
    check(&reduced());
}

/// The whole vocabulary in the same form, from the file that LIGHTGLM_SMOLLM2_VOCABULARY names.
#[test]
#[ignore = "needs the vocabulary of SmolLM2 as JSON"]
fn the_whole_vocabulary_has_the_ids_of_llama_cpp() {
    let path = std::env::var("LIGHTGLM_SMOLLM2_VOCABULARY").expect("names the file");
    check(&golden(&std::fs::read(path).unwrap()));
}

#[test]
fn the_tokenizer_json_of_a_vocabulary_is_the_same_tokenizer() {
    let vocabulary = reduced().vocabulary;
    let json = Tokenizer::json_of_gguf(&vocabulary).unwrap();
    let (ours, theirs) = (
        Tokenizer::from_bytes(json.as_bytes()).unwrap(),
        Tokenizer::from_gguf(&vocabulary).unwrap(),
    );
    assert_eq!(ours.special_token_ids(), theirs.special_token_ids());
    for text in ["Hello, world! 12345", "def f(x):\n    return x", "你好，世界 <|im_end|>"] {
        assert_eq!(ours.encode_text(text).unwrap(), theirs.encode_text(text).unwrap());
        let ids = ours.encode_with_specials(text).unwrap();
        assert_eq!(ids, theirs.encode_with_specials(text).unwrap());
        assert_eq!(ours.decode(&ids, false), theirs.decode(&ids, false));
    }
}

#[test]
fn control_tokens_of_a_gguf_file_are_reserved() {
    let vocabulary = reduced().vocabulary;
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    assert_eq!(tokenizer.special_token_ids(), (0..17).collect::<Vec<u32>>());
    let text = "<|im_start|>system\n<repo_name><|im_end|><|endoftext|>";
    let ids = tokenizer.encode_text(text).unwrap();
    assert!(!ids.iter().any(|id| tokenizer.is_special(*id)));
    assert_eq!(tokenizer.decode(&ids, true), text);
    assert_eq!(tokenizer.encode_with_specials("<|im_start|>").unwrap(), [1]);
}

#[test]
fn user_defined_tokens_are_reserved_but_not_skipped() {
    let mut vocabulary = reduced().vocabulary;
    let id = u32::try_from(vocabulary.tokens.len()).unwrap();
    vocabulary.tokens.push("<think>".to_owned());
    vocabulary.token_types.push(4);
    vocabulary.add_bos_token = true;
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode_with_specials("<think>").unwrap(), [id]);
    assert_eq!(tokenizer.encode_with_post_processor("<think>").unwrap(), [1, id]);
    let ids = tokenizer.encode_text("<think>").unwrap();
    assert!(!ids.contains(&id));
    assert_eq!(tokenizer.decode(&[id], true), "<think>");
    assert!(tokenizer.is_special(id));
}

const GLM4_JSON: &[u8] = include_bytes!("data/text/tokenizer.json");

/// What a converter makes of GLM-4's tokenizer.json.
fn glm4_converted(pre: &str) -> GgufVocabulary {
    let file: Value = serde_json::from_slice(GLM4_JSON).unwrap();
    let id = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let ordinary = file["model"]["vocab"].as_object().unwrap().iter();
    let ordinary = ordinary.map(|(token, value)| (id(value), token.as_str(), 1));
    let added = file["added_tokens"].as_array().unwrap().iter();
    let added = added.map(|token| (id(&token["id"]), token["content"].as_str().unwrap(), 3));
    let mut tokens: Vec<(usize, &str, i32)> = ordinary.chain(added).collect();
    tokens.sort_unstable();
    let merge = |merge: &Value| match merge.as_str() {
        Some(pair) => pair.to_owned(),
        None => format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()),
    };
    assert!(tokens.iter().enumerate().all(|(at, token)| at == token.0));
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: pre.to_owned(),
        tokens: tokens.iter().map(|token| token.1.to_owned()).collect(),
        token_types: tokens.iter().map(|token| token.2).collect(),
        merges: file["model"]["merges"].as_array().unwrap().iter().map(merge).collect(),
        ..GgufVocabulary::default()
    }
}

#[test]
fn a_glm_in_gguf_has_the_ids_of_its_tokenizer_json() {
    let folder = Tokenizer::from_bytes(GLM4_JSON).unwrap();
    let [mask, end] = ["[gMASK]", "<|endoftext|>"].map(|token| folder.token_to_id(token));
    // Converters write no BOS, one that is not to be added, or the first of the two tokens.
    for (pre, bos_token_id, add_bos_token) in [
        ("glm4", None, false),
        ("chatglm-bpe", end, false),
        ("glm4", mask, true),
        ("", mask, false),
    ] {
        let vocabulary = GgufVocabulary { bos_token_id, add_bos_token, ..glm4_converted(pre) };
        let gguf = Tokenizer::from_gguf(&vocabulary).unwrap();
        for text in
            ["", "Where is my parcel? 12345", "我的包裹在哪里？\n\n", "[gMASK]<sop>", " a  b\t"]
        {
            let ids = gguf.encode_with_post_processor(text).unwrap();
            assert_eq!(ids, folder.encode_with_post_processor(text).unwrap(), "{pre}: {text}");
            assert_eq!(gguf.decode(&ids[..2], false), "[gMASK]<sop>");
            assert_eq!(gguf.encode_text(text).unwrap(), folder.encode_text(text).unwrap());
        }
    }
}

#[test]
fn only_a_glm_gets_the_prefix_of_a_glm() {
    let begins = |vocabulary: &GgufVocabulary| {
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        tokenizer.decode(&tokenizer.encode_with_post_processor("").unwrap(), false)
    };
    let glm = glm4_converted("glm4");
    assert_eq!(begins(&glm), "[gMASK]<sop>");
    // A BOS that the file asks for, and that is none of the two.
    let end = glm.tokens.iter().position(|token| token == "<|endoftext|>");
    let end = end.and_then(|id| u32::try_from(id).ok());
    let bos = GgufVocabulary { bos_token_id: end, add_bos_token: true, ..glm.clone() };
    assert_eq!(begins(&bos), "<|endoftext|>");
    assert_eq!(begins(&glm4_converted("llama-bpe")), "");
    let mut without = glm.clone();
    let sop = without.tokens.iter().position(|token| token == "<sop>").unwrap();
    without.tokens[sop] = "<sip>".to_owned();
    assert_eq!(begins(&without), "");
    let untyped = GgufVocabulary { token_types: Vec::new(), ..glm };
    assert_eq!(begins(&untyped), "");
}

#[test]
fn every_pre_tokenizer_cuts_as_its_family_does() {
    // Tokens for the digits, and one for each pair of them: where pairs merge, digits stay together.
    let pieces = |pre: &str, text: &str| {
        let vocabulary = GgufVocabulary {
            model: "gpt2".to_owned(),
            pre: pre.to_owned(),
            tokens: ["1", "2", "12", "'", "S", "'S", "Ġ", "ĠĠ"].map(str::to_owned).to_vec(),
            merges: ["1 2", "' S", "Ġ Ġ"].map(str::to_owned).to_vec(),
            ..GgufVocabulary::default()
        };
        let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
        let ids = tokenizer.encode_text(text).unwrap();
        let tokens = ids.into_iter().map(|id| tokenizer.id_to_token(id).unwrap().to_owned());
        tokens.collect::<Vec<_>>()
    };
    assert_eq!(pieces("smollm", "1212"), ["1", "2", "1", "2"]);
    assert_eq!(pieces("qwen2", "1212"), ["1", "2", "1", "2"]);
    assert_eq!(pieces("gpt-2", "1212"), ["12", "12"]);
    assert_eq!(pieces("default", "1212"), ["12", "1", "2"]);
    // Groups of three: 121 and 2.
    assert_eq!(pieces("glm4", "1212"), ["12", "1", "2"]);
    assert_eq!(pieces("chatglm-bpe", "1212"), ["12", "1", "2"]);
    assert_eq!(pieces("llama-bpe", "1212"), ["12", "1", "2"]);
    assert_eq!(pieces("llama-bpe", "1'S"), ["1", "'S"]);
    assert_eq!(pieces("gpt-2", "   1"), ["ĠĠ", "Ġ", "1"]);
}

#[test]
fn bad_vocabularies_are_refused_by_field() {
    let good = reduced().vocabulary;
    let refuse = |vocabulary: GgufVocabulary| Tokenizer::from_gguf(&vocabulary).unwrap_err();
    let error = refuse(GgufVocabulary { pre: "no-such".to_owned(), ..good.clone() });
    assert!(matches!(error, TextError::UnknownPreTokenizer { name } if name == "no-such"));
    for model in ["t5", "bert", "rwkv"] {
        let error = refuse(GgufVocabulary { model: model.to_owned(), ..good.clone() });
        assert!(matches!(error, TextError::UnsupportedTokenizer { found, .. } if found == model));
    }
    // Without scores there is no telling which piece is made first.
    let error = refuse(GgufVocabulary { model: "llama".to_owned(), ..good.clone() });
    assert!(error.to_string().contains("tokenizer.ggml.scores"), "{error}");
    let error = refuse(GgufVocabulary { token_types: vec![1], ..good.clone() });
    assert!(matches!(error, TextError::Malformed { .. }));
    let error = refuse(GgufVocabulary { merges: vec!["ab".to_owned()], ..good.clone() });
    assert!(matches!(error, TextError::Malformed { .. }));
    let error = refuse(GgufVocabulary { merges: vec!["nosuch token".to_owned()], ..good.clone() });
    assert!(matches!(error, TextError::Build { .. }));
    let mut doubled = good;
    doubled.tokens.push("<|im_end|>".to_owned());
    doubled.token_types.push(3);
    assert!(matches!(refuse(doubled), TextError::TokenCollision { .. }));
}

/// What SentencePiece made of texts, by `tools/sentencepiece_golden.py`.
fn sentencepiece() -> (GgufVocabulary, Vec<(String, Vec<u32>, String)>) {
    let bytes = include_bytes!("data/sentencepiece/expected.json");
    let mut file: Value = serde_json::from_slice(bytes).unwrap();
    let vocabulary = GgufVocabulary {
        model: "llama".to_owned(),
        pre: "default".to_owned(),
        tokens: serde_json::from_value(file["tokens"].take()).unwrap(),
        scores: serde_json::from_value(file["scores"].take()).unwrap(),
        token_types: serde_json::from_value(file["token_type"].take()).unwrap(),
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        add_bos_token: true,
        add_space_prefix: true,
        ..GgufVocabulary::default()
    };
    (vocabulary, serde_json::from_value(file["cases"].take()).unwrap())
}

#[test]
fn a_vocabulary_of_scores_has_the_ids_of_sentencepiece() {
    let (vocabulary, cases) = sentencepiece();
    let gguf = Tokenizer::from_gguf(&vocabulary).unwrap();
    let json = Tokenizer::json_of_gguf(&vocabulary).unwrap();
    let folder = Tokenizer::from_bytes(json.as_bytes()).unwrap();
    assert!(gguf.covers_every_byte());
    assert_eq!(gguf.vocab_size(), vocabulary.tokens.len());
    for (text, ids, decoded) in &cases {
        for tokenizer in [&gguf, &folder] {
            assert_eq!(tokenizer.encode_text(text).unwrap(), *ids, "{text:?}");
            assert_eq!(tokenizer.decode(ids, false), *decoded, "{text:?}");
            let mut stream = tokenizer.decode_stream(true);
            let mut pieces: String = ids.iter().filter_map(|id| stream.push(*id)).collect();
            pieces.extend(stream.finish());
            assert_eq!(pieces, *decoded, "{text:?}");
        }
    }
}

#[test]
fn pieces_stand_for_their_bytes() {
    let (vocabulary, _) = sentencepiece();
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    // The space is put in front of a text and behind a control token, and left out once.
    let ids = tokenizer.encode_text("a b").unwrap();
    assert_eq!(tokenizer.decode(&[&ids[..], &ids[..]].concat(), false), "a b a b");
    assert_eq!(tokenizer.encode_with_post_processor("a b").unwrap(), [&[1], &ids[..]].concat());
    assert_eq!(tokenizer.front(), [1]);
    assert_eq!(tokenizer.encode_continuation(" a b").unwrap(), ids);
    // Half a character is held back, and told to be none at the end.
    let ids = tokenizer.encode_text("😀").unwrap();
    let mut stream = tokenizer.decode_stream(true);
    let pieces: Vec<_> = ids[..ids.len() - 1].iter().filter_map(|id| stream.push(*id)).collect();
    assert!(pieces.is_empty(), "{pieces:?}");
    assert_eq!(stream.finish().as_deref(), Some("\u{fffd}"));
    // What is written like a control token, or like a byte, is text.
    for text in ["<s>", "<unk>", "<|user|>", "<0x0A>"] {
        let ids = tokenizer.encode_text(text).unwrap();
        assert!(ids.iter().all(|id| !tokenizer.is_special(*id)), "{text}");
        assert_eq!(tokenizer.decode(&ids, true), text);
    }
    let newline = tokenizer.encode_text("\n").unwrap();
    assert_eq!(newline.last(), tokenizer.token_to_id("<0x0A>").as_ref());
}

#[test]
fn a_file_says_what_is_put_around_texts() {
    let (vocabulary, _) = sentencepiece();
    let ids = |vocabulary: &GgufVocabulary, text: &str| {
        Tokenizer::from_gguf(vocabulary).unwrap().encode_with_post_processor(text).unwrap()
    };
    let both = GgufVocabulary { add_eos_token: true, ..vocabulary.clone() };
    let a = Tokenizer::from_gguf(&vocabulary).unwrap().encode_text("a").unwrap();
    assert_eq!(ids(&both, "a"), [&[1], &a[..], &[2]].concat());
    // A prompt is to be continued.
    assert_eq!(Tokenizer::from_gguf(&both).unwrap().front(), [1]);
    let bare =
        GgufVocabulary { add_bos_token: false, add_space_prefix: false, ..vocabulary.clone() };
    let tokenizer = Tokenizer::from_gguf(&bare).unwrap();
    assert_eq!(tokenizer.encode_text(" a").unwrap(), a);
    assert_eq!(tokenizer.decode(&a, false), " a");
    let squeezed = GgufVocabulary { remove_extra_whitespaces: true, ..vocabulary.clone() };
    assert_eq!(ids(&squeezed, "  a   a "), ids(&vocabulary, "a a"));
    // What the vocabulary has neither a piece nor bytes for is unknown, once for all in a row.
    let mut without = vocabulary;
    let byte = without.tokens.iter().position(|token| token == "<0xF0>").unwrap();
    without.token_types[byte] = 5;
    let unknown = Tokenizer::from_gguf(&without).unwrap().encode_text("😀😀").unwrap();
    assert_eq!(unknown.last(), Some(&0));
    assert_eq!(unknown.len(), 2);
}
