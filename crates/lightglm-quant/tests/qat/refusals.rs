//! Bad input is refused by name, before training and after it.

use burn::module::Param;
use burn_flex::Flex;
use lightglm_core::EffectiveWeight;
use lightglm_kernels::PackingError;
use lightglm_quant::qat::{Convert, FakeQuantEmbedding, FakeQuantLinear, Prepare, ScaleSource};
use lightglm_quant::{
    DenseMatrix, Granularity, Policy, PolicyError, QuantError, QuantizedScheme, Scheme,
    WeightScheme,
};

use crate::dense_projection::{DenseProjection, quantized, scheme, tensor, values};

type Dense = DenseProjection<Flex>;

fn with_nan() -> Dense {
    let mut weight = vec![0.5; 4 * 16];
    weight[2 * 16 + 3] = f32::NAN;
    DenseProjection::new(weight, [4, 16], None)
}

#[test]
fn a_weight_that_is_no_number_is_refused_at_both_ends() {
    for scales in [ScaleSource::Observed, ScaleSource::Learned] {
        let refused = FakeQuantLinear::new("w", with_nan(), scheme("int4wo-g8"), scales);
        let error = refused.unwrap_err();
        assert!(
            matches!(error, QuantError::NotFinite { ref name, row: 2, column: 3, .. } if name == "w"),
            "{error}"
        );
        // Training that came apart.
        let dense = Dense::random([4, 16], false, 1);
        let mut layer = FakeQuantLinear::new("w", dense, scheme("int4wo-g8"), scales).unwrap();
        layer.inner = with_nan();
        let error = layer.convert("w").unwrap_err();
        assert!(matches!(error, QuantError::NotFinite { row: 2, column: 3, .. }), "{error}");
        let table = with_nan().weight;
        let refused = FakeQuantEmbedding::<Flex>::new("t", table, scheme("int8wo"), scales);
        assert!(matches!(refused, Err(QuantError::NotFinite { .. })));
    }
    // Dense passes through, whatever it holds.
    assert!(FakeQuantLinear::new("w", with_nan(), Scheme::Dense, ScaleSource::Observed).is_ok());
}

#[test]
fn groups_that_do_not_fit_are_refused() {
    for size in [0, 12] {
        let int4 = quantized("int4wo-g8");
        let granularity = Granularity::PerGroup(size);
        let weight = WeightScheme { granularity, ..int4.weight };
        let misfit = Scheme::Quantized(QuantizedScheme { weight, ..int4 });
        for scales in [ScaleSource::Observed, ScaleSource::Learned] {
            let dense = Dense::random([4, 16], false, 1);
            let error = FakeQuantLinear::new("w", dense, misfit, scales).unwrap_err();
            let QuantError::Layer { name, source: PackingError::GroupSize { group_size, .. } } =
                error
            else {
                panic!("{error}")
            };
            assert_eq!((name.as_str(), group_size), ("w", size));
        }
    }
}

#[test]
fn learned_scales_of_another_shape_or_of_no_number_are_refused() {
    let learned = |scales: Vec<f32>, shape| {
        let dense = Dense::random([4, 16], false, 1);
        let mut layer =
            FakeQuantLinear::new("w", dense, scheme("int4wo-g8"), ScaleSource::Learned).unwrap();
        let scales = Param::from_tensor(tensor(scales, shape));
        layer.quantizer.learned.as_mut().unwrap().scales = scales;
        layer.convert("w").unwrap_err()
    };
    let error = learned(vec![1.0; 4], [4, 1]);
    let expected = PackingError::Length { part: "scales", expected: 8, actual: 4 };
    assert!(
        matches!(error, QuantError::Layer { ref source, .. } if *source == expected),
        "{error}"
    );
    let mut scales = vec![1.0; 8];
    scales[5] = f32::NAN;
    let error = learned(scales, [4, 2]);
    let expected = PackingError::NotFinite { part: "scales", row: 2 };
    assert!(
        matches!(error, QuantError::Layer { ref source, .. } if *source == expected),
        "{error}"
    );
}

