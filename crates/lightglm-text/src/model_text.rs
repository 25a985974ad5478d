//! `ModelText`: tokenizer, chat template and the ends of a reply, as one text side.

use std::borrow::Cow;

use serde_json::Value;

use crate::chat_template::ChatTemplate;
use crate::chat_text::{ChatText, ChatTextError};
use crate::detokenize::Detokenize;
use crate::error::TextError;
use crate::message::Message;
use crate::tokenizer::Tokenizer;

/// What OpenAI's clients, ChatML and most files call what a tool returned.
const TOOL: &str = "tool";
/// What GLM calls it.
const OBSERVATION: &str = "observation";

/// The text side of a checkpoint.
///
/// As a [`ChatText`] it calls what a tool returned as its model does, whichever of `tool` and
/// `observation` a message says: as the template does where it asks for one of them. A template that
/// asks for neither and prints the role as it is (the GLM-4 of 2024 as `<|observation|>`, ChatML as a
/// word) gets `observation` where `<|observation|>` is a token, `tool` elsewhere.
#[derive(Clone, Debug)]
pub struct ModelText {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// A conversation to a prompt.
    pub template: ChatTemplate,
    /// The tokens that end a reply.
    pub eos_token_ids: Vec<u32>,
}

impl ChatText for ModelText {
    fn encode(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        self.tokenizer.encode_text(text).map_err(refused)
    }

    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        // What the post-processor puts in front of nothing it puts in front of everything; the
        // caller's text has to stay ordinary.
        let mut ids = self.tokenizer.encode_with_post_processor("").map_err(refused)?;
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    fn encode_conversation(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ChatTextError> {
        let messages = self.with_known_roles(messages, tools);
        let prompt = self.template.render(&messages, tools, add_generation_prompt);
        let prompt = prompt.map_err(refused)?;
        prompt.encode(&self.tokenizer).map_err(refused)
    }

    fn detokenizer(&self) -> Box<dyn Detokenize + Send> {
        Box::new(self.tokenizer.decode_stream(true))
    }

    fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        let is_text = !self.tokenizer.is_special(token);
        is_text.then(|| self.tokenizer.token_bytes(token)).flatten()
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }
}

impl ModelText {
    /// The messages under the roles that the template knows.
    fn with_known_roles<'a>(&self, messages: &'a [Message], tools: &[Value]) -> Cow<'a, [Message]> {
        let is_tool = |message: &Message| [TOOL, OBSERVATION].contains(&message.role.as_str());
        if !messages.iter().any(is_tool) {
            return Cow::Borrowed(messages);
        }
        let asks_for = |role| self.template.asks_for(role, tools);
        let role = match (asks_for(TOOL), asks_for(OBSERVATION)) {
            // It tells the two apart.
            (true, true) => return Cow::Borrowed(messages),
            (true, false) => TOOL,
            (false, true) => OBSERVATION,
            (false, false) => match self.tokenizer.token_to_id("<|observation|>") {
                Some(id) if self.tokenizer.is_special(id) => OBSERVATION,
                _ => TOOL,
            },
        };
        let mut messages = messages.to_vec();
        for message in messages.iter_mut().filter(|message| is_tool(message)) {
            role.clone_into(&mut message.role);
        }
        Cow::Owned(messages)
    }
}

fn refused(error: TextError) -> ChatTextError {
    let reason = match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match error {
        TextError::Encode { .. } => ChatTextError::Encode { reason },
        _ => ChatTextError::Template { reason },
    }
}
