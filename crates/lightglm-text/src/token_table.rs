//! The vocabulary by id: the bytes every token stands for, and which tokens are reserved.

use std::collections::HashMap;

use crate::error::TextError;
use crate::{byte_level, sentencepiece_alphabet};

/// The largest token id accepted; real vocabularies stay below 300,000.
pub(crate) const MAX_TOKEN_ID: u32 = (1 << 22) - 1;

/// How a vocabulary spells bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// GPT-2's: a character for each byte.
    #[default]
    ByteLevel,
    /// SentencePiece's: texts, `▁` for spaces, `<0xE4>` for bytes.
    SentencePiece,
}

impl Alphabet {
    fn token_bytes(self, token: &str) -> Box<[u8]> {
        match self {
            Self::ByteLevel => byte_level::token_bytes(token),
            Self::SentencePiece => sentencepiece_alphabet::token_bytes(token),
        }
    }

    /// The name of the token that stands for `byte` alone.
    fn byte_token(self, byte: u8) -> String {
        match self {
            Self::ByteLevel => byte_level::byte_to_char(byte).to_string(),
            Self::SentencePiece => sentencepiece_alphabet::byte_token(byte),
        }
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRole {
    /// Produced by BPE from ordinary text.
    Ordinary,
    /// Added, not flagged special: decoded even where special tokens are skipped.
    Added,
    /// Added and flagged special.
    Special,
}

/// One row of the vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct TokenEntry {
    /// As the vocabulary spells it.
    pub(crate) text: Box<str>,
    /// What it decodes to.
    pub(crate) bytes: Box<[u8]>,
    /// What it is for.
    pub(crate) role: TokenRole,
    /// Never produced by ordinary text.
    pub(crate) reserved: bool,
}

/// Every token by id and by name.
#[derive(Debug, Default)]
pub(crate) struct TokenTable {
    alphabet: Alphabet,
    entries: Vec<Option<TokenEntry>>,
    ids: HashMap<Box<str>, u32>,
}

impl TokenTable {
    /// A table without tokens, of a vocabulary in `alphabet`.
    pub(crate) fn new(alphabet: Alphabet) -> Self {
        Self { alphabet, ..Self::default() }
    }

    /// Adds an ordinary token, spelled in the vocabulary's alphabet.
    pub(crate) fn insert_ordinary(
        &mut self,
        origin: &str,
        text: &str,
        id: u32,
    ) -> Result<(), TextError> {
        let entry = TokenEntry {
            text: text.into(),
            bytes: self.alphabet.token_bytes(text),
            role: TokenRole::Ordinary,
            reserved: false,
        };
        self.insert(origin, id, entry)
    }

    /// Adds, or turns an ordinary token into, an added token, spelled as it is.
    pub(crate) fn insert_added(
        &mut self,
        origin: &str,
        text: &str,
        id: u32,
        special: bool,
        reserved: bool,
    ) -> Result<(), TextError> {
        let role = if special { TokenRole::Special } else { TokenRole::Added };
        let bytes = match self.alphabet {
            Alphabet::ByteLevel => text.as_bytes().into(),
            Alphabet::SentencePiece => self.alphabet.token_bytes(text),
        };
        let entry = TokenEntry { text: text.into(), bytes, role, reserved };
        if self.ids.get(text) == Some(&id)
            && let Some(slot) = self.entries.get_mut(id as usize)
        {
            *slot = Some(entry);
            return Ok(());
        }
        self.insert(origin, id, entry)
    }

    fn insert(&mut self, origin: &str, id: u32, entry: TokenEntry) -> Result<(), TextError> {
        if id > MAX_TOKEN_ID {
            return Err(TextError::TokenIdTooLarge {
                origin: origin.to_owned(),
                id: u64::from(id),
                max: MAX_TOKEN_ID,
            });
        }
        let index = id as usize;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, None);
        }
        let collision = || TextError::TokenCollision {
            origin: origin.to_owned(),
            id,
            token: entry.text.to_string(),
        };
        if self.entries[index].is_some() || self.ids.contains_key(&entry.text) {
            return Err(collision());
        }
        self.ids.insert(entry.text.clone(), id);
        self.entries[index] = Some(entry);
        Ok(())
    }

    pub(crate) fn get(&self, id: u32) -> Option<&TokenEntry> {
        self.entries.get(id as usize)?.as_ref()
    }

    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// One more than the largest id.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether each of the 256 bytes has a token that ordinary text becomes.
    pub(crate) fn covers_every_byte(&self) -> bool {
        let is_ordinary = |entry: &TokenEntry| entry.role == TokenRole::Ordinary;
        (0..=u8::MAX).all(|byte| {
            let id = self.id(&self.alphabet.byte_token(byte));
            id.and_then(|id| self.get(id)).is_some_and(is_ordinary)
        })
    }

    /// The bytes `id` decodes to; nothing for an id without token.
    pub(crate) fn bytes(&self, id: u32, skip_special: bool) -> &[u8] {
        match self.get(id) {
            Some(entry) if !(skip_special && entry.role == TokenRole::Special) => &entry.bytes,
            _ => &[],
        }
    }

    /// Every entry with its id, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &TokenEntry)> {
        self.entries.iter().zip(0u32..).filter_map(|(entry, id)| Some((id, entry.as_ref()?)))
    }
}
