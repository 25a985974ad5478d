//! The model's folder: configuration, text side, weights, in the layout of GLM-ASR.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use lightglm_core::{SafetensorsWriter, TensorSpec, TensorView, WeightDtype, WeightSource};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{AudioConfig, GlmConfig, MediaConfig};
use lightglm_model::weights::{SeededWeights, llama_tensors};
use serde_json::{Value, json};

/// Writes what the model is asked, and a place for the recording.
const TEMPLATE: &str = "[gMASK]<sop>{%- for m in messages -%}<|{{ m.role }}|>\n\
    {%- if m.content is string -%}{{ m.content }}{%- else -%}{%- for item in m.content -%}\
    {%- if item.type == 'audio' -%}<|begin_of_audio|><|video|><|end_of_audio|>\
    {%- else -%}{{ item.text }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt -%}<|assistant|>\n{%- endif -%}";

/// Width of the encoder and of the decoder.
const WIDTH: usize = 64;

/// Where each of the files' tokens stands in the vocabulary of the small model that is compiled in.
fn id_of(tokenizer: &Value, token: &str) -> Result<u64> {
    let added = tokenizer["added_tokens"].as_array().context("added_tokens")?;
    let found = added.iter().find(|added| added["content"] == token);
    found.and_then(|added| added["id"].as_u64()).with_context(|| format!("no token {token}"))
}

/// Starts a model in `folder`: everything but what is learnt, which is random.
///
/// # Errors
/// Where the folder cannot be written.
pub fn start(folder: &Path, seed: u64) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut tokenizer = Value::Null;
    for (name, bytes) in lightglm_tiny::FILES {
        if name.starts_with("tokenizer") {
            fs::write(folder.join(name), bytes)?;
        }
        if name == "tokenizer.json" {
            tokenizer = serde_json::from_slice(bytes)?;
        }
    }
    let last = |values: &Value| {
        values.as_object().into_iter().flatten().filter_map(|(_, id)| id.as_u64()).max()
    };
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter_map(|added| added["id"].as_u64()).max();
    let vocab_size = last(&tokenizer["model"]["vocab"]).max(added).context("no vocabulary")? + 1;
    let eos = [id_of(&tokenizer, "<|endoftext|>")?, id_of(&tokenizer, "<|user|>")?];
    let config = json!({
        "architectures": ["GlmAsrForConditionalGeneration"],
        "model_type": "glmasr",
        "dtype": "float32",
        "audio_token_id": id_of(&tokenizer, "<|video|>")?,
        "tie_word_embeddings": true,
        "audio_config": {
            "model_type": "glmasr_encoder", "hidden_act": "gelu", "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_mel_bins": 40, "max_position_embeddings": 50,
            "rope_parameters": {"rope_theta": 10_000.0, "partial_rotary_factor": 0.5, "rope_type": "default"},
        },
        "text_config": {
            "model_type": "llama", "hidden_act": "silu", "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "vocab_size": vocab_size, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "attention_bias": false,
            "eos_token_id": eos, "pad_token_id": eos[0], "tie_word_embeddings": true,
            "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"},
        },
    });
    fs::write(folder.join("config.json"), format!("{config:#}\n"))?;
    let preprocessor = json!({"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 1, "feature_size": 40});
    fs::write(folder.join("preprocessor_config.json"), format!("{preprocessor:#}\n"))?;
    fs::write(folder.join("chat_template.jinja"), TEMPLATE)?;
    let (text, audio) = configs(folder)?;
    let encoder = SeededWeights::of_shapes(audio.tensor_shapes(), WeightDtype::F32, seed);
    let encoder =
        encoder.names().into_iter().map(|name| Ok((name.clone(), encoder.tensor(&name)?)));
    let decoder = SeededWeights::new(text, WeightDtype::F32, seed);
    write(folder, encoder.collect::<Result<_>>()?, &decoder)
}

/// The configurations in a folder.
///
/// # Errors
/// Where they are none of a model that hears.
pub fn configs(folder: &Path) -> Result<(GlmConfig, AudioConfig)> {
    let file = folder.join("config.json");
    match MediaConfig::from_file(&file)? {
        Some(MediaConfig::Audio(audio)) => Ok((GlmConfig::from_file(&file)?, audio)),
        _ => anyhow::bail!("{}: not a model that hears", file.display()),
    }
}

/// Writes the weights: those of the encoder, and the decoder's under its names alone.
///
/// # Errors
/// Where the file cannot be written; what was there stays then.
pub fn write(
    folder: &Path,
    encoder: Vec<(String, TensorView)>,
    decoder: &dyn WeightSource,
) -> Result<()> {
    let (text, _) = configs(folder)?;
    let decoder = llama_tensors(decoder, text.head_dim)?.into_iter();
    let decoder = decoder.map(|(name, view)| (format!("language_model.{name}"), view));
    let tensors: BTreeMap<String, TensorView> = encoder.into_iter().chain(decoder).collect();
    let specs = tensors.iter().map(|(name, view)| TensorSpec {
        name: name.clone(),
        dtype: view.dtype.into(),
        shape: view.shape.clone(),
    });
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = folder.join("model.safetensors");
    let mut writer = SafetensorsWriter::create(&file, specs, &metadata)?;
    for spec in writer.order().to_vec() {
        writer.write(&tensors[&spec.name].bytes)?;
    }
    Ok(writer.finish()?)
}

/// Opens what [`start`] and [`write()`] have written.
///
/// # Errors
/// Where it is no checkpoint.
pub fn open(folder: &Path) -> Result<Checkpoint> {
    Ok(Checkpoint::open(folder)?)
}
