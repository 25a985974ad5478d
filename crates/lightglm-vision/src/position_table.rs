//! Positions of patches, and the table of positions in another size than it was trained in.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

/// How patches lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The patches of each block of `merge` x `merge` lie together.
    pub(crate) merge: usize,
}

impl Grid {
    /// Row and column of each patch, in merge-block order.
    pub(crate) fn places(self) -> impl Iterator<Item = (usize, usize)> {
        let Self { rows, columns, merge } = self;
        (0..rows * columns).map(move |index| {
            let (block, inside) = (index / (merge * merge), index % (merge * merge));
            let (row, column) = (block / (columns / merge), block % (columns / merge));
            (row * merge + inside / merge, column * merge + inside % merge)
        })
    }
}

/// The kernel's parameter: that of `grid_sample`.
const A: f64 = -0.75;

/// Weights of the four neighbours of a point `t` behind the second of them.
///
/// Source: Keys 1981, "Cubic convolution interpolation for digital image processing".
fn cubic(t: f64) -> [f64; 4] {
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// Neighbours of the `at`-th of `of` places on a side of `side` entries, and their weights.
fn neighbours(at: usize, of: usize, side: usize) -> [(usize, f64); 4] {
    // In f32 as the reference computes it: the coordinate decides which neighbours there are.
    let norm = (at as f32 + 0.5) / of as f32 * 2.0 - 1.0;
    let x = ((norm + 1.0) * side as f32 - 1.0) / 2.0;
    let first = x.floor();
    let weights = cubic(f64::from(x - first));
    std::array::from_fn(|i| {
        let index = (first as i64 + i as i64 - 1).clamp(0, side as i64 - 1);
        (index as usize, weights[i])
    })
}

/// The table `[side side, D]` at the patches of a picture, bicubically: `[N, D]`.
///
/// Source: transformers 5.23.0, `modeling_glm4v.py`, `Glm4vVisionEmbeddings`; torch's `grid_sample` with
/// `align_corners=False` and `padding_mode="border"`.
pub(crate) fn sample<B: Backend>(table: Tensor<B, 2>, grid: Grid) -> Tensor<B, 2> {
    let [entries, d] = table.dims();
    let (side, n, device) = (entries.isqrt(), grid.rows * grid.columns, table.device());
    let (mut indices, mut weights) = (Vec::with_capacity(16 * n), Vec::with_capacity(16 * n));
    for (row, column) in grid.places() {
        for (y, of_row) in neighbours(row, grid.rows, side) {
            for (x, of_column) in neighbours(column, grid.columns, side) {
                indices.push((y * side + x) as i32);
                weights.push((of_row * of_column) as f32);
            }
        }
    }
    // Neighbour after neighbour, so that no more than one table of the picture's size is there at a time.
    let neighbour = |i: usize| {
        let of = |values: &[i32]| values.iter().skip(i).step_by(16).copied().collect::<Vec<_>>();
        let indices = TensorData::new(of(&indices), [n]);
        let indices = Tensor::<B, 1, Int>::from_data(indices, &device);
        let weights: Vec<f32> = weights.iter().skip(i).step_by(16).copied().collect();
        let weights = Tensor::<B, 2>::from_data(TensorData::new(weights, [n, 1]), &device);
        table.clone().select(0, indices) * weights
    };
    let zero = Tensor::zeros([n, d], &device);
    (0..16).fold(zero, |sum, i| sum + neighbour(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lie_together() {
        let grid = Grid { rows: 2, columns: 4, merge: 2 };
        let places: Vec<_> = grid.places().collect();
        let expected = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_table_of_its_own_size_is_itself() {
        for at in 0..6 {
            let neighbours = neighbours(at, 6, 6);
            let weight: f64 = neighbours.iter().filter(|n| n.0 == at).map(|n| n.1).sum();
            assert!((weight - 1.0).abs() < 1e-5, "{neighbours:?}");
        }
    }
}
