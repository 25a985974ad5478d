//! The regular expressions behind the names in `tokenizer.ggml.pre`.
//!
//! Each expression splits what the one before left whole; all of them isolate their matches.
//! Source: llama.cpp, src/llama-vocab.cpp, `llm_tokenizer_bpe`.

use crate::error::TextError;

/// How one family of byte-level BPE tokenizers cuts text before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PreTokenizer {
    /// Applied one after the other.
    pub(crate) regexes: &'static [&'static str],
    /// Whether a piece that is a token is that token, whatever the merges say.
    pub(crate) ignore_merges: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Llama 3 and GLM-4: digits in groups of up to three.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen 2: digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What llama.cpp does where a file names no pre-tokenizer.
const DEFAULT: &[&str] = &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];

impl PreTokenizer {
    /// The pre-tokenizer that `tokenizer.ggml.pre` calls `name`.
    ///
    /// # Errors
    /// [`TextError::UnknownPreTokenizer`]: guessing would give wrong ids without a word.
    pub(crate) fn named(name: &str) -> Result<Self, TextError> {
        let (regexes, ignore_merges): (&'static [&'static str], bool) = match name {
            "" | "default" => (DEFAULT, false),
            "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "jais" | "jina-es" | "jina-de"
            | "jina-v2-es" | "jina-v2-de" | "gigachat" | "trillion" | "granite-docling" => {
                (&[GPT2], false)
            }
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone"
            | "minerva-7b" => (&[r"\p{N}", GPT2], false),
            // GLM-4's tokenizer.json sets ignore_merges; its merges alone do not reach every token.
            "glm4" | "chatglm-bpe" => (&[LLAMA3], true),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => (&[LLAMA3], true),
            "dbrx" | "smaug-bpe" => (&[LLAMA3], false),
            "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "hunyuan" | "megrez" => (&[QWEN2], false),
            _ => return Err(TextError::UnknownPreTokenizer { name: name.to_owned() }),
        };
        Ok(Self { regexes, ignore_merges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused_by_name() {
        let error = PreTokenizer::named("no-such").unwrap_err();
        assert!(matches!(error, TextError::UnknownPreTokenizer { name } if name == "no-such"));
    }

    #[test]
    fn the_named_families_are_known() {
        for name in ["smollm", "glm4", "chatglm-bpe", "llama-bpe", "gpt-2", "default", "qwen2"] {
            assert!(PreTokenizer::named(name).is_ok(), "{name}");
        }
    }
}
