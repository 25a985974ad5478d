//! `VocabularyText`: a text side that is a list of tokens and nothing else.

use lightglm_text::{ChatText, ChatTextError, Detokenize, Message};
use serde_json::Value;

/// Tokens and their bytes, as grammars ask for them. Text is encoded byte by byte; there is no template,
/// and nothing is decoded.
#[derive(Clone, Debug)]
pub struct VocabularyText {
    words: Vec<Option<Vec<u8>>>,
    bytes: Vec<Option<u32>>,
    eos: Vec<u32>,
}

impl VocabularyText {
    /// The bytes of each token by its id, `None` for control tokens; and the tokens that end a reply.
    pub fn new(words: Vec<Option<Vec<u8>>>, eos: Vec<u32>) -> Self {
        let mut bytes = vec![None; 256];
        for (id, word) in (0..).zip(&words) {
            if let Some([byte]) = word.as_deref() {
                bytes[usize::from(*byte)].get_or_insert(id);
            }
        }
        Self { words, bytes, eos }
    }
}

impl ChatText for VocabularyText {
    fn encode(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        let missing =
            |byte: u8| ChatTextError::Encode { reason: format!("no token is byte {byte}") };
        let token = |byte: u8| self.bytes[usize::from(byte)].ok_or_else(|| missing(byte));
        text.bytes().map(token).collect()
    }

    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        self.encode(text)
    }

    fn encode_conversation(
        &self,
        _: &[Message],
        _: &[Value],
        _: bool,
    ) -> Result<Vec<u32>, ChatTextError> {
        Err(ChatTextError::Template { reason: "a vocabulary has no template".to_owned() })
    }

    fn detokenizer(&self) -> Box<dyn Detokenize + Send> {
        Box::new(|_| None)
    }

    fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        self.words.get(token as usize)?.as_deref()
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos
    }
}
