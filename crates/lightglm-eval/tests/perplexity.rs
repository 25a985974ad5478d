//! `perplexity` against values worked out by hand.

mod table_model;

use std::sync::atomic::{AtomicBool, Ordering};

use lightglm_core::{KvCacheError, LmError};
use lightglm_eval::{EvalError, ModelRole, Perplexity, Protocol, Subject, perplexity};
use lightglm_generation::RunControl;
use table_model::{Row, TableModel, counting_cache};

/// Logits are f32: a probability of 1/4 arrives with 24 bits.
const F32_LOGITS: f64 = 1e-6;

fn score(row: Row, tokens: &[u32], protocol: Protocol) -> Result<Perplexity, EvalError> {
    score_in_steps(row, tokens, protocol, 128)
}

fn score_in_steps(
    row: Row,
    tokens: &[u32],
    protocol: Protocol,
    rows_per_step: usize,
) -> Result<Perplexity, EvalError> {
    let model = TableModel { vocab_size: 4, row };
    let mut make_cache = counting_cache;
    let mut control = RunControl { rows_per_step, ..RunControl::default() };
    perplexity(&mut Subject::new(&model, &mut make_cache), tokens, &protocol, &mut control)
}

fn protocol(context_length: usize, stride: usize) -> Protocol {
    Protocol { context_length, stride, bos: None, context_only: 0 }
}

/// `p(t + 1) = 1/2`, the rest shared, after token `t`.
fn successor(token: u32, _: usize) -> Vec<f32> {
    (0..4).map(|v| if v == (token + 1) % 4 { 0.5_f32 } else { 0.5 / 3.0 }.ln()).collect()
}

/// Token 0 has probability `2^-(position + 1)`: the score tells how much context there was.
fn fading(_: u32, position: usize) -> Vec<f32> {
    let p = 0.5_f64.powi(position as i32 + 1);
    [p, (1.0 - p) / 3.0, (1.0 - p) / 3.0, (1.0 - p) / 3.0].map(|p| p.ln() as f32).to_vec()
}

#[test]
fn a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large() {
    let result = score(|_, _| vec![7.5; 4], &[0, 1, 2, 3, 3, 1], protocol(3, 2)).expect("a score");
    assert_eq!(result.tokens, 5);
    assert!((result.perplexity - 4.0).abs() < F32_LOGITS, "{result:?}");
    assert!(result.nll_standard_error < F32_LOGITS);
}

#[test]
fn a_bigram_model_scores_what_its_table_says() {
    // 0 -> 1 and 1 -> 2 are likely, 2 -> 0 and 0 -> 3 are not.
    let result = score(successor, &[0, 1, 2, 0, 3], protocol(5, 5)).expect("a score");
    let nlls = [2.0, 2.0, 6.0, 6.0].map(f64::ln);
    let mean = nlls.iter().sum::<f64>() / 4.0;
    let spread = nlls.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let error = (spread / 3.0 / 4.0).sqrt();
    assert!((result.nll_mean - mean).abs() < F32_LOGITS);
    assert!((result.perplexity - 12.0_f64.sqrt()).abs() < 4.0 * F32_LOGITS);
    assert!((result.nll_standard_error - error).abs() < F32_LOGITS);
    let low = (mean - 1.959_964 * error).exp();
    assert!((result.confidence_interval[0] - low).abs() < 1e-5, "{result:?}");
    assert!(result.confidence_interval[1] > result.perplexity);
}

#[test]
fn every_target_has_the_context_that_the_protocol_promises() {
    // Windows [0,4), [2,6), [4,7): targets 1 2 3 | 4 5 | 6 stand behind 1 2 3 | 2 3 | 2 tokens.
    let contexts = [1, 2, 3, 2, 3, 2];
    for rows_per_step in [0, 1, 2, 3, 100] {
        let result =
            score_in_steps(fading, &[0; 7], protocol(4, 2), rows_per_step).expect("a score");
        let nats = contexts.iter().sum::<i32>() as f64 * 2.0_f64.ln();
        assert_eq!(result.tokens, contexts.len());
        assert!((result.nll_mean * 6.0 - nats).abs() < 6.0 * F32_LOGITS, "{rows_per_step}");
        let per_window: Vec<_> =
            result.windows.iter().map(|w| (w.nll / 2.0_f64.ln()).round() as i32).collect();
        assert_eq!(per_window, [6, 5, 2]);
    }
}

#[test]
fn a_bos_is_context_and_never_a_target() {
    let with_bos = Protocol { context_length: 3, stride: 2, bos: Some(3), context_only: 0 };
    let result = score(fading, &[0; 4], with_bos).expect("a score");
    // Two disjoint windows of BOS and two tokens: contexts 1 2 | 1 2.
    assert_eq!(result.tokens, 4);
    assert!((result.nll_mean - 1.5 * 2.0_f64.ln()).abs() < F32_LOGITS);
    // The BOS is the token in front: 3 -> 0 is the likely successor.
    let result = score(successor, &[0, 1, 0, 1], with_bos).expect("a score");
    assert!((result.perplexity - 2.0).abs() < F32_LOGITS);
}

