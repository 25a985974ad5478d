//! Masks, calibration and files of thresholds.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::module::Param;
use burn::tensor::{Distribution, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::Linear;
use lightglm_kernels::LmBackend;
use lightglm_sparse::{
    ActivationStatistics, Dense, Magnitude, ModelFingerprint, Recording, SparseLinear,
    SparsityError, SparsityPolicy, Threshold, Thresholds,
};
use lightglm_testkit::check_linear;
use plain::Plain;
use proptest::prelude::*;

mod plain;

fn plain(n: usize, k: usize) -> Plain<Flex> {
    let weight = Tensor::random([n, k], Distribution::Uniform(-1.0, 1.0), &FlexDevice);
    Plain { weight: Param::from_tensor(weight) }
}

fn values<B: burn::tensor::backend::Backend>(x: Tensor<B, 2>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn row(values: &[f32]) -> Tensor<Flex, 2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), &FlexDevice)
}

#[test]
fn small_entries_become_zero_and_the_rest_stays() {
    let x = [0.5, -0.5, 0.49, -0.49, 0.0, -0.0, 3.0, f32::NAN];
    let kept = values(SparsityPolicy::<Flex>::apply(&Magnitude { threshold: 0.5 }, row(&x)));
    assert_eq!(kept[..7], [0.5, -0.5, 0.0, 0.0, 0.0, 0.0, 3.0]);
    assert!(kept[7].is_nan(), "NaN is not hidden");
    let all = values(SparsityPolicy::<Flex>::apply(&Magnitude { threshold: 0.0 }, row(&x)));
    assert_eq!(all.map_bits(), x.to_vec().map_bits());
}

trait MapBits {
    fn map_bits(self) -> Vec<u32>;
}

impl MapBits for Vec<f32> {
    fn map_bits(self) -> Vec<u32> {
        self.into_iter().map(f32::to_bits).collect()
    }
}

#[test]
fn flex_masks_as_plain_burn_does() {
    let x = Tensor::<Flex, 2>::random([7, 65], Distribution::Uniform(-1.0, 1.0), &FlexDevice);
    for threshold in [0.0, 1e-3, 0.3, 0.9, 2.0] {
        let fast = values(Flex::keep_large(x.clone(), threshold));
        let plain = values(lightglm_kernels::reference::keep_large(x.clone(), threshold));
        assert_eq!(fast.map_bits(), plain.map_bits());
    }
}

#[test]
fn sparse_projections_keep_the_promises_of_a_projection() {
    check_linear(&SparseLinear::new(plain(33, 65), Magnitude { threshold: 0.4 }), &FlexDevice);
    check_linear(&SparseLinear::new(plain(33, 65), Dense), &FlexDevice);
}

#[test]
fn gradients_pass_straight_through_the_mask() {
    let device = FlexDevice;
    let x = [0.1f32, -0.9, 0.7, -0.2];
    let x = Tensor::<Autodiff<Flex>, 2>::from_data(TensorData::new(x.to_vec(), [1, 4]), &device)
        .require_grad();
    let weight = [2.0f32, 3.0, 5.0, 7.0];
    let weight = Tensor::from_data(TensorData::new(weight.to_vec(), [1, 4]), &device);
    let masked = Magnitude { threshold: 0.5 }.apply(x.clone());
    assert_eq!(values(masked.clone().inner()), [0.0, -0.9, 0.7, 0.0]);
    let gradients = (masked * weight).sum().backward();
    let gradient = x.grad(&gradients).expect("a leaf");
    assert_eq!(values(gradient), [2.0, 3.0, 5.0, 7.0]);
}

#[test]
fn thresholds_reach_the_sparsity_on_text_that_was_held_back() {
    let calibration = Arc::new(ActivationStatistics::default());
    let random = || Tensor::random([400, 257], Distribution::Normal(0.0, 3.0), &FlexDevice);
    let recording = SparseLinear::new(plain(5, 257), Recording::new("down", calibration.clone()));
    let x: Tensor<Flex, 2> = random();
    let expected = values(recording.inner.forward(x.clone()));
    assert_eq!(values(recording.forward(x)).map_bits(), expected.map_bits());
    for sparsity in [0.0, 0.25, 0.4, 0.5, 0.9, 1.0] {
        let thresholds = calibration.uniform(sparsity).expect("recorded");
        let policy = Magnitude { threshold: thresholds.get("down").expect("recorded") };
        let masked = values(SparsityPolicy::<Flex>::apply(&policy, random()));
        let zeros = masked.iter().filter(|x| **x == 0.0).count();
        let actual = zeros as f64 / masked.len() as f64;
        assert!((actual - sparsity).abs() < 0.01, "{actual} instead of {sparsity}");
    }
    assert_eq!(calibration.zeros("down"), Some(0.0));
    assert_eq!(calibration.zeros("up"), None);
}

