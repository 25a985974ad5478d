//! `GrammarVocabulary`: a model's tokens as a grammar sees them.

use std::sync::Arc;

use lightglm_text::ChatText;
use llguidance::{ParserFactory, panic_utils::catch_unwind};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::structured::error::{StructuredError, message};
use crate::structured::json_guard::JsonGuard;
use crate::structured::token_mask::{WORD, insert};

/// Longest token that a grammar may use; the trie has 10 bits for a node's depth.
const MAX_TOKEN_BYTES: usize = 1000;

/// The trie has 22 bits for the number of its nodes, and needs a node per byte at most.
const MAX_TRIE_NODES: usize = 1 << 22;

/// The trie has 24 bits for a token's id, and takes the last one for none.
const MAX_VOCAB_SIZE: usize = (1 << 24) - 1;

/// What llguidance knows the end of a reply by: 0xFF and a name in angle brackets is a control token,
/// and it wants one to exist.
const END: &[u8] = b"\xFF<end>";

/// A model's tokens as a grammar sees them: built once, shared by every request.
///
/// Only tokens with bytes can be part of a grammar's text. Control tokens and the padding ids of a
/// vocabulary that is wider than its tokenizer have none, so no grammar can produce them; the
/// end-of-sequence tokens are allowed where a grammar accepts.
///
/// The tokens are not forced into the tokenizer's own segmentation: the model may spell a text as it
/// likes.
pub struct GrammarVocabulary {
    pub(crate) factory: ParserFactory,
    pub(crate) tokens: Arc<TokenTable>,
}

/// What a processor needs to know about the tokens.
pub(crate) struct TokenTable {
    env: TokEnv,
    pub(crate) vocab_size: usize,
    pub(crate) eos: Vec<u32>,
    /// Bits of the tokens that are text, one word more than the vocabulary needs at most.
    pub(crate) text: Vec<u32>,
    /// Tokens with an opening bracket in them, and the most brackets that one opens.
    pub(crate) openers: Vec<u32>,
    pub(crate) most_openers: usize,
    /// Tokens that can go on with a number.
    pub(crate) numeric: Vec<u32>,
    /// Tokens with a number in them that readers refuse, all by itself.
    pub(crate) unreadable: Vec<u32>,
}

impl TokenTable {
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.env.tok_trie().token(token)
    }
}

impl GrammarVocabulary {
    /// The tokens of `text`, for logits of `vocab_size`.
    ///
    /// Takes a good part of a second for 150,000 tokens.
    ///
    /// # Errors
    /// [`StructuredError::Vocabulary`] where no end-of-sequence token is below `vocab_size`, or there
    /// are more tokens than the automaton can number.
    pub fn new(text: &dyn ChatText, vocab_size: usize) -> Result<Self, StructuredError> {
        let refused = |reason: String| StructuredError::Vocabulary { reason };
        if vocab_size > MAX_VOCAB_SIZE {
            return Err(refused(format!("{vocab_size} tokens are more than {MAX_VOCAB_SIZE}")));
        }
        let is_in = |token: &u32| (*token as usize) < vocab_size;
        let eos: Vec<u32> = text.eos_token_ids().iter().copied().filter(is_in).collect();
        if eos.is_empty() {
            return Err(refused("it has no end-of-sequence token".into()));
        }
        let mut words = words(text, vocab_size, &eos);
        let nodes: usize = words.iter().map(Vec::len).sum::<usize>() + END.len();
        if nodes >= MAX_TRIE_NODES {
            return Err(refused(format!("{nodes} bytes of tokens are too many")));
        }
        words[eos[0] as usize] = END.to_vec();
        // What cannot fail by now is still llguidance's code over data it has not seen.
        let factory = catch_unwind(std::panic::AssertUnwindSafe(|| {
            let info = TokRxInfo::new(vocab_size as u32, eos[0]);
            let trie = TokTrie::from(&info, &words).with_eos_tokens(&eos);
            let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let mut factory = ParserFactory::new_simple(&env)?;
            factory.quiet();
            Ok(factory)
        }));
        let factory = factory.map_err(|error| refused(message(error)))?;
        let tokens = TokenTable::new(factory.tok_env().clone(), &words, eos);
        Ok(Self { factory, tokens: Arc::new(tokens) })
    }

    /// The width of the logits.
    pub fn vocab_size(&self) -> usize {
        self.tokens.vocab_size
    }
}

impl std::fmt::Debug for GrammarVocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarVocabulary")
            .field("vocab_size", &self.tokens.vocab_size)
            .field("eos", &self.tokens.eos)
            .finish_non_exhaustive()
    }
}

/// The bytes of every token that text can be made of; none for the others.
fn words(text: &dyn ChatText, vocab_size: usize, eos: &[u32]) -> Vec<Vec<u8>> {
    // 0xFF is in no UTF-8 text, and to llguidance it marks a control token.
    let is_text = |bytes: &&[u8]| bytes.len() <= MAX_TOKEN_BYTES && !bytes.contains(&0xFF);
    let bytes_of = |token: u32| match eos.contains(&token) {
        true => None,
        false => text.token_bytes(token).filter(is_text),
    };
    (0..vocab_size as u32)
        .map(|token| bytes_of(token).map(<[u8]>::to_vec).unwrap_or_default())
        .collect()
}

impl TokenTable {
    fn new(env: TokEnv, words: &[Vec<u8>], eos: Vec<u32>) -> Self {
        let vocab_size = words.len();
        let mut table = Self {
            env,
            vocab_size,
            eos,
            text: vec![0; vocab_size / WORD + 1],
            openers: Vec::new(),
            most_openers: 0,
            numeric: Vec::new(),
            unreadable: Vec::new(),
        };
        for (token, word) in (0u32..).zip(words) {
            if word.is_empty() || table.eos.contains(&token) {
                continue;
            }
            insert(&mut table.text, token);
            let openers = word.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
            if openers > 0 {
                table.openers.push(token);
                table.most_openers = table.most_openers.max(openers);
            }
            if continues_a_number(word) {
                table.numeric.push(token);
            }
            // Nesting is not the question here.
            let guard = JsonGuard::new(usize::MAX, false);
            if [false, true].iter().any(|&in_text| guard.at(1, in_text).push(word).is_err()) {
                table.unreadable.push(token);
            }
        }
        table
    }
}

/// Whether a number may have this as its next bytes. `e` may begin a word, too.
fn continues_a_number(word: &[u8]) -> bool {
    match word {
        [b'0'..=b'9' | b'.', ..] | [b'e' | b'E' | b'+' | b'-'] => true,
        [b'e' | b'E' | b'+' | b'-', next, ..] => matches!(next, b'0'..=b'9' | b'+' | b'-'),
        _ => false,
    }
}
