//! Cholesky factorization in f64, by blocks of columns, rows in parallel.
//!
//! Shapes: `K` rows and columns.

use rayon::prelude::*;

/// Columns that are factored at a time.
const BLOCK: usize = 64;

/// The lower triangle `L` with `L L^T = a` for a symmetric positive definite `a: [k, k]`, of which
/// only the lower triangle is read; row-major, zeros above the diagonal. `None` where `a` is not
/// positive definite.
pub(crate) fn cholesky(mut a: Vec<f64>, k: usize) -> Option<Vec<f64>> {
    assert_eq!(a.len(), k * k, "a has K * K elements");
    for first in (0..k).step_by(BLOCK) {
        let last = (first + BLOCK).min(k);
        let (top, below) = a.split_at_mut(last * k);
        factor_diagonal(top, k, first, last)?;
        let top = &*top;
        below.par_chunks_mut(k).for_each(|row| {
            for j in first..last {
                let diagonal = &top[j * k + first..=j * k + j];
                let done = dot(&row[first..j], &diagonal[..j - first]);
                row[j] = (row[j] - done) / diagonal[j - first];
            }
        });
        let panel: Vec<f64> = below.chunks(k).flat_map(|row| &row[first..last]).copied().collect();
        let width = last - first;
        below.par_chunks_mut(k).enumerate().for_each(|(i, row)| {
            let (left, rest) = row.split_at_mut(last);
            let left = &left[first..];
            for (j, value) in rest.iter_mut().enumerate().take(i + 1) {
                *value -= dot(left, &panel[j * width..(j + 1) * width]);
            }
        });
    }
    for (i, row) in a.chunks_mut(k.max(1)).enumerate() {
        row[i + 1..].fill(0.0);
    }
    Some(a)
}

/// Factors the diagonal block of rows and columns `first..last` in place.
fn factor_diagonal(a: &mut [f64], k: usize, first: usize, last: usize) -> Option<()> {
    for i in first..last {
        let (above, row) = a.split_at_mut(i * k);
        for j in first..=i {
            if j < i {
                let other = &above[j * k..(j + 1) * k];
                row[j] = (row[j] - dot(&row[first..j], &other[first..j])) / other[j];
            } else {
                let square = row[i] - dot(&row[first..i], &row[first..i]);
                if !(square > 0.0 && square.is_finite()) {
                    return None;
                }
                row[i] = square.sqrt();
            }
        }
    }
    Some(())
}

/// Solves `L L^T x = b` in place, `b: [k]`.
pub(crate) fn solve(l: &[f64], k: usize, b: &mut [f64]) {
    for i in 0..k {
        b[i] = (b[i] - dot(&b[..i], &l[i * k..i * k + i])) / l[i * k + i];
    }
    for i in (0..k).rev() {
        let x = b[i] / l[i * k + i];
        b[i] = x;
        let row = &l[i * k..i * k + i];
        b[..i].iter_mut().zip(row).for_each(|(b, &l)| *b -= x * l);
    }
}

/// Eight partial sums, so that the compiler can use vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    let mut lanes = [0.0f64; 8];
    for (a, b) in a8.zip(b8) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_multiply_back_and_solve() {
        for k in [1, 3, 64, 65, 150] {
            let mut state = 7u64;
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f64 / f64::from(1 << 24) - 0.5
            };
            let x: Vec<f64> = (0..k * k).map(|_| next()).collect();
            let mut a = vec![0.0; k * k];
            for i in 0..k {
                for j in 0..k {
                    a[i * k + j] = (0..k).map(|t| x[t * k + i] * x[t * k + j]).sum();
                }
                a[i * k + i] += 0.1;
            }
            let l = cholesky(a.clone(), k).unwrap();
            for i in 0..k {
                for j in 0..k {
                    let back: f64 = (0..k).map(|t| l[i * k + t] * l[j * k + t]).sum();
                    assert!((back - a[i * k + j]).abs() < 1e-9, "{i} {j} of {k}");
                }
            }
            let b: Vec<f64> = (0..k).map(|_| next()).collect();
            let mut solution = b.clone();
            solve(&l, k, &mut solution);
            for i in 0..k {
                let back: f64 = (0..k).map(|j| a[i * k + j] * solution[j]).sum();
                assert!((back - b[i]).abs() < 1e-6, "{i} of {k}");
            }
        }
        assert_eq!(cholesky(vec![1.0, 0.0, 2.0, 1.0], 2), None);
        assert_eq!(cholesky(vec![f64::NAN], 1), None);
    }
}
