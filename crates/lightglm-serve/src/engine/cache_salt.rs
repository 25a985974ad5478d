//! `CacheSalts`: model and request's salt as the one number that the cache knows.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Makes the cache's salts; the hash has random keys of this process, so nobody can choose two texts that meet.
#[derive(Default)]
pub(super) struct CacheSalts(RandomState);

impl CacheSalts {
    /// The cache's salt of requests to a model that say `cache_salt`; the model's own where it is empty.
    pub(super) fn of(&self, model: u64, cache_salt: &str) -> u64 {
        if cache_salt.is_empty() {
            return model;
        }
        // The upper half, where no model's is: those count from 0.
        self.0.hash_one((model, cache_salt)) | 1 << 63
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_differ_by_model_and_text_and_the_empty_one_is_the_models() {
        let salts = CacheSalts::default();
        assert_eq!((salts.of(0, ""), salts.of(7, "")), (0, 7));
        let all = [(0, "a"), (0, "b"), (1, "a"), (1, "ab"), (0, " ")];
        let mut numbers: Vec<u64> =
            all.iter().map(|(model, text)| salts.of(*model, text)).collect();
        assert!(numbers.iter().all(|number| *number > u64::MAX / 2));
        assert_eq!(salts.of(0, "a"), numbers[0]);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all.len());
    }
}
