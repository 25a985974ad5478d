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

    /// All but `exact`, which ascends; `None` where nothing is left for them.
    pub(super) fn tail<'a>(&'a self, exact: &'a [u32], mass: f64) -> Option<Tail<'a>> {
        if mass <= 0.0 {
            return None;
        }
        let least = least_size(self.len() - exact.len());
        let mut begins = vec![0.0_f64; CLASSES + 1];
        let mut largest = 0.0_f32;
        for (_, weight) in self.others(exact) {
            begins[class(weight) + 1] += f64::from(weight) / mass + least;
            largest = largest.max(weight);
        }
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        Some(Tail { row: self, exact, mass, least, largest: f64::from(largest) / mass, begins })
    }
}

/// What is added to the share of each of so many tokens when they are drawn: a sixteenth of the draws is even among
/// all, so that none stands for a great many, on which a student may put more than the teacher.
fn least_size(tokens: usize) -> f64 {
    1.0 / 16.0 / tokens as f64
}

/// How many tokens one with this share of the tail stands for, if of `tokens` so many are drawn.
pub(super) fn draw_weight(share: f64, tokens: usize, draws: usize) -> f64 {
    let least = least_size(tokens);
    (1.0 + least * tokens as f64) / (draws as f64 * (share + least))
}

/// Classes of weights, eight for each power of two.
const CLASSES: usize = 0x800;

/// The class of a weight, the first the likeliest: what a positive f32 begins with ascends.
fn class(weight: f32) -> usize {
    CLASSES - 1 - (weight.to_bits() >> 20) as usize
}

/// All but some of a row's tokens, laid out by falling probability: class by class, and by id in each.
#[derive(Debug)]
pub(super) struct Tail<'a> {
    row: &'a Probabilities,
    exact: &'a [u32],
    /// Of all their weights.
    mass: f64,
    least: f64,
    /// The largest share.
    pub(super) largest: f64,
    /// Where each class begins, and where the last ends.
    begins: Vec<f64>,
}

impl Tail<'_> {
    /// `count` tokens (or one more or less, by rounding), which ascend: those at points of equal distances, the first `start` (0 to 1) of a distance
    /// behind the beginning. So each token is drawn as often on average over starts as its length says, and likely
    /// and unlikely ones evenly every time. One that is longer than a distance may be there twice.
    ///
    /// Source: Madow 1949, "On the Theory of Systematic Sampling, II".
    pub(super) fn draw(&self, count: usize, start: f64) -> Vec<u32> {
        let per_length = count as f64 / self.begins[CLASSES];
        let points = |place: f64| (place * per_length + 1.0 - start) as usize;
        let mut begins = self.begins.clone();
        let mut ids = Vec::with_capacity(count + 1);
        for (id, weight) in self.row.others(self.exact) {
            let begin = &mut begins[class(weight)];
            let before = points(*begin);
            *begin += f64::from(weight) / self.mass + self.least;
            ids.extend((before..points(*begin)).map(|_| id as u32));
        }
        ids
    }
}
