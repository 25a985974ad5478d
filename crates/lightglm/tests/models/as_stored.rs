//! GGUF files held as they are stored: the values of the file, nothing widened, and what does not fit the
//! memory refused before it is read.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lightglm::evaluate::TextOptions;
use lightglm::{Error, KvDtype, LoadOptions, Model, SMALL_MODEL, WeightDtype, Weights};
use lightglm_eval::Protocol;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::{GgmlType, write_random_checkpoint, write_random_gguf};

/// The tiny shape with rows that are whole blocks of 32.
fn shape() -> GlmConfig {
    GlmConfig { intermediate_size: 96, ..GlmConfig::tiny() }
}

fn random_gguf(folder: &Path, blocks: GgmlType) -> PathBuf {
    let file = folder.join(format!("{}.gguf", blocks.name()));
    let progress = &mut |_| ControlFlow::Continue(());
    write_random_gguf(&file, &shape(), blocks, 7, progress).unwrap();
    file
}

fn in_f32() -> LoadOptions {
    LoadOptions { weights: Weights::Dtype(WeightDtype::F32), ..exact() }
}

fn exact() -> LoadOptions {
    LoadOptions { kv_dtype: KvDtype::F32, ..LoadOptions::default() }
}

/// Divergence of the model as it is stored from the one in f32, on so many windows of 512.
fn divergence(file: impl AsRef<Path>, text: &str, windows: usize) -> (f64, usize) {
    let stored = Model::open(&file, exact()).unwrap();
    assert!(stored.is_integer(), "{} is widened", stored.scheme());
    let widened = Model::open(&file, in_f32()).unwrap();
    assert!(!widened.is_integer());
    let context = 512.min(stored.max_context());
    let protocol =
        Protocol { context_length: context, stride: context, bos: None, context_only: 0 };
    let options = TextOptions { protocol, ..TextOptions::default() }.with_windows(windows);
    let found = stored.kl_divergence(&widened, text, &options).unwrap();
    (found.mean, found.tokens)
}

#[test]
fn blocks_give_the_logits_of_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let text = "My parcel has not arrived. What should I do? 我的包裹还没有到，怎么办？".repeat(8);
    for (blocks, scheme) in [(GgmlType::Q4_0, "q4_0"), (GgmlType::Q8_0, "q8_0")] {
        let file = random_gguf(folder.path(), blocks);
        let model = Model::open(&file, LoadOptions::default()).unwrap();
        assert_eq!(model.scheme(), scheme);
        let (mean, _) = divergence(&file, &text, 1);
        assert!(mean <= 1e-6, "{scheme}: {mean:e}");
        // 4.5 and 8.5 bits a weight, and panels of 32 rows that some matrices do not fill.
        let bits = if blocks == GgmlType::Q4_0 { 4.5 } else { 8.5 };
        let weights: usize = shape()
            .tensor_shapes()
            .iter()
            .filter(|(_, s)| s.len() == 2)
            .map(|(_, s)| s.iter().product::<usize>())
            .sum();
        let least = (weights as f64 * bits / 8.0) as u64;
        let held = model.weight_bytes(&Weights::Stored).unwrap();
        assert!((least..least * 11 / 10).contains(&held), "{scheme}: {held} of {least}");
        assert!(model.weight_bytes(&Weights::Dtype(WeightDtype::F32)).unwrap() > 3 * held);
    }
}

/// The small real model on 508 tokens; the whole 2,044 below.
#[test]
fn the_default_model_loses_nothing() {
    divergence_of_the_default_model(1);
}

#[test]
#[ignore = "four times the test above; its last result is in docs/benchmarks.md"]
fn the_default_model_loses_nothing_on_2044_tokens() {
    divergence_of_the_default_model(4);
}

fn divergence_of_the_default_model(windows: usize) {
    let checkpoint = match lightglm::checkpoint::open(SMALL_MODEL, &Default::default()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            println!("skipped: the small model is out of reach: {error:#}");
            return;
        }
    };
    let ids = crate::wikitext::token_ids();
    let text = checkpoint.tokenizer().unwrap().decode(&ids, false);
    let (mean, tokens) = divergence(SMALL_MODEL, &text, windows);
    println!("KL divergence {mean:e} on {tokens} tokens");
    assert!(mean <= 1e-5, "{mean:e}");
}

