//! `Mutator`: small changes to bytes.

use crate::split_mix::SplitMix;

/// Values at which length and offset arithmetic breaks: around powers of two and type limits.
const INTERESTING: [u64; 16] = [
    0,
    1,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Longest block that one mutation inserts, copies or removes.
const LONGEST_BLOCK: usize = 64;

/// Changes inputs at random, by a seed.
#[derive(Clone, Debug)]
pub struct Mutator {
    random: SplitMix,
    dictionary: Vec<Vec<u8>>,
    max_len: usize,
}

impl Mutator {
    /// Mutations of `seed`; `dictionary` holds tokens of the input's language (empty ones are
    /// dropped), and no input becomes longer than `max_len` bytes.
    pub fn new(seed: u64, mut dictionary: Vec<Vec<u8>>, max_len: usize) -> Self {
        dictionary.retain(|token| !token.is_empty());
        Self { random: SplitMix::new(seed), dictionary, max_len }
    }

    /// A copy of one of the `corpus`' inputs with one to eight changes, fewer being likelier.
    pub fn next_input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = match corpus.len() {
            0 => Vec::new(),
            len => corpus[self.random.below(len)].clone(),
        };
        let changes = 1 + (self.random.next_u64() | 1 << 7).trailing_zeros();
        for _ in 0..changes {
            self.change(&mut input, corpus);
            input.truncate(self.max_len);
        }
        input
    }

    /// One change. An empty input can only grow.
    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        if input.is_empty() {
            return self.insert_random(input);
        }
        match self.random.below(12) {
            0 => self.flip_bit(input),
            1 => self.replace_byte(input),
            2 => self.step_byte(input),
            3 => self.insert_random(input),
            4 => self.remove_block(input),
            5 | 6 => self.write_interesting(input),
            7 => self.copy_block(input),
            8 => self.splice(input, corpus),
            9 => input.truncate(self.random.below(input.len() + 1)),
            10 => self.extend(input),
            _ => self.insert_token(input),
        }
    }

    fn flip_bit(&mut self, input: &mut [u8]) {
        let bit = self.random.below(input.len() * 8);
        input[bit / 8] ^= 1 << (bit % 8);
    }

    fn replace_byte(&mut self, input: &mut [u8]) {
        let index = self.random.below(input.len());
        input[index] = self.random.next_u64() as u8;
    }

    /// Adds or takes at most 16: counts that are off by one, digits that become other digits.
    fn step_byte(&mut self, input: &mut [u8]) {
        let index = self.random.below(input.len());
        let step = self.random.below(33) as u8;
        input[index] = input[index].wrapping_add(step).wrapping_sub(16);
    }

    fn insert_random(&mut self, input: &mut Vec<u8>) {
        let at = self.random.below(input.len() + 1);
        let len = 1 + self.random.below(8);
        let bytes: Vec<u8> = (0..len).map(|_| self.random.next_u64() as u8).collect();
        input.splice(at..at, bytes);
    }

    fn remove_block(&mut self, input: &mut Vec<u8>) {
        let (start, end) = self.block(input.len());
        input.drain(start..end);
    }

    /// Overwrites 1, 2, 4 or 8 bytes, aligned to their size, with a little-endian number.
    fn write_interesting(&mut self, input: &mut [u8]) {
        let width = 1_usize << self.random.below(4);
        if input.len() < width {
            return self.flip_bit(input);
        }
        let at = self.random.below(input.len() / width) * width;
        let mut value = INTERESTING[self.random.below(INTERESTING.len())];
        if self.random.below(4) == 0 {
            // Near the input's own length, where offsets are checked.
            value = (input.len() as u64).wrapping_add(self.random.below(17) as u64).wrapping_sub(8);
        }
        input[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    /// Inserts a block of the input elsewhere in the input.
    fn copy_block(&mut self, input: &mut Vec<u8>) {
        let (start, end) = self.block(input.len());
        let block = input[start..end].to_vec();
        let at = self.random.below(input.len() + 1);
        input.splice(at..at, block);
    }

    /// Ends the input as another one of the corpus ends.
    fn splice(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let Some(other) = corpus.get(self.random.below(corpus.len().max(1))) else { return };
        let tail = self.random.below(other.len() + 1);
        input.truncate(self.random.below(input.len() + 1));
        input.extend_from_slice(&other[tail..]);
    }

    /// Repeats one byte at the end.
    fn extend(&mut self, input: &mut Vec<u8>) {
        let byte = input[self.random.below(input.len())];
        let len = 1 + self.random.below(LONGEST_BLOCK);
        input.resize(input.len() + len, byte);
    }

    /// Inserts a token of the dictionary, or overwrites what stands there.
    fn insert_token(&mut self, input: &mut Vec<u8>) {
        if self.dictionary.is_empty() {
            return self.replace_byte(input);
        }
        let token = self.dictionary[self.random.below(self.dictionary.len())].clone();
        let at = self.random.below(input.len() + 1);
        let overwritten = if self.random.below(2) == 0 { 0 } else { token.len() };
        let end = input.len().min(at + overwritten);
        input.splice(at..end, token);
    }

    /// A random non-empty block of `len > 0` bytes.
    fn block(&mut self, len: usize) -> (usize, usize) {
        let start = self.random.below(len);
        let longest = LONGEST_BLOCK.min(len - start);
        (start, start + 1 + self.random.below(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_seed_decides() {
        let corpus = [b"one".to_vec(), b"twenty".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, vec![b"token".to_vec()], 100);
            (0..2_000).map(|_| mutator.next_input(&corpus)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let distinct: HashSet<_> = inputs(1).into_iter().collect();
        assert!(distinct.len() > 1_000, "{} distinct inputs", distinct.len());
        assert!(distinct.iter().all(|input| input.len() <= 100));
        assert!(distinct.iter().any(|input| input.windows(5).any(|bytes| bytes == b"token")));
    }

    #[test]
    fn odd_corpora_are_no_trouble() {
        for corpus in [vec![], vec![Vec::new()], vec![vec![0]], vec![vec![1; 300], Vec::new()]] {
            for max_len in [0, 1, 7, 400] {
                let mut mutator = Mutator::new(3, vec![Vec::new()], max_len);
                for _ in 0..500 {
                    assert!(mutator.next_input(&corpus).len() <= max_len);
                }
            }
        }
    }
}
