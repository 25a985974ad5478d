//! How near to the whole distributions a cache is at GLM-4's vocabulary, and what it takes.

use lightglm_core::LabelledSpan;
use lightglm_distill::{
    CacheHeader, Divergence, TeacherCache, TeacherCacheWriter, TeacherRows, TopRow,
};
use lightglm_testkit::SplitMix;

use crate::synthetic::{forward_kl, student, zipf};

const VOCAB_SIZE: usize = 151_552;

/// Errors of a shape of rows.
#[derive(Debug)]
struct Measured {
    /// Of the divergences.
    mean: f64,
    /// Of cached minus whole.
    error: f64,
    /// Of one row.
    deviation: f64,
    /// Of the same with the stored tokens and the rest as one outcome.
    error_without_sample: f64,
    bytes_per_row: f64,
    seconds_per_row: f64,
    /// Means over rows.
    likeliest: f64,
    drawn: f64,
    tail: f64,
}

fn measure(entropy: f64, off: f32, rows: usize, seed: u64) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.cache");
    let mut random = SplitMix::new(seed);
    let tokens: Vec<u32> = (0..rows as u32).collect();
    let targets: Vec<Option<u32>> = tokens.iter().map(|token| Some(*token)).collect();
    let spans: Vec<LabelledSpan<'_>> = (tokens.chunks(16).zip(targets.chunks(16)))
        .map(|(tokens, targets)| LabelledSpan::text(tokens, targets))
        .collect();
    let header = CacheHeader { seed, ..CacheHeader::new(VOCAB_SIZE, 1, &spans) };
    let (mut writer, _) = TeacherCacheWriter::create_or_resume(&path, header).unwrap();
    let (mut students, mut whole, mut seconds) = (Vec::new(), Vec::new(), 0.0);
    for span in &spans {
        let mut logits = Vec::new();
        for _ in 0..span.labels() {
            let teacher = zipf(VOCAB_SIZE, entropy, &mut random);
            let student = student(&teacher, off, &mut random);
            whole.push(forward_kl(&teacher, &student));
            logits.extend(teacher);
            students.push(student);
        }
        let rows = TeacherRows::logits(logits, VOCAB_SIZE).unwrap();
        let begin = std::time::Instant::now();
        writer.append(&[*span], &rows).unwrap();
        seconds += begin.elapsed().as_secs_f64();
    }
    writer.finish().unwrap();
    let cache = TeacherCache::open(&path).unwrap();
    let top: Vec<TopRow> = spans.iter().flat_map(|span| cache.of_span(span).unwrap()).collect();
    let error = |top: &TopRow, student: &[f32], whole: f64| {
        let rows = TeacherRows::top(vec![top.clone()], VOCAB_SIZE, 1.0).unwrap();
        f64::from(Divergence::ForwardKl.losses(&rows, student, 1.0).unwrap()[0]) - whole
    };
    let each = || top.iter().zip(&students).zip(&whole);
    let errors: Vec<f64> =
        each().map(|((top, student), whole)| error(top, student, *whole)).collect();
    let without = each().map(|((top, student), whole)| {
        let bare = TopRow::new(top.ids().to_vec(), top.log_probs().to_vec()).unwrap();
        error(&bare, student, *whole)
    });
    let n = rows as f64;
    let mean_error = errors.iter().sum::<f64>() / n;
    let variance = errors.iter().map(|it| (it - mean_error).powi(2)).sum::<f64>() / n;
    let over_rows = |of: &dyn Fn(&TopRow) -> f64| top.iter().map(of).sum::<f64>() / n;
    Measured {
        mean: whole.iter().sum::<f64>() / n,
        error: mean_error,
        deviation: variance.sqrt(),
        error_without_sample: without.sum::<f64>() / n,
        bytes_per_row: std::fs::metadata(&path).unwrap().len() as f64 / n,
        seconds_per_row: seconds / n,
        likeliest: over_rows(&|row| row.ids().len() as f64),
        drawn: over_rows(&|row| row.sample().map_or(0.0, |sample| sample.ids().len() as f64)),
        tail: over_rows(&|row| f64::from(row.log_tail().exp())),
    }
}

/// Four entropies together, as a text has them: a row takes at most 300 bytes, and the divergence is on average that of
/// the whole distributions. Most of what is left is the draws' chance in the flattest rows.
#[test]
fn a_cache_is_as_good_as_the_whole_distributions() {
    const ROWS: usize = 32;
    let all = [(0.5, 1e-4), (2.0, 1e-3), (4.0, 4e-3), (6.0, 1e-2)].map(|(entropy, limit)| {
        let measured = measure(entropy, 0.5, ROWS, 7);
        println!("entropy {entropy}: {measured:.6?}");
        assert!(measured.error.abs() <= limit, "{entropy}: {measured:?}");
        assert!(measured.bytes_per_row <= 300.0, "{entropy}: {measured:?}");
        // Four standard deviations of a mean: the error is chance, and not a fault of the method.
        let chance = 4.0 * measured.deviation / (ROWS as f64).sqrt();
        assert!(measured.error.abs() <= chance + 1e-5, "{entropy}: {measured:?}");
        measured
    });
    // The rest as one outcome is not: it has the divergence within the rest missing.
    assert!(all.iter().skip(1).all(|it| it.error_without_sample < -1e-3), "{all:?}");
}

/// The table of docs/training.md.
#[test]
#[ignore = "minutes"]
fn errors_by_entropy() {
    let rows = std::env::var("LIGHTGLM_ROWS").map_or(64, |rows| rows.parse().unwrap());
    for entropy in [0.5, 2.0, 4.0, 6.0, 8.0, 11.0] {
        for off in [0.5, 1.0] {
            let Measured {
                mean,
                error,
                deviation,
                error_without_sample,
                bytes_per_row,
                seconds_per_row,
                likeliest,
                drawn,
                tail,
            } = measure(entropy, off, rows, 7);
            println!(
                "| {entropy} | {off} | {likeliest:.0} + {drawn:.0} | {tail:.4} | {bytes_per_row:.1} | {mean:.4} | \
                 {error:.6} | {deviation:.5} | {error_without_sample:.5} | {:.1} ms |",
                seconds_per_row * 1e3
            );
        }
    }
}
