//! Encoders against transformers and sentence-transformers, and what they refuse.

use std::fs;
use std::path::{Path, PathBuf};

use lightglm_core::WeightError;
use lightglm_model::config::ConfigError;
use lightglm_model::encoder::{CrossEncoder, EncoderError, EncoderInput, SentenceEncoder};
use serde::Deserialize;
use serde_json::{Value, json};

/// What tools/encoder_golden.py wrote.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    pairs: Vec<[String; 2]>,
    sentence: Vec<Sentence>,
    cross: Vec<Cross>,
}

#[derive(Deserialize)]
struct Sentence {
    folder: String,
    max_tokens: usize,
    /// Of each text, as they are cut.
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Cross {
    folder: String,
    scores: Vec<f32>,
}

/// Both add up thousands of f32, each in its own order.
const TOLERANCE: f32 = 2e-5;

/// Of `1 - cosine`.
const COSINE_TOLERANCE: f64 = 1e-6;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/encoder")
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(data().join("expected.json")).unwrap()).unwrap()
}

fn open(folder: &str) -> SentenceEncoder {
    SentenceEncoder::open(&data().join(folder)).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let expected = expected();
    assert!(expected.sentence.len() >= 4 && expected.texts.len() >= 20);
    for case in &expected.sentence {
        let encoder = open(&case.folder);
        assert_eq!(encoder.max_tokens(), case.max_tokens, "{}", case.folder);
        let inputs: Vec<EncoderInput> =
            expected.texts.iter().map(|text| encoder.encode(text, usize::MAX).unwrap()).collect();
        for ((input, ids), text) in inputs.iter().zip(&case.ids).zip(&expected.texts) {
            assert_eq!(&input.ids, ids, "{}: {text:?}", case.folder);
        }
        let vectors = encoder.embed(&inputs).unwrap();
        assert_eq!(vectors.len(), case.vectors.len());
        for ((ours, theirs), text) in vectors.iter().zip(&case.vectors).zip(&expected.texts) {
            assert_eq!(ours.len(), encoder.dimensions());
            let off = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < TOLERANCE, "{}: {text:?} is off by {off}", case.folder);
            assert!(1.0 - cosine(ours, theirs) < COSINE_TOLERANCE, "{}: {text:?}", case.folder);
        }
    }
}

#[test]
fn scores_are_those_of_a_cross_encoder() {
    let expected = expected();
    for case in &expected.cross {
        let encoder = CrossEncoder::open(&data().join(&case.folder)).unwrap();
        let pairs = expected.pairs.iter().map(|[a, b]| encoder.encode(a, b).unwrap());
        let scores = encoder.score(&pairs.collect::<Vec<_>>()).unwrap();
        for ((ours, theirs), pair) in scores.iter().zip(&case.scores).zip(&expected.pairs) {
            assert!((ours - theirs).abs() < TOLERANCE, "{}: {pair:?} {ours} {theirs}", case.folder);
        }
    }
}

