//! The paged cache against a model of it in which blocks have no numbers: a block is a prefix, or
//! somebody's own.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{KV_BLOCK, KvCache, KvCacheError, KvDtype, KvLayer, KvShape, SequenceId};
use lightglm_serve::kv::{PagedKvCache, ServingCache};
use lightglm_testkit::SplitMix;
use proptest::prelude::*;

/// A salt and whole blocks of tokens.
type Prefix = (u64, Vec<u32>);

struct Sequence {
    id: SequenceId,
    salt: u64,
    tokens: Vec<u32>,
    /// `None` is a block of its own.
    blocks: Vec<Option<Prefix>>,
}

impl Sequence {
    fn prefix(&self, blocks: usize) -> Prefix {
        (self.salt, self.tokens[..blocks * KV_BLOCK].to_vec())
    }

    fn published(&self) -> usize {
        self.blocks.iter().take_while(|block| block.is_some()).count()
    }
}

#[derive(Default)]
struct Model {
    blocks: usize,
    sequences: Vec<Sequence>,
    /// What is findable, and when it was released last.
    found: BTreeMap<Prefix, u64>,
    clock: u64,
}

impl Model {
    fn holders(&self, prefix: &Prefix) -> usize {
        let holds = |s: &&Sequence| s.blocks.iter().flatten().any(|held| held == prefix);
        self.sequences.iter().filter(holds).count()
    }

    fn cached(&self) -> usize {
        self.found.keys().filter(|prefix| self.holders(prefix) == 0).count()
    }

    fn used(&self) -> usize {
        let own = self.sequences.iter().flat_map(|s| &s.blocks).filter(|b| b.is_none()).count();
        own + self.found.len() - self.cached()
    }

    fn is_leaf(&self, prefix: &Prefix) -> bool {
        !self.found.keys().any(|(salt, tokens)| {
            *salt == prefix.0 && tokens.len() > prefix.1.len() && tokens.starts_with(&prefix.1)
        })
    }

    /// Makes sure of a free block.
    fn make_room(&mut self) {
        if self.used() + self.cached() == self.blocks {
            let unheld = self.found.iter().filter(|(prefix, _)| self.holders(prefix) == 0);
            let oldest = unheld.min_by_key(|&(_, &released)| released);
            let oldest = oldest.expect("room was counted").0.clone();
            assert!(self.is_leaf(&oldest), "a parent is to be evicted before its child");
            self.found.remove(&oldest);
        }
    }

    /// After somebody gave `block` up.
    fn released(&mut self, block: Option<Prefix>) {
        if let Some(prefix) = block
            && self.holders(&prefix) == 0
        {
            self.clock += 1;
            self.found.insert(prefix, self.clock);
        }
    }

    fn open(&mut self, id: SequenceId, tokens: &[u32], salt: u64) -> usize {
        let most = tokens.len().saturating_sub(1) / KV_BLOCK;
        let prefixes = (1..=most).map(|blocks| (salt, tokens[..blocks * KV_BLOCK].to_vec()));
        let blocks: Vec<_> =
            prefixes.take_while(|prefix| self.found.contains_key(prefix)).map(Some).collect();
        let held = blocks.len() * KV_BLOCK;
        self.sequences.push(Sequence { id, salt, tokens: tokens[..held].to_vec(), blocks });
        held
    }

    /// Whether there is room.
    fn reserve(&mut self, at: usize, additional: usize) -> bool {
        let sequence = &self.sequences[at];
        let requested = sequence.tokens.len() + additional;
        let missing = requested.div_ceil(KV_BLOCK).saturating_sub(sequence.blocks.len());
        if missing > self.blocks - self.used() {
            return false;
        }
        for _ in 0..missing {
            self.make_room();
            self.sequences[at].blocks.push(None);
        }
        true
    }

    fn publish(&mut self, at: usize) {
        let sequence = &mut self.sequences[at];
        for block in sequence.published()..sequence.tokens.len() / KV_BLOCK {
            let prefix = sequence.prefix(block + 1);
            self.found.entry(prefix.clone()).or_default();
            sequence.blocks[block] = Some(prefix);
        }
    }

