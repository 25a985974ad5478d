//! Methods against obvious references, and on inputs that real text does not have.

use lightglm_kernels::{PackingError, QuantizedMatrix, ScaleDtype, WeightBits};
use lightglm_quant::methods::{
    Choice, ClipSearch, Gptq, InputStatistics, LayerChoices, LayerWeight, MethodError,
    QuantizationMethod, Record, RoundToNearest, relative_output_error, scheme_bytes, search_budget,
};
use lightglm_quant::{Granularity, QuantError, WeightScheme, round_to_nearest};

const GRAM: Record = Record { gram: true, samples: 16 };

fn scheme(bits: WeightBits, size: usize, symmetric: bool) -> WeightScheme {
    let granularity = Granularity::PerGroup(size);
    WeightScheme { bits, granularity, symmetric, scale_dtype: ScaleDtype::F16 }
}

/// Uniform numbers in `[-1, 1)`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }

    /// Rows whose columns are correlated and of very different size.
    fn inputs(&mut self, rows: usize, k: usize) -> Vec<f32> {
        let mut x = Vec::new();
        for _ in 0..rows {
            let shared = self.next();
            x.extend((0..k).map(|c| (self.next() + 2.0 * shared) * [1.0, 0.1, 4.0, 0.5][c % 4]));
        }
        x
    }
}

fn statistics(x: &[f32], k: usize) -> InputStatistics {
    let mut inputs = InputStatistics::default();
    inputs.add("layer", x, k, GRAM).unwrap();
    inputs
}

fn layer(weight: &[f32], shape: [usize; 2]) -> LayerWeight<'_> {
    LayerWeight { name: "layer", weight, shape }
}

fn error(weight: &[f32], matrix: &QuantizedMatrix, inputs: &InputStatistics) -> f64 {
    relative_output_error(&layer(weight, matrix.shape), matrix, Some(inputs)).unwrap()
}

/// `X^T X` in f64, the slow way.
fn gram(x: &[f32], k: usize) -> Vec<f64> {
    let mut gram = vec![0.0; k * k];
    for row in x.chunks_exact(k) {
        for i in 0..k {
            for j in 0..k {
                gram[i * k + j] += f64::from(row[i]) * f64::from(row[j]);
            }
        }
    }
    gram
}

/// The inverse, by Gauss-Jordan elimination.
fn inverse(mut a: Vec<f64>, k: usize) -> Vec<f64> {
    let mut out = vec![0.0; k * k];
    (0..k).for_each(|i| out[i * k + i] = 1.0);
    for i in 0..k {
        let pivot = a[i * k + i];
        for j in 0..k {
            a[i * k + j] /= pivot;
            out[i * k + j] /= pivot;
        }
        for r in (0..k).filter(|&r| r != i) {
            let factor = a[r * k + i];
            for j in 0..k {
                a[r * k + j] -= factor * a[i * k + j];
                out[r * k + j] -= factor * out[i * k + j];
            }
        }
    }
    out
}

/// GPTQ as its paper writes it down for one row: round a column, correct all that are left by the
/// inverse, take the column out of the inverse.
fn reference_gptq(
    row: &[f32],
    scales: &[f32],
    size: usize,
    gram: &[f64],
    damping: f64,
    order: &[usize],
) -> Vec<u8> {
    let k = row.len();
    let mean = (0..k).map(|i| gram[i * k + i]).sum::<f64>() / k as f64;
    let mut h = gram.to_vec();
    (0..k).for_each(|i| h[i * k + i] += damping * mean);
    let mut inv = inverse(h, k);
    let mut w: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
    let mut codes = vec![0u8; k];
    for &i in order {
        let scale = f64::from(scales[i / size]);
        let code = (w[i] / scale).round_ties_even().clamp(-7.0, 7.0);
        codes[i] = (code + 8.0) as u8;
        let e = (w[i] - code * scale) / inv[i * k + i];
        let column: Vec<f64> = (0..k).map(|j| inv[i * k + j]).collect();
        w.iter_mut().zip(&column).for_each(|(w, c)| *w -= e * c);
        for a in 0..k {
            for b in 0..k {
                inv[a * k + b] -= column[a] * column[b] / column[i];
            }
        }
    }
    codes
}

