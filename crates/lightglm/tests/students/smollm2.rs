//! What pruning costs a real model, SmolLM2-135M-Instruct, before it is taught again.

use std::path::{Path, PathBuf};

use lightglm::evaluate::{TextOptions, first_tokens};
use lightglm::prune::search::{Budget, SearchOptions, search};
use lightglm::prune::{CutOptions, KeepTokens, PruneOptions, Wanted, cut, prune};
use lightglm::{LoadOptions, Model, ModelFolder, SMALL_MODEL, Scheme, checkpoint};
use lightglm_model::weights::save_safetensors;

use super::fixture::open;

fn text() -> String {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/text/english_and_chinese.txt");
    std::fs::read_to_string(file).unwrap()
}

/// The small model in f32.
fn dense(folder: &Path) -> PathBuf {
    let model = checkpoint::open(SMALL_MODEL, &Default::default()).unwrap();
    let folder = folder.join("dense");
    let output = ModelFolder::begin(&folder, &model, None).unwrap();
    save_safetensors(output.weights(), model.weights(), &Default::default()).unwrap();
    output.finish().unwrap();
    folder
}

/// Of the second half of the text; the first half decides.
fn perplexity(folder: &Path, text: &str) -> f64 {
    let model = Model::open(folder, LoadOptions::default()).unwrap();
    model.perplexity(text, &TextOptions::default()).unwrap().perplexity
}

#[test]
#[ignore = "a minute: cargo test --release --workspace --test students smollm2 -- --ignored --nocapture"]
fn what_pruning_costs() {
    let out = tempfile::tempdir().unwrap();
    let dense = dense(out.path());
    let (teacher, text) = (open(&dense), text());
    let half = text.floor_char_boundary(text.len() / 2);
    let (decides, judges) = text.split_at(half);
    let calibration = first_tokens(&teacher.tokenizer().unwrap(), decides, usize::MAX).unwrap();
    let before = perplexity(&dense, judges);
    println!("teacher {before:.2}, {} tokens decide", calibration.len());
    let wanted = [
        ("28 of 30 layers", Wanted { num_hidden_layers: Some(28), ..Wanted::default() }),
        ("1408 of 1536 neurons", Wanted { intermediate_size: Some(1408), ..Wanted::default() }),
        ("6 of 9 heads", Wanted { num_attention_heads: Some(6), ..Wanted::default() }),
        ("544 of 576 channels", Wanted { hidden_size: Some(544), ..Wanted::default() }),
    ];
    for (name, wanted) in wanted {
        let student = out.path().join(name);
        let calibration = calibration.clone();
        let options = PruneOptions { wanted, calibration, ..PruneOptions::default() };
        let report = prune(&teacher, &options, &student).unwrap();
        let after = perplexity(&student, judges);
        println!("{name}: {after:.2}, layers {:?}", report.slice.layers);
        if wanted.hidden_size.is_some() {
            let plain = out.path().join("without scales");
            cut(&teacher, &report.slice, &CutOptions::default(), &plain).unwrap();
            println!("{name}, norms as they were: {:.2}", perplexity(&plain, judges));
        }
        assert!(after > 0.8 * before, "{name}: {after}");
    }
    // A vocabulary for all of the text has the same tokens for it, and the same perplexity of each but for those that go.
    let vocabulary = Some(KeepTokens { texts: vec![text.clone()], ids: Vec::new() });
    let student = out.path().join("vocabulary");
    let options = PruneOptions { vocabulary, ..PruneOptions::default() };
    let report = prune(&teacher, &options, &student).unwrap();
    let after = perplexity(&student, judges);
    println!("{} of {} tokens: {after:.2}", report.config.vocab_size, teacher.config().vocab_size);
    assert!(after < before);
}

/// What is predicted for a few budgets, and what the students lose as a whole.
#[test]
#[ignore = "minutes: cargo test --release --workspace --test students what_a_search -- --ignored --nocapture"]
fn what_a_search_chooses() {
    let out = tempfile::tempdir().unwrap();
    let teacher = open(&dense(out.path()));
    let calibration = first_tokens(&teacher.tokenizer().unwrap(), &text(), 128).unwrap();
    let whole = 4 * teacher.config().num_parameters();
    println!("teacher {:.1} MB; scored on {} tokens", whole as f64 / 1e6, calibration.len());
    for megabytes in [140, 110, 100, 85, 60] {
        let options = SearchOptions {
            schemes: vec![Scheme::INT8, Scheme::INT4],
            tables: Scheme::INT8.for_tables(),
            calibration: calibration.clone(),
            ..SearchOptions::new(Budget::Bytes(megabytes * 1_000_000))
        };
        let found = search(&teacher, &options, &out.path().join("searched")).unwrap();
        let count = |choice: &str| found.blocks.iter().filter(|b| b.choice == choice).count();
        println!(
            "{megabytes} MB: {} int8, {} int4, {} dropped; {:.1} MB, exact {}; predicted {:.4}, measured {:.4}",
            count("int8"),
            count("int4"),
            count("dropped"),
            found.bytes as f64 / 1e6,
            found.is_exact,
            found.predicted_kl,
            found.measured_kl
        );
        assert!(found.bytes <= megabytes * 1_000_000 && found.measured_kl >= 0.0);
    }
}
