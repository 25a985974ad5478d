//! Nested scales: units in f16 and multipliers of 8 bits, from scales in f32 and back.

use burn::tensor::Bytes;
use half::f16;

use super::layout::{each_chunk, pack_codes};
use super::packed_matrix::{PANEL_ROWS, PackedSizes};
use super::scales::ScaleLayout;
use super::{PackedFormat, PackingError, QuantizedMatrix, ScaleDtype};

/// Codes with multipliers, units of scales, and units of minimums.
type Parts = (Bytes, Bytes, Option<Bytes>);

/// The parts of `matrix`, which `format` (in panels) fits.
///
/// # Errors
/// [`PackingError::NotNested`].
pub(super) fn pack_nested(
    matrix: &QuantizedMatrix,
    format: &PackedFormat,
) -> Result<Parts, PackingError> {
    let (shape, groups) = (matrix.shape, matrix.groups());
    let sizes = PackedSizes::new(shape, format);
    let layout = ScaleLayout::new(shape, format);
    let mut codes = pack_codes(&matrix.codes, shape, format);
    let parts = format.parts();
    let mut nest = |part: usize, name: &'static str, values: &[f32]| {
        let (units, multipliers) =
            split(values, groups, ScaleDtype::NESTED_COLUMNS / format.group_size)
                .map_err(|row| PackingError::NotNested { part: name, row })?;
        each_chunk(&mut codes, sizes.panel_bytes, |panel, packed| {
            let packed = &mut packed[sizes.panel_bytes - groups * parts * PANEL_ROWS..];
            let rows = multipliers[panel * PANEL_ROWS * groups..].chunks_exact(groups.max(1));
            for (row, multipliers) in rows.take(PANEL_ROWS).enumerate() {
                for (group, &multiplier) in multipliers.iter().enumerate() {
                    packed[(group * parts + part) * PANEL_ROWS + row] = multiplier.cast_unsigned();
                }
            }
        });
        Ok(Bytes::from_elems(layout.pack(&units, f16::from_f32)))
    };
    let scales = nest(0, "scales", &matrix.scales)?;
    let minimums = matrix.minimums.as_deref().map(|values| nest(1, "minimums", values));
    Ok((codes.into_bytes(), scales, minimums.transpose()?))
}

/// The scales (`part` 0) or minimums (1) `[N, G]` of a packed matrix, from their units.
pub(super) fn unnest(
    units: &[f32],
    packed: &[u8],
    part: usize,
    shape: [usize; 2],
    format: &PackedFormat,
) -> Vec<f32> {
    let sizes = PackedSizes::new(shape, format);
    let (parts, groups) = (format.parts(), sizes.groups);
    let per_unit = ScaleDtype::NESTED_COLUMNS / format.group_size;
    let mut values = vec![0.0; shape[0] * groups];
    each_chunk(&mut values, groups, |row, values| {
        let panel = row / PANEL_ROWS;
        let end = (panel + 1) * sizes.panel_bytes;
        let multipliers = &packed[end - groups * parts * PANEL_ROWS..end];
        let units = &units[row * sizes.scales_of_row..];
        for (group, value) in values.iter_mut().enumerate() {
            let at = (group * parts + part) * PANEL_ROWS + row % PANEL_ROWS;
            *value = units[group / per_unit] * f32::from(multipliers[at].cast_signed());
        }
    });
    values
}

/// Units, and multipliers of `values: [N, groups]`; the first row that has none otherwise.
fn split(values: &[f32], groups: usize, per_unit: usize) -> Result<(Vec<f32>, Vec<i8>), usize> {
    let mut units = vec![0.0; values.len() / per_unit];
    let mut multipliers = vec![0i8; values.len()];
    // Units that follow each other were mostly found with the same largest multiplier.
    let mut last = 63;
    let blocks = values.chunks_exact(per_unit).zip(multipliers.chunks_exact_mut(per_unit));
    for (at, ((values, multipliers), unit)) in blocks.zip(&mut units).enumerate() {
        *unit = unit_of(values, multipliers, &mut last).ok_or(at * per_unit / groups.max(1))?;
    }
    Ok((units, multipliers))
}

/// An f16 number of which all of `values` are multiples by whole numbers of 8 bits, to the bit; `last` is
/// the multiplier of the largest value that is tried first, and the one that was found.
fn unit_of(values: &[f32], multipliers: &mut [i8], last: &mut i16) -> Option<f32> {
    let largest = values.iter().fold(0.0f32, |largest, value| match value.abs() > largest.abs() {
        true => *value,
        false => largest,
    });
    if largest == 0.0 {
        // Zeros of one sign, or a mixture that no number times zero gives.
        let unit = values.first().copied().unwrap_or(0.0);
        multipliers.fill(0);
        return values.iter().all(|value| value.to_bits() == unit.to_bits()).then_some(unit);
    }
    let mut fits = |most: i16| {
        let unit = largest / f32::from(most);
        let exact = f16::from_f32(unit).to_f32() == unit;
        exact && multiply_to(unit, values, multipliers)
    };
    let all = (1..=128).rev().flat_map(|most| [most, -most]);
    let found = [*last, -*last].into_iter().chain(all).find(|&most| fits(most))?;
    *last = found;
    Some(largest / f32::from(found))
}

/// Whether all of `values` are multiples of `unit`, which go to `multipliers`.
fn multiply_to(unit: f32, values: &[f32], multipliers: &mut [i8]) -> bool {
    /// Added to a float of at most `2^22` and taken off again, it leaves the nearest whole number;
    /// `round` is a call of libm.
    const SHIFT: f32 = 12_582_912.0;
    let inverse = 1.0 / unit;
    values.iter().zip(multipliers).all(|(value, to)| {
        *to = ((value * inverse + SHIFT) - SHIFT) as i8;
        (unit * f32::from(*to)).to_bits() == value.to_bits()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of a unit and multipliers comes back to the bit, whatever the signs.
    #[test]
    fn multiples_are_found_again() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        for round in 0..3000 {
            let unit = f16::from_bits((random() % 0x7c00) as u16).to_f32();
            let unit = if round % 3 == 0 { -unit } else { unit };
            let width = [4, 6, 7, 8][round % 4];
            let values: Vec<f32> = (0..8)
                .map(|_| {
                    let most = 1i32 << (width - 1);
                    let whole = (random() % (2 * most) as u32) as i32 - most;
                    unit * if round % 2 == 0 { whole.abs().min(127) } else { whole } as f32
                })
                .collect();
            let (units, multipliers) = split(&values, 8, 8).expect("they are multiples");
            for (value, multiplier) in values.iter().zip(multipliers) {
                assert_eq!(value.to_bits(), (units[0] * f32::from(multiplier)).to_bits());
            }
        }
    }

    #[test]
    fn other_numbers_are_refused() {
        assert_eq!(split(&[1.0, 2.0, 3.0, 4.0, 1.0, 1.0 / 3.0, 1.0, 2.0], 4, 4), Err(1));
        assert_eq!(split(&[0.0, -0.0], 2, 2), Err(0));
        // The larger one is 129 times the smaller one, which is more than 8 bits hold.
        assert_eq!(split(&[1.0, 129.0], 2, 2), Err(0));
    }
}
