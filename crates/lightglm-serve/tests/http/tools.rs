//! Tool calls and constrained replies.

use std::sync::{Arc, Mutex};

use lightglm_serve::http::{ConstrainError, Constraint};
use serde_json::{Value, json};

use crate::anything::{Compiled, processors};
use crate::client::{CHAT, COMPLETIONS, chat, config, constrained, post, router};
use crate::scripted::Scripted;
use crate::toy_text::shown;

const REPLY: &str = "One moment.\nget_weather\n{\"city\": \"Paris\"}\nget_time\n{}";

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!([
        {"type": "function", "function": {"name": "get_weather", "description": "Weather",
                                          "parameters": parameters, "strict": true}},
        {"type": "function", "function": {"name": "get_time"}},
    ])
}

#[tokio::test]
async fn calls_are_taken_out_of_a_reply() {
    let engine = Scripted::saying(REPLY);
    let reply = post(&router(&engine), CHAT, chat(json!({"tools": tools()}))).await.ok();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "One moment.");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["type"], "function");
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let function = json!({"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"});
    assert_eq!(calls[0]["function"], function);
    assert!(shown(&engine.one().prompt).starts_with("<256>[get_weather][get_time]"));
}

#[tokio::test]
async fn calls_are_streamed() {
    let engine = Scripted::saying(REPLY);
    let body = chat(json!({"tools": tools(), "stream": true}));
    let events = post(&router(&engine), CHAT, body).await.events();
    let deltas =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0));
    let deltas: Vec<_> = deltas.collect();
    let indices: Vec<_> = deltas.iter().map(|delta| delta["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 0, 1, 1]);
    assert_eq!(deltas[0]["function"], json!({"name": "get_weather", "arguments": ""}));
    assert!(deltas[0]["id"].is_string() && deltas[0]["type"] == "function");
    assert_eq!(*deltas[1], json!({"index": 0, "function": {"arguments": "{\"city\": \"Paris\"}"}}));
    assert_eq!(deltas[2]["function"]["name"], "get_time");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let content = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
    assert_eq!(content.collect::<String>(), "One moment.");
}

#[tokio::test]
async fn one_call_at_a_time_where_that_is_asked() {
    let engine = Scripted::saying(REPLY);
    let body = chat(json!({"tools": tools(), "parallel_tool_calls": false}));
    let reply = post(&router(&engine), CHAT, body).await.ok();
    assert_eq!(reply["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn no_tools_no_calls() {
    let engine = Scripted::saying(REPLY);
    let router = router(&engine);
    let body = chat(json!({"tools": tools(), "tool_choice": "none"}));
    let reply = post(&router, CHAT, body).await.ok();
    assert_eq!(reply["choices"][0]["message"]["content"], REPLY);
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert!(!shown(&engine.one().prompt).contains("get_weather"));
}

#[tokio::test]
async fn constraints_are_compiled_once_for_all_choices() {
    let engine = Scripted::saying("{}");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let constrain = move |constraint: &Constraint, replies: usize| {
        log.lock().unwrap().push(constraint.clone());
        match constraint {
            Constraint::Regex(regex) if regex == "(" => {
                Err(ConstrainError { reason: "it does not close".into() })
            }
            Constraint::JsonSchema(schema) if schema["type"] == "never" => {
                Err(ConstrainError { reason: "no such type".into() })
            }
            _ => Ok(processors(replies)),
        }
    };
    let router = constrained(&engine, config(), Arc::new(constrain)).router();
    let schema = json!({"type": "object"});
    let format = |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
    let named = json!({"type": "function", "function": {"name": "get_time"}});
    let all = tools().as_array().unwrap().len();
    let bodies = [
        json!({"response_format": {"type": "text"}}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"response_format": format(&schema), "n": 2}),
        json!({"guided_regex": "a+"}),
        json!({"guided_grammar": "start: \"a\""}),
        json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": false}),
        json!({"tools": tools(), "tool_choice": named}),
        json!({"tools": tools(), "tool_choice": "auto"}),
    ];
    for body in bodies {
        post(&router, CHAT, chat(body)).await.ok();
    }
    let prompts = json!({"prompt": ["x", "y"], "n": 2, "guided_regex": "b"});
    post(&router, COMPLETIONS, prompts).await.ok();
    let counts: Vec<_> = engine.seen().iter().map(|seen| seen.processors).collect();
    assert_eq!(counts, [0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0], Constraint::JsonObject);
    assert_eq!(seen[1], Constraint::JsonSchema(schema));
    assert_eq!(seen[2], Constraint::Regex("a+".into()));
    assert_eq!(seen[3], Constraint::Lark("start: \"a\"".into()));
    let lengths = seen.iter().filter_map(|constraint| match constraint {
        Constraint::ToolCall { tools, parallel } => Some((tools.len(), *parallel)),
        _ => None,
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [(all, false), (1, false)]);

    let error = post(&router, CHAT, chat(json!({"guided_regex": "("}))).await.error();
    assert_eq!(error, (400, "guided_regex".into(), "invalid_value".into()));
    let never = json!({"response_format": format(&json!({"type": "never"}))});
    let error = post(&router, CHAT, chat(never)).await.error();
    let param = "response_format.json_schema.schema";
    assert_eq!(error, (400, param.into(), "invalid_value".into()));
}

#[tokio::test]
async fn a_constrained_reply_ends_where_it_ends() {
    let engine = Scripted::saying("{}");
    let mut config = config();
    (config.sampling.min_tokens, config.sampling.ignore_eos) = (3, true);
    let router = constrained(&engine, config, Compiled::default().constrain()).router();
    let constraints = [
        json!({"response_format": {"type": "json_object"}}),
        json!({"guided_regex": "a"}),
        json!({"guided_grammar": "start: \"a\""}),
        json!({"tools": tools(), "tool_choice": "required"}),
    ];
    let with = |base: &Value, field: &str, value: Value| {
        let mut body = chat(base.clone());
        body[field] = value;
        body
    };
    for constraint in &constraints {
        for (field, value) in [("min_tokens", json!(2)), ("ignore_eos", json!(true))] {
            let error = post(&router, CHAT, with(constraint, field, value)).await.error();
            assert_eq!(error, (400, field.into(), "invalid_value".into()));
        }
        post(&router, CHAT, with(constraint, "min_tokens", json!(0))).await.ok();
    }
    let seen = engine.seen();
    assert_eq!(seen.len(), constraints.len());
    // The server's defaults are for replies that are free.
    assert!(seen.iter().all(|seen| seen.params.min_tokens == 0 && !seen.params.ignore_eos));
    let free = json!({"tools": tools(), "tool_choice": "auto", "min_tokens": 2});
    post(&router, CHAT, chat(free)).await.ok();
    let body = json!({"prompt": "x", "guided_regex": "b", "ignore_eos": true});
    let error = post(&router, COMPLETIONS, body).await.error();
    assert_eq!(error, (400, "ignore_eos".into(), "invalid_value".into()));
}

#[tokio::test]
async fn without_structured_output_it_is_said_so() {
    let engine = Scripted::saying("{}");
    let router = router(&engine);
    let bodies = [
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"tools": tools(), "tool_choice": "required"}), "tools"),
        (json!({"guided_regex": "a"}), "guided_regex"),
    ];
    for (body, param) in bodies {
        let error = post(&router, CHAT, chat(body)).await.error();
        assert_eq!(error, (400, param.into(), "unsupported".into()));
    }
}

