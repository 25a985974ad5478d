//! A folder as ChatGLM's own code has it, weights and vocabulary: it is the `glm` of the same weights, is
//! quantized and trained as such, and takes adapters under either's names.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lightglm::merge::{MergeOptions, merge};
use lightglm::quantize::{QuantizeOptions, quantize};
use lightglm::training::{LoraConfig, Method, TrainConfig, TrainingModel, perplexity};
use lightglm::{LoadOptions, Model, Policy, ProgressSink};
use lightglm_core::WeightDtype;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::weights::write_random_checkpoint;
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::json;

use crate::adapters_as_brought::write;
use crate::checkpoint_folder::rows;

fn config() -> GlmConfig {
    GlmConfig {
        model_type: ModelType::Glm,
        vocab_size: 384,
        hidden_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        intermediate_size: 128,
        eos_token_ids: vec![302, 309, 311],
        pad_token_id: Some(302),
        attention_bias: true,
        tie_word_embeddings: false,
        ..GlmConfig::tiny()
    }
}

/// The two folders of one model.
fn folders(folder: &Path) -> (PathBuf, PathBuf) {
    let (glm, chatglm) = (folder.join("glm"), folder.join("chatglm"));
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(&glm, &config(), WeightDtype::F32, 5, None, go_on).unwrap();
    fs::create_dir(&chatglm).unwrap();
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lightglm-text/tests/data/text");
    fs::copy(text.join("tokenizer.json"), glm.join("tokenizer.json")).unwrap();
    fs::copy(text.join("tokenizer.model"), chatglm.join("tokenizer.model")).unwrap();
    let GlmConfig { rope, rms_norm_eps, max_position_embeddings, .. } = config();
    let fields = json!({
        "model_type": "chatglm", "architectures": ["ChatGLMModel"], "add_qkv_bias": true,
        "ffn_hidden_size": 128, "hidden_size": 64, "kv_channels": 16, "num_layers": 2,
        "layernorm_epsilon": rms_norm_eps, "multi_query_attention": true,
        "multi_query_group_num": 2, "num_attention_heads": 4, "padded_vocab_size": 384,
        "rope_ratio": rope.rope_theta / 1e4, "seq_length": max_position_embeddings,
        "eos_token_id": [302, 309, 311], "pad_token_id": 302, "torch_dtype": "float32",
    });
    fs::write(chatglm.join("config.json"), fields.to_string()).unwrap();
    let tokenizer = json!({ "auto_map":
        { "AutoTokenizer": ["tokenization_chatglm.ChatGLM4Tokenizer", null] } });
    fs::write(chatglm.join("tokenizer_config.json"), tokenizer.to_string()).unwrap();

    let bytes = fs::read(glm.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut renamed = Vec::new();
    for (name, view) in tensors.tensors() {
        let (name, parts) = match name.split_once("q_proj") {
            _ if name.contains("k_proj") || name.contains("v_proj") => continue,
            None => (name, vec![view.clone()]),
            Some((layer, kind)) => {
                let part = |part: &str| tensors.tensor(&format!("{layer}{part}{kind}")).unwrap();
                let fused = format!("{layer}query_key_value{kind}");
                (fused, ["q_proj", "k_proj", "v_proj"].map(part).to_vec())
            }
        };
        let mut shape = view.shape().to_vec();
        shape[0] = parts.iter().map(|part| part.shape()[0]).sum();
        let data: Vec<u8> = parts.iter().flat_map(|part| part.data().to_vec()).collect();
        let name = [
            ("model.embed_tokens", "transformer.embedding.word_embeddings"),
            ("model.norm", "transformer.encoder.final_layernorm"),
            ("lm_head", "transformer.output_layer"),
            ("model.layers", "transformer.encoder.layers"),
            ("self_attn.o_proj", "self_attention.dense"),
            ("self_attn", "self_attention"),
            ("mlp.gate_up_proj", "mlp.dense_h_to_4h"),
            ("mlp.down_proj", "mlp.dense_4h_to_h"),
        ]
        .into_iter()
        .fold(name, |name, (ours, theirs)| name.replace(ours, theirs));
        renamed.push((name, shape, data));
    }
    let views = renamed.iter().map(|(name, shape, data)| {
        (name, TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, &chatglm.join("model.safetensors")).unwrap();
    (glm, chatglm)
}

fn open(folder: &Path) -> Model {
    Model::open(folder, LoadOptions::default()).unwrap()
}

fn score(model: &Model) -> f64 {
    model.score("Where is my parcel? 包裹", &[" is here"]).unwrap()[0]
}

#[test]
fn it_is_the_glm_of_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (glm, chatglm) = folders(folder.path());
    let (ours, theirs) = (open(&glm), open(&chatglm));
    assert_eq!(score(&ours), score(&theirs));
    assert_eq!(ours.config(), theirs.config());

    // What is made of it is a folder of its own, without the code that it came with.
    let packed = folder.path().join("packed");
    let policy = "int8".parse::<Policy>().unwrap();
    let checkpoint = Checkpoint::open(&chatglm).unwrap();
    quantize(&checkpoint, &QuantizeOptions::from(policy.clone()), &packed).unwrap();
    let twin = folder.path().join("twin");
    quantize(&Checkpoint::open(&glm).unwrap(), &QuantizeOptions::from(policy), &twin).unwrap();
    assert_eq!(score(&open(&packed)), score(&open(&twin)));
    let said = fs::read_to_string(packed.join("tokenizer_config.json")).unwrap();
    assert!(!said.contains("auto_map") && packed.join("tokenizer.json").exists(), "{said}");
}

#[test]
fn it_learns_adapters_and_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (glm, chatglm) = folders(folder.path());
    let adapters = folder.path().join("adapters");
    let method = Method::Lora(LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() });
    let mut student = TrainingModel::open(&chatglm, method).unwrap();
    let rows = student.tokenize(&rows(folder.path())).unwrap();
    let config =
        TrainConfig { epochs: 2, batch_size: 4, learning_rate: 1e-2, ..student.recommended() };
    student.train(&rows, &config, |_| ControlFlow::Continue(())).unwrap();
    student.save_adapter(adapters.join("learnt")).unwrap();
    let fused = "base_model.model.transformer.encoder.layers.0.self_attention.query_key_value";
    write(&adapters, "fused", json!({}), &[(fused, [128, 64], 4)]);

    let on = |base: &Path, name: &str| {
        let adapters = Some(adapters.clone());
        let model = Model::open(base, LoadOptions { adapters, ..LoadOptions::default() }).unwrap();
        let plain = score(&model);
        let model = model.with_adapter(name).unwrap();
        assert_ne!(score(&model), plain, "{name}");
        model
    };
    for name in ["learnt", "fused"] {
        assert_eq!(score(&on(&chatglm, name)), score(&on(&glm, name)), "{name}");
    }
    let loss = |model: &Model| perplexity(model, &rows, &ProgressSink::default()).unwrap();
    let (trained, again) = (loss(&student.model().unwrap()), loss(&on(&chatglm, "learnt")));
    assert!((again / trained - 1.0).abs() < 1e-3, "{again} {trained}");
    assert!(trained < 0.9 * loss(&open(&chatglm)), "{trained}");

    // Merged into either folder it is the same, and not nothing.
    let into = |base: &Path, name: &str| {
        let to = folder.path().join(name);
        let adapter = adapters.join("fused");
        let base = Checkpoint::open(base).unwrap();
        let report = merge(&base, &adapter, &MergeOptions::default(), &to).unwrap();
        (report.merged, score(&open(&to)))
    };
    let (ours, theirs) = (into(&glm, "ours"), into(&chatglm, "theirs"));
    assert_eq!(ours, theirs);
    assert_eq!(ours.0, 3);
    assert!((ours.1 - score(&on(&glm, "fused"))).abs() < 1e-2, "{}", ours.1);
    assert_ne!(ours.1, score(&open(&glm)));

    student.save(folder.path().join("merged")).unwrap();
    let merged = loss(&open(&folder.path().join("merged")));
    assert!((merged / trained - 1.0).abs() < 1e-3, "{merged} {trained}");
}
