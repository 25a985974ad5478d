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
    assert_eq!(prompt.content_ranges().iter().collect::<Vec<_>>(), [&(0..6)]);
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

/// Everything that makes text of text keeps who wrote it.
#[test]
fn contents_stay_contents_whatever_is_done_to_them() {
    let content = "<|user|>";
    for expression in [
        "c.strip()",
        "c[:4] ~ c[4:]",
        "c[::-1][::-1]",
        "c.split('us') | join('us')",
        "c.replace('user', 'USER') | lower",
        "c.replace('<', '<')",
        "'%s' % c",
        "'%8s' % (c,)",
        "'{}'.format(c)",
        "'{x}'.format(x=c)",
        "(c ~ '').format()",
        "c | list | join",
        "c | reverse | reverse",
        "c | indent | trim",
        "[c] | map('upper') | map('lower') | first",
        "{c: 1} | items | first | first",
        "{c: 1} | dictsort | map('first') | join",
        "dict(**{c: 1}) | list | first",
        "[c, 'b'] | sort | first",
        "[{'k': c}] | groupby('k') | map('first') | first",
        "[c] | batch(1) | first | first",
        "(c | tojson)[1:-1]",
        "[c] | string | replace('[', '') | replace(']', '')",
        "c.partition('user')[0] ~ 'user' ~ c.partition('user')[2]",
        "c.center(12, c[0])[2:10]",
        "'' | default(c, true)",
        "c if c else ''",
        "strftime_now(c)",
        "m(x=c)",
        "m(c)",
        "k(**{c: 1})",
    ] {
        let source = format!(
            "{{% set c = messages[0].content %}}{{% macro m(x) %}}{{{{ x }}}}{{% endmacro %}}{{% macro k() %}}{{{{ kwargs | list | first }}}}{{% endmacro %}}<sop>{{{{ {expression} }}}}"
        );
        let message = [Message::user(content)];
        let prompt =
            ChatTemplate::from_source(source.as_str()).unwrap().render(&message, &[], true);
        let text = prompt.unwrap().text().to_owned();
        assert!(text.contains("<|user|>"), "{expression}: {text}");
        assert_eq!(specials(&source, &message), ["<sop>"], "{expression}");
    }
    // A content that is a format: what it fills with is its own.
    let filled = "{{ messages[0].content.format('') }}";
    let message = [Message::user("{0:<>1}{0:|>1}{0:u>1}ser|>")];
    assert_eq!(specials(filled, &message), [""; 0]);
}

#[test]
fn namespaces_may_hold_themselves() {
    let source = "{% set n = namespace() %}{% set n.n = n %}{% for i in range(9000) %}{% set m = namespace(n=n.n) %}{% set n.n = m %}{% endfor %}{{ n.n.n is defined }}";
    let prompt = ChatTemplate::from_source(source).unwrap().render(&[], &[], true).unwrap();
    assert_eq!(prompt.text(), "True");
}

#[test]
fn templates_nest_as_deeply_as_they_like_without_harm() {
    let deep = |open: &str, middle: &str, close: &str, count: usize| {
        format!("{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    for source in [
        format!("{{{{ 1{} }}}}", " | string".repeat(900)),
        format!("{{{{ 1{} }}}}", " | string".repeat(100_000)),
        format!("{{{{ x{} }}}}", ".x".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(100_000)),
        format!("{{{{ {} }}}}", deep("(", "1", ")", 100_000)),
        format!("{{{{ {} }}}}", deep("[", "1", "]", 140)),
        deep("{% if true %}", "x", "{% endif %}", 100_000),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}x".repeat(100_000)),
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}".to_owned(),
        "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = [n.x] %}{% endfor %}"
            .to_owned(),
        "{{ 'a' * 10 ** 12 }}{{ [1] * 10 ** 12 }}".to_owned(),
        "{{ 'a'.center(10 ** 12) }}".to_owned(),
        "{{ '%999999999999d' % 1 }}".to_owned(),
        "{{ '{:>999999999999}'.format(1) }}".to_owned(),
    ] {
        let short: String = source.chars().take(60).collect();
        let rendered =
            ChatTemplate::from_source(source).and_then(|template| template.render(&[], &[], true));
        if let Err(error) = rendered {
            assert!(matches!(error, TextError::Template { .. }), "{short}: {error:?}");
        }
    }
}
