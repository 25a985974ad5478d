//! The pool of blocks against two lists.

use std::collections::VecDeque;

use lightglm_serve::kv::{BlockPool, BlockRef, KvUsage};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Take,
    Hold(u32),
    /// Which of the holds, and whether to keep.
    Release(usize, bool),
    Evict,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Take),
        2 => (0u32..10).prop_map(Op::Hold),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(pick, keep)| Op::Release(pick, keep)),
        1 => Just(Op::Evict),
    ]
}

fn holders(holds: &[BlockRef], block: u32) -> usize {
    holds.iter().filter(|hold| hold.index() == block).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn is_a_set_of_holds_and_a_queue(
        blocks in 0usize..9,
        ops in proptest::collection::vec(op(), 0..120),
    ) {
        let mut pool = BlockPool::new(blocks);
        let mut holds: Vec<BlockRef> = Vec::new();
        let mut kept: VecDeque<u32> = VecDeque::new();
        for op in ops {
            let used = (0..blocks as u32).filter(|&block| holders(&holds, block) > 0).count();
            match op {
                Op::Take => {
                    let taken = pool.take();
                    prop_assert_eq!(taken.is_some(), used + kept.len() < blocks);
                    if let Some(block) = taken {
                        prop_assert_eq!(holders(&holds, block.index()), 0);
                        prop_assert!(!kept.contains(&block.index()));
                        holds.push(block);
                    }
                }
                Op::Hold(block) => {
                    let known = holders(&holds, block) > 0 || kept.contains(&block);
                    let held = pool.hold(block);
                    prop_assert_eq!(held.as_ref().map(BlockRef::index), known.then_some(block));
                    kept.retain(|&other| other != block);
                    holds.extend(held);
                }
                Op::Release(pick, keep) if !holds.is_empty() => {
                    let hold = holds.swap_remove(pick % holds.len());
                    let block = hold.index();
                    pool.release(hold, keep);
                    if keep && holders(&holds, block) == 0 {
                        kept.push_back(block);
                    }
                }
                Op::Release(..) => {}
                Op::Evict => prop_assert_eq!(pool.evict_oldest(), kept.pop_front()),
            }
            let used = (0..blocks as u32).filter(|&block| holders(&holds, block) > 0).count();
            let expected = KvUsage { blocks, used, cached: kept.len() };
            prop_assert_eq!(pool.usage(), expected);
            for block in 0..10 {
                prop_assert_eq!(pool.holders(block), holders(&holds, block));
            }
        }
        for hold in holds.drain(..) {
            pool.release(hold, false);
        }
        while let Some(block) = pool.evict_oldest() {
            prop_assert_eq!(Some(block), kept.pop_front());
        }
        prop_assert_eq!(pool.usage().free(), blocks);
        let all = std::iter::from_fn(|| pool.take()).map(|hold| {
            let block = hold.index();
            holds.push(hold);
            block
        });
        let mut all: Vec<u32> = all.collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..blocks as u32).collect::<Vec<_>>());
    }
}

#[test]
fn a_hold_on_another_pools_block_changes_nothing() {
    let (mut pool, mut other) = (BlockPool::new(1), BlockPool::new(3));
    let foreign: Vec<BlockRef> = std::iter::from_fn(|| other.take()).collect();
    for hold in foreign {
        pool.release(hold, true);
    }
    assert_eq!(pool.usage(), KvUsage { blocks: 1, used: 0, cached: 0 });
    assert_eq!(pool.take().map(|hold| hold.index()), Some(0));
    assert!(pool.take().is_none());
}
