//! Schemes and policies as text, and what they weigh.

use lightglm_kernels::{ActivationBits, ActivationFormat, PackingError, ScaleDtype, WeightBits};
use lightglm_quant::{
    Footprint, Granularity, Policy, PolicyError, QuantError, QuantizedScheme, Scheme, SchemeError,
    WeightScheme, footprint,
};
use proptest::prelude::*;

fn any_scheme() -> impl Strategy<Value = Scheme> {
    let group = prop_oneof![Just(None), (1_usize..600).prop_map(|n| Some(8 * n))];
    let bits = prop_oneof![Just(WeightBits::Four), Just(WeightBits::Eight)];
    let floats = prop_oneof![Just(ScaleDtype::F16), Just(ScaleDtype::F32)];
    let activation = prop_oneof![Just(ActivationBits::Eight), Just(ActivationBits::Sixteen)];
    let quantized = (bits, group.clone(), any::<bool>(), floats, activation, group).prop_map(
        |(bits, group, symmetric, scale_dtype, activation, group_size)| {
            let granularity = group.map_or(Granularity::PerChannel, Granularity::PerGroup);
            Scheme::Quantized(QuantizedScheme {
                weight: WeightScheme { bits, granularity, symmetric, scale_dtype },
                activation: ActivationFormat { bits: activation, group_size },
            })
        },
    );
    let named = prop_oneof![Just(Scheme::Dense), Just(Scheme::INT8), Just(Scheme::INT4)];
    prop_oneof![1 => named, 3 => quantized]
}

proptest! {
    #[test]
    fn every_scheme_is_read_back(scheme in any_scheme()) {
        prop_assert_eq!(scheme.to_string().parse(), Ok(scheme));
        prop_assert_eq!(scheme.spelled_out().parse(), Ok(scheme));
        let json = serde_json::to_string(&scheme).unwrap();
        prop_assert_eq!(serde_json::from_str::<Scheme>(&json).unwrap(), scheme);
        prop_assert_eq!(json, format!("\"{}\"", scheme.spelled_out()));
    }

    #[test]
    fn policies_are_read_back(
        rules in proptest::collection::vec(("[a-z_.*?]{1,12}", any_scheme()), 1..6),
    ) {
        let rules = rules.iter().map(|(pattern, scheme)| (pattern.as_str(), *scheme));
        // Three stars in a row are no glob.
        let Ok(policy) = Policy::new(rules.clone()) else { return Ok(()) };
        prop_assert_eq!(policy.to_string().parse(), Ok(policy.clone()));
        prop_assert!(policy.rules().eq(rules));
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9=,*-]{0,24}") {
        let _ = text.parse::<Scheme>();
        let _ = text.parse::<Policy>();
    }
}

/// A packed file names the scheme; a policy cannot ask for it.
#[test]
fn nested_scales_are_read_back_and_made_by_no_policy() {
    let scheme: Scheme = "w4a16-g32-at-zp-nested".parse().expect("what a Q4_K matrix is");
    assert_eq!(scheme.spelled_out(), "w4a16-g32-at-zp-nested");
    assert_eq!(scheme.to_string().parse(), Ok(scheme));
    for policy in ["int4wo-g32-nested", "lm_head=int8,*=int4wo-g32-nested"] {
        let error = policy.parse::<Policy>().expect_err("nothing is quantized to it");
        assert_eq!(error, PolicyError::Nested { scheme: "int4wo-g32-nested".into() });
    }
}

#[test]
fn names_of_schemes_are_known() {
    let spelled = |name: &str| name.parse::<Scheme>().map(|scheme| scheme.spelled_out()).unwrap();
    assert_eq!(spelled("int8"), Scheme::INT8.spelled_out());
    assert_eq!(spelled("int4"), Scheme::INT4.spelled_out());
    assert_eq!(spelled("int8wo"), "w8a16-ag128-f32");
    assert_eq!(spelled("int8wo-g32"), "w8a16-g32-ag128-f16");
    assert_eq!(spelled("int4wo-g64-zp"), "w4a16-g64-ag128-zp-f16");
    assert_eq!(spelled("int4wo-g48"), "w4a16-g48-ag48-f16");
    assert_eq!(spelled("w8a8"), "w8a8-at-f32");
    assert_eq!(spelled("w4a8-g128"), "w4a8-g128-at-f16");
    assert_eq!(spelled("dense"), "dense");
}

