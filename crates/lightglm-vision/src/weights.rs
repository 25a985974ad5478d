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
    let name = |part: &str| format!("{PREFIX}.{part}");
    let (d, out, inner) = (config.hidden_size, config.out_hidden_size, config.merger_size);
    let merged = config.spatial_merge_size * config.spatial_merge_size;
    let mut recipes = BTreeMap::new();
    let mut same = |part: String, shape: Vec<usize>| {
        let name = name(&part);
        recipes.insert(name.clone(), Recipe::reshaped(name, shape));
    };
    same("patch_embed.proj.weight".into(), vec![d, config.patch_width()]);
    same("patch_embed.proj.bias".into(), vec![d]);
    if !config.is_ocr {
        let table = config.table_side() * config.table_side();
        same("embeddings.position_embedding.weight".into(), vec![table, d]);
        same("post_conv_layernorm.weight".into(), vec![d]);
    }
    for block in 0..config.depth {
        same(format!("blocks.{block}.norm1.weight"), vec![d]);
        same(format!("blocks.{block}.norm2.weight"), vec![d]);
        same(format!("blocks.{block}.attn.proj.weight"), vec![d, d]);
        same(format!("blocks.{block}.mlp.down_proj.weight"), vec![d, config.mlp_size]);
        if config.is_ocr {
            same(format!("blocks.{block}.mlp.down_proj.bias"), vec![d]);
            if config.attention_bias {
                same(format!("blocks.{block}.attn.proj.bias"), vec![d]);
            }
        }
    }
    same("post_layernorm.weight".into(), vec![d]);
    same("downsample.weight".into(), vec![out, d * merged]);
    same("downsample.bias".into(), vec![out]);
    same("merger.proj.weight".into(), vec![out, out]);
    same("merger.post_projection_norm.weight".into(), vec![out]);
    same("merger.post_projection_norm.bias".into(), vec![out]);
    same("merger.down_proj.weight".into(), vec![out, inner]);
    let mut stack = |part: String, ending: &str, shape: Vec<usize>| {
        let of = |half: &str| name(&format!("{part}.{half}.{ending}"));
        let halves = [of("gate_proj"), of("up_proj")];
        recipes.insert(of("gate_up_proj"), Recipe::stacked(halves, shape));
    };
    stack("merger".into(), "weight", vec![2 * inner, out]);
    for block in 0..config.depth {
        let mlp = format!("blocks.{block}.mlp");
        stack(mlp.clone(), "weight", vec![2 * config.mlp_size, d]);
        if config.is_ocr {
            stack(mlp, "bias", vec![2 * config.mlp_size]);
        }
    }
    let (heads, head_dim) = (config.num_heads, config.head_dim());
    let order = |heads| HeadOrder { heads, head_dim, rotary_dim: head_dim };
    for block in 0..config.depth {
        let mut reorder = |part: &str, heads, shape: Vec<usize>| {
            let name = name(&format!("blocks.{block}.attn.{part}"));
            let recipe = Recipe::reshaped(name.clone(), shape).with_order(order(heads));
            recipes.insert(name, recipe);
        };
        // Those of q and of k; v's are behind them.
        reorder("qkv.weight", 2 * heads, vec![3 * d, d]);
        if config.attention_bias {
            reorder("qkv.bias", 2 * heads, vec![3 * d]);
        }
        if config.is_ocr {
            reorder("q_norm.weight", 1, vec![head_dim]);
            reorder("k_norm.weight", 1, vec![head_dim]);
        }
    }
    RearrangedWeights::new(source, file, recipes)
}
