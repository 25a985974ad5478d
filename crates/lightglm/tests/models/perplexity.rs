//! WikiText-2 perplexity of the small real model against transformers on the same weights.
//!
//! The reference (`tools/perplexity_reference.py`) dequantizes the same GGUF to f32 and scores the
//! same token ids by the same protocol: context 512, stride 256, no BOS. Window by window, so a
//! prefix of the text is a test of its own; `--ignored` runs the whole of it.

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm::evaluate::first_tokens;
use lightglm::{ProgressSink, SMALL_MODEL};
use lightglm_core::{KvDtype, KvShape};
use lightglm_eval::{Protocol, Subject, perplexity};
use lightglm_generation::ContiguousKvCache;
use lightglm_generation::RunControl;
use lightglm_model::decoder::LoadPrecision;

/// 0.1 % of the perplexity, and of each window's sum of nats.
const RELATIVE: f64 = 1e-3;

fn agrees(windows: usize) {
    let data =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../lightglm-eval/tests/data/smollm2_wikitext2");
    let reference = std::fs::read(data.join("reference.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
    let ids = crate::wikitext::token_ids();
    let checkpoint = match lightglm::checkpoint::open(SMALL_MODEL, &ProgressSink::default()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            println!("skipped: the small model is out of reach: {error:#}");
            return;
        }
    };
    let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap();
    let config = checkpoint.config();
    let protocol = Protocol { context_length: 512, stride: 256, bos: None, context_only: 0 };
    let ids = &ids[..ids.len().min(256 * (windows - 1) + 512)];
    let mut cache = |positions| {
        let (shape, dtype) = (KvShape::of(config), KvDtype::F32);
        let cache: Box<dyn lightglm_core::KvCache<Flex>> =
            Box::new(ContiguousKvCache::new(shape, 1, positions, dtype, &FlexDevice));
        Ok(cache)
    };
    let mut subject = Subject::new(&model, &mut cache);
    let ours = perplexity(&mut subject, ids, &protocol, &mut RunControl::default()).unwrap();
    let windows = reference["result"]["windows"].as_array().expect("windows");
    let (mut sum, mut count) = (0.0, 0.0);
    for (window, theirs) in ours.windows.iter().zip(windows) {
        let theirs = theirs["nll"].as_f64().expect("nll");
        let gap = (window.nll - theirs).abs() / theirs;
        assert!(gap < RELATIVE, "window {window:?}: {theirs} there");
        sum += theirs;
        count += window.window.targets() as f64;
    }
    let theirs = (sum / count).exp();
    println!("perplexity {:.6} here, {theirs:.6} there, {count} targets", ours.perplexity);
    assert!((ours.perplexity / theirs - 1.0).abs() < RELATIVE);
}

#[test]
fn the_first_windows_agree_with_transformers() {
    agrees(6);
}

#[test]
#[ignore = "a minute of two cores"]
fn all_windows_agree_with_transformers() {
    agrees(63);
}

#[test]
fn the_start_of_a_long_text_has_the_tokens_of_the_whole() {
    let checkpoint = match lightglm::checkpoint::open(SMALL_MODEL, &ProgressSink::default()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            println!("skipped: the small model is out of reach: {error:#}");
            return;
        }
    };
    let tokenizer = checkpoint.tokenizer().unwrap();
    let text = include_str!("../../../../examples/text/english_and_chinese.txt").repeat(4);
    let whole = tokenizer.encode_text(&text).unwrap();
    for most in [0, 1, 100, 1000, whole.len() - 1, whole.len(), usize::MAX] {
        let first = first_tokens(&tokenizer, &text, most).unwrap();
        assert_eq!(first, whole[..most.min(whole.len())], "{most}");
    }
}
