//! The model before it has learnt anything.

use std::collections::HashMap;
use std::f32::consts::FRAC_1_SQRT_2;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lightglm::{WeightDtype, write_whole};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;
use lightglm_tiny::corpus::Random;
use serde_json::json;

use super::tensors;
use super::tokenizer::{self, ENDS, SPECIAL};
use super::vocabulary::{Vocabulary, spelling};

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

/// The deviation of the embeddings instead of 0.02.
const EMBEDDINGS: f32 = 0.1;

/// What a block adds to the residual stream, at first. With 1, as the norms behind attention and neurons begin, a token's own
/// embedding is lost among what the blocks add, and copying is learnt late.
const ADDED: f32 = 0.05;

/// Parts of what a token spells, with weights: the whole of it, and pieces of three to five letters, or, where it has others than
/// ASCII's, each of them. Each adds a direction of its own to the token's first embedding: tokens that spell
/// the same but for a space or capitals begin alike, those with letters in common a little. What a question asks for is
/// then found although it is written in another form.
///
/// Source: Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2.
fn spelled(text: &str) -> Vec<(String, f32)> {
    let Some(word) = spelling(text) else { return Vec::new() };
    let letters: Vec<char> = word.chars().collect();
    let is_latin = word.is_ascii();
    let marked: Vec<char> = match is_latin {
        true => ['<'].into_iter().chain(letters.iter().copied()).collect(),
        false => letters.clone(),
    };
    let lengths = if is_latin { 3..=5 } else { 1..=1 };
    let pieces: Vec<String> = lengths
        .flat_map(|length| marked.windows(length).map(|piece| piece.iter().collect()))
        .collect();
    let share = 1.0 / (pieces.len().max(1) as f32).sqrt();
    let mut parts: Vec<(String, f32)> = pieces.into_iter().map(|piece| (piece, share)).collect();
    parts.push((format!("{word}>"), 1.0));
    parts
}

/// The deviation of the weights that are drawn.
const DRAWN: f32 = 0.02;

/// Adds to the embeddings, drawn with a deviation of [`DRAWN`], what their tokens have in common: `[V, D]`, `width` is D.
fn add_spelling(values: &mut [f32], width: usize, vocabulary: &Vocabulary, random: &mut Random) {
    let mut directions: HashMap<String, Vec<f32>> = HashMap::new();
    for (token, row) in values.chunks_exact_mut(width).enumerate() {
        let mut common = vec![0.0_f32; width];
        for (part, weight) in spelled(vocabulary.text(token as u32)) {
            let direction = directions.entry(part).or_insert_with(|| {
                (0..width).map(|_| if random.chance(0.5) { 1.0 } else { -1.0 }).collect()
            });
            for (value, one) in common.iter_mut().zip(direction) {
                *value += weight * *one;
            }
        }
        let norm = common.iter().map(|value| value * value).sum::<f32>();
        if norm > 0.0 {
            let scale = DRAWN * (width as f32 / norm).sqrt();
            for (value, common) in row.iter_mut().zip(common) {
                *value = (*value + scale * common) * FRAC_1_SQRT_2;
            }
        }
    }
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
    write_weights(&part, &config, seed)?;
    Ok(fs::rename(&part, folder)?)
}

/// The same with another number of blocks and other weights.
///
/// # Errors
/// Where `like` cannot be read or `folder` cannot be written.
pub fn write_like(like: &Path, folder: &Path, blocks: usize, seed: u64) -> Result<()> {
    let config = Checkpoint::open(like)?.config().clone();
    let part = folder.with_extension("part");
    fs::create_dir_all(&part)?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(like.join(name), part.join(name)).with_context(|| name.to_owned())?;
    }
    write_weights(&part, &GlmConfig { num_hidden_layers: blocks, ..config }, seed)?;
    Ok(fs::rename(&part, folder)?)
}

/// Configuration and weights, beside the tokenizer that is there.
fn write_weights(folder: &Path, config: &GlmConfig, seed: u64) -> Result<()> {
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(folder, config, WeightDtype::F32, seed, None, go_on)?;
    let file = folder.join("model.safetensors");
    let mut drawn = tensors::read(&file)?;
    let embeddings = tensors::values(&mut drawn, "model.embed_tokens.weight")?;
    let vocabulary = Vocabulary::open(folder)?;
    add_spelling(embeddings, config.hidden_size, &vocabulary, &mut Random::new(seed));
    for (name, (_, values)) in &mut drawn {
        let added =
            name.contains("post_self_attn_layernorm") || name.contains("post_mlp_layernorm");
        let factor = match name.contains("embed_tokens") {
            true => EMBEDDINGS / DRAWN,
            false if added => ADDED,
            false => 1.0,
        };
        values.iter_mut().for_each(|value| *value *= factor);
    }
    tensors::write(&file, &drawn)?;
    // Answers are copied: sampled ones are worse.
    let generation = json!({"do_sample": false, "eos_token_id": config.eos_token_ids});
    write_whole(&folder.join("generation_config.json"), format!("{generation:#}\n"))?;
    Ok(())
}
