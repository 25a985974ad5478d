//! Numbers that depend on a seed, a name and a place alone.

/// One step of SplitMix64's output function.
pub(super) fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The stream of a name under a seed: FNV-1a, mixed.
pub(super) fn stream(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash ^ mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// The number of place `index` in a stream, uniform over 24 bits: `[0, 1)`.
pub(super) fn unit(stream: u64, index: u64) -> f32 {
    let word = mix(stream ^ index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (word >> 40) as f32 / (1u32 << 24) as f32
}

/// `n` numbers uniform in `[-bound, bound)`.
pub(super) fn uniform(seed: u64, name: &str, n: usize, bound: f32) -> Vec<f32> {
    let stream = stream(seed, name);
    (0..n as u64).map(|i| (2.0 * unit(stream, i) - 1.0) * bound).collect()
}
