//! Sizes of a student that has a share of its teacher's parameters.

use anyhow::{Result, bail};
use lightglm::prune::{StudentShape, Wanted};

/// Neurons are kept in multiples of this, or of less where the teacher has few.
const NEURONS: usize = 64;

/// The largest student of at most `share` of the teacher's parameters that has as large a share of its layers as of its
/// neurons: neither goes alone, and heads and channels stay.
///
/// # Errors
/// Where even one layer is too much, as with large tables of tokens.
pub fn of_share(teacher: &StudentShape, share: f64) -> Result<Wanted> {
    let most = share * teacher.parameters() as f64;
    let (layers, neurons) = (teacher.num_hidden_layers, teacher.intermediate_size);
    let step = NEURONS.min(neurons / 8).max(1);
    for kept in (1..=layers).rev() {
        let ffn = match kept == layers {
            true => neurons,
            false => (neurons * kept / layers / step * step).max(step),
        };
        let wanted = Wanted {
            num_hidden_layers: Some(kept),
            intermediate_size: Some(ffn),
            ..Wanted::default()
        };
        if wanted.shape(teacher)?.parameters() as f64 <= most {
            return Ok(wanted);
        }
    }
    bail!(
        "--share {share:.3}: layers and neurons alone do not suffice: name --hidden, --layers and --ffn"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolLM2-135M.
    fn teacher() -> StudentShape {
        StudentShape {
            hidden_size: 576,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            head_dim: 64,
            intermediate_size: 1536,
            vocab_size: 49_152,
            attention_bias: false,
            tie_word_embeddings: true,
            norms_per_block: 2,
            has_qk_norms: false,
        }
    }

    #[test]
    fn the_share_is_met_from_below() {
        let teacher = teacher();
        for share in [0.3, 1.0 / 3.0, 0.5, 0.9, 1.0] {
            let wanted = of_share(&teacher, share).unwrap();
            let parameters = wanted.shape(&teacher).unwrap().parameters() as f64;
            let found = parameters / teacher.parameters() as f64;
            assert!(found <= share && found > share - 0.07, "{share}: {found}");
        }
        assert_eq!(of_share(&teacher, 1.0).unwrap().shape(&teacher).unwrap(), teacher);
        // The table of tokens alone is a fifth.
        assert!(of_share(&teacher, 0.2).is_err());
    }
}
