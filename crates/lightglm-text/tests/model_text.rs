//! Conversations through a model's text side.

use lightglm_text::{
    ChatTemplate, ChatText, ChatTextError, Message, ModelText, TextError, Thinking, Tokenizer,
};
use serde_json::{Value, json};

fn text(template: ChatTemplate) -> ModelText {
    let tokenizer = Tokenizer::from_bytes(include_bytes!("data/text/tokenizer.json")).unwrap();
    ModelText { tokenizer, template, eos_token_ids: vec![302] }
}

fn of_source(source: &str) -> ModelText {
    text(ChatTemplate::from_source(source).unwrap())
}

fn rendered(text: &ModelText, messages: &[Message], prompt: bool) -> String {
    let ids = text.encode_conversation(messages, &[], prompt).unwrap();
    text.tokenizer.decode(&ids, false)
}

#[test]
fn a_chat_is_a_conversation_with_the_prompt_for_an_answer() {
    let text = text(ChatTemplate::glm4_0414());
    let messages = [Message::user("a"), Message::assistant("b")];
    let whole = "[gMASK]<sop><|user|>\na<|assistant|>\nb";
    assert_eq!(rendered(&text, &messages, false), whole);
    assert_eq!(rendered(&text, &messages, true), format!("{whole}<|assistant|>"));
    let chat = text.encode_chat(&messages, &[]).unwrap();
    assert_eq!(chat, text.encode_conversation(&messages, &[], true).unwrap());
}

#[test]
fn what_a_tool_returned_has_the_role_that_the_template_asks_for() {
    let said = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    let asking = |what: &str| of_source(&format!("{{% if {what} %}}{{% endif %}}{said}"));
    let (tool, observation) = ("messages[0].role == 'tool'", "messages[0].role == \"observation\"");
    let cases = [
        (asking(tool), "tool", "tool"),
        (asking(observation), "observation", "observation"),
        // Whoever tells the two apart gets what the message says.
        (asking(&format!("{tool} or {observation}")), "tool", "observation"),
        // Nobody is asked for, and `<|observation|>` is a token.
        (of_source(said), "observation", "observation"),
    ];
    for (text, of_tool, of_observation) in cases {
        for (message, role) in
            [(Message::tool("r"), of_tool), (Message::observation("r"), of_observation)]
        {
            let messages = [message, Message::user("u")];
            assert_eq!(rendered(&text, &messages, false), format!("[{role}]r[user]u"));
        }
    }
    // The 2024 GLM's template makes the token from the role.
    let text = of_source(include_str!("data/text/glm-4-9b-chat-hf.chat_template.jinja"));
    let ids = text.encode_chat(&[Message::tool("r")], &[]).unwrap();
    assert!(ids.contains(&text.tokenizer.token_to_id("<|observation|>").unwrap()));
}

/// ChatML prints the role, and its vocabularies have no `<|observation|>`.
#[test]
fn without_a_token_for_it_a_tool_is_a_tool() {
    let mut file: serde_json::Value =
        serde_json::from_slice(include_bytes!("data/text/tokenizer.json")).unwrap();
    for token in file["added_tokens"].as_array_mut().unwrap() {
        if token["content"] == "<|observation|>" {
            token["content"] = "<|im_start|>".into();
        }
    }
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}";
    let text = ModelText { tokenizer, ..of_source(source) };
    for message in [Message::tool("r"), Message::observation("r")] {
        assert_eq!(rendered(&text, &[message], false), "<|im_start|>tool\nr");
    }
}

fn error_field(text: &ModelText, messages: &[Message], tools: &[serde_json::Value]) -> String {
    match text.prompt(messages, tools, true).unwrap_err() {
        TextError::NotInPrompt { field } => field,
        other => panic!("{other:?}"),
    }
}

fn weather() -> serde_json::Value {
    json!({"type": "function", "function": {"name": "get_weather", "parameters": {}}})
}

