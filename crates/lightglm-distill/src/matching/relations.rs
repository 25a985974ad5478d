//! `Relations`: how far what attention relates in a student is from what it relates in a teacher.
//!
//! Shapes: `T` tokens, `W` the width of queries, keys or values of all heads, `A` relation heads, `w = W / A`.

use lightglm_core::{exp_nonpositive, max_of};

use crate::error::DistillError;
use crate::matching::states::StateRows;

/// Whose self-relation is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Queries with queries.
    Queries,
    /// Keys with keys.
    Keys,
    /// Values with values.
    Values,
}

/// Self-relations of a model's queries, keys or values, in a number of relation heads of its own.
///
/// All heads lie side by side, `[T, W]`, and are cut into `A` relation heads anew; so neither the number of heads of
/// student and teacher nor their widths have to be equal, and keys and values of grouped-query attention need no mapping
/// to query heads: `A` has to divide both widths, and nothing is projected.
///
/// ```text
/// r[a, i, j] = softmax over j <= i of (x[i, a] x[j, a] / sqrt(w)),   x[i, a]: [w]
/// loss[i]    = 1/A sum over a of KL(r_teacher[a, i] || r_student[a, i])
/// ```
///
/// A token is related to those that it attends to: those of its span, up to itself. (The papers' models look both ways.)
///
/// Nothing of the size `[T, T]` is ever made: relations are computed row by row, forward and backward, in `2 T` numbers
/// for each thread.
///
/// Source: Wang et al. 2021, "MiniLMv2: Multi-Head Self-Attention Relation Distillation", equations 5 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relations {
    /// `A`.
    pub heads: usize,
}

impl Relations {
    /// Refuses a width that cannot be cut into the heads.
    ///
    /// # Errors
    /// [`DistillError::RelationHeads`].
    pub fn check(self, width: usize) -> Result<(), DistillError> {
        let heads = self.heads;
        match heads > 0 && width > 0 && width.is_multiple_of(heads) {
            true => Ok(()),
            false => Err(DistillError::RelationHeads { heads, width }),
        }
    }

    /// The loss of each token, `[T]`, of spans of these lengths, one after another.
    ///
    /// # Errors
    /// [`DistillError`] where the shapes differ, or the heads divide a width not.
    pub fn losses(
        self,
        teacher: &StateRows,
        student: &StateRows,
        spans: &[usize],
    ) -> Result<Vec<f64>, DistillError> {
        self.check_rows(teacher, student, spans)?;
        let mut losses = vec![0.0; student.len()];
        let weights = vec![1.0; student.len()];
        let spans = Spans { lengths: spans.to_vec(), weights };
        for a in 0..self.heads {
            let (teacher, student) = (self.head(teacher, a), self.head(student, a));
            spans.each_row(&teacher, &student, |row| {
                losses[row.token()] += row.divergence() / self.heads as f64;
            });
        }
        Ok(losses)
    }

    /// The derivative of the sum over all tokens of `weights[i] loss[i]` with respect to `student`: `[T, W]`.
    ///
    /// # Errors
    /// As [`Self::losses`], and [`DistillError::States`] where there are more or fewer weights than tokens.
    pub fn gradient(
        self,
        teacher: &StateRows,
        student: &StateRows,
        spans: &[usize],
        weights: &[f32],
    ) -> Result<Vec<f32>, DistillError> {
        self.check_rows(teacher, student, spans)?;
        student.check(weights.len())?;
        let spans = Spans { lengths: spans.to_vec(), weights: weights.to_vec() };
        let width = student.width();
        let (w, scale) = (width / self.heads, 1.0 / self.heads as f32);
        let mut gradient = vec![0.0; student.values().len()];
        for a in 0..self.heads {
            let mut of_head = vec![0.0; student.len() * w];
            let student = self.head(student, a);
            spans.write_gradient(&self.head(teacher, a), &student, scale, &mut of_head);
            for (out, of_head) in gradient.chunks_exact_mut(width).zip(of_head.chunks_exact(w)) {
                out[a * w..][..w].copy_from_slice(of_head);
            }
        }
        Ok(gradient)
    }

    fn check_rows(
        self,
        teacher: &StateRows,
        student: &StateRows,
        spans: &[usize],
    ) -> Result<(), DistillError> {
        self.check(teacher.width())?;
        self.check(student.width())?;
        teacher.check(student.len())?;
        student.check(spans.iter().sum())
    }

