//! The encoder's tensors as this crate asks for them.

use std::collections::BTreeMap;
use std::path::Path;

use lightglm_core::WeightSource;
use lightglm_model::config::AudioConfig;
use lightglm_model::weights::{HeadOrder, RearrangedWeights, Recipe};

/// What stands in front of the encoder's names in a checkpoint.
pub(crate) const TOWER: &str = "audio_tower";
/// And of the projector's.
pub(crate) const PROJECTOR: &str = "multi_modal_projector";

/// Frames of a convolution's kernel.
pub(crate) const KERNEL: usize = 3;

/// The tensors of an encoder of `config`, of a checkpoint that errors call `file`, under the names and in the layout of
/// [`SpeechTower`](crate::SpeechTower): convolutions are matrices, q's and k's rows lie so that neighbours are rotated. The
/// file's names may have `model.` in front.
pub fn speech_weights<S: WeightSource>(
    config: &AudioConfig,
    source: S,
    file: &Path,
) -> RearrangedWeights<S> {
    let probe = format!("model.{TOWER}.conv1.weight");
    let prefix = if source.shape(&probe).is_some() { "model." } else { "" };
    let head_dim = config.head_dim();
    let order = |heads| HeadOrder { heads, head_dim, rotary_dim: config.rotary_dim() };
    let mut recipes = BTreeMap::new();
    for (name, shape) in config.tensor_shapes() {
        // A convolution's kernel is a row.
        let shape = match shape[..] {
            [rows, _, ..] => vec![rows, shape[1..].iter().product()],
            _ => shape,
        };
        let order = match name.rsplit('.').nth(1) {
            Some("q_proj") => Some(order(config.num_attention_heads)),
            Some("k_proj") => Some(order(config.num_key_value_heads)),
            _ => None,
        };
        let recipe = Recipe { order, ..Recipe::reshaped(format!("{prefix}{name}"), shape) };
        recipes.insert(name, recipe);
    }
    RearrangedWeights::new(source, file, recipes)
}
