//! Choosing among units by a number for each.

/// The `count` units with the largest scores, in ascending order; the first ones where several are equal.
pub fn strongest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut units: Vec<usize> = (0..scores.len()).collect();
    // A stable sort: equal ones stay in ascending order.
    units.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    units.truncate(count);
    units.sort_unstable();
    units
}
