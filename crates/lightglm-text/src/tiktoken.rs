//! tiktoken's vocabulary file: a line for each token, its bytes in base64 and its rank.
//!
//! Source: openai/tiktoken, tiktoken/load.py; transformers 5.24.0, `TikTokenConverter`
//! (convert_slow_tokenizer.py).

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::byte_level::byte_to_char;
use crate::error::TextError;
use crate::merges;
use crate::token_table::MAX_TOKEN_ID;
use crate::tokenizer_file::TokenizerFile;

/// The bytes of every token with its rank, which is its id, best first.
#[derive(Clone, Debug)]
pub(crate) struct Ranks(Vec<(Vec<u8>, u32)>);

impl Ranks {
    /// Reads the file; `origin` names it in errors.
    ///
    /// # Errors
    /// [`TextError::Malformed`] for a line that is something else, a token or a rank that is there twice,
    /// and a byte that has no token: texts with it could not be encoded.
    pub(crate) fn read(bytes: &[u8], origin: &str) -> Result<Self, TextError> {
        let malformed = |field: String, reason: String| TextError::Malformed {
            origin: origin.to_owned(),
            field,
            reason,
        };
        let mut ranks = Vec::new();
        let (mut tokens, mut ids) = (HashSet::new(), HashSet::new());
        for (line, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let at = |reason: &str| malformed(format!("line {}", line + 1), reason.to_owned());
            let (token, rank) = parse(text)
                .ok_or_else(|| at("neither a token in base64 with its rank nor SentencePiece's"))?;
            if rank > MAX_TOKEN_ID {
                let (origin, id) = (origin.to_owned(), u64::from(rank));
                return Err(TextError::TokenIdTooLarge { origin, id, max: MAX_TOKEN_ID });
            }
            if token.is_empty() || !tokens.insert(token.clone()) || !ids.insert(rank) {
                return Err(at("an empty token, or a token or a rank that was there before"));
            }
            ranks.push((token, rank));
        }
        let without: Vec<u8> =
            (0..=u8::MAX).filter(|byte| !tokens.contains(&[*byte][..])).collect();
        if let Some(first) = without.first() {
            let count = without.len();
            let reason = format!("no token for {count} of the 256 bytes, first for 0x{first:02X}");
            return Err(malformed("tokens".to_owned(), reason));
        }
        ranks.sort_unstable_by_key(|(_, rank)| *rank);
        Ok(Self(ranks))
    }

    /// One more than the largest rank.
    pub(crate) fn end(&self) -> u32 {
        self.0.last().map_or(0, |(_, rank)| rank + 1)
    }

    /// The vocabulary, in GPT-2's alphabet, and the merges that find what merging by ranks finds.
    ///
    /// # Errors
    /// [`TextError::Malformed`] for a token that is too long.
    pub(crate) fn to_file(&self, origin: &str) -> Result<TokenizerFile, TextError> {
        let ranked: Vec<(&[u8], u32)> =
            self.0.iter().map(|(token, rank)| (token.as_slice(), *rank)).collect();
        let name = |token: &[u8]| token.iter().map(|byte| byte_to_char(*byte)).collect::<String>();
        let pairs = merges::from_ranks(origin, &ranked, |token| {
            (1..token.len()).map(|at| token.split_at(at)).collect()
        })?;
        let of = |rank: u32| {
            let at = self.0.binary_search_by_key(&rank, |(_, rank)| *rank);
            at.map_or_else(|_| String::new(), |at| name(&self.0[at].0))
        };
        let vocab: Map<String, Value> =
            ranked.iter().map(|(token, rank)| (name(token), json!(rank))).collect();
        let merges = pairs.into_iter().map(|(left, right)| json!([of(left), of(right)])).collect();
        Ok(TokenizerFile { vocab, merges, ..TokenizerFile::default() })
    }
}

fn parse(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let line = std::str::from_utf8(line).ok()?;
    let (token, rank) = line.split_once(' ')?;
    Some((STANDARD.decode(token).ok()?, rank.parse().ok()?))
}
