//! Integer dot products of a tile of queries with a chunk's keys, and of probabilities with its
//! values, by whatever instruction the machine has for them.
//!
//! Sums of integers are exact, so every implementation gives the same bits.
//!
//! A query's code of 16 bits and a probability's of 14 are two bytes that are multiplied one after the
//! other where the instruction takes bytes ([`Form::Halves`]). Where it is `vpmaddwd`, codes are
//! multiplied whole with keys and values that are widened once for several queries: half of the
//! multiplications ([`Form::Whole`]).
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        clippy::needless_range_loop,
        reason = "an index counts through several register arrays at once"
    )
)]

use lightglm_core::KV_BLOCK;

use super::super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::super::isa::Kind;
use super::CHUNK;

/// Rows of a tile: two halves of each query.
pub(super) const ROWS: usize = 16;

/// How codes of queries and probabilities are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As two bytes: two rows of integers for each query, the high half's first.
    Halves,
    /// As integers of 16 bits in the place of the two bytes: the first of a query's two rows has the
    /// sums, the second is not touched.
    Whole,
}

impl Form {
    /// Channels at most for which whole sums fit 32 bits (`512 * 32512 * 127`) and the two halves' 24, so that
    /// both forms round the same sum once.
    const MOST_CHANNELS: usize = 512;

    /// The form of heads of `head_dim` channels.
    pub(super) fn new(isa: Isa, head_dim: usize) -> Self {
        match head_dim <= Self::MOST_CHANNELS && multiplies_words(isa) {
            true => Self::Whole,
            false => Self::Halves,
        }
    }
}

/// Whether integers of 16 bits are multiplied, and not bytes.
fn multiplies_words(isa: Isa) -> bool {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => !has_vnni(),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => true,
        _ => false,
    }
}