/// The GLM-4 of 2024 asks a message for its tools.
#[test]
fn tools_are_where_the_template_looks_for_them() {
    let text = of_source(include_str!("data/text/glm-4-9b-chat-hf.chat_template.jinja"));
    let user = Message::user("q");
    let shown =
        |messages: &[Message]| text.prompt(messages, &[weather()], true).unwrap().text().to_owned();
    let alone = shown(std::slice::from_ref(&user));
    assert!(alone.starts_with("[gMASK]<sop><|system|>\n你是一个名为 ChatGLM"), "{alone}");
    assert!(alone.contains("## get_weather\n\n{\n    \"name\": \"get_weather\""), "{alone}");
    assert!(alone.ends_with("<|user|>\nq<|assistant|>"), "{alone}");
    let with_system = shown(&[Message::system("be brief"), user.clone()]);
    assert_eq!(with_system.matches("# 可用工具").count(), 1);
    assert!(with_system.contains("<|system|>\nbe brief<|user|>"), "{with_system}");
    // A kind of tool that the template does not write.
    let other = json!({"type": "other", "function": {"name": "get_time"}});
    assert_eq!(error_field(&text, &[user], &[weather(), other]), "tools[1]");
}

#[test]
fn what_a_template_leaves_out_is_named() {
    let said =
        "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content }};{% endif %}{% endfor %}";
    let text = of_source(said);
    let messages = [Message::user("a"), Message::user(" \n"), Message::tool("r")];
    assert_eq!(error_field(&text, &messages, &[]), "messages[2].content");
    assert_eq!(error_field(&text, &messages[..2], &[weather()]), "tools[0]");
    assert!(text.prompt(&messages[..2], &[], true).is_ok());
    // What the template takes away of a message is its own affair, a message that vanishes is not.
    let think = "{% for m in messages %}{% set c = m.content.split('</think>')[-1].strip() %}{% if m.role != 'system' and c %}{{ c }};{% endif %}{% endfor %}";
    let text = of_source(think);
    let thought = Message::assistant("<think>\nhm</think>\n");
    assert!(text.prompt(&[Message::user("a</think>"), thought], &[], true).is_ok());
    let system = Message::system("<think>hm</think> be brief");
    assert_eq!(error_field(&text, &[Message::user("a"), system], &[]), "messages[1].content");
    let parts = json!([{"type": "text", "text": "seen"}, {"type": "text", "text": "unseen"}]);
    let text = of_source("{{ messages[0].content[0].text }}");
    let field = error_field(&text, &[Message::new("user", parts)], &[]);
    assert_eq!(field, "messages[0].content[1].text");
}

fn call(id: &str, city: &str) -> serde_json::Value {
    let function = json!({"name": "w", "arguments": format!("{{\"city\":  \"{city}\"}}")});
    json!({"id": id, "type": "function", "function": function})
}

fn calls_and_results() -> [Message; 4] {
    let calls = json!([call("c1", "Paris"), call("c2", "Rome")]);
    [
        Message::user("q"),
        Message::new("assistant", serde_json::Value::Null).with("tool_calls", calls),
        Message::tool("ROME").with("tool_call_id", "c2"),
        Message::tool("PARIS").with("tool_call_id", "c1"),
    ]
}

#[test]
fn calls_are_turns_where_the_template_knows_no_calls() {
    let text = text(ChatTemplate::glm4_0414());
    let prompt = text.prompt(&calls_and_results(), &[], true).unwrap();
    let expected = "[gMASK]<sop><|user|>\nq<|assistant|>w \n{\"city\":  \"Paris\"}<|assistant|>w \n{\"city\":  \"Rome\"}<|observation|>\nPARIS<|observation|>\nROME<|assistant|>";
    assert_eq!(prompt.text(), expected);
    // A template that knows nothing of it says the name all the same.
    let chatml = of_source("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}");
    let prompt = chatml.prompt(&calls_and_results(), &[], true).unwrap();
    let expected = "<user>q<assistant>w\n{\"city\":  \"Paris\"}<assistant>w\n{\"city\":  \"Rome\"}<observation>PARIS<observation>ROME";
    assert_eq!(prompt.text(), expected);
    // Fields are those of the messages that were given.
    let without_results = "{% for m in messages %}{% if m.role == 'tool' %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    assert_eq!(
        error_field(&of_source(without_results), &calls_and_results(), &[]),
        "messages[3].content"
    );
    let without_calls = "{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}{% endif %}{% endfor %}";
    let field = error_field(&of_source(without_calls), &calls_and_results(), &[]);
    assert_eq!(field, "messages[1].tool_calls[0].function.arguments");
}

