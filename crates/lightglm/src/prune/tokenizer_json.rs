//! A tokenizer.json of byte-level BPE: its tokens, its merges, and the same with fewer of both.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use lightglm_distill::student::KeptTokens;
use serde_json::{Map, Value, json};

use super::PruneError;

/// The file.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// A tokenizer.json of byte-level BPE.
pub(super) struct BpeJson {
    file: PathBuf,
    json: Value,
    /// Ids by spelling, of the vocabulary and of what is added to it.
    ids: HashMap<String, u32>,
}

impl BpeJson {
    /// Reads `bytes`, the tokenizer.json of the model in `folder`.
    ///
    /// # Errors
    /// [`PruneError::Tokenizer`] for any other kind, [`PruneError::TextFile`] for what is none.
    pub(super) fn read(bytes: &[u8], folder: &Path) -> Result<Self, PruneError> {
        let file = folder.join(TOKENIZER);
        let json: Value = serde_json::from_slice(bytes)
            .map_err(|error| text_file(&file, "(root)", error.to_string()))?;
        check_kind(&json, folder)?;
        let mut ids = HashMap::new();
        let vocab = json["model"]["vocab"].as_object();
        let vocab = vocab.ok_or_else(|| text_file(&file, "model.vocab", "not an object"))?;
        for (token, id) in vocab {
            let id = id_of(id).ok_or_else(|| {
                text_file(&file, format!("model.vocab[{token:?}]"), "no id of a token")
            })?;
            ids.insert(token.clone(), id);
        }
        for (index, token) in list(&json["added_tokens"]).iter().enumerate() {
            let (Some(content), Some(id)) = (token["content"].as_str(), id_of(&token["id"])) else {
                let field = format!("added_tokens[{index}]");
                return Err(text_file(&file, field, "no content or no id"));
            };
            ids.insert(content.to_owned(), id);
        }
        Ok(Self { file, json, ids })
    }

    /// Tokens that a smaller vocabulary has to keep whatever texts say: those that are added, and those that the model
    /// and the post-processor name.
    pub(super) fn named(&self) -> Vec<u32> {
        let added = list(&self.json["added_tokens"]).iter();
        let mut named: Vec<u32> = added.filter_map(|token| id_of(&token["id"])).collect();
        let unknown = self.json["model"]["unk_token"].as_str();
        named.extend(unknown.and_then(|token| self.ids.get(token)));
        named.extend(id_of(&self.json["padding"]["pad_id"]));
        let mut json = self.json["post_processor"].clone();
        for_ids(&mut json, &mut |id| {
            named.push(*id);
            true
        });
        named
    }

    /// `[left, right, merged]` of each merge.
    ///
    /// # Errors
    /// [`PruneError::TextFile`] for a merge of tokens that are not there.
    pub(super) fn merges(&self) -> Result<Vec<[u32; 3]>, PruneError> {
        let merges = list(&self.json["model"]["merges"]).iter().enumerate();
        let merge = |(index, merge): (usize, &Value)| {
            let wrong = || {
                let field = format!("model.merges[{index}]");
                text_file(&self.file, field, "not two tokens that make a third")
            };
            let (left, right) = pair(merge).ok_or_else(wrong)?;
            let id = |token: &str| self.ids.get(token).copied().ok_or_else(wrong);
            Ok([id(left)?, id(right)?, id(&format!("{left}{right}"))?])
        };
        merges.map(merge).collect()
    }

