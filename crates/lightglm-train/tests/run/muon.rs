//! Steps of orthogonal matrices: against the iteration in f64, and in a run.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{GradientSums, trainable_parameters};
use lightglm_train::checkpoint::CheckpointFolder;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::{AdamW, AdamWConfig, MuonConfig, orthogonalized};
use lightglm_train::trainer::{TrainConfig, Trainer};

use crate::bigrams::{Train, bits, config, corpus, model, run, uninterrupted};

type Matrix = Vec<Vec<f64>>;

fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..rows).map(|_| (0..columns).map(|_| next()).collect()).collect()
}

fn transposed(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let b = transposed(b);
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum();
    a.iter().map(|row| b.iter().map(|column| dot(row, column)).collect()).collect()
}

fn sum(parts: &[(f64, &Matrix)]) -> Matrix {
    let mut out = vec![vec![0.0; parts[0].1[0].len()]; parts[0].1.len()];
    for (factor, part) in parts {
        for (out, row) in out.iter_mut().zip(*part) {
            out.iter_mut().zip(row).for_each(|(out, x)| *out += factor * x);
        }
    }
    out
}

/// The iteration as it is written down.
fn reference(matrix: &Matrix) -> Matrix {
    let norm = matrix.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
    let wide = if matrix.len() > matrix[0].len() { transposed(matrix) } else { matrix.clone() };
    let mut x = sum(&[(1.0 / norm, &wide)]);
    for _ in 0..5 {
        let gram = product(&x, &transposed(&x));
        let polynomial = sum(&[(-4.7750, &gram), (2.0315, &product(&gram, &gram))]);
        x = sum(&[(3.4445, &x), (1.0, &product(&polynomial, &x))]);
    }
    if matrix.len() > matrix[0].len() { transposed(&x) } else { x }
}

fn tensor(matrix: &Matrix) -> Tensor<Flex, 2> {
    let values: Vec<f32> = matrix.iter().flatten().map(|&x| x as f32).collect();
    let data = TensorData::new(values, [matrix.len(), matrix[0].len()]);
    Tensor::from_data(data, &FlexDevice)
}

#[test]
fn matrices_become_orthogonal() {
    for (rows, columns) in [(24, 24), (16, 40), (40, 16), (1, 7), (70, 33)] {
        let matrix = random(rows, columns, (rows * 100 + columns) as u64);
        let found = orthogonalized(tensor(&matrix));
        assert_eq!(found.dims(), [rows, columns]);
        let found = found.into_data().to_vec::<f32>().unwrap();
        let expected = reference(&matrix);
        for (found, expected) in found.iter().zip(expected.iter().flatten()) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{rows} x {columns}");
        }
        // Singular values about 1: their squares' mean is the trace of the smaller product.
        let squares: f64 = expected.iter().flatten().map(|x| x * x).sum();
        let mean = squares / rows.min(columns) as f64;
        assert!((0.4..1.6).contains(&mean), "{rows} x {columns}: {mean}");
    }
    let zero = Tensor::<Flex, 2>::zeros([3, 4], &FlexDevice);
    assert_eq!(orthogonalized(zero).into_data().to_vec::<f32>().unwrap(), [0.0; 12]);
}

