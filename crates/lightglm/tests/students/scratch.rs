//! Students that know nothing have their teacher's text side.

use lightglm::prune::{PruneError, ScratchOptions, from_scratch};
use lightglm::{Error, LoadOptions, Model, WeightDtype};
use lightglm_model::config::GlmConfig;

use super::fixture::{open, tensors};
use super::tiny_model;

#[test]
fn a_new_model_reads_and_ends_as_its_teacher_does() {
    let folder = tiny_model::folder(1);
    let (teacher, out) = (open(folder.path()), tempfile::tempdir().unwrap());
    let student = out.path().join("student");
    let config = GlmConfig {
        hidden_size: 32,
        num_hidden_layers: 1,
        eos_token_ids: Vec::new(),
        ..teacher.config().clone()
    };
    let options = ScratchOptions { dtype: WeightDtype::Bf16, seed: 7, ..ScratchOptions::default() };
    let (shape, size) = from_scratch(&teacher, &config, &options, &student).unwrap();
    assert_eq!((shape.hidden_size, size.bytes), (32, 2 * size.parameters));
    let model = Model::open(&student, LoadOptions::default()).unwrap();
    assert_eq!(model.config().eos_token_ids, teacher.eos_token_ids().unwrap());
    let (new, old) = (&model.text().tokenizer, teacher.tokenizer().unwrap());
    assert_eq!(new.encode_text("the end").unwrap(), old.encode_text("the end").unwrap());
    // The seed decides.
    let again = out.path().join("again");
    from_scratch(&teacher, &config, &options, &again).unwrap();
    assert_eq!(tensors(open(&again).weights()), tensors(open(&student).weights()));
    let other = out.path().join("other");
    from_scratch(&teacher, &config, &ScratchOptions { seed: 8, ..options.clone() }, &other)
        .unwrap();
    assert_ne!(tensors(open(&other).weights()), tensors(open(&student).weights()));

    let few = GlmConfig { vocab_size: 319, ..config.clone() };
    let nowhere = out.path().join("nowhere");
    let error = from_scratch(&teacher, &few, &options, &nowhere).unwrap_err();
    assert!(matches!(error, Error::Prune(PruneError::TooFewRows { tokens: 320, .. })), "{error}");
    let impossible = GlmConfig { num_key_value_heads: 3, ..config };
    let error = from_scratch(&teacher, &impossible, &options, &nowhere).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(_)) && !nowhere.exists(), "{error}");
}