    /// Whether what is published stays.
    fn truncate(&mut self, at: usize, len: usize) -> bool {
        let sequence = &mut self.sequences[at];
        if len < sequence.published() * KV_BLOCK {
            return false;
        }
        if len < sequence.tokens.len() {
            sequence.tokens.truncate(len);
            sequence.blocks.truncate(len.div_ceil(KV_BLOCK));
        }
        true
    }

    fn close(&mut self, at: usize) {
        while let Some(block) = self.sequences[at].blocks.pop() {
            self.released(block);
        }
        self.sequences.remove(at);
    }
}

/// What the pool holds for the last of `tokens`: exact in f32, and of all of the prefix.
fn content(salt: u64, tokens: &[u32]) -> f32 {
    let hash =
        tokens.iter().fold(salt, |hash, &token| SplitMix::new(hash ^ u64::from(token)).next_u64());
    (hash >> 40) as f32
}

fn contents(cache: &mut PagedKvCache<Flex>) -> Vec<f32> {
    let KvLayer::Float(layer) = cache.layer_mut(0) else { panic!("f32 is a float") };
    layer.values.to_data().iter::<f32>().collect()
}

/// Writes the positions `range` of a sequence that is going to hold `tokens`, as a model would.
fn write(
    cache: &mut PagedKvCache<Flex>,
    id: SequenceId,
    salt: u64,
    tokens: &[u32],
    range: Range<usize>,
) {
    let table = cache.sequence(id).unwrap().0.to_vec();
    let mut pool = contents(cache);
    for p in range {
        let at = table[p / KV_BLOCK] as usize * KV_BLOCK + p % KV_BLOCK;
        pool[at] = content(salt, &tokens[..=p]);
    }
    let KvLayer::Float(layer) = cache.layer_mut(0) else { panic!("f32 is a float") };
    let data = TensorData::new(pool, layer.values.shape());
    layer.values = Tensor::from_data(data, (&FlexDevice, DType::F32));
}

fn compare(cache: &mut PagedKvCache<Flex>, model: &Model) -> Result<(), TestCaseError> {
    let usage = cache.usage();
    prop_assert_eq!((usage.used, usage.cached), (model.used(), model.cached()));
    prop_assert!(usage.used + usage.cached <= usage.blocks);
    let pool = contents(cache);
    // The same block exactly where it is the same prefix.
    let mut seen: HashMap<u32, Option<&Prefix>> = HashMap::new();
    let mut prefixes: HashMap<&Prefix, u32> = HashMap::new();
    for sequence in &model.sequences {
        let (table, len) = cache.sequence(sequence.id).unwrap();
        prop_assert_eq!(len, sequence.tokens.len());
        prop_assert_eq!(table.len(), sequence.blocks.len());
        for (&block, expected) in table.iter().zip(&sequence.blocks) {
            prop_assert!((block as usize) < usage.blocks);
            let before = seen.insert(block, expected.as_ref());
            prop_assert!(before.is_none_or(|b| b.is_some() && b == expected.as_ref()));
            if let Some(prefix) = expected {
                prop_assert_eq!(*prefixes.entry(prefix).or_insert(block), block);
            }
        }
        for p in 0..len {
            let found = pool[table[p / KV_BLOCK] as usize * KV_BLOCK + p % KV_BLOCK];
            prop_assert_eq!(found, content(sequence.salt, &sequence.tokens[..=p]));
        }
    }
    Ok(())
}

/// Prompts that agree for some blocks, and then do not.
fn token(variant: u32, position: usize) -> u32 {
    variant >> (position / KV_BLOCK % 3) & 1
}

