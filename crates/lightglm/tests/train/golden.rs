//! PyTorch's and PEFT's numbers: LoRA, AdamW, clipping, the schedule, the decoder's gradients.

use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::trainable_parameters;
use lightglm_core::{
    Activations, EffectiveWeight, GradientSums, LabelledSpan, Linear, TrainableLm,
};
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
use lightglm_model::weights::SafetensorsCheckpoint;
use lightglm_train::lora::{LoraAdapter, LoraLinear};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::{
    AdamW, AdamWConfig, Schedule, ScheduleShape, clip_factor, global_norm,
};
use safetensors::SafeTensors;

type Train = Autodiff<Flex>;

/// f32 sums in another order than the reference's, relative to the largest element.
const TOLERANCE: f32 = 2e-5;

/// The same through two layers, forwards and backwards.
const MODEL_TOLERANCE: f32 = 2e-4;

/// `shared/fixtures` beside the repository, or under `LIGHTGLM_SHARED`.
fn fixtures() -> Option<PathBuf> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let fixtures = shared.unwrap_or(beside).join("fixtures");
    if !fixtures.is_dir() {
        println!("skipped: {} is not there", fixtures.display());
        return None;
    }
    Some(fixtures)
}

fn numbers(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).expect(name).data().chunks_exact(4);
    data.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn tensor<const D: usize>(tensors: &SafeTensors<'_>, name: &str) -> Tensor<Train, D> {
    let shape: [usize; D] = tensors.tensor(name).expect(name).shape().try_into().expect(name);
    Tensor::from_data(TensorData::new(numbers(tensors, name), shape), &FlexDevice)
}

fn values<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

#[track_caller]
fn assert_close(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * largest, "{name}[{i}]: {a}, expected {e}");
    }
}

/// The Llama family's logits, losses and gradients, in transformers' own layout.
#[test]
fn models_in_llamas_layout() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lightglm-model/tests/data/llama");
    for name in ["llama_tied", "llama_bias", "mistral", "qwen2", "qwen3"] {
        let (folder, mut compared) = (models.join(name), 0);
        let mut check = |found: &lightglm::verify::Comparison| {
            let passed = found.outcome.passed();
            assert!(passed.unwrap_or(found.name.ends_with("input_ids")), "{name}: {found:?}");
            compared += usize::from(passed.is_some());
        };
        let config = folder.join("config.json");
        lightglm::verify::verify(&folder, &config, lightglm::Device::Cpu, &mut check).unwrap();
        // Logits, loss, and more than a dozen gradients of each layer or all of it.
        assert!(compared > 20, "{name}: {compared}");
    }
}