    /// One relation head, `[T, w]`, of states that lie token after token.
    pub(super) fn head(self, states: &StateRows, a: usize) -> Vec<f32> {
        let w = states.width() / self.heads;
        let rows = states.values().chunks_exact(states.width());
        rows.flat_map(|row| &row[a * w..][..w]).copied().collect()
    }
}

/// Which rows of a packed batch are related, and what each counts.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    /// Of the spans, one after another.
    pub(super) lengths: Vec<usize>,
    /// `[T]`.
    pub(super) weights: Vec<f32>,
}

impl Spans {
    /// The weighted sum over one head's rows: `teacher: [T, w_t]`, `student: [T, w]`.
    pub(super) fn loss(&self, teacher: &[f32], student: &[f32]) -> f64 {
        let mut sum = 0.0;
        self.each_row(teacher, student, |row| sum += f64::from(row.weight) * row.divergence());
        sum
    }

    /// Writes `scale` times the derivative of [`Self::loss`] to `gradient: [T, w]`.
    ///
    /// ```text
    /// dloss / dz[i, j] = weight[i] (r_student[i, j] - r_teacher[i, j]),   z = x x^T / sqrt(w)
    /// dloss / dx       = (dz + dz^T) x / sqrt(w)
    /// ```
    pub(super) fn write_gradient(
        &self,
        teacher: &[f32],
        student: &[f32],
        scale: f32,
        gradient: &mut [f32],
    ) {
        gradient.fill(0.0);
        let w = student.len() / self.weights.len().max(1);
        let scale = scale / (w as f32).sqrt();
        let mut own = vec![0.0; w];
        self.each_row(teacher, student, |row| {
            own.fill(0.0);
            let x = &student[row.token() * w..][..w];
            for (j, (&log_p, &log_q)) in row.teacher.iter().zip(row.student).enumerate() {
                let dz = (exp_nonpositive(log_q) - exp_nonpositive(log_p)) * row.weight * scale;
                let at = (row.first + j) * w;
                add_scaled(&mut own, dz, &student[at..][..w]);
                add_scaled(&mut gradient[at..][..w], dz, x);
            }
            add_scaled(&mut gradient[row.token() * w..][..w], 1.0, &own);
        });
    }

    /// Each row that counts: the logarithms of both models' relations.
    fn each_row(&self, teacher: &[f32], student: &[f32], mut each: impl FnMut(Row<'_>)) {
        let tokens = self.weights.len().max(1);
        let (teacher_width, student_width) = (teacher.len() / tokens, student.len() / tokens);
        let (mut log_p, mut log_q) = (Vec::new(), Vec::new());
        let mut first = 0;
        for &length in &self.lengths {
            let of_teacher = &teacher[first * teacher_width..][..length * teacher_width];
            let of_student = &student[first * student_width..][..length * student_width];
            for i in 0..length {
                let weight = self.weights[first + i];
                if weight == 0.0 {
                    continue;
                }
                log_relations(of_teacher, teacher_width, i, &mut log_p);
                log_relations(of_student, student_width, i, &mut log_q);
                each(Row { first, weight, teacher: &log_p, student: &log_q });
            }
            first += length;
        }
    }
}

/// What a token is related to, `[i + 1]` for the span's token `i`.
struct Row<'a> {
    /// The span's first token.
    first: usize,
    weight: f32,
    teacher: &'a [f32],
    student: &'a [f32],
}

impl Row<'_> {
    fn token(&self) -> usize {
        self.first + self.teacher.len() - 1
    }

    fn divergence(&self) -> f64 {
        let terms = self.teacher.iter().zip(self.student);
        terms.map(|(&p, &q)| f64::from(exp_nonpositive(p)) * (f64::from(p) - f64::from(q))).sum()
    }
}

/// The logarithms of the relations of row `i` of `x: [i + 1 and more, w]`, to `out: [i + 1]`.
fn log_relations(x: &[f32], w: usize, i: usize, out: &mut Vec<f32>) {
    let scale = 1.0 / (w as f32).sqrt();
    let own = &x[i * w..][..w];
    out.clear();
    out.extend(x[..(i + 1) * w].chunks_exact(w).map(|other| dot(own, other) * scale));
    let largest = max_of(out);
    let sum: f64 = out.iter().map(|z| f64::from(exp_nonpositive(z - largest))).sum();
    let log_sum = sum.ln() as f32;
    for z in out {
        *z = *z - largest - log_sum;
    }
}

/// In lanes, which the compiler makes vectors of.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    lanes.into_iter().chain(rest).sum()
}

fn add_scaled(sums: &mut [f32], factor: f32, x: &[f32]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += factor * x;
    }
}
