//! `Segments`: stretches of columns with one scale of weights and one of activations.

use crate::packed::ActivationBits;

/// Columns of a segment at most, so that sums of `255 * 128` each fit 32 bits.
const LONGEST: usize = 32768;

/// Parts of a row at most; see [`Cut::part`].
const PARTS: usize = 4;

/// Groups of a row: `k` columns, of which so many share a scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) k: usize,
    /// Columns that share a weight's scale; at least 1.
    pub(super) weight: usize,
    /// Columns that share an activation's scale; at least 1.
    pub(super) activation: usize,
}

/// Columns `start..end`, the group of weights and the group of activations they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) weight: usize,
    pub(super) activation: usize,
}

/// The segments of a row, from left to right.
pub(super) struct Segments {
    cut: Cut,
    start: usize,
    weight: usize,
    activation: usize,
    /// Where the group of weights ends.
    weight_end: usize,
    /// Where the group of activations ends.
    activation_end: usize,
}

impl Cut {
    /// The segments; all of them start at a multiple of eight columns.
    #[inline(always)]
    pub(super) fn segments(self) -> Segments {
        Segments {
            cut: self,
            start: 0,
            weight: 0,
            activation: 0,
            weight_end: self.weight,
            activation_end: self.activation,
        }
    }

    /// Columns of a part: whole groups, about a fourth of the row. Each part has a sum of its own, so
    /// that threads can share a row's columns without a say in its result.
    pub(super) fn part(self) -> usize {
        let unit = match self.activation >= self.k {
            true => self.weight,
            false => self.weight.max(self.activation),
        };
        (self.k.div_ceil(unit).div_ceil(PARTS) * unit).max(1)
    }

    /// How many parts there are.
    pub(super) fn parts(self) -> usize {
        self.k.div_ceil(self.part())
    }

    /// How many segments are before part `index`; all of them before the end of the last part.
    pub(super) fn first_of(self, index: usize) -> usize {
        let start = index * self.part();
        if start >= self.k {
            return self.count();
        }
        let shorter = self.weight.min(self.activation).min(self.k).max(1);
        start / shorter * shorter.div_ceil(LONGEST)
    }

    /// The segments of part `index`.
    #[inline(always)]
    pub(super) fn segments_of(self, index: usize) -> Segments {
        let part = self.part();
        let start = index * part;
        let (weight, activation) = (start / self.weight, start / self.activation);
        Segments {
            cut: Self { k: self.k.min(start + part), ..self },
            start,
            weight,
            activation,
            weight_end: (weight + 1) * self.weight,
            activation_end: (activation + 1) * self.activation,
        }
    }

    /// Whether the sums of a segment's products of codes fit 32 bits where codes of activations have 16
    /// bits and those of weights are at most `largest` in size. The sums of halves of these codes are
    /// less than `2^24` then, so that f32 holds them exactly.
    pub(super) fn sums_fit(self, largest: i32) -> bool {
        let columns = self.weight.min(self.activation).min(self.k).min(LONGEST);
        let most = i64::from(ActivationBits::Sixteen.largest()) * i64::from(largest);
        columns as i64 * most <= i64::from(i32::MAX)
    }

    /// Whether `segment` is the last one of its group of weights.
    #[inline(always)]
    pub(super) fn ends_group(&self, segment: Segment) -> bool {
        segment.end == self.k || segment.end == (segment.weight + 1) * self.weight
    }

    /// How many there are. One of the groups divides the other, or is the whole row.
    pub(super) fn count(self) -> usize {
        let shorter = self.weight.min(self.activation).min(self.k);
        if shorter == 0 {
            return 0;
        }
        let rest = self.k % shorter;
        self.k / shorter * shorter.div_ceil(LONGEST) + rest.div_ceil(LONGEST)
    }
}

impl Iterator for Segments {
    type Item = Segment;

    #[inline(always)]
    fn next(&mut self) -> Option<Segment> {
        let start = self.start;
        if start >= self.cut.k {
            return None;
        }
        let groups = self.weight_end.min(self.activation_end);
        let end = self.cut.k.min(groups).min(start + LONGEST);
        let segment = Segment { start, end, weight: self.weight, activation: self.activation };
        if end == self.weight_end {
            self.weight += 1;
            self.weight_end += self.cut.weight;
        }
        if end == self.activation_end {
            self.activation += 1;
            self.activation_end += self.cut.activation;
        }
        self.start = end;
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cut, LONGEST};

    #[test]
    fn parts_are_whole_groups_and_make_up_the_row() {
        for k in [1, 8, 60, 64, 65, 1000, 4096, 13696, 3 * LONGEST + 5] {
            for weight in [8, 32, 64, 128, usize::MAX] {
                for activation in [8, 32, 64, 256, usize::MAX] {
                    let cut = Cut { k, weight: weight.min(k), activation: activation.min(k) };
                    let all: Vec<_> = cut.segments().collect();
                    assert_eq!(all.len(), cut.count());
                    assert!(cut.parts() <= 4);
                    let mut number = 0;
                    for part in 0..cut.parts() {
                        assert_eq!(cut.first_of(part), number, "{cut:?}");
                        for segment in cut.segments_of(part) {
                            assert_eq!(segment, all[number], "{cut:?}");
                            number += 1;
                        }
                        let nested = cut.weight > cut.activation;
                        assert!(!nested || cut.ends_group(all[number - 1]), "{cut:?}");
                    }
                    assert_eq!(number, all.len(), "{cut:?}");
                    assert_eq!(cut.first_of(cut.parts()), number, "{cut:?}");
                }
            }
        }
    }
}
