//! AWQ and SmoothQuant on inputs with outliers, and folds that do not fit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use lightglm_core::{TensorView, WeightDtype, WeightError, WeightSource};
use lightglm_kernels::{ActivationFormat, ScaleDtype, WeightBits};
use lightglm_quant::methods::{
    Fold, FoldPair, FoldSource, FoldedWeights, InputStatistics, MethodError, Record, awq,
    smooth_quant,
};
use lightglm_quant::{Granularity, WeightScheme};

const FOUR: WeightScheme = WeightScheme {
    bits: WeightBits::Four,
    granularity: Granularity::PerGroup(32),
    symmetric: true,
    scale_dtype: ScaleDtype::F16,
};

const EIGHT: WeightScheme = WeightScheme {
    bits: WeightBits::Eight,
    granularity: Granularity::PerChannel,
    symmetric: true,
    scale_dtype: ScaleDtype::F32,
};

/// Columns of the projections.
const K: usize = 64;

fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn statistics(x: &[f32], k: usize) -> InputStatistics {
    let mut inputs = InputStatistics::default();
    inputs.add("layer", x, k, Record { gram: false, samples: 48 }).unwrap();
    inputs
}

/// Tensors in memory, f32.
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl WeightSource for Tensors {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|(shape, _)| shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let Some((shape, values)) = self.0.get(name) else {
            return Err(WeightError::Missing { file: PathBuf::from("memory"), name: name.into() });
        };
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (shape, bytes) = (shape.clone(), Bytes::from(bytes));
        Ok(TensorView { dtype: WeightDtype::F32, shape, bytes })
    }
}

/// A norm in front of two projections, and inputs of which some columns are far larger.
fn outliers() -> (Tensors, FoldPair, InputStatistics) {
    let mut x = random(10, 48 * K);
    x.chunks_exact_mut(K).for_each(|row| {
        row[5] *= 80.0;
        row[40] *= 30.0;
    });
    let tensors = [
        ("norm.weight", vec![K], random(1, K)),
        ("a.weight", vec![16, K], random(2, 16 * K)),
        ("b.weight", vec![8, K], random(3, 8 * K)),
    ];
    let tensors = tensors.map(|(name, shape, values)| (name.to_owned(), (shape, values)));
    let source = FoldSource::Norm { name: "norm".into() };
    let pair = FoldPair { source, consumers: vec!["a".into(), "b".into()] };
    (Tensors(tensors.into()), pair, statistics(&x, K))
}

#[test]
fn awq_wins_on_outliers_and_never_loses() {
    let (weights, pair, inputs) = outliers();
    let found = awq(&weights, &pair, &inputs, &FOUR, 20).unwrap();
    assert!(found.after < 0.5 * found.before, "{} {}", found.before, found.after);
    assert!(found.fold.scales[5] > found.fold.scales[6]);
    let even = statistics(&random(11, 48 * K), K);
    let found = awq(&weights, &pair, &even, &FOUR, 20).unwrap();
    assert!(found.after <= found.before);
    let dead = statistics(&[0.0; 4 * K], K);
    let found = awq(&weights, &pair, &dead, &FOUR, 4).unwrap();
    assert!(found.fold.scales.iter().all(|s| s.is_finite() && *s > 0.0));
}

#[test]
fn smooth_quant_wins_on_outliers_and_never_loses() {
    let (weights, pair, inputs) = outliers();
    let format = ActivationFormat::INT8_PER_TOKEN;
    let found = smooth_quant(&weights, &pair, &inputs, &EIGHT, format, 10).unwrap();
    assert!(found.after < 0.5 * found.before, "{} {}", found.before, found.after);
    assert!(found.fold.scales[5] > found.fold.scales[6]);
    let even = statistics(&random(12, 48 * K), K);
    let found = smooth_quant(&weights, &pair, &even, &EIGHT, format, 10).unwrap();
    assert!(found.after <= found.before);
    let dead = statistics(&[0.0; 4 * K], K);
    let found = smooth_quant(&weights, &pair, &dead, &EIGHT, format, 4).unwrap();
    assert!(found.fold.scales.iter().all(|s| s.is_finite() && *s > 0.0));
}

#[test]
fn folds_that_do_not_fit_are_refused() {
    let (weights, pair, inputs) = outliers();
    let fold = awq(&weights, &pair, &inputs, &FOUR, 4).unwrap().fold;
    let refused = |change: &dyn Fn(&mut Fold)| {
        let mut fold = fold.clone();
        change(&mut fold);
        matches!(FoldedWeights::new(&weights, vec![fold]), Err(MethodError::Fold { .. }))
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|fold| fold.scales.truncate(K - 1)));
    assert!(refused(&|fold| fold.scales[7] = 0.0));
    assert!(refused(&|fold| fold.scales[7] = f32::NAN));
    assert!(refused(&|fold| fold.pair.consumers.push("not there".into())));
    let narrow = statistics(&[1.0; 8], 8);
    assert!(matches!(
        awq(&weights, &pair, &narrow, &FOUR, 4),
        Err(MethodError::Width { in_features: K, observed: 8, .. })
    ));
}