#[test]
fn gptq_is_the_papers() {
    let mut random = Random(1);
    let (n, k, size) = (12, 24, 8);
    let x = random.inputs(60, k);
    let weight = random.vector(n * k);
    let inputs = statistics(&x, k);
    let h = gram(&x, k);
    let scheme = scheme(WeightBits::Four, size, true);
    for act_order in [false, true] {
        let mut order: Vec<usize> = (0..k).collect();
        if act_order {
            order.sort_by(|&a, &b| h[b * k + b].total_cmp(&h[a * k + a]));
        }
        let method = Gptq { damping: 0.01, shrinkage: 0.0, act_order, clip_search: false };
        let ours = method.quantize(&layer(&weight, [n, k]), &scheme, Some(&inputs)).unwrap();
        let nearest = round_to_nearest("layer", &weight, [n, k], &scheme).unwrap();
        let groups = k / size;
        let mut walked = 0;
        for row in 0..n {
            let own = row * k..(row + 1) * k;
            let scales = &ours.scales[row * groups..(row + 1) * groups];
            let codes = &ours.codes[own.clone()];
            // A row for which the walk was no gain keeps the nearest codes.
            if codes == &nearest.codes[own.clone()] {
                continue;
            }
            walked += 1;
            let theirs = reference_gptq(&weight[own], scales, size, &h, 0.01, &order);
            assert_eq!(codes, theirs, "row {row}, act-order {act_order}");
        }
        assert!(walked > n / 2, "only {walked} rows of {n} were worth the walk");
    }
}

#[test]
fn uncorrelated_inputs_leave_nothing_to_correct() {
    // One input at a time: the Gram matrix is diagonal, and any order gives the nearest codes in
    // their own columns.
    let k = 32;
    let mut x = vec![0.0; k * k];
    (0..k).for_each(|i| x[i * k + i] = 1.0 + ((i * 7) % k) as f32);
    let weight = Random(2).vector(5 * k);
    let scheme = scheme(WeightBits::Four, 8, true);
    let inputs = statistics(&x, k);
    let method = Gptq { clip_search: false, ..Gptq::default() };
    let walked = method.quantize(&layer(&weight, [5, k]), &scheme, Some(&inputs));
    let nearest = round_to_nearest("layer", &weight, [5, k], &scheme);
    assert_eq!(walked.unwrap(), nearest.unwrap());
}

#[test]
fn no_method_is_worse_than_rounding_on_its_own_objective() {
    for (seed, symmetric) in [(3, true), (4, false), (5, true)] {
        let mut random = Random(seed);
        let (n, k) = (9, 64);
        let x = random.inputs(90, k);
        let weight = random.vector(n * k);
        let inputs = statistics(&x, k);
        for bits in [WeightBits::Four, WeightBits::Eight] {
            let scheme = scheme(bits, 32, symmetric);
            let layer = layer(&weight, [n, k]);
            let plain = RoundToNearest.quantize(&layer, &scheme, None).unwrap();
            for act_order in [false, true] {
                let method = Gptq { act_order, shrinkage: 0.0, ..Gptq::default() };
                let gptq = method.quantize(&layer, &scheme, Some(&inputs)).unwrap();
                // The objective has the damping on its diagonal; here it is judged without.
                let ours = error(&weight, &gptq, &inputs);
                let theirs = error(&weight, &plain, &inputs);
                assert!(ours < theirs, "{ours} {theirs} {scheme:?}");
            }
            let mut squares = InputStatistics::default();
            squares.add("layer", &x, k, Record { gram: false, samples: 0 }).unwrap();
            for inputs in [None, Some(&squares)] {
                let clip = ClipSearch.quantize(&layer, &scheme, inputs).unwrap();
                let ours = relative_output_error(&layer, &clip, inputs).unwrap();
                let theirs = relative_output_error(&layer, &plain, inputs).unwrap();
                assert!(ours <= theirs * (1.0 + 1e-5), "{ours} {theirs} {scheme:?}");
            }
        }
    }
}

