//! Codes and scales between plain order and the order of panels, panel by panel on all threads.

use burn::tensor::Bytes;

use super::packed_matrix::{PANEL_ROWS, PackedSizes};
use super::{PackedFormat, WeightBits};
use crate::cpu::team;
use crate::pages::Pages;

/// Bytes of a step of a panel.
const STEP: usize = 4 * PANEL_ROWS;
/// Steps that are packed for one row before the next row's turn: a cache line of plain codes.
const RUN: usize = 16;

/// Calls `work` with the index of each chunk of `len` elements and the chunk, on all threads.
pub(super) fn each_chunk<T: Send>(
    all: &mut [T],
    len: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    struct Start<T>(*mut T);
    // SAFETY: the pointer is used for disjoint chunks only, while `all` is borrowed.
    unsafe impl<T: Send> Sync for Start<T> {}
    impl<T> Start<T> {
        fn get(&self) -> *mut T {
            self.0
        }
    }
    let (total, start) = (all.len(), Start(all.as_mut_ptr()));
    team::parallel_for(total.div_ceil(len.max(1)), |index| {
        let first = index * len;
        let count = len.min(total - first);
        // SAFETY: `first..first + count` lies inside of `all` and is this task's alone.
        let chunk = unsafe { std::slice::from_raw_parts_mut(start.get().add(first), count) };
        work(index, chunk);
    });
}

/// `codes: [N, K]` in the order of panels; what follows a panel's codes is left to others.
pub(super) fn pack_codes(codes: &[u8], shape: [usize; 2], format: &PackedFormat) -> Pages {
    let ([n, k], sizes) = (shape, PackedSizes::new(shape, format));
    let columns = format.bits.columns_of_step();
    let mut packed = Pages::filled(sizes.codes, filler(format));
    each_chunk(&mut packed, sizes.panel_bytes, |panel, packed| {
        let packed = &mut packed[..sizes.steps * STEP];
        let first = panel * PANEL_ROWS;
        let rows = &codes[first * k..n.min(first + PANEL_ROWS) * k];
        for (run, packed) in packed.chunks_mut(RUN * STEP).enumerate() {
            for (row, codes) in rows.chunks_exact(k).enumerate() {
                let end = k.min((run + 1) * RUN * columns);
                let codes = &codes[run * RUN * columns..end];
                let steps = packed.chunks_exact_mut(STEP);
                for (step, codes) in steps.zip(codes.chunks(columns)) {
                    let bytes = &mut step[row * 4..][..4];
                    match format.bits {
                        WeightBits::Eight => bytes[..codes.len()].copy_from_slice(codes),
                        WeightBits::Four => pack_nibbles(codes, bytes),
                    }
                }
            }
        }
    });
    packed
}

/// The byte of codes that fill up a panel.
pub(super) fn filler(format: &PackedFormat) -> u8 {
    match (format.has_minimums, format.bits) {
        (true, _) => 0,
        (false, WeightBits::Eight) => 0x80,
        (false, WeightBits::Four) => 0x88,
    }
}

/// The rows `rows`, in that order, of scales `[P, columns, 32]` of elements of `SIZE` bytes. Rows that
/// fill up the last panel are 0.
pub(super) fn gather_rows<const SIZE: usize>(
    packed: &[u8],
    rows: &[usize],
    columns: usize,
) -> Bytes {
    let panel = columns * PANEL_ROWS * SIZE;
    let mut gathered = Pages::zeroed(rows.len().div_ceil(PANEL_ROWS) * panel);
    each_chunk(&mut gathered, panel, |index, gathered| {
        gather_into::<SIZE>(packed, panel, rows_of_panel(rows, index), gathered, 0);
    });
    gathered.into_bytes()
}

/// The rows `rows`, in that order, of a matrix's codes, step by step, and of the multipliers behind
/// them. Rows that fill up the last panel have the codes of [`filler`].
pub(super) fn gather_panels(
    packed: &[u8],
    rows: &[usize],
    sizes: &PackedSizes,
    format: &PackedFormat,
) -> Bytes {
    let panel = sizes.panel_bytes;
    let mut gathered = Pages::zeroed(rows.len().div_ceil(PANEL_ROWS) * panel);
    each_chunk(&mut gathered, panel, |index, gathered| {
        let rows = rows_of_panel(rows, index);
        let (codes, multipliers) = gathered.split_at_mut(sizes.steps * STEP);
        gather_into::<4>(packed, panel, rows, codes, filler(format));
        gather_into::<1>(&packed[codes.len()..], panel, rows, multipliers, 0);
    });
    gathered.into_bytes()
}

