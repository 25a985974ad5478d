//! Integer dot products of a tile of queries with a chunk's keys, and of probabilities with its
//! values, by whatever instruction the machine has for them.
//!
//! Sums of integers are exact, so every implementation gives the same bits.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use lightglm_core::KV_BLOCK;

use super::super::isa::{Isa, Kind};
use super::CHUNK;

/// Rows of a tile: two halves of each query.
pub(super) const ROWS: usize = 16;

/// The queries of a tile against the keys of some blocks.
pub(super) struct KeyDots<'a> {
    /// Blocks of key codes `[steps, 16, 4]`.
    pub(super) blocks: &'a [*const i8],
    /// Blocks of as many bytes, to be asked for ahead of their use; may be shorter.
    pub(super) ahead: &'a [*const i8],
    /// `[steps, ROWS, 4]`.
    pub(super) queries: *const i8,
    /// `-128` times the sum of each row of `queries`: `[ROWS]`.
    pub(super) offsets: *const i32,
    /// Groups of four channels.
    pub(super) steps: usize,
    /// Rows in use, an even number.
    pub(super) rows: usize,
    /// `[rows, CHUNK]`.
    pub(super) out: *mut i32,
}

/// The probabilities of a tile against the values of some blocks.
pub(super) struct ValueDots<'a> {
    /// Blocks of value codes `[4, d4, 4]`.
    pub(super) blocks: &'a [*const i8],
    /// `[rows, CHUNK]`, codes `0..=127`.
    pub(super) probabilities: *const i8,
    /// Channels, a multiple of four.
    pub(super) d4: usize,
    /// Rows in use, an even number.
    pub(super) rows: usize,
    /// `[rows, d16]`.
    pub(super) out: *mut i32,
}

impl ValueDots<'_> {
    fn d16(&self) -> usize {
        self.d4.next_multiple_of(16)
    }
}

/// `out[row][16 b + p] = sum over c of queries[row][c] keys[b][p][c]`.
///
/// # Safety
/// The pointers are valid for the shapes stated at [`KeyDots`]; query bytes and codes of positions
/// whose results are used are not less than -128 and -127.
pub(super) unsafe fn key_dots(isa: Isa, dots: &KeyDots<'_>) {
    // SAFETY: the instruction set is there; the rest is the caller's contract.
    unsafe {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if has_vnni() => vnni::key_dots(dots),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => avx2::key_dots(dots),
            _ => plain::key_dots(dots),
        }
    }
}