#[test]
fn shrinkage_helps_on_rows_that_were_not_seen() {
    let mut random = Random(20);
    let (n, k) = (16, 64);
    // As many rows as columns: most correlations that are seen are not there.
    let mut rows = |rows: usize| random.vector(rows * k);
    let (seen, unseen) = (rows(k), rows(40 * k));
    let weight = rows(n);
    let inputs = statistics(&seen, k);
    let judge = statistics(&unseen, k);
    let scheme = scheme(WeightBits::Four, 32, true);
    let [plain, shrunk] = [0.0, 2.0].map(|shrinkage| {
        let method = Gptq { shrinkage, ..Gptq::default() };
        let matrix = method.quantize(&layer(&weight, [n, k]), &scheme, Some(&inputs)).unwrap();
        error(&weight, &matrix, &judge)
    });
    assert!(shrunk < 0.9 * plain, "{shrunk} {plain}");
}

#[test]
fn degenerate_inputs_give_sane_codes() {
    let (n, k) = (4, 32);
    let weight = Random(6).vector(n * k);
    let scheme = scheme(WeightBits::Four, 16, true);
    let one_token = Random(7).vector(k);
    let mut dead_columns = Random(8).inputs(20, k);
    dead_columns.chunks_exact_mut(k).for_each(|row| row[3..9].fill(0.0));
    let same_row = one_token.repeat(50);
    let nothing = vec![0.0; 3 * k];
    let huge: Vec<f32> = one_token.iter().map(|x| x * 1e15).collect();
    for x in [&one_token, &dead_columns, &same_row, &nothing, &huge] {
        let inputs = statistics(x, k);
        let quantizers: [&dyn QuantizationMethod; 3] =
            [&Gptq::default(), &ClipSearch, &RoundToNearest];
        for quantizer in quantizers {
            let layer = layer(&weight, [n, k]);
            let matrix = quantizer.quantize(&layer, &scheme, Some(&inputs)).unwrap();
            matrix.check().unwrap();
            let back = matrix.dequantize();
            let far = weight.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 2.0, "{quantizer:?} {far}");
        }
    }
    // A column that nothing goes into keeps the nearest code.
    let inputs = statistics(&dead_columns, k);
    let method = Gptq { clip_search: false, ..Gptq::default() };
    let matrix = method.quantize(&layer(&weight, [n, k]), &scheme, Some(&inputs)).unwrap();
    let nearest = round_to_nearest("layer", &weight, [n, k], &scheme).unwrap();
    for row in 0..n {
        let dead = row * k + 3..row * k + 9;
        assert_eq!(matrix.codes[dead.clone()], nearest.codes[dead]);
    }
    let zeros = vec![0.0; n * k];
    let matrix = Gptq::default().quantize(&layer(&zeros, [n, k]), &scheme, Some(&inputs)).unwrap();
    assert_eq!(matrix.dequantize(), zeros);
}

#[test]
fn without_text_methods_fall_back() {
    let weight = Random(9).vector(3 * 32);
    let scheme = scheme(WeightBits::Four, 16, true);
    let layer = layer(&weight, [3, 32]);
    let gptq = Gptq::default().quantize(&layer, &scheme, None).unwrap();
    let clip = ClipSearch.quantize(&layer, &scheme, None).unwrap();
    let plain = RoundToNearest.quantize(&layer, &scheme, None).unwrap();
    assert_eq!(gptq, clip);
    let error = |matrix| relative_output_error(&layer, matrix, None).unwrap();
    assert!(error(&clip) < error(&plain));
}