#[test]
fn templates_that_know_calls_get_them_with_their_arguments_as_data() {
    let of = |arguments: &str| {
        let source = format!(
            "{{% for m in messages %}}{{{{ m.content or '' }}}}{{% for c in m.tool_calls or [] %}}[{{{{ c.function.name }}}}{arguments}]{{% endfor %}}{{% endfor %}}"
        );
        of_source(&source).prompt(&calls_and_results(), &[], true).unwrap().text().to_owned()
    };
    let city = "{{ c.function.arguments.city }}";
    assert_eq!(of(city), "q[wParis][wRome]ROMEPARIS");
    let json = "{{ c.function.arguments | tojson }}";
    assert_eq!(of(json), "q[w{\"city\": \"Paris\"}][w{\"city\": \"Rome\"}]ROMEPARIS");
    // Some join them to other texts.
    let joined = "{{ ':' + c.function.arguments }}";
    assert_eq!(of(joined), "q[w:{\"city\":  \"Paris\"}][w:{\"city\":  \"Rome\"}]ROMEPARIS");
}

#[test]
fn tools_are_folded_into_messages_where_that_is_wanted() {
    let said = "{% for m in messages %}{% if m.role in ['system', 'user', 'assistant'] %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}";
    let folding =
        |source: &str| text(ChatTemplate::from_source(source).unwrap().with_folded_tools(true));
    let messages = [Message::user("q"), Message::assistant("w"), Message::tool("r <|user|>")];
    let text = folding(said);
    let prompt = text.prompt(&messages, &[weather()], true).unwrap();
    let system = "<system># 可用工具\n\n## get_weather\n\n{\n    \"name\": \"get_weather\",\n    \"parameters\": {}\n}\n在调用上述函数时，请使用 Json 格式表示调用的参数。";
    assert_eq!(prompt.text(), format!("{system}<user>q<assistant>w<user>r <|user|>"));
    let ids = prompt.encode(&text.tokenizer).unwrap();
    assert!(!ids.iter().any(|id| text.tokenizer.is_special(*id)));
    // A template that refuses system messages.
    let strict = format!(
        "{{% if messages[0].role == 'system' %}}{{{{ raise_exception('no system') }}}}{{% endif %}}{said}"
    );
    let prompt = folding(&strict).prompt(&messages, &[weather()], true).unwrap();
    assert!(prompt.text().starts_with("<user># 可用工具"), "{}", prompt.text());
    assert!(prompt.text().ends_with("调用的参数。\n\nq<assistant>w<user>r <|user|>"));
    // Nothing is folded that has its place.
    let whole = "{{ tools | tojson if tools }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
    let prompt = folding(whole).prompt(&messages, &[weather()], true).unwrap();
    assert!(prompt.text().starts_with("[{\"type\": \"function\""));
    // What cannot be folded is still named.
    let nothing = folding("{{ messages[0].content }}");
    assert_eq!(error_field(&nothing, &messages, &[]), "messages[1].content");
}