#[test]
fn trained_scales_of_another_matrix_are_refused() {
    let policy: Policy = "int8wo-g8".parse().unwrap();
    let mut prepare = Prepare::new(&policy).with_scales(ScaleSource::Learned);
    let layer = prepare.linear("w", Dense::random([4, 16], false, 1)).unwrap();
    prepare.finish().unwrap();
    let mut convert = Convert::new();
    convert.linear("w", &layer).unwrap();
    let scales = convert.into_scales();
    let matrix = |weight, shape| {
        let scheme = quantized("int8wo-g8");
        scales.quantize(&DenseMatrix { name: "w", weight, shape, scheme })
    };
    let weight = values(layer.inner.weight());
    assert!(matrix(&weight, [4, 16]).is_ok());
    assert!(matches!(matrix(&weight[..48], [3, 16]), Err(QuantError::Layer { .. })));
    let mut bad = weight.clone();
    bad[17] = f32::INFINITY;
    let error = matrix(&bad, [4, 16]).unwrap_err();
    assert!(matches!(error, QuantError::NotFinite { row: 1, column: 1, .. }), "{error}");
}

#[test]
fn outputs_that_are_no_whole_heads_are_refused() {
    for head_dim in [0, 3, 32] {
        let dense = Dense::random([16, 8], false, 1);
        let layer = FakeQuantLinear::new("v", dense, scheme("w8a8"), ScaleSource::Observed);
        let error = layer.unwrap().with_output_heads("v", head_dim).unwrap_err();
        assert!(matches!(error, QuantError::Heads { out_features: 16, .. }), "{error}");
    }
    let policy: Policy = "w8a8".parse().unwrap();
    let mut prepare = Prepare::new(&policy).with_int8_kv(3);
    let q = prepare.linear("model.layers.0.self_attn.q_proj", Dense::random([16, 8], false, 1));
    assert_eq!(q.unwrap().output_heads, None);
    let v = prepare.linear("model.layers.0.self_attn.v_proj", Dense::random([16, 8], false, 1));
    assert!(matches!(v, Err(QuantError::Heads { head_dim: 3, .. })));
    let mut prepare = Prepare::new(&policy).with_int8_kv(8);
    let parts = ["q_proj", "k_proj", "v_proj", "o_proj"].map(|part| {
        let name = format!("model.layers.0.self_attn.{part}");
        prepare.linear(&name, Dense::random([16, 8], false, 1)).unwrap().output_heads
    });
    assert_eq!(parts, [None, Some(8), Some(8), None]);
    prepare.finish().unwrap();
}

#[test]
fn errors_name_the_projection() {
    let policy: Policy = "*.a=int4wo-g8,*.b=int8wo,*=dense".parse().unwrap();
    let mut prepare = Prepare::new(&policy);
    let error = prepare.linear("x.a", with_nan()).unwrap_err();
    assert!(matches!(error, QuantError::NotFinite { ref name, .. } if name == "x.a"), "{error}");
    let mut layer = prepare.linear("x.b", Dense::random([4, 16], false, 1)).unwrap();
    assert_eq!(layer.quantizer.scheme(), scheme("int8wo"));
    prepare.finish().unwrap();

    layer.inner = with_nan();
    let error = Convert::new().linear("x.b", &layer).unwrap_err();
    assert!(matches!(error, QuantError::NotFinite { ref name, .. } if name == "x.b"), "{error}");
}

#[test]
fn a_rule_that_matches_nothing_is_a_typing_error() {
    let policy: Policy = "*.down_porj=int8,*=int4".parse().unwrap();
    let mut prepare = Prepare::new(&policy);
    prepare.linear("model.layers.0.mlp.down_proj", Dense::random([4, 16], false, 1)).unwrap();
    let error = prepare.finish().unwrap_err();
    assert!(matches!(error, QuantError::Policy(PolicyError::NoSuchMatrix { .. })), "{error}");
}