#[test]
fn a_step_is_as_large_as_it_says() {
    let muon = MuonConfig { momentum: 0.5, scale: 0.3 };
    let settings = AdamWConfig { weight_decay: 0.1, muon: Some(muon), ..AdamWConfig::default() };
    let mut optimizer = AdamW::<Train>::new(settings);
    let mut module = model(1);
    let before = trainable_parameters(&module).remove(0);
    let n = before.shape[0];
    let mut expected: Vec<f64> =
        before.values.into_data().to_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
    let mut momentum = vec![vec![0.0; n]; n];
    for step in 0..3 {
        let grad = random(n, n, 5 + step);
        let mut sums = GradientSums::new();
        sums.add(before.id, tensor(&grad).reshape([n * n]));
        module = optimizer.step(module, sums, 0.01, 2.0);
        let grad = sum(&[(2.0, &grad)]);
        momentum = sum(&[(0.5, &momentum), (1.0, &grad)]);
        let direction = reference(&sum(&[(0.5, &momentum), (1.0, &grad)]));
        let size = 0.01 * 0.3 * (n as f64).sqrt();
        for (x, direction) in expected.iter_mut().zip(direction.iter().flatten()) {
            *x = *x * (1.0 - 0.01 * 0.1) - size * direction;
        }
    }
    let found = trainable_parameters(&module).remove(0).values.into_data().to_vec::<f32>().unwrap();
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[derive(Module, Debug)]
struct Weight<B: Backend> {
    weight: Param<Tensor<B, 2>>,
    norm: Param<Tensor<B, 1>>,
}

#[derive(Module, Debug)]
struct Parts<B: Backend> {
    embed_tokens: Weight<B>,
    block: Weight<B>,
    lm_head: Weight<B>,
}

#[test]
fn embeddings_head_and_norms_are_adamws() {
    let part = |seed| {
        let weight = Tensor::<Train, 2>::from_inner(tensor(&random(3, 4, seed)));
        let norm = Tensor::<Train, 1>::ones([4], &FlexDevice);
        Weight { weight: Param::from_tensor(weight), norm: Param::from_tensor(norm) }
    };
    let stepped = |muon| {
        let module = Parts { embed_tokens: part(1), block: part(2), lm_head: part(3) };
        let mut sums = GradientSums::new();
        for (i, parameter) in trainable_parameters(&module).into_iter().enumerate() {
            let n = parameter.values.dims()[0];
            sums.add(parameter.id, tensor(&random(1, n, 9 + i as u64)).reshape([n]));
        }
        let mut optimizer = AdamW::<Train>::new(AdamWConfig { muon, ..AdamWConfig::default() });
        let module = optimizer.step(module, sums, 0.1, 1.0);
        let values = trainable_parameters(&module).into_iter();
        values.map(|p| (p.name, p.values.into_data().to_vec::<f32>().unwrap())).collect::<Vec<_>>()
    };
    let (plain, muon) = (stepped(None), stepped(Some(MuonConfig::default())));
    let names: Vec<&str> = plain.iter().map(|(name, _)| name.as_str()).collect();
    let changed: Vec<&str> = plain
        .iter()
        .zip(&muon)
        .filter(|(plain, muon)| plain.1 != muon.1)
        .map(|(plain, _)| plain.0.as_str())
        .collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert_eq!(changed, ["block.weight"]);
}

#[test]
fn a_run_learns_and_goes_on_to_the_bit() {
    let optimizer = AdamWConfig { muon: Some(MuonConfig::default()), ..AdamWConfig::default() };
    let config = TrainConfig { optimizer, learning_rate: 0.2, ..config() };
    let examples = corpus();
    let whole = uninterrupted(&config, &examples);
    let losses = whole.losses();
    let epoch =
        |first: usize| losses[first..][..5].iter().map(|l| f64::from_bits(l.1)).sum::<f64>();
    assert!(epoch(10) < epoch(0), "{} {}", epoch(0), epoch(10));
    let parent = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(parent.path(), 2).unwrap();
    let begun = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, false);
    run(&begun, model(1), &examples, Some(7)).unwrap();
    let resumed = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, true);
    let end = run(&resumed, model(9), &examples, None).unwrap();
    assert_eq!(bits(&end.model), bits(&whole.model));
    // Another optimizer is another run.
    let adamw = TrainConfig { optimizer: AdamWConfig::default(), ..config };
    let other = Trainer::new(&adamw, &CrossEntropy).with_checkpoints(&folder, true);
    assert!(run(&other, model(1), &examples, None).is_err());
}
