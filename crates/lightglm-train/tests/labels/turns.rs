//! Calls of tools, reasoning, and templates that write earlier turns anew.

use std::path::Path;

use lightglm_text::{ChatTemplate, ChatText, Message, ModelText};
use lightglm_train::data::{
    Conversation, ConversationTokenizer, DropReason, DropReport, Example, ExampleReader, OnBadRow,
    ReadOptions, Role, TokenizeError,
};
use serde_json::{Value, json};

use crate::rows::{conversation, learnt, learnt_pieces};
use crate::{glm, glm4_0414, glm4_2024, smollm2};
use Role::{Assistant, User};

/// A row of a file on line 7.
fn row(row: &Value) -> Conversation {
    let file = format!("\n\n\n\n\n\n{row}\n");
    let reader =
        ExampleReader::new(file.as_bytes(), Path::new("x.jsonl"), ReadOptions::default()).unwrap();
    let example = reader.map(Result::unwrap).next().unwrap();
    example.conversation().unwrap().clone()
}

fn weather() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "description": "天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}])
}

/// One exchange with a tool, in the shapes that files have.
fn shapes() -> Vec<Value> {
    let call = json!({"name": "get_weather", "arguments": {"city": "北京"}});
    let as_text = json!({"name": "get_weather", "arguments": "{\"city\": \"北京\"}"});
    let asked = json!({"role": "user", "content": "北京天气"});
    let told = json!({"role": "assistant", "content": "北京晴。"});
    let result = |role: &str| json!({"role": role, "content": "晴"});
    let envelope = |call: &Value| json!([{"id": "c1", "type": "function", "function": call}]);
    let openai = |calls: Value| json!({"role": "assistant", "content": null, "tool_calls": calls});
    let messages = |call: Value, role: &str| json!({"tools": weather(), "messages": [asked.clone(), call, result(role), told.clone()]});
    let from = |who: &str, value: &str| json!({"from": who, "value": value});
    vec![
        messages(openai(envelope(&call)), "tool"),
        messages(openai(envelope(&as_text)), "tool"),
        messages(openai(json!([call])), "observation"),
        messages(json!({"role": "assistant", "content": "", "function_call": as_text}), "function"),
        messages(json!({"role": "tool_call", "content": call.to_string()}), "tool_response"),
        messages(
            json!({"role": "assistant", "metadata": "get_weather", "content": "{\"city\": \"北京\"}"}),
            "observation",
        ),
        json!({"tools": weather().to_string(), "conversations": [from("human", "北京天气"),
            from("function_call", &call.to_string()), from("observation", "晴"),
            from("gpt", "北京晴。")]}),
        json!({"messages": [{"role": "system", "content": "", "tools": weather()}, asked,
            openai(envelope(&call)), result("tool"), told]}),
        messages(json!({"role": "assistant", "content": call.to_string()}), "observation"),
        json!({"tools": [weather()[0]["function"]], "conversations": [asked, {"role": "tool",
            "name": "get_weather", "parameters": {"city": "北京"}, "observation": "晴"}, told]}),
    ]
}

/// As the server writes it for the next turn of the same conversation.
fn as_served(text: &ModelText) -> Vec<u32> {
    let messages = [
        Message::user("北京天气"),
        Message::assistant("{\"city\": \"北京\"}").with("metadata", "get_weather"),
        Message::tool("晴"),
        Message::assistant("北京晴。"),
    ];
    let tools = weather();
    text.encode_conversation(&messages, tools.as_array().unwrap(), false).unwrap()
}

#[test]
fn calls_are_written_as_in_serving() {
    for text in [glm4_0414(), glm4_2024()] {
        let served = as_served(&text);
        for shape in shapes() {
            let row = row(&shape);
            let (whole, runs) = learnt(&text, &row);
            assert_eq!(whole, text.tokenizer.decode(&served, false) + "<|user|>", "{shape}");
            assert_eq!(runs.len(), 2, "{whole}");
            assert!(runs[0].starts_with("get_weather") && runs[0].ends_with("<|observation|>"));
            assert!(runs[0].contains("{\"city\": \"北京\"}"), "{}", runs[0]);
            assert_eq!(runs[1], "\n北京晴。<|user|>");
        }
    }
}

/// A template that asks for OpenAI's field, its arguments objects.
const OPENAI: &str = "{% for tool in tools or [] %}{{ tool.function | tojson }}{% endfor %}\
    {% for m in messages %}<|{{ m.role }}|>{{ m.content }}\
    {% for call in m.tool_calls %}[{{ call.function.name }}\
    {% for name, value in call.function.arguments.items() %} {{ name }}={{ value }}{% endfor %}]\
    {% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

