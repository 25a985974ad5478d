//! Numbers of as many bits as they need, from the lowest bit of the first byte on.
//!
//! Source: Rice 1979, "Some Practical Universal Noiseless Coding Techniques"; Golomb's codes with exponents as in
//! ITU-T H.264, section 9.1.

/// Writes numbers behind each other.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    len: usize,
}

impl BitWriter {
    /// The `count` lowest bits of `value`.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        for bit in 0..count {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (self.len % 8);
            self.len += 1;
        }
    }

    /// So many zeros and a one.
    fn unary(&mut self, value: u64) {
        (0..value).for_each(|_| self.bits(0, 1));
        self.bits(1, 1);
    }

    /// Short for numbers below `2^order`, and a bit longer for each time that much more.
    pub(super) fn rice(&mut self, value: u64, order: u32) {
        self.unary(value >> order);
        self.bits(value, order);
    }

    /// Short for numbers below `2^order`, and two bits longer for each doubling.
    pub(super) fn exp_golomb(&mut self, value: u64, order: u32) {
        let x = value + (1 << order);
        self.unary(u64::from(x.ilog2() - order));
        self.bits(x, x.ilog2());
    }

    /// What was written, the last byte filled up with zeros.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The order in which [`BitWriter::rice`] is shortest for these numbers, and their bits together.
pub(super) fn best_rice(values: impl Iterator<Item = u64> + Clone, orders: u32) -> (u32, usize) {
    let all = (0..orders).map(|order| {
        let bits = values.clone().map(|value| (value >> order) as usize + 1 + order as usize);
        (order, bits.sum::<usize>())
    });
    all.min_by_key(|(_, bits)| *bits).unwrap_or_default()
}

/// Bits of [`BitWriter::exp_golomb`].
pub(super) fn exp_golomb_bits(value: u64, order: u32) -> usize {
    let x = value + (1 << order);
    (2 * x.ilog2() - order + 1) as usize
}

/// Reads what [`BitWriter`] wrote; `None` behind its end.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At most 64.
    pub(super) fn bits(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        for bit in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value |= u64::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Some(value)
    }

    fn unary(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
        }
        Some(zeros)
    }

    /// `order` is below 32.
    pub(super) fn rice(&mut self, order: u32) -> Option<u64> {
        // A row has far less than 2^32 bits.
        Some((self.unary()? << order) | self.bits(order)?)
    }

    /// `order` is below 32.
    pub(super) fn exp_golomb(&mut self, order: u32) -> Option<u64> {
        let more = u32::try_from(self.unary()?).ok().filter(|more| more + order < 63)?;
        let count = more + order;
        Some((1 << count | self.bits(count)?) - (1 << order))
    }

    /// Whether all is read but the zeros that fill the last byte up.
    pub(super) fn ends_here(mut self) -> bool {
        let left = self.bytes.len() * 8 - self.at;
        left < 8 && self.bits(left as u32) == Some(0)
    }
}
