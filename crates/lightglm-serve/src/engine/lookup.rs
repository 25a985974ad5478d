//! `Lookup`: guesses the next tokens from what the sequence has said before.

use super::config::SpeculationConfig;

/// One sequence's guesses and how good they were.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    config: SpeculationConfig,
    /// Ids from here on are places of media, which no reply says.
    vocab_size: usize,
    /// Share of proposed tokens that were right, the recent ones more.
    accepted: f64,
    /// Length of the sequence from which on guessing is worth another try.
    resume_at: usize,
}

/// How much one draft counts in the running mean.
const SMOOTHING: f64 = 0.2;

impl Lookup {
    pub(crate) fn new(config: SpeculationConfig, vocab_size: usize) -> Self {
        // Optimistic: the first drafts decide.
        Self { config, vocab_size, accepted: 1.0, resume_at: 0 }
    }

    /// Proposes at most `room` tokens to follow `tokens`.
    pub(crate) fn draft<'a>(&self, tokens: &'a [u32], room: usize) -> &'a [u32] {
        if tokens.len() < self.resume_at {
            return &[];
        }
        let most = self.config.max_draft.min(room);
        let ngrams = self.config.min_ngram.max(1)..=self.config.max_ngram;
        if most == 0 {
            return &[];
        }
        for n in ngrams.rev() {
            let Some(start) = tokens.len().checked_sub(n) else { continue };
            let suffix = &tokens[start..];
            // The latest earlier occurrence; it may overlap the suffix, as in a run of one token.
            let found = (0..start).rev().find(|&at| &tokens[at..at + n] == suffix);
            if let Some(at) = found {
                let follows = &tokens[at + n..];
                let follows = &follows[..most.min(follows.len())];
                let media = follows.iter().position(|&id| id as usize >= self.vocab_size);
                return &follows[..media.unwrap_or(follows.len())];
            }
        }
        &[]
    }

    /// Notes that of `proposed` tokens `accepted` were right, in a sequence of `len` tokens by now.
    pub(crate) fn note(&mut self, proposed: usize, accepted: usize, len: usize) {
        if proposed == 0 {
            return;
        }
        let share = accepted as f64 / proposed as f64;
        self.accepted += SMOOTHING * (share - self.accepted);
        if self.accepted < self.config.min_accepted {
            self.resume_at = len + self.config.retry_after;
            // Worth two more bad drafts when it resumes.
            self.accepted = self.config.min_accepted / (1.0 - SMOOTHING).powi(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup() -> Lookup {
        let config =
            SpeculationConfig { max_draft: 3, max_ngram: 3, min_ngram: 1, ..Default::default() };
        Lookup::new(config, 100)
    }

    #[test]
    fn the_longest_and_latest_match_is_continued() {
        let tokens = [1, 2, 3, 9, 2, 3, 8, 7, 1, 2, 3];
        assert_eq!(lookup().draft(&tokens, 8), [9, 2, 3]);
        assert_eq!(lookup().draft(&tokens, 2), [9, 2]);
        assert_eq!(lookup().draft(&[4, 2, 3, 8, 5, 3], 8), [8, 5, 3]);
        assert_eq!(lookup().draft(&[5, 5], 8), [5]);
        assert!(lookup().draft(&[1, 2, 3], 8).is_empty());
        assert!(lookup().draft(&[], 8).is_empty());
        assert!(lookup().draft(&tokens, 0).is_empty());
    }

    #[test]
    fn nobody_proposes_a_picture() {
        assert_eq!(lookup().draft(&[1, 2, 3, 100, 100, 1, 2], 8), [3]);
        assert!(lookup().draft(&[1, 2, 100, 100, 1, 2], 8).is_empty());
    }

    #[test]
    fn wrong_guesses_end_and_are_tried_again() {
        let mut lookup = lookup();
        let tokens: Vec<u32> = vec![7; 500];
        let mut len = 10;
        while !lookup.draft(&tokens[..len], 3).is_empty() {
            lookup.note(3, 0, len);
            len += 1;
            assert!(len < 30, "it never stops");
        }
        let rest = lookup.config.retry_after;
        assert!(lookup.draft(&tokens[..len + rest - 2], 3).is_empty());
        assert!(!lookup.draft(&tokens[..len + rest], 3).is_empty());
    }
}
