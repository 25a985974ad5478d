//! Adapters of models that other programs lay out otherwise: rows of `lora_B`, and names.

use std::collections::BTreeMap;

use lightglm_core::ProjectionLayout;

/// Shapes and elements by name.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

const FUSED: &str = "gate_up_proj";
const HALVES: [&str; 2] = ["gate_proj", "up_proj"];

/// `lora_b` of the file's `projection`, `[n, rank]`, with its rows as the decoder has them; `None` where they
/// make no whole heads.
pub(super) fn rows_from_file(
    layout: ProjectionLayout,
    projection: &str,
    rank: usize,
    lora_b: Vec<f32>,
) -> Option<Vec<f32>> {
    move_rows(layout, projection, rank, lora_b, |from, to| (from, to))
}

/// The adapter's `tensors` as a file of `layout` has them: rows in its order, and each half of a feed-forward's
/// first projection by itself, with the same `lora_A`. `None` where rows make no whole heads.
pub(super) fn to_file(layout: ProjectionLayout, tensors: Tensors) -> Option<Tensors> {
    if layout == ProjectionLayout::Glm {
        return Some(tensors);
    }
    let mut out = Tensors::new();
    for (name, (shape, values)) in tensors {
        let rank = shape.last().copied().unwrap_or_default();
        let is_b = name.contains(".lora_B.");
        let projection = name.split(".lora_").next().unwrap_or(&name);
        if projection.ends_with(FUSED) {
            for (half, of_half) in HALVES.into_iter().enumerate() {
                let (shape, values) = match is_b {
                    true => {
                        let rows = shape[0] / 2;
                        let first = half * rows * rank;
                        (vec![rows, rank], values[first..first + rows * rank].to_vec())
                    }
                    false => (shape.clone(), values.clone()),
                };
                out.insert(name.replacen(FUSED, of_half, 1), (shape, values));
            }
            continue;
        }
        let values = match is_b {
            true => move_rows(layout, projection, rank, values, |from, to| (to, from))?,
            false => values,
        };
        out.insert(name, (shape, values));
    }
    Some(out)
}

/// The names of modules in a file of `layout`.
pub(super) fn modules(layout: ProjectionLayout, names: &[String]) -> Vec<String> {
    let of = |name: &String| match name.strip_suffix(FUSED) {
        Some(start) if layout != ProjectionLayout::Glm => {
            HALVES.map(|half| format!("{start}{half}")).to_vec()
        }
        _ => vec![name.clone()],
    };
    names.iter().flat_map(of).collect()
}

/// Copies rows between the file's order and ours: `direction` of the file's row and ours is what is read and
/// what is written.
fn move_rows(
    layout: ProjectionLayout,
    projection: &str,
    rank: usize,
    values: Vec<f32>,
    direction: fn(usize, usize) -> (usize, usize),
) -> Option<Vec<f32>> {
    let ProjectionLayout::Llama { head_dim } = layout else { return Some(values) };
    if !layout.reorders(projection) || rank == 0 {
        return Some(values);
    }
    let rows = values.len() / rank;
    if !rows.is_multiple_of(head_dim) {
        return None;
    }
    let mut moved = vec![0.0; values.len()];
    for ours in 0..rows {
        let (from, to) = direction(layout.row_in_file(projection, ours), ours);
        moved[to * rank..][..rank].copy_from_slice(&values[from * rank..][..rank]);
    }
    Some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: ProjectionLayout = ProjectionLayout::Llama { head_dim: 4 };

    #[test]
    fn rows_go_to_the_file_and_back() {
        let ours: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let name = "model.layers.0.self_attn.k_proj";
        let tensor = format!("base_model.model.{name}.lora_B.weight");
        let tensors = Tensors::from([(tensor.clone(), (vec![8, 2], ours.clone()))]);
        let file = to_file(LLAMA, tensors.clone()).unwrap();
        let rows: Vec<f32> = file[&tensor].1.iter().copied().step_by(2).collect();
        // First elements of a head's pairs, then second ones.
        assert_eq!(rows, [0.0, 4.0, 2.0, 6.0, 8.0, 12.0, 10.0, 14.0]);
        assert_eq!(rows_from_file(LLAMA, name, 2, file[&tensor].1.clone()), Some(ours.clone()));
        assert_eq!(to_file(ProjectionLayout::Glm, tensors.clone()), Some(tensors));
        let value = "model.layers.0.self_attn.v_proj";
        assert_eq!(rows_from_file(LLAMA, value, 2, ours.clone()), Some(ours.clone()));
        assert_eq!(rows_from_file(LLAMA, name, 2, ours[..12].to_vec()), None);
    }

    #[test]
    fn gate_and_up_are_two() {
        let name = |module: &str, half: &str| format!("model.layers.0.mlp.{module}.{half}.weight");
        let a = (vec![1, 3], vec![1.0, 2.0, 3.0]);
        let b = (vec![4, 1], vec![1.0, 2.0, 3.0, 4.0]);
        let tensors = Tensors::from([
            (name("gate_up_proj", "lora_A"), a.clone()),
            (name("gate_up_proj", "lora_B"), b),
        ]);
        let file = to_file(LLAMA, tensors).unwrap();
        assert_eq!(file.len(), 4);
        assert_eq!(file[&name("gate_proj", "lora_A")], a);
        assert_eq!(file[&name("up_proj", "lora_A")], a);
        assert_eq!(file[&name("gate_proj", "lora_B")], (vec![2, 1], vec![1.0, 2.0]));
        assert_eq!(file[&name("up_proj", "lora_B")], (vec![2, 1], vec![3.0, 4.0]));
        let names = ["q_proj".to_owned(), "gate_up_proj".to_owned()];
        assert_eq!(modules(LLAMA, &names), ["q_proj", "gate_proj", "up_proj"]);
        assert_eq!(modules(ProjectionLayout::Glm, &names), names);
    }
}
