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
    let (d, inner) = (config.hidden_size, config.intermediate_size);
    let head_dim = config.head_dim();
    let kv = config.num_key_value_heads * head_dim;
    let mut recipes = BTreeMap::new();
    let mut add = |name: String, shape: Vec<usize>, order: Option<HeadOrder>| {
        let recipe = Recipe { order, ..Recipe::reshaped(format!("{prefix}{name}"), shape) };
        recipes.insert(name, recipe);
    };
    for (conv, channels) in [("conv1", config.num_mel_bins), ("conv2", d)] {
        add(format!("{TOWER}.{conv}.weight"), vec![d, channels * KERNEL], None);
        add(format!("{TOWER}.{conv}.bias"), vec![d], None);
    }
    let order = |heads| Some(HeadOrder { heads, head_dim, rotary_dim: config.rotary_dim() });
    let (queries, keys) = (order(config.num_attention_heads), order(config.num_key_value_heads));
    for layer in 0..config.num_hidden_layers {
        let matrices = [
            ("self_attn.q_proj", [d, d], true, queries),
            ("self_attn.k_proj", [kv, d], false, keys),
            ("self_attn.v_proj", [kv, d], true, None),
            ("self_attn.o_proj", [d, d], true, None),
            ("mlp.fc1", [inner, d], true, None),
            ("mlp.fc2", [d, inner], true, None),
        ];
        for (part, [rows, columns], bias, order) in matrices {
            let name = format!("{TOWER}.layers.{layer}.{part}");
            add(format!("{name}.weight"), vec![rows, columns], order);
            if bias {
                add(format!("{name}.bias"), vec![rows], order);
            }
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            for part in ["weight", "bias"] {
                add(format!("{TOWER}.layers.{layer}.{norm}.{part}"), vec![d], None);
            }
        }
    }
    for part in ["weight", "bias"] {
        add(format!("{TOWER}.norm.{part}"), vec![d], None);
    }
    let (out, wide) = (config.out_hidden_size, 2 * config.out_hidden_size);
    for (name, [rows, columns]) in [("linear_1", [wide, inner]), ("linear_2", [out, wide])] {
        add(format!("{PROJECTOR}.{name}.weight"), vec![rows, columns], None);
        add(format!("{PROJECTOR}.{name}.bias"), vec![rows], None);
    }
    RearrangedWeights::new(source, file, recipes)
}
