//! Adapters as people bring them: used, so that answers change, or refused by what they are.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lightglm::{Error, LoadOptions, Model};
use lightglm_core::{SafetensorsWriter, StoredDtype, TensorSpec, WeightDtype};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;
use serde_json::{Value, json};

/// What becomes of an adapter.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Used,
    /// The message names it so.
    Refused(&'static str),
}
use Outcome::{Refused, Used};

/// `shared/cases/adapters`.
const BROUGHT: [(&str, Outcome); 32] = [
    ("32b_adapter", Refused("where the projection [64, 64] has [4, 64]")),
    ("adalora", Refused("`peft_type` is ADALORA")),
    ("all_linear", Used),
    ("bias_all", Refused("`bias` is all")),
    ("bin_only", Refused("adapter_model.bin: ")),
    ("dora", Refused("`use_dora` is true")),
    ("double_prefix", Used),
    ("embeddings_saved", Used),
    ("ensure_tying", Used),
    ("extra_metadata_fp8", Used),
    ("float_alpha_old", Used),
    ("head_only", Used),
    ("ia3", Refused("`peft_type` is IA3")),
    ("layers_to_transform", Used),
    ("loftq", Refused("`init_lora_weights` is \"loftq\"")),
    ("lokr", Refused("`peft_type` is LOKR")),
    ("lora_embed", Used),
    ("lora_lm_head", Used),
    ("modules_to_save_head", Used),
    (
        "modules_to_save_named_only",
        Refused(
            "`modules_to_save` names `lm_head`, and adapter_model.safetensors has no weight of it",
        ),
    ),
    ("no_prefix", Used),
    ("orig_mod", Used),
    ("pissa", Refused("`init_lora_weights` is \"pissa\"")),
    ("pissa_niter", Refused("`init_lora_weights` is \"pissa_niter_16\"")),
    ("plain", Used),
    ("prompt", Refused("`peft_type` is PROMPT_TUNING")),
    ("r0_alpha_neg", Refused("`alpha` must be a positive number")),
    ("rank_pattern", Used),
    ("regex_target", Used),
    ("rslora", Used),
    ("trainable_tokens", Refused("`trainable_token_indices` is [302")),
    ("not_there", Refused("adapter_config.json")),
];

fn base(folder: &Path) -> PathBuf {
    let config = GlmConfig {
        vocab_size: 384,
        hidden_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        intermediate_size: 128,
        eos_token_ids: vec![302],
        pad_token_id: None,
        tie_word_embeddings: false,
        ..GlmConfig::tiny()
    };
    let model = folder.join("base");
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(&model, &config, WeightDtype::F32, 5, None, go_on).unwrap();
    let text = "../lightglm-text/tests/data/text/tokenizer.json";
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join(text);
    fs::copy(tokenizer, model.join("tokenizer.json")).unwrap();
    model
}

fn open(model: &Path, adapters: &Path) -> Model {
    let adapters = Some(adapters.to_owned());
    Model::open(model, LoadOptions { adapters, ..LoadOptions::default() }).unwrap()
}

fn score(model: &Model) -> f64 {
    model.score("The parcel", &[" is here"]).unwrap()[0]
}

#[test]
fn what_is_brought_is_used_or_refused_by_name() {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let adapters = shared.unwrap_or(beside).join("cases/adapters");
    if !adapters.is_dir() {
        println!("skipped: {} is not there", adapters.display());
        return;
    }
    for adapter in std::fs::read_dir(&adapters).unwrap() {
        let name = adapter.unwrap().file_name();
        assert!(
            BROUGHT.iter().any(|(brought, _)| name == *brought),
            "{name:?} is not in the table"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let model = open(&base(folder.path()), &adapters);
    let without = score(&model);
    for (name, outcome) in BROUGHT {
        match (model.with_adapter(name), outcome) {
            // The head's adapter in this case is zero, those beside it are not.
            (Ok(adapted), Used) => assert_ne!(score(&adapted), without, "{name}"),
            (Err(error), Refused(reason)) => {
                let error = error.to_string();
                assert!(error.contains(reason), "{name}: {error}");
            }
            (result, _) => panic!("{name}: {:?} where it is {outcome:?}", result.map(|_| "used")),
        }
    }
}

/// Writes an adapter of rank 4 (`ranks` for others) with the modules of shapes `[N, K]`.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    fields: Value,
    modules: &[(&str, [usize; 2], usize)],
) {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": []});
    let fields = fields.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(fields);
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let spec = |name: String, shape: [usize; 2]| TensorSpec {
        name,
        dtype: StoredDtype::F32,
        shape: shape.to_vec(),
    };
    let specs = modules.iter().flat_map(|&(module, [n, k], rank)| {
        let half = |half: &str| match module.split_once('#') {
            Some((module, adapter)) => format!("{module}.lora_{half}.{adapter}.weight"),
            None => format!("{module}.lora_{half}.weight"),
        };
        [spec(half("A"), [rank, k]), spec(half("B"), [n, rank])]
    });
    let specs: Vec<TensorSpec> = specs.collect();
    let file = folder.join("adapter_model.safetensors");
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new()).unwrap();
    for spec in writer.order().to_vec() {
        let len = spec.shape.iter().product::<usize>();
        let value = |i: usize| ((i * 7 + spec.name.len() * 3) % 11) as f32 * 0.05 - 0.2;
        let bytes: Vec<u8> = (0..len).flat_map(|i| value(i).to_le_bytes()).collect();
        writer.write(&bytes).unwrap();
    }
    writer.finish().unwrap();
}

