//! Where an adapter's matrices belong: projections of other layouts are parts of ours, or ours parts of them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::lora::{HEAD, LowRank};

/// Rows of a file's `lora_B`, and where they lie in a projection of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) projection: String,
    pub(super) rows: Range<usize>,
    pub(super) first: usize,
}

/// The places of the module `name` in a model whose projections have the shapes `shape`; `None` where there
/// is none.
///
/// * `gate_proj`, `up_proj`: the upper and the lower half of `gate_up_proj`
/// * ChatGLM's names (`transformer.encoder.layers.0.self_attention.query_key_value`): its fused projection is
///   `q_proj`, `k_proj` and `v_proj` under one another, the others are called otherwise
///
/// Source: ChatGLM's `modeling_chatglm.py`, `SelfAttention.forward` (the order of the fused rows).
pub(super) fn places(name: &str, shape: &dyn Fn(&str) -> Option<[usize; 2]>) -> Option<Vec<Place>> {
    let whole = |projection: String| {
        let [n, _] = shape(&projection)?;
        Some(vec![Place { projection, rows: 0..n, first: 0 }])
    };
    if shape(name).is_some() {
        return whole(name.to_owned());
    }
    for (half, last) in ["gate_proj", "up_proj"].iter().enumerate() {
        if let Some(start) = name.strip_suffix(last) {
            let projection = format!("{start}gate_up_proj");
            let [n, _] = shape(&projection)?;
            return Some(vec![Place { projection, rows: 0..n / 2, first: half * (n / 2) }]);
        }
    }
    if name == "transformer.output_layer" {
        return whole(HEAD.to_owned());
    }
    let (layer, part) = name.strip_prefix("transformer.encoder.layers.")?.split_once('.')?;
    let ours = |part: &str| format!("model.layers.{layer}.{part}");
    match part {
        "self_attention.dense" => whole(ours("self_attn.o_proj")),
        "mlp.dense_h_to_4h" => whole(ours("mlp.gate_up_proj")),
        "mlp.dense_4h_to_h" => whole(ours("mlp.down_proj")),
        "self_attention.query_key_value" => {
            let (mut parts, mut start) = (Vec::new(), 0);
            for projection in ["q_proj", "k_proj", "v_proj"] {
                let projection = ours(&format!("self_attn.{projection}"));
                let [n, _] = shape(&projection)?;
                parts.push(Place { projection, rows: start..start + n, first: 0 });
                start += n;
            }
            Some(parts)
        }
        _ => None,
    }
}

/// Adds `low` (of the file's module, all its rows) at `place` to the projection of shape `[n, k]`. Beside
/// what is there already, ranks are put next to each other: `[B1 B2] [A1; A2] = B1 A1 + B2 A2`.
pub(super) fn add(
    all: &mut BTreeMap<String, LowRank>,
    place: &Place,
    [n, k]: [usize; 2],
    low: &LowRank,
) {
    let mut rows = vec![0.0; n * low.rank];
    let from = &low.lora_b[place.rows.start * low.rank..place.rows.end * low.rank];
    rows[place.first * low.rank..][..from.len()].copy_from_slice(from);
    let Some(there) = all.remove(&place.projection) else {
        let low = LowRank { shape: [n, k], lora_b: rows, ..low.clone() };
        all.insert(place.projection.clone(), low);
        return;
    };
    let rank = there.rank + low.rank;
    let ratio = (low.scale / there.scale) as f32;
    let mut lora_b = Vec::with_capacity(n * rank);
    for row in 0..n {
        lora_b.extend(&there.lora_b[row * there.rank..][..there.rank]);
        lora_b.extend(rows[row * low.rank..][..low.rank].iter().map(|value| value * ratio));
    }
    let lora_a = [there.lora_a, low.lora_a.clone()].concat();
    let both = LowRank { rank, scale: there.scale, shape: [n, k], lora_a, lora_b };
    all.insert(place.projection.clone(), both);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str) -> Option<[usize; 2]> {
        Some(match name.strip_prefix("model.layers.0.")? {
            "self_attn.q_proj" => [6, 4],
            "self_attn.k_proj" | "self_attn.v_proj" => [2, 4],
            "mlp.gate_up_proj" => [8, 4],
            _ => return None,
        })
    }

    #[test]
    fn fused_projections_are_taken_apart_and_halves_put_together() {
        let found = |name: &str| {
            let places = places(name, &shape)?;
            let short = |place: Place| {
                let last = place.projection.rsplit('.').next().unwrap_or_default().to_owned();
                (last, place.rows, place.first)
            };
            Some(places.into_iter().map(short).collect::<Vec<_>>())
        };
        let one = |name: &str, rows, first| Some(vec![(name.to_owned(), rows, first)]);
        assert_eq!(found("model.layers.0.self_attn.q_proj"), one("q_proj", 0..6, 0));
        assert_eq!(found("model.layers.0.mlp.gate_proj"), one("gate_up_proj", 0..4, 0));
        assert_eq!(found("model.layers.0.mlp.up_proj"), one("gate_up_proj", 0..4, 4));
        let fused = found("transformer.encoder.layers.0.self_attention.query_key_value").unwrap();
        let rows: Vec<_> = fused.into_iter().map(|(_, rows, _)| rows).collect();
        assert_eq!(rows, [0..6, 6..8, 8..10]);
        assert_eq!(found("transformer.encoder.layers.1.self_attention.query_key_value"), None);
        assert_eq!(found("model.embed_tokens"), None);
    }

    /// `scale B A` of what was put together is the sum of the parts, each in its rows.
    #[test]
    fn halves_of_different_scales_make_one_update() {
        let low = |scale: f64, rank: usize| LowRank {
            rank,
            scale,
            shape: [2, 3],
            lora_a: (0..rank * 3).map(|i| i as f32 - 1.0).collect(),
            lora_b: (0..2 * rank).map(|i| 1.0 + i as f32).collect(),
        };
        let update = |low: &LowRank| -> Vec<f64> {
            let [n, k] = low.shape;
            let element = |at: usize| {
                let (row, column) = (at / k, at % k);
                let terms = (0..low.rank).map(|r| {
                    f64::from(low.lora_b[row * low.rank + r] * low.lora_a[r * k + column])
                });
                terms.sum::<f64>() * low.scale
            };
            (0..n * k).map(element).collect()
        };
        let (upper, lower) = (low(0.5, 2), low(2.0, 3));
        let mut all = BTreeMap::new();
        let place = |first| Place { projection: "gate_up".into(), rows: 0..2, first };
        add(&mut all, &place(0), [4, 3], &upper);
        add(&mut all, &place(2), [4, 3], &lower);
        let expected = [update(&upper), update(&lower)].concat();
        assert_eq!(update(&all["gate_up"]), expected);
    }
}
