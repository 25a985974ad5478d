//! Means, standard errors and quantiles of per-token values.

/// Two-sided 95 % point of the normal distribution.
pub(crate) const Z_95: f64 = 1.959_963_984_540_054;

/// Mean and standard error of the mean of `values`, which are not empty.
///
/// ```text
/// mean = sum(x) / n        se = sqrt(sum((x - mean)^2) / (n - 1) / n)        (0 for n = 1)
/// ```
pub(crate) fn mean_and_standard_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

/// The `q`-quantile of ascending `sorted`, linearly interpolated (numpy's default method).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_error_of_known_values() {
        let (mean, error) = mean_and_standard_error(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(mean, 2.5);
        assert!((error - (5.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
        assert_eq!(mean_and_standard_error(&[7.0]), (7.0, 0.0));
    }

    #[test]
    fn quantiles_as_numpy() {
        let sorted = [0.0, 1.0, 2.0, 10.0];
        assert_eq!(quantile(&sorted, 0.5), 1.5);
        assert_eq!(quantile(&sorted, 0.0), 0.0);
        assert_eq!(quantile(&sorted, 1.0), 10.0);
        assert!((quantile(&sorted, 0.99) - 9.76).abs() < 1e-12);
        assert_eq!(quantile(&[3.0], 0.99), 3.0);
    }
}
