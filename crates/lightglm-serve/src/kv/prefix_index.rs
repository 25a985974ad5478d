//! `PrefixIndex`: which block holds the keys and values of which tokens.

use std::collections::HashMap;

use lightglm_core::KV_BLOCK;

/// What stands before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parent {
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
pub struct PrefixIndex {
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
    parent: Parent,
    /// Entries that have this one as parent.
    children: u32,
}

impl PrefixIndex {
    /// An empty index over blocks `0..blocks`.
    pub fn new(blocks: usize) -> Self {
        Self { found: HashMap::new(), entries: vec![None; blocks], next_identity: 0 }
    }

    /// Findable blocks.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether no block is findable.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether `block` is findable.
    pub fn contains(&self, block: u32) -> bool {
        self.entry(block).is_some()
    }

    /// Whether `block` is findable and nothing findable continues it.
    pub fn is_leaf(&self, block: u32) -> bool {
        self.entry(block).is_some_and(|entry| entry.children == 0)
    }

    /// The blocks of the longest findable prefix of `tokens`, in order.
    pub fn prefix(&self, tokens: &[u32], salt: u64) -> Vec<u32> {
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
    pub fn get(&self, parent: Parent, tokens: &[u32; KV_BLOCK]) -> Option<u32> {
        let before = self.before(parent)?;
        self.found.get(&Key { before, tokens: *tokens }).copied()
    }

    /// Makes `block` findable as the one that holds `tokens` after `parent`, unless another one is:
    /// returns the one that is findable as that from now on.
    ///
    /// `None`, and nothing happens, where the parent is not findable itself, where `block` is already
    /// findable as something else, or where the index is not over it.
    pub fn publish(&mut self, parent: Parent, tokens: &[u32; KV_BLOCK], block: u32) -> Option<u32> {
        let key = Key { before: self.before(parent)?, tokens: *tokens };
        if let Some(&found) = self.found.get(&key) {
            return Some(found);
        }
        let slot = self.entries.get_mut(block as usize).filter(|slot| slot.is_none())?;
        *slot = Some(Entry { identity: self.next_identity, key, parent, children: 0 });
        self.next_identity += 1;
        self.found.insert(key, block);
        if let Some(entry) = self.parent_mut(parent) {
            entry.children += 1;
        }
        Some(block)
    }

    /// Makes `block` unfindable; nothing happens where it is.
    ///
    /// What continues it is not found from now on either, whatever becomes of `block`, but has to be
    /// forgotten on its own. Leaves first, there is nothing of that kind.
    pub fn forget(&mut self, block: u32) {
        let Some(entry) = self.entries.get_mut(block as usize).and_then(Option::take) else {
            return;
        };
        self.found.remove(&entry.key);
        // Where the parent was forgotten first, its block may be another entry's by now.
        let before = self.before(entry.parent);
        if before == Some(entry.key.before)
            && let Some(parent) = self.parent_mut(entry.parent)
        {
            parent.children -= 1;
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

    fn parent_mut(&mut self, parent: Parent) -> Option<&mut Entry> {
        match parent {
            Parent::Salt(_) => None,
            Parent::Block(block) => self.entries.get_mut(block as usize).and_then(Option::as_mut),
        }
    }
}
