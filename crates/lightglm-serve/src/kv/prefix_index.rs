//! `PrefixIndex`: which block holds the keys and values of which tokens.

use std::collections::HashMap;

use lightglm_core::KV_BLOCK;

/// What stands before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Parent {
    /// Nothing: it is the first of a sequence with this salt.
    Salt(u64),
    /// This block, and all that stands before it.
    Block(u32),
}

/// Findable blocks: chains of full blocks of tokens, each from position 0.
///
/// An entry is found by its parent's identity and its own tokens, which are compared, not only
/// hashed: what is found is the same prefix, whatever an attacker knows of the hash. An entry's
/// identity is a number that is never used again, so a block that was forgotten and got other
/// contents is no parent of what once continued it.
#[derive(Debug)]
pub(super) struct PrefixIndex {
    found: HashMap<Key, u32>,
    /// By block.
    entries: Vec<Option<Entry>>,
    next_identity: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    before: Before,
    tokens: [u32; KV_BLOCK],
}

/// A [`Parent`] by its identity instead of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Before {
    Salt(u64),
    Entry(u64),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    identity: u64,
    key: Key,
}

impl PrefixIndex {
    /// An empty index over blocks `0..blocks`.
    pub(super) fn new(blocks: usize) -> Self {
        Self { found: HashMap::new(), entries: vec![None; blocks], next_identity: 0 }
    }

    /// The blocks of the longest findable prefix of `tokens`, in order.
    pub(super) fn prefix(&self, tokens: &[u32], salt: u64) -> Vec<u32> {
        let (blocks, _) = tokens.as_chunks::<KV_BLOCK>();
        let mut parent = Parent::Salt(salt);
        let next = |tokens: &[u32; KV_BLOCK]| {
            let block = self.get(parent, tokens)?;
            parent = Parent::Block(block);
            Some(block)
        };
        blocks.iter().map_while(next).collect()
    }

    /// The block that holds `tokens` after `parent`.
    fn get(&self, parent: Parent, tokens: &[u32; KV_BLOCK]) -> Option<u32> {
        let before = self.before(parent)?;
        self.found.get(&Key { before, tokens: *tokens }).copied()
    }

    /// Makes `block` findable as the one that holds `tokens` after `parent`, unless another one is:
    /// returns the one that is findable as that from now on.
    ///
    /// `None`, and nothing happens, where the parent is not findable itself, where `block` is already
    /// findable as something else, or where the index is not over it.
    pub(super) fn publish(
        &mut self,
        parent: Parent,
        tokens: &[u32; KV_BLOCK],
        block: u32,
    ) -> Option<u32> {
        let key = Key { before: self.before(parent)?, tokens: *tokens };
        if let Some(&found) = self.found.get(&key) {
            return Some(found);
        }
        let slot = self.entries.get_mut(block as usize).filter(|slot| slot.is_none())?;
        *slot = Some(Entry { identity: self.next_identity, key });
        self.next_identity += 1;
        self.found.insert(key, block);
        Some(block)
    }

    /// Makes `block` unfindable; nothing happens where it is.
    ///
    /// What continues it is not found from now on either, whatever becomes of `block`, but has to be
    /// forgotten on its own. Leaves first, there is nothing of that kind.
    pub(super) fn forget(&mut self, block: u32) {
        if let Some(entry) = self.entries.get_mut(block as usize).and_then(Option::take) {
            self.found.remove(&entry.key);
        }
    }

    fn entry(&self, block: u32) -> Option<&Entry> {
        self.entries.get(block as usize).and_then(Option::as_ref)
    }

    fn before(&self, parent: Parent) -> Option<Before> {
        match parent {
            Parent::Salt(salt) => Some(Before::Salt(salt)),
            Parent::Block(block) => self.entry(block).map(|entry| Before::Entry(entry.identity)),
        }
    }
}

