//! The golden data agrees with itself and with `Protocol`: our windows are those of the script that
//! made it. (The model's own comparison needs the model, which this crate does not know.)

use lightglm_eval::{Protocol, WindowNll};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const REFERENCE: &str = include_str!("data/smollm2_wikitext2/reference.json");
const TOKENS: &[u8] = include_bytes!("data/smollm2_wikitext2/tokens.u32");

/// The sums are f64 on both sides; only their order differs.
const F64_SUMS: f64 = 1e-9;

#[derive(Deserialize)]
struct Reference {
    ids: Ids,
    result: Outcome,
}

#[derive(Deserialize)]
struct Ids {
    count: usize,
    sha256_of_le_u32: String,
}

#[derive(Deserialize)]
struct Outcome {
    protocol: Protocol,
    tokens: usize,
    perplexity: f64,
    nll_mean: f64,
    windows: Vec<WindowNll>,
}

fn reference() -> Reference {
    serde_json::from_str(REFERENCE).expect("the script's JSON")
}

#[test]
fn the_token_ids_are_the_recorded_ones() {
    let ids = reference().ids;
    assert_eq!(TOKENS.len(), 4 * ids.count);
    let digest: String = Sha256::digest(TOKENS).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, ids.sha256_of_le_u32);
}

#[test]
fn our_windows_are_the_scripts_windows() {
    let Reference { ids, result } = reference();
    let windows = result.protocol.windows(ids.count).expect("a valid protocol");
    let theirs: Vec<_> = result.windows.iter().map(|scored| scored.window).collect();
    assert_eq!(windows, theirs);
    assert_eq!(windows.iter().map(|window| window.targets()).sum::<usize>(), result.tokens);
}

#[test]
fn the_sums_give_the_perplexity() {
    let result = reference().result;
    let sum: f64 = result.windows.iter().map(|scored| scored.nll).sum();
    assert!((sum / result.tokens as f64 - result.nll_mean).abs() < F64_SUMS);
    assert!((result.nll_mean.exp() - result.perplexity).abs() < F64_SUMS);
}
