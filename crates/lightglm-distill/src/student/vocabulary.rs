//! Which tokens a smaller vocabulary keeps.

use std::collections::{BTreeSet, HashMap};

/// The tokens that a vocabulary keeps, in ascending order: the first one becomes token 0, and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptTokens {
    ids: Vec<u32>,
    numbers: HashMap<u32, u32>,
}

impl KeptTokens {
    /// These, each once.
    pub fn new(ids: impl IntoIterator<Item = u32>) -> Self {
        let ids: Vec<u32> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let numbers = ids.iter().copied().zip(0..).collect();
        Self { ids, numbers }
    }

    /// Their ids in the vocabulary that they come from.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The new id of the token that had `id`; `None` where it is not kept.
    pub fn number(&self, id: u32) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// `wanted`, and with each token both halves of every merge that makes it; `merges` are
/// `[left, right, merged]`.
///
/// With all merges whose three tokens are kept, in their order, byte-pair encoding cuts a text as it did before
/// wherever that text's tokens are among the kept ones: at each step what was chosen before is still there, and nothing
/// is there that was not.
pub fn close_under_merges(
    wanted: impl IntoIterator<Item = u32>,
    merges: &[[u32; 3]],
) -> KeptTokens {
    let mut made_of: HashMap<u32, Vec<[u32; 2]>> = HashMap::new();
    for &[left, right, merged] in merges {
        made_of.entry(merged).or_default().push([left, right]);
    }
    let mut kept = BTreeSet::new();
    let mut open: Vec<u32> = wanted.into_iter().collect();
    while let Some(token) = open.pop() {
        if kept.insert(token) {
            open.extend(made_of.get(&token).into_iter().flatten().flatten());
        }
    }
    KeptTokens::new(kept)
}