/// The queries of a tile against the keys of some blocks.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(
        dead_code,
        reason = "`form`, `ahead` and `offsets` are read by the kernels of x86 alone"
    )
)]
pub(super) struct KeyDots<'a> {
    pub(super) form: Form,
    /// Blocks of key codes `[steps, 16, 4]`.
    pub(super) blocks: &'a [*const i8],
    /// Blocks of as many bytes, to be asked for ahead of their use; may be shorter.
    pub(super) ahead: &'a [*const i8],
    /// `[steps, ROWS, 4]`, or `[steps, ROWS / 2, 4]` of 16 bits.
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
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "`form` is read by the kernels of x86 alone")
)]
pub(super) struct ValueDots<'a> {
    pub(super) form: Form,
    /// Blocks of value codes `[4, d4, 4]`.
    pub(super) blocks: &'a [*const i8],
    /// `[rows, CHUNK]`, codes `0..=127`; or `[rows / 2, CHUNK]` of 16 bits, codes `0..=16383`.
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
            Kind::Avx2 | Kind::Avx512 if dots.form == Form::Whole => avx2::key_dots(dots),
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
            Kind::Avx2 | Kind::Avx512 if dots.form == Form::Whole => avx2::value_dots(dots),
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

    /// Adds the products of 16-bit codes with bytes made 16 bits wide, two to a lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn dot(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    }

    /// Sixteen bytes as integers of 16 bits.
    ///
    /// # Safety
    /// They can be read.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn widen(from: *const i8) -> __m256i {
        // SAFETY: the caller's contract.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(from.cast()) })
    }

    /// Four codes of 16 bits in every quarter.
    ///
    /// # Safety
    /// They can be read.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn broadcast(from: *const i16) -> __m256i {
        // SAFETY: the caller's contract.
        _mm256_set1_epi64x(unsafe { from.cast::<i64>().read_unaligned() })
    }

    /// The sums of neighbouring lanes of `a`, then of `b`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_pairs(a: __m256i, b: __m256i) -> __m256i {
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b))
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn key_dots(dots: &KeyDots<'_>) {
        let queries = dots.rows / 2;
        for block in 0..dots.blocks.len() {
            let mut query = 0;
            while query < queries {
                // SAFETY: the caller's contract.
                query += unsafe {
                    if query + 2 <= queries {
                        key_block::<2>(dots, block, query)
                    } else {
                        key_block::<1>(dots, block, query)
                    }
                };
            }
        }
    }

    /// `Q` queries against a block of keys.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn key_block<const Q: usize>(dots: &KeyDots<'_>, block: usize, query: usize) -> usize {
        let keys = dots.blocks[block];
        let ahead = match query {
            // Blocks are too short and too scattered for a hardware prefetcher: the keys after the
            // next, and the values that come after all keys.
            0 => [dots.blocks.get(block + 2), dots.ahead.get(block)],
            _ => [None, None],
        };
        let ahead = ahead.map(|at| at.copied().unwrap_or_default());
        // SAFETY: the caller's contract.
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); 4]; Q];
            for step in 0..dots.steps {
                let from = keys.add(step * 4 * KV_BLOCK);
                if query == 0 {
                    // Both do not fit the first-level cache.
                    let [keys, values] = ahead.map(|at| at.wrapping_add(step * 4 * KV_BLOCK));
                    _mm_prefetch::<_MM_HINT_T0>(keys);
                    _mm_prefetch::<_MM_HINT_T1>(values);
                }
                let mut codes = [_mm256_setzero_si256(); Q];
                for q in 0..Q {
                    let at = dots.queries.add((step * ROWS + 2 * (query + q)) * 4);
                    codes[q] = broadcast(at.cast());
                }
                for quarter in 0..4 {
                    let keys = widen(from.add(16 * quarter));
                    for q in 0..Q {
                        sums[q][quarter] = dot(sums[q][quarter], keys, codes[q]);
                    }
                }
            }
            for q in 0..Q {
                let out = dots.out.add(2 * (query + q) * CHUNK + block * KV_BLOCK);
                for half in 0..2 {
                    let sums = add_pairs(sums[q][2 * half], sums[q][2 * half + 1]);
                    _mm256_storeu_si256(out.add(8 * half).cast(), sums);
                }
            }
        }
        Q
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn value_dots(dots: &ValueDots<'_>) {
        let queries = dots.rows / 2;
        let mut column = 0;
        while column < dots.d4 {
            let columns = if dots.d4 - column >= 16 { 16 } else { 4 };
            let mut query = 0;
            while query < queries {
                // SAFETY: the caller's contract; `d4` is a multiple of four.
                query += unsafe {
                    match (query + 2 <= queries, columns) {
                        (true, 16) => value_columns::<2, 4>(dots, column, query),
                        (true, _) => value_columns::<2, 1>(dots, column, query),
                        (false, 16) => value_columns::<1, 4>(dots, column, query),
                        (false, _) => value_columns::<1, 1>(dots, column, query),
                    }
                };
            }
            column += columns;
        }
    }

    /// `Q` queries' probabilities against `4 * J` columns.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn value_columns<const Q: usize, const J: usize>(
        dots: &ValueDots<'_>,
        column: usize,
        query: usize,
    ) -> usize {
        // SAFETY: the caller's contract.
        unsafe {
            let probabilities = dots.probabilities.cast::<i16>().add(query * CHUNK);
            let mut sums = [[_mm256_setzero_si256(); J]; Q];
            for (b, &block) in dots.blocks.iter().enumerate() {
                for group in 0..4 {
                    let from = block.add((group * dots.d4 + column) * 4);
                    let mut codes = [_mm256_setzero_si256(); Q];
                    for q in 0..Q {
                        let at = q * CHUNK + b * KV_BLOCK + group * 4;
                        codes[q] = broadcast(probabilities.add(at));
                    }
                    for j in 0..J {
                        let values = widen(from.add(16 * j));
                        for q in 0..Q {
                            sums[q][j] = dot(sums[q][j], values, codes[q]);
                        }
                    }
                }
            }
            for q in 0..Q {
                let out = dots.out.add(2 * (query + q) * dots.d16() + column);
                for j in (0..J).step_by(2) {
                    let sums = add_pairs(sums[q][j], sums[q][(j + 1) % J]);
                    match J {
                        1 => _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(sums)),
                        _ => _mm256_storeu_si256(out.add(4 * j).cast(), sums),
                    }
                }
            }
        }
        Q
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