    /// The file with the tokens of `kept` alone, under their new ids, and the merges among them.
    ///
    /// # Errors
    /// As [`Self::merges`]; [`PruneError::TokenNotKept`] where one of [`Self::named`] is not among them.
    pub(super) fn cut(mut self, kept: &KeptTokens) -> Result<Vec<u8>, PruneError> {
        if let Some(id) = self.named().into_iter().find(|id| kept.number(*id).is_none()) {
            return Err(PruneError::TokenNotKept { file: self.file, id });
        }
        let merges = self.merges()?;
        let is_kept = |merge: &[u32; 3]| merge.iter().all(|id| kept.number(*id).is_some());
        let mut left = merges.iter().map(is_kept);
        if let Some(merges) = self.json["model"]["merges"].as_array_mut() {
            merges.retain(|_| left.next().unwrap_or_default());
        }
        if let Some(vocab) = self.json["model"]["vocab"].as_object_mut() {
            let number =
                |(token, id): (String, Value)| Some((token, json!(kept.number(id_of(&id)?)?)));
            let mut tokens: Vec<_> = std::mem::take(vocab).into_iter().filter_map(number).collect();
            tokens.sort_by_key(|(_, id)| id.as_u64());
            *vocab = Map::from_iter(tokens);
        }
        if let Some(added) = self.json["added_tokens"].as_array_mut() {
            for token in added {
                renumber(&mut token["id"], kept);
            }
        }
        if !self.json["padding"]["pad_id"].is_null() {
            renumber(&mut self.json["padding"]["pad_id"], kept);
        }
        for_ids(&mut self.json["post_processor"], &mut |id| match kept.number(*id) {
            Some(number) => {
                *id = number;
                true
            }
            None => false,
        });
        Ok(format!("{:#}\n", self.json).into_bytes())
    }
}

/// Refuses what is not byte-level BPE without affixes.
fn check_kind(json: &Value, folder: &Path) -> Result<(), PruneError> {
    let refused = |field, found: &Value| {
        let found = found.to_string().chars().take(200).collect();
        Err(PruneError::Tokenizer { file: folder.to_owned(), field, found })
    };
    let model = &json["model"];
    let is_bpe = model["type"] == "BPE" || model["type"].is_null() && model["merges"].is_array();
    if !is_bpe {
        return refused("model.type", &model["type"]);
    }
    if model["byte_fallback"] == true {
        return refused("model.byte_fallback", &model["byte_fallback"]);
    }
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[field].as_str().is_some_and(|affix| !affix.is_empty()) {
            return refused(field, &model[field]);
        }
    }
    let is_byte_level = |part: &Value, parts: &str| {
        let of = |value: &Value| value["type"] == "ByteLevel";
        of(part) || list(&part[parts]).iter().any(of)
    };
    match (&json["pre_tokenizer"], &json["decoder"]) {
        (before, _) if !is_byte_level(before, "pretokenizers") => refused("pre_tokenizer", before),
        (_, behind) if !is_byte_level(behind, "decoders") => refused("decoder", behind),
        _ => Ok(()),
    }
}

/// Shows the ids that a post-processor has, of a template's special tokens (`"ids": [1]`) and of those around a text
/// (`"sep": ["</s>", 2]`), to `see`, which may change them; those that it does not want are taken out of lists.
fn for_ids(json: &mut Value, see: &mut dyn FnMut(&mut u32) -> bool) {
    let one = |value: &mut Value, see: &mut dyn FnMut(&mut u32) -> bool| {
        let Some(mut id) = id_of(value) else { return true };
        let wanted = see(&mut id);
        *value = json!(id);
        wanted
    };
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("ids", Value::Array(ids)) => ids.retain_mut(|id| one(id, see)),
                    ("sep" | "cls", Value::Array(pair)) if pair.len() == 2 => {
                        one(&mut pair[1], see);
                    }
                    (_, value) => for_ids(value, see),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| for_ids(value, see)),
        _ => {}
    }
}

/// Both spellings of a merge: `["a", "b"]` and, in older files, `"a b"`.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(pair) => pair.split_once(' '),
        _ => Some((merge[0].as_str()?, merge[1].as_str()?)),
    }
}

fn renumber(id: &mut Value, kept: &KeptTokens) {
    if let Some(number) = id_of(id).and_then(|id| kept.number(id)) {
        *id = json!(number);
    }
}

pub(super) fn id_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text_file(
    file: &Path,
    field: impl Into<String>,
    reason: impl Into<String>,
) -> PruneError {
    PruneError::TextFile { file: file.to_owned(), field: field.into(), reason: reason.into() }
}
