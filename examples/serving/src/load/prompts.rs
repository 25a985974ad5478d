//! Prompts of a given length that have nothing, or a beginning, in common.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Words that most vocabularies have a token for.
const WORDS: [&str; 32] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "with", "as", "was", "on", "are",
    "by", "this", "be", "at", "from", "or", "an", "which", "we", "not", "have", "one", "can",
    "all", "more", "time", "people", "work",
];

/// Makes prompts.
#[derive(Clone, Debug)]
pub struct Prompts {
    shared: String,
    own_words: usize,
    seed: u64,
}

impl Prompts {
    /// Prompts of `words` words, about as many tokens, of which the first `shared` are the same.
    pub fn new(words: usize, shared: usize, seed: u64) -> Self {
        let shared = shared.min(words);
        Self { shared: text(shared, seed), own_words: words - shared, seed }
    }

    /// The prompt number `index`.
    pub fn get(&self, index: u64) -> String {
        let own = text(self.own_words, self.seed ^ (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        format!("{}{own}", self.shared)
    }
}

fn text(words: usize, seed: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..words).map(|_| format!(" {}", WORDS[random.next_u32() as usize % WORDS.len()])).collect()
}
