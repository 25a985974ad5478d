//! What a request says is used, or refused by name: without the field, the outcome is another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};

use crate::anything::Compiled;
use crate::client::{CHAT, COMPLETIONS, config, constrained, get, post};
use crate::scripted::Scripted;

/// A field, a value for it, and what else the request needs to have for the field to mean anything.
type Case = (&'static str, Value, Value);

fn sampling() -> Vec<Case> {
    let plain = || json!({});
    vec![
        ("model", json!("tuned"), plain()),
        ("n", json!(2), plain()),
        ("temperature", json!(0.3), plain()),
        ("top_p", json!(0.4), plain()),
        ("top_k", json!(5), plain()),
        ("min_p", json!(0.2), plain()),
        ("max_tokens", json!(2), plain()),
        ("max_completion_tokens", json!(2), json!({"max_tokens": 3})),
        ("min_tokens", json!(2), plain()),
        ("stop", json!("e"), plain()),
        ("stop_token_ids", json!([5]), plain()),
        ("ignore_eos", json!(true), plain()),
        ("seed", json!(2), plain()),
        ("frequency_penalty", json!(0.5), plain()),
        ("presence_penalty", json!(0.5), plain()),
        ("repetition_penalty", json!(1.5), plain()),
        ("dry_multiplier", json!(0.5), plain()),
        ("dry_base", json!(2), plain()),
        ("dry_allowed_length", json!(5), plain()),
        ("loop_tokens", json!(40), plain()),
        ("logit_bias", json!({"5": 1}), plain()),
        ("stream", json!(true), plain()),
        ("stream_options", json!({"include_usage": true}), json!({"stream": true})),
        ("stream_options", json!({"include_usage": true}), plain()),
        ("user", json!("me"), plain()),
        ("priority", json!(3), plain()),
    ]
}

fn format() -> Vec<Case> {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {}}});
    vec![
        ("response_format", json!({"type": "json_object"}), json!({})),
        ("response_format", schema, json!({})),
        ("guided_regex", json!("a+"), json!({})),
        ("response_format", json!({"type": "json_object", "schema": {}}), json!({})),
        ("response_format", json!({"type": "text", "schema": {}}), json!({})),
        ("guided_grammar", json!("start: \"a\""), json!({})),
        ("guided_json", json!({"type": "object"}), json!({})),
        ("guided_json", json!("{}"), json!({})),
        ("guided_json", json!("{"), json!({})),
        ("guided_choice", json!(["a", "b"]), json!({})),
        ("guided_choice", json!([]), json!({})),
        ("json_schema", json!({"type": "object"}), json!({})),
        ("structured_outputs", json!({"json": {}}), json!({})),
        ("structured_outputs", json!({"regex": "a"}), json!({})),
        ("structured_outputs", json!({"choice": ["a"]}), json!({})),
        ("structured_outputs", json!({"grammar": "start: \"a\""}), json!({})),
        ("structured_outputs", json!({"json_object": true}), json!({})),
        ("structured_outputs", json!({"structural_tag": "x"}), json!({})),
    ]
}

fn of_chats() -> Vec<Case> {
    let tools = json!([{"type": "function", "function": {"name": "f"}},
                       {"type": "function", "function": {"name": "g"}}]);
    let with_tools = || json!({"tools": tools});
    let thinking = || json!({"messages": [{"role": "user", "content": "think aloud"}]});
    let begun = || {
        let begun = json!({"role": "assistant", "content": "so"});
        json!({"messages": [{"role": "user", "content": "hi"}, begun]})
    };
    let mut cases = vec![
        ("messages", json!([{"role": "user", "content": "other"}]), json!({})),
        ("logprobs", json!(true), json!({})),
        ("top_logprobs", json!(2), json!({"logprobs": true})),
        ("top_logprobs", json!(2), json!({})),
        ("tools", tools.clone(), json!({})),
        ("tool_choice", json!("none"), with_tools()),
        ("tool_choice", json!("required"), with_tools()),
        ("tool_choice", json!("required"), json!({})),
        ("parallel_tool_calls", json!(false), with_tools()),
        ("continue_final_message", json!(false), begun()),
        ("continue_final_message", json!(true), json!({})),
        ("add_generation_prompt", json!(true), begun()),
        ("add_generation_prompt", json!(false), json!({})),
        ("reasoning_effort", json!("none"), thinking()),
        ("reasoning_effort", json!("low"), thinking()),
        ("reasoning_effort", json!("low"), json!({})),
        ("reasoning_effort", json!("low"), with_tools()),
        ("thinking_budget", json!(1), thinking()),
        ("thinking_token_budget", json!(1), thinking()),
        ("enable_thinking", json!(false), thinking()),
        ("enable_thinking", json!(true), with_tools()),
        ("enable_thinking", json!(true), json!({})),
        ("thinking", json!({"type": "disabled"}), thinking()),
        ("thinking", json!({"type": "enabled", "budget_tokens": 1}), thinking()),
        ("chat_template_kwargs", json!({"tone": "kind"}), json!({})),
        ("chat_template_kwargs", json!({"none": 1}), json!({})),
    ];
    cases.extend(sampling());
    cases.extend(format());
    cases
}

