//! Which parts are chosen.

use lightglm_distill::student::{Importance, Slice, StudentError, StudentShape, Wanted, strongest};

const TEACHER: StudentShape = StudentShape {
    hidden_size: 8,
    num_hidden_layers: 3,
    num_attention_heads: 6,
    num_key_value_heads: 2,
    head_dim: 4,
    intermediate_size: 5,
    vocab_size: 10,
    attention_bias: true,
    tie_word_embeddings: false,
    norms_per_block: 2,
    has_qk_norms: false,
};

#[test]
fn the_first_of_equals_is_stronger() {
    assert_eq!(strongest(&[1.0, 3.0, 1.0, 2.0], 3), [0, 1, 3]);
    assert_eq!(strongest(&[1.0, 1.0, 1.0], 2), [0, 1]);
    assert_eq!(strongest(&[1.0], 4), [0]);
}

#[test]
fn each_key_and_value_head_keeps_its_strongest_query_heads() {
    let importance = Importance {
        heads: vec![vec![5.0, 1.0, 4.0, 0.1, 0.3, 0.2]; 3],
        layers: vec![0.5, 0.1, 0.4],
        ..Importance::default()
    };
    let heads = |heads, groups| {
        let wanted =
            Wanted { num_attention_heads: heads, num_key_value_heads: groups, ..Wanted::default() };
        importance.slice(&TEACHER, &wanted).unwrap().heads[0].clone()
    };
    assert_eq!(heads(Some(4), None), [0, 2, 4, 5]);
    assert_eq!(heads(Some(2), None), [0, 4]);
    assert_eq!(heads(None, Some(1)), [0, 1, 2]);
    assert_eq!(heads(Some(2), Some(1)), [0, 2]);
    let layers = Wanted { num_hidden_layers: Some(2), ..Wanted::default() };
    let slice = importance.slice(&TEACHER, &layers).unwrap();
    assert_eq!((slice.layers, slice.ffn.len(), slice.heads.len()), (vec![0, 2], 2, 2));
}

/// What decides has to have been measured on this model; what does not decide need not.
#[test]
fn another_models_importance_is_refused() {
    let importance = Importance { layers: vec![0.5; 4], ..Importance::default() };
    assert_eq!(importance.slice(&TEACHER, &Wanted::default()).unwrap(), Slice::whole(&TEACHER));
    let layers = Wanted { num_hidden_layers: Some(2), ..Wanted::default() };
    let hidden = Wanted { hidden_size: Some(4), ..Wanted::default() };
    let neurons = Wanted { intermediate_size: Some(4), ..Wanted::default() };
    let heads = Wanted { num_attention_heads: Some(4), ..Wanted::default() };
    for wanted in [layers, hidden, neurons, heads] {
        let error = importance.slice(&TEACHER, &wanted).unwrap_err();
        assert!(matches!(error, StudentError::OtherModel { .. }), "{error}");
    }
}

#[test]
fn a_norm_is_scaled_by_what_it_loses() {
    let shares = vec![0.4, 0.0, 0.1, 0.0, 0.4, 0.1, 0.0, 0.0];
    let norm_shares = [("model.norm".to_owned(), shares)].into();
    let importance = Importance { norm_shares, ..Importance::default() };
    // Half of the channels with all of the energy: twice the mean square.
    let scales = importance.norm_scales(&[0, 2, 4, 5]);
    assert!((scales["model.norm"] - 2f64.sqrt()).abs() < 1e-12);
    let scales = importance.norm_scales(&[0, 1, 2, 3]);
    assert!((scales["model.norm"] - 1.0).abs() < 1e-12);
}