#[test]
fn calls_that_a_template_does_not_write_are_refused_by_name() {
    let openai = glm(ChatTemplate::from_source(OPENAI).unwrap());
    for shape in shapes() {
        let row = row(&shape);
        assert!(learnt(&openai, &row).1[0].starts_with("[get_weather city=北京]"), "{shape}");
        let error = ConversationTokenizer::new(&smollm2()).conversation(&row).unwrap_err();
        // Or the text side says so of the tools.
        let is_named = matches!(
            error,
            TokenizeError::ToolCalls { line: 7, turn: 2 } | TokenizeError::Conversation { .. }
        );
        assert!(is_named, "{shape}: {error:?}");
    }
    // Two at once, in turns of their own.
    let call = |city: &str| json!({"from": "function_call", "value": json!({"name": "w", "arguments": {"c": city}}).to_string()});
    let two = json!({"conversations": [{"from": "human", "value": "?"}, call("a"), call("b"),
        {"from": "observation", "value": "1"}, {"from": "gpt", "value": "2"}]});
    assert_eq!(row(&two).turns.len(), 4);
    assert!(learnt(&openai, &row(&two)).1[0].starts_with("[w c=a][w c=b]"));
    // A conversation may end with a call: a tool's answer follows, not the user's.
    let last = json!({"messages": [{"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": {}}}]}]});
    assert!(learnt(&glm4_0414(), &row(&last)).1[0].ends_with("<|observation|>"));
}

#[test]
fn fields_that_make_no_difference_are_told() {
    let tools = json!({"tools": weather(), "messages": [{"role": "user", "content": "a", "name": "n"},
        {"role": "assistant", "content": "b"}]});
    assert_eq!(outcome(&glm4_0414(), &tools).unwrap().1, ["messages[].name"]);
    // A text side that finds no place for tools may refuse them as well.
    if let Ok((_, unused)) = outcome(&smollm2(), &tools) {
        assert_eq!(unused, ["messages[].name", "tools"]);
    }
}

/// A template that writes the reasoning of the last turn alone, as those of reasoning models do, and
/// opens it in the prompt.
const THINKING: &str = "{% for m in messages %}<|{{ m.role }}|>\
    {% if m.role == 'assistant' and loop.last and m.reasoning_content %}\
    <think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% endfor %}\
    {% if add_generation_prompt %}<|assistant|><think>{% endif %}";

#[test]
fn earlier_turns_that_are_written_anew_become_examples_of_their_own() {
    let text = glm(ChatTemplate::from_source(THINKING).unwrap());
    let answer = |content: &str, reasoning: &str| json!({"role": "assistant", "content": content, "reasoning_content": reasoning});
    let user = |content: &str| json!({"role": "user", "content": content});
    let mut value = json!({"messages": [user("a"), answer("b", "B"), user("c"), answer("d", "D")]});
    let pieces = learnt_pieces(&text, &row(&value));
    let expected = [
        ("<|user|>a<|assistant|><think>B</think>b<|user|>", "B</think>b<|user|>"),
        (
            "<|user|>a<|assistant|>b<|user|>c<|assistant|><think>D</think>d<|user|>",
            "D</think>d<|user|>",
        ),
    ];
    assert_eq!(pieces.len(), 2, "{pieces:?}");
    for ((whole, runs), (text, run)) in pieces.iter().zip(expected) {
        assert_eq!((whole.as_str(), runs.as_slice()), (text, &[run.to_owned()][..]));
    }
    // What is not learnt makes no example, and its reasoning no difference.
    value["messages"][1]["loss"] = false.into();
    let row_value = row(&value);
    assert_eq!(learnt(&text, &row_value).1, ["D</think>d<|user|>"]);
    let mut report = DropReport::default();
    let rows = [Example::Conversation(row_value)];
    ConversationTokenizer::new(&text).tokenize(&rows, 1000, &mut report).unwrap();
    assert_eq!(report.unused.into_keys().collect::<Vec<_>>(), ["messages[].reasoning_content"]);
    // Without reasoning the template opens none: the prompt and the answer part in front of it.
    let plain = conversation(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]);
    assert_eq!(learnt(&text, &plain).1, ["b<|user|>", "d<|user|>"]);
    // A template without a place for it.
    let error = ConversationTokenizer::new(&smollm2()).conversation(&row(&value)).unwrap_err();
    let field = "reasoning_content";
    assert_eq!(error, TokenizeError::NotWritten { line: 7, turn: 4, field });
}

