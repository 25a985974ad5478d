//! Rows of all kinds in a cache.

use lightglm_core::LabelledSpan;
use lightglm_distill::{
    CacheHeader, Divergence, TeacherCache, TeacherCacheWriter, TeacherRows, TopRow,
};
use lightglm_testkit::SplitMix;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::synthetic::{forward_kl, student, zipf};

/// The row as it comes back, and the bytes of the file.
fn through_a_file(logits: &[f32], header: CacheHeader) -> (TopRow, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("row.cache");
    let span = LabelledSpan::text(&[0], &[Some(0)]);
    let rows = TeacherRows::logits(logits.to_vec(), logits.len()).unwrap();
    let (mut writer, _) = TeacherCacheWriter::create_or_resume(&path, header).unwrap();
    writer.append(&[span], &rows).unwrap();
    writer.finish().unwrap();
    let row = TeacherCache::open(&path).unwrap().row(&span, 0).unwrap();
    (row, std::fs::metadata(&path).unwrap().len())
}

fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -9.0_f32..9.0,
        1 => Just(f32::NEG_INFINITY),
        1 => Just(0.0),
        1 => -1e4_f32..1e4,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a teacher says comes back as a row, in its bytes; what is stored of it is right, and the rest its rest.
    #[test]
    fn any_row_comes_back(
        logits in vec(logit(), 1..300),
        bytes_per_row in 32_usize..600,
        temperature in prop_oneof![Just(1.0), 0.5_f64..4.0],
        seed in any::<u64>(),
    ) {
        prop_assume!(logits.iter().any(|logit| logit.is_finite()));
        let header = CacheHeader {
            temperature, bytes_per_row, seed, ..CacheHeader::new(logits.len(), 1, &[])
        };
        let (row, bytes) = through_a_file(&logits, header);
        prop_assert!(bytes <= (bytes_per_row + 40 + 104) as u64, "{} bytes", bytes);
        let exact = TopRow::of_logits(&logits, row.ids().len(), temperature).unwrap();
        // Of equals others may be stored.
        let sorted = |row: &TopRow| {
            let mut probs: Vec<f32> = row.log_probs().iter().map(|log| log.exp()).collect();
            probs.sort_by(f32::total_cmp);
            probs
        };
        for (ours, theirs) in sorted(&row).into_iter().zip(sorted(&exact)) {
            prop_assert!((ours - theirs).abs() <= 0.07 * theirs + 1e-9, "{} {}", ours, theirs);
        }
        prop_assert!((row.log_tail().exp() - exact.log_tail().exp()).abs() < 1e-5);
        TeacherRows::top(vec![row], logits.len(), temperature).unwrap();
    }
}

/// Over all draws the divergence is that of the whole distribution, for a student far away as well.
#[test]
fn draws_are_right_on_average() {
    const VOCAB_SIZE: usize = 500;
    // One example each, with draws of its own.
    let tokens: Vec<u32> = (0..2000).collect();
    let spans: Vec<LabelledSpan<'_>> =
        tokens.chunks(1).map(|tokens| LabelledSpan::text(tokens, &[Some(0)])).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut random = SplitMix::new(4);
    for (entropy, bytes_per_row) in [(2.0, 48), (4.0, 64), (5.5, 64)] {
        let teacher = zipf(VOCAB_SIZE, entropy, &mut random);
        let path = folder.path().join(format!("{entropy}.cache"));
        let header = CacheHeader { bytes_per_row, ..CacheHeader::new(VOCAB_SIZE, 1, &spans) };
        let (mut writer, _) = TeacherCacheWriter::create_or_resume(&path, header).unwrap();
        let rows = TeacherRows::logits(teacher.repeat(spans.len()), VOCAB_SIZE).unwrap();
        writer.append(&spans, &rows).unwrap();
        writer.finish().unwrap();
        let cache = TeacherCache::open(&path).unwrap();
        let rows: Vec<TopRow> = spans.iter().map(|span| cache.row(span, 0).unwrap()).collect();
        let rows = TeacherRows::top(rows, VOCAB_SIZE, 1.0).unwrap();
        let near = student(&teacher, 0.5, &mut random);
        let far: Vec<f32> = (0..VOCAB_SIZE).map(|_| random.next_f32()).collect();
        for student in [near, far] {
            let whole = forward_kl(&teacher, &student);
            let cached = Divergence::ForwardKl.losses(&rows, &student.repeat(spans.len()), 1.0);
            let cached: Vec<f64> = cached.unwrap().into_iter().map(f64::from).collect();
            let n = cached.len() as f64;
            let error = cached.iter().sum::<f64>() / n - whole;
            let variance = cached.iter().map(|it| (it - whole - error).powi(2)).sum::<f64>() / n;
            let chance = (variance / n).sqrt();
            println!("{entropy} nats, {whole:.4}: {error:.5}, give or take {chance:.5}");
            // What all draws have in common is the rounding of what is stored.
            assert!(error.abs() <= 4.0 * chance + 1e-3 * whole, "{error} {chance}");
        }
    }
}
