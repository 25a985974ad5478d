//! Configurations of models that see and hear: what they leave out, and what is wrong in them.

use std::path::PathBuf;

use lightglm_model::config::{ConfigError, GlmConfig, MediaConfig, ModelType, PreprocessorConfig};
use tempfile::TempDir;

fn written(name: &str, json: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, json).unwrap();
    (folder, file)
}

fn both(json: &str) -> Result<(GlmConfig, MediaConfig), ConfigError> {
    let (_folder, file) = written("config.json", json);
    let text = GlmConfig::from_file(&file)?;
    Ok((text, MediaConfig::from_file(&file)?.expect("it has an encoder")))
}

fn parameters(shapes: &[(String, Vec<usize>)]) -> f64 {
    shapes.iter().map(|(_, shape)| shape.iter().product::<usize>() as f64).sum::<f64>() / 1e9
}

fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() < 1e-3 * expected.max(1.0), "{actual} {expected}");
}

/// Counted by transformers' default configurations on the meta device, in billions.
#[test]
fn defaults_are_the_published_models() {
    let of = |kind: &str, encoder: &str| {
        both(&format!(r#"{{"model_type": "{kind}", "text_config": {{}}, "{encoder}": {{}}}}"#))
            .unwrap()
    };
    for kind in ["glm4v", "glm46v"] {
        let (text, MediaConfig::Vision(tower)) = of(kind, "vision_config") else {
            panic!("it sees")
        };
        close(parameters(&tower.tensor_shapes()), 0.892);
        let head = (text.vocab_size * text.hidden_size) as f64 / 1e9;
        close(text.num_parameters() as f64 / 1e9 - head, 8.78);
        close(head, 0.62);
        assert_eq!((text.model_type, text.attention_bias), (ModelType::Glm4, true));
        assert_eq!(text.rope.mrope_section, Some([8, 12, 12]));
        assert_eq!(tower.image_token_id, 151_343);
    }
    let (text, MediaConfig::Vision(tower)) = of("glm_ocr", "vision_config") else {
        panic!("it sees")
    };
    close(parameters(&tower.tensor_shapes()), 0.434);
    let head = (text.vocab_size * text.hidden_size) as f64 / 1e9;
    close(text.num_parameters() as f64 / 1e9 - head, 0.313);
    assert!(!text.attention_bias && text.rotary_dim() == text.head_dim);
    let (text, MediaConfig::Audio(encoder)) = of("glmasr", "audio_config") else {
        panic!("it hears")
    };
    let shapes = encoder.tensor_shapes();
    let (projector, tower): (Vec<_>, Vec<_>) =
        shapes.into_iter().partition(|(name, _)| name.starts_with("multi_modal"));
    close(parameters(&tower), 0.635);
    close(parameters(&projector), 0.029);
    assert_eq!(
        (text.num_hidden_layers, text.vocab_size, text.num_key_value_heads),
        (28, 59_264, 4)
    );
    assert_eq!(
        (encoder.rotary_dim(), encoder.merged_frames(), encoder.audio_token_id),
        (32, 4, 59_260)
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let cases = [
        (r#"{"model_type": "glm4v", "vision_config": {}}"#, "`text_config` is missing"),
        (r#"{"model_type": "glm4v", "text_config": {}}"#, "`vision_config` is missing"),
        (
            r#"{"model_type": "glm4v_moe", "text_config": {}, "vision_config": {}}"#,
            "no mixture of experts",
        ),
        (
            r#"{"model_type": "glm46v", "text_config": {"model_type": "glm4v_moe_text"}, "vision_config": {}}"#,
            "text_config.model_type",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {"rope_parameters": {"mrope_section": [8, 12]}}, "vision_config": {}}"#,
            "text_config.rope_parameters.mrope_section",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {"rope_parameters": {"mrope_section": [8, 12, 13]}}, "vision_config": {}}"#,
            "must sum to 32",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {"hidden_size": "x"}, "vision_config": {}}"#,
            "text_config.hidden_size",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {}, "vision_config": {"num_heads": 7}}"#,
            "vision_config.num_heads",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {}, "vision_config": {"in_channels": 4}}"#,
            "vision_config.in_channels",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {}, "vision_config": {"patch_size": 0}}"#,
            "vision_config.patch_size",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {}, "vision_config": {"image_size": 3}}"#,
            "vision_config.image_size",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {"hidden_size": 4096}, "vision_config": {"out_hidden_size": 1024}}"#,
            "vision_config.out_hidden_size",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {}, "vision_config": {"depth": 99999999}}"#,
            "vision_config.depth",
        ),
        (
            r#"{"model_type": "glm4v", "text_config": {}, "vision_config": {"rope_parameters": {"rope_theta": 0}}}"#,
            "rope_theta",
        ),
        (
            r#"{"model_type": "glmasr", "text_config": {}, "audio_config": {"hidden_act": "relu"}}"#,
            "audio_config.hidden_act",
        ),
        (
            r#"{"model_type": "glmasr", "text_config": {}, "audio_config": {"intermediate_size": 5121}}"#,
            "audio_config.intermediate_size",
        ),
        (
            r#"{"model_type": "glmasr", "text_config": {}, "audio_config": {"num_attention_heads": 3}}"#,
            "audio_config.num_attention_heads",
        ),
        (r#"{"model_type": "glmasr", "text_config": [], "audio_config": {}}"#, "text_config"),
    ];
    for (json, words) in cases {
        let error = both(json).expect_err(json).to_string();
        assert!(error.contains(words) && error.contains("config.json"), "{json}: {error}");
    }
    let (_folder, file) = written("config.json", r#"{"model_type": "glm4"}"#);
    assert_eq!(MediaConfig::from_file(&file).unwrap(), None);
}

#[test]
fn preprocessors_of_both_layouts() {
    let (folder, _) = written(
        "preprocessor_config.json",
        r#"{"size": {"shortest_edge": 100, "longest_edge": 200}, "image_mean": [0.5, 0.5, 0.5], "chunk_length": 30}"#,
    );
    let settings = PreprocessorConfig::from_dir(folder.path()).unwrap();
    assert_eq!((settings.min_pixels, settings.max_pixels), (Some(100), Some(200)));
    assert_eq!(
        (settings.image_mean, settings.image_std, settings.chunk_length),
        (Some([0.5; 3]), None, Some(30))
    );
    let (folder, _) = written(
        "processor_config.json",
        r#"{"image_processor": {"min_pixels": 7, "max_pixels": 9}}"#,
    );
    let settings = PreprocessorConfig::from_dir(folder.path()).unwrap();
    assert_eq!((settings.min_pixels, settings.max_pixels), (Some(7), Some(9)));
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(
        PreprocessorConfig::from_dir(nothing.path()).unwrap(),
        PreprocessorConfig::default()
    );
    for (json, words) in [
        (r#"{"image_std": [0, 1, 1]}"#, "image_std"),
        (r#"{"image_mean": [1, 1]}"#, "image_mean"),
        (r#"{"chunk_length": 0}"#, "chunk_length"),
        (r#"{"size": {"shortest_edge": -1}}"#, "size.shortest_edge"),
    ] {
        let (folder, _) = written("preprocessor_config.json", json);
        let error = PreprocessorConfig::from_dir(folder.path()).expect_err(json).to_string();
        assert!(error.contains(words), "{error}");
    }
}