fn of_completions() -> Vec<Case> {
    let mut cases = vec![
        ("prompt", json!("other"), json!({})),
        ("logprobs", json!(2), json!({})),
        ("echo", json!(true), json!({})),
        ("best_of", json!(2), json!({})),
        ("suffix", json!("x"), json!({})),
    ];
    cases.extend(sampling());
    cases.extend(format());
    cases
}

fn of_answers() -> Vec<Case> {
    let mut cases =
        vec![("question", json!("other"), json!({})), ("context", json!("text"), json!({}))];
    // Usage is told unless it is not wanted.
    cases.extend(sampling().into_iter().filter(|case| case.0 != "stream_options"));
    let options = json!({"include_usage": false});
    cases.push(("stream_options", options, json!({"stream": true})));
    cases
}

fn of_tokenize() -> Vec<Case> {
    let messages = || json!({"messages": [{"role": "user", "content": "hi"}]});
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    vec![
        ("model", json!("nobody"), json!({"text": "x"})),
        ("text", json!("other"), json!({})),
        ("messages", json!([{"role": "user", "content": "hi"}]), json!({"text": null})),
        ("messages", json!([{"role": "user", "content": "hi"}]), json!({"text": "a"})),
        ("tools", tools.clone(), messages()),
        ("tools", tools, json!({"text": "a"})),
        ("chat_template_kwargs", json!({"tone": "kind"}), json!({"text": "a"})),
        ("chat_template_kwargs", json!({"tone": "kind"}), messages()),
        ("add_special_tokens", json!(false), json!({"text": "a"})),
    ]
}

fn of_responses() -> Vec<Case> {
    let tools = json!([{"type": "function", "name": "f"}, {"type": "function", "name": "g"}]);
    let with_tools = || json!({"tools": tools});
    let included = json!(["message.output_text.logprobs"]);
    vec![
        ("model", json!("tuned"), json!({})),
        ("input", json!("other"), json!({})),
        ("input", json!([{"role": "user", "content": "other"}]), json!({})),
        ("instructions", json!("be kind"), json!({})),
        ("tools", tools.clone(), json!({})),
        ("tool_choice", json!("none"), with_tools()),
        ("tool_choice", json!("required"), with_tools()),
        ("tool_choice", json!("required"), json!({})),
        ("parallel_tool_calls", json!(false), with_tools()),
        ("text", json!({"format": {"type": "json_object"}}), json!({})),
        ("text", json!({"verbosity": "high"}), json!({})),
        ("reasoning", json!({"effort": "none"}), json!({"input": "think aloud"})),
        ("reasoning", json!({"effort": "low"}), json!({"input": "think aloud"})),
        ("reasoning", json!({"effort": "low"}), json!({})),
        ("max_output_tokens", json!(2), json!({})),
        ("temperature", json!(0.3), json!({})),
        ("top_p", json!(0.4), json!({})),
        ("top_logprobs", json!(2), json!({"include": included})),
        ("top_logprobs", json!(2), json!({})),
        ("include", included.clone(), json!({})),
        ("stream", json!(true), json!({})),
        ("stream_options", json!({"include_obfuscation": true}), json!({"stream": true})),
        ("user", json!("me"), json!({})),
        ("safety_identifier", json!("me"), json!({})),
        ("metadata", json!({"a": "b"}), json!({})),
    ]
}

/// Of Anthropic's requests: what is the prompt's, and what is the reply's.
fn of_prompts() -> Vec<Case> {
    let schema = json!({"type": "object"});
    let tools =
        json!([{"name": "f", "input_schema": schema}, {"name": "g", "input_schema": schema}]);
    let with_tools = || json!({"tools": tools});
    vec![
        ("model", json!("nobody"), json!({})),
        ("messages", json!([{"role": "user", "content": "other"}]), json!({})),
        ("system", json!("be kind"), json!({})),
        ("tools", tools.clone(), json!({})),
        ("tool_choice", json!({"type": "none"}), with_tools()),
        ("tool_choice", json!({"type": "any"}), json!({})),
        ("thinking", json!({"type": "enabled", "budget_tokens": 3}), json!({})),
        ("output_config", json!({"effort": "low"}), json!({})),
    ]
}