#[test]
fn constructs_that_are_not_run_are_named_when_the_template_is_loaded() {
    for (source, construct) in [
        ("a\n{{ x | xmlattr }}", "filter \"xmlattr\""),
        ("\n{% if x %}{{ x | nope }}{% endif %}{{ y | map('nope') }}", "filter \"nope\""),
        ("\n{{ x is nope }}", "test \"nope\""),
        ("\n{{ messages[0].content.encode('utf-8') }}", "method \"encode\""),
        ("\n{{ messages[0].content.nope() }}", "method \"nope\""),
        ("\n{{ nope(1) }}", "function \"nope\""),
        ("\n{% include 'x' %}", "tag \"include\""),
        ("\n{% autoescape true %}{% endautoescape %}", "tag \"autoescape\""),
    ] {
        match ChatTemplate::from_source(source).unwrap_err() {
            TextError::UnsupportedTemplate { name, line: 2, construct: found } => {
                assert_eq!((name.as_str(), found.as_str()), ("default", construct));
            }
            other => panic!("{source}: {other:?}"),
        }
    }
    // Asked for before it is used.
    for source in [
        "{% if nope is defined %}{{ nope() }}{% endif %}",
        "{{ x | nope if 'nope' is filter else 'y' }}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{{ nope is defined and nope() }}",
    ] {
        assert!(of_source(source).prompt(&[], &[], false).is_ok(), "{source}");
    }
}

/// GLM-Z1's template opens the thoughts of a reply, and drops those of earlier turns.
#[test]
fn a_template_may_open_the_thoughts_of_a_reply() {
    let z1 = of_source(include_str!("data/templates/think.jinja"));
    let thought = format!("\n{}</think>\n\n答案", "想一想。".repeat(75));
    let mut messages = Vec::new();
    for turn in 0..3 {
        messages.push(Message::user(format!("问题{turn}")));
        messages.push(Message::assistant(thought.as_str()));
    }
    messages.push(Message::user("最后 <|user|> <think>"));
    let prompt = z1.prompt(&messages, &[], true).unwrap();
    let earlier: String =
        (0..3).map(|turn| format!("<|user|>\n问题{turn}<|assistant|>\n答案")).collect();
    let expected =
        format!("[gMASK]<sop>{earlier}<|user|>\n最后 <|user|> <think><|assistant|>\n<think>");
    assert_eq!(prompt.text(), expected);
    let ids = z1.encode_chat(&messages, &[]).unwrap();
    assert_eq!(z1.thinking(&ids), Thinking::Opened);
    let said = z1.encode_conversation(&messages[..2], &[], false).unwrap();
    assert_eq!(z1.thinking(&said), Thinking::MayOpen);
}

