//! A divergence of one row, and its derivative. Shapes: `V` vocab_size.

use lightglm_core::{exp_nonpositive, max_of};

use crate::divergence::{Outcome, Term, Terms, weighted_log_ratio};
use crate::teacher_rows::TopRow;

/// What a teacher says of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row<'a> {
    /// Its logits, `[V]`.
    Logits(&'a [f32]),
    /// The likeliest tokens, at the temperature that is asked for.
    Top(&'a TopRow),
}

/// The logarithm of a row's softmax.
#[derive(Clone, Copy, Debug)]
struct LogSoftmax {
    inverse_temperature: f32,
    largest: f32,
    log_sum: f32,
}

impl LogSoftmax {
    fn of(logits: &[f32], temperature: f64) -> Self {
        let mut row = Self {
            inverse_temperature: (1.0 / temperature) as f32,
            largest: max_of(logits),
            log_sum: 0.0,
        };
        let [sum] = sums(logits.len(), |v| [exp_nonpositive(row.shifted(logits[v]))]);
        row.log_sum = sum.ln() as f32;
        row
    }

    /// Scaled, and below the largest.
    #[inline]
    fn shifted(&self, logit: f32) -> f32 {
        (logit - self.largest) * self.inverse_temperature
    }

    #[inline]
    fn log(&self, logit: f32) -> f32 {
        self.shifted(logit) - self.log_sum
    }
}

#[inline]
fn outcome(log_p: f32, log_q: f32) -> Outcome {
    Outcome { p: exp_nonpositive(log_p), q: exp_nonpositive(log_q), log_p, log_q }
}

/// What both the loss and its derivative need of a row.
struct Scanned {
    student: LogSoftmax,
    loss: f64,
    /// Of all outcomes.
    flow: f64,
}

fn scan_logits<T: Terms>(
    terms: &T,
    teacher: &[f32],
    logits: &[f32],
    temperature: f64,
) -> (LogSoftmax, Scanned) {
    let (wanted, student) =
        (LogSoftmax::of(teacher, temperature), LogSoftmax::of(logits, temperature));
    let [loss, flow] = sums(logits.len(), |v| {
        let Term { value, flow } =
            terms.term(outcome(wanted.log(teacher[v]), student.log(logits[v])));
        [value, flow]
    });
    (wanted, Scanned { student, loss, flow })
}

/// The same over the likeliest tokens and all others as one outcome; with that outcome's flow, and the logarithm of the
/// others' sum in the student, before its own softmax.
fn scan_top<T: Terms>(
    terms: &T,
    teacher: &TopRow,
    logits: &[f32],
    temperature: f64,
) -> (Scanned, f32, f32) {
    let student = LogSoftmax::of(logits, temperature);
    let (mut loss, mut flow, mut tail_sum, mut from) = (0.0, 0.0, 0.0, 0);
    let mut count = |term: Term| {
        loss += f64::from(term.value);
        flow += f64::from(term.flow);
    };
    let sum_of = |range: std::ops::Range<usize>| {
        let part = &logits[range];
        let [sum] = sums(part.len(), |v| [exp_nonpositive(student.shifted(part[v]))]);
        sum
    };
    for (&id, &log_p) in teacher.ids().iter().zip(teacher.log_probs()) {
        let id = id as usize;
        tail_sum += sum_of(from..id);
        from = id + 1;
        count(terms.term(outcome(log_p, student.log(logits[id]))));
    }
    tail_sum += sum_of(from..logits.len());
    let log_tail_sum = tail_sum.ln() as f32;
    let mut tail_flow = 0.0;
    // Without others there is no such outcome.
    if teacher.ids().len() < logits.len() {
        let term = terms.term(outcome(teacher.log_tail(), log_tail_sum - student.log_sum));
        tail_flow = term.flow;
        count(term);
    }
    (Scanned { student, loss, flow }, tail_flow, log_tail_sum)
}

/// What the tokens drawn from the others add to [`scan_top`], where the divergence can make use of them; the flow is
/// that within the rest, of the student's shares of it.
fn drawn<'a, T: Terms>(
    teacher: &'a TopRow,
    student: LogSoftmax,
    log_tail_sum: f32,
    logits: &'a [f32],
) -> impl Iterator<Item = (usize, Term)> + 'a {
    // A student without a rest is infinitely far already.
    let sample = teacher.sample().filter(|_| T::HAS_CHAIN_RULE && log_tail_sum.is_finite());
    let mass = exp_nonpositive(teacher.log_tail());
    sample.into_iter().flat_map(move |sample| {
        let shares = sample.ids().iter().zip(sample.log_shares()).zip(sample.weights());
        shares.map(move |((&id, &log_p), &weight)| {
            let log_q = student.shifted(logits[id as usize]) - log_tail_sum;
            let Outcome { p, q, .. } = outcome(log_p, log_q);
            let value = mass * weight * (weighted_log_ratio(p, log_p, log_q) + q - p);
            (id as usize, Term { value, flow: mass * weight * (q - p) })
        })
    })
}

