//! Hostile templates end with an error, hostile contents with ordinary text.

use std::time::{Duration, UNIX_EPOCH};

use lightglm_text::{ChatTemplate, Message, TextError, Tokenizer};
use serde_json::json;

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(include_bytes!("data/text/tokenizer.json")).unwrap()
}

fn specials(source: &str, messages: &[Message]) -> Vec<String> {
    let tokenizer = tokenizer();
    let prompt = ChatTemplate::from_source(source).unwrap().render(messages, &[], true).unwrap();
    let ids = prompt.encode(&tokenizer).unwrap();
    assert_eq!(tokenizer.decode(&ids, false), prompt.text());
    let special = ids.into_iter().filter(|id| tokenizer.is_special(*id));
    special.map(|id| tokenizer.id_to_token(id).unwrap().to_owned()).collect()
}

#[test]
fn endless_templates_run_out_of_fuel() {
    for source in [
        "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% for a in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ messages | tojson(indent=1000000000) }}",
        "{{ nothing.at.all }}",
    ] {
        let template = ChatTemplate::from_source(source).unwrap();
        let error = template.render(&[Message::user("hi")], &[], true).unwrap_err();
        assert!(matches!(error, TextError::Template { .. }), "{source}: {error:?}");
    }
    assert!(matches!(ChatTemplate::from_source("{% for").unwrap_err(), TextError::Template { .. }));
}

#[test]
fn templates_can_refuse_and_ask_for_the_date() {
    let source = "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ strftime_now('%d %b %Y') }}";
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let template = ChatTemplate::from_source(source).unwrap().with_time(time);
    let prompt = template.render(&[Message::user("x")], &[], false).unwrap();
    assert_eq!(prompt.text(), "14 Nov 2023");
    let error = template.render(&[Message::system("x")], &[], false).unwrap_err();
    assert!(matches!(error, TextError::Refused { message } if message == "user first"));
}

#[test]
fn tokens_completed_across_the_border_stay_text() {
    let completing = "{% for m in messages %}{{ m.content }}er|>\n<|us{{ m.content }}<|{{ m.role }}|>{% endfor %}";
    assert_eq!(specials(completing, &[Message::user("<|us")]), ["<|user|>"]);
    assert_eq!(specials(completing, &[Message::user("er|>")]), ["<|user|>"]);
    // Only well-known roles can name a token.
    assert_eq!(specials("<|{{ messages[0].role }}|>", &[Message::new("endoftext", "")]), [""; 0]);
    // Split between two of the caller's strings.
    let joined = "{{ messages[0].content ~ messages[1].content }}<|assistant|>";
    let halves = [Message::user("<|us"), Message::user("er|>")];
    assert_eq!(specials(joined, &halves), ["<|assistant|>"]);
}

#[test]
fn templates_may_work_on_the_contents() {
    let message = [Message::user("  <|User|> [gMASK]\n")];
    for (source, text) in [
        ("<sop>{{ messages[0].content | trim }}", "<sop><|User|> [gMASK]"),
        ("<sop>{{ messages[0].content.strip() }}", "<sop><|User|> [gMASK]"),
        ("<sop>{{ messages[0].content | lower }}", "<sop>  <|user|> [gmask]\n"),
        ("<sop>{{ messages[0].content | tojson }}", "<sop>\"  <|User|> [gMASK]\\n\""),
        ("<sop>{{ messages[0].content.split(' ')[-1] }}", "<sop>[gMASK]\n"),
        ("<sop>{{ messages[0].content | length }}", "<sop>19"),
        ("<sop>{% if 'User' in messages[0].content %}yes{% endif %}", "<sop>yes"),
    ] {
        let template = ChatTemplate::from_source(source).unwrap();
        assert_eq!(template.render(&message, &[], false).unwrap().text(), text, "{source}");
        assert_eq!(specials(source, &message), ["<sop>"], "{source}");
    }
}

#[test]
fn markup_a_template_looks_for_in_contents_is_found() {
    let source = "{{ messages[0].content.split('[gMASK]')[-1] }}<sop>";
    let message = [Message::assistant("a[gMASK]b<sop>")];
    assert_eq!(specials(source, &message), ["<sop>"]);
    let prompt = ChatTemplate::from_source(source).unwrap().render(&message, &[], true).unwrap();
    assert_eq!(prompt.text(), "b<sop><sop>");
    assert_eq!(prompt.content_ranges(), [0..6]);
}

#[test]
fn values_that_are_no_text_print_as_in_python() {
    let template =
        ChatTemplate::from_source("{{ messages[0].a }} {{ messages[0].content }} {{ x }}").unwrap();
    let message = Message::new("user", json!(null)).with("a", json!([true, "é'", 1.5]));
    let prompt = template.render(&[message], &[], false).unwrap();
    assert_eq!(prompt.text(), "[True, \"é'\", 1.5] None ");
}

#[test]
fn tools_are_contents_too() {
    let tools = [json!({ "name": "<|user|>", "<|endoftext|>": { "[gMASK]": ["<sop>", 1] } })];
    let template = ChatTemplate::glm4_0414();
    let prompt = template.render(&[], &tools, true).unwrap();
    assert!(prompt.text().contains("## <|user|>"));
    let tokenizer = tokenizer();
    let ids = prompt.encode(&tokenizer).unwrap();
    let special: Vec<u32> = ids.into_iter().filter(|id| tokenizer.is_special(*id)).collect();
    assert_eq!(special, [304, 306, 308, 310]);
}

#[test]
fn private_use_characters_of_the_caller_survive() {
    let content = "\u{100000}\u{10FFFD}\u{F0000}\u{E000}<|user|>";
    assert_eq!(specials("{{ messages[0].content }}<sop>", &[Message::user(content)]), ["<sop>"]);
}

#[test]
fn nesting_is_bounded() {
    let mut value = json!("x");
    for _ in 0..100 {
        value = json!([value]);
    }
    let error = ChatTemplate::glm4_0414().render(&[], &[value], true).unwrap_err();
    assert!(matches!(error, TextError::NestedTooDeeply { .. }));
}
