//! Rows as language models give them: likely tokens by a power law, at an entropy of one's choice.

use lightglm_testkit::SplitMix;

/// A number of a normal distribution, near enough.
pub(crate) fn normal(random: &mut SplitMix) -> f32 {
    // Twelve uniform numbers have variance 4 together.
    (0..12).map(|_| random.next_f32()).sum::<f32>() / 2.0
}

/// Teacher's logits `[vocab_size]` whose softmax has this entropy in nats: a power law over tokens in an order of
/// chance, each moved by half a nat or so.
pub(crate) fn zipf(vocab_size: usize, entropy: f64, random: &mut SplitMix) -> Vec<f32> {
    let mut ids: Vec<usize> = (0..vocab_size).collect();
    for at in (1..vocab_size).rev() {
        ids.swap(at, random.below(at + 1));
    }
    let mut logits = vec![0.0; vocab_size];
    for (rank, id) in ids.into_iter().enumerate() {
        logits[id] = -((rank + 1) as f32).ln() + 0.5 * normal(random);
    }
    let (mut low, mut high) = (0.05_f64, 50.0_f64);
    for _ in 0..14 {
        let middle = (low * high).sqrt();
        match entropy_of(&scaled(&logits, middle)) > entropy {
            true => low = middle,
            false => high = middle,
        }
    }
    scaled(&logits, high)
}

/// A student that has not quite learnt it: less sure, and every logit moved by about `off`.
pub(crate) fn student(teacher: &[f32], off: f32, random: &mut SplitMix) -> Vec<f32> {
    teacher.iter().map(|logit| 0.95 * logit + off * normal(random)).collect()
}

fn scaled(logits: &[f32], by: f64) -> Vec<f32> {
    logits.iter().map(|logit| (f64::from(*logit) * by) as f32).collect()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|it| (f64::from(*it) - largest).exp()).sum();
    logits.iter().map(|it| f64::from(*it) - largest - sum.ln()).collect()
}

fn entropy_of(logits: &[f32]) -> f64 {
    log_softmax(logits).into_iter().map(|log| -log.exp() * log).sum()
}

/// `KL(teacher || student)` in f64.
pub(crate) fn forward_kl(teacher: &[f32], student: &[f32]) -> f64 {
    let pairs = log_softmax(teacher).into_iter().zip(log_softmax(student));
    pairs.filter(|(p, _)| p.is_finite()).map(|(p, q)| p.exp() * (p - q)).sum()
}
