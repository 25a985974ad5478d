//! Which pages of the cache a decoded token attends to.
//!
//! Shapes: `P` blocks, `Kh` kv heads, `d` head_dim.

use lightglm_core::{KV_BLOCK, PageBudget};

use super::super::kv::{AttentionSpan, check_spans};
use super::super::scratch::Shared;
use super::super::team;
use super::AttentionShape;

/// Pages that one task scores.
const PAGES_PER_TASK: usize = 128;
/// Sums that run side by side.
const LANES: usize = 16;

/// Per span either nothing (exact attention) or a block table for each kv head.
#[derive(Clone, Debug, Default)]
pub struct PageSelection {
    pub(super) tables: Vec<Option<Vec<Vec<u32>>>>,
}

impl PageSelection {
    /// The block table of each kv head of span `span`, ascending in position; `None` where all
    /// pages are attended to.
    pub fn of_span(&self, span: usize) -> Option<&[Vec<u32>]> {
        self.tables.get(span)?.as_deref()
    }
}

/// Takes the keys `k: [T, Kh * d]` of `spans` into `bounds: [P, Kh, 2, d]`.
///
/// # Panics
/// Where lengths contradict each other or a block table is too short or out of the pool.
pub fn extend_bounds(
    k: &[f32],
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    bounds: &mut [f32],
) {
    let AttentionShape { kv_heads, head_dim: d, .. } = shape;
    for span in spans {
        for i in 0..span.rows {
            let position = span.past + i;
            let block = span.block_table[position / KV_BLOCK] as usize;
            for head in 0..kv_heads {
                let key = &k[((span.first_row + i) * kv_heads + head) * d..][..d];
                let page = &mut bounds[(block * kv_heads + head) * 2 * d..][..2 * d];
                let (least, most) = page.split_at_mut(d);
                if position.is_multiple_of(KV_BLOCK) {
                    least.copy_from_slice(key);
                    most.copy_from_slice(key);
                } else {
                    for ((least, most), &x) in least.iter_mut().zip(most).zip(key) {
                        *least = least.min(x);
                        *most = most.max(x);
                    }
                }
            }
        }
    }
}

/// The pages that each span of one row attends to, by `bounds: [P, Kh, 2, d]`.
///
/// # Panics
/// As [`super::attention`].
pub fn select_pages(
    q: &[f32],
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    bounds: &[f32],
    budget: PageBudget,
) -> PageSelection {
    let AttentionShape { heads, kv_heads, head_dim: d } = shape;
    if heads * d == 0 {
        return PageSelection::default();
    }
    check_spans(spans, q.len() / (heads * d), bounds.len() / (kv_heads * 2 * d));
    let tables = spans.iter().map(|span| {
        budget.selects(span.rows, span.past).then(|| {
            let of_head = |head| select(q, shape, span, bounds, budget.pages(), head);
            (0..kv_heads).map(of_head).collect()
        })
    });
    PageSelection { tables: tables.collect() }
}

/// The blocks that kv head `head` of a span attends to.
fn select(
    q: &[f32],
    shape: AttentionShape,
    span: &AttentionSpan<'_>,
    bounds: &[f32],
    pages: usize,
    head: usize,
) -> Vec<u32> {
    let AttentionShape { heads, kv_heads, head_dim: d } = shape;
    let group = heads / kv_heads;
    let queries = &q[(span.first_row * heads + head * group) * d..][..group * d];
    // The negative parts meet the minimums, the positive parts the maximums.
    let mut weights = vec![0.0f32; 2 * d];
    for query in queries.chunks_exact(d) {
        for (i, &x) in query.iter().enumerate() {
            weights[i] += x.min(0.0);
            weights[d + i] += x.max(0.0);
        }
    }
    let last = span.past / KV_BLOCK;
    let mut scores = vec![0.0f32; last];
    let shared = Shared(scores.as_mut_ptr());
    team::parallel_for(last.div_ceil(PAGES_PER_TASK), |task| {
        for page in task * PAGES_PER_TASK..last.min((task + 1) * PAGES_PER_TASK) {
            let block = span.block_table[page] as usize;
            let bounds = &bounds[(block * kv_heads + head) * 2 * d..][..2 * d];
            // SAFETY: `page` is below the number of scores, and each is written by one task.
            unsafe { shared.get().add(page).write(score(&weights, bounds)) };
        }
    });
    let mut order: Vec<u32> = (0..last as u32).collect();
    let kept = pages - 1;
    if kept > 0 && kept < last {
        order.select_nth_unstable_by(kept - 1, |&a, &b| {
            scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b))
        });
    }
    order.truncate(kept);
    order.sort_unstable();
    order.push(last as u32);
    order.into_iter().map(|page| span.block_table[page as usize]).collect()
}

/// A dot product with sixteen running sums.
fn score(weights: &[f32], bounds: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a, b) = (weights.chunks_exact(LANES), bounds.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum::<f32>();
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}
