//! `ModelText`: tokenizer, chat template and the ends of a reply, as one text side.

use crate::chat_text::{ChatText, ChatTextError};
use crate::detokenize::Detokenize;
use crate::message::Message;
use serde_json::Value;

use crate::chat_template::ChatTemplate;
use crate::error::TextError;
use crate::tokenizer::Tokenizer;

/// The text side of a checkpoint.
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

    fn encode_chat(
        &self,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<Vec<u32>, ChatTextError> {
        let prompt = self.template.render(messages, tools, true).map_err(refused)?;
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
