//! Adapters with whole weights, and adapters merged into folders: logits are those of PEFT, and of the base with
//! the adapter beside it.
//!
//! What PEFT saved stands in `data/peft_saved`, made by `tools/peft_check.py`; the bases are tiny models of
//! `lightglm-model`, in f32 here, as they were there.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn_flex::FlexDevice;
use lightglm::generic::{LanguageModel, load};
use lightglm::merge::{MergeOptions, MergeReport, merge};
use lightglm::quantize::{
    CalibratedMethod, Codes, ExportFormat, ExportOptions, QuantizeOptions, export, quantize,
};
use lightglm::{Cpu, Error, LoadOptions, Policy, ProgressSink};
use lightglm_core::{
    KvDtype, KvShape, LogitRows, SafetensorsWriter, SequenceId, Span, StoredDtype, TensorSpec,
    WeightDtype, WeightSource,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::{
    GgmlType, SafetensorsCheckpoint, write_random_checkpoint, write_random_gguf,
};
use lightglm_quant::to_f32;
use serde_json::{Value, json};

use super::peft::read_logits;

/// Logits of up to 8 through two layers of f32 sums in another order.
const TOLERANCE: f32 = 3e-5;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Llama-layout model `name` in f32, as PEFT had it.
fn in_f32(name: &str, folder: &Path) -> PathBuf {
    let from = data("../lightglm-model/tests/data/llama").join(name);
    let weights = SafetensorsCheckpoint::open(&from).unwrap();
    let names = weights.names();
    let views: BTreeMap<&String, _> =
        names.iter().map(|name| (name, weights.tensor(name).unwrap())).collect();
    let spec = |name: &String| TensorSpec {
        name: name.clone(),
        dtype: StoredDtype::F32,
        shape: views[name].shape.clone(),
    };
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("model.safetensors");
    let mut writer =
        SafetensorsWriter::create(file, names.iter().map(spec), &BTreeMap::new()).unwrap();
    for spec in writer.order().to_vec() {
        let values = to_f32(&views[&spec.name]);
        writer.write(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
    fs::copy(from.join("config.json"), folder.join("config.json")).unwrap();
    folder.to_owned()
}

/// Logits of every token, of the model in `folder`, with the adapter if there is one.
fn logits(model: &Path, adapter: Option<&Path>, tokens: &[u32]) -> Vec<f32> {
    let checkpoint = Checkpoint::open(model).unwrap();
    let adapters = adapter.and_then(Path::parent).map(Path::to_owned);
    let options = LoadOptions { adapters, ..LoadOptions::default() };
    let loaded = load::<Cpu>(&checkpoint, &options, &FlexDevice).unwrap();
    let model = match adapter.and_then(Path::file_name) {
        Some(name) => loaded.adapters.unwrap()(name.to_str().unwrap()).unwrap(),
        None => loaded.model,
    };
    logits_of(&*model, checkpoint.config(), tokens)
}

fn logits_of(model: &dyn LanguageModel<Cpu>, config: &GlmConfig, tokens: &[u32]) -> Vec<f32> {
    let (shape, positions) = (KvShape::of(config), tokens.len());
    let mut cache = ContiguousKvCache::new(shape, 1, positions, KvDtype::F32, &FlexDevice);
    let span = Span::text(SequenceId(0), tokens, LogitRows::All);
    model.forward(&[span], &mut cache).unwrap().into_data().to_vec().unwrap()
}

fn apart(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()))
}

fn merged(model: &Path, adapter: &Path, folder: &Path) -> MergeReport {
    let checkpoint = Checkpoint::open(model).unwrap();
    merge(&checkpoint, adapter, &MergeOptions::default(), folder).unwrap()
}

fn tensors(folder: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let weights = SafetensorsCheckpoint::open(folder).unwrap();
    let stored = |name: String| {
        let stored = weights.stored(&name).unwrap();
        (name, (stored.dtype, stored.parts.concat()))
    };
    weights.names().into_iter().map(stored).collect()
}

fn tied_in_config(folder: &Path) -> bool {
    let json: Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    json["tie_word_embeddings"].as_bool().unwrap()
}

/// Whole weights and adapters of the head and the table, of models whose head is its own and of models whose head is
/// the table: beside the base, merged, and quantized without loss of their head.
#[test]
fn heads_and_tables_are_those_of_peft() {
    let cases = [
        ("untied", "qwen2", false),
        ("untied_lora", "qwen2", false),
        ("tied_head", "llama_tied", true),
        ("tied_table", "llama_tied", true),
        ("tied_ensured", "llama_tied", false),
        ("tied_lora", "llama_tied", true),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, base, unties) in cases {
        let model = in_f32(base, &folder.path().join(base));
        let adapter = data("tests/data/peft_saved").join(name);
        let (tokens, expected) = read_logits(&adapter.join("logits.safetensors"));
        let beside = apart(&logits(&model, Some(&adapter), &tokens), &expected);
        assert!(beside < TOLERANCE, "{name}: {beside}");
        let out = folder.path().join(name);
        let report = merged(&model, &adapter, &out);
        let inside = apart(&logits(&out, None, &tokens), &expected);
        let without = apart(&logits(&model, None, &tokens), &expected);
        println!("{name}: {beside:e} beside, {inside:e} merged, {without} without, {report:?}");
        assert!(inside < TOLERANCE && without > 1000.0 * TOLERANCE, "{name}: {inside}, {without}");
        assert_eq!(report.untied, unties, "{name}");
        assert_eq!(tied_in_config(&out), base == "llama_tied" && !unties, "{name}");
        // Only what is quantized is rounded, the merged head is not.
        let quantized = folder.path().join(format!("{name}_dense"));
        let policy: Policy = "model.layers.1.mlp.down_proj=int8wo".parse().unwrap();
        let options = QuantizeOptions { adapter: Some(adapter), ..policy.into() };
        quantize(&Checkpoint::open(&model).unwrap(), &options, &quantized).unwrap();
        let rounded = apart(&logits(&quantized, None, &tokens), &expected);
        assert!(rounded < 0.05, "{name}: {rounded}");
    }
}

fn shape() -> GlmConfig {
    GlmConfig {
        vocab_size: 96,
        hidden_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        intermediate_size: 128,
        eos_token_ids: vec![2],
        pad_token_id: None,
        tie_word_embeddings: false,
        ..GlmConfig::tiny()
    }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Writes an adapter of rank 4 for the modules of shapes `[N, K]`.
fn adapter(folder: PathBuf, modules: &[(&str, [usize; 2])]) -> PathBuf {
    fs::create_dir_all(&folder).unwrap();
    let config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8});
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let specs = modules.iter().flat_map(|&(module, [n, k])| {
        [("A", vec![4, k]), ("B", vec![n, 4])].map(|(half, shape)| TensorSpec {
            name: format!("base_model.model.{module}.lora_{half}.weight"),
            dtype: StoredDtype::F32,
            shape,
        })
    });
    let file = folder.join("adapter_model.safetensors");
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new()).unwrap();
    for spec in writer.order().to_vec() {
        let len = spec.shape.iter().product::<usize>();
        let value = |i: usize| ((i * 7 + spec.name.len() * 3) % 11) as f32 * 0.02 - 0.1;
        writer.write(&(0..len).flat_map(|i| value(i).to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
    folder
}

const Q: &str = "model.layers.1.self_attn.q_proj";
const DOWN: &str = "model.layers.0.mlp.down_proj";
/// ChatGLM's fused projection: q, k and v, one under the other.
const FUSED: &str = "transformer.encoder.layers.0.self_attention.query_key_value";
const TOKENS: [u32; 12] = [5, 17, 90, 42, 42, 8, 11, 56, 3, 77, 20, 31];

/// bf16, in shards: the files stay what they are but for what the adapter touches, which is rounded once.
#[test]
fn a_dense_folder_stays_as_it_is_laid_out() {
    let folder = tempfile::tempdir().unwrap();
    let (base, out) = (folder.path().join("base"), folder.path().join("out"));
    write_random_checkpoint(&base, &shape(), WeightDtype::Bf16, 5, Some(40_000), &mut go_on)
        .unwrap();
    let adapter = adapter(folder.path().join("a"), &[(Q, [64, 64]), (FUSED, [128, 64])]);
    let report = merged(&base, &adapter, &out);
    assert_eq!((report.merged, report.untied, &report.requantized), (4, false, &None));
    let index = |folder: &Path| -> Value {
        let text = fs::read(folder.join("model.safetensors.index.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    assert_eq!(index(&base)["weight_map"], index(&out)["weight_map"]);
    assert_eq!(
        fs::read(base.join("config.json")).unwrap(),
        fs::read(out.join("config.json")).unwrap()
    );
    let (before, after) = (tensors(&base), tensors(&out));
    let touched =
        ["0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.v_proj", "1.self_attn.q_proj"];
    assert_eq!(before.len(), after.len());
    for (name, (dtype, bytes)) in &after {
        assert_eq!(*dtype, before[name].0, "{name}");
        let is_touched = touched.iter().any(|part| name.contains(part) && name.ends_with("weight"));
        assert_eq!(*bytes != before[name].1, is_touched, "{name}");
    }
    assert_eq!(report.bytes, after.values().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    // Eight bits of a weight: the adapter beside the base is not rounded.
    let beside = logits(&base, Some(&adapter), &TOKENS);
    let (inside, without) = (logits(&out, None, &TOKENS), logits(&base, None, &TOKENS));
    let (rounding, change) = (apart(&inside, &beside), apart(&without, &beside));
    println!("{rounding} by rounding, {change} by the adapter");
    assert!(rounding < 0.02 * change, "{rounding}, {change}");
    // Not over what is there, nor over the model itself; and nothing of a merge that is broken off.
    let checkpoint = Checkpoint::open(&base).unwrap();
    let over =
        |options: &MergeOptions, folder: &Path| merge(&checkpoint, &adapter, options, folder);
    let defaults = MergeOptions::default();
    assert!(matches!(over(&defaults, &out), Err(Error::FolderNotEmpty { .. })));
    let force = MergeOptions { overwrite: true, ..defaults.clone() };
    assert!(matches!(over(&force, &base), Err(Error::FolderIsModel { .. })));
    assert_eq!(over(&force, &out).unwrap(), report);
    let stop = ProgressSink::new(|_| ControlFlow::Break(()));
    let (stop, new) =
        (MergeOptions { progress: stop, ..defaults.clone() }, folder.path().join("new"));
    assert!(matches!(over(&stop, &new), Err(Error::Interrupted { .. })) && !new.exists());
    let f16 = MergeOptions { dtype: Some(WeightDtype::F16), ..defaults };
    assert!(matches!(over(&f16, &new), Err(Error::Option { option: "dtype", .. })));
}

/// Quantizing or exporting with an adapter is quantizing or exporting the merged model, to the bit.
#[test]
fn what_is_quantized_has_the_adapter_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (base, dense) = (path("base"), path("dense"));
    write_random_checkpoint(&base, &shape(), WeightDtype::F32, 6, None, &mut go_on).unwrap();
    let adapter = adapter(path("a"), &[(Q, [64, 64]), (DOWN, [64, 128]), ("lm_head", [96, 64])]);
    merged(&base, &adapter, &dense);
    let [base, dense] = [base, dense].map(|folder| Checkpoint::open(&folder).unwrap());
    let tokens = (0..200).map(|i| (i * i * 7 + 5) % 96).collect();
    let gptq = Codes::Calibrated { method: CalibratedMethod::Gptq, tokens };
    for (name, codes) in [("nearest", Codes::Nearest), ("gptq", gptq)] {
        let policy: Policy = "lm_head=int8,*.down_proj=int4wo-g32".parse().unwrap();
        let options = QuantizeOptions { codes, ..policy.into() };
        let (one, other) = (path(&format!("{name}1")), path(&format!("{name}2")));
        quantize(&dense, &options, &other).unwrap();
        let adapter = Some(adapter.clone());
        quantize(&base, &QuantizeOptions { adapter, ..options }, &one).unwrap();
        assert_eq!(tensors(&one), tensors(&other), "{name}");
    }
    let plain = ExportOptions::new(ExportFormat::IntQuantized);
    export(&dense, &plain, &path("export2")).unwrap();
    export(&base, &ExportOptions { adapter: Some(adapter), ..plain }, &path("export1")).unwrap();
    assert_eq!(tensors(&path("export1")), tensors(&path("export2")));
}

/// Packed folders stay packed, GGUF files become dense.
#[test]
fn quantized_models_take_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let base = path("base");
    write_random_checkpoint(&base, &shape(), WeightDtype::F32, 7, None, &mut go_on).unwrap();
    let adapter = adapter(path("a"), &[(Q, [64, 64]), (DOWN, [64, 128])]);
    let checkpoint = Checkpoint::open(&base).unwrap();
    let schemes = ["int8wo", "int4wo-g32"].map(|scheme| {
        let (packed, out) = (path(scheme), path(&format!("{scheme}_merged")));
        // One of the two stays dense.
        let policy: Policy = format!("{Q}={scheme},lm_head={scheme}").parse().unwrap();
        quantize(&checkpoint, &policy.into(), &packed).unwrap();
        let report = merged(&packed, &adapter, &out);
        let (before, after) = (tensors(&packed), tensors(&out));
        for (name, (dtype, bytes)) in &after {
            assert_eq!(*dtype, before[name].0, "{name}");
            let is_touched =
                name.starts_with(Q) && !name.ends_with("bias") || name.starts_with(DOWN);
            assert_eq!(*bytes != before[name].1, is_touched, "{scheme}: {name}");
        }
        let cost = report.requantized.unwrap();
        assert_eq!((report.merged, cost.matrices, &*cost.worst.0), (2, 1, Q));
        assert_eq!(cost.worst.1, cost.error_of_update);
        let beside = logits(&packed, Some(&adapter), &TOKENS);
        let rounding = apart(&logits(&out, None, &TOKENS), &beside);
        let change = apart(&logits(&packed, None, &TOKENS), &beside);
        println!("{scheme}: {rounding} by rounding, {change} by the adapter, {cost:?}");
        assert!(rounding < 0.2 * change, "{scheme}: {rounding}, {change}");
        cost.error_of_update
    });
    assert!(10.0 * schemes[0] < schemes[1] && schemes[1] < 1.0, "{schemes:?}");

    let exported = path("exported");
    let format = ExportFormat::PackQuantized { group_size: 32, asymmetric: false };
    export(&checkpoint, &ExportOptions::new(format), &exported).unwrap();
    becomes_dense(&exported, &adapter, folder.path());
    let gguf = path("blocks.gguf");
    // Its vocabulary has every byte.
    let config = GlmConfig { vocab_size: 384, ..shape() };
    write_random_gguf(&gguf, &config, GgmlType::Q8_0, 3, &mut go_on).unwrap();
    becomes_dense(&gguf, &adapter, folder.path());
}

fn becomes_dense(model: &Path, adapter: &Path, folder: &Path) {
    let beside = logits(model, Some(adapter), &TOKENS);
    let change = apart(&logits(model, None, &TOKENS), &beside);
    let checkpoint = Checkpoint::open(model).unwrap();
    // Beside blocks, activations are rounded to 16 bits; then the whole model is rounded to bf16.
    for (dtype, share) in [(None, 0.002), (Some(WeightDtype::Bf16), 0.1)] {
        let name = model.file_stem().unwrap().to_str().unwrap();
        let out = folder.join(format!("{name}_{dtype:?}"));
        let options = MergeOptions { dtype, ..MergeOptions::default() };
        let report = merge(&checkpoint, adapter, &options, &out).unwrap();
        assert_eq!((report.merged, report.requantized), (2, None));
        let rounding = apart(&logits(&out, None, &TOKENS), &beside);
        println!("{name} to {dtype:?}: {rounding}, {change} by the adapter");
        assert!(rounding < share * change, "{name}: {rounding}, {change}");
    }
}
