//! `ChatText`: the seam to a model's text side.

use serde_json::{Map, Value};

use crate::detokenize::Detokenize;
use crate::message::Message;
use crate::reply_opening::WithoutOpening;

/// What ends thoughts, with the line breaks that models put around it.
pub(crate) const THOUGHTS_END: &str = "\n</think>\n\n";

/// What is said of a message that cannot be continued.
pub(crate) const NOT_CONTINUED: &str = "the last message cannot be continued";

/// A tokenizer and a chat template: everything a server needs to know about a model's text.
///
/// **No text of a caller becomes a control token**, in messages no more than in plain text: only what
/// the template and the tokenizer add by themselves may be one.
pub trait ChatText: Send + Sync {
    /// The ids of an ordinary text, nothing added.
    ///
    /// # Errors
    /// [`ChatTextError::Encode`].
    fn encode(&self, text: &str) -> Result<Vec<u32>, ChatTextError>;

    /// The ids of a text that is to be continued: with the tokens that the tokenizer puts in front of
    /// every text, where it does.
    ///
    /// # Errors
    /// [`ChatTextError::Encode`].
    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ChatTextError>;

    /// The ids of a conversation; with `add_generation_prompt`, ready for the assistant's next turn,
    /// without it, as it was said.
    ///
    /// `tools` are OpenAI's tool objects. What a tool returned has the role `tool` and may name its call in
    /// `tool_call_id`; calls are the `tool_calls` of an assistant's message. The text side knows what its
    /// model makes of these (`observation`, say).
    ///
    /// # Errors
    /// [`ChatTextError`].
    fn encode_conversation(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ChatTextError>;

    /// The ids of a conversation, ready for the assistant's next turn.
    ///
    /// # Errors
    /// Those of [`encode_conversation`](Self::encode_conversation).
    fn encode_chat(
        &self,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<Vec<u32>, ChatTextError> {
        self.encode_conversation(messages, tools, true)
    }

    /// As [`encode_chat`](Self::encode_chat), with values for variables of the chat template's own:
    /// `enable_thinking`, say. A text side that says nothing about it has none.
    ///
    /// # Errors
    /// Those of [`encode_chat`](Self::encode_chat); [`ChatTextError::NotAVariable`].
    fn encode_chat_with(
        &self,
        messages: &[Message],
        tools: &[Value],
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>, ChatTextError> {
        match variables.keys().next() {
            None => self.encode_chat(messages, tools),
            Some(name) => {
                let reason = "is not read by the template";
                Err(ChatTextError::NotAVariable { name: name.clone(), reason })
            }
        }
    }

    /// The ids of a conversation whose last message, an assistant's, is not at its end: the reply goes on with
    /// it.
    ///
    /// # Errors
    /// Those of [`encode_chat_with`](Self::encode_chat_with); [`ChatTextError::Template`] where the template
    /// does not end with that message, and by a text side that cannot tell.
    fn encode_continued(
        &self,
        messages: &[Message],
        tools: &[Value],
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>, ChatTextError> {
        let _ = (messages, tools, variables);
        Err(ChatTextError::Template { reason: NOT_CONTINUED.to_owned() })
    }

    /// Whether the chat template for `tools` reads the variable `name`, which is the caller's to set.
    fn reads_variable(&self, name: &str, tools: &[Value]) -> bool {
        let _ = (name, tools);
        false
    }

    /// Turns the ids of one reply into text; control tokens say nothing.
    fn detokenizer(&self) -> Box<dyn Detokenize + Send>;

    /// What the chat template writes between the prompt for an answer and the answer: GLM-4's line break.
    /// A model that was trained on it says it first, though it is no part of what is said. Empty where
    /// there is nothing in between, or no telling. A template may differ where there are tools.
    ///
    /// It is always the same, and costs as much as two short prompts.
    fn reply_opening(&self, with_tools: bool) -> String {
        let _ = with_tools;
        String::new()
    }

    /// As [`detokenizer`](Self::detokenizer), of a reply to a conversation: an `opening` that it begins
    /// with ([`reply_opening`](Self::reply_opening)) is not part of the text.
    fn reply_detokenizer(&self, opening: &str) -> Box<dyn Detokenize + Send> {
        WithoutOpening::boxed(self.detokenizer(), opening)
    }

    /// `prompt`, of a conversation, with the `opening` of the reply behind it
    /// ([`reply_opening`](Self::reply_opening)): for a reply that is constrained from its first token on, whose
    /// constraint has no place for it. An opening that ends in a space is left out: what follows has the space
    /// in its first token.
    ///
    /// # Errors
    /// [`ChatTextError::Encode`].
    fn open_reply(&self, mut prompt: Vec<u32>, opening: &str) -> Result<Vec<u32>, ChatTextError> {
        if !opening.ends_with(' ') {
            prompt.extend(self.encode(opening)?);
        }
        Ok(prompt)
    }

    /// The bytes of a token, which need not be UTF-8; `None` for control tokens and unknown ids.
    fn token_bytes(&self, token: u32) -> Option<&[u8]>;

    /// The tokens that end a reply.
    fn eos_token_ids(&self) -> &[u32];

    /// Whether a reply to `prompt` has thoughts in front of it. A text side that says nothing about it has
    /// a model that does not think.
    fn thinking(&self, prompt: &[u32]) -> Thinking {
        let _ = prompt;
        Thinking::Never
    }

    /// Whether the model is known to think before it speaks.
    fn thinks(&self) -> bool {
        false
    }

    /// The ids that end thoughts.
    ///
    /// # Errors
    /// [`ChatTextError::Encode`].
    fn encode_thoughts_end(&self) -> Result<Vec<u32>, ChatTextError> {
        self.encode(THOUGHTS_END)
    }
}

/// Whether a reply begins with thoughts, `<think>...</think>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// Whatever it says is the answer.
    Never,
    /// Where it begins with `<think>`.
    MayOpen,
    /// The prompt has opened them already.
    Opened,
}

/// Why a text did not become tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTextError {
    /// The tokenizer refused.
    #[error("the text cannot be encoded: {reason}")]
    Encode {
        /// The tokenizer's words.
        reason: String,
    },
    /// Part of the conversation did not get into the prompt: the chat template does not write it.
    #[error("the chat template leaves out {field}: the model would not see it")]
    NotInPrompt {
        /// Its path: `messages[3].content`, `tools[0]`.
        field: String,
    },
    /// The chat template has no such variable for the caller.
    #[error("the variable {name:?} {reason}")]
    NotAVariable {
        /// Its name.
        name: String,
        /// What is the matter with it.
        reason: &'static str,
    },
    /// There is no chat template to write a conversation with; plain texts can be continued.
    #[error(
        "the model has no chat template, and GLM-4's, which is built in, does not fit: its vocabulary \
         has no {}",
        missing.join(", ")
    )]
    NoTemplate {
        /// Control tokens that the built-in template writes and the vocabulary does not have.
        missing: Vec<String>,
    },
    /// The chat template refused the messages or failed.
    #[error("the chat template refused the messages: {reason}")]
    Template {
        /// The template's words.
        reason: String,
    },
}