/// SmolLM2's template.
fn smollm2_source() -> String {
    let file: &[u8] = include_bytes!("data/text/smollm2_reduced.json");
    let file: serde_json::Value = serde_json::from_slice(file).unwrap();
    file["chat_template"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_template_writes_in_front_of_an_answer_is_its_opening() {
    let assistant = "{% for m in messages %}{% if m.role == 'assistant' %}";
    let user = "{% else %}<|user|>{{ m.content }}{% endif %}{% endfor %}";
    let of = |answer: &str, prompt: &str| {
        let prompt = format!("{{% if add_generation_prompt %}}{prompt}{{% endif %}}");
        of_source(&format!("{assistant}{answer}{user}{prompt}")).reply_opening(false)
    };
    let glm4_2024 = include_str!("data/text/glm-4-9b-chat-hf.chat_template.jinja");
    assert_eq!(text(ChatTemplate::glm4_0414()).reply_opening(false), "\n");
    assert_eq!(of_source(glm4_2024).reply_opening(false), "\n");
    assert_eq!(of_source(&smollm2_source()).reply_opening(false), "");
    assert_eq!(of(" {{ m.content }}</s>", ""), " ");
    assert_eq!(of("<|assistant|>\n{{ m.content | trim }}", "<|assistant|>\n"), "");
    assert_eq!(of("<|assistant|>\n\n{{ m.content }}", "<|assistant|>\n"), "\n");
    // Control tokens are not in a reply's text.
    assert_eq!(of("<|assistant|><|observation|>final:{{ m.content }}", "<|assistant|>"), "final:");
    // Thoughts that the prompt opens, and an answer that cannot be told, have none.
    assert_eq!(of("<|assistant|>\n{{ m.content }}", "<|assistant|>\n<think>\n"), "");
    assert_eq!(of("<|assistant|>\n{{ m.content | upper }}", "<|assistant|>"), "");
    let refuses = of_source("{{ raise_exception('no') }}");
    assert_eq!(refuses.reply_opening(false), "");
}

/// What a model says in front of an answer, as it was trained to, is not said; and what it said is the
/// same tokens once it is part of the conversation.
#[test]
fn a_reply_has_no_opening_and_comes_back_as_it_was() {
    let glm4_2024 = include_str!("data/text/glm-4-9b-chat-hf.chat_template.jinja");
    for text in [text(ChatTemplate::glm4_0414()), of_source(glm4_2024)] {
        let question = [Message::user("Hi")];
        let prompt = text.encode_chat(&question, &[]).unwrap();
        for said in ["Yes.\nNo.", "\n\nYes.", "你好"] {
            let reply = text.encode(&format!("\n{said}")).unwrap();
            let mut stream = text.reply_detokenizer(&text.reply_opening(false));
            let mut told: String = reply.iter().filter_map(|&token| stream.push(token)).collect();
            told += &stream.finish().unwrap_or_default();
            assert_eq!(told, said);
            // Said for the model, it is the same.
            let opened = text.open_reply(prompt.clone(), &text.reply_opening(false)).unwrap();
            assert!(said.starts_with('\n') || opened == [&prompt[..], &reply[..1]].concat());
            let [user] = question.clone();
            let next = [user, Message::assistant(told), Message::user("And?")];
            let next = text.encode_chat(&next, &[]).unwrap();
            assert!(next.starts_with(&[prompt.as_slice(), &reply].concat()), "{said:?}");
        }
    }
    let smollm2 = of_source(&smollm2_source());
    // The first word of a reply has the space in it.
    assert_eq!(smollm2.open_reply(vec![5], " ").unwrap(), [5]);
    assert_eq!(smollm2.open_reply(vec![5], "").unwrap(), [5]);
    let thoughts = smollm2.open_reply(vec![5], "<|user|>\n").unwrap();
    assert_eq!(thoughts[1..2], [smollm2.tokenizer.token_to_id("<|user|>").unwrap()]);
    let mut stream = smollm2.reply_detokenizer(&smollm2.reply_opening(false));
    let reply = smollm2.encode("\nYes").unwrap();
    let told: String = reply.iter().filter_map(|&token| stream.push(token)).collect();
    assert_eq!(told, "\nYes");
}

#[test]
fn without_a_template_that_fits_texts_are_all_there_is() {
    let json = include_str!("data/text/tokenizer.json");
    let glm = Tokenizer::from_bytes(json.as_bytes()).unwrap();
    let built_in = ChatTemplate::built_in_for(&glm, "a.gguf");
    assert_eq!(
        rendered(&text(built_in), &[Message::user("a")], true),
        "[gMASK]<sop><|user|>\na<|assistant|>"
    );

    let json = json.replace("<sop>", "<sip>").replace("<|user|>", "<|human|>");
    let tokenizer = Tokenizer::from_bytes(json.as_bytes()).unwrap();
    let template = ChatTemplate::built_in_for(&tokenizer, "a.gguf").with_folded_tools(true);
    let text = ModelText { tokenizer, template, eos_token_ids: vec![302] };
    let refused = text.encode_chat(&[Message::user("a")], &[]).unwrap_err();
    let missing = vec!["<sop>".to_owned(), "<|user|>".to_owned()];
    assert_eq!(refused, ChatTextError::NoTemplate { missing });
    assert!(refused.to_string().contains("<sop>, <|user|>"), "{refused}");
    let refused = text.template.render(&[Message::user("a")], &[], true).unwrap_err();
    assert!(refused.to_string().starts_with("a.gguf has no chat template"), "{refused}");
    assert!(!text.encode_prompt("a").unwrap().is_empty());
    assert_eq!(text.reply_opening(false), "");
}

#[test]
fn variables_of_a_template_are_the_callers_to_set() {
    let source = "{%- if enable_thinking is defined and not enable_thinking -%}no thoughts\n{%- endif -%}\
                  {%- set own = 1 -%}{{ mood }}{% for m in messages %}{{ m.content }}{% endfor %}{{ own }}";
    let text = of_source(source);
    let question = [Message::user("a")];
    let with = |variables: Value| {
        let variables = variables.as_object().unwrap();
        text.prompt_with(&question, &[], variables, true).map(|prompt| prompt.text().to_owned())
    };
    assert_eq!(with(json!({})).unwrap(), "a1");
    assert_eq!(with(json!({"enable_thinking": true})).unwrap(), "a1");
    assert_eq!(
        with(json!({"enable_thinking": false, "mood": "<|user|>"})).unwrap(),
        "no thoughts<|user|>a1"
    );
    for (name, reason) in [
        ("messages", "is set already"),
        ("add_generation_prompt", "is set already"),
        ("own", "is not read by the template"),
        ("enable_thinkin", "is not read by the template"),
    ] {
        let refused = text.encode_chat_with(&question, &[], json!({name: 1}).as_object().unwrap());
        let expected = ChatTextError::NotAVariable { name: name.to_owned(), reason };
        assert_eq!(refused.unwrap_err(), expected);
    }
    assert!(text.reads_variable("mood", &[]) && !text.reads_variable("own", &[]));
    // One that has a default is the caller's all the same (SmolLM3's); a function is not.
    let source = "{% if thinks is not defined %}{% set thinks = true %}{% endif %}{{ thinks }}\
                  {% set tone = tone | default('kind') %}{{ tone }}\
                  {% if not messages %}{{ raise_exception('none') }}{% endif %}\
                  {% for m in messages %}{{ m.content }}{% endfor %}";
    let defaults = of_source(source);
    let reads = |name| defaults.reads_variable(name, &[]);
    assert!(reads("thinks") && reads("tone") && !reads("raise_exception") && !reads("m"));
    let given = json!({"thinks": false, "tone": "cold"});
    let prompt = defaults.prompt_with(&question, &[], given.as_object().unwrap(), true).unwrap();
    assert_eq!(prompt.text(), "Falsecolda");
    assert_eq!(defaults.prompt(&question, &[], true).unwrap().text(), "Truekinda");
    // A caller's text is no control token.
    let variables = json!({"mood": "<|user|>"});
    let ids = text.encode_chat_with(&question, &[], variables.as_object().unwrap()).unwrap();
    assert!(ids.iter().all(|&id| !text.tokenizer.is_special(id)));
    assert!(of_source("{{ messages[0].content.split('</think>')[-1] }}").thinks());
    let of_thoughts = text.encode_thoughts_end().unwrap();
    assert_eq!(text.tokenizer.decode(&of_thoughts, false), "\n</think>\n\n");
}

#[test]
fn a_turn_that_was_begun_is_continued() {
    let none = serde_json::Map::new();
    let glm = text(ChatTemplate::glm4_0414());
    let messages = [Message::user("a"), Message::assistant("The <|user|> capital is")];
    let ids = glm.encode_continued(&messages, &[], &none).unwrap();
    let expected = "[gMASK]<sop><|user|>\na<|assistant|>\nThe <|user|> capital is";
    assert_eq!(glm.tokenizer.decode(&ids, false), expected);
    // A caller's text is no control token.
    let user = glm.tokenizer.token_to_id("<|user|>").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == user).count(), 1);
    // What the template writes behind the message is not there, and neither is what it cuts off.
    let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1].strip() }}\
                  <|endoftext|>{% endfor %}";
    let closing = of_source(source);
    for said in ["The capital is", "<think>hm</think>The capital is \n"] {
        let messages = [Message::user("a"), Message::assistant(said)];
        let ids = closing.encode_continued(&messages, &[], &none).unwrap();
        let shown = closing.tokenizer.decode(&ids, false);
        assert_eq!(shown, "<|user|>a<|endoftext|><|assistant|>The capital is");
    }
    let upside_down = of_source("{{ messages[1].content }}{{ messages[0].content }}");
    for (text, last) in [(&glm, ""), (&upside_down, "b")] {
        let messages = [Message::user("a"), Message::assistant(last)];
        let error = text.encode_continued(&messages, &[], &none).unwrap_err();
        assert!(matches!(error, ChatTextError::Template { .. }), "{error}");
    }
}
