//! Sums over rows are what their definitions say, and refuse what are no rows.

use lightglm_distill::student::{
    BlockInfluenceSums, ColumnSums, EnergyShares, Measure, StudentError,
};
use proptest::prelude::*;

/// Of sums of a few dozen numbers near 1, in f64.
const TOLERANCE: f64 = 1e-12;

const WIDTH: usize = 6;

/// `[T, 6]`.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-3.0f32..3.0, 1..8)
        .prop_flat_map(|first| prop::collection::vec(-3.0f32..3.0, WIDTH * first.len()))
}

fn row(x: &[f32], t: usize) -> Vec<f64> {
    (0..WIDTH).map(|c| f64::from(x[t * WIDTH + c])).collect()
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x.powi(2)).sum::<f64>().sqrt()
}

proptest! {
    #[test]
    fn sums_are_their_definitions(x in rows(), scale in 0.1f32..2.0) {
        let tokens = x.len() / WIDTH;
        let y: Vec<f32> = x.iter().rev().map(|x| x * scale).collect();
        let (mut blocks, mut columns, mut energy) =
            (BlockInfluenceSums::default(), ColumnSums::default(), EnergyShares::default());
        // In two parts: how a text is cut does not matter.
        let cut = tokens / 2 * WIDTH;
        for (x, y) in [(&x[..cut], &y[..cut]), (&x[cut..], &y[cut..])] {
            blocks.add("block", x, y, WIDTH).unwrap();
            columns.add("columns", x, WIDTH).unwrap();
            energy.add("norm", x, WIDTH).unwrap();
        }
        let mean = |of: &dyn Fn(usize) -> f64| (0..tokens).map(of).sum::<f64>() / tokens as f64;
        let cosine = |t: usize| {
            let (a, b) = (row(&x, t), row(&y, t));
            let product: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            product / norm(&a) / norm(&b)
        };
        prop_assert!((blocks.influence().unwrap() - (1.0 - mean(&cosine))).abs() < TOLERANCE);
        for c in 0..WIDTH {
            let magnitude = columns.columns(Measure::MeanMagnitude).unwrap()[c];
            prop_assert!((magnitude - mean(&|t| row(&x, t)[c].abs())).abs() < TOLERANCE);
            let square = columns.columns(Measure::RootMeanSquare).unwrap()[c].powi(2);
            prop_assert!((square - mean(&|t| row(&x, t)[c].powi(2))).abs() < TOLERANCE);
            let share = mean(&|t| (row(&x, t)[c] / norm(&row(&x, t))).powi(2));
            prop_assert!((energy.shares().unwrap()[c] - share).abs() < TOLERANCE);
        }
        let groups = columns.groups(3).unwrap();
        for (group, first) in groups.iter().zip([0, 3]) {
            let square = mean(&|t| norm(&row(&x, t)[first..first + 3]).powi(2));
            prop_assert!((group.powi(2) - square).abs() < TOLERANCE);
        }
    }
}

/// Equal rows turn nothing, whatever rounding does; rows of zeros have no direction.
#[test]
fn what_is_handed_on_has_no_influence() {
    let x = [0.1, 0.7, -1e-20, 3e7, 0.3, 0.9];
    let of = |x_in: &[f32], x_out: &[f32]| {
        let mut sums = BlockInfluenceSums::default();
        sums.add("block", x_in, x_out, 3).unwrap();
        sums.influence().unwrap()
    };
    assert_eq!(of(&x, &x), 0.0);
    assert_eq!(of(&[0.0; 6], &[0.0; 6]), 0.0);
    assert_eq!(of(&[0.0; 6], &x), 1.0);
    assert_eq!(of(&x, &x.map(|x| -x)), 2.0);
    assert_eq!(BlockInfluenceSums::default().influence(), None);
    assert_eq!(ColumnSums::default().columns(Measure::MeanMagnitude), None);
    let mut zeros = EnergyShares::default();
    zeros.add("norm", &[0.0; 6], 3).unwrap();
    assert_eq!(zeros.shares(), None);
}

#[test]
fn what_are_no_rows_is_refused() {
    let mut columns = ColumnSums::default();
    columns.add("name", &[1.0; 6], 3).unwrap();
    let width = |result| matches!(result, Err(StudentError::Width { .. }));
    assert!(width(columns.add("name", &[1.0; 4], 2)));
    assert!(width(columns.add("name", &[1.0; 4], 3)));
    assert!(width(columns.add("name", &[1.0; 4], 0)));
    let not_finite = columns.add("name", &[1.0, f32::NAN, 2.0], 3);
    assert!(matches!(not_finite, Err(StudentError::NotFinite { .. })));
    // Nothing of it was taken in.
    assert_eq!(columns.columns(Measure::MeanMagnitude).unwrap(), [1.0; 3]);
    let mut blocks = BlockInfluenceSums::default();
    assert!(width(blocks.add("block", &[1.0; 6], &[1.0; 3], 3)));
    assert_eq!(blocks.influence(), None);
}
