//! Neurons chosen by a prompt, projections cut down to them, and gates with thresholds.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::module::Param;
use burn::tensor::{Distribution, Tensor, TensorData, backend::Backend};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{FeedForward, Linear, SliceError};
use lightglm_kernels::{LmBackend, select_weight};
use lightglm_sparse::{
    ActivationStatistics, Dense, GatedFeedForward, KeptChannels, Magnitude, NeuronStatistics,
    Recorder, Recording, SlicedLinear, SparseLinear, SparsityError, SparsityPolicy,
};
use lightglm_testkit::{check_linear, check_slice_linear};
use plain::Plain;
use proptest::prelude::*;

mod plain;

type Train = Autodiff<Flex>;

fn plain<B: LmBackend<Device = FlexDevice>>(n: usize, k: usize) -> Plain<B> {
    Plain { weight: Param::from_tensor(random(n, k)) }
}

fn random<B: Backend<Device = FlexDevice>>(rows: usize, columns: usize) -> Tensor<B, 2> {
    Tensor::random([rows, columns], Distribution::Normal(0.0, 1.0), &FlexDevice)
}

fn values<B: Backend>(x: Tensor<B, 2>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn bits<B: Backend>(x: Tensor<B, 2>) -> Vec<u32> {
    values(x).into_iter().map(f32::to_bits).collect()
}

fn rows<B: Backend<Device = FlexDevice>>(values: &[f32], width: usize) -> Tensor<B, 2> {
    let data = TensorData::new(values.to_vec(), [values.len() / width, width]);
    Tensor::from_data(data, &FlexDevice)
}

#[test]
fn each_token_counts_the_same_and_equal_neurons_are_taken_in_order() {
    let statistics = NeuronStatistics::default();
    // A loud token and a quiet one, each of one neuron; a third of two neurons; one of none.
    let z = [300.0, 0.0, 0.0, 0.0, 0.0, 0.001, 0.0, 0.0, 3.0, 0.0, 0.0, -4.0, 0.0, 0.0, 0.0, 0.0];
    statistics.record("down", &z, 4).expect("finite");
    let s = statistics.of("down").expect("recorded");
    let expected = [(1.0_f64 + 0.36).sqrt(), 1.0, 0.0, 0.8];
    for (actual, expected) in s.iter().zip(expected) {
        assert!((actual - expected).abs() < 1e-12, "{s:?}");
    }
    let kept = |keep| statistics.strongest(keep).expect("recorded")["down"].clone();
    assert_eq!(kept(0.25), [0]);
    assert_eq!(kept(0.5), [0, 1]);
    assert_eq!(kept(0.75), [0, 1, 3]);
    assert_eq!(kept(1.0), [0, 1, 2, 3]);
    assert_eq!(kept(1e-9), [0], "at least one");
    statistics.record("even", &[1.0; 10], 10).expect("finite");
    assert_eq!(statistics.strongest(0.3).expect("recorded")["even"], [0, 1, 2]);
    assert_eq!(statistics.of("up"), None);
}

#[test]
fn bad_statistics_are_errors() {
    let statistics = NeuronStatistics::default();
    assert!(matches!(statistics.strongest(0.5), Err(SparsityError::NothingRecorded)));
    statistics.record("down", &[], 4).expect("no rows are no error");
    assert!(matches!(statistics.strongest(0.5), Err(SparsityError::NothingRecorded)));
    statistics.record("down", &[1.0, 2.0], 2).expect("finite");
    for keep in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(matches!(statistics.strongest(keep), Err(SparsityError::Keep(_))), "{keep}");
    }
    let recorder: Arc<NeuronStatistics> = Arc::new(statistics);
    let recording =
        SparseLinear::new(plain::<Flex>(3, 2), Recording::new("down", recorder.clone()));
    let _ = recording.forward(rows(&[1.0, 2.0, f32::NAN, 0.0], 2));
    let _ = recorder.record("down", &[1.0; 3], 3);
    for _ in 0..2 {
        let failed = recorder.strongest(0.5);
        assert!(
            matches!(failed, Err(SparsityError::NotFinite { row: 1, channel: 0, .. })),
            "{failed:?}"
        );
    }
}