#[test]
fn what_is_not_a_number_is_named() {
    let mut inputs = InputStatistics::default();
    let broken = inputs.add("model.layers.1.mlp.down_proj", &[1.0, f32::NAN], 2, GRAM);
    let said = broken.unwrap_err().to_string();
    assert_eq!(said, "an input of `model.layers.1.mlp.down_proj` in column 1 is NaN");
    assert_eq!(inputs, InputStatistics::default());
    inputs.add("layer", &[1.0, 2.0], 2, GRAM).unwrap();
    assert!(matches!(
        inputs.add("layer", &[1.0; 3], 3, GRAM),
        Err(MethodError::Width { in_features: 3, observed: 2, .. })
    ));
    let scheme = scheme(WeightBits::Four, 8, true);
    let mut weight = vec![0.5; 16];
    let quantized = Gptq::default().quantize(&layer(&weight, [2, 8]), &scheme, Some(&inputs));
    assert!(matches!(quantized, Err(MethodError::Width { in_features: 8, observed: 2, .. })));
    weight[9] = f32::INFINITY;
    let quantized = ClipSearch.quantize(&layer(&weight, [2, 8]), &scheme, None);
    assert!(matches!(
        quantized,
        Err(MethodError::Quant(QuantError::NotFinite { row: 1, column: 1, .. }))
    ));
    let odd = WeightScheme { granularity: Granularity::PerGroup(5), ..scheme };
    let quantized = ClipSearch.quantize(&layer(&weight[..8], [1, 8]), &odd, None);
    assert!(matches!(
        quantized,
        Err(MethodError::Quant(QuantError::Layer { source: PackingError::GroupSize { .. }, .. }))
    ));
}

#[test]
fn a_budget_goes_where_it_helps_most() {
    let shape = [64, 128];
    let choice = |bits, size, loss| {
        let scheme = scheme(bits, size, true);
        Choice { scheme, bytes: scheme_bytes(shape, &scheme), loss }
    };
    let layer = |name: &str, sensitivity: f64| {
        let choices = vec![
            choice(WeightBits::Four, 128, sensitivity),
            choice(WeightBits::Four, 32, 0.6 * sensitivity),
            choice(WeightBits::Eight, 128, 0.01 * sensitivity),
        ];
        LayerChoices { name: name.into(), weights: 64 * 128, choices }
    };
    let layers = [layer("calm", 0.1), layer("touchy", 5.0), layer("plain", 1.0)];
    let least = 3 * scheme_bytes(shape, &scheme(WeightBits::Four, 128, true));
    assert_eq!(least, 3 * (64 * 64 + 64 * 2));
    assert!(matches!(
        search_budget(&layers, least - 1),
        Err(MethodError::Budget { budget, least: l }) if budget + 1 == l && l == least
    ));
    let tight = search_budget(&layers, least).unwrap();
    assert_eq!(tight.bytes(), least);
    assert!((tight.bits_per_weight() - 4.125).abs() < 1e-12);
    let more = search_budget(&layers, least + 64 * 64).unwrap();
    assert!(more.bytes() <= least + 64 * 64 && more.loss() < tight.loss());
    assert_eq!(more.scheme("touchy").unwrap().bits, WeightBits::Eight);
    assert_eq!(more.scheme("calm").unwrap().bits, WeightBits::Four);
    assert!(more.to_markdown().contains("| touchy | 8 | 128 |"));
    let all = search_budget(&layers, usize::MAX / 2).unwrap();
    let eight = |name| all.scheme(name).unwrap().bits == WeightBits::Eight;
    assert!(["calm", "touchy", "plain"].into_iter().all(eight));
}

/// What exchanges leave over is spent as long as anything helps.
#[test]
fn nothing_better_is_left_within_the_budget() {
    let scheme = scheme(WeightBits::Eight, 128, true);
    let mut random = Random(77);
    let mut number = |most: f32| ((random.next() + 1.0) * 0.5 * most) as usize;
    for _ in 0..400 {
        let layers: Vec<LayerChoices> = (0..4)
            .map(|at| {
                let choice = |_| {
                    let (bytes, loss) = (1 + number(60.0), number(50.0) as f64);
                    Choice { scheme, bytes, loss }
                };
                LayerChoices {
                    name: at.to_string(),
                    weights: 8,
                    choices: (0..4).map(choice).collect(),
                }
            })
            .collect();
        let budget = 60 + number(120.0);
        let Ok(found) = search_budget(&layers, budget) else { continue };
        assert!(found.bytes() <= budget);
        for (layer, (_, _, now)) in layers.iter().zip(&found.layers) {
            for choice in &layer.choices {
                let fits = found.bytes() - now.bytes + choice.bytes <= budget;
                assert!(!fits || choice.loss >= now.loss, "{choice:?} beside {now:?}");
            }
        }
    }
}