#[derive(Clone, Debug)]
enum Op {
    Open { variant: u32, len: usize, salt: u64 },
    Feed { pick: usize, variant: u32, count: usize, written: bool },
    Publish { pick: usize },
    Truncate { pick: usize, len: usize },
    Close { pick: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let (pick, variant) = (any::<usize>(), 0u32..8);
    prop_oneof![
        3 => (variant.clone(), 0usize..80, 0u64..2)
            .prop_map(|(variant, len, salt)| Op::Open { variant, len, salt }),
        6 => (pick, variant, 0usize..40, prop::bool::weighted(0.9))
            .prop_map(|(pick, variant, count, written)| Op::Feed { pick, variant, count, written }),
        4 => pick.prop_map(|pick| Op::Publish { pick }),
        2 => (pick, 0usize..80).prop_map(|(pick, len)| Op::Truncate { pick, len }),
        2 => pick.prop_map(|pick| Op::Close { pick }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn is_what_the_model_says(
        blocks in 1usize..12,
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let shape = KvShape { layers: 1, key_value_heads: 1, head_dim: 1 };
        let mut cache = PagedKvCache::<Flex>::new(shape, blocks, KvDtype::F32, &FlexDevice);
        let mut model = Model { blocks, ..Model::default() };
        for op in ops {
            match op {
                Op::Open { variant, len, salt } => {
                    let tokens: Vec<u32> = (0..len).map(|p| token(variant, p)).collect();
                    let (id, cached) = cache.open(&tokens, salt);
                    prop_assert!(model.sequences.iter().all(|s| s.id != id));
                    prop_assert_eq!(cached, model.open(id, &tokens, salt));
                }
                _ if model.sequences.is_empty() => {}
                Op::Feed { pick, variant, count, written } => {
                    let at = pick % model.sequences.len();
                    let id = model.sequences[at].id;
                    let before = cache.sequence(id).map(|(table, len)| (table.to_vec(), len));
                    let reserved = cache.reserve(id, count);
                    if !model.reserve(at, count) {
                        let full = matches!(reserved, Err(KvCacheError::Full { .. }));
                        prop_assert!(full, "{reserved:?}");
                        let after = cache.sequence(id).map(|(table, len)| (table.to_vec(), len));
                        prop_assert_eq!(after, before);
                    } else {
                        prop_assert_eq!(reserved, Ok(()));
                        // A forward pass that fails may have written, and advances nothing.
                        let sequence = &mut model.sequences[at];
                        let held = sequence.tokens.len();
                        let mut tokens = sequence.tokens.clone();
                        tokens.extend((held..held + count).map(|p| token(variant, p)));
                        write(&mut cache, id, sequence.salt, &tokens, held..held + count);
                        if written {
                            prop_assert_eq!(cache.advance(id, count), Ok(()));
                            sequence.tokens = tokens;
                        }
                    }
                }
                Op::Publish { pick } => {
                    let at = pick % model.sequences.len();
                    model.publish(at);
                    let sequence = &model.sequences[at];
                    prop_assert_eq!(cache.publish(sequence.id, &sequence.tokens), Ok(()));
                }
                Op::Truncate { pick, len } => {
                    let at = pick % model.sequences.len();
                    let truncated = cache.truncate(model.sequences[at].id, len);
                    if model.truncate(at, len) {
                        prop_assert_eq!(truncated, Ok(()));
                    } else {
                        let published = model.sequences[at].published() * KV_BLOCK;
                        let expected = KvCacheError::Published { requested: len, published };
                        prop_assert_eq!(truncated, Err(expected));
                    }
                }
                Op::Close { pick } => {
                    let at = pick % model.sequences.len();
                    let id = model.sequences[at].id;
                    model.close(at);
                    prop_assert_eq!(cache.close(id), Ok(()));
                    prop_assert_eq!(cache.close(id), Err(KvCacheError::UnknownSequence(id)));
                }
            }
            compare(&mut cache, &model)?;
        }
        while let Some(sequence) = model.sequences.last() {
            prop_assert_eq!(cache.close(sequence.id), Ok(()));
            model.close(model.sequences.len() - 1);
        }
        compare(&mut cache, &model)?;
        prop_assert_eq!(cache.usage().used, 0);
        // Nothing leaked: one sequence can have all that there is.
        let (id, _) = cache.open(&[], 0);
        prop_assert_eq!(cache.reserve(id, blocks * KV_BLOCK), Ok(()));
        prop_assert_eq!((cache.usage().used, cache.usage().cached), (blocks, 0));
    }
}