#[test]
fn a_template_that_marks_the_last_turn_does_not_end_the_run() {
    let forgetful = "{% for m in messages %}<|{{ m.role }}|>{% if loop.last %}!{% endif %}\
                     {{ m.content }}{% endfor %}";
    let text = glm(ChatTemplate::from_source(forgetful).unwrap());
    let row = conversation(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]);
    let pieces = learnt_pieces(&text, &row);
    assert_eq!(pieces[0], ("<|user|>a<|assistant|>!b<|user|>".into(), vec!["b<|user|>".into()]));
    assert_eq!(pieces[1].1, ["d<|user|>"]);
}

#[test]
fn rows_that_cannot_be_told_are_dropped_and_named() {
    let picky = "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('no') }}\
                 {% endif %}<|{{ m.role }}|>{{ m.content }}{% endfor %}";
    let text = glm(ChatTemplate::from_source(picky).unwrap());
    let good = || Example::Conversation(conversation(&[(User, "a"), (Assistant, "b")]));
    let bad = || Example::Conversation(conversation(&[(User, "bad"), (Assistant, "b")]));
    let preference = || {
        let row = br#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#;
        let reader = ExampleReader::new(&row[..], Path::new("x.jsonl"), ReadOptions::default());
        reader.unwrap().next().unwrap().unwrap()
    };
    let tokenizer = ConversationTokenizer::new(&text);
    let mut report = DropReport::default();
    let rows = [good(), bad(), good(), preference()];
    assert_eq!(tokenizer.tokenize(&rows, 1000, &mut report).unwrap().len(), 2);
    assert_eq!((report.rows, report.kept()), (4, 2));
    assert_eq!(report.dropped[&DropReason::Refused].first_lines, [7]);
    assert_eq!(report.dropped[&DropReason::Preference].count, 1);
    assert!(report.to_string().contains("(turn 1: the chat template refused"), "{report}");
    // Most of them are another matter; and each is one where bad rows fail.
    let mut report = DropReport::default();
    let error = tokenizer.tokenize(&[good(), bad(), bad()], 1000, &mut report).unwrap_err();
    assert!(matches!(error, TokenizeError::MostDropped { .. }), "{error}");
    let strict = tokenizer.with_on_bad_row(OnBadRow::Fail);
    let error = strict.tokenize(&[good(), preference()], 1000, &mut DropReport::default());
    assert_eq!(error.unwrap_err(), TokenizeError::Preference { line: 1 });
}

#[test]
fn marks_of_what_is_learnt() {
    let messages = |first: Value, second: Value| {
        let mut value = json!({"messages": [{"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"}]});
        for (index, marks) in [(1, first), (3, second)] {
            let message = value["messages"][index].as_object_mut().unwrap();
            message.extend(marks.as_object().unwrap().clone());
        }
        value
    };
    for mark in ["loss", "train", "weight", "loss_mask", "training", "loss_scale"] {
        for (no, yes) in
            [(json!(0), json!(1)), (json!(false), json!(true)), (json!(0.0), json!(1.0))]
        {
            let row = row(&messages(json!({mark: no}), json!({mark: yes})));
            assert_eq!(learnt(&glm4_0414(), &row).1, ["\nd<|user|>"], "{mark}");
        }
    }
    let refusal = |value: Value| {
        let bytes = value.to_string();
        let reader =
            ExampleReader::new(bytes.as_bytes(), Path::new("x.jsonl"), ReadOptions::default());
        reader.unwrap().next().unwrap().unwrap_err().to_string()
    };
    for (marks, expected) in [
        (json!({"weight": 0.5}), "x.jsonl:1: messages[1].weight: a weight is 0 or 1, not 0.5"),
        (
            json!({"loss": "yes"}),
            "x.jsonl:1: messages[1].loss: expected 0, 1 or a boolean, found a text",
        ),
        (json!({"weight": 0, "train": true}), "x.jsonl:1: messages[1].train: it contradicts"),
        (json!({"images": ["a.jpg"]}), "x.jsonl:1: messages[1].images: the model reads text alone"),
    ] {
        let error = refusal(messages(marks, json!({})));
        assert!(error.starts_with(expected), "{error}");
    }
    let row = json!({"messages": [{"role": "user", "content": "a"}], "videos": ["x"]});
    assert_eq!(refusal(row), "x.jsonl:1: videos: the model reads text alone");
    let rated = json!({"prompt": "a", "completion": "b", "label": false});
    assert!(refusal(rated).starts_with("x.jsonl:1: label: it rates the answer"));
    let weighed = json!({"prompt": "a", "completion": "b", "weight": 0.3});
    assert_eq!(refusal(weighed), "x.jsonl:1: weight: a weight is 0 or 1, not 0.3");
}