/// What of a schema no grammar follows is dropped and told, or with `strict` left to be refused.
#[tokio::test]
async fn what_cannot_be_enforced_is_told() {
    let engine = Scripted::saying("{}");
    let compiled = Compiled::default();
    let router = constrained(&engine, config(), compiled.constrain()).router();
    let schema = json!({
        "type": "object",
        "properties": {
            "uniqueItems": {"type": "array", "items": {"not": {"type": "null"}}, "uniqueItems": true},
            "secret": {"type": "string", "format": "password", "writeOnly": true},
            "when": {"type": "string", "format": "date"},
            "record": {"type": "object", "propertyNames": {"type": "string"}},
            "colours": {"type": "object", "propertyNames": {"enum": ["red", "blue"]},
                        "additionalProperties": {"type": "number"}},
        },
        "if": {"required": ["when"]}, "then": {"required": ["secret"]},
        "$defs": {"a/b": {"type": "array", "uniqueItems": true, "contains": true}},
    });
    let loose = json!({
        "type": "object",
        "properties": {
            "uniqueItems": {"type": "array", "items": {}},
            "secret": {"type": "string", "writeOnly": true},
            "when": {"type": "string", "format": "date"},
            "record": {"type": "object"},
            "colours": {"type": "object", "additionalProperties": false,
                        "properties": {"red": {"type": "number"}, "blue": {"type": "number"}}},
        },
        "$defs": {"a/b": {"type": "array"}},
    });
    let told = [
        "#/if",
        "#/then",
        "#/properties/uniqueItems/uniqueItems",
        "#/properties/uniqueItems/items/not",
        "#/$defs/a~1b/uniqueItems",
        "#/$defs/a~1b/contains",
    ];
    let format = |strict: bool| {
        json!({"response_format": {"type": "json_schema", "json_schema": {
            "name": "s", "strict": strict, "schema": schema}}})
    };
    let header = |answer: &crate::client::Answer| {
        let value = answer.headers.get("x-lightglm-not-enforced");
        value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    for stream in [false, true] {
        let mut body = chat(format(false));
        body["stream"] = stream.into();
        let answer = post(&router, CHAT, body).await;
        assert_eq!(answer.status, 200);
        let mut named: Vec<String> = header(&answer).split(", ").map(str::to_owned).collect();
        named.sort();
        let mut told = told.map(str::to_owned);
        told.sort();
        assert_eq!(named, told);
        assert_eq!(compiled.pop().unwrap(), Constraint::JsonSchema(loose.clone()));
    }
    let answer = post(&router, CHAT, chat(format(true))).await;
    assert_eq!(header(&answer), "");
    let Constraint::JsonSchema(strict) = compiled.pop().unwrap() else { panic!() };
    assert_eq!(strict["if"], schema["if"]);
    assert_eq!(strict["properties"]["uniqueItems"], schema["properties"]["uniqueItems"]);
    assert_eq!(strict["properties"]["record"], loose["properties"]["record"]);
    // Of tools as well, where a call is a must.
    let tool = |strict: bool| {
        json!({"tools": [{"type": "function", "function": {
            "name": "f", "strict": strict, "parameters": {
                "type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}}}],
               "tool_choice": "required"})
    };
    let answer = post(&router, CHAT, chat(tool(false))).await;
    assert_eq!(header(&answer), "tools[0]#/properties/a/uniqueItems");
    assert_eq!(header(&post(&router, CHAT, chat(tool(true))).await), "");
}

fn forced(engine: &Arc<Scripted>) -> axum::Router {
    constrained(engine, config(), Compiled::default().constrain()).router()
}

/// The calls of a stream: of each its name, the number of its chunks behind the first, its arguments.
fn streamed_calls(events: &[Value]) -> Vec<(String, usize, String)> {
    let mut calls: Vec<(String, usize, String)> = Vec::new();
    for delta in events.iter().filter_map(|e| e["choices"][0]["delta"]["tool_calls"].get(0)) {
        let (index, function) = (delta["index"].as_u64().unwrap() as usize, &delta["function"]);
        if let Some(name) = function["name"].as_str() {
            assert!(delta["id"].is_string() && delta["type"] == "function" && index == calls.len());
            calls.push((name.to_owned(), 0, String::new()));
        } else {
            assert!(delta.get("id").is_none() && index == calls.len() - 1);
            calls[index].1 += 1;
        }
        calls[index].2 += function["arguments"].as_str().unwrap();
    }
    calls
}

#[tokio::test]
async fn arguments_of_a_forced_call_stream() {
    let engine = Scripted::saying("get_weather\n{\"city\": \"Paris\"}\nget_time\n{}");
    let body =
        json!({"tools": tools(), "tool_choice": "required", "stream": true, "logprobs": true});
    let events = post(&forced(&engine), CHAT, chat(body)).await.events();
    let calls = streamed_calls(&events);
    // A chunk for each token, which is a byte here.
    assert_eq!(calls[0], ("get_weather".into(), 17, "{\"city\": \"Paris\"}".into()));
    assert_eq!(calls[1], ("get_time".into(), 2, "{}".into()));
    assert_eq!(calls.len(), 2);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let tokens = events.iter().filter_map(|e| e["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(tokens.map(Vec::len).sum::<usize>(), 11 + 1 + 17 + 1 + 8 + 1 + 2);
}

/// A call that the end of the tokens cuts is one, with what there is of its arguments.
#[tokio::test]
async fn a_call_that_is_cut_is_a_call() {
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    let reply = "get_weather\n{\"city\": \"Paris\"}";
    for choice in [json!("required"), named, json!("auto")] {
        for (max_tokens, arguments) in
            [(12, ""), (13, "{"), (24, "{\"city\": \"Pa"), (28, "{\"city\": \"Paris\"")]
        {
            let engine = Scripted::saying(reply);
            let router = forced(&engine);
            let mut body =
                chat(json!({"tools": tools(), "tool_choice": choice, "max_tokens": max_tokens}));
            let whole = &post(&router, CHAT, body.clone()).await.ok()["choices"][0];
            let function = json!({"name": "get_weather", "arguments": arguments});
            assert_eq!(whole["message"]["tool_calls"][0]["function"], function, "{choice}");
            assert_eq!(whole["message"]["content"], Value::Null);
            assert_eq!(whole["finish_reason"], "length");
            body["stream"] = true.into();
            let events = post(&router, CHAT, body).await.events();
            let calls = streamed_calls(&events);
            assert_eq!((calls.len(), &*calls[0].2), (1, arguments), "{choice}");
            assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
        }
    }
    // What is no call yet stays what it is, unless it can be nothing else.
    let engine = Scripted::saying(reply);
    let with =
        |choice: &str| chat(json!({"tools": tools(), "tool_choice": choice, "max_tokens": 7}));
    let free = post(&forced(&engine), CHAT, with("auto")).await.ok();
    assert_eq!(free["choices"][0]["message"]["content"], "get_wea");
    let must = post(&forced(&engine), CHAT, with("required")).await.ok();
    assert_eq!(must["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "get_weather");
}

/// The names that the constraint of a request allows to be called, or `None` where there is none.
async fn forced_names(body: Value) -> Option<(Vec<String>, bool)> {
    let (engine, compiled) = (Scripted::saying("{}"), Compiled::default());
    let router = constrained(&engine, config(), compiled.constrain()).router();
    post(&router, CHAT, chat(body)).await.ok();
    match compiled.pop()? {
        Constraint::ToolCall { tools, parallel } => {
            Some((tools.into_iter().map(|tool| tool.name).collect(), parallel))
        }
        other => panic!("{other:?}"),
    }
}

/// The ways in which clients say which tools are called.
#[tokio::test]
async fn tools_are_chosen_by_word_by_name_and_by_list() {
    let both = vec!["get_weather".to_owned(), "get_time".to_owned()];
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let allowed = |mode: &str, names: &[&str]| {
        let tools: Vec<Value> = names.iter().map(|name| named(name)).collect();
        json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
    };
    let one = |name: &str| vec![name.to_owned()];
    for (choice, expected) in [
        (json!("required"), Some((both.clone(), true))),
        (json!("any"), Some((both.clone(), true))),
        (json!({"type": "any"}), Some((both.clone(), true))),
        (json!({"type": "auto"}), None),
        (named("get_time"), Some((one("get_time"), false))),
        (allowed("required", &["get_time"]), Some((one("get_time"), true))),
        (allowed("any", &["get_time", "get_weather", "get_time"]), Some((both, true))),
        (allowed("auto", &["get_time"]), None),
    ] {
        let body = json!({"tools": tools(), "tool_choice": choice});
        assert_eq!(forced_names(body).await, expected, "{choice}");
    }
    // What must not be called is not told of, and is no call.
    for (choice, told) in [
        (allowed("auto", &["get_time"]), "[get_time]"),
        (allowed("none", &["get_time"]), ""),
        (json!({"type": "none"}), ""),
    ] {
        let engine = Scripted::saying(REPLY);
        let body = chat(json!({"tools": tools(), "tool_choice": choice}));
        let reply = post(&router(&engine), CHAT, body).await.ok();
        let prompt = shown(&engine.one().prompt);
        assert!(prompt.contains(told) && !prompt.contains("get_weather"), "{prompt}");
        let calls = reply["choices"][0]["message"]["tool_calls"].as_array().map_or(0, Vec::len);
        assert_eq!(calls, usize::from(!told.is_empty()));
    }
    let router = router(&Scripted::saying("x"));
    for (choice, param) in [
        (named("absent"), "tool_choice.function.name"),
        (json!({"type": "function"}), "tool_choice.function"),
        (json!({"type": "allowed_tools"}), "tool_choice.allowed_tools"),
        (allowed("auto", &[]), "tool_choice.allowed_tools.tools"),
        (
            allowed("auto", &["get_time", "absent"]),
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
        (json!({"type": "auto", "function": {"name": "get_time"}}), "tool_choice.function"),
        (json!({"type": "custom"}), "tool_choice.type"),
        (json!("sometimes"), "tool_choice"),
    ] {
        let body = chat(json!({"tools": tools(), "tool_choice": choice}));
        assert_eq!(post(&router, CHAT, body).await.error().1, param);
    }
}

/// A format beside tools that may be called: the reply is one or the other.
#[tokio::test]
async fn a_format_beside_tools_allows_both() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    for (format, schema) in
        [(format, schema), (json!({"type": "json_object"}), json!({"type": "object"}))]
    {
        for (said, calls) in [("{\"a\": 1}", 0), ("get_time\n{}", 1)] {
            let (engine, compiled) = (Scripted::saying(said), Compiled::default());
            let router = constrained(&engine, config(), compiled.constrain()).router();
            let body = chat(json!({"tools": tools(), "response_format": format}));
            let choice = &post(&router, CHAT, body).await.ok()["choices"][0];
            let message = &choice["message"];
            assert_eq!(message["tool_calls"].as_array().map_or(0, Vec::len), calls);
            assert_eq!(message["content"], if calls == 0 { json!(said) } else { Value::Null });
            let Some(Constraint::ToolCallOrJson { tools, parallel, schema: of, .. }) =
                compiled.pop()
            else {
                panic!("{compiled:?}");
            };
            assert_eq!((tools.len(), parallel, of), (2, true, schema.clone()));
        }
    }
    // Not of what a call could be taken for, nor where there is no call.
    let router = forced(&Scripted::saying("x"));
    let body = json!({"tools": tools(), "guided_regex": "a+"});
    assert_eq!(post(&router, CHAT, chat(body)).await.error().1, "guided_regex");
    let body = json!({"tools": tools(), "guided_regex": "a+", "tool_choice": "none"});
    post(&router, CHAT, chat(body)).await.ok();
    let body = json!({"tools": tools(), "response_format": {"type": "json_object"}, "tool_choice": "required"});
    assert_eq!(post(&router, CHAT, chat(body)).await.error().1, "tools");
}

/// A stop string within a call that has to be: the call is told as far as it came, once, and not as complete.
#[tokio::test]
async fn a_stop_string_within_a_forced_call_ends_it() {
    let engine =
        Scripted::following(crate::scripted::Script::Stopped("get_weather\n{\"city\": \"P".into()));
    let router = forced(&engine);
    let mut body = chat(json!({"tools": tools(), "tool_choice": "required", "stop": ["aris"]}));
    let choice = &post(&router, CHAT, body.clone()).await.ok()["choices"][0];
    let function = json!({"name": "get_weather", "arguments": "{\"city\": \"P"});
    assert_eq!(choice["message"]["tool_calls"][0]["function"], function);
    assert_eq!(
        (&choice["message"]["content"], &choice["finish_reason"]),
        (&Value::Null, &json!("stop"))
    );
    body["stream"] = true.into();
    let events = post(&router, CHAT, body).await.events();
    assert_eq!(streamed_calls(&events)[0].2, "{\"city\": \"P");
    let said = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
    assert_eq!(said.collect::<String>(), "");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

/// A name that is cut is the only one that may be called, though the model knows others.
#[tokio::test]
async fn a_cut_name_is_the_chosen_functions() {
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    let body = chat(json!({"tools": tools(), "tool_choice": named, "max_tokens": 4}));
    let reply = post(&forced(&Scripted::saying("get_weather\n{}")), CHAT, body).await.ok();
    let call = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(*call, json!({"name": "get_weather", "arguments": ""}));
}
