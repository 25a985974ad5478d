//! Structured output with a tokenizer of GLM-4's kind: its byte-level tokens, its control tokens, its
//! way of putting bytes back together.

use std::path::{Path, PathBuf};

use lightglm_generation::{LogitsProcessor, TokenHistory, parse_tool_calls};
use lightglm_serve::structured::{
    Constraint, GrammarVocabulary, StructuredLimits, ToolSpec, compile,
};
use lightglm_text::{ChatTemplate, ModelText, Tokenizer};
use lightglm_text::{ChatText, Detokenize};
use serde_json::{Value, json};

/// Wider than the tokenizer's 320, as checkpoints' vocabularies are.
const VOCAB_SIZE: usize = 384;

fn model_text() -> Option<ModelText> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let file = shared.unwrap_or(beside).join("fixtures/tokenizer/tokenizer.json");
    if !file.is_file() {
        println!("skipped: {} is not there", file.display());
        return None;
    }
    let tokenizer = Tokenizer::from_file(file).unwrap();
    let ends = ["<|endoftext|>", "<|user|>", "<|observation|>"];
    let eos_token_ids = ends.iter().map(|end| tokenizer.token_to_id(end).unwrap()).collect();
    Some(ModelText { tokenizer, template: ChatTemplate::glm4_0414(), eos_token_ids })
}

/// A reply chosen at random among what is allowed; none where it did not end in time.
fn reply(text: &ModelText, processor: &mut dyn LogitsProcessor, seed: u64) -> Option<String> {
    let (mut state, mut generated) = (seed, Vec::new());
    let mut detokenizer = text.detokenizer();
    let mut written = String::new();
    let closing = text.encode("\"}]0").unwrap();
    while generated.len() < 2000 {
        let mut logits = vec![0.0f32; VOCAB_SIZE];
        for logit in &mut logits {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
            *logit = (state >> 40) as f32 / (1u64 << 24) as f32;
        }
        closing.iter().for_each(|token| logits[*token as usize] += 0.5);
        let history = TokenHistory { prompt: &[5], generated: &generated };
        processor.process(history, &mut logits).unwrap();
        for token in 0..VOCAB_SIZE as u32 {
            let is_text =
                text.token_bytes(token).is_some() || text.eos_token_ids().contains(&token);
            assert!(is_text || logits[token as usize] == f32::NEG_INFINITY, "{token} is allowed");
        }
        let best = (0..VOCAB_SIZE).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        generated.push(best);
        if text.eos_token_ids().contains(&best) {
            written.extend(detokenizer.finish());
            return Some(written);
        }
        written.extend(detokenizer.push(best));
    }
    None
}

fn replies(text: &ModelText, constraint: &Constraint) -> Vec<String> {
    let vocabulary = GrammarVocabulary::new(text, VOCAB_SIZE).unwrap();
    let limits = StructuredLimits::default();
    let of_seed = |seed| {
        let mut processor = compile(constraint, &vocabulary, &limits).unwrap().processor();
        reply(text, &mut *processor, seed)
    };
    let replies: Vec<String> = (1..100).filter_map(of_seed).collect();
    assert!(replies.len() > 50, "{} of 99 ended", replies.len());
    replies
}

#[test]
fn replies_follow_a_schema() {
    let Some(text) = model_text() else { return };
    let schema = json!({ "type": "object", "properties": {
        "城市": { "type": "string" }, "温度": { "type": "number" },
        "天气": { "enum": ["晴", "雨", "cloudy"] } },
        "required": ["城市", "天气"], "additionalProperties": false });
    for reply in replies(&text, &Constraint::JsonSchema(schema)) {
        let value: Value = serde_json::from_str(&reply).unwrap();
        assert!(value["城市"].is_string(), "{reply}");
        assert!(["晴", "雨", "cloudy"].iter().any(|weather| value["天气"] == *weather), "{reply}");
        assert!(value.get("温度").is_none_or(Value::is_number), "{reply}");
        assert!(value.as_object().unwrap().len() <= 3, "{reply}");
    }
}

#[test]
fn calls_are_parsed_back() {
    let Some(text) = model_text() else { return };
    let names = ["get_weather", "查询"];
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } },
        "required": ["city"] });
    let tool = |name: &str| ToolSpec { name: name.into(), parameters: parameters.clone() };
    let tools = names.map(tool).to_vec();
    for reply in replies(&text, &Constraint::ToolCall { tools, parallel: true }) {
        let parsed = parse_tool_calls(&reply, &names);
        assert_eq!(parsed.content, "", "{reply}");
        assert!(!parsed.calls.is_empty(), "{reply}");
        assert!(parsed.calls.iter().all(|call| call.arguments["city"].is_string()), "{reply}");
    }
}

#[test]
fn the_model_s_own_spelling_is_allowed() {
    let Some(text) = model_text() else { return };
    let vocabulary = GrammarVocabulary::new(&text, VOCAB_SIZE).unwrap();
    let written = "get_weather\n{\"city\": \"北京\", \"days\": [1, 2]}";
    let tools = vec![ToolSpec { name: "get_weather".into(), parameters: json!({}) }];
    let constraint = Constraint::ToolCall { tools, parallel: false };
    let compiled = compile(&constraint, &vocabulary, &StructuredLimits::default()).unwrap();
    let mut processor = compiled.processor();
    let tokens = text.encode(written).unwrap();
    for end in 0..=tokens.len() {
        let mut logits = vec![0.0; VOCAB_SIZE];
        let history = TokenHistory { prompt: &[], generated: &tokens[..end] };
        processor.process(history, &mut logits).unwrap();
        let next = tokens.get(end).copied().unwrap_or(text.eos_token_ids()[2]);
        assert_eq!(logits[next as usize], 0.0, "after {end} tokens");
    }
}

/// A format beside tools that may be called: each reply is calls or what the schema accepts, and both occur.
#[test]
fn a_format_or_calls() {
    let Some(text) = model_text() else { return };
    let object = |name: &str| {
        json!({ "type": "object", "properties": { name: { "enum": ["a", "b"] } },
            "required": [name], "additionalProperties": false })
    };
    let tools = vec![ToolSpec { name: "look_up".into(), parameters: object("key") }];
    for opening in ["", "\n", "Answer: "] {
        let (mut called, mut answered) = (0, 0);
        let (tools, schema) = (tools.clone(), object("answer"));
        let opening = opening.to_owned();
        let constraint =
            Constraint::ToolCallOrJson { tools, parallel: true, opening: opening.clone(), schema };
        for reply in replies(&text, &constraint) {
            let parsed = parse_tool_calls(&reply, &["look_up"]);
            if parsed.calls.is_empty() {
                let json = reply.strip_prefix(&opening).unwrap_or_else(|| panic!("{reply:?}"));
                let value: Value = serde_json::from_str(json).unwrap();
                assert!(value["answer"].is_string(), "{reply}");
                answered += 1;
            } else {
                assert_eq!(parsed.content, "", "{reply}");
                assert!(parsed.calls.iter().all(|call| call.arguments["key"].is_string()));
                called += 1;
            }
        }
        assert!(called > 0 && answered > 0, "{called} calls, {answered} answers");
    }
}
