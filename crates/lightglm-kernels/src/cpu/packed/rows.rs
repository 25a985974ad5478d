//! Rows of a packed matrix, as embeddings want them.

use super::super::scratch::Shared;
use super::super::team;
use super::tile::{Nested, STEP};
use super::{PackedWeights, Scales};
use crate::packed::{ChannelLayout, CodeOrder, PANEL_ROWS, ScaleLayout, WeightBits};

/// Rows `ids` of `w: [V, D]` in f32: `out: [ids.len(), D]`.
///
/// # Panics
/// Where an id is not below `V` or the lengths of the slices contradict each other.
pub fn gather_packed_rows(w: &PackedWeights<'_>, ids: &[u32], out: &mut [f32]) {
    let ([v, d], sizes) = (w.shape, w.check());
    assert_eq!(out.len(), ids.len() * d, "out has {} elements, not ids * D", out.len());
    if let Some(id) = ids.iter().find(|&&id| id as usize >= v) {
        panic!("id {id} is not below V = {v}");
    }
    let (panel_bytes, nibbles) = (sizes.panel_bytes, w.format.bits == WeightBits::Four);
    let nested = Nested::new(&w.format, &sizes);
    let channels = ChannelLayout::new(w.shape, w.format.bits);
    let scales = ScaleLayout::new(w.shape, &w.format);
    let offset = f32::from(w.format.bits.offset());
    let to = Shared(out.as_mut_ptr());
    team::parallel_for(ids.len(), |index| {
        let row = ids[index] as usize;
        let (panel, lane) = (row / PANEL_ROWS, row % PANEL_ROWS);
        // SAFETY: row `index` lies inside of `out`, and only this task writes it.
        let out = unsafe { std::slice::from_raw_parts_mut(to.get().add(index * d), d) };
        for (group, out) in out.chunks_mut(w.format.group_size).enumerate() {
            let scale_of = |part: usize, from: &Scales<'_>| match nested {
                None => from.get(scales.at(row, group)),
                Some(nested) => {
                    let at = panel * panel_bytes + nested.at(group, part, lane);
                    let unit = from.get(scales.at(row, nested.unit(group)));
                    unit * f32::from(w.codes[at].cast_signed())
                }
            };
            let (scale, first) = (scale_of(0, &w.scales), group * w.format.group_size);
            let minimum = w.minimums.as_ref().map(|minimums| scale_of(1, minimums));
            let value = |code: u8| match minimum {
                None => (f32::from(code) - offset) * scale,
                Some(minimum) => f32::from(code) * scale + minimum,
            };
            match w.format.order {
                // Groups begin with a step.
                CodeOrder::Panels => {
                    let columns = w.format.bits.columns_of_step();
                    let start = panel * panel_bytes + first / columns * STEP + lane * 4;
                    for (step, out) in out.chunks_mut(columns).enumerate() {
                        let bytes = &w.codes[start + step * STEP..][..4];
                        for (out, byte) in out.iter_mut().zip(bytes) {
                            *out = value(if nibbles { byte & 15 } else { *byte });
                        }
                        for (out, byte) in out.iter_mut().skip(4).zip(bytes) {
                            *out = value(byte >> 4);
                        }
                    }
                }
                CodeOrder::Channels => {
                    for (i, out) in out.iter_mut().enumerate() {
                        let code = match (nibbles, channels.code(w.codes, row, first + i)) {
                            (false, (byte, _)) => byte,
                            (true, (byte, true)) => byte & 15,
                            (true, (byte, false)) => byte >> 4,
                        };
                        *out = value(code);
                    }
                }
            }
        }
    });
}