/// The divergence of a row in nats: `logits: [V]`, the student's.
pub(crate) fn row_loss<T: Terms>(
    terms: &T,
    teacher: Row<'_>,
    logits: &[f32],
    temperature: f64,
) -> f32 {
    let scanned = match teacher {
        Row::Logits(teacher) => scan_logits(terms, teacher, logits, temperature).1,
        Row::Top(top) => {
            let (mut scanned, _, log_tail_sum) = scan_top(terms, top, logits, temperature);
            let within = drawn::<T>(top, scanned.student, log_tail_sum, logits);
            scanned.loss += within.map(|(_, term)| f64::from(term.value)).sum::<f64>();
            scanned
        }
    };
    scanned.loss as f32
}

/// Writes `scale` times the divergence's derivative with respect to `logits: [V]`.
pub(crate) fn row_gradient<T: Terms>(
    terms: &T,
    teacher: Row<'_>,
    logits: &[f32],
    temperature: f64,
    (scale, gradient): (f32, &mut [f32]),
) {
    let scale = (f64::from(scale) / temperature) as f32;
    match teacher {
        Row::Logits(teacher) => {
            let (wanted, Scanned { student, flow: all, .. }) =
                scan_logits(terms, teacher, logits, temperature);
            let all = all as f32;
            for ((out, &logit), &teacher) in gradient.iter_mut().zip(logits).zip(teacher) {
                let outcome = outcome(wanted.log(teacher), student.log(logit));
                *out = scale * (terms.term(outcome).flow - outcome.q * all);
            }
        }
        Row::Top(top) => {
            let (Scanned { student, flow: all, .. }, tail_flow, log_tail_sum) =
                scan_top(terms, top, logits, temperature);
            let all = all as f32;
            let within = || drawn::<T>(top, student, log_tail_sum, logits);
            let within_flow: f64 = within().map(|(_, term)| f64::from(term.flow)).sum();
            let tail_flow = (f64::from(tail_flow) - within_flow) as f32;
            // The others share what their outcome gets as the student shares its mass among them.
            for (out, &logit) in gradient.iter_mut().zip(logits) {
                let share = exp_nonpositive(student.shifted(logit) - log_tail_sum);
                *out = scale * (share * tail_flow - exp_nonpositive(student.log(logit)) * all);
            }
            for (id, term) in within() {
                gradient[id] += scale * term.flow;
            }
            for (&id, &log_p) in top.ids().iter().zip(top.log_probs()) {
                let outcome = outcome(log_p, student.log(logits[id as usize]));
                gradient[id as usize] = scale * (terms.term(outcome).flow - outcome.q * all);
            }
        }
    }
}

/// Sums of `of` over `0..len`, in an order of their own: lanes of a block in f32, blocks in f64.
fn sums<const N: usize>(len: usize, of: impl Fn(usize) -> [f32; N]) -> [f64; N] {
    const LANES: usize = 8;
    const BLOCK: usize = 1024;
    let mut all = [0.0; N];
    for begin in (0..len).step_by(BLOCK) {
        let end = (begin + BLOCK).min(len);
        let whole = begin + (end - begin) / LANES * LANES;
        let mut lanes = [[0.0_f32; LANES]; N];
        for from in (begin..whole).step_by(LANES) {
            for lane in 0..LANES {
                let parts = of(from + lane);
                for (sums, part) in lanes.iter_mut().zip(parts) {
                    sums[lane] += part;
                }
            }
        }
        for v in whole..end {
            for (sums, part) in lanes.iter_mut().zip(of(v)) {
                sums[0] += part;
            }
        }
        for (all, lanes) in all.iter_mut().zip(lanes) {
            *all += lanes.into_iter().map(f64::from).sum::<f64>();
        }
    }
    all
}
