//! `TokenizerFile`: the tokenizer.json of a vocabulary that came in another form.

use serde_json::{Map, Value, json};

use crate::affixes::Affixes;
use crate::pre_tokenizer::PreTokenizer;
use crate::sentencepiece_alphabet::SPACE;

/// A BPE vocabulary, with what is put around texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenizerFile {
    /// Ids by token.
    pub(crate) vocab: Map<String, Value>,
    /// Pairs, best first.
    pub(crate) merges: Vec<Value>,
    pub(crate) added: Vec<Value>,
    pub(crate) affixes: Affixes,
}

/// What SentencePiece does to a text before it looks for pieces.
#[derive(Clone, Debug)]
pub(crate) struct Normalization {
    /// A space in front of a text.
    pub(crate) dummy_prefix: bool,
    /// Only in front of a whole text, not behind control tokens, and not where there is one already
    /// (transformers' `legacy: false`).
    pub(crate) first_only: bool,
    /// No space at either end, one where there are several.
    pub(crate) remove_extra_whitespaces: bool,
}

impl TokenizerFile {
    /// An added token as tokenizer.json has it.
    pub(crate) fn added_token(id: u32, content: &str, special: bool) -> Value {
        json!({
            "id": id,
            "content": content,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": special,
        })
    }

    /// As byte-level BPE, the tokens in GPT-2's alphabet.
    pub(crate) fn byte_level(self, pre_tokenizer: PreTokenizer) -> Value {
        let split = |regex: &&str| {
            json!({
                "type": "Split",
                "pattern": { "Regex": regex },
                "behavior": "Isolated",
                "invert": false,
            })
        };
        let mut steps: Vec<Value> = pre_tokenizer.regexes.iter().map(split).collect();
        steps.push(byte_level());
        let model = json!({ "ignore_merges": pre_tokenizer.ignore_merges });
        self.file(json!({
            "normalizer": null,
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
            "decoder": byte_level(),
            "model": model,
        }))
    }

    /// As SentencePiece's BPE, `unknown` for what has neither a piece nor bytes.
    ///
    /// Source: transformers 5.24.0, `LlamaConverter` (convert_slow_tokenizer.py).
    pub(crate) fn sentencepiece(self, unknown: Option<&str>, how: &Normalization) -> Value {
        let space = SPACE.to_string();
        let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let mut steps = Vec::new();
        if how.remove_extra_whitespaces {
            steps.push(replace(json!({ "Regex": "^ +| +$" }), ""));
            steps.push(replace(json!({ "Regex": " {2,}" }), " "));
        }
        let mut pre_tokenizer = Value::Null;
        if how.first_only {
            let scheme = if how.dummy_prefix { "first" } else { "never" };
            pre_tokenizer = json!({
                "type": "Metaspace",
                "replacement": space,
                "prepend_scheme": scheme,
                "split": false,
            });
        } else {
            if how.dummy_prefix {
                steps.push(json!({ "type": "Prepend", "prepend": space }));
            }
            steps.push(replace(json!({ "String": " " }), &space));
        }
        let mut decoders = vec![
            replace(json!({ "String": space }), " "),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if how.dummy_prefix {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        let model = json!({ "unk_token": unknown, "fuse_unk": true, "byte_fallback": true });
        self.file(json!({
            "normalizer": { "type": "Sequence", "normalizers": steps },
            "pre_tokenizer": pre_tokenizer,
            "decoder": { "type": "Sequence", "decoders": decoders },
            "model": model,
        }))
    }

    /// The file with the parts that `kind` has.
    fn file(self, mut kind: Value) -> Value {
        let mut model = json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
        });
        if let (Some(all), Some(own)) = (model.as_object_mut(), kind["model"].as_object_mut()) {
            all.append(own);
        }
        model["vocab"] = self.vocab.into();
        model["merges"] = self.merges.into();
        kind["model"] = model;
        kind["version"] = json!("1.0");
        kind["truncation"] = Value::Null;
        kind["padding"] = Value::Null;
        kind["added_tokens"] = self.added.into();
        kind["post_processor"] = match (self.affixes.post_processor(), &kind["pre_tokenizer"]) {
            (Some(around), _) => around,
            (None, pre) if pre["type"] == "Sequence" => byte_level(),
            (None, _) => Value::Null,
        };
        kind
    }
}

fn byte_level() -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    })
}
