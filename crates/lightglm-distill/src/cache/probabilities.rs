//! A row's probabilities, and draws from its tail. Shapes: `V` vocab_size.

use lightglm_core::{exp_nonpositive, max_of};

/// A row's softmax before it is divided by its sum.
#[derive(Debug)]
pub(super) struct Probabilities {
    /// `[V]`, 1 for the largest.
    weights: Vec<f32>,
    /// Of all weights.
    pub(super) sum: f64,
}

/// What was drawn from a tail.
#[derive(Debug)]
pub(super) struct Drawn {
    /// They ascend; a token drawn twice stands there twice.
    pub(super) ids: Vec<u32>,
    /// Mean of the logarithms of their probabilities.
    pub(super) mean_log_prob: f32,
}

impl Probabilities {
    /// Of finite logits, minus infinity aside.
    pub(super) fn of(logits: &[f32], temperature: f64) -> Self {
        let (largest, scale) = (max_of(logits), (1.0 / temperature) as f32);
        let weights: Vec<f32> =
            logits.iter().map(|logit| exp_nonpositive((logit - largest) * scale)).collect();
        let sum = weights.iter().copied().map(f64::from).sum();
        Self { weights, sum }
    }

    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    pub(super) fn weight(&self, id: u32) -> f64 {
        f64::from(self.weights[id as usize])
    }

    /// At most `most` tokens, the likeliest first (of equals the first), none of them below `least` of the largest.
    pub(super) fn likeliest(&self, most: usize, least: f32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.weights.len() as u32).collect();
        let weight = |id: &u32| self.weights[*id as usize];
        let likelier = |a: &u32, b: &u32| weight(b).total_cmp(&weight(a)).then(a.cmp(b));
        if most == 0 {
            return Vec::new();
        }
        if most < order.len() {
            order.select_nth_unstable_by(most - 1, likelier);
            order.truncate(most);
        }
        order.retain(|id| weight(id) >= least);
        order.sort_unstable_by(likelier);
        order
    }

    /// All weights but those of `exact`, which ascends.
    pub(super) fn sum_without(&self, exact: &[u32]) -> f64 {
        self.others(exact).map(|(_, weight)| f64::from(weight)).sum()
    }

    fn others(&self, exact: &[u32]) -> impl Iterator<Item = (usize, f32)> {
        let mut exact = exact.iter().peekable();
        let all = self.weights.iter().copied().enumerate();
        all.filter(move |(id, _)| exact.next_if(|next| **next as usize == *id).is_none())
    }

    /// About `count` tokens of all but `exact`, which ascends: points at equal distances, `start` (0 to 1) of a
    /// distance behind the beginning, on the tail laid out by falling probability. So each token is drawn as often as
    /// its probability says on average, and likely and unlikely ones evenly every time.
    ///
    /// Source: Madow 1949, "On the Theory of Systematic Sampling, II".
    pub(super) fn draw(&self, exact: &[u32], count: usize, start: f64) -> Option<Drawn> {
        // Eight classes for each power of two, the first the likeliest: what a positive f32 begins with ascends.
        let class = |weight: f32| (0x7ff - (weight.to_bits() >> 20)) as usize;
        let mut begins = vec![0.0_f64; 0x801];
        for (_, weight) in self.others(exact) {
            begins[class(weight) + 1] += f64::from(weight);
        }
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        let distance = begins[0x800] / count as f64;
        if distance <= 0.0 || count == 0 {
            return None;
        }
        let points = |place: f64| (place / distance - start).ceil().max(0.0) as usize;
        let (mut ids, mut logs) = (Vec::with_capacity(count), 0.0);
        for (id, weight) in self.others(exact).filter(|(_, weight)| *weight > 0.0) {
            let begin = &mut begins[class(weight)];
            let before = points(*begin);
            *begin += f64::from(weight);
            for _ in before..points(*begin) {
                ids.push(id as u32);
                logs += (f64::from(weight) / self.sum).ln();
            }
        }
        let mean_log_prob = (logs / ids.len() as f64) as f32;
        (!ids.is_empty()).then_some(Drawn { ids, mean_log_prob })
    }
}
