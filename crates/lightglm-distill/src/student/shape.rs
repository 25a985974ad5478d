//! `StudentShape`: the sizes of a decoder.
//!
//! Shapes: `D` hidden_size, `F` intermediate_size, `H` heads, `K` kv heads, `d` head_dim, `V` vocab.

/// The sizes of a decoder, with the names of Hugging Face's config.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StudentShape {
    /// Width of the residual stream, `D`.
    pub hidden_size: usize,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads, `H`.
    pub num_attention_heads: usize,
    /// Key and value heads, `K`; divides `H`.
    pub num_key_value_heads: usize,
    /// Elements of a head, `d`.
    pub head_dim: usize,
    /// Neurons of the feed-forward, `F`.
    pub intermediate_size: usize,
    /// Rows of the embedding and of the head, `V`.
    pub vocab_size: usize,
    /// Whether q, k and v have a bias.
    pub attention_bias: bool,
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Norms of the residual stream's width in a block: 2, or 4 where branches are normalized too.
    pub norms_per_block: usize,
    /// Whether each head of q and of k is normalized.
    pub has_qk_norms: bool,
}

impl StudentShape {
    /// Query heads that share a key and value head, `H / K`.
    pub fn heads_per_group(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads.max(1)
    }

    /// Weights of a block's matrices: `D (2 H d + 2 K d + 3 F)`.
    pub fn block_matrix_weights(&self) -> u64 {
        let projections = 2 * self.query_size() + 2 * self.key_value_size();
        self.hidden_size as u64 * (projections + 3 * self.intermediate_size as u64)
    }

    /// Weights of the embedding table, which are the head's as well: `V D`.
    pub fn table_weights(&self) -> u64 {
        self.vocab_size as u64 * self.hidden_size as u64
    }

    /// Weights of all matrices: the blocks', the table's and the head's where it is one of its own.
    pub fn matrix_weights(&self) -> u64 {
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers as u64 * self.block_matrix_weights() + tables * self.table_weights()
    }

    /// Norms and biases.
    pub fn vector_parameters(&self) -> u64 {
        let norms = (self.norms_per_block * self.hidden_size) as u64;
        let biases =
            u64::from(self.attention_bias) * (self.query_size() + 2 * self.key_value_size());
        let qk_norms = u64::from(self.has_qk_norms) * 2 * self.head_dim as u64;
        self.num_hidden_layers as u64 * (norms + biases + qk_norms) + self.hidden_size as u64
    }

    /// All parameters; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        self.matrix_weights() + self.vector_parameters()
    }

    /// `H d`.
    pub(super) fn query_size(&self) -> u64 {
        self.num_attention_heads as u64 * self.head_dim as u64
    }

    /// `K d`.
    pub(super) fn key_value_size(&self) -> u64 {
        self.num_key_value_heads as u64 * self.head_dim as u64
    }
}
