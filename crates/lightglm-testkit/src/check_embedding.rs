//! The promises of [`Embedding`].

use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::Embedding;

use crate::split_mix::SplitMix;

/// Numbers of ids and of rows: a lone one, odd remainders, more than a tile.
const COUNTS: [usize; 6] = [1, 2, 3, 7, 16, 33];

/// Checks that `embedding` gives `[T, D]` for any `T` ids, each row from its id alone and the same
/// bits wherever the id stands, that as a projection it gives `[T, V]` with each row's bits hanging
/// on that row alone, and that the two are one table: `tolerance` is how far the projection of a unit
/// vector may be from the table's column, over the table's largest value.
///
/// # Panics
/// Where a promise is broken.
pub fn check_embedding<B: Backend, E: Embedding<B>>(
    embedding: &E,
    tolerance: f32,
    device: &B::Device,
) {
    let [vocab_size, width] = embedding.shape();
    assert!(vocab_size * width > 0, "an empty table: nothing would be checked");
    let (bytes, weights) = (embedding.bytes(), vocab_size * width);
    assert!(bytes >= weights.div_ceil(16), "{bytes} bytes cannot hold {weights} weights");

    let rows = |ids: &[u32]| -> Vec<f32> {
        let rows = embedding.forward(ids);
        assert_eq!(rows.dims(), [ids.len(), width], "wrong shape for {} ids", ids.len());
        rows.into_data().iter::<f32>().collect()
    };
    let all: Vec<u32> = (0..vocab_size as u32).collect();
    let table = rows(&all);
    assert!(table.iter().all(|value| value.is_finite()), "the table is not finite");
    let mut random = SplitMix::new(0xe3b);
    for count in COUNTS {
        let ids: Vec<u32> = (0..count).map(|_| random.below(vocab_size) as u32).collect();
        for (id, row) in ids.iter().zip(rows(&ids).chunks_exact(width)) {
            let expected = &table[*id as usize * width..][..width];
            assert!(bits(row) == bits(expected), "id {id} among {count} has another row");
        }
    }

    let project = |x: Vec<f32>| -> Vec<f32> {
        let count = x.len() / width;
        let y = embedding.project(Tensor::from_data(TensorData::new(x, [count, width]), device));
        assert_eq!(y.dims(), [count, vocab_size], "wrong shape for {count} rows");
        y.into_data().iter::<f32>().collect()
    };
    let x: Vec<f32> = (0..33 * width).map(|_| random.next_f32()).collect();
    let alone: Vec<f32> = x.chunks_exact(width).flat_map(|x| project(x.to_vec())).collect();
    for count in COUNTS {
        let together = project(x[..count * width].to_vec());
        assert!(bits(&together) == bits(&alone[..count * vocab_size]), "{count} rows, other bits");
    }
    let largest = table.iter().fold(0.0f32, |max, value| max.max(value.abs()));
    for column in (0..width).step_by(width.div_ceil(8)) {
        let mut unit = vec![0.0; width];
        unit[column] = 1.0;
        for (id, value) in project(unit).into_iter().enumerate() {
            let gap = (value - table[id * width + column]).abs();
            assert!(gap <= tolerance * largest, "row {id}, column {column}: {gap} apart");
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