proptest! {
    /// A prompt in chunks has the statistic of the prompt.
    #[test]
    fn chunks_add_up(seed in 0u64..1000, cut in 0usize..=12) {
        let mut random = lightglm_testkit::SplitMix::new(seed);
        let z: Vec<f32> = (0..12 * 19).map(|_| random.next_f32()).collect();
        let (whole, chunks) = (NeuronStatistics::default(), NeuronStatistics::default());
        whole.record("down", &z, 19).expect("finite");
        chunks.record("down", &z[..cut * 19], 19).expect("finite");
        chunks.record("down", &z[cut * 19..], 19).expect("finite");
        prop_assert_eq!(whole.of("down"), chunks.of("down"));
    }
}

#[test]
fn kept_channels_keep_their_bits() {
    let policy = KeptChannels::<Flex>::new(&[3, 0], 5, &FlexDevice).expect("channels");
    let x = [0.1, f32::NAN, -2.0, -0.0, 1.0, f32::NAN, 4.0, 5.0, 6.0, f32::INFINITY];
    let masked = values(policy.apply(rows(&x, 5)));
    let expected = [0.1, 0.0, 0.0, -0.0, 0.0, f32::NAN, 0.0, 0.0, 6.0, 0.0];
    let to_bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(to_bits(&masked), to_bits(&expected));
    let error = KeptChannels::<Flex>::new(&[5], 5, &FlexDevice).expect_err("there are five");
    assert_eq!(error, SliceError::Index { axis: "input", index: 5, count: 5 });
}

#[test]
fn gradients_pass_straight_through_kept_channels() {
    let policy = KeptChannels::<Train>::new(&[1, 2], 4, &FlexDevice).expect("channels");
    let x: Tensor<Train, 2> = rows(&[0.1, -0.9, 0.7, -0.2], 4).require_grad();
    let masked = policy.apply(x.clone());
    assert_eq!(values(masked.clone()), [0.0, -0.9, 0.7, 0.0]);
    let weight: Tensor<Train, 2> = rows(&[2.0, 3.0, 5.0, 7.0], 4);
    let gradients = (masked * weight).sum().backward();
    assert_eq!(values(x.grad(&gradients).expect("a leaf")), [2.0, 3.0, 5.0, 7.0]);
}

#[test]
fn selected_projections_are_the_masked_whole_to_the_bit() {
    let linear = plain::<Flex>(33, 65);
    let chosen: Vec<usize> = (0..65).filter(|at| at % 3 != 1).collect();
    let mask = KeptChannels::new(&chosen, 65, &FlexDevice).expect("channels");
    let masked = SparseLinear::new(linear.clone(), mask);
    let selected = SlicedLinear::inputs(&linear, &chosen, &FlexDevice).expect("inputs");
    assert_eq!(selected.shape(), [33, chosen.len()]);
    check_linear(&masked, &FlexDevice);
    check_linear(&selected, &FlexDevice);
    check_slice_linear(&masked, &FlexDevice);
    check_slice_linear(
        &SparseLinear::new(linear.clone(), Magnitude { threshold: 0.4 }),
        &FlexDevice,
    );
    let x: Tensor<Flex, 2> = random(7, 65);
    let short = Param::from_tensor(x.clone());
    let short = select_weight(&short, 1, &chosen).val();
    assert_eq!(bits(selected.forward(short)), bits(masked.forward(x.clone())));

    let outputs = SlicedLinear::outputs(&linear, &[32, 0]).expect("outputs");
    let whole = values(SlicedLinear::whole(linear.clone()).forward(x.clone()));
    let expected: Vec<f32> = whole.chunks(33).flat_map(|row| [row[32], row[0]]).collect();
    assert_eq!(values(outputs.forward(x)), expected);
    let past = SlicedLinear::inputs(&linear, &[65], &FlexDevice).expect_err("there are 65");
    assert_eq!(past, SliceError::Index { axis: "input", index: 65, count: 65 });
}