#[test]
fn each_projection_has_its_own_sparsity() {
    let calibration = ActivationStatistics::default();
    let magnitudes: Vec<f32> = (1..=1000).map(|i| i as f32).collect();
    for name in ["q", "down"] {
        calibration.record(name, &magnitudes, 1).expect("fine");
    }
    let of = |name: &str| if name == "q" { 0.25 } else { 0.75 };
    let thresholds = calibration.thresholds(0.5, of).expect("valid");
    assert_eq!(thresholds.sparsity(), 0.5);
    for (name, Threshold { magnitude, sparsity }) in thresholds.iter() {
        assert_eq!(sparsity, of(name));
        let exact = 1000.0 * of(name) as f32;
        assert!((magnitude / exact - 1.0).abs() < 0.01, "{name}: {magnitude}");
    }
    let refused = calibration.thresholds(0.5, |_| f64::NAN);
    assert!(matches!(refused, Err(SparsityError::Sparsity(_))), "{refused:?}");
}

#[test]
fn bad_calibration_is_an_error() {
    let calibration = ActivationStatistics::default();
    assert!(matches!(calibration.uniform(0.5), Err(SparsityError::NothingRecorded)));
    calibration.record("q", &[], 4).expect("no rows are no error");
    assert!(matches!(calibration.uniform(0.5), Err(SparsityError::NothingRecorded)));
    calibration.record("q", &[1.0, 2.0], 2).expect("fine");
    for sparsity in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(calibration.uniform(sparsity), Err(SparsityError::Sparsity(_))));
    }
    assert!(matches!(
        calibration.record("q", &[1.0, 2.0, 3.0], 3),
        Err(SparsityError::Width { len: 3, width: 2, .. })
    ));
    let nan = calibration.record("q", &[1.0, 2.0, 3.0, f32::NAN], 2);
    assert!(matches!(nan, Err(SparsityError::NotFinite { row: 1, channel: 1, .. })));
    // A forward pass cannot return them, so the first one is kept.
    for _ in 0..2 {
        assert!(matches!(calibration.uniform(0.5), Err(SparsityError::Width { .. })));
    }
}

fn fingerprint(weights: &[u8]) -> ModelFingerprint {
    ModelFingerprint::new([("q", [4, 2]), ("down", [2, 4])], weights)
}

fn thresholds() -> Thresholds {
    let q = Threshold { magnitude: 0.25, sparsity: 0.75 };
    let down = Threshold { magnitude: 0.1, sparsity: 0.375 };
    Thresholds::new(0.5, [("q".into(), q), ("down".into(), down)]).expect("valid")
}

#[test]
fn thresholds_come_back_from_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sparsity.json");
    thresholds().save(&file, &fingerprint(b"a")).expect("saved");
    assert_eq!(Thresholds::load(&file, &fingerprint(b"a")).expect("loaded"), thresholds());
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    assert!(matches!(thresholds().get("up"), Err(SparsityError::Missing(name)) if name == "up"));
}

#[test]
fn thresholds_of_another_model_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sparsity.json");
    thresholds().save(&file, &fingerprint(b"a")).expect("saved");
    let others = [fingerprint(b"b"), ModelFingerprint::new([("q", [4, 2])], b"a")];
    for other in others {
        let refused = Thresholds::load(&file, &other);
        assert!(matches!(refused, Err(SparsityError::OtherModel { .. })), "{refused:?}");
    }
}

#[test]
fn bad_files_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sparsity.json");
    let model = fingerprint(b"a");
    let load = || Thresholds::load(&file, &model);
    assert!(matches!(load(), Err(SparsityError::Io { .. })));
    thresholds().save(&file, &model).expect("saved");
    let good = std::fs::read_to_string(&file).expect("text");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        std::fs::write(&file, good.replace(from, to)).expect("written");
        load()
    };
    assert!(matches!(with("\"version\": 1", "\"version\": 2"), Err(SparsityError::Version { .. })));
    assert!(matches!(with("0.25", "-0.25"), Err(SparsityError::Threshold { .. })));
    assert!(matches!(
        with("0.25", "1e99"),
        Err(SparsityError::Json { .. } | SparsityError::Threshold { .. })
    ));
    assert!(matches!(
        with("\"sparsity\": 0.5", "\"sparsity\": 5"),
        Err(SparsityError::Sparsity(_))
    ));
    assert!(matches!(with("0.75", "-0.75"), Err(SparsityError::Sparsity(_))));
    assert!(matches!(with("\"model\"", "\"of\""), Err(SparsityError::Json { .. })));
    assert!(matches!(with("lightglm-sparsity", "other"), Err(SparsityError::Json { .. })));
    assert!(matches!(with("{", "["), Err(SparsityError::Json { .. })));
}

proptest! {
    /// Whatever a file holds, it is read or refused.
    #[test]
    fn files_never_panic(cut in 0usize..600, byte: u8, at in 0usize..600) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sparsity.json");
        thresholds().save(&file, &fingerprint(b"a")).expect("saved");
        let mut bytes = std::fs::read(&file).expect("bytes");
        bytes.truncate(cut);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        std::fs::write(&file, bytes).expect("written");
        let _ = Thresholds::load(&file, &fingerprint(b"a"));
    }
}
