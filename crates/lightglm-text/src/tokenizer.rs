//! Text to token ids and back.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::detokenize_stream::DetokenizeStream;
use crate::error::TextError;
use crate::gguf_tokenizer;
use crate::gguf_vocabulary::GgufVocabulary;
use crate::token_table::TokenTable;
use crate::tokenizer_json::{self, AddedToken, DummyPrefix, TokenizerParts};
use crate::tokenizer_model::{self, TokenizerFamily};

/// A BPE tokenizer, byte-level or SentencePiece's, that keeps ordinary text and control tokens apart.
///
/// There are two ways in. [`encode_text`](Self::encode_text) is for what people and programs
/// write: whatever the text says, no reserved token comes out.
/// [`encode_with_specials`](Self::encode_with_specials) is for what the program itself wrote, where
/// `<|user|>` means the token. Chats take neither:
/// [`RenderedPrompt::encode`](super::RenderedPrompt::encode) knows which parts of a prompt are which.
///
/// Ids and texts are those of Hugging Face's tokenizers library, which does the merging.
///
/// SentencePiece's puts a space in front of a text and leaves it out again where it decodes: of the
/// first of the ids that are decoded together, or of a stream.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    scaffold: Arc<tokenizers::Tokenizer>,
    ordinary: Arc<tokenizers::Tokenizer>,
    /// For text behind other text: no space is put in front of it.
    continuation: Arc<tokenizers::Tokenizer>,
    dummy_prefix: DummyPrefix,
    strips_space: bool,
    front: Arc<[u32]>,
    table: Arc<TokenTable>,
    added: Arc<[AddedToken]>,
    special_ids: Arc<[u32]>,
}

