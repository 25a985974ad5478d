//! `config.json` and `generation_config.json`: both layouts, defaults, and what is refused.

use std::path::PathBuf;

use lightglm_model::config::{
    ConfigError, GenerationConfig, GlmConfig, ModelType, RopeParameters, RopeScaling,
};

const GLM4: &str = r#"{
  "model_type": "glm4", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 112, "vocab_size": 320,
  "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "hidden_act": "silu",
  "attention_bias": true, "tie_word_embeddings": false, "dtype": "float32",
  "eos_token_id": [0, 1, 2], "pad_token_id": 3, "bos_token_id": null,
  "rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_type": "default"}
}"#;

/// `GLM4` with `key` (a dotted path) set to `value`, or removed.
fn with(key: &str, value: Option<serde_json::Value>) -> Vec<u8> {
    let mut root: serde_json::Value = serde_json::from_str(GLM4).unwrap();
    let (object, key) = match key.split_once('.') {
        Some((object, key)) => (&mut root[object], key),
        None => (&mut root, key),
    };
    let map = object.as_object_mut().unwrap();
    match value {
        Some(value) => map.insert(key.into(), value),
        None => map.remove(key),
    };
    serde_json::to_vec(&root).unwrap()
}

/// The folder of reference fixtures beside the repository, if it is there.
fn fixtures() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var("LIGHTGLM_SHARED").unwrap_or_else(|_| beside.into());
    let folder = PathBuf::from(root).join("fixtures");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn both_layouts_mean_the_same() {
    let flat = r#"{
      "model_type": "glm4", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 112, "vocab_size": 320,
      "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "torch_dtype": "float32",
      "eos_token_id": [0, 1, 2], "pad_token_id": 3,
      "rope_theta": 10000, "partial_rotary_factor": 0.5, "rope_scaling": null
    }"#;
    let nested = GlmConfig::from_json(GLM4).unwrap();
    assert_eq!(nested, GlmConfig::from_json(flat).unwrap());
    assert_eq!(nested.model_type, ModelType::Glm4);
    assert!(nested.has_post_norms());
    assert_eq!(nested.rotary_dim(), 8);
    assert_eq!(nested.eos_token_ids, [0, 1, 2]);
    assert_eq!(nested.kv_bytes_per_token(2), 2 * 3 * 2 * 16 * 2);
}

#[test]
fn fixtures_parse_in_both_layouts() {
    let Some(folder) = fixtures() else { return };
    for model in ["glm", "glm4", "glm4_nobias", "glm4_tied"] {
        let folder = folder.join(model);
        let v5 = GlmConfig::from_file(folder.join("config.json")).unwrap();
        let legacy = GlmConfig::from_file(folder.join("config.legacy.json")).unwrap();
        assert_eq!(v5, legacy, "{model}");
        assert_eq!(GlmConfig::from_json(v5.to_json()).unwrap(), v5, "{model}");
        GenerationConfig::from_file(folder.join("generation_config.json")).unwrap();
    }
    // The decoder of a model that sees: the same one, its positions in three parts.
    let decoder = GlmConfig::from_file(folder.join("glm4v").join("config.json")).unwrap();
    assert_eq!(decoder.model_type, ModelType::Glm4);
    assert_eq!(decoder.rope.mrope_section, Some([2, 1, 1]));
    assert_eq!(GlmConfig::from_json(decoder.to_json()).unwrap(), decoder);
    // That of a model that hears is written as Llama's.
    let decoder = GlmConfig::from_file(folder.join("glmasr").join("config.json")).unwrap();
    assert_eq!((decoder.model_type, decoder.rope.mrope_section), (ModelType::Glm, None));
    assert_eq!(GlmConfig::from_json(decoder.to_json()).unwrap(), decoder);
}

