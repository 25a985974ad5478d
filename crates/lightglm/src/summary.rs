//! `Summary`: what is in a checkpoint, from its headers alone.

use std::collections::BTreeMap;

use lightglm_core::WeightSource;
use lightglm_model::checkpoint::{Checkpoint, Stored};
use lightglm_model::weights::check_tensors;
use lightglm_quant::formats::ImportedCheckpoint;
use lightglm_quant::{Footprint, QuantizedCheckpoint, Scheme};
use serde::Serialize;

use crate::error::Error;
use crate::model::{Weights, imported, imported_scheme, matrices, weight_bytes};

/// What is in a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Folder or file.
    pub path: String,
    /// What would keep the model from running: weights that are not read or not complete, a tokenizer that
    /// is missing or knows more tokens than the model.
    pub problems: Vec<String>,
    /// `glm4` or `glm`.
    pub model_type: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Of these, what a decoded token reads: all but the rows of the embedding table.
    pub parameters_read_per_token: u64,
    /// Tensors and elements by the type that they are stored in.
    pub stored: BTreeMap<String, Stored>,
    /// What a quantized checkpoint, ours or another program's, says of its matrices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantized: Option<QuantizedSummary>,
    /// Bytes of keys and values in 16 bits, of one token.
    pub kv_bytes_per_token_16_bit: u64,
    /// Longest sequence that the model was made for, in tokens, stretched as `rope_scaling` says.
    pub context_length: usize,
    /// `max_position_embeddings` as the file names it.
    pub max_position_embeddings: usize,
    /// How positions are stretched, as config.json spells it: `default`, `linear`, `yarn`, `llama3`; and
    /// how far.
    pub rope_scaling: String,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// The tokens that end a reply.
    pub eos_token_ids: Vec<u32>,
    /// Keys of generation_config.json that would change what is generated and are not used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unused_generation_keys: Vec<String>,
}

/// What a quantized checkpoint says of its matrices.
#[derive(Clone, Debug, Serialize)]
pub struct QuantizedSummary {
    /// The policy that it was quantized by; of another program's, the scheme of the first layer.
    pub policy: String,
    /// Bytes of codes, scales and minimums, as they are held.
    pub weight_bytes: u64,
    /// Bits a weight, scales included.
    pub bits_per_weight: f64,
    /// Matrices of each scheme, spelled out.
    pub schemes: BTreeMap<String, usize>,
}

impl Summary {
    /// Of `checkpoint`. No weight is read.
    ///
    /// # Errors
    /// Where its files are malformed.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let config = checkpoint.config();
        let problems = problems(checkpoint);
        let eos_token_ids = match checkpoint.eos_token_ids() {
            Err(_) if !problems.is_empty() => Vec::new(),
            ids => ids?,
        };
        let quantized = match quantized(checkpoint) {
            Err(_) if !problems.is_empty() => None,
            found => found?,
        };
        Ok(Self {
            path: checkpoint.path().display().to_string(),
            model_type: config.model_type.name().to_owned(),
            parameters: config.num_parameters(),
            parameters_read_per_token: config.parameters_read_per_token(),
            stored: checkpoint.stored_dtypes()?,
            quantized,
            kv_bytes_per_token_16_bit: config.kv_bytes_per_token(2),
            context_length: config.context_length(),
            max_position_embeddings: config.max_position_embeddings,
            rope_scaling: config.rope.scaling.to_string(),
            vocab_size: config.vocab_size,
            eos_token_ids,
            unused_generation_keys: match checkpoint.generation_config() {
                Err(_) if !problems.is_empty() => Vec::new(),
                config => config?.unused,
            },
            problems,
        })
    }

    /// Bytes of all parameters at so many bits each.
    pub fn weight_bytes(&self, bits: f64) -> u64 {
        (self.parameters as f64 * bits / 8.0) as u64
    }

    /// Tokens of 16-bit keys and values, of all sequences together, that fit into `memory` bytes beside
    /// weights of `bits` bits each; `None` where the weights alone do not fit.
    pub fn context_tokens(&self, bits: f64, memory: u64) -> Option<u64> {
        let rest = memory.checked_sub(self.weight_bytes(bits));
        rest.map(|rest| rest / self.kv_bytes_per_token_16_bit.max(1))
    }
}

/// What would keep `checkpoint` from running, as far as headers and text files tell.
fn problems(checkpoint: &Checkpoint) -> Vec<String> {
    let (config, file) = (checkpoint.config(), checkpoint.path());
    let mut problems = Vec::new();
    match imported(checkpoint) {
        Err(error) => problems.push(error.to_string()),
        // Ours says itself whether it is complete.
        Ok(None) if QuantizedCheckpoint::is_one(checkpoint.weights()) => {}
        Ok(layers) => {
            let weights: &dyn WeightSource = match &layers {
                Some(layers) => layers,
                None => checkpoint.weights(),
            };
            problems.extend(check_tensors(weights, config, file).err().map(|e| e.to_string()));
        }
    }
    match checkpoint.tokenizer() {
        Err(error) => problems.push(error.to_string()),
        Ok(tokenizer) if tokenizer.vocab_size() > config.vocab_size => problems.push(format!(
            "the tokenizer has {} tokens, the model's table {}: those past it cannot be read",
            tokenizer.vocab_size(),
            config.vocab_size
        )),
        Ok(_) => {}
    }
    problems.extend(checkpoint.generation_config().err().map(|error| error.to_string()));
    problems
}

/// `None` for a dense checkpoint.
fn quantized(checkpoint: &Checkpoint) -> Result<Option<QuantizedSummary>, Error> {
    let source = checkpoint.weights();
    if !QuantizedCheckpoint::is_one(source) {
        // Why one could not be read is among the problems.
        let Ok(Some(layers)) = imported(checkpoint) else { return Ok(None) };
        return Ok(Some(of_imported(checkpoint, &*layers)?));
    }
    let packed = QuantizedCheckpoint::open(source, checkpoint.path())?;
    let size = packed.footprint()?;
    let mut schemes = BTreeMap::new();
    for (_, entry) in packed.index().matrices() {
        *schemes.entry(entry.scheme.spelled_out()).or_insert(0) += 1;
    }
    Ok(Some(QuantizedSummary {
        policy: packed.index().policy().to_owned(),
        weight_bytes: size.bytes,
        bits_per_weight: size.bits_per_weight(),
        schemes,
    }))
}

fn of_imported(
    checkpoint: &Checkpoint,
    layers: &dyn ImportedCheckpoint,
) -> Result<QuantizedSummary, Error> {
    let bytes = weight_bytes(checkpoint, &Weights::Stored)?;
    let (mut size, mut schemes) = (Footprint { weights: 0, bytes }, BTreeMap::new());
    for (name, [n, k]) in matrices(checkpoint.config()) {
        let scheme = match layers.is_quantized(&name) {
            true => Scheme::Quantized(layers.scheme(&name)?),
            false => Scheme::Dense,
        };
        *schemes.entry(scheme.spelled_out()).or_insert(0) += 1;
        size.weights += (n * k) as u64;
    }
    Ok(QuantizedSummary {
        policy: imported_scheme(layers, checkpoint.path())?,
        weight_bytes: size.bytes,
        bits_per_weight: size.bits_per_weight(),
        schemes,
    })
}