/// The ids of a text and where each comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each id the characters (not bytes) of the text it covers; the parts of one character
    /// split over several tokens all cover that character.
    pub offsets: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::Read`], and those of [`from_bytes`](Self::from_bytes).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TextError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|source| TextError::Read { path: path.to_owned(), source })?;
        Self::from_json(&bytes, &path.display().to_string())
    }

    /// Reads the tokenizer of a model's folder: `tokenizer.json`, or else `tokenizer.model`, which is a
    /// vocabulary of tiktoken's or of SentencePiece's, with tokenizer_config.json and added_tokens.json.
    /// `family` decides where those do not say whose it is.
    ///
    /// # Errors
    /// [`TextError::NoTokenizer`], and those of [`from_file`](Self::from_file).
    pub fn from_dir(folder: impl AsRef<Path>, family: TokenizerFamily) -> Result<Self, TextError> {
        let folder = folder.as_ref();
        match Self::made_json(folder, family)? {
            None => Self::from_file(folder.join("tokenizer.json")),
            Some(file) => {
                let origin = folder.join(tokenizer_model::NAME).display().to_string();
                Self::from_parts(tokenizer_json::read(file, &origin)?)
            }
        }
    }

    /// The tokenizer.json that a folder's `tokenizer.model` stands for; `None` where it has a
    /// `tokenizer.json` of its own.
    ///
    /// # Errors
    /// As [`Self::from_dir`].
    pub fn json_of_dir(
        folder: impl AsRef<Path>,
        family: TokenizerFamily,
    ) -> Result<Option<String>, TextError> {
        Ok(Self::made_json(folder.as_ref(), family)?.map(|file| file.to_string()))
    }

    fn made_json(folder: &Path, family: TokenizerFamily) -> Result<Option<Value>, TextError> {
        if folder.join("tokenizer.json").exists() {
            return Ok(None);
        }
        let path = folder.join(tokenizer_model::NAME);
        match std::fs::read(&path) {
            Ok(bytes) => tokenizer_model::to_json(folder, &bytes, family).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                const OTHERS: [&str; 4] = ["vocab.json", "merges.txt", "vocab.txt", "tekken.json"];
                let found = OTHERS.into_iter().filter(|name| folder.join(name).exists());
                let found = found.map(str::to_owned).collect();
                Err(TextError::NoTokenizer { folder: folder.to_owned(), found })
            }
            Err(source) => Err(TextError::Read { path, source }),
        }
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::Malformed`], [`TextError::UnsupportedTokenizer`] for anything but BPE, byte-level
    /// or SentencePiece's, [`TextError::TokenCollision`], [`TextError::TokenIdTooLarge`],
    /// [`TextError::Build`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        Self::from_json(bytes, "tokenizer.json")
    }

    fn from_json(bytes: &[u8], origin: &str) -> Result<Self, TextError> {
        let file = serde_json::from_slice(bytes).map_err(|error| TextError::Malformed {
            origin: origin.to_owned(),
            field: "(root)".to_owned(),
            reason: error.to_string(),
        })?;
        Self::from_parts(tokenizer_json::read(file, origin)?)
    }

    /// Builds the tokenizer that a GGUF file carries.
    ///
    /// # Errors
    /// [`TextError::UnknownPreTokenizer`] where `tokenizer.ggml.pre` is not known, and those of
    /// [`from_bytes`](Self::from_bytes).
    pub fn from_gguf(vocabulary: &GgufVocabulary) -> Result<Self, TextError> {
        let file = gguf_tokenizer::to_json(vocabulary)?;
        Self::from_parts(tokenizer_json::read(file, gguf_tokenizer::ORIGIN)?)
    }

    /// The tokenizer.json that the vocabulary of a GGUF file stands for: [`Self::from_bytes`] makes
    /// the same tokenizer of it as [`Self::from_gguf`] does of the vocabulary.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub fn json_of_gguf(vocabulary: &GgufVocabulary) -> Result<String, TextError> {
        Ok(gguf_tokenizer::to_json(vocabulary)?.to_string())
    }

    fn from_parts(parts: TokenizerParts) -> Result<Self, TextError> {
        let special_ids =
            parts.table.iter().filter(|(_, entry)| entry.reserved).map(|(id, _)| id).collect();
        let front = front(&parts.scaffold)?;
        let ordinary = Arc::new(parts.ordinary);
        Ok(Self {
            scaffold: Arc::new(parts.scaffold),
            continuation: parts.continuation.map_or_else(|| Arc::clone(&ordinary), Arc::new),
            ordinary,
            dummy_prefix: parts.dummy_prefix,
            strips_space: parts.strips_space,
            front: front.into(),
            table: parts.table,
            added: parts.added.into(),
            special_ids,
        })
    }

    /// Encodes ordinary text: none of [`special_token_ids`](Self::special_token_ids) can come out,
    /// even where the text spells `<|user|>` or `[gMASK]`.
    ///
    /// Bytes that the vocabulary has no token for are left out, as the reference does, or become
    /// SentencePiece's token for what is unknown; only vocabularies without
    /// [`covers_every_byte`](Self::covers_every_byte) have such bytes.
    ///
    /// # Errors
    /// [`TextError::Encode`] where the library gives up on a text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(encode(&self.ordinary, text, false)?.get_ids().to_vec())
    }

    /// As [`encode_text`](Self::encode_text), for text that stands behind other text: SentencePiece puts
    /// no space in front of it.
    ///
    /// # Errors
    /// [`TextError::Encode`] where the library gives up on a text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(encode(&self.continuation, text, false)?.get_ids().to_vec())
    }

    /// As [`encode_text`](Self::encode_text), for text behind a reserved token.
    pub(crate) fn encode_behind_token(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match self.dummy_prefix {
            DummyPrefix::First => self.encode_continuation(text),
            DummyPrefix::Always | DummyPrefix::Never => self.encode_text(text),
        }
    }

    /// The tokens that the tokenizer's post-processor puts in front of every text: `[gMASK]<sop>` for
    /// GLM-4, the BOS token for most others.
    pub fn front(&self) -> &[u32] {
        &self.front
    }

    /// Encodes text the program wrote itself: added tokens in it become those tokens.
    ///
    /// # Errors
    /// [`TextError::Encode`] where the library gives up on a text.
    pub fn encode_with_specials(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(encode(&self.scaffold, text, false)?.get_ids().to_vec())
    }

    /// As [`encode_with_specials`](Self::encode_with_specials), and with the tokens around it that
    /// the tokenizer's post-processor adds to a plain text: `[gMASK]<sop>` for GLM-4.
    ///
    /// # Errors
    /// [`TextError::Encode`] where the library gives up on a text.
    pub fn encode_with_post_processor(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(encode(&self.scaffold, text, true)?.get_ids().to_vec())
    }

    /// As [`encode_with_specials`](Self::encode_with_specials), with the characters each id covers.
    ///
    /// # Errors
    /// [`TextError::Encode`] where the library gives up on a text.
    pub fn encode_with_offsets(&self, text: &str) -> Result<EncodedText, TextError> {
        let encoding = self
            .scaffold
            .encode_char_offsets(text, false)
            .map_err(|source| TextError::Encode { bytes: text.len(), source })?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(EncodedText { ids: encoding.get_ids().to_vec(), offsets })
    }

    /// The text of `ids`. Ids without token say nothing; bytes that are no UTF-8 become U+FFFD.
    ///
    /// `skip_special` leaves out the tokens flagged special; added tokens that are not (`<think>` in
    /// many models) stay, as in the reference.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let bytes = self.decode_bytes(ids, skip_special);
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// The bytes of `ids`, which need not be UTF-8.
    pub fn decode_bytes(&self, ids: &[u32], skip_special: bool) -> Vec<u8> {
        let mut bytes =
            ids.iter().flat_map(|&id| self.table.bytes(id, skip_special)).copied().peekable();
        if self.strips_space {
            bytes.next_if_eq(&b' ');
        }
        bytes.collect()
    }

    /// The bytes of one token, control tokens included; `None` for an id without token.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.table.get(id).map(|_| self.table.bytes(id, false))
    }

    /// Decodes ids as they arrive.
    pub fn decode_stream(&self, skip_special: bool) -> DetokenizeStream {
        DetokenizeStream::new(Arc::clone(&self.table), skip_special, self.strips_space)
    }

    /// The id of a token, spelled as the vocabulary spells it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.table.id(token)
    }

    /// The token of an id, spelled as the vocabulary spells it (`Ġthe`, `<|user|>`).
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        self.table.get(id).map(|entry| &*entry.text)
    }

    /// One more than the largest token id. A model's logits may be wider (padding).
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// The ids ordinary text never becomes, ascending: every added token that is not a mere run of
    /// white space, whether flagged special or not.
    pub fn special_token_ids(&self) -> &[u32] {
        &self.special_ids
    }

    /// Whether `id` is one of [`special_token_ids`](Self::special_token_ids).
    pub fn is_special(&self, id: u32) -> bool {
        self.table.get(id).is_some_and(|entry| entry.reserved)
    }

    /// Whether all 256 bytes have a token, so that every text survives encoding and decoding.
    pub fn covers_every_byte(&self) -> bool {
        self.table.covers_every_byte()
    }

    /// The reserved tokens, as they are matched in scaffolding.
    pub(crate) fn reserved_tokens(&self) -> impl Iterator<Item = &AddedToken> {
        self.added.iter().filter(|token| token.is_reserved())
    }
}

/// The tokens that `tokenizer` puts in front of a text.
fn front(tokenizer: &tokenizers::Tokenizer) -> Result<Vec<u32>, TextError> {
    // Some text, that what is put behind it is told from what is put in front.
    let encoding = encode(tokenizer, "a", true)?;
    let ids = encoding.get_ids().iter().zip(encoding.get_special_tokens_mask());
    Ok(ids.take_while(|(_, special)| **special == 1).map(|(id, _)| *id).collect())
}

fn encode(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    add_special_tokens: bool,
) -> Result<tokenizers::Encoding, TextError> {
    tokenizer
        .encode_fast(text, add_special_tokens)
        .map_err(|source| TextError::Encode { bytes: text.len(), source })
}
