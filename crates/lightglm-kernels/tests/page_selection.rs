//! Which pages a decoded token attends to, against brute force.

use lightglm_core::{KV_BLOCK, PageBudget};
use lightglm_kernels::cpu::{extend_bounds, select_pages, team};
use lightglm_kernels::{AttentionShape, AttentionSpan};
use proptest::prelude::*;

/// Numbers between -1 and 1.
fn noise(len: usize, mut seed: u64) -> Vec<f32> {
    let next = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

struct Case {
    shape: AttentionShape,
    /// Keys of all positions, `[positions, G d]`, the last of which is the query's own.
    keys: Vec<f32>,
    q: Vec<f32>,
    table: Vec<u32>,
    past: usize,
}

impl Case {
    fn new(positions: usize, kv_heads: usize, group: usize, head_dim: usize, seed: u64) -> Self {
        let shape = AttentionShape { heads: kv_heads * group, kv_heads, head_dim };
        let blocks = positions.div_ceil(KV_BLOCK) as u32;
        Self {
            shape,
            keys: noise(positions * kv_heads * head_dim, seed),
            q: noise(shape.heads * head_dim, !seed),
            // Backwards, so that a block is not its own page.
            table: (0..blocks).rev().collect(),
            past: positions - 1,
        }
    }

    fn span(&self) -> AttentionSpan<'_> {
        AttentionSpan { first_row: 0, rows: 1, past: self.past, block_table: &self.table }
    }

    /// Bounds of all keys, appended in pieces of `step` positions.
    fn bounds(&self, step: usize) -> Vec<f32> {
        let width = self.shape.kv_heads * self.shape.head_dim;
        // What stood in the pool before must not matter.
        let mut bounds = vec![1e9; self.table.len() * 2 * width];
        for first in (0..=self.past).step_by(step) {
            let rows = step.min(self.past + 1 - first);
            let span = AttentionSpan { first_row: 0, rows, past: first, block_table: &self.table };
            let keys = &self.keys[first * width..(first + rows) * width];
            extend_bounds(keys, self.shape, &[span], &mut bounds);
        }
        bounds
    }

    fn key(&self, position: usize, kv_head: usize) -> &[f32] {
        let AttentionShape { kv_heads, head_dim, .. } = self.shape;
        &self.keys[(position * kv_heads + kv_head) * head_dim..][..head_dim]
    }

    fn query(&self, head: usize) -> &[f32] {
        &self.q[head * self.shape.head_dim..][..self.shape.head_dim]
    }

    fn group(&self, kv_head: usize) -> std::ops::Range<usize> {
        let group = self.shape.heads / self.shape.kv_heads;
        kv_head * group..(kv_head + 1) * group
    }

    fn page(&self, page: usize) -> std::ops::Range<usize> {
        page * KV_BLOCK..((page + 1) * KV_BLOCK).min(self.past + 1)
    }

    /// The page's score by its definition.
    fn score(&self, page: usize, kv_head: usize) -> f64 {
        let mut sum = 0.0;
        for channel in 0..self.shape.head_dim {
            let keys = self.page(page).map(|position| self.key(position, kv_head)[channel]);
            let least = keys.clone().fold(f32::INFINITY, f32::min);
            let most = keys.fold(f32::NEG_INFINITY, f32::max);
            for head in self.group(kv_head) {
                let q = f64::from(self.query(head)[channel]);
                sum += (q * f64::from(least)).max(q * f64::from(most));
            }
        }
        sum
    }
}

proptest! {
    #[test]
    fn the_best_pages_are_kept_and_the_newest_is_the_last(
        positions in 20usize..400,
        kv_heads in 1usize..4,
        group in 1usize..4,
        head_dim in 1usize..70,
        budget in 0usize..300,
        step in 1usize..40,
        seed: u64,
    ) {
        let case = Case::new(positions, kv_heads, group, head_dim, seed);
        let budget = PageBudget { positions: budget };
        let bounds = case.bounds(step);
        let selection = select_pages(&case.q, case.shape, &[case.span()], &bounds, budget);
        let last = case.past / KV_BLOCK;
        let Some(tables) = selection.of_span(0) else {
            prop_assert!(last < budget.pages());
            return Ok(());
        };
        prop_assert_eq!(tables.len(), kv_heads);
        for (kv_head, table) in tables.iter().enumerate() {
            // Back from blocks to pages.
            let pages: Vec<usize> = table.iter().map(|&block| last - block as usize).collect();
            prop_assert_eq!(pages.len(), budget.pages());
            prop_assert!(pages.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", pages);
            prop_assert_eq!(*pages.last().unwrap(), last);
            let kept = &pages[..pages.len() - 1];
            let left_out = (0..last).filter(|page| !kept.contains(page));
            let most = left_out.map(|page| case.score(page, kv_head)).fold(f64::MIN, f64::max);
            for &page in kept {
                let score = case.score(page, kv_head);
                prop_assert!(score >= most - 1e-4, "page {page} with {score} beside {most}");
            }
        }
    }

    #[test]
    fn a_score_bounds_what_every_key_of_the_page_gets(
        positions in 1usize..100,
        group in 1usize..4,
        head_dim in 1usize..70,
        seed: u64,
    ) {
        let case = Case::new(positions, 2, group, head_dim, seed);
        for page in 0..positions.div_ceil(KV_BLOCK) {
            for kv_head in 0..2 {
                let score = case.score(page, kv_head);
                for position in case.page(page) {
                    let key = case.key(position, kv_head);
                    let products = case.group(kv_head).flat_map(|head| {
                        case.query(head).iter().zip(key).map(|(q, k)| f64::from(q * k))
                    });
                    prop_assert!(products.sum::<f64>() <= score + 1e-4);
                }
            }
        }
    }
}

#[test]
fn pages_do_not_depend_on_threads_or_on_the_batch() {
    let case = Case::new(5000, 2, 8, 64, 3);
    let bounds = case.bounds(5000);
    let budget = PageBudget { positions: 512 };
    let alone = |threads| {
        team::set_num_threads(threads);
        let selection = select_pages(&case.q, case.shape, &[case.span()], &bounds, budget);
        selection.of_span(0).expect("selected").to_vec()
    };
    let expected = alone(1);
    for threads in [2, 3, 5] {
        assert_eq!(alone(threads), expected);
    }
    // A short sequence before it, whose pages are another's blocks.
    let q = [noise(case.q.len(), 9), case.q.clone()].concat();
    let short = AttentionSpan { first_row: 0, rows: 1, past: 40, block_table: &[7, 5, 3] };
    let long = AttentionSpan { first_row: 1, ..case.span() };
    let selection = select_pages(&q, case.shape, &[short, long], &bounds, budget);
    assert!(selection.of_span(0).is_none(), "within the budget");
    assert_eq!(selection.of_span(1).expect("selected"), expected);
}

#[test]
fn of_equal_pages_the_earlier_ones_are_kept() {
    let mut case = Case::new(160, 1, 1, 4, 1);
    case.keys.fill(0.5);
    let budget = PageBudget { positions: 48 };
    let selection = select_pages(&case.q, case.shape, &[case.span()], &case.bounds(7), budget);
    let last = case.past / KV_BLOCK;
    let pages: Vec<usize> =
        selection.of_span(0).unwrap()[0].iter().map(|&block| last - block as usize).collect();
    assert_eq!(pages, [0, 1, last]);
}
