//! `Affixes`: the tokens that a tokenizer puts around every text.

use serde_json::{Map, Value, json};

/// Tokens in front of and behind a text, each with its id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Affixes {
    pub(crate) front: Vec<(u32, String)>,
    pub(crate) behind: Vec<(u32, String)>,
}

impl Affixes {
    /// The `post_processor` of a tokenizer.json; `None` where nothing is put around texts.
    pub(crate) fn post_processor(&self) -> Option<Value> {
        if self.front.is_empty() && self.behind.is_empty() {
            return None;
        }
        let special =
            |(_, token): &(u32, String)| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let text = |id: &str, kind: u32| json!({ "Sequence": { "id": id, "type_id": kind } });
        let described = self.front.iter().chain(&self.behind).map(|(id, token)| {
            (token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] }))
        });
        let mut single: Vec<Value> = self.front.iter().map(special).collect();
        single.push(text("A", 0));
        single.extend(self.behind.iter().map(special));
        Some(json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": [text("A", 0), text("B", 1)],
            "special_tokens": described.collect::<Map<_, _>>(),
        }))
    }
}
