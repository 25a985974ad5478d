//! The model before it has learnt anything.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Result, ensure};
use lightglm::{WeightDtype, write_whole};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde_json::json;

use super::tokenizer::{self, ENDS, SPECIAL};

/// The model's shape.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ShapeArgs {
    /// Tokens of the vocabulary.
    #[arg(long, default_value_t = 8192)]
    pub vocab_size: usize,
    /// Width of the residual stream.
    #[arg(long, default_value_t = 256)]
    pub hidden_size: usize,
    /// Blocks.
    #[arg(long, default_value_t = 6)]
    pub layers: usize,
    /// Attention heads, of 32 channels each.
    #[arg(long, default_value_t = 8)]
    pub heads: usize,
    /// Heads of keys and values.
    #[arg(long, default_value_t = 4)]
    pub kv_heads: usize,
    /// Neurons of a block.
    #[arg(long, default_value_t = 640)]
    pub intermediate_size: usize,
}

impl ShapeArgs {
    /// The configuration, GLM-4's with tied embeddings.
    ///
    /// # Errors
    /// Where the numbers do not fit one another.
    pub fn config(&self) -> Result<GlmConfig> {
        let fewest = 256 + SPECIAL.len();
        ensure!(self.vocab_size >= fewest, "--vocab-size {}: at least {fewest}", self.vocab_size);
        let ends = ENDS.map(|i| self.vocab_size - SPECIAL.len() + i);
        let json = json!({
            "model_type": "glm4", "architectures": ["Glm4ForCausalLM"],
            "hidden_size": self.hidden_size, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": 32, "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size, "max_position_embeddings": 2048,
            "attention_bias": false, "tie_word_embeddings": true, "rms_norm_eps": 1e-5,
            "partial_rotary_factor": 0.5, "rope_theta": 10000.0, "hidden_act": "silu",
            "eos_token_id": ends, "pad_token_id": ends[0],
        });
        Ok(GlmConfig::from_json(json.to_string())?)
    }
}

/// Embeddings of a deviation of 0.1 instead of 0.02.
const EMBEDDINGS: f32 = 5.0;

/// What a block adds to the residual stream, at first. With 1, as the norms behind attention and neurons begin, a token's own
/// embedding is lost among what the blocks add, and copying is learnt late.
const ADDED: f32 = 0.05;

/// The weights with which learning begins, of those that are drawn.
fn scaled(weights: &[u8]) -> Result<Vec<u8>> {
    let drawn = SafeTensors::deserialize(weights)?;
    let mut bytes: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in drawn.tensors() {
        let added =
            name.contains("post_self_attn_layernorm") || name.contains("post_mlp_layernorm");
        let factor = match name.contains("embed_tokens") {
            true => EMBEDDINGS,
            false if added => ADDED,
            false => 1.0,
        };
        let values = tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
        let scaled = values.flat_map(|value| (factor * value).to_le_bytes()).collect();
        bytes.push((name, tensor.shape().to_vec(), scaled));
    }
    let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes);
    let views: Result<Vec<_>, _> =
        bytes.iter().map(|(name, shape, bytes)| Ok((name, view(shape, bytes)?))).collect();
    Ok(safetensors::serialize(views.map_err(|error: SafeTensorError| error)?, None)?)
}

/// Writes tokenizer and random weights to `folder`, the whole of it or nothing.
///
/// # Errors
/// Where it cannot be written, or the shape is impossible.
pub fn write(folder: &Path, shape: &ShapeArgs, texts: &[String], seed: u64) -> Result<()> {
    let config = shape.config()?;
    let part = folder.with_extension("part");
    fs::create_dir_all(&part)?;
    tokenizer::train(texts, shape.vocab_size, &part)?;
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(&part, &config, WeightDtype::F32, seed, None, go_on)?;
    let weights = part.join("model.safetensors");
    let scaled = scaled(&fs::read(&weights)?)?;
    write_whole(&weights, scaled)?;
    // Answers are copied: sampled ones are worse.
    let generation = json!({"do_sample": false, "eos_token_id": config.eos_token_ids});
    write_whole(&part.join("generation_config.json"), format!("{generation:#}\n"))?;
    fs::rename(&part, folder)?;
    Ok(())
}