#[test]
fn lora() {
    let Some(fixtures) = fixtures() else { return };
    let bytes = std::fs::read(fixtures.join("quant/lora.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let base = || DenseLinear::<Train> {
        weight: Param::from_tensor(tensor(&file, "w")),
        bias: Some(Param::from_tensor(tensor(&file, "bias"))),
    };
    let alpha = f64::from(numbers(&file, "alpha")[0]);
    let rank = tensor::<2>(&file, "lora_A").dims()[0] as f64;
    let with_scale = |scale| {
        let mut linear = LoraLinear::new(base().no_grad());
        let (a, b) = (tensor(&file, "lora_A"), tensor(&file, "lora_B"));
        linear.push(LoraAdapter::new("default", a, b, scale));
        linear
    };
    let linear = with_scale(alpha / rank);
    let x = tensor::<2>(&file, "x").require_grad();
    let y = linear.forward(x.clone());
    let check = |name: &str, actual: Vec<f32>| {
        assert_close(name, &actual, &numbers(&file, name), TOLERANCE);
    };
    check("y", values(y.clone().inner()));
    let grads = (y * tensor(&file, "upstream")).sum().backward();
    check("grad_x", values(x.grad(&grads).unwrap()));
    check("grad_A", values(linear.adapters[0].lora_a.grad(&grads).unwrap()));
    check("grad_B", values(linear.adapters[0].lora_b.grad(&grads).unwrap()));
    assert!(linear.base.weight.grad(&grads).is_none(), "the base is frozen");
    check("w_merged", values(linear.weight().inner()));
    let merged = linear.clone().into_merged();
    check("y", values(merged.forward(x.clone()).inner()));
    let back = linear.clone().merge().unmerge();
    check("y", values(back.forward(x.clone()).inner()));
    check("w", values(back.base.weight().inner()));
    check("y_rslora", values(with_scale(alpha / rank.sqrt()).forward(x).inner()));
}

#[derive(Module, Debug)]
struct Two<B: burn::tensor::backend::Backend> {
    p: Param<Tensor<B, 2>>,
    bias: Param<Tensor<B, 1>>,
}

#[test]
fn adamw() {
    let Some(fixtures) = fixtures() else { return };
    let bytes = std::fs::read(fixtures.join("quant/adamw.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let hyper = file.tensor("hyper.lr_b1_b2_eps_wd").unwrap();
    let hyper: Vec<f64> =
        hyper.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    let [lr, beta1, beta2, eps, weight_decay] = hyper[..] else { panic!("five numbers") };
    let mut optimizer = AdamW::new(AdamWConfig { beta1, beta2, eps, weight_decay, muon: None });
    let mut module = Two::<Train> {
        p: Param::from_tensor(tensor(&file, "p.step0")),
        bias: Param::from_tensor(tensor(&file, "bias.step0")),
    };
    for step in 1..=3 {
        let mut sums = GradientSums::<Train>::new();
        let p = tensor::<2>(&file, &format!("p.grad{step}")).inner();
        sums.add(module.p.id, p.reshape([35]) * 2.0);
        sums.add(module.bias.id, tensor::<1>(&file, &format!("bias.grad{step}")).inner());
        // Half of a sum is the gradient; the bias' is given in two parts.
        sums.add(module.bias.id, tensor::<1>(&file, &format!("bias.grad{step}")).inner());
        module = optimizer.step(module, sums, lr, 0.5);
        let check = |name: &str, actual: Vec<f32>| {
            let name = format!("{name}{step}");
            assert_close(&name, &actual, &numbers(&file, &name), TOLERANCE);
        };
        check("p.step", values(module.p.val().inner()));
        check("bias.step", values(module.bias.val().inner()));
        let moments = optimizer.moments(module.p.id).unwrap();
        check("p.m", values(moments.first.clone()));
        check("p.v", values(moments.second.clone()));
    }
    assert_eq!(optimizer.steps(), 3);
}

#[test]
fn clipping_and_schedule() {
    let Some(fixtures) = fixtures() else { return };
    let bytes = std::fs::read(fixtures.join("quant/adamw.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut sums = GradientSums::<Train>::new();
    for name in ["clip.in_a", "clip.in_b"] {
        let values = numbers(&file, name);
        let n = values.len();
        let gradient = Tensor::from_data(TensorData::new(values, [n]), &FlexDevice);
        sums.add(burn::module::ParamId::new(), gradient);
    }
    let norm = global_norm(&sums);
    assert_close("norm", &[norm as f32], &numbers(&file, "clip.total_norm"), TOLERANCE);
    let factor = clip_factor(norm, 1.0) as f32;
    for (from, to) in [("clip.in_a", "clip.out_a"), ("clip.in_b", "clip.out_b")] {
        let clipped: Vec<f32> = numbers(&file, from).iter().map(|x| x * factor).collect();
        assert_close(to, &clipped, &numbers(&file, to), TOLERANCE);
    }
    let schedule = Schedule { shape: ScheduleShape::Cosine, warmup_steps: 5, total_steps: 30 };
    let expected = file.tensor("cosine.warmup5_total30").unwrap().data().chunks_exact(8);
    for (step, bytes) in expected.enumerate() {
        let expected = f64::from_le_bytes(bytes.try_into().unwrap());
        let factor = schedule.factor(step as u64);
        assert!((factor - expected).abs() < 1e-12, "step {step}: {factor}, expected {expected}");
    }
}

#[test]
fn gradients_of_transformers() {
    let Some(fixtures) = fixtures() else { return };
    let folder = fixtures.join("glm4");
    let config = GlmConfig::from_file(folder.join("config.json")).unwrap();
    let checkpoint = SafetensorsCheckpoint::open(&folder).unwrap();
    let f32 = LoadPrecision::Convert(lightglm_core::WeightDtype::F32);
    let model = DenseGlm::<Train>::load(&config, &checkpoint, &folder, f32, &FlexDevice).unwrap();
    let bytes = std::fs::read(folder.join("expected_train.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("train.input_ids").unwrap();
    let [rows, columns] = ids.shape()[..] else { panic!("[B, T]") };
    let tokens: Vec<u32> = ids
        .data()
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32)
        .collect();
    let targets: Vec<Option<u32>> = (0..tokens.len())
        .map(|i| if (i + 1) % columns == 0 { None } else { Some(tokens[i + 1]) })
        .collect();
    let spans: Vec<_> = tokens
        .chunks(columns)
        .zip(targets.chunks(columns))
        .map(|(tokens, targets)| LabelledSpan::text(tokens, targets))
        .collect();
    let labels = (rows * (columns - 1)) as f64;
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let norms = meta["grad_norms"].as_object().expect("the norm of each gradient");
    for activations in [Activations::Keep, Activations::Recompute] {
        let mut sums = GradientSums::new();
        let loss = model.differentiate(&spans, &CrossEntropy, activations, &mut sums).unwrap();
        let expected = numbers(&file, "train.loss");
        assert_close("loss", &[(loss / labels) as f32], &expected, MODEL_TOLERANCE);
        let norm = (global_norm(&sums) / labels) as f32;
        let expected = numbers(&file, "train.grad_global_norm");
        assert_close("norm", &[norm], &expected, MODEL_TOLERANCE);
        let mut compared = 0;
        for parameter in trainable_parameters(&model) {
            let name = match parameter.name.starts_with("lm_head") {
                true => parameter.name.clone(),
                false => format!("model.{}", parameter.name),
            };
            let gradient = values(sums.take(parameter.id).expect(&name) / labels as f32);
            let norm = gradient.iter().map(|x| x * x).sum::<f32>().sqrt();
            let expected = norms[&name].as_f64().expect(&name) as f32;
            assert_close(&name, &[norm], &[expected], MODEL_TOLERANCE);
            if file.tensor(&format!("train.grad.{name}")).is_ok() {
                let expected = numbers(&file, &format!("train.grad.{name}"));
                assert_close(&name, &gradient, &expected, MODEL_TOLERANCE);
                compared += 1;
            }
        }
        assert_eq!(compared, 10, "every gradient of the file");
    }
}
