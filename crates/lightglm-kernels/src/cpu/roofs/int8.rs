//! The peak of 8-bit dot products, by whatever instruction the machine has for them.

use std::hint::black_box;

use super::best_seconds;

/// Peak of 8-bit multiply-accumulate into 32 bits in GOP/s (multiply and add count as two), with
/// `threads` threads, from registers.
///
/// By `vpdpbusd` with AVX-512 VNNI, `vpmaddubsw` and `vpmaddwd` with AVX2, `sdot` on NEON, otherwise
/// by plain code.
pub fn int8_dot_gops(threads: usize) -> f64 {
    let threads = threads.max(1);
    let (work, operations) = kernel();
    /// About 1 ms on a 512-bit machine.
    const ROUNDS: usize = 200_000;
    let best = best_seconds(threads, 100, |_, (): &mut ()| {
        // SAFETY: `kernel` has picked one that this CPU can run.
        black_box(unsafe { work(black_box(ROUNDS)) });
    });
    (ROUNDS * operations * threads) as f64 / best / 1e9
}

/// A loop for this CPU, and the operations of one round.
fn kernel() -> (unsafe fn(usize) -> i32, usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512vnni") {
            return (x86::vnni, 12 * 64 * 2);
        }
        if has!("avx2") {
            return (x86::maddubs, x86::CHAINS * 32 * 2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        return (aarch64::sdot, 8 * 16 * 2);
    }
    (plain, 32 * 2)
}

/// 32 products a round.
unsafe fn plain(rounds: usize) -> i32 {
    let a: [i8; 32] = black_box([3; 32]);
    let b: [i8; 32] = black_box([5; 32]);
    let mut sums = [0i32; 32];
    for _ in 0..rounds {
        let a = black_box(&a);
        for i in 0..32 {
            sums[i] = sums[i].wrapping_add(i32::from(a[i]) * i32::from(b[i]));
        }
    }
    sums.iter().fold(0, |s, &x| s.wrapping_add(x))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;
    use std::hint::black_box;

    /// # Safety
    /// The CPU has AVX-512 F and VNNI.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn vnni(rounds: usize) -> i32 {
        let a = _mm512_set1_epi8(black_box(3));
        let b = _mm512_set1_epi8(black_box(5));
        let mut sums = [_mm512_setzero_si512(); 12];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        let mut total = _mm512_setzero_si512();
        for sum in sums {
            total = _mm512_add_epi32(total, sum);
        }
        _mm512_reduce_add_epi32(total)
    }

    /// Sums of [`maddubs`] that do not wait for one another: fewer leave the multipliers idle, 6 of them
    /// by a third.
    pub(super) const CHAINS: usize = 12;

    /// # Safety
    /// The CPU has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn maddubs(rounds: usize) -> i32 {
        let ones = _mm256_set1_epi16(1);
        let b = _mm256_set1_epi8(black_box(5));
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for round in 0..rounds {
            // Changes every round, so that the products cannot be hoisted.
            let a = _mm256_set1_epi8((round & 15) as i8);
            for sum in &mut sums {
                let pairs = _mm256_maddubs_epi16(_mm256_xor_si256(a, *sum), b);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        let mut total = _mm256_setzero_si256();
        for sum in sums {
            total = _mm256_add_epi32(total, sum);
        }
        let half =
            _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256::<1>(total));
        _mm_extract_epi32::<0>(half).wrapping_add(_mm_extract_epi32::<1>(half))
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use core::arch::aarch64::*;
    use core::arch::asm;
    use std::hint::black_box;

    /// # Safety
    /// The CPU has the dot product extension.
    #[target_feature(enable = "neon,dotprod")]
    pub(super) unsafe fn sdot(rounds: usize) -> i32 {
        let a = vdupq_n_s8(black_box(3));
        let b = vdupq_n_s8(black_box(5));
        let mut sums = [vdupq_n_s32(0); 8];
        for _ in 0..rounds {
            for sum in &mut sums {
                // SAFETY: the function's features include the instruction; registers only.
                unsafe {
                    asm!(
                        "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
                        sum = inout(vreg) *sum,
                        a = in(vreg) a,
                        b = in(vreg) b,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                }
            }
        }
        let mut total = vdupq_n_s32(0);
        for sum in sums {
            total = vaddq_s32(total, sum);
        }
        vaddvq_s32(total)
    }
}
