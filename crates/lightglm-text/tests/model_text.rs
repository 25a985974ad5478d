//! Conversations through a model's text side.

use lightglm_text::{ChatTemplate, ChatText, Message, ModelText, Tokenizer};

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
