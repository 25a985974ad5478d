//! What can go wrong between text and token ids.

use std::path::PathBuf;

use crate::jinja::TemplateError;

/// An error of the tokenizer, the chat template or the text around them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or field is not valid JSON, or not the JSON that belongs there.
    #[error("{origin}: {field} is not as expected: {reason}")]
    Malformed {
        /// File or source of the bytes.
        origin: String,
        /// The field, by its path in the file.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file describes a tokenizer other than BPE, byte-level or SentencePiece's.
    #[error("{origin}: {field} is {found:?}; supported is BPE, byte-level or SentencePiece's")]
    UnsupportedTokenizer {
        /// File or source of the bytes.
        origin: String,
        /// The field that says so.
        field: &'static str,
        /// What it holds.
        found: String,
    },
    /// A model's folder has no tokenizer in a form that is read.
    #[error(
        "{} has neither tokenizer.json nor tokenizer.model{}",
        folder.display(),
        others(found)
    )]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
        /// Other tokenizers' files in it.
        found: Vec<String>,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer whose regular expressions are not known here.
    #[error("tokenizer.ggml.pre names the unknown pre-tokenizer {name:?}")]
    UnknownPreTokenizer {
        /// The name in the file.
        name: String,
    },
    /// Two tokens claim one id, or one token two ids.
    #[error("{origin}: token {token:?} collides with another at id {id}")]
    TokenCollision {
        /// File or source of the bytes.
        origin: String,
        /// The id both have.
        id: u32,
        /// The later of the two.
        token: String,
    },
    /// A token id is larger than any real vocabulary needs.
    #[error("{origin}: token id {id} is above the largest accepted id {max}")]
    TokenIdTooLarge {
        /// File or source of the bytes.
        origin: String,
        /// The id in the file.
        id: u64,
        /// The largest accepted.
        max: u32,
    },
    /// The tokenizers library refused the description of a tokenizer.
    #[error("{origin}: cannot build the tokenizer")]
    Build {
        /// File or source of the bytes.
        origin: String,
        /// The library's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A text could not be encoded.
    #[error("cannot encode a text of {bytes} bytes")]
    Encode {
        /// Its length in bytes.
        bytes: usize,
        /// The library's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A model directory, or a GGUF file, has no chat template.
    #[error("{origin} has no chat template")]
    NoChatTemplate {
        /// Directory or file.
        origin: String,
    },
    /// A model has no chat template, and its vocabulary lacks tokens of the one that is built in: its
    /// conversations need a template, plain texts do not.
    #[error(
        "{origin} has no chat template, and GLM-4's, which is built in, does not fit: the vocabulary \
         has no {}",
        missing.join(", ")
    )]
    NoFittingTemplate {
        /// Directory or file of the model.
        origin: String,
        /// Control tokens that the built-in template writes and the vocabulary does not have.
        missing: Vec<String>,
    },
    /// Several named chat templates, and none of them is called `default`.
    #[error("no chat template is called {name:?}; there are {available:?}")]
    UnknownChatTemplate {
        /// The name asked for.
        name: String,
        /// The names that exist.
        available: Vec<String>,
    },
    /// The template has a syntax error, or failed while it ran (steps and nesting included).
    #[error("chat template {name:?} failed at line {line}")]
    Template {
        /// Name of the template.
        name: String,
        /// Line of its source, from 1.
        line: u32,
        /// What is wrong.
        source: TemplateError,
    },
    /// The template uses something of Jinja or Python that is not run here. Found when it is loaded.
    #[error("chat template {name:?} uses {construct} at line {line}, which is not supported")]
    UnsupportedTemplate {
        /// Name of the template.
        name: String,
        /// Line of its source, from 1.
        line: u32,
        /// The construct: `filter "xmlattr"`, `method "encode"`, `tag "include"`.
        construct: String,
    },
    /// The template called `raise_exception`: it does not accept these messages.
    #[error("the chat template refused the messages: {message}")]
    Refused {
        /// What the template said.
        message: String,
    },
    /// Messages or tools are nested deeper than is accepted.
    #[error("messages or tools are nested deeper than {limit} levels")]
    NestedTooDeeply {
        /// Deepest accepted nesting.
        limit: usize,
    },
    /// The template has no such variable for the caller.
    #[error("the variable {name:?} {reason}")]
    NotAVariable {
        /// Its name.
        name: String,
        /// What is the matter with it.
        reason: &'static str,
    },
    /// Part of the conversation did not get into the prompt: the template does not write it.
    #[error("the chat template leaves out {field}")]
    NotInPrompt {
        /// Its path: `messages[3].content`, `tools[0]`.
        field: String,
    },
}

/// What is said of files that are no help.
fn others(found: &[String]) -> String {
    match found {
        [] => String::new(),
        found => format!(
            "; {} are not read: `AutoTokenizer.from_pretrained(...).save_pretrained(...)` of \
             transformers writes a tokenizer.json",
            found.join(", ")
        ),
    }
}