#[test]
fn left_out_keys_have_the_defaults_of_transformers() {
    let config = GlmConfig::from_json(r#"{"model_type": "glm"}"#).unwrap();
    let expected = GlmConfig {
        model_type: ModelType::Glm,
        rms_norm_eps: 1.5625e-7,
        max_position_embeddings: 131_072,
        dtype: None,
        ..GlmConfig::glm4_9b_0414()
    };
    assert_eq!(config, expected);
    assert!(!config.has_post_norms());
    let small = GlmConfig::from_json(r#"{"model_type": "glm", "vocab_size": 320}"#).unwrap();
    assert_eq!((small.eos_token_ids, small.pad_token_id), (vec![], None));
    let without = with("rope_parameters.partial_rotary_factor", None);
    assert_eq!(GlmConfig::from_json(without).unwrap().rope.partial_rotary_factor, 0.5);
    let single = GlmConfig::from_json(with("eos_token_id", Some(7.into()))).unwrap();
    assert_eq!(single.eos_token_ids, [7]);
    let derived = GlmConfig::from_json(with("head_dim", Some(serde_json::Value::Null))).unwrap();
    assert_eq!(derived.head_dim, 16);
}

#[test]
fn presets_count_their_parameters() {
    let big = GlmConfig::glm4_9b_0414();
    assert_eq!(big.num_parameters(), 9_400_279_040);
    assert_eq!(big.parameters_read_per_token(), 9_400_279_040 - 151_551 * 4096);
    assert_eq!(big.kv_bytes_per_token(2), 40 << 10);
    let mid = GlmConfig::mid();
    assert_eq!(mid.num_parameters() / 1_000_000, 376);
    for config in [big, mid, GlmConfig::tiny()] {
        config.check().unwrap();
        let tied = GlmConfig { tie_word_embeddings: true, ..config.clone() };
        for config in [&config, &tied] {
            let shapes = config.tensor_shapes();
            let elements: usize = shapes.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
            assert_eq!(elements as u64, config.num_parameters());
            assert_eq!(GlmConfig::from_json(config.to_json()).unwrap(), *config);
        }
        assert_eq!(tied.parameters_read_per_token(), config.parameters_read_per_token());
    }
}

#[test]
fn impossible_values_name_their_key() {
    let json = |text: &str| Some(serde_json::from_str(text).unwrap());
    let cases = [
        ("model_type", json("\"mixtral\"")),
        ("model_type", json("4")),
        ("model_type", None),
        ("hidden_act", json("\"gelu\"")),
        ("hidden_size", json("0")),
        ("hidden_size", json("-64")),
        ("hidden_size", json("64.5")),
        ("hidden_size", json("\"64\"")),
        ("hidden_size", json("18446744073709551615")),
        ("hidden_size", json("1e30")),
        ("hidden_size", json("null")),
        ("num_hidden_layers", json("0")),
        ("num_hidden_layers", json("1000000000")),
        ("num_attention_heads", json("[4]")),
        ("num_key_value_heads", json("0")),
        ("num_key_value_heads", json("3")),
        ("num_key_value_heads", json("8")),
        ("head_dim", json("0")),
        ("head_dim", json("16777216")),
        ("partial_rotary_factor", json("1e-3")),
        ("intermediate_size", json("0")),
        ("vocab_size", json("true")),
        ("max_position_embeddings", json("0")),
        ("rms_norm_eps", json("0.0")),
        ("rms_norm_eps", json("-1e-5")),
        ("rms_norm_eps", json("\"1e-5\"")),
        ("attention_bias", json("1")),
        ("tie_word_embeddings", json("null")),
        ("eos_token_id", json("[0, 320]")),
        ("eos_token_id", json("-1")),
        ("eos_token_id", json("[[1]]")),
        ("pad_token_id", json("4294967296")),
        ("bos_token_id", json("1.5")),
        ("dtype", json("16")),
        ("rope_parameters", json("[]")),
        ("rope_parameters.rope_theta", json("0")),
        ("rope_parameters.rope_theta", json("-10000")),
        ("rope_parameters.rope_theta", json("\"x\"")),
        ("rope_parameters.partial_rotary_factor", json("0")),
        ("rope_parameters.partial_rotary_factor", json("1.5")),
        ("rope_parameters.rope_type", json("\"dynamic\"")),
        ("rope_parameters.rope_type", json("\"longrope\"")),
        ("rope_parameters.rope_type", json("7")),
    ];
    for (key, value) in cases {
        let mut bytes = with(key, value.clone());
        if key == "partial_rotary_factor" {
            // The nested key would win over the flat one.
            let text = String::from_utf8(bytes).unwrap();
            bytes = text.replace("\"partial_rotary_factor\":0.5,", "").into_bytes();
        }
        let error = GlmConfig::from_json(bytes).expect_err(&format!("{key} = {value:?}"));
        assert_eq!(error.key(), Some(key), "{error}");
        assert!(error.to_string().starts_with("config.json: "), "{error}");
    }
    for bytes in [&b""[..], b"{", b"[]", b"null", b"{\"rms_norm_eps\": NaN}", b"\xff\xfe{}"] {
        assert!(GlmConfig::from_json(bytes).is_err());
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(GlmConfig::from_json(deep), Err(ConfigError::Json { .. })));
}

#[test]
fn an_odd_rotary_dimension_is_refused() {
    let odd = with("rope_parameters.partial_rotary_factor", Some(0.45.into()));
    let error = GlmConfig::from_json(odd).unwrap_err();
    assert!(
        matches!(error, ConfigError::Impossible { ref key, .. } if key == "partial_rotary_factor")
    );
}

#[test]
fn sizes_that_overflow_together_are_refused() {
    let huge = r#"{"model_type": "glm4", "hidden_size": 16777216, "intermediate_size": 16777216}"#;
    assert!(matches!(GlmConfig::from_json(huge), Err(ConfigError::Impossible { .. })));
}

#[test]
fn errors_name_the_file() {
    let error = GlmConfig::from_file("no/such/config.json").unwrap_err();
    assert!(matches!(error, ConfigError::Io { .. }));
    assert!(error.to_string().starts_with("no/such/config.json: "), "{error}");
}

fn yarn(
    theta: f64,
    factor: f64,
    original: usize,
    betas: (f64, f64),
    truncate: bool,
) -> RopeParameters {
    RopeParameters {
        mrope_section: None,
        rope_theta: theta,
        partial_rotary_factor: 0.5,
        scaling: RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            beta_fast: betas.0,
            beta_slow: betas.1,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate,
        },
    }
}

/// Numbers of a NumPy float32 transcription of transformers 5.23.0's `_compute_yarn_parameters`
/// (NumPy 2.4.6, Python 3.11), printed with nine digits.
#[test]
fn yarn_frequencies_are_those_of_transformers() {
    // One unit in the last place of the power, one of each of three roundings after it.
    const TOLERANCE: f32 = 4.0 * f32::EPSILON;
    let close = |actual: f32, expected: f32| (actual - expected).abs() <= TOLERANCE * expected;

    let (freqs, scaling) = yarn(10_000.0, 4.0, 32_768, (32.0, 1.0), true).inv_freq(64);
    assert_eq!(freqs.len(), 32);
    let expected = [
        (0, 1.0),
        (1, 0.749_894_2),
        (15, 0.013_335_215),
        (19, 0.003_730_392),
        (20, 0.002_614_960_5),
        (25, 0.000_403_789_16),
        (26, 0.000_270_356_37),
        (27, 0.000_178_410_05),
        (28, 0.000_115_544_77),
        (31, 3.333_803_8e-5),
    ];
    for (i, value) in expected {
        assert!(close(freqs[i], value), "{i}: {} {value}", freqs[i]);
    }
    assert!(close(scaling, 1.138_629_4), "{scaling}");

    let (freqs, _) = yarn(500_000.0, 8.0, 4096, (16.0, 2.0), false).inv_freq(24);
    let expected = [
        1.0,
        0.335_031_63,
        0.112_246_19,
        0.037_606_03,
        0.009_064_011,
        0.001_094_408_6,
        0.000_176_776_68,
        5.922_58e-5,
        1.984_250_8e-5,
        6.647_87e-6,
        2.227_247_5e-6,
        7.461_98e-7,
    ];
    for (i, value) in expected.into_iter().enumerate() {
        assert!(close(freqs[i], value), "{i}: {} {value}", freqs[i]);
    }
}

#[test]
fn yarn_attention_factor_is_given_or_inferred() {
    let scaling = |extra: &str| {
        let json = format!(
            r#"{{"model_type": "glm4", "rope_theta": 10000.0, "rope_scaling": {{
                "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096{extra}}}}}"#
        );
        let config = GlmConfig::from_json(json).unwrap();
        assert_eq!(GlmConfig::from_json(config.to_json()).unwrap(), config);
        config.rope.inv_freq(config.rotary_dim()).1
    };
    assert_eq!(scaling(""), (0.1 * 8f64.ln() + 1.0) as f32);
    assert_eq!(scaling(r#", "attention_factor": 0.5"#), 0.5);
    let both = scaling(r#", "mscale": 0.707, "mscale_all_dim": 1.5"#);
    assert!((both - 0.874_306_2).abs() < 1e-6, "{both}");
    assert_eq!(scaling(r#", "mscale": 0.707"#), scaling(""));
}

#[test]
fn yarn_keys_are_checked_and_completed() {
    let parse = |scaling: &str| {
        let json = format!(
            r#"{{"model_type": "glm4", "max_position_embeddings": 65536, "rope_scaling": {scaling}}}"#
        );
        GlmConfig::from_json(json).map(|config| config.rope.scaling)
    };
    let yarn = parse(r#"{"rope_type": "yarn", "original_max_position_embeddings": 16384}"#);
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 16_384,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    };
    assert_eq!(yarn.unwrap(), expected);
    assert_eq!(
        parse(r#"{"type": "linear", "factor": 2}"#).unwrap(),
        RopeScaling::Linear { factor: 2.0 }
    );
    let refused = [
        (r#"{"type": "linear"}"#, "rope_scaling.factor"),
        (r#"{"type": "linear", "factor": 0.5}"#, "rope_scaling.factor"),
        (r#"{"type": "yarn", "factor": 0}"#, "rope_scaling.factor"),
        (r#"{"type": "yarn", "beta_fast": -1}"#, "rope_scaling.beta_fast"),
        (r#"{"type": "yarn", "beta_slow": 64}"#, "rope_scaling.beta_fast"),
        (
            r#"{"type": "yarn", "original_max_position_embeddings": 0}"#,
            "rope_scaling.original_max_position_embeddings",
        ),
        (r#"{"type": "yarn", "truncate": 1}"#, "rope_scaling.truncate"),
    ];
    for (scaling, key) in refused {
        assert_eq!(parse(scaling).unwrap_err().key(), Some(key), "{scaling}");
    }
}

/// Numbers of the formula in double precision, for Llama 3.1 8B: wavelengths of at most 2048 tokens are kept,
/// those above 8192 divided by 8.
#[test]
fn llama3_scaling_blends_between_two_wavelengths() {
    let config = |scaling: &str| {
        GlmConfig::from_json(format!(
            r#"{{"model_type": "glm4", "head_dim": 128, "partial_rotary_factor": 1.0,
                "rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling": {scaling}}}"#
        ))
    };
    let llama3 = |low: f64, high: f64| {
        format!(
            r#"{{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": {low},
                "high_freq_factor": {high}, "original_max_position_embeddings": 8192}}"#
        )
    };
    let scaled = config(&llama3(1.0, 4.0)).unwrap();
    assert_eq!(GlmConfig::from_json(scaled.to_json()).unwrap(), scaled);
    assert_eq!(scaled.context_length(), 131_072);
    let plain = config(r#"{"rope_type": "default"}"#).unwrap();
    let (scaled, factor) = scaled.rope.inv_freq(128);
    let (plain, _) = plain.rope.inv_freq(128);
    assert_eq!(factor, 1.0);
    for (i, share) in [
        (0, 1.0),
        (28, 1.0),
        (29, 0.828_168_4),
        (31, 0.493_507_1),
        (34, 0.190_210_7),
        (36, 0.125),
        (63, 0.125),
    ] {
        let actual = f64::from(scaled[i]) / f64::from(plain[i]);
        assert!((actual - share).abs() < 1e-5, "{i}: {actual} instead of {share}");
    }
    let error = config(&llama3(4.0, 4.0)).unwrap_err();
    assert_eq!(error.key(), Some("rope_scaling.high_freq_factor"));
    let missing = config(r#"{"rope_type": "llama3", "factor": 8.0}"#).unwrap_err();
    assert!(missing.key().is_some_and(|key| key.starts_with("rope_scaling.")), "{missing}");
}

/// The context is what a stretch makes of the length of the training, and no less than what is named.
#[test]
fn the_context_counts_what_scaling_stretches() {
    let context = |named: usize, scaling: &str| {
        let json = format!(
            r#"{{"model_type": "glm4", "max_position_embeddings": {named}, "rope_scaling": {scaling}}}"#
        );
        GlmConfig::from_json(json).map(|config| config.context_length())
    };
    let yarn = r#"{"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}"#;
    assert_eq!(context(32_768, yarn).unwrap(), 131_072);
    assert_eq!(context(131_072, yarn).unwrap(), 131_072);
    assert_eq!(context(200_000, yarn).unwrap(), 200_000);
    assert_eq!(context(8192, r#"{"type": "yarn", "factor": 4.0}"#).unwrap(), 32_768);
    assert_eq!(context(4096, r#"{"type": "linear", "factor": 2.5}"#).unwrap(), 10_240);
    assert_eq!(context(4096, "null").unwrap(), 4096);
    assert!(context(4096, r#"{"type": "linear", "factor": 1e30}"#).unwrap() <= 1 << 31);
    let dynamic = context(4096, r#"{"type": "dynamic", "factor": 2.0}"#).unwrap_err();
    assert_eq!(dynamic.key(), Some("rope_scaling.type"));
}

#[test]
fn linear_scaling_divides() {
    let plain = RopeParameters {
        mrope_section: None,
        rope_theta: 10_000.0,
        partial_rotary_factor: 0.5,
        scaling: RopeScaling::None,
    };
    let linear = RopeParameters { scaling: RopeScaling::Linear { factor: 4.0 }, ..plain.clone() };
    let (plain, linear) = (plain.inv_freq(8).0, linear.inv_freq(8).0);
    let expected = [1.0, 0.1, 0.01, 0.001];
    for i in 0..4 {
        assert!((plain[i] - expected[i]).abs() <= f32::EPSILON * expected[i], "{}", plain[i]);
        assert_eq!(linear[i], plain[i] / 4.0);
    }
}

#[test]
fn generation_config_reads_numbers_and_lists() {
    let json = r#"{"eos_token_id": [1, 2], "temperature": 0.8, "top_p": 0.95, "top_k": 40,
        "do_sample": true, "max_new_tokens": 256, "repetition_penalty": 1.1, "pad_token_id": null}"#;
    let config = GenerationConfig::from_json(json).unwrap();
    let expected = GenerationConfig {
        eos_token_ids: vec![1, 2],
        do_sample: Some(true),
        temperature: Some(0.8),
        top_k: Some(40),
        top_p: Some(0.95),
        repetition_penalty: Some(1.1),
        max_new_tokens: Some(256),
        ..GenerationConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(GenerationConfig::from_json(r#"{"eos_token_id": 3}"#).unwrap().eos_token_ids, [3]);
    assert_eq!(GenerationConfig::from_json("{}").unwrap(), GenerationConfig::default());
    // As vLLM and transformers mean it: all tokens, and the likeliest alone.
    let meant =
        GenerationConfig::from_json(r#"{"top_k": -1, "top_p": 0, "pad_token_id": -1}"#).unwrap();
    assert_eq!((meant.top_k, meant.pad_token_id), (Some(0), None));
    assert!(meant.top_p.is_some_and(|share| share > 0.0 && share < 1e-6));
    let stops =
        GenerationConfig::from_json(r#"{"stop_strings": "END", "bad_words_ids": [[3], [1, 2]]}"#);
    let stops = stops.unwrap();
    assert_eq!((stops.stop_strings, stops.suppress_tokens), (vec!["END".to_owned()], vec![3]));
    assert_eq!(stops.unused, ["bad_words_ids"]);
    // What is not used is named, unless it is off or changes nothing.
    let json = r#"{"num_beams": 4, "typical_p": 0.9, "no_repeat_ngram_size": 3, "max_length": 4096,
        "chat_format": "chatml", "forced_eos_token_id": 1, "num_return_sequences": 1, "use_cache": true,
        "length_penalty": 1.0, "top_h": null, "epsilon_cutoff": 0.0, "transformers_version": "5.0",
        "bos_token_id": 1, "early_stopping": false, "begin_suppress_tokens": [], "_from_model_config": true}"#;
    let mut unused = GenerationConfig::from_json(json).unwrap().unused;
    unused.sort();
    let named = [
        "chat_format",
        "forced_eos_token_id",
        "max_length",
        "no_repeat_ngram_size",
        "num_beams",
        "typical_p",
    ];
    assert_eq!(unused, named);
    let refused = [
        ("bad_words_ids", "[3]"),
        ("bad_words_ids", "[[-3]]"),
        ("stop_strings", "[3]"),
        ("suppress_tokens", "\"a\""),
        ("min_new_tokens", "-1"),
        ("temperature", "-1"),
        ("top_p", "-0.1"),
        ("top_p", "1.5"),
        ("min_p", "2"),
        ("repetition_penalty", "0"),
        ("top_k", "-2"),
        ("top_k", "0.5"),
        ("do_sample", "\"yes\""),
        ("max_new_tokens", "-1"),
        ("eos_token_id", "\"</s>\""),
    ];
    for (key, value) in refused {
        let json = format!("{{\"{key}\": {value}}}");
        assert_eq!(
            GenerationConfig::from_json(json).unwrap_err().key(),
            Some(key),
            "{key} {value}"
        );
    }
}
