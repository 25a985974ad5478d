//! A student that keeps everything is the teacher, to the bit.

use lightglm::prune::{PruneOptions, PruneReport, prune};
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::weights::SafetensorsCheckpoint;
use serde_json::Value;

use super::fixture::{llama, open, teacher, tensors};

fn json(file: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(file.join("config.json")).unwrap()).unwrap()
}

#[test]
fn every_family_keeps_its_tensors_and_its_configuration() {
    let out = tempfile::tempdir().unwrap();
    let types = [ModelType::Glm4, ModelType::Glm, ModelType::GlmQkNorm];
    let ours: Vec<_> = types.into_iter().map(|model_type| teacher(model_type, 1)).collect();
    let llama = ["llama_bias", "llama_tied", "mistral", "qwen2", "qwen3"].map(llama);
    let folders = ours.iter().map(|folder| folder.path().to_owned()).chain(llama);
    for (folder, index) in folders.zip(0..) {
        let student = out.path().join(index.to_string());
        let checkpoint = open(&folder);
        let PruneReport { before, after, config, importance, .. } =
            prune(&checkpoint, &PruneOptions::default(), &student).unwrap();
        let file = |folder| SafetensorsCheckpoint::open(folder).unwrap();
        assert_eq!(tensors(&file(&student)), tensors(&file(&folder)), "{}", folder.display());
        assert_eq!(json(&student), json(&folder), "{}", folder.display());
        assert_eq!((before, &config), (after, checkpoint.config()));
        assert_eq!(importance, None);
    }
}

/// Its own layout fuses what is cut apart, so it becomes the `glm` that it is.
#[test]
fn chatglm_becomes_the_glm_that_it_is() {
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    let checkpoint = open(&llama("chatglm"));
    prune(&checkpoint, &PruneOptions::default(), &student).unwrap();
    let written = open(&student);
    assert_eq!(tensors(written.weights()), tensors(checkpoint.weights()));
    let expected =
        GlmConfig { dtype: written.config().dtype.clone(), ..checkpoint.config().clone() };
    assert_eq!(written.config(), &expected);
}
