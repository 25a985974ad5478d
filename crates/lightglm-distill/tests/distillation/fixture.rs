//! The numbers that torch gives (`fixtures/quant/distill.safetensors`).

use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LabelledSpan, LmError, Objective};
use lightglm_distill::{Distillation, Divergence, LiveTeacher, TeacherRows};
use safetensors::SafeTensors;

type Train = Autodiff<Flex>;

const SHAPE: [usize; 2] = [6, 50];
const TEMPERATURE: f64 = 2.0;

/// The fixture's bytes, or `None` with a word about it where it is not there.
fn fixture() -> Option<Vec<u8>> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let file = shared.unwrap_or(beside).join("fixtures/quant/distill.safetensors");
    let bytes = std::fs::read(&file);
    if bytes.is_err() {
        println!("skipped: {} is not there", file.display());
    }
    bytes.ok()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (chunks, _) = file.tensor(name).unwrap().data().as_chunks::<4>();
    chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let largest = theirs.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    for (at, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 2e-6 * largest.max(0.1), "{name}[{at}]: {a}, not {b}");
    }
}

/// The objective's mean over the rows of `mask`, and its gradient.
fn run(file: &SafeTensors<'_>, divergence: Divergence, weight: f64) -> (f32, Vec<f32>) {
    let [rows, vocab_size] = SHAPE;
    let mask = floats(file, "mask");
    let kept: Vec<usize> = (0..rows).filter(|row| mask[*row] > 0.0).collect();
    let labels = file.tensor("labels").unwrap();
    let (labels, _) = labels.data().as_chunks::<8>();
    let labels: Vec<u32> = labels.iter().map(|&it| i64::from_le_bytes(it) as u32).collect();
    let targets: Vec<Option<u32>> =
        (0..rows).map(|row| (mask[row] > 0.0).then_some(labels[row])).collect();
    let tokens = vec![0; rows];
    let span = LabelledSpan::text(&tokens, &targets);
    let all = floats(file, "teacher_logits");
    let wanted: Vec<f32> =
        kept.iter().flat_map(|row| all[row * vocab_size..][..vocab_size].to_vec()).collect();
    let teacher = LiveTeacher::<_, Flex>::new(|_: &[LabelledSpan<'_>]| -> Result<_, LmError> {
        let data = TensorData::new(wanted.clone(), [kept.len(), vocab_size]);
        Ok(Tensor::from_data(data, &FlexDevice))
    });
    let objective =
        Distillation::new(teacher, divergence).with_weight(weight).with_temperature(TEMPERATURE);
    let data = TensorData::new(floats(file, "student_logits"), SHAPE);
    let logits: Tensor<Train, 2> = Tensor::from_data(data, &FlexDevice);
    let logits = logits.require_grad();
    let indices: Vec<i32> = kept.iter().map(|row| *row as i32).collect();
    let indices = Tensor::from_data(TensorData::new(indices, [kept.len()]), &FlexDevice);
    let loss = objective.loss(logits.clone().select(0, indices), &[span]).unwrap();
    let mean = loss / kept.len() as f32;
    let gradients = mean.backward();
    let gradient = logits.grad(&gradients).unwrap().into_data().to_vec::<f32>().unwrap();
    (mean.into_data().to_vec::<f32>().unwrap()[0], gradient)
}

#[test]
fn values_and_gradients_are_torchs() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = [
        ("forward_kl", Divergence::ForwardKl),
        ("reverse_kl", Divergence::ReverseKl),
        ("jsd_0.1", Divergence::JensenShannon { beta: 0.1 }),
        ("jsd_0.5", Divergence::JensenShannon { beta: 0.5 }),
        ("jsd_0.9", Divergence::JensenShannon { beta: 0.9 }),
    ];
    assert_eq!(floats(&file, "T"), [TEMPERATURE as f32]);
    let teacher = TeacherRows::logits(floats(&file, "teacher_logits"), SHAPE[1]).unwrap();
    for (name, divergence) in cases {
        let student = floats(&file, "student_logits");
        let each = divergence.losses(&teacher, &student, TEMPERATURE).unwrap();
        close(name, &each, &floats(&file, &format!("{name}.per_token")));
        let (mean, gradient) = run(&file, divergence, 1.0);
        close(name, &[mean], &floats(&file, &format!("{name}.loss")));
        close(name, &gradient, &floats(&file, &format!("{name}.grad")));
    }
    // The words alone.
    let (mean, gradient) = run(&file, Divergence::ForwardKl, 0.0);
    close("ce", &[mean], &floats(&file, "ce.loss"));
    close("ce", &gradient, &floats(&file, "ce.grad"));
    // And both.
    let (both, _) = run(&file, Divergence::ForwardKl, 0.25);
    let expected = 0.25 * floats(&file, "forward_kl.loss")[0] + 0.75 * floats(&file, "ce.loss")[0];
    close("both", &[both], &[expected]);
}
