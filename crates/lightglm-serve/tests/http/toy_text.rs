//! A text side whose tokens are bytes, and a few control tokens.

use lightglm_text::{ChatText, ChatTextError, Detokenize, Message, Thinking};
use serde_json::{Map, Value};

/// In front of every prompt.
pub(crate) const BEGIN: u32 = 256;
/// In front of every message.
pub(crate) const TURN: u32 = 257;
/// In front of the reply.
pub(crate) const REPLY: u32 = 258;
/// Ends a reply.
pub(crate) const END: u32 = 259;
/// One more than the last token.
pub(crate) const VOCAB_SIZE: usize = 260;

pub(crate) struct ToyText {
    bytes: Vec<[u8; 1]>,
}

impl ToyText {
    pub(crate) fn new() -> Self {
        Self { bytes: (0..=255).map(|byte| [byte]).collect() }
    }
}

/// The tokens of a text.
pub(crate) fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// A prompt as a text, in which control tokens are `<N>`.
pub(crate) fn shown(tokens: &[u32]) -> String {
    let show = |token: &u32| match u8::try_from(*token) {
        Ok(byte) => char::from(byte).to_string(),
        Err(_) => format!("<{token}>"),
    };
    tokens.iter().map(show).collect()
}

impl ChatText for ToyText {
    fn encode(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        Ok(bytes(text))
    }

    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        Ok([vec![BEGIN], bytes(text)].concat())
    }

    fn encode_conversation(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ChatTextError> {
        let mut tokens = vec![BEGIN];
        for tool in tools {
            tokens.extend(bytes(&format!("[{}]", tool["function"]["name"].as_str().unwrap())));
        }
        for message in messages {
            let content = message.content.as_ref().and_then(Value::as_str);
            match content {
                Some("refuse") => {
                    return Err(ChatTextError::Template { reason: "as asked".into() });
                }
                Some("leave out") => {
                    return Err(ChatTextError::NotInPrompt { field: "messages[0].content".into() });
                }
                _ => {}
            }
            // As GLM calls it.
            let role = if message.role == "tool" { "observation" } else { &message.role };
            let calls = message.extra.get("tool_calls").and_then(Value::as_array);
            if let Some(content) = content.filter(|text| calls.is_none() || !text.is_empty()) {
                tokens.push(TURN);
                tokens.extend(bytes(&format!("{role}\n{content}")));
            }
            for call in calls.into_iter().flatten() {
                let text = |field: &str| call["function"][field].as_str().unwrap();
                tokens.push(TURN);
                tokens.extend(bytes(&format!("{role}:{}\n{}", text("name"), text("arguments"))));
            }
        }
        tokens.extend(add_generation_prompt.then_some(REPLY));
        Ok(tokens)
    }

    fn encode_chat_with(
        &self,
        messages: &[Message],
        tools: &[Value],
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>, ChatTextError> {
        if let Some(name) = variables.keys().find(|name| !self.reads_variable(name, tools)) {
            let reason = "is not read by the template";
            return Err(ChatTextError::NotAVariable { name: name.clone(), reason });
        }
        let mut tokens = self.encode_chat(messages, tools)?;
        for (name, value) in variables {
            tokens.extend(bytes(&format!("{{{name}={value}}}")));
        }
        Ok(tokens)
    }

    fn encode_continued(
        &self,
        messages: &[Message],
        tools: &[Value],
        _: &Map<String, Value>,
    ) -> Result<Vec<u32>, ChatTextError> {
        self.encode_conversation(messages, tools, false)
    }

    fn reads_variable(&self, name: &str, tools: &[Value]) -> bool {
        name == "tone" || (!tools.is_empty() && ["thinking", "reasoning_effort"].contains(&name))
    }

    fn thinks(&self) -> bool {
        true
    }

    fn detokenizer(&self) -> Box<dyn Detokenize + Send> {
        Box::new(Utf8 { held: Vec::new() })
    }

    fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        self.bytes.get(token as usize).map(|byte| byte.as_slice())
    }

    fn eos_token_ids(&self) -> &[u32] {
        &[END]
    }

    fn thinking(&self, prompt: &[u32]) -> Thinking {
        let prompt = shown(prompt);
        match (prompt.contains("think aloud"), prompt.contains("think")) {
            (true, _) => Thinking::Opened,
            (_, true) => Thinking::MayOpen,
            _ => Thinking::Never,
        }
    }
}

/// Holds bytes back until they are characters.
struct Utf8 {
    held: Vec<u8>,
}

impl Detokenize for Utf8 {
    fn push(&mut self, token: u32) -> Option<String> {
        self.held.push(u8::try_from(token).ok()?);
        let text = String::from_utf8(self.held.clone()).ok()?;
        self.held.clear();
        Some(text)
    }

    fn finish(&mut self) -> Option<String> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then(|| String::from_utf8_lossy(&held).into_owned())
    }
}
