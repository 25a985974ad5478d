//! `TokenLogprobs`: what a teacher of any vocabulary says of a token; and the student's tokens for it.

use std::collections::{BTreeMap, HashMap};

use lightglm_distill::{DistillError, TopRow};
use lightglm_text::{ChatText, ModelText};
use serde_json::{Value, json};

/// A token that a teacher chose, and the likeliest ones in its place; natural logarithms, at temperature 1.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token's bytes, which need not be UTF-8.
    pub bytes: Vec<u8>,
    /// The logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens and their logarithms.
    pub top: Vec<(Vec<u8>, f32)>,
}

impl TokenLogprobs {
    /// As a row has it: `[token, logprob, [[token, logprob], ...]]`; a token is a text, or a list of its bytes.
    pub(super) fn to_json(&self) -> Value {
        let top = self.top.iter().map(|(bytes, logprob)| json!([bytes_json(bytes), logprob]));
        json!([bytes_json(&self.bytes), self.logprob, top.collect::<Value>()])
    }

    /// The same, read.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let (bytes, logprob) = pair(value)?;
        let top = value.get(2)?.as_array()?.iter().map(pair).collect::<Option<_>>()?;
        Some(Self { bytes, logprob, top })
    }
}

fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.into(),
    }
}

fn pair(value: &Value) -> Option<(Vec<u8>, f32)> {
    let bytes = match value.get(0)? {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(bytes) => {
            let byte = |byte: &Value| u8::try_from(byte.as_u64()?).ok();
            bytes.iter().map(byte).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some((bytes, value.get(1)?.as_f64()? as f32))
}

/// A student's tokens by their bytes.
pub(super) struct TokensByBytes<'a>(HashMap<&'a [u8], u32>);

impl<'a> TokensByBytes<'a> {
    /// Of `text`, whose tokens are below `vocab_size`. Of tokens of the same bytes the one that text becomes.
    pub(super) fn new(text: &'a ModelText, vocab_size: usize) -> Self {
        let mut ids: HashMap<&[u8], u32> = HashMap::new();
        for id in 0..vocab_size as u32 {
            let Some(bytes) = text.token_bytes(id).filter(|bytes| !bytes.is_empty()) else {
                continue;
            };
            let other = ids.insert(bytes, id);
            let encoded = || text.encode(std::str::from_utf8(bytes).ok()?).ok();
            if let Some(other) = other
                && encoded().is_none_or(|ids| ids != [id])
            {
                ids.insert(bytes, other);
            }
        }
        Self(ids)
    }

    /// The tokens that were said; `None` where one is none of the student's.
    pub(super) fn said(&self, said: &[TokenLogprobs]) -> Option<Vec<u32>> {
        said.iter().map(|token| self.0.get(&*token.bytes).copied()).collect()
    }

    /// What is said in the place of token `id`. Alternatives that are no tokens of the student's are among the rest.
    pub(super) fn top_row(&self, id: u32, said: &TokenLogprobs) -> Result<TopRow, DistillError> {
        let mut top = BTreeMap::from([(id, said.logprob)]);
        for (bytes, logprob) in &said.top {
            if let Some(&id) = self.0.get(&**bytes) {
                top.entry(id).or_insert(*logprob);
            }
        }
        let (ids, logprobs) = top.into_iter().unzip();
        TopRow::new(ids, logprobs)
    }
}