fn of_messages() -> Vec<Case> {
    let schema = json!({"type": "object"});
    let tools =
        json!([{"name": "f", "input_schema": schema}, {"name": "g", "input_schema": schema}]);
    let with_tools = || json!({"tools": tools});
    let aloud = || json!({"messages": [{"role": "user", "content": "think aloud"}]});
    let format = json!({"type": "json_schema", "schema": schema});
    let one = json!({"type": "auto", "disable_parallel_tool_use": true});
    let mut cases = of_prompts();
    cases.extend([
        ("model", json!("tuned"), json!({})),
        ("max_tokens", json!(2), json!({})),
        ("stop_sequences", json!(["e"]), json!({})),
        ("temperature", json!(0.3), json!({})),
        ("top_p", json!(0.4), json!({})),
        ("top_k", json!(5), json!({})),
        ("metadata", json!({"user_id": "me"}), json!({})),
        ("stream", json!(true), json!({})),
        ("tool_choice", json!({"type": "any"}), with_tools()),
        ("tool_choice", one, with_tools()),
        ("thinking", json!({"type": "disabled"}), aloud()),
        ("thinking", json!({"type": "enabled", "budget_tokens": 3}), aloud()),
        ("output_config", json!({"effort": "low"}), aloud()),
        ("output_config", json!({"format": format}), json!({})),
    ]);
    cases
}

fn of_ollama() -> Vec<Case> {
    let schema = json!({"type": "object"});
    let mut cases = vec![
        ("model", json!("tuned"), json!({})),
        ("format", json!("json"), json!({})),
        ("format", schema, json!({})),
        ("stream", json!(true), json!({})),
        ("think", json!(true), json!({})),
        ("logprobs", json!(true), json!({})),
        ("top_logprobs", json!(2), json!({"logprobs": true})),
    ];
    for (field, value) in [
        ("temperature", json!(0.3)),
        ("top_k", json!(5)),
        ("top_p", json!(0.4)),
        ("min_p", json!(0.2)),
        ("num_predict", json!(2)),
        ("stop", json!("e")),
        ("seed", json!(2)),
        ("repeat_penalty", json!(1.5)),
        ("frequency_penalty", json!(0.5)),
        ("presence_penalty", json!(0.5)),
        ("num_ctx", json!(1 << 20)),
        ("mirostat", json!(1)),
    ] {
        cases.push(("options", json!({field: value}), json!({"options": {}})));
    }
    cases
}

fn of_ollama_chats() -> Vec<Case> {
    let aloud = || json!({"messages": [{"role": "user", "content": "think aloud"}]});
    let mut cases = of_ollama();
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    cases.extend([
        ("messages", json!([{"role": "user", "content": "other"}]), json!({})),
        ("tools", tools, json!({})),
        ("think", json!(false), aloud()),
        ("think", json!("low"), aloud()),
        ("keep_alive", json!(0), json!({"messages": []})),
    ]);
    cases
}

fn of_ollama_prompts() -> Vec<Case> {
    let mut cases = of_ollama();
    cases.extend([
        ("prompt", json!("other"), json!({})),
        ("system", json!("be kind"), json!({})),
        ("think", json!(false), json!({"prompt": "think aloud"})),
        ("keep_alive", json!(0), json!({"prompt": ""})),
    ]);
    cases
}

pub(crate) fn router(engine: &Arc<Scripted>) -> Router {
    constrained(engine, config(), Compiled::default().constrain()).router()
}

/// What becomes of a request: what the engine was asked, and what the client got; or `None` where it was
/// refused with a field's name.
async fn outcome(path: &str, body: &Value) -> Option<(String, String)> {
    let engine = Scripted::saying("f\n{}\ng\n{}");
    let answer = post(&router(&engine), path, body.clone()).await;
    if answer.status == 400 {
        let named = match answer.json()["error"]["param"].as_str() {
            Some(param) => !param.is_empty(),
            // In the other APIs' errors the field is in the message.
            None => answer.text.contains('`'),
        };
        assert!(named, "{body}: {answer:?}");
        return None;
    }
    if answer.status == 404 && body["model"] == "nobody" {
        return None;
    }
    assert!(answer.status.is_success(), "{body}: {answer:?}");
    let mut seen = engine.seen();
    // Whoever names no seed gets a new one.
    if body["seed"].is_null() && body["options"]["seed"].is_null() {
        seen.iter_mut().for_each(|seen| seen.params.seed = 0);
    }
    // New for each request.
    let text = without_news(&without_echo(&answer.text));
    Some((format!("{seen:?}"), text))
}

/// A response without what it only repeats of its request.
fn without_echo(text: &str) -> String {
    let Ok(Value::Object(mut response)) = serde_json::from_str(text) else { return text.into() };
    if response.get("object") != Some(&json!("response")) {
        return text.into();
    }
    for field in [
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "temperature",
        "top_p",
        "max_output_tokens",
        "text",
        "reasoning",
        "top_logprobs",
        "user",
        "safety_identifier",
    ] {
        assert!(response.remove(field).is_some(), "{field}");
    }
    Value::Object(response).to_string()
}

