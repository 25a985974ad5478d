//! What the axes of a decoder's tensors are, by the tensors' names.

/// What an axis of a tensor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// Tokens.
    Vocabulary,
    /// Channels of the residual stream.
    Hidden,
    /// Neurons.
    Neurons,
    /// Neurons' gates, and behind them their ups.
    GatesAndUps,
    /// Elements of query heads.
    Queries,
    /// Elements of key or value heads.
    KeysOrValues,
    /// Elements of one head: they stay.
    HeadElements,
}

/// A tensor of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorAxes<'n> {
    /// The block that it is of, and what it is called there.
    pub(super) block: Option<(usize, &'n str)>,
    /// Outermost first.
    pub(super) axes: Vec<Axis>,
}

/// The axes of the tensor `name` of a checkpoint in GLM's or in Llama's layout; `None` for what is none of a decoder's.
///
/// Both order the rows of q and of k within heads, so that whole heads are the same rows in either.
pub(super) fn tensor_axes(name: &str) -> Option<TensorAxes<'_>> {
    use Axis::{Hidden, Vocabulary};

    let whole = |axes| Some(TensorAxes { block: None, axes });
    match name {
        "model.embed_tokens.weight" | "lm_head.weight" => return whole(vec![Vocabulary, Hidden]),
        "model.norm.weight" => return whole(vec![Hidden]),
        _ => {}
    }
    let (number, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = number.parse().ok()?;
    let spelled_otherwise = layer.to_string() != number;
    let (module, kind) = part.rsplit_once('.')?;
    let [rows, columns] = projection(module).unwrap_or([Hidden; 2]);
    let axes = match (kind, projection(module).is_some()) {
        ("weight", true) => vec![rows, columns],
        ("bias", true) => vec![rows],
        ("weight", false) => vec![norm(module)?],
        _ => return None,
    };
    (!spelled_otherwise).then_some(TensorAxes { block: Some((layer, part)), axes })
}

/// Outputs and inputs.
fn projection(module: &str) -> Option<[Axis; 2]> {
    use Axis::{GatesAndUps, Hidden, KeysOrValues, Neurons, Queries};

    Some(match module {
        "self_attn.q_proj" => [Queries, Hidden],
        "self_attn.k_proj" | "self_attn.v_proj" => [KeysOrValues, Hidden],
        "self_attn.o_proj" => [Hidden, Queries],
        "mlp.gate_up_proj" => [GatesAndUps, Hidden],
        "mlp.gate_proj" | "mlp.up_proj" => [Neurons, Hidden],
        "mlp.down_proj" => [Hidden, Neurons],
        _ => return None,
    })
}

fn norm(module: &str) -> Option<Axis> {
    match module {
        "input_layernorm"
        | "post_attention_layernorm"
        | "post_self_attn_layernorm"
        | "post_mlp_layernorm" => Some(Axis::Hidden),
        "self_attn.q_norm" | "self_attn.k_norm" => Some(Axis::HeadElements),
        _ => None,
    }
}
