//! LoRA adapters to and from Hugging Face PEFT.
//!
//! What PEFT saved stands in `data/peft_glm4` and `data/peft_glm`, with transformers' logits; the base
//! weights are shared/fixtures'. The other way, `our_adapters_for_peft` writes what
//! `tools/peft_check.py check` loads; that file has the command lines.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn_flex::{Flex, FlexDevice};
use lightglm::generic::matrices;
use lightglm_core::{
    LogitRows, ProjectionLayout, SafetensorsWriter, SequenceId, Span, StoredDtype, TensorSpec,
    WeightDtype,
};
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseEmbedding, DenseGlm, DenseLinear, Glm, LoadPrecision, SwiGlu};
use lightglm_model::weights::SafetensorsCheckpoint;
use lightglm_train::lora::{Lora, LoraConfig, LoraLinear};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::peft::{load_adapter, save_adapter};
use lightglm_train::trainer::{TokenizedExample, TrainConfig, TrainEvent, Trainer};
use safetensors::SafeTensors;

pub(super) type Adapted<B> = Glm<
    B,
    LoraLinear<B, DenseLinear<B>>,
    SwiGlu<B, LoraLinear<B, DenseLinear<B>>>,
    DenseEmbedding<B>,
>;

/// Logits of up to about 10 through three layers of f32 sums in another order.
const TOLERANCE: f32 = 2e-4;

/// `shared/fixtures` beside the repository, or under `LIGHTGLM_SHARED`.
fn fixture(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = shared.unwrap_or(beside).join("fixtures").join(name);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

pub(super) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("peft_{name}"))
}

fn base<B: LmBackend<Device = FlexDevice>>(folder: &Path) -> (GlmConfig, DenseGlm<B>) {
    let config = GlmConfig::from_file(folder.join("config.json")).unwrap();
    let checkpoint = SafetensorsCheckpoint::open(folder).unwrap();
    let f32 = LoadPrecision::Convert(WeightDtype::F32);
    let model = DenseGlm::load(&config, &checkpoint, folder, f32, &FlexDevice).unwrap();
    (config, model)
}

pub(super) fn wrapped<B: LmBackend>(model: DenseGlm<B>, lora: &Lora) -> Adapted<B> {
    model.no_grad().map_linears(&mut |name: &str, linear| lora.wrap(name, linear))
}

fn loaded(folder: &Path, config: &GlmConfig) -> Lora {
    let shapes: BTreeMap<String, [usize; 2]> = matrices(config).into_iter().collect();
    load_adapter(folder, "default", &|name| shapes.get(name).copied(), ProjectionLayout::Glm)
        .unwrap()
}

pub(super) fn logits(model: &Adapted<Flex>, tokens: &[u32]) -> Vec<f32> {
    let span = Span::text(SequenceId(0), tokens, LogitRows::All);
    model.forward_uncached(&[span]).unwrap().into_data().to_vec().unwrap()
}

/// Token ids and logits.
pub(super) fn read_logits(file: &Path) -> (Vec<u32>, Vec<f32>) {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tokens = tensors.tensor("tokens").unwrap().data().chunks_exact(8);
    let tokens = tokens.map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect();
    let logits = tensors.tensor("logits").unwrap().data().chunks_exact(4);
    (tokens, logits.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

#[test]
fn adapters_of_peft() {
    for name in ["glm4", "glm"] {
        let Some(folder) = fixture(name) else { return };
        let (config, model) = base::<Flex>(&folder);
        let lora = loaded(&golden(name), &config);
        assert_eq!(
            (lora.config().rank, lora.config().alpha, lora.config().dropout),
            (4, 8.0, 0.05)
        );
        assert_eq!(lora.config().use_rslora, name == "glm");
        let plain = Lora::new("none", LoraConfig::default(), 1).unwrap();
        let plain = wrapped(model.clone(), &plain);
        let adapted = wrapped(model, &lora);
        assert_eq!(lora.sites().len(), 6 * config.num_hidden_layers);
        let (tokens, expected) = read_logits(&golden(name).join("logits.safetensors"));
        let difference = |actual: &[f32]| {
            assert_eq!(actual.len(), expected.len());
            actual.iter().zip(&expected).fold(0.0f32, |max, (a, e)| max.max((a - e).abs()))
        };
        let apart = difference(&logits(&adapted, &tokens));
        let without = difference(&logits(&plain, &tokens));
        println!("{name}: {apart:e} from PEFT, {without} without the adapter");
        assert!(apart <= TOLERANCE, "{name}: {apart}");
        assert!(without > 100.0 * TOLERANCE, "the adapter does nothing: {without}");

        // Saved again, PEFT's matrices are the same bytes.
        let out = tempfile::tempdir().unwrap();
        save_adapter(&adapted, &lora, None, ProjectionLayout::Glm, out.path()).unwrap();
        let (ours, theirs) = (matrix_bytes(out.path()), matrix_bytes(&golden(name)));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        assert!(ours == theirs, "{name}: other bytes");
    }
}

fn matrix_bytes(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let all = tensors.tensors().into_iter();
    all.map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec()))).collect()
}