/// Against a list of whole prefixes.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCKS: u32 = 8;

    /// A block of tokens, the last of which alone tells it from others.
    fn tokens(last: u32) -> [u32; KV_BLOCK] {
        let mut tokens = [7; KV_BLOCK];
        tokens[KV_BLOCK - 1] = last;
        tokens
    }

    #[test]
    fn finds_whole_blocks_of_the_same_beginning_and_salt() {
        let mut index = PrefixIndex::new(8);
        assert_eq!(index.publish(Parent::Salt(1), &tokens(0), 5), Some(5));
        assert_eq!(index.publish(Parent::Block(5), &tokens(1), 3), Some(3));
        // The same tokens elsewhere are something else.
        assert_eq!(index.publish(Parent::Salt(1), &tokens(1), 4), Some(4));
        let prompt = [tokens(0), tokens(1), tokens(1)].concat();
        assert_eq!(index.prefix(&prompt, 1), [5, 3]);
        assert_eq!(index.prefix(&prompt[..31], 1), [5]);
        assert_eq!(index.prefix(&prompt[..15], 1), [0; 0]);
        assert_eq!(index.prefix(&prompt[16..], 1), [4]);
        assert_eq!(index.prefix(&prompt, 0), [0; 0]);
        // A salt that is a block's number, or an identity, is none.
        for salt in [0, 3, 5] {
            assert_eq!(index.prefix(&tokens(1), salt), [0; 0]);
        }
        assert_eq!(index.found.len(), 3);
    }

    #[test]
    fn who_publishes_second_is_told_of_the_first() {
        let mut index = PrefixIndex::new(8);
        assert_eq!(index.publish(Parent::Salt(0), &tokens(0), 1), Some(1));
        assert_eq!(index.publish(Parent::Salt(0), &tokens(0), 2), Some(1));
        assert_eq!(index.publish(Parent::Salt(0), &tokens(0), 1), Some(1));
        assert!(index.entry(2).is_none());
        // One block is one thing, of a parent that is known, and one of the pool's.
        assert_eq!(index.publish(Parent::Salt(0), &tokens(9), 1), None);
        assert_eq!(index.publish(Parent::Block(2), &tokens(9), 3), None);
        assert_eq!(index.publish(Parent::Salt(0), &tokens(9), 8), None);
        assert_eq!(index.found.len(), 1);
    }

    #[test]
    fn a_block_that_is_used_again_is_no_parent_of_what_continued_it() {
        let mut index = PrefixIndex::new(8);
        index.publish(Parent::Salt(0), &tokens(0), 0);
        index.publish(Parent::Block(0), &tokens(1), 1);
        index.forget(0);
        index.publish(Parent::Salt(0), &tokens(2), 0);
        assert_eq!(index.prefix(&[tokens(2), tokens(1)].concat(), 0), [0]);
        // Not even with the same tokens: the contents may have been computed from anything.
        index.forget(0);
        index.publish(Parent::Salt(0), &tokens(0), 0);
        assert_eq!(index.prefix(&[tokens(0), tokens(1)].concat(), 0), [0]);
        index.forget(1);
        index.forget(0);
        assert!(index.found.is_empty());
    }

    /// A salt, the last tokens of a block and of all before it, and the parent's number and `times`.
    type NaiveEntry = (u64, Vec<u32>, Option<(u32, usize)>);

    /// What a block holds, and how often it held something else before.
    #[derive(Clone, Debug, Default)]
    struct Naive {
        times: usize,
        entry: Option<NaiveEntry>,
    }

    fn is_reachable(blocks: &[Naive], block: u32) -> bool {
        match &blocks[block as usize].entry {
            None => false,
            Some((_, _, None)) => true,
            Some((_, _, Some((parent, times)))) => {
                blocks[*parent as usize].times == *times && is_reachable(blocks, *parent)
            }
        }
    }

    fn find(blocks: &[Naive], salt: u64, path: &[u32]) -> Option<u32> {
        (0..BLOCKS).find(|&block| {
            let entry = &blocks[block as usize].entry;
            let same = entry.as_ref().is_some_and(|(s, p, _)| *s == salt && p == path);
            same && is_reachable(blocks, block)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn finds_exactly_the_longest_prefix(
            ops in proptest::collection::vec(
                (any::<bool>(), 0..BLOCKS, proptest::option::of(0..BLOCKS), 0u64..2, 0u32..2),
                0..100,
            ),
        ) {
            let mut index = PrefixIndex::new(BLOCKS as usize);
            let mut naive = vec![Naive::default(); BLOCKS as usize];
            for (forget, block, parent, salt, last) in ops {
                let at = block as usize;
                if forget {
                    index.forget(block);
                    naive[at].times += usize::from(naive[at].entry.take().is_some());
                } else if parent.is_none_or(|parent| is_reachable(&naive, parent)) {
                    let (salt, mut path) = match parent {
                        None => (salt, Vec::new()),
                        Some(parent) => {
                            let (salt, path, _) = naive[parent as usize].entry.clone().unwrap();
                            (salt, path)
                        }
                    };
                    path.push(last);
                    let before = parent.map_or(Parent::Salt(salt), Parent::Block);
                    let known = find(&naive, salt, &path);
                    let vacant = naive[at].entry.is_none().then_some(block);
                    prop_assert_eq!(index.publish(before, &tokens(last), block), known.or(vacant));
                    if known.is_none() && vacant.is_some() {
                        let parent = parent.map(|parent| (parent, naive[parent as usize].times));
                        naive[at].entry = Some((salt, path, parent));
                    }
                }
                for (salt, bits) in (0u64..2).flat_map(|salt| (0u32..16).map(move |b| (salt, b))) {
                    let path: Vec<u32> = (0..4).map(|i| bits >> i & 1).collect();
                    let expected = (1..=4).map_while(|len| find(&naive, salt, &path[..len]));
                    let expected: Vec<u32> = expected.collect();
                    let prompt: Vec<u32> = path.iter().flat_map(|&last| tokens(last)).collect();
                    prop_assert_eq!(index.prefix(&prompt, salt), expected);
                }
            }
        }
    }
}
