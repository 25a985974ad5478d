//! Bytes and places in a sequence as 64 bits that look random.

/// FNV-1a of 64 bits: no change of a single byte goes unseen, since each step is a bijection.
///
/// Source: Fowler, Noll and Vo, RFC 9923.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::new();
        hash.add(bytes);
        hash.0
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn add_word(&mut self, word: u64) {
        self.add(&word.to_le_bytes());
    }

    /// Eight bytes a step, for what is large; another hash than that of [`add`](Self::add).
    pub(crate) fn add_by_words(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.0 = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
        }
        self.add(rest);
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

/// SplitMix64's output for a place in a sequence.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014), fig. 17.
pub(crate) fn mixed(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add((place.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
