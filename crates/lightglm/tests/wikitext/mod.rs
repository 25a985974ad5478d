//! WikiText-2's validation text as token ids of the small real model.

use std::path::Path;

/// The ids, as far as the repository keeps them.
pub(crate) fn token_ids() -> Vec<u32> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../lightglm-eval/tests/data/smollm2_wikitext2/tokens.u32");
    let bytes = std::fs::read(file).unwrap();
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}
