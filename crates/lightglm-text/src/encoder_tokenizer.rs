//! `EncoderTokenizer`: texts to what an encoder (BERT and its kin) reads.

use std::path::Path;
use std::sync::Arc;

use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{
    Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy,
    truncate_encodings,
};

use crate::error::TextError;

/// What one pass of an encoder reads: a text, or a pair of texts, with the tokens that stand around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncoderInput {
    /// Token ids, `[CLS]` and `[SEP]` included.
    pub ids: Vec<u32>,
    /// For each id whether it belongs to the first text (0) or the second (1).
    pub type_ids: Vec<u32>,
    /// Tokens that there would be had nothing been cut off.
    pub whole_len: usize,
}

impl EncoderInput {
    /// The input of ids that are run as they are, as one text.
    pub fn of_ids(ids: Vec<u32>) -> Self {
        Self { type_ids: vec![0; ids.len()], whole_len: ids.len(), ids }
    }

    /// Whether a part of the text was cut off.
    pub fn is_truncated(&self) -> bool {
        self.whole_len > self.ids.len()
    }

    /// The `inputs` in runs of `tokens` tokens at most, and of at least one input each.
    pub fn runs(inputs: &[Self], tokens: usize) -> impl Iterator<Item = &[Self]> {
        let mut rest = inputs;
        std::iter::from_fn(move || {
            let mut taken = 0;
            let fitting = rest.iter().take_while(|input| {
                let first = taken == 0;
                taken += input.ids.len().max(1);
                first || taken <= tokens
            });
            let (run, others) = rest.split_at(fitting.count());
            rest = others;
            (!run.is_empty()).then_some(run)
        })
    }
}

/// The tokenizer.json of an encoder: WordPiece, SentencePiece's unigrams, or any that Hugging Face's
/// tokenizers library reads.
///
/// Other than [`Tokenizer`](crate::Tokenizer), it gives a text that spells `[SEP]` that very token, as
/// sentence-transformers does: an embedding has no instructions that a text could break out of.
#[derive(Clone, Debug)]
pub struct EncoderTokenizer {
    tokenizer: Arc<tokenizers::Tokenizer>,
    added: usize,
    added_to_pair: usize,
}

impl EncoderTokenizer {
    /// Reads `tokenizer.json` of a model's folder; `lowercase` asks for small letters where the file does not
    /// make them already. What the file says about padding and about its longest text is left out.
    ///
    /// # Errors
    /// [`TextError::NoTokenizer`], [`TextError::Read`] and [`TextError::Build`].
    pub fn from_dir(folder: impl AsRef<Path>, lowercase: bool) -> Result<Self, TextError> {
        let (folder, path) = (folder.as_ref(), folder.as_ref().join("tokenizer.json"));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let others =
                    ["vocab.txt", "vocab.json", "sentencepiece.bpe.model", "tokenizer.model"];
                let found = others.into_iter().filter(|name| folder.join(name).exists());
                let found = found.map(str::to_owned).collect();
                return Err(TextError::NoTokenizer { folder: folder.to_owned(), found });
            }
            Err(source) => return Err(TextError::Read { path, source }),
        };
        Self::from_bytes(&bytes, &path.display().to_string(), lowercase)
    }

    /// Reads the bytes of a tokenizer.json, which errors call `origin`; see [`Self::from_dir`].
    ///
    /// # Errors
    /// [`TextError::Build`].
    pub fn from_bytes(bytes: &[u8], origin: &str, lowercase: bool) -> Result<Self, TextError> {
        let build = |source| TextError::Build { origin: origin.to_owned(), source };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(build)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(build)?;
        if lowercase && !tokenizer.get_normalizer().is_some_and(makes_lowercase) {
            let own = tokenizer.get_normalizer().cloned();
            let all = [NormalizerWrapper::from(Lowercase)].into_iter().chain(own).collect();
            tokenizer.with_normalizer(Some(Sequence::new(all)));
        }
        let processor = tokenizer.get_post_processor();
        let [added, added_to_pair] =
            [false, true].map(|pair| processor.map_or(0, |processor| processor.added_tokens(pair)));
        Ok(Self { tokenizer: Arc::new(tokenizer), added, added_to_pair })
    }

    /// Tokens around a text that are no part of it.
    pub fn added_tokens(&self) -> usize {
        self.added
    }

    /// Tokens around a pair of texts.
    pub fn added_to_pair(&self) -> usize {
        self.added_to_pair
    }

    /// The input of `text`, its end cut off where that has more than `max_tokens`, the tokens around it
    /// included.
    ///
    /// # Errors
    /// [`TextError::Encode`] where the library gives up on a text.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Result<EncoderInput, TextError> {
        self.input(text, None, max_tokens)
    }

    /// The input of a pair of texts; tokens are cut off the longer one, as transformers' `truncation=True`
    /// does.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_pair(
        &self,
        first: &str,
        second: &str,
        max_tokens: usize,
    ) -> Result<EncoderInput, TextError> {
        self.input(first, Some(second), max_tokens)
    }

    fn input(
        &self,
        first: &str,
        second: Option<&str>,
        max_tokens: usize,
    ) -> Result<EncoderInput, TextError> {
        let bytes = first.len() + second.map_or(0, str::len);
        let failed = |source| TextError::Encode { bytes, source };
        let encode = |text: &str| self.tokenizer.encode_fast(text, false).map_err(failed);
        let (mut first, mut second) = (encode(first)?, second.map(encode).transpose()?);
        let added = if second.is_some() { self.added_to_pair } else { self.added };
        let len = |encoding: &Encoding| encoding.get_ids().len();
        let whole_len = len(&first) + second.as_ref().map_or(0, len) + added;
        if whole_len > max_tokens {
            let params = TruncationParams {
                max_length: max_tokens.saturating_sub(added),
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
                direction: TruncationDirection::Right,
            };
            let cut = truncate_encodings(first, second, &params);
            (first, second) = cut.map_err(failed)?;
            // What was cut off stays with the encodings, and pairs would be made of all of it.
            first.take_overflowing();
            second.iter_mut().for_each(|second| drop(second.take_overflowing()));
        }
        let encoding = self.tokenizer.post_process(first, second, true).map_err(failed)?;
        let (ids, type_ids) = (encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec());
        Ok(EncoderInput { ids, type_ids, whole_len })
    }
}

/// Whether a normalizer makes letters small.
fn makes_lowercase(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::BertNormalizer(bert) => bert.lowercase,
        NormalizerWrapper::Sequence(all) => all.as_ref().iter().any(makes_lowercase),
        _ => false,
    }
}