/// What a row teaches, and which of its fields have no effect; or why it is refused.
fn outcome(text: &ModelText, value: &Value) -> Result<(String, Vec<String>), String> {
    let bytes = value.to_string();
    let reader = ExampleReader::new(bytes.as_bytes(), Path::new("x.jsonl"), ReadOptions::default());
    let mut reader = reader.map_err(|error| error.to_string())?;
    let examples: Result<Vec<_>, _> = reader.by_ref().collect();
    let examples = examples.map_err(|error| error.to_string())?;
    let mut report = reader.into_report();
    let tokenizer = ConversationTokenizer::new(text).with_on_bad_row(OnBadRow::Fail);
    let taught = tokenizer.tokenize(&examples, 10_000, &mut report);
    let taught = taught.map_err(|error| error.to_string())?;
    Ok((format!("{taught:?}"), report.unused.into_keys().collect()))
}

/// Every field of a row and of its messages: as the report calls it, and the row without it.
fn without_each(row: &Value) -> Vec<(String, Value)> {
    // Null and what is empty are how exports write that there is nothing.
    let says = |value: &Value| !value.is_null() && value != "" && *value != json!([]);
    let mut all = Vec::new();
    for (name, value) in row.as_object().unwrap().iter().filter(|(_, value)| says(value)) {
        let mut without = row.clone();
        without.as_object_mut().unwrap().shift_remove(name);
        all.push((name.clone(), without));
        // What stands in a tool's envelope is the protocol's.
        let messages = value.as_array().filter(|_| name != "tools");
        for (index, message) in messages.into_iter().flatten().enumerate() {
            let fields = message.as_object().into_iter().flatten();
            for (field, _) in fields.filter(|(_, value)| says(value)) {
                let mut without = row.clone();
                without[name][index].as_object_mut().unwrap().shift_remove(field);
                all.push((format!("{name}[].{field}"), without));
            }
        }
    }
    all
}

/// A field that is taken away makes a difference, or the row is refused with it, or the report names it.
#[test]
fn nothing_is_silently_ignored() {
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
    let mut rows = shapes();
    rows.extend([
        json!({"id": 7, "instruction": "a", "input": "b", "context": "c", "output": "d",
            "system": "s", "history": [["e", "f"]], "tools": weather(), "source": "web"}),
        json!({"query": "a", "response": "b", "history": [["e", "f"]], "images": ["x.jpg"]}),
        json!({"question": "a", "answer": 3, "label": 4, "category": null, "问题": "c", "score": null}),
        json!({"prompt": "a", "completion": "b", "weight": 1, "loss_scale": 0.5, "expect": ["c"]}),
        json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
        json!({"text": "a", "title": "b"}),
        json!({"problem": "a", "solution": "b", "reasoning_content": "c"}),
        json!({"messages": [{"role": "system", "content": "s", "weight": 0},
            {"role": "user", "content": "a", "name": "n", "weight": 1, "time": "12:00"},
            {"role": "assistant", "content": "b", "reasoning_content": "t", "loss": false,
                "refusal": "no"},
            {"role": "user", "content": "c", "audio": null},
            {"role": "assistant", "content": "let me see", "tool_calls": [call], "weight": 1},
            {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "f"},
            {"role": "assistant", "content": "<think>u</think>d", "reasoning_content": "v"}],
            "parallel_tool_calls": true, "functions": [], "tools": weather()}),
        json!({"conversation": [{"human": "a", "assistant": "b", "topic": "t"}], "dataset": "d"}),
    ]);
    let templates =
        [OPENAI, THINKING].map(|source| glm(ChatTemplate::from_source(source).unwrap()));
    let (mut checked, mut used) = (0, std::collections::HashSet::new());
    for text in [glm4_0414(), glm4_2024(), smollm2()].iter().chain(&templates) {
        for row in &rows {
            let Ok((taught, unused)) = outcome(text, row) else { continue };
            used.insert(row.to_string());
            for (field, without) in without_each(row) {
                let same = outcome(text, &without).is_ok_and(|(other, _)| other == taught);
                // Tools that stand in a message are the row's.
                let field =
                    field.strip_prefix("messages[].").filter(|f| *f == "tools").unwrap_or(&field);
                let is_told = unused.iter().any(|told| told.starts_with(field));
                assert!(!same || is_told, "{field} of {row}: {unused:?}\n{taught}");
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "only {checked} fields were looked at");
    // Refused by every template are the preference, the images, the weight, and the row of everything.
    assert_eq!(used.len(), rows.len() - 4);
}
