//! Long recordings in pieces.

use std::ops::Range;

/// Seconds over which loudness is taken.
const STEP: f64 = 0.05;

/// See [`Pcm::pieces`](super::Pcm::pieces).
pub(super) fn pieces(samples: &[f32], rate: u32, seconds: f64) -> Vec<Range<usize>> {
    let most = ((seconds * f64::from(rate)) as usize).max(1);
    let step = ((STEP * f64::from(rate)) as usize).max(1);
    let mut pieces = Vec::new();
    let mut start = 0;
    while samples.len() - start > most {
        let from = start + most - most / 3;
        let end = quietest(&samples[from..start + most], step).map_or(start + most, |at| from + at);
        pieces.push(start..end);
        start = end;
    }
    pieces.push(start..samples.len());
    pieces
}

/// The middle of the quietest step, of equal ones the last; `None` where there is no whole step.
fn quietest(samples: &[f32], step: usize) -> Option<usize> {
    let energy = |step: &[f32]| step.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let steps = samples.chunks_exact(step).map(energy).enumerate();
    let least = steps.reduce(|least, next| if next.1 <= least.1 { next } else { least });
    least.map(|(index, _)| index * step + step / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_where_it_is_quiet() {
        let mut samples = vec![1.0f32; 10_000];
        samples[750..880].fill(0.0);
        samples[1650..1780].fill(0.0);
        let pieces = pieces(&samples, 1000, 1.0);
        assert_eq!(pieces[0], 0..842);
        assert_eq!(pieces[1], 842..1734);
        assert_eq!(pieces.last().unwrap().end, 10_000);
        assert!(pieces.windows(2).all(|two| two[0].end == two[1].start));
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= 1000));
        let of = |len: usize, rate, seconds| super::pieces(&samples[..len], rate, seconds);
        assert_eq!(of(1000, 1000, 1.0), vec![0..1000]);
        // Whatever is asked, it comes to an end.
        assert_eq!(of(3, 1, 0.0), [0..1, 1..2, 2..3]);
    }
}
