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
}

fn measure(entropy: f64, off: f32, rows: usize, seed: u64) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.cache");
    let mut random = SplitMix::new(seed);
    let tokens: Vec<u32> = (0..rows as u32).collect();
    let targets: Vec<Option<u32>> = tokens.iter().map(|token| Some(*token)).collect();
    let spans: Vec<LabelledSpan<'_>> = (tokens.chunks(16).zip(targets.chunks(16)))
        .map(|(tokens, targets)| LabelledSpan { tokens, targets })
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
    if std::env::var_os("SHOW").is_some() {
        let row = &top[0];
        println!(
            "{} likeliest, {} drawn, tail {}",
            row.ids().len(),
            row.sample().map_or(0, |s| s.ids().len()),
            row.log_tail().exp()
        );
    }
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
    Measured {
        mean: whole.iter().sum::<f64>() / n,
        error: mean_error,
        deviation: variance.sqrt(),
        error_without_sample: without.sum::<f64>() / n,
        bytes_per_row: std::fs::metadata(&path).unwrap().len() as f64 / n,
        seconds_per_row: seconds / n,
    }
}

/// The table of docs/training.md.
#[test]
#[ignore = "minutes"]
fn errors_by_entropy() {
    let rows = std::env::var("LIGHTGLM_ROWS").map_or(64, |rows| rows.parse().unwrap());
    for entropy in [0.5, 2.0, 4.0, 6.0, 8.0] {
        for off in [0.5, 1.0] {
            println!("entropy {entropy}, off by {off}: {:.6?}", measure(entropy, off, rows, 7));
        }
    }
}
