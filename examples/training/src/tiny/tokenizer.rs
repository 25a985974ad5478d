//! A tokenizer of our own: byte-level BPE of the text that the model learns from, with GLM-4's special tokens.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use lightglm::write_whole;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// GLM-4's pattern, but for two things that make copying easy: digits stay alone, so that a number is copied digit
/// by digit; and punctuation stays apart from the letters behind it, so that a Chinese sentence has the same tokens
/// in the middle of a text as at the beginning of an answer.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// GLM-4's special tokens, in their order.
pub const SPECIAL: [&str; 18] = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
    "<|video|>",
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
];

/// The tokens that end a reply: `<|endoftext|>`, `<|user|>`, `<|observation|>`.
pub const ENDS: [usize; 3] = [0, 7, 9];

/// Learns `vocab_size` tokens, special ones included, from `texts`, and writes `tokenizer.json` to `folder`.
///
/// # Errors
/// Where the texts have fewer tokens in them, or the file cannot be written.
pub fn train(texts: &[String], vocab_size: usize, folder: &Path) -> Result<()> {
    let fault = |error: tokenizers::Error| anyhow!("the tokenizer: {error}");
    let split =
        Split::new(SplitPattern::Regex(PATTERN.into()), SplitDelimiterBehavior::Isolated, false);
    let pieces: Vec<PreTokenizerWrapper> =
        vec![split.map_err(fault)?.into(), ByteLevel::new(false, true, false).into()];
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(pieces)));
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size - SPECIAL.len())
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(alphabet)
        .max_token_length(Some(24))
        .build();
    let mut trainer = tokenizers::models::TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, texts.iter()).map_err(fault)?;
    let learnt = tokenizer.get_vocab_size(false);
    ensure!(learnt + SPECIAL.len() == vocab_size, "the texts have only {learnt} tokens in them");
    let trained = tokenizer.to_string(false).map_err(fault)?;
    let trained: Value = serde_json::from_str(&trained).context("the tokenizer's JSON")?;
    write_whole(&folder.join("tokenizer.json"), with_special_tokens(&trained, learnt).to_string())?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "eos_token": SPECIAL[0],
        "pad_token": SPECIAL[0],
        "padding_side": "left",
        "additional_special_tokens": SPECIAL,
    });
    write_whole(&folder.join("tokenizer_config.json"), format!("{config:#}\n"))?;
    Ok(())
}

/// In GLM-4's layout: special tokens behind the others, `[gMASK]<sop>` in front of every text.
fn with_special_tokens(trained: &Value, learnt: usize) -> Value {
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(i, content)| {
            json!({
                "id": learnt + i, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let special = |content: &str| {
        let id = SPECIAL.iter().position(|other| *other == content).unwrap_or(0) + learnt;
        json!({"id": content, "ids": [id], "tokens": [content]})
    };
    let token = |content: &str| json!({"SpecialToken": {"id": content, "type_id": 0}});
    let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    let (mask, start) = ("[gMASK]", "<sop>");
    let mut model = trained["model"].clone();
    model["ignore_merges"] = json!(true);
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": trained["pre_tokenizer"],
        "post_processor": {"type": "TemplateProcessing",
            "single": [token(mask), token(start), sequence("A", 0)],
            "pair": [token(mask), token(start), sequence("A", 0), sequence("B", 1)],
            "special_tokens": {"[gMASK]": special(mask), "<sop>": special(start)}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": model,
    })
}
