//! LoRA adapters of a model in Llama's layout, to and from Hugging Face PEFT.
//!
//! What PEFT saved stands in `data/peft_qwen2`, with transformers' logits; the base is the tiny model of
//! `lightglm-model`. The other way, `our_adapter_for_peft` writes what `tools/peft_check.py check` loads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn_flex::{Flex, FlexDevice};
use lightglm::ModelFolder;
use lightglm::generic::matrices;
use lightglm_core::{ProjectionLayout, WeightDtype, save_safetensors};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::LoadPrecision;
use lightglm_train::lora::{Lora, LoraConfig, LowRank};
use lightglm_train::peft::{MODEL_FILE, load_adapter, save_adapter};
use safetensors::SafeTensors;

use super::peft::{Adapted, golden, logits, read_logits, wrapped, write_logits};

const LAYOUT: ProjectionLayout = ProjectionLayout::Llama { head_dim: 8 };

/// Logits of up to 4 through two layers of f32 sums in another order.
const TOLERANCE: f32 = 2e-5;

fn qwen2() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lightglm-model/tests/data/llama/qwen2")
}

fn adapted(checkpoint: &Checkpoint, lora: &Lora) -> Adapted<Flex> {
    let precision = LoadPrecision::Convert(WeightDtype::F32);
    wrapped(checkpoint.load(precision, &FlexDevice).unwrap(), lora)
}

fn loaded(folder: &Path, checkpoint: &Checkpoint, layout: ProjectionLayout) -> Lora {
    let shapes: BTreeMap<String, [usize; 2]> = matrices(checkpoint.config()).into_iter().collect();
    load_adapter(folder, "default", &|name| shapes.get(name).copied(), layout).unwrap()
}

fn difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()))
}

#[test]
fn an_adapter_of_peft() {
    let checkpoint = Checkpoint::open(&qwen2()).unwrap();
    assert_eq!(checkpoint.adapter_layout(), LAYOUT);
    let (tokens, expected) = read_logits(&golden("qwen2").join("logits.safetensors"));
    let apart = |checkpoint: &Checkpoint, layout| {
        let lora = loaded(&golden("qwen2"), checkpoint, layout);
        difference(&logits(&adapted(checkpoint, &lora), &tokens), &expected)
    };
    let (right, wrong) = (apart(&checkpoint, LAYOUT), apart(&checkpoint, ProjectionLayout::Glm));
    println!("{right:e} from PEFT, {wrong} with rows in GLM's order");
    assert!(right < TOLERANCE, "{right}");
    assert!(wrong > 100.0 * TOLERANCE, "the order of rows does not show: {wrong}");

    // A copy in our own form is a `glm`, and still has the adapters of what it was.
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("copy");
    let folder = ModelFolder::begin(&copy, &checkpoint, None).unwrap();
    save_safetensors(folder.weights(), checkpoint.weights(), &BTreeMap::new()).unwrap();
    folder.finish().unwrap();
    let copy = Checkpoint::open(&copy).unwrap();
    assert!(!copy.is_translated());
    assert!(apart(&copy, copy.adapter_layout()) < TOLERANCE);
}

/// An adapter of every projection whose matrices are not zero.
fn random_adapter(checkpoint: &Checkpoint) -> Lora {
    let config = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
    let mut state = 7u32;
    let mut values = |count: usize| -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| next()).collect()
    };
    let projections = matrices(checkpoint.config()).into_iter().filter(|(name, _)| {
        config.target_modules.iter().any(|module| name.ends_with(module.as_str()))
    });
    let low = projections.map(|(name, shape)| {
        let (rank, scale) = (config.rank, config.scale());
        let (lora_a, lora_b) = (values(rank * shape[1]), values(rank * shape[0]));
        (name, LowRank { rank, scale, shape, lora_a, lora_b })
    });
    let low = low.collect();
    Lora::with_matrices("default", config, low).unwrap()
}

#[test]
fn an_adapter_is_saved_in_the_layout_of_its_model() {
    let checkpoint = Checkpoint::open(&qwen2()).unwrap();
    let lora = random_adapter(&checkpoint);
    let model = adapted(&checkpoint, &lora);
    let out = tempfile::tempdir().unwrap();
    save_adapter(&model, &lora, None, LAYOUT, out.path()).unwrap();
    let names = |folder: &Path| {
        let bytes = std::fs::read(folder.join(MODEL_FILE)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let shapes = tensors.tensors().into_iter();
        shapes.map(|(name, view)| (name, view.shape().to_vec())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(names(out.path()), names(&golden("qwen2")));
    let tokens: Vec<u32> = (0..24).map(|i| (i * i * 7 + 5) % 40).collect();
    let wanted = logits(&model, &tokens);
    let back = |layout| {
        let lora = loaded(out.path(), &checkpoint, layout);
        difference(&logits(&adapted(&checkpoint, &lora), &tokens), &wanted)
    };
    assert!(back(LAYOUT) < TOLERANCE, "{}", back(LAYOUT));
    assert!(back(ProjectionLayout::Glm) > 100.0 * TOLERANCE);
}

/// Writes an adapter to `LIGHTGLM_PEFT_OUT`, with logits.
#[test]
#[ignore = "writes what tools/peft_check.py reads"]
fn our_adapter_for_peft() {
    let Some(out) = std::env::var_os("LIGHTGLM_PEFT_OUT").map(PathBuf::from) else {
        println!("skipped: LIGHTGLM_PEFT_OUT is not set");
        return;
    };
    let checkpoint = Checkpoint::open(&qwen2()).unwrap();
    let lora = random_adapter(&checkpoint);
    let model = adapted(&checkpoint, &lora);
    let out = out.join("qwen2");
    save_adapter(&model, &lora, qwen2().to_str(), LAYOUT, &out).unwrap();
    let tokens: Vec<u32> = (0..24).map(|i| (i * i * 7 + 5) % 40).collect();
    write_logits(&out.join("logits.safetensors"), &tokens, &logits(&model, &tokens));
}