#[test]
fn table_types_are_read_and_others_are_refused_by_name() {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = shared.unwrap_or(beside).join("cases/gguf");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let file = folder.join("glm4-IQ4_NL.gguf");
    let stored = Model::open(&file, exact()).unwrap();
    let widened = Model::open(&file, in_f32()).unwrap();
    assert!(stored.scheme().contains("iq4_nl"), "{}", stored.scheme());
    let (context, choices) = ("The parcel", [" is here", " is late"]);
    let [a, b] = [&stored, &widened].map(|model| model.score(context, &choices).unwrap());
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-3 * b.abs().max(1.0), "{a} and {b}");
    }
    // Its blocks are of 256, and so are some rows, whatever its metadata say.
    let error = Model::open(folder.join("glm4-IQ4_XS.gguf"), exact()).unwrap_err().to_string();
    assert!(error.contains("down_proj.weight` has shape [64, 256]"), "{error}");
    for kind in ["MXFP4", "Q8_1", "Q8_K", "TQ1_0"] {
        let file = folder.join(format!("glm4-{kind}.gguf"));
        let error = Model::open(&file, LoadOptions::default()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("unsupported dtype {kind}")), "{kind}: {error}");
    }
}

#[test]
fn what_does_not_fit_the_memory_is_refused_with_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let progress = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(folder.path(), &shape(), WeightDtype::Bf16, 0, None, progress).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../lightglm-text/tests/data/text/tokenizer.json");
    std::fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
    let open = |memory| {
        let options = LoadOptions { memory: Some(memory), max_context: Some(16), ..exact() };
        Model::open(folder.path(), options)
    };
    let whole = open(u64::MAX).unwrap();
    let (bf16, int8) = (
        whole.weight_bytes(&Weights::Stored).unwrap(),
        whole.weight_bytes(&Weights::scheme("int8").unwrap()).unwrap(),
    );
    drop(whole);
    assert!(int8 < bf16);
    let Err(Error::Memory { weights, kv_cache, positions: 16, available, fitting, .. }) =
        open(bf16 - 1)
    else {
        panic!("it does not fit")
    };
    assert_eq!((weights, available), (bf16, bf16 - 1));
    // Keys and values of 2 layers of 2 heads of 16 channels in f32.
    assert_eq!(kv_cache, 2 * 2 * 2 * 16 * 4 * 16);
    assert_eq!(fitting, Some(("int8", int8)));
    let error = open(int8).unwrap_err();
    let Error::Memory { fitting: Some(("int4", _)), .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("the scheme `int4` would fit"), "{error}");
    let Err(Error::Memory { fitting: None, .. }) = open(1000) else { panic!("it does not fit") };
    assert!(open(bf16 + kv_cache).is_ok());
}

#[test]
fn weights_that_are_copied_are_those_that_are_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let dense = crate::tiny_model::folder(5);
    let packed = folder.path().join("int8");
    let int8 = "*=int8".parse::<lightglm::Policy>().unwrap();
    Model::open(dense.path(), exact()).unwrap().quantize(&packed, &int8.into()).unwrap();
    for model in [dense.path().to_owned(), packed, random_gguf(folder.path(), GgmlType::Q4_0)] {
        let scores = [false, true].map(|copy_weights| {
            let options = LoadOptions { copy_weights, ..exact() };
            let model = Model::open(&model, options).unwrap();
            model.score("The parcel", &[" is here", " is late"]).unwrap()
        });
        assert_eq!(scores[0], scores[1], "{}", model.display());
    }
}

/// What a policy leaves as it is stored stays in its blocks, and the report says so.
#[test]
fn a_quantized_folder_keeps_the_blocks_that_its_policy_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let file = random_gguf(folder.path(), GgmlType::Q4_0);
    let model = Model::open(&file, exact()).unwrap();
    let policy = "*.down_proj=int8".parse::<lightglm::Policy>().unwrap();
    let out = folder.path().join("mixed");
    let report = model.quantize(&out, &policy.into()).unwrap();
    let blocks = "w4a16-g32".to_owned();
    let layers = shape().num_hidden_layers;
    let matrices = shape().tensor_shapes().iter().filter(|(_, shape)| shape.len() == 2).count();
    let found: std::collections::BTreeMap<String, usize> =
        report.schemes.iter().map(|(scheme, count)| (scheme.to_string(), *count)).collect();
    let rest = matrices - layers;
    assert_eq!(found, [("int8".to_owned(), layers), (blocks, rest)].into());
    assert!(
        report.after.bytes < model.weight_bytes(&Weights::Dtype(WeightDtype::F16)).unwrap() / 2
    );
}