const Q: &str = "base_model.model.model.layers.1.self_attn.q_proj";
const V: &str = "base_model.model.model.layers.1.self_attn.v_proj";

/// Each field that changes the arithmetic: taken away, answers differ.
#[test]
fn patterns_and_scales_count() {
    let folder = tempfile::tempdir().unwrap();
    let adapters = folder.path().join("adapters");
    let both = [(Q, [64, 64], 4), (V, [32, 64], 4)];
    let wider = [(Q, [64, 64], 4), (V, [32, 64], 6)];
    write(&adapters, "plain", json!({}), &both);
    write(&adapters, "alpha", json!({"lora_alpha": 20}), &both);
    write(&adapters, "alpha_pattern", json!({"alpha_pattern": {"v_proj": 32}}), &both);
    write(&adapters, "full_name", json!({"alpha_pattern": {r"model.*\.1\..*v_proj": 2}}), &both);
    write(&adapters, "rslora", json!({"use_rslora": true}), &both);
    write(&adapters, "rank_pattern", json!({"rank_pattern": {"v_proj": 6}}), &wider);
    // The first one that matches counts, not the first one of the alphabet.
    let two: Value =
        serde_json::from_str(r#"{"alpha_pattern": {"v_proj": 32, ".*proj": 2}}"#).unwrap();
    write(&adapters, "two", two, &[(V, [32, 64], 4)]);
    write(&adapters, "one", json!({"alpha_pattern": {"v_proj": 32}}), &[(V, [32, 64], 4)]);
    write(&adapters, "no_rank", json!({"rank_pattern": {"v_proj": "6"}}), &both);
    write(&adapters, "unused", json!({"alpha_pattern": {"o_proj": 32}}), &both);
    write(&adapters, "no_pattern", json!({}), &wider);
    let model = open(&base(folder.path()), &adapters);
    let with = |name: &str| model.with_adapter(name).map(|model| score(&model));
    let plain = with("plain").unwrap();
    assert_eq!(with("unused").unwrap(), plain, "a pattern of what the file does not have");
    assert_eq!(with("two").unwrap(), with("one").unwrap());
    let error = with("no_rank").unwrap_err().to_string();
    assert!(error.contains("`rank_pattern` is \"6\""), "{error}");
    let others = ["alpha", "alpha_pattern", "full_name", "rslora", "rank_pattern"];
    let mut scores: Vec<f64> = others.iter().map(|name| with(name).unwrap()).collect();
    scores.extend([plain, score(&model)]);
    for (i, a) in scores.iter().enumerate() {
        assert!(scores[i + 1..].iter().all(|b| a != b), "{others:?}: {scores:?}");
    }
    let error = with("no_pattern").unwrap_err().to_string();
    assert!(error.contains("rank 6, the configuration has 4"), "{error}");
}

/// Halves of the fused projection are one half each, a fused projection is its parts, and names of adapters
/// are passed over.
#[test]
fn other_layouts_find_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let adapters = folder.path().join("adapters");
    let half = |name: &str| format!("base_model.model.model.layers.0.mlp.{name}_proj");
    let (gate, up) = (half("gate"), half("up"));
    let fused = "base_model.model.transformer.encoder.layers.0.self_attention.query_key_value";
    write(&adapters, "gate", json!({}), &[(&gate, [128, 64], 4)]);
    write(&adapters, "up", json!({}), &[(&up, [128, 64], 4)]);
    write(&adapters, "both", json!({}), &[(&gate, [128, 64], 4), (&up, [128, 64], 4)]);
    write(&adapters, "fused", json!({}), &[(fused, [128, 64], 4)]);
    write(&adapters, "named", json!({}), &[(&format!("{Q}#default"), [64, 64], 4)]);
    write(&adapters, "twice", json!({}), &[(Q, [64, 64], 4), (&format!("{Q}#b"), [64, 64], 4)]);
    let embedding = "base_model.model.model.embed_tokens";
    write(&adapters, "table", json!({}), &[(embedding, [384, 64], 4)]);
    write(&adapters, "too_deep", json!({}), &[(&Q.replace("layers.1", "layers.7"), [64, 64], 4)]);
    let model = open(&base(folder.path()), &adapters);
    let with = |name: &str| model.with_adapter(name).map(|model| score(&model));
    let used = ["gate", "up", "both", "fused", "named"].map(|name| with(name).unwrap());
    for (i, a) in used.iter().enumerate() {
        assert!(*a != score(&model) && used[i + 1..].iter().all(|b| a != b), "{used:?}");
    }
    let refused: [(&str, &str); 3] = [
        ("twice", "one file holds one adapter"),
        ("table", "`base_model.model.model.embed_tokens.lora_A.weight`: the model has no such"),
        ("too_deep", "the model has no such projection"),
    ];
    for (name, reason) in refused {
        match with(name) {
            Err(error @ Error::Peft(_)) => assert!(error.to_string().contains(reason), "{error}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
