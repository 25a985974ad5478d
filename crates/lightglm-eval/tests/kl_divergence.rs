//! `kl_divergence` against values worked out by hand.

mod table_model;

use lightglm_eval::{
    EvalError, KlDivergence, ModelRole, Protocol, Subject, kl_divergence, perplexity,
};
use lightglm_generation::RunControl;
use table_model::{Row, TableModel, counting_cache};

/// Logits are f32: a probability of 1/4 arrives with 24 bits.
const F32_LOGITS: f64 = 1e-6;

const PROTOCOL: Protocol = Protocol { context_length: 4, stride: 2, bos: None, context_only: 0 };

fn compare(p: &TableModel, q: &TableModel, tokens: &[u32]) -> Result<KlDivergence, EvalError> {
    compare_in_steps(p, q, tokens, 128)
}

fn compare_in_steps(
    p: &TableModel,
    q: &TableModel,
    tokens: &[u32],
    rows_per_step: usize,
) -> Result<KlDivergence, EvalError> {
    let (mut p_cache, mut q_cache) = (counting_cache, counting_cache);
    let mut reference = Subject::new(p, &mut p_cache);
    let mut candidate = Subject::new(q, &mut q_cache);
    let mut control = RunControl { rows_per_step, ..RunControl::default() };
    kl_divergence(&mut reference, &mut candidate, tokens, &PROTOCOL, &mut control)
}

fn model(row: Row) -> TableModel {
    TableModel { vocab_size: 3, row }
}

fn logits(p: [f32; 3]) -> Vec<f32> {
    p.map(f32::ln).to_vec()
}

fn skewed(_: u32, _: usize) -> Vec<f32> {
    logits([0.5, 0.25, 0.25])
}

/// As [`skewed`] after token 0; turned around after token 1; uniform after token 2.
fn turning(token: u32, _: usize) -> Vec<f32> {
    match token {
        0 => logits([0.5, 0.25, 0.25]),
        1 => logits([0.25, 0.5, 0.25]),
        _ => vec![0.0; 3],
    }
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let result = compare(&model(turning), &model(turning), &[0, 1, 2, 0, 1, 2]).expect("a score");
    assert_eq!((result.mean, result.median, result.max), (0.0, 0.0, 0.0));
    assert_eq!(result.top1_agreement, 1.0);
    assert_eq!(result.reference, result.candidate);
}

#[test]
fn divergence_of_known_tables() {
    // Predictions after 0, 1, 2, 0: none, turned, uniform, none. The text's last token is never fed.
    let tokens = [0, 1, 2, 0, 1];
    let turned = 0.25 * 2.0_f64.ln();
    let uniform = 0.5 * 1.5_f64.ln() + 0.5 * 0.75_f64.ln();
    let (p, q) = (model(skewed), model(turning));
    for rows_per_step in [1, 2, 128] {
        let result = compare_in_steps(&p, &q, &tokens, rows_per_step).expect("a score");
        let mean = (turned + uniform) / 4.0;
        let squares = [0.0, turned, uniform, 0.0].map(|x: f64| (x - mean).powi(2));
        let error = (squares.iter().sum::<f64>() / 3.0 / 4.0).sqrt();
        assert_eq!(result.tokens, 4);
        assert!((result.mean - mean).abs() < F32_LOGITS, "{result:?}");
        assert!((result.standard_error - error).abs() < F32_LOGITS);
        // Sorted: 0, 0, uniform (0.0589), turned (0.1733).
        assert!((result.median - uniform / 2.0).abs() < F32_LOGITS);
        let percentile_99 = uniform + (turned - uniform) * 0.97;
        assert!((result.percentile_99 - percentile_99).abs() < F32_LOGITS);
        assert!((result.max - turned).abs() < F32_LOGITS);
        // After 1 the first ranks differ; the uniform row's tie goes to token 0, as P's does.
        assert_eq!(result.top1_agreement, 0.75);
    }
}

#[test]
fn both_perplexities_are_those_of_the_models_alone() {
    let tokens = [0, 1, 2, 0, 1, 1, 2];
    let (p, q) = (model(skewed), model(turning));
    let result = compare(&p, &q, &tokens).expect("a score");
    for (model, measured) in [(&p, &result.reference), (&q, &result.candidate)] {
        let mut make_cache = counting_cache;
        let mut subject = Subject::new(model, &mut make_cache);
        let alone = perplexity(&mut subject, &tokens, &PROTOCOL, &mut RunControl::default());
        assert_eq!(*measured, alone.expect("a score"));
    }
}

#[test]
fn a_prefix_is_run_by_its_own_model() {
    // Of each window of four the first two positions are the reference's own; the third is turned.
    let (p, q) = (model(skewed), model(turning));
    let turned = 0.25 * 2.0_f64.ln();
    for rows_per_step in [1, 2, 128] {
        for (context_only, tokens, mean) in [(0, 6, turned / 3.0), (2, 2, turned)] {
            let protocol = Protocol { stride: 4, context_only, ..PROTOCOL };
            let (mut p_cache, mut q_cache) = (counting_cache, counting_cache);
            let mut reference = Subject::new(&p, &mut p_cache);
            let mut candidate = Subject::new(&q, &mut q_cache).with_prefix(2, &p);
            let mut control = RunControl { rows_per_step, ..RunControl::default() };
            let result =
                kl_divergence(&mut reference, &mut candidate, &[1; 8], &protocol, &mut control)
                    .expect("a score");
            assert_eq!(result.tokens, tokens);
            assert!((result.mean - mean).abs() < F32_LOGITS, "{result:?}");
        }
    }
}

#[test]
fn the_result_survives_json() {
    let result = compare(&model(skewed), &model(turning), &[0, 1, 2]).expect("a score");
    let json = serde_json::to_string(&result).expect("plain numbers");
    assert_eq!(serde_json::from_str::<KlDivergence>(&json).expect("the same struct"), result);
}

#[test]
fn models_that_cannot_be_compared() {
    let small = TableModel { vocab_size: 2, row: |_, _| vec![0.0; 2] };
    let error = compare(&model(skewed), &small, &[0, 1]).unwrap_err();
    assert_eq!(error, EvalError::VocabMismatch { reference: 3, candidate: 2 });
    let error = compare(&model(skewed), &model(skewed), &[]).unwrap_err();
    assert_eq!(error, EvalError::EmptyText { tokens: 0 });
    // The candidate rules out token 2, which the text has not but the reference could say.
    let certain = model(|_, _| vec![0.0, 0.0, f32::NEG_INFINITY]);
    let error = compare(&model(skewed), &certain, &[0, 1]).unwrap_err();
    let (role, index) = (ModelRole::Candidate, 1);
    assert_eq!(error, EvalError::NotFinite { role, index, value: f64::INFINITY });
    // The other way round nothing is lost: what the reference never says costs nothing.
    let result = compare(&certain, &model(skewed), &[0, 1]).expect("a score");
    assert!((result.mean - (0.5 * 1.0_f64.ln() + 0.5 * 2.0_f64.ln())).abs() < F32_LOGITS);
}
