//! The tokenizer as a GGUF file carries it.

/// The `tokenizer.*` metadata of a GGUF file.
///
/// Source: the GGUF specification, "Tokenizer" (ggml's docs/gguf.md).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` is byte-level BPE, `llama` SentencePiece's.
    pub model: String,
    /// `tokenizer.ggml.pre`: names the pre-tokenizer, `smollm` or `glm4` for example.
    pub pre: String,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user defined,
    /// 5 unused, 6 byte. Empty where the file has none.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, `left right`, best first: of `gpt2`.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.scores`, by id: of `llama`, which makes the piece of the highest score first.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos_token_id: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`, followed by `eot_token_id` and `eom_token_id` where present.
    pub eos_token_ids: Vec<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad_token_id: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`. Whatever it says, a GLM's texts begin with `[gMASK]<sop>`.
    pub add_bos_token: bool,
    /// `tokenizer.ggml.add_eos_token`: texts end with the first of the EOS tokens.
    pub add_eos_token: bool,
    /// `tokenizer.ggml.add_space_prefix`: of `llama`, a space in front of a text and of what follows a
    /// control token.
    pub add_space_prefix: bool,
    /// `tokenizer.ggml.remove_extra_whitespaces`: of `llama`, spaces at both ends and all but one of several
    /// are left out.
    pub remove_extra_whitespaces: bool,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

impl GgufVocabulary {
    /// What chat templates ask for by name: the texts of `bos_token`, `eos_token`, `pad_token`.
    pub fn special_tokens(&self) -> impl Iterator<Item = (String, String)> {
        let named = [
            ("bos_token", self.bos_token_id),
            ("eos_token", self.eos_token_ids.first().copied()),
            ("pad_token", self.pad_token_id),
        ];
        named.into_iter().filter_map(|(name, id)| {
            let token = self.tokens.get(id? as usize)?;
            Some((name.to_owned(), token.clone()))
        })
    }
}
