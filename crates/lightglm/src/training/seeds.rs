//! Seeds of their own for parts of a run.

/// A number that looks random, of some numbers in their order.
///
/// Source: Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators" (SplitMix64's mixer).
pub(super) fn mixed(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |state: u64, number| {
        let mut z = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