#[test]
fn what_is_no_scheme_says_what_is_one() {
    for text in ["", "int7", "INT8", "int8-g32", "w8", "w8a8g128", "-g128", "fp8"] {
        let error = text.parse::<Scheme>().unwrap_err();
        assert_eq!(error, SchemeError::Unknown { text: text.into() });
        assert!(error.to_string().contains("int4wo"), "{error}");
    }
    for (text, modifier) in [
        ("int4wo-g0", "g0"),
        ("int4wo-g12", "g12"),
        ("int4wo-g08", "g08"),
        ("int4wo-g+8", "g+8"),
        ("int4wo-g64-g64", "g64"),
        ("w8a8-at-ag128", "ag128"),
        ("w8a8-zp-zp", "zp"),
        ("w8a8-f16-f32", "f32"),
        ("w8a8-", ""),
        ("w8a8-g99999999999999999999", "g99999999999999999999"),
    ] {
        let error = text.parse::<Scheme>().unwrap_err();
        assert_eq!(error, SchemeError::Modifier { text: text.into(), modifier: modifier.into() });
    }
}

#[test]
fn the_first_rule_that_matches_holds() {
    let policy: Policy = "lm_head=w8a8, *.down_proj=int8wo ,*=int4".parse().unwrap();
    let scheme = |name: &str| policy.scheme(name).to_string();
    assert_eq!(scheme("lm_head"), "w8a8");
    assert_eq!(scheme("model.layers.7.mlp.down_proj"), "int8wo");
    assert_eq!(scheme("model.layers.7.mlp.gate_up_proj"), "int4");
    // Told nothing of its own, a table is not put into 4 bits.
    assert_eq!(policy.scheme("model.embed_tokens"), Scheme::INT4.for_tables());
    assert_ne!(Scheme::INT4.for_tables(), Scheme::INT4);
    let told: Policy = "model.embed_tokens=int4,*=int4".parse().unwrap();
    assert_eq!(told.scheme("model.embed_tokens"), Scheme::INT4);
    assert_eq!(told.scheme("lm_head"), Scheme::INT4.for_tables());
    let part: Policy = "*.o_proj=int8".parse().unwrap();
    assert_eq!(part.scheme("lm_head"), Scheme::Dense);
    assert_eq!(Policy::uniform(Scheme::INT8).scheme("lm_head"), Scheme::INT8.for_tables());
}

#[test]
fn bad_policies_are_errors() {
    let error = |text: &str| text.parse::<Policy>().unwrap_err();
    assert!(matches!(error("int9"), PolicyError::Scheme(SchemeError::Unknown { .. })));
    assert!(matches!(error("*=int9"), PolicyError::Scheme(SchemeError::Unknown { .. })));
    assert!(matches!(error("int8,*=int4"), PolicyError::Rule { .. }));
    assert!(matches!(error("=int4"), PolicyError::Pattern { .. }));
    assert!(matches!(error("[=int4"), PolicyError::Pattern { .. }));
    assert!(matches!(error("*=int4,"), PolicyError::Rule { .. }));
    let policy: Policy = "*.donw_proj=int8,*=int4".parse().unwrap();
    let names = ["model.layers.0.mlp.down_proj", "lm_head"];
    let error = policy.check_names(names).unwrap_err();
    let (pattern, example) = ("*.donw_proj".into(), names[0].into());
    assert_eq!(error, PolicyError::NoSuchMatrix { pattern, example });
    let policy: Policy = "*.down_proj=int8,*=int4".parse().unwrap();
    assert_eq!(policy.check_names(names), Ok(()));
}

#[test]
fn sizes_are_counted_and_misfits_named() {
    let bits = |scheme: &str| {
        let scheme = scheme.parse().unwrap();
        Footprint::of("w", [4096, 4096], scheme, 16).unwrap().bits_per_weight()
    };
    assert_eq!(bits("w8a8-g128-ag128"), 8.125);
    assert_eq!(bits("int4wo-g64"), 4.25);
    assert_eq!(bits("int4wo-g32-zp"), 5.0);
    assert_eq!(bits("w8a8"), 8.0 + 32.0 / 4096.0);
    assert_eq!(bits("dense"), 16.0);
    let policy: Policy = "a=int8wo-g128,*=dense".parse().unwrap();
    let total = footprint(&policy, [("a", [32, 128]), ("b", [32, 128])], 16).unwrap();
    assert_eq!(total, Footprint { weights: 8192, bytes: 4096 + 64 + 8192 });

    // Groups of 24 weights meet groups of 128 activations: neither divides the other.
    let policy: Policy = "w8a8-g24-ag128".parse().unwrap();
    match footprint(&policy, [("model.layers.3.mlp.down_proj", [64, 256])], 16).unwrap_err() {
        QuantError::Layer { name, source } => {
            assert_eq!(name, "model.layers.3.mlp.down_proj");
            assert_eq!(source, PackingError::ActivationGroupSize { weight: 24, activation: 128 });
        }
        other => panic!("{other}"),
    }
}