/// `out[row][c] = sum over positions p of probabilities[row][p] values[p][c]`.
///
/// # Safety
/// The pointers are valid for the shapes stated at [`ValueDots`].
pub(super) unsafe fn value_dots(isa: Isa, dots: &ValueDots<'_>) {
    // SAFETY: the instruction set is there; the rest is the caller's contract.
    unsafe {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if has_vnni() => vnni::value_dots(dots),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => avx2::value_dots(dots),
            _ => plain::value_dots(dots),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni")
}

mod plain {
    use super::*;

    pub(super) unsafe fn key_dots(dots: &KeyDots<'_>) {
        for (b, &block) in dots.blocks.iter().enumerate() {
            for row in 0..dots.rows {
                let mut sums = [0i32; KV_BLOCK];
                for step in 0..dots.steps {
                    // SAFETY: the caller's contract.
                    let (q, k) = unsafe {
                        let q = dots.queries.add((step * ROWS + row) * 4).cast::<[i8; 4]>();
                        let k = block.add(step * 4 * KV_BLOCK).cast::<[[i8; 4]; KV_BLOCK]>();
                        (&*q, &*k)
                    };
                    for (sum, k) in sums.iter_mut().zip(k) {
                        for (&q, &k) in q.iter().zip(k) {
                            *sum = sum.wrapping_add(i32::from(q) * i32::from(k));
                        }
                    }
                }
                // SAFETY: the caller's contract.
                unsafe {
                    let out = dots.out.add(row * CHUNK + b * KV_BLOCK);
                    std::ptr::copy_nonoverlapping(sums.as_ptr(), out, KV_BLOCK);
                }
            }
        }
    }

    pub(super) unsafe fn value_dots(dots: &ValueDots<'_>) {
        // SAFETY: the caller's contract.
        unsafe {
            for row in 0..dots.rows {
                let out = std::slice::from_raw_parts_mut(dots.out.add(row * dots.d16()), dots.d4);
                out.fill(0);
                for (b, &block) in dots.blocks.iter().enumerate() {
                    for group in 0..4 {
                        let at = row * CHUNK + b * KV_BLOCK + group * 4;
                        let p = &*dots.probabilities.add(at).cast::<[i8; 4]>();
                        let values = block.add(group * 4 * dots.d4).cast::<[i8; 4]>();
                        let values = std::slice::from_raw_parts(values, dots.d4);
                        for (sum, v) in out.iter_mut().zip(values) {
                            for (&p, &v) in p.iter().zip(v) {
                                *sum = sum.wrapping_add(i32::from(p) * i32::from(v));
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use core::arch::x86_64::*;

    use super::*;

    /// Adds the products of four bytes each: `a` of 0..=128, `b` of -127..=127, so that two products
    /// fit in 16 bits.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn dot(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(a, b);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn key_dots(dots: &KeyDots<'_>) {
        for (b, &block) in dots.blocks.iter().enumerate() {
            for row in (0..dots.rows).step_by(2) {
                // SAFETY: the caller's contract; rows come in pairs.
                unsafe {
                    let mut sums = [[_mm256_setzero_si256(); 2]; 2];
                    for step in 0..dots.steps {
                        let k = block.add(step * 4 * KV_BLOCK);
                        let keys =
                            [_mm256_loadu_si256(k.cast()), _mm256_loadu_si256(k.add(32).cast())];
                        for r in 0..2 {
                            let q = dots.queries.add((step * ROWS + row + r) * 4).cast::<i32>();
                            let q = _mm256_set1_epi32(q.read_unaligned());
                            let magnitude = _mm256_abs_epi8(q);
                            for half in 0..2 {
                                let signed = _mm256_sign_epi8(keys[half], q);
                                sums[r][half] = dot(sums[r][half], magnitude, signed);
                            }
                        }
                    }
                    for r in 0..2 {
                        let out = dots.out.add((row + r) * CHUNK + b * KV_BLOCK);
                        _mm256_storeu_si256(out.cast(), sums[r][0]);
                        _mm256_storeu_si256(out.add(8).cast(), sums[r][1]);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn value_dots(dots: &ValueDots<'_>) {
        for column in (0..dots.d4).step_by(8) {
            let columns = (dots.d4 - column).min(8);
            for row in (0..dots.rows).step_by(2) {
                // SAFETY: the caller's contract; rows come in pairs, `d4` columns in fours.
                unsafe {
                    let mut sums = [_mm256_setzero_si256(); 2];
                    for (b, &block) in dots.blocks.iter().enumerate() {
                        for group in 0..4 {
                            let v = block.add((group * dots.d4 + column) * 4);
                            let values = if columns == 8 {
                                _mm256_loadu_si256(v.cast())
                            } else {
                                _mm256_zextsi128_si256(_mm_loadu_si128(v.cast()))
                            };
                            for r in 0..2 {
                                let at = (row + r) * CHUNK + b * KV_BLOCK + group * 4;
                                let p = dots.probabilities.add(at).cast::<i32>();
                                let p = _mm256_set1_epi32(p.read_unaligned());
                                sums[r] = dot(sums[r], p, values);
                            }
                        }
                    }
                    for r in 0..2 {
                        let out = dots.out.add((row + r) * dots.d16() + column);
                        _mm256_storeu_si256(out.cast(), sums[r]);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use core::arch::x86_64::*;

    use super::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn key_dots(dots: &KeyDots<'_>) {
        let mut block = 0;
        while block < dots.blocks.len() {
            // SAFETY: the caller's contract.
            block += unsafe {
                if block + 2 <= dots.blocks.len() {
                    key_blocks::<2>(dots, block)
                } else {
                    key_blocks::<1>(dots, block)
                }
            };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn key_blocks<const N: usize>(dots: &KeyDots<'_>, block: usize) -> usize {
        let mut row = 0;
        while row < dots.rows {
            let left = dots.rows - row;
            // SAFETY: the caller's contract.
            row += unsafe {
                if left >= 8 {
                    key_rows::<8, N>(dots, block, row)
                } else if left >= 4 {
                    key_rows::<4, N>(dots, block, row)
                } else {
                    key_rows::<2, N>(dots, block, row)
                }
            };
        }
        N
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn key_rows<const R: usize, const N: usize>(
        dots: &KeyDots<'_>,
        block: usize,
        row: usize,
    ) -> usize {
        // SAFETY: the caller's contract; `N` blocks and `R` rows are there.
        unsafe {
            // The instruction wants one factor unsigned: keys plus 128, taken back by the offset.
            let mut sums = [[_mm512_setzero_si512(); N]; R];
            for r in 0..R {
                sums[r] = [_mm512_set1_epi32(*dots.offsets.add(row + r)); N];
            }
            let mut keys = [std::ptr::null(); N];
            keys.copy_from_slice(&dots.blocks[block..block + N]);
            let mut ahead = [std::ptr::null(); 4];
            if row == 0 {
                // Blocks are too short and too scattered for a hardware prefetcher: the next keys,
                // and the values that come after all keys.
                for (i, at) in ahead.iter_mut().enumerate() {
                    let from = if i < 2 {
                        dots.blocks.get(block + N + i)
                    } else {
                        dots.ahead.get(block + i - 2)
                    };
                    *at = from.copied().unwrap_or_default();
                }
            }
            let flip = _mm512_set1_epi8(-128);
            for step in 0..dots.steps {
                for at in ahead {
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(step * 4 * KV_BLOCK));
                }
                let mut k = [flip; N];
                for n in 0..N {
                    let codes = _mm512_loadu_si512(keys[n].add(step * 4 * KV_BLOCK).cast());
                    k[n] = _mm512_xor_si512(codes, flip);
                }
                for r in 0..R {
                    let q = dots.queries.add((step * ROWS + row + r) * 4).cast::<i32>();
                    let q = _mm512_set1_epi32(q.read_unaligned());
                    for n in 0..N {
                        sums[r][n] = _mm512_dpbusd_epi32(sums[r][n], k[n], q);
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    let out = dots.out.add((row + r) * CHUNK + (block + n) * KV_BLOCK);
                    _mm512_storeu_si512(out.cast(), sums[r][n]);
                }
            }
        }
        R
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn value_dots(dots: &ValueDots<'_>) {
        let mut column = 0;
        while column < dots.d4 {
            let left = dots.d4 - column;
            // SAFETY: the caller's contract.
            column += unsafe {
                if left >= 64 {
                    value_columns::<4>(dots, column)
                } else if left >= 32 {
                    value_columns::<2>(dots, column)
                } else {
                    value_columns::<1>(dots, column)
                }
            };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn value_columns<const J: usize>(dots: &ValueDots<'_>, column: usize) -> usize {
        let mut row = 0;
        while row < dots.rows {
            // SAFETY: the caller's contract.
            row += unsafe {
                if dots.rows - row >= 4 {
                    value_rows::<4, J>(dots, column, row)
                } else {
                    value_rows::<2, J>(dots, column, row)
                }
            };
        }
        J * 16
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn value_rows<const R: usize, const J: usize>(
        dots: &ValueDots<'_>,
        column: usize,
        row: usize,
    ) -> usize {
        let columns = (dots.d4 - column).min(J * 16);
        // Only a single vector can be partial.
        let mask = if columns < 16 { (1u16 << columns) - 1 } else { u16::MAX };
        // SAFETY: the caller's contract; columns below `d4` are there.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); J]; R];
            for (b, &block) in dots.blocks.iter().enumerate() {
                for group in 0..4 {
                    let from = block.add((group * dots.d4 + column) * 4);
                    let mut v = [_mm512_setzero_si512(); J];
                    for j in 0..J {
                        v[j] = _mm512_maskz_loadu_epi32(mask, from.add(j * 64).cast());
                    }
                    for r in 0..R {
                        let at = (row + r) * CHUNK + b * KV_BLOCK + group * 4;
                        let p = dots.probabilities.add(at).cast::<i32>();
                        let p = _mm512_set1_epi32(p.read_unaligned());
                        for j in 0..J {
                            sums[r][j] = _mm512_dpbusd_epi32(sums[r][j], p, v[j]);
                        }
                    }
                }
            }
            for r in 0..R {
                for j in 0..J {
                    let out = dots.out.add((row + r) * dots.d16() + column + j * 16);
                    _mm512_storeu_si512(out.cast(), sums[r][j]);
                }
            }
        }
        R
    }
}