/// `down(z)` of a SwiGLU, `z` where `|silu(gate)| >= threshold` and 0 elsewhere, neuron by neuron.
fn gated(
    gate_up: &Plain<Flex>,
    down: &Plain<Flex>,
    x: Tensor<Flex, 2>,
    threshold: f32,
) -> Vec<u32> {
    let gate_up = gate_up.forward(x);
    let width = gate_up.dims()[1] / 2;
    let mut z = values(Flex::swiglu(gate_up.clone()));
    let gate_up = values(gate_up);
    for (at, z) in z.iter_mut().enumerate() {
        let gate = f64::from(gate_up[at / width * 2 * width + at % width]);
        let silu = gate / (1.0 + (-gate).exp());
        if silu.abs() < f64::from(threshold) {
            *z = 0.0;
        }
    }
    bits(down.forward(rows(&z, width)))
}

#[test]
fn closed_gates_are_the_mask_of_the_formula() {
    let (gate_up, down) = (plain::<Flex>(2 * 77, 20), plain::<Flex>(20, 77));
    let x: Tensor<Flex, 2> = random(9, 20);
    for threshold in [0.0, 0.05, 0.2, 1.0, 1e9] {
        let policy = Magnitude { threshold };
        let cats = GatedFeedForward::new(gate_up.clone(), down.clone(), policy);
        // A gate within rounding of the threshold could fall on either side; none of these does.
        let expected = gated(&gate_up, &down, x.clone(), threshold);
        assert_eq!(bits(cats.forward(x.clone())), expected, "{threshold}");
        assert_eq!(cats.bytes_read(), 4 * 3 * 77 * 20);
    }
    let dense = GatedFeedForward::new(gate_up.clone(), down.clone(), Dense);
    let whole = down.forward(Flex::swiglu(gate_up.forward(x.clone())));
    assert_eq!(bits(dense.forward(x)), bits(whole));
}

#[test]
fn gates_reach_the_sparsity_that_was_asked_for() {
    let (gate_up, down) = (plain::<Flex>(2 * 128, 32), plain::<Flex>(32, 128));
    let calibration = Arc::new(ActivationStatistics::default());
    let recording = Recording::new("gate", calibration.clone());
    let calibrating = GatedFeedForward::new(gate_up.clone(), down.clone(), recording);
    calibrating.forward(random(400, 32));
    for sparsity in [0.25, 0.5, 0.9] {
        let thresholds = calibration.uniform(sparsity).expect("recorded");
        let policy = Magnitude { threshold: thresholds.get("gate").expect("recorded") };
        let counter = Arc::new(ActivationStatistics::default());
        let counting = SparseLinear::new(down.clone(), Recording::new("down", counter.clone()));
        GatedFeedForward::new(gate_up.clone(), counting, policy).forward(random(400, 32));
        let actual = counter.zeros("down").expect("recorded");
        assert!((actual - sparsity).abs() < 0.02, "{actual} instead of {sparsity}");
    }
}

#[test]
fn gradients_pass_straight_through_closed_gates() {
    const F: usize = 4;
    let identity: Vec<f32> =
        (0..4 * F * F).map(|at| if at % (2 * F + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let gate_up = Plain::<Train> { weight: Param::from_tensor(rows(&identity, 2 * F)) };
    let down = Plain::<Train> { weight: Param::from_tensor(rows(&[1.0; F], F)) };
    let cats = GatedFeedForward::new(gate_up, down, Magnitude { threshold: 0.25 });
    // silu: 0.05, -0.269, 1.76, -0.07.
    let (gate, up) = ([0.1_f32, -1.0, 2.0, -3.2], [3.0_f32, 5.0, -7.0, 11.0]);
    let x: Tensor<Train, 2> = rows(&[gate, up].concat(), 2 * F).require_grad();
    let y = cats.forward(x.clone());
    let gradient = values(x.grad(&y.clone().sum().backward()).expect("a leaf"));
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let (mut sum, open) = (0.0, [false, true, true, false]);
    for j in 0..F {
        let (g, s) = (gate[j], sigmoid(gate[j]));
        let silu = if open[j] { g * s } else { 0.0 };
        sum += silu * up[j];
        // Open or closed, the gate learns as in the dense model; `up` learns what the gate let through.
        let of_gate = up[j] * (s + g * s * (1.0 - s));
        assert!((gradient[j] - of_gate).abs() < 1e-5, "gate {j}: {} {of_gate}", gradient[j]);
        let of_up = gradient[F + j];
        assert!((of_up - silu).abs() < 1e-5, "up {j}: {of_up} {silu}");
    }
    assert!((values(y)[0] - sum).abs() < 1e-5);
}
