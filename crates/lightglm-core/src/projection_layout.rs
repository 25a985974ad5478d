//! `ProjectionLayout`: which of a file's rows are which of ours.

/// How a family of models writes the projections that the decoder holds in another form.
///
/// The decoder rotates neighbours, elements `2i` and `2i + 1` of a head, and has one projection for gate and
/// up, as GLM has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProjectionLayout {
    /// GLM's: as the decoder holds them.
    #[default]
    Glm,
    /// Llama's, Mistral's and Qwen's: element `i` of a head is rotated with the one half a head further on,
    /// which decides the order of the rows of `q_proj` and `k_proj` and of the elements of `q_norm` and
    /// `k_norm`; `gate_proj` and `up_proj` are two projections.
    Llama {
        /// Elements of a head: even, not zero.
        head_dim: usize,
    },
}

impl ProjectionLayout {
    /// The row of the file's `name` (`model.layers.0.self_attn.q_proj`) that the decoder has as its `row`.
    pub fn row_in_file(self, name: &str, row: usize) -> usize {
        match self {
            Self::Llama { head_dim } if is_rotated(name) => {
                let (head, at) = (row / head_dim, row % head_dim);
                head * head_dim + at % 2 * (head_dim / 2) + at / 2
            }
            _ => row,
        }
    }

    /// Whether rows of the file's projection `name` lie in another order than the decoder's.
    pub fn reorders(self, name: &str) -> bool {
        self != Self::Glm && is_rotated(name)
    }
}

fn is_rotated(name: &str) -> bool {
    ["q_proj", "k_proj", "q_norm", "k_norm"].iter().any(|rotated| name.ends_with(rotated))
}

#[cfg(test)]
mod tests {
    use super::ProjectionLayout;

    #[test]
    fn halves_become_neighbours() {
        let layout = ProjectionLayout::Llama { head_dim: 6 };
        let rows =
            |name: &str| (0..12).map(|row| layout.row_in_file(name, row)).collect::<Vec<_>>();
        let expected = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11];
        assert_eq!(rows("model.layers.0.self_attn.q_proj"), expected);
        assert_eq!(rows("model.layers.0.self_attn.k_proj"), expected);
        assert_eq!(rows("model.layers.0.self_attn.k_norm"), expected);
        assert_eq!(rows("model.layers.0.self_attn.v_proj"), (0..12).collect::<Vec<_>>());
        assert_eq!(ProjectionLayout::Glm.row_in_file("q_proj", 1), 1);
        assert!(layout.reorders("k_proj") && !layout.reorders("o_proj"));
        assert!(!ProjectionLayout::Glm.reorders("k_proj"));
    }
}
