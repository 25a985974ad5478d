//! `Slice`: which parts of a decoder are left.

use super::{StudentError, StudentShape};

/// Which parts of a decoder are left. Every list is in ascending order, by the decoder's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Blocks.
    pub layers: Vec<usize>,
    /// Channels of the residual stream.
    pub hidden: Vec<usize>,
    /// Neurons of the feed-forward part, for each block of `layers`; as many in each.
    pub ffn: Vec<Vec<usize>>,
    /// Query heads, for each block of `layers`. A key and value head is left where one of the query heads that share
    /// it is; each has as many of them, and each block as many of both.
    pub heads: Vec<Vec<usize>>,
    /// Tokens: rows of the embedding and of the head. The first one becomes token 0, and so on.
    pub vocabulary: Vec<usize>,
}

impl Slice {
    /// All of `teacher`.
    pub fn whole(teacher: &StudentShape) -> Self {
        let layers = teacher.num_hidden_layers;
        Self {
            layers: (0..layers).collect(),
            hidden: (0..teacher.hidden_size).collect(),
            ffn: vec![(0..teacher.intermediate_size).collect(); layers],
            heads: vec![(0..teacher.num_attention_heads).collect(); layers],
            vocabulary: (0..teacher.vocab_size).collect(),
        }
    }

    /// For a slice whose `ffn` and `heads` still stand for all blocks of the decoder: those of `layers` alone.
    pub fn for_kept_layers(mut self) -> Self {
        let kept = |all: Vec<Vec<usize>>| {
            self.layers.iter().filter_map(|&layer| all.get(layer).cloned()).collect()
        };
        self.ffn = kept(self.ffn);
        self.heads = kept(self.heads);
        self
    }

    /// The shape of what is left of `teacher`.
    ///
    /// # Errors
    /// [`StudentError::Count`] where a list is empty; [`StudentError::Order`], [`StudentError::Index`],
    /// [`StudentError::Uneven`].
    pub fn check(&self, teacher: &StudentShape) -> Result<StudentShape, StudentError> {
        let shape = teacher;
        check_list("num_hidden_layers", &self.layers, shape.num_hidden_layers)?;
        check_list("hidden_size", &self.hidden, shape.hidden_size)?;
        check_list("vocab_size", &self.vocabulary, shape.vocab_size)?;
        let layers = self.layers.len();
        even("intermediate_size: layers", &[layers, self.ffn.len()])?;
        even("num_attention_heads: layers", &[layers, self.heads.len()])?;
        for neurons in &self.ffn {
            check_list("intermediate_size", neurons, shape.intermediate_size)?;
        }
        for heads in &self.heads {
            check_list("num_attention_heads", heads, shape.num_attention_heads)?;
        }
        let counts: Vec<usize> = self.ffn.iter().map(Vec::len).collect();
        let intermediate_size = even("intermediate_size", &counts)?;
        let (mut groups, mut sizes, mut first) = (Vec::new(), Vec::new(), None);
        for (layer, heads) in self.heads.iter().enumerate() {
            let of_layer = group_sizes(heads, shape.heads_per_group());
            groups.push(of_layer.len());
            let expected = *first.get_or_insert(of_layer[0]);
            if let Some(&actual) = of_layer.iter().find(|size| **size != expected) {
                let what = "num_attention_heads of a key and value head";
                return Err(StudentError::Uneven { what, layer, expected, actual });
            }
            sizes.push(of_layer[0]);
        }
        let num_key_value_heads = even("num_key_value_heads", &groups)?;
        let group = even("num_attention_heads", &sizes)?;
        Ok(StudentShape {
            num_hidden_layers: layers,
            hidden_size: self.hidden.len(),
            intermediate_size,
            num_attention_heads: num_key_value_heads * group,
            num_key_value_heads,
            vocab_size: self.vocabulary.len(),
            ..*shape
        })
    }

    /// The key and value heads that the query heads of block `index` of [`Self::layers`] share, in groups of `size`.
    pub(super) fn key_value_heads(&self, index: usize, size: usize) -> Vec<usize> {
        let mut groups: Vec<usize> = self.heads[index].iter().map(|head| head / size).collect();
        groups.dedup();
        groups
    }
}

fn check_list(what: &'static str, list: &[usize], count: usize) -> Result<(), StudentError> {
    if list.is_empty() {
        return Err(StudentError::Count { what, wanted: 0, available: count });
    }
    if let Some(&index) = list.iter().find(|index| **index >= count) {
        return Err(StudentError::Index { what, index, count });
    }
    match list.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(StudentError::Order { what, index: pair[1] }),
        None => Ok(()),
    }
}

/// How many heads of `heads`, which are in order, each group of `size` has; those without any left out.
fn group_sizes(heads: &[usize], size: usize) -> Vec<usize> {
    heads.chunk_by(|a, b| a / size == b / size).map(<[usize]>::len).collect()
}

/// What all have.
fn even(what: &'static str, counts: &[usize]) -> Result<usize, StudentError> {
    let expected = counts.first().copied().unwrap_or_default();
    match counts.iter().enumerate().find(|(_, count)| **count != expected) {
        Some((layer, &actual)) => Err(StudentError::Uneven { what, layer, expected, actual }),
        None => Ok(expected),
    }
}
