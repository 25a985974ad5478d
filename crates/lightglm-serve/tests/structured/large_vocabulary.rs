//! A vocabulary of GLM-4's size is masked as a small one is.

use lightglm_generation::TokenHistory;
use lightglm_serve::structured::{
    Constraint, GrammarVocabulary, StructuredLimits, ToolSpec, compile,
};
use lightglm_testkit::{SplitMix, VocabularyText, made_up_tokens};
use regex::Regex;
use serde_json::{Value, json};

use crate::validator::accepts;

const VOCAB_SIZE: usize = 151_552;
const EOS: u32 = VOCAB_SIZE as u32 - 1;

/// What `constraint` lets a sampler write that likes what closes something.
fn reply(vocabulary: &GrammarVocabulary, tokens: &[Vec<u8>], constraint: &Constraint) -> String {
    let compiled = compile(constraint, vocabulary, &StructuredLimits::default()).unwrap();
    let mut processor = compiled.processor();
    let mut random = SplitMix::new(1);
    let (mut generated, mut text) = (Vec::new(), Vec::new());
    loop {
        let mut logits: Vec<f32> = (0..VOCAB_SIZE).map(|_| random.next_f32()).collect();
        b"\"},]".iter().for_each(|byte| logits[usize::from(*byte)] += 1.0);
        logits[EOS as usize] += 1.0;
        let history = TokenHistory { prompt: &[], generated: &generated };
        processor.process(history, &mut logits).unwrap();
        let nothing = tokens.len()..EOS as usize;
        assert!(logits[nothing].iter().all(|logit| *logit == f32::NEG_INFINITY));
        let best = (0..VOCAB_SIZE).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert!(logits[best].is_finite());
        if best as u32 == EOS {
            return String::from_utf8(text).unwrap();
        }
        generated.push(best as u32);
        text.extend_from_slice(&tokens[best]);
        assert!(generated.len() < 500, "it does not end: {}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_vocabulary_of_glms_size_is_followed_too() {
    let tokens = made_up_tokens(VOCAB_SIZE - 1000);
    let toy = VocabularyText::new(tokens.iter().cloned().map(Some).collect(), vec![EOS]);
    let vocabulary = GrammarVocabulary::new(&toy, VOCAB_SIZE).unwrap();
    let reply = |constraint: Constraint| reply(&vocabulary, &tokens, &constraint);

    let person = json!({ "type": "object", "properties": {
        "name": { "type": "string", "maxLength": 60 },
        "age": { "type": "integer", "minimum": 0, "maximum": 150 },
        "mood": { "enum": ["happy", "sad", "平静"] },
        "scores": { "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 5 } },
        "required": ["name", "age", "mood", "scores"], "additionalProperties": false });
    let written = reply(Constraint::JsonSchema(person.clone()));
    let value: Value = serde_json::from_str(&written).unwrap();
    assert!(accepts(&person, &person, &value), "{written}");

    let written = reply(Constraint::JsonObject);
    assert!(serde_json::from_str::<Value>(&written).unwrap().is_object(), "{written}");

    let tool = |name: &str| ToolSpec { name: name.into(), parameters: person.clone() };
    let tools = ["get_weather", "search", "send_mail"].map(tool).to_vec();
    let written = reply(Constraint::ToolCall { tools, parallel: false });
    let (name, arguments) = written.split_once('\n').unwrap();
    assert!(["get_weather", "search", "send_mail"].contains(&name), "{written}");
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert!(accepts(&person, &person, &arguments), "{written}");

    let expression = r"(\d{4}-\d{2}-\d{2}|[A-Z][a-z ]{3,80}\.)+";
    let written = reply(Constraint::Regex(expression.into()));
    assert!(Regex::new(&format!("^{expression}$")).unwrap().is_match(&written), "{written}");

    let moods = ["positive", "negative", "neutral"].map(str::to_owned);
    let written = reply(Constraint::Choice(moods.to_vec()));
    assert!(moods.contains(&written), "{written}");
}