#[test]
fn what_is_in_front_is_context_beside_the_window() {
    let plain = score(fading, &[0; 6], protocol(3, 3)).expect("a score");
    // Windows of three tokens, two of which are scored: contexts 1 2 | 1 2, and with a front 3 4 | 3 4.
    assert_eq!(plain.tokens, 4);
    assert!((plain.nll_mean - 1.5 * 2.0_f64.ln()).abs() < F32_LOGITS, "{}", plain.nll_mean);
    let model = TableModel { vocab_size: 4, row: fading };
    let mut make_cache = counting_cache;
    let mut subject = Subject::new(&model, &mut make_cache).with_front(&[3, 3]);
    let control = &mut RunControl::default();
    let result = perplexity(&mut subject, &[0; 6], &protocol(3, 3), control).expect("a score");
    assert_eq!((result.tokens, result.protocol), (4, plain.protocol));
    assert!((result.nll_mean - 3.5 * 2.0_f64.ln()).abs() < F32_LOGITS, "{}", result.nll_mean);
    let mut subject = Subject::new(&model, &mut make_cache).with_front(&[3, 9]);
    let error = perplexity(&mut subject, &[0; 6], &protocol(3, 3), control).unwrap_err();
    assert_eq!(error, EvalError::BosOutOfRange { token: 9, vocab_size: 4 });
}

#[test]
fn the_result_survives_json() {
    let result = score(successor, &[0, 1, 2, 0, 3], protocol(3, 2)).expect("a score");
    let json = serde_json::to_string(&result).expect("plain numbers");
    assert_eq!(serde_json::from_str::<Perplexity>(&json).expect("the same struct"), result);
}

#[test]
fn texts_and_protocols_that_cannot_be_scored() {
    let error = |tokens: &[u32], protocol| score(successor, tokens, protocol).unwrap_err();
    assert_eq!(error(&[], protocol(4, 2)), EvalError::EmptyText { tokens: 0 });
    assert_eq!(error(&[1], protocol(4, 2)), EvalError::EmptyText { tokens: 1 });
    assert_eq!(error(&[1, 2], protocol(0, 1)), EvalError::ContextTooShort { context_length: 0 });
    assert_eq!(error(&[1, 2], protocol(4, 0)), EvalError::ZeroStride);
    assert_eq!(error(&[1, 2], protocol(4, 5)), EvalError::StrideTooLong { stride: 5, window: 4 });
    // The last token is never fed to the model, so the model alone would not notice.
    let outside = EvalError::TokenOutOfRange { index: 2, token: 4, vocab_size: 4 };
    assert_eq!(error(&[1, 2, 4], protocol(4, 2)), outside);
    let bos = Protocol { bos: Some(9), ..protocol(4, 2) };
    assert_eq!(error(&[1, 2], bos), EvalError::BosOutOfRange { token: 9, vocab_size: 4 });
}

#[test]
fn broken_models_are_named_not_averaged() {
    let not_a_number = |token, position| {
        let broken = position == 1;
        if broken { vec![f32::NAN; 4] } else { successor(token, position) }
    };
    let error = score(not_a_number, &[0, 1, 2], protocol(4, 2)).unwrap_err();
    assert!(
        matches!(error, EvalError::NotFinite { role: ModelRole::Subject, index: 2, value }
            if value.is_nan()),
        "{error:?}"
    );
    let impossible = |_, _| vec![0.0, f32::NEG_INFINITY, 0.0, 0.0];
    let error = score(impossible, &[0, 1], protocol(4, 2)).unwrap_err();
    let expected =
        EvalError::NotFinite { role: ModelRole::Subject, index: 1, value: f64::INFINITY };
    assert_eq!(error, expected);
    let error = score(|_, _| vec![0.0; 3], &[0, 1, 2], protocol(4, 2)).unwrap_err();
    let expected =
        EvalError::LogitsShape { role: ModelRole::Subject, expected: [2, 4], actual: [2, 3] };
    assert_eq!(error, expected);
}

#[test]
fn refusals_of_cache_and_model_say_where() {
    let model = TableModel { vocab_size: 4, row: successor };
    let protocol = protocol(4, 2);
    let full = KvCacheError::Full { requested: 3, available: 0 };
    let mut no_cache = |_| Err(full.clone());
    let mut subject = Subject::new(&model, &mut no_cache);
    let error = perplexity(&mut subject, &[0; 6], &protocol, &mut RunControl::default());
    let role = ModelRole::Subject;
    assert_eq!(error.unwrap_err(), EvalError::Cache { role, source: full });

    // Every cache after the first is one position short.
    let mut windows = 0;
    let mut short_cache = |positions: usize| {
        windows += 1;
        counting_cache(if windows == 1 { positions } else { positions - 1 })
    };
    let mut subject = Subject::new(&model, &mut short_cache);
    let error = perplexity(&mut subject, &[0; 6], &protocol, &mut RunControl::default());
    let source = LmError::Cache(KvCacheError::Full { requested: 3, available: 2 });
    // The second window starts at 2; its first token only fills the cache.
    assert_eq!(error.unwrap_err(), EvalError::Model { role, index: 3, source });
}

#[test]
fn progress_is_told_and_the_stop_flag_is_obeyed() {
    let model = TableModel { vocab_size: 4, row: successor };
    let stop = AtomicBool::new(false);
    let mut told = Vec::new();
    let mut progress = |scored, total| {
        told.push((scored, total));
        stop.store(scored >= 4, Ordering::Relaxed);
    };
    let mut control =
        RunControl { rows_per_step: 2, progress: Some(&mut progress), stop: Some(&stop) };
    let mut make_cache = counting_cache;
    let mut subject = Subject::new(&model, &mut make_cache);
    let error = perplexity(&mut subject, &[0; 9], &protocol(4, 2), &mut control).unwrap_err();
    assert_eq!(error, EvalError::Interrupted { scored: 5, total: 8 });
    assert_eq!(told, [(0, 8), (2, 8), (3, 8), (5, 8)]);
}