/// What is cut off a pair is gone: it is not paired with all that was cut off the other.
#[test]
fn long_pairs_cost_what_they_are_long() {
    let folder = &expected().cross[0].folder.clone();
    let encoder = CrossEncoder::open(&data().join(folder)).unwrap();
    let long = "a ".repeat(30_000);
    let begin = std::time::Instant::now();
    let input = encoder.encode(&long, &long).unwrap();
    assert!(input.is_truncated() && input.whole_len >= 60_000);
    assert!(begin.elapsed() < std::time::Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn a_vector_does_not_depend_on_its_company() {
    let expected = expected();
    for folder in ["bert", "roberta"] {
        let encoder = open(folder);
        let inputs: Vec<EncoderInput> =
            expected.texts.iter().map(|text| encoder.encode(text, usize::MAX).unwrap()).collect();
        let together = encoder.embed(&inputs).unwrap();
        for (input, vector) in inputs.iter().zip(&together) {
            let alone = encoder.embed(std::slice::from_ref(input)).unwrap().remove(0);
            assert_eq!(&alone, vector);
        }
        let mut backwards = inputs.clone();
        backwards.reverse();
        let mut vectors = encoder.embed(&backwards).unwrap();
        vectors.reverse();
        assert_eq!(vectors, together);
        assert!(encoder.embed(&[]).unwrap().is_empty());
    }
}

#[test]
fn what_is_cut_off_is_counted() {
    let encoder = open("bert");
    let long = "你好 hello ".repeat(500);
    let input = encoder.encode(&long, usize::MAX).unwrap();
    assert!(input.is_truncated() && input.whole_len > 1000);
    assert_eq!(input.ids.len(), encoder.max_tokens());
    let five = encoder.encode(&long, 5).unwrap();
    assert_eq!((five.ids.len(), five.whole_len), (5, input.whole_len));
    assert_eq!((five.ids[..4] == input.ids[..4], five.ids[4]), (true, *input.ids.last().unwrap()));
    assert!(!encoder.encode("hello", usize::MAX).unwrap().is_truncated());
}

#[test]
fn inputs_that_cannot_be_are_named() {
    let encoder = open("bert");
    let fine = EncoderInput::of_ids(vec![1, 2]);
    let vocab_size = encoder.config().vocab_size as u32;
    let embed = |bad: Vec<u32>| {
        encoder.embed(&[fine.clone(), EncoderInput::of_ids(bad)]).unwrap_err().to_string()
    };
    assert_eq!(embed(vec![]), "input 1 has no tokens");
    let said = embed(vec![1, vocab_size]);
    assert_eq!(said, format!("input 1: token {vocab_size} is not below {vocab_size}"));
    let most = encoder.config().max_tokens();
    let said = embed(vec![1; most + 1]);
    assert_eq!(said, format!("input 1 has {} tokens and the limit is {most}", most + 1));
    let strange = EncoderInput { type_ids: vec![9, 9], ..fine.clone() };
    let error = encoder.embed(&[strange]).unwrap_err();
    assert!(matches!(error, EncoderError::UnknownKind { index: 0, kind: 9, kinds: 2 }), "{error}");
}

/// A copy of a folder, files of its folders included.
fn copy(folder: &str) -> tempfile::TempDir {
    fn all(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                all(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let copy = tempfile::tempdir().unwrap();
    all(&data().join(folder), copy.path());
    copy
}

/// Changes a JSON file.
fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

/// What opening says of a folder one of whose files has one field changed.
fn refusal(file: &str, pointer: &str, value: Value) -> EncoderError {
    let copy = copy("bert");
    edit(&copy.path().join(file), |json| match json.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => json[&pointer[1..]] = value,
    });
    match SentenceEncoder::open(copy.path()) {
        Err(error) => error,
        Ok(_) => panic!("{file} {pointer} is accepted"),
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let config = "config.json";
    for (file, pointer, value, key) in [
        (config, "/model_type", json!("distilbert"), "model_type"),
        (config, "/model_type", json!(null), "model_type"),
        (config, "/model_type", json!(7), "model_type"),
        (config, "/hidden_act", json!("mish"), "hidden_act"),
        (config, "/position_embedding_type", json!("relative_key"), "position_embedding_type"),
        (config, "/is_decoder", json!(true), "is_decoder"),
        (config, "/quantization_config", json!({}), "quantization_config"),
        (config, "/hidden_size", json!(31), "hidden_size"),
        (config, "/hidden_size", json!(0), "hidden_size"),
        (config, "/hidden_size", json!(1_i64 << 40), "hidden_size"),
        (config, "/num_attention_heads", json!(-1), "num_attention_heads"),
        (config, "/num_hidden_layers", json!(1_000_000), "num_hidden_layers"),
        (config, "/layer_norm_eps", json!(2), "layer_norm_eps"),
        ("modules.json", "/0/type", json!("sentence_transformers.models.CLIPModel"), "[0].type"),
        ("modules.json", "/1/type", json!("x.WordEmbeddings"), "[1].type"),
        ("modules.json", "/2/type", json!("x.LSTM"), "[2].type"),
        ("modules.json", "/1/path", json!("../elsewhere"), "path"),
        ("modules.json", "/1/path", json!("/elsewhere"), "path"),
        ("1_Pooling/config.json", "/pooling_mode", json!("lasttoken"), "pooling_mode"),
        ("1_Pooling/config.json", "/pooling_mode_weightedmean_tokens", json!(true), "pooling_mode"),
        ("1_Pooling/config.json", "/include_prompt", json!(false), "include_prompt"),
        ("sentence_bert_config.json", "/max_seq_length", json!(0), "max_seq_length"),
        ("sentence_bert_config.json", "/max_seq_length", json!("many"), "max_seq_length"),
        ("sentence_bert_config.json", "/do_lower_case", json!("yes"), "do_lower_case"),
    ] {
        let error = refusal(file, pointer, value);
        let EncoderError::Config(error) = error else { panic!("{file} {pointer}: {error}") };
        assert_eq!(error.key(), Some(key), "{file} {pointer}: {error}");
        assert!(error.to_string().contains(file), "{error}");
    }
    let error = refusal("sentence_bert_config.json", "/max_seq_length", json!(2));
    assert!(matches!(error, EncoderError::NoRoom { max_tokens: 2, added: 2, .. }), "{error}");
}

#[test]
fn files_that_are_missing_or_broken_are_named() {
    for (file, part) in [
        ("config.json", "config.json"),
        ("model.safetensors", "model.safetensors"),
        ("tokenizer.json", "tokenizer.json"),
        ("1_Pooling/config.json", "1_Pooling"),
    ] {
        let copy = copy("bert");
        fs::remove_file(copy.path().join(file)).unwrap();
        let error = SentenceEncoder::open(copy.path()).unwrap_err();
        assert!(error.to_string().contains(part), "{file}: {error}");
        fs::write(copy.path().join(file), "{").unwrap();
        let error = SentenceEncoder::open(copy.path()).unwrap_err();
        assert!(error.to_string().contains(part), "{file}: {error}");
    }
    let copy = copy("bert");
    fs::write(copy.path().join("modules.json"), "[]").unwrap();
    let error = SentenceEncoder::open(copy.path()).unwrap_err();
    assert!(matches!(error, EncoderError::Config(ConfigError::Impossible { .. })), "{error}");
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    for (key, value, name) in [
        ("vocab_size", 7, "embeddings.word_embeddings.weight"),
        ("max_position_embeddings", 1000, "embeddings.position_embeddings.weight"),
        ("type_vocab_size", 3, "embeddings.token_type_embeddings.weight"),
        ("intermediate_size", 63, "encoder.layer.0.intermediate.dense.weight"),
        ("hidden_size", 48, "embeddings.word_embeddings.weight"),
    ] {
        let error = refusal("config.json", &format!("/{key}"), json!(value));
        let EncoderError::Weights(error) = error else { panic!("{key}: {error}") };
        assert!(
            matches!(&error, WeightError::ShapeMismatch { name: n, .. } if n.ends_with(name)),
            "{error}"
        );
    }
    let error = refusal("config.json", "/num_hidden_layers", json!(3));
    let EncoderError::Weights(error) = error else { panic!("{error}") };
    assert!(error.to_string().contains("encoder.layer.2.attention.self.query.weight"), "{error}");
}

#[test]
fn a_plain_encoder_is_pooled_by_mean_and_gives_no_scores() {
    let folder = copy("bert");
    fs::remove_file(folder.path().join("modules.json")).unwrap();
    let encoder = SentenceEncoder::open(folder.path()).unwrap();
    assert!(!encoder.normalizes() && encoder.assumes_mean() && !open("bert").assumes_mean());
    let error = CrossEncoder::open(folder.path()).unwrap_err();
    assert!(matches!(error, EncoderError::NoScores { .. }), "{error}");
}