/// Trains an adapter on each fixture and writes it to `LIGHTGLM_PEFT_OUT`, with logits.
#[test]
#[ignore = "writes what tools/peft_check.py reads"]
fn our_adapters_for_peft() {
    let Some(out) = std::env::var_os("LIGHTGLM_PEFT_OUT").map(PathBuf::from) else {
        println!("skipped: LIGHTGLM_PEFT_OUT is not set");
        return;
    };
    for name in ["glm4", "glm"] {
        let Some(folder) = fixture(name) else { return };
        let (_, model) = base::<Autodiff<Flex>>(&folder);
        let config = LoraConfig { rank: 8, alpha: 16.0, ..LoraConfig::default() };
        let config = LoraConfig { use_rslora: name == "glm", dropout: 0.1, ..config };
        let lora = Lora::new("default", config, 3).unwrap();
        let model = trained(wrapped(model, &lora), &lora);
        let out = out.join(name);
        save_adapter(&model, &lora, folder.to_str(), ProjectionLayout::Glm, &out).unwrap();
        let tokens: Vec<u32> = (0..24).map(|i| (i * i * 7 + 5) % 320).collect();
        write_logits(&out.join("logits.safetensors"), &tokens, &logits(&model.valid(), &tokens));
    }
}

fn trained(model: Adapted<Autodiff<Flex>>, lora: &Lora) -> Adapted<Autodiff<Flex>> {
    let tokens = |row: u32| (0..16).map(|i| (row * 31 + i * i * 3) % 320).collect::<Vec<u32>>();
    let examples: Vec<_> =
        (0..12).map(|i| TokenizedExample::new(tokens(i), &[true; 16], i as usize)).collect();
    let config =
        TrainConfig { batch_size: 4, epochs: 8, learning_rate: 1e-2, ..TrainConfig::default() };
    let trainer = Trainer::new(&config, &CrossEntropy).with_dropout(lora.dropout_seed());
    let mut losses = Vec::new();
    let mut watch = |event: &TrainEvent| {
        if let TrainEvent::Step(step) = event {
            losses.push(step.loss);
        }
        ControlFlow::Continue(())
    };
    let (model, _) = trainer.run(model, &examples, &mut watch).unwrap();
    println!("loss {} -> {}", losses[0], losses[losses.len() - 1]);
    assert!(losses[losses.len() - 1] < losses[0]);
    model
}

pub(super) fn write_logits(file: &Path, tokens: &[u32], logits: &[f32]) {
    let spec = |name: &str, dtype, shape| TensorSpec { name: name.into(), dtype, shape };
    let shape = vec![tokens.len(), logits.len() / tokens.len()];
    let specs = [
        spec("logits", StoredDtype::F32, shape),
        spec("tokens", StoredDtype::I64, vec![tokens.len()]),
    ];
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new()).unwrap();
    for spec in writer.order().to_vec() {
        let bytes: Vec<u8> = match spec.name.as_str() {
            "tokens" => tokens.iter().flat_map(|&t| i64::from(t).to_le_bytes()).collect(),
            _ => logits.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        writer.write(&bytes).unwrap();
    }
    writer.finish().unwrap();
}