/// A reply without what is new in each: its times and names.
fn without_news(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    let news = [
        "\"id\":\"",
        "\"created\":",
        "\"created_at\":",
        "\"completed_at\":",
        "\"item_id\":",
        "\"call_id\":",
        "_duration\":",
    ];
    while let Some(at) = news.iter().filter_map(|key| rest.find(key)).min() {
        kept += &rest[..at];
        let behind = &rest[at + 5..];
        rest = &behind[behind.find([',', '}']).unwrap_or(behind.len())..];
    }
    kept + rest
}

#[tokio::test]
async fn no_field_is_accepted_and_ignored() {
    let document = get(&router(&Scripted::saying("x")), "/openapi.json").await.json();
    let chat = json!({"messages": [{"role": "user", "content": "hi"}], "seed": 1});
    let message = json!({"model": "toy", "max_tokens": 50,
                         "messages": [{"role": "user", "content": "hi"}]});
    let ollama_chat = json!({"model": "toy", "stream": false,
                             "messages": [{"role": "user", "content": "hi"}]});
    let ollama_prompt = json!({"model": "toy", "stream": false, "prompt": "hi"});
    for (path, schema, base, cases) in [
        (CHAT, "ChatCompletionRequest", chat, of_chats()),
        (COMPLETIONS, "CompletionRequest", json!({"prompt": "hi", "seed": 1}), of_completions()),
        ("/v1/responses", "ResponsesRequest", json!({"input": "hi"}), of_responses()),
        ("/v1/messages", "MessagesRequest", message.clone(), of_messages()),
        ("/v1/messages/count_tokens", "CountTokensRequest", message.clone(), of_prompts()),
        ("/api/chat", "OllamaChatRequest", ollama_chat, of_ollama_chats()),
        ("/api/generate", "OllamaGenerateRequest", ollama_prompt, of_ollama_prompts()),
        ("/answer", "AnswerRequest", json!({"question": "hi", "seed": 1}), of_answers()),
        ("/tokenize", "TokenizeRequest", json!({}), of_tokenize()),
    ] {
        let mut fields: BTreeMap<String, bool> = BTreeMap::new();
        let properties = &document["components"]["schemas"][schema]["properties"];
        fields.extend(properties.as_object().unwrap().keys().map(|field| (field.clone(), false)));
        for (field, value, context) in cases {
            let known = fields.get_mut(field);
            *known.unwrap_or_else(|| panic!("{schema} has no {field}")) = true;
            let mut without = base.clone();
            without.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
            let mut with = without.clone();
            with[field] = value;
            let with_it = outcome(path, &with).await;
            if with_it.is_some() {
                assert_ne!(with_it, outcome(path, &without).await, "{path}: {with}");
            }
        }
        let untried: Vec<_> = fields.into_iter().filter(|(_, tried)| !tried).collect();
        assert!(untried.is_empty(), "{schema}: {untried:?}");
    }
}

/// What other servers do and this one does not is refused by its name, unless it is off.
#[tokio::test]
async fn what_is_not_done_is_refused_by_name() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let chat = |field: &str, value: Value| json!({"messages": [{"role": "user", "content": "hi"}], field: value});
    for (field, value) in [
        ("functions", json!([{"name": "f", "parameters": {}}])),
        ("function_call", json!({"name": "f"})),
        ("grammar", json!("root ::= \"a\"")),
        ("format", json!("json")),
        ("use_beam_search", json!(true)),
        ("length_penalty", json!(0.5)),
        ("typical_p", json!(0.9)),
        ("mirostat", json!(2)),
        ("no_repeat_ngram_size", json!(3)),
        ("n_predict", json!(5)),
        ("lora_path", json!("/x")),
        ("modalities", json!(["text", "audio"])),
        ("skip_special_tokens", json!(false)),
        ("options", json!({"num_ctx": 4096})),
    ] {
        let error = post(&router, CHAT, chat(field, value)).await.error();
        assert_eq!(error, (400, field.into(), "invalid_value".into()));
    }
    assert!(engine.seen().is_empty());
    for (field, value) in [
        ("functions", json!([])),
        ("function_call", json!(null)),
        ("use_beam_search", json!(false)),
        ("length_penalty", json!(1.0)),
        ("typical_p", json!(1)),
        ("mirostat", json!(0)),
        ("n_predict", json!(-1)),
        ("modalities", json!(["text"])),
        ("skip_special_tokens", json!(true)),
        ("service_tier", json!("auto")),
    ] {
        post(&router, CHAT, chat(field, value)).await.ok();
    }
}
