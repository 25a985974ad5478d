//! The tower's tensors as this crate asks for them.

use std::collections::BTreeMap;
use std::path::Path;

use lightglm_core::WeightSource;
use lightglm_model::config::VisionConfig;
use lightglm_model::weights::{HeadOrder, RearrangedWeights, Recipe};

/// What stands in front of the tower's names in a checkpoint.
pub(crate) const PREFIX: &str = "model.visual";

/// The tensors of a tower of `config`, of a checkpoint that errors call `file`, under the names and in the layout of
/// [`VisionTower`](crate::VisionTower): convolutions over patches that do not overlap are matrices, gate and up are one
/// projection, q's and k's rows lie so that neighbours are rotated.
pub fn tower_weights<S: WeightSource>(
    config: &VisionConfig,
    source: S,
    file: &Path,
) -> RearrangedWeights<S> {
    let (heads, head_dim) = (config.num_heads, config.head_dim());
    let order = |heads| HeadOrder { heads, head_dim, rotary_dim: head_dim };
    let mut recipes = BTreeMap::new();
    for (name, shape) in config.tensor_shapes() {
        // A convolution's kernel is a row.
        let mut shape = match shape[..] {
            [rows, _, ..] => vec![rows, shape[1..].iter().product()],
            _ => shape,
        };
        if let Some((mlp, ending)) = name.split_once("gate_proj.") {
            shape[0] *= 2;
            let halves = [name.clone(), format!("{mlp}up_proj.{ending}")];
            recipes.insert(format!("{mlp}gate_up_proj.{ending}"), Recipe::stacked(halves, shape));
            continue;
        }
        let order = match name.rsplit('.').nth(1) {
            Some("up_proj") => continue,
            // q's heads and k's; v's are behind them.
            Some("qkv") => Some(order(2 * heads)),
            Some("q_norm" | "k_norm") => Some(order(1)),
            _ => None,
        };
        recipes.insert(name.clone(), Recipe { order, ..Recipe::reshaped(name, shape) });
    }
    RearrangedWeights::new(source, file, recipes)
}
