//! Spoken digits: a small model that hears, from nothing. The program is `spoken_digits`.

pub mod data;
pub mod floor;
pub mod model;
pub mod train;

/// The share `right` of `all`, and its 95 % interval.
///
/// Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
pub fn interval(right: usize, all: usize) -> (f64, f64, f64) {
    const Z: f64 = 1.96;
    let n = all.max(1) as f64;
    let share = right as f64 / n;
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    (share, middle - half, middle + half)
}

#[cfg(test)]
mod tests {
    #[test]
    fn intervals_of_wilson() {
        let (share, low, high) = super::interval(8, 10);
        assert!(
            (share - 0.8).abs() < 1e-12
                && (low - 0.4902).abs() < 1e-3
                && (high - 0.9433).abs() < 1e-3
        );
        assert_eq!(super::interval(0, 0).0, 0.0);
    }
}