/// The rows of the `index`-th panel of `rows`.
fn rows_of_panel(rows: &[usize], index: usize) -> &[usize] {
    &rows[index * PANEL_ROWS..rows.len().min((index + 1) * PANEL_ROWS)]
}

/// Gathers up to 32 rows of elements of `SIZE` bytes from panels `panel` bytes apart; further rows get
/// bytes `filler`.
fn gather_into<const SIZE: usize>(
    packed: &[u8],
    panel: usize,
    rows: &[usize],
    gathered: &mut [u8],
    filler: u8,
) {
    let start = |&row: &usize| row / PANEL_ROWS * panel + row % PANEL_ROWS * SIZE;
    let starts: Vec<usize> = rows.iter().map(start).collect();
    for (column, gathered) in gathered.chunks_exact_mut(PANEL_ROWS * SIZE).enumerate() {
        let (gathered, _) = gathered.as_chunks_mut::<SIZE>();
        for (element, &start) in gathered.iter_mut().zip(&starts) {
            element.copy_from_slice(&packed[start + column * PANEL_ROWS * SIZE..][..SIZE]);
        }
        gathered[starts.len()..].fill([filler; SIZE]);
    }
}

/// The codes `[N, K]` of a packed matrix.
pub(super) fn unpack_codes(packed: &[u8], shape: [usize; 2], format: &PackedFormat) -> Vec<u8> {
    let ([n, k], sizes) = (shape, PackedSizes::new(shape, format));
    let columns = format.bits.columns_of_step();
    let mut codes = vec![0; n * k];
    each_chunk(&mut codes, PANEL_ROWS * k, |panel, codes| {
        let packed = &packed[panel * sizes.panel_bytes..][..sizes.steps * STEP];
        for (run, packed) in packed.chunks(RUN * STEP).enumerate() {
            for (row, codes) in codes.chunks_exact_mut(k).enumerate() {
                let end = k.min((run + 1) * RUN * columns);
                let codes = &mut codes[run * RUN * columns..end];
                let steps = packed.chunks_exact(STEP);
                for (step, codes) in steps.zip(codes.chunks_mut(columns)) {
                    let bytes = &step[row * 4..][..4];
                    match format.bits {
                        WeightBits::Eight => codes.copy_from_slice(&bytes[..codes.len()]),
                        WeightBits::Four => unpack_nibbles(bytes, codes),
                    }
                }
            }
        }
    });
    codes
}

/// Up to eight codes into four bytes: the first four into the low nibbles.
fn pack_nibbles(codes: &[u8], bytes: &mut [u8]) {
    if let (Ok(codes), [_, _, _, _]) = (<[u8; 8]>::try_from(codes), &*bytes) {
        let codes = u64::from_le_bytes(codes);
        bytes.copy_from_slice(&(codes as u32 | (codes >> 32 << 4) as u32).to_le_bytes());
        return;
    }
    for (column, &code) in codes.iter().enumerate() {
        let byte = &mut bytes[column % 4];
        *byte = if column < 4 { *byte & 0xf0 | code } else { *byte & 15 | code << 4 };
    }
}

fn unpack_nibbles(bytes: &[u8], codes: &mut [u8]) {
    if let (Ok(bytes), [_, _, _, _, _, _, _, _]) = (<[u8; 4]>::try_from(bytes), &*codes) {
        let both = u64::from(u32::from_le_bytes(bytes));
        let codes_of = both & 0x0f0f_0f0f | (both & 0xf0f0_f0f0) << 28;
        codes.copy_from_slice(&codes_of.to_le_bytes());
        return;
    }
    for (column, code) in codes.iter_mut().enumerate() {
        let byte = bytes[column % 4];
        *code = if column < 4 { byte & 15 } else { byte >> 4 };
    }
}
