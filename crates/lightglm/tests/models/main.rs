//! Models opened, asked, scored and measured: one program, as each costs half a minute to build.

#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../tiny_model/mod.rs"]
mod tiny_model;
#[path = "../wikitext/mod.rs"]
mod wikitext;

mod as_stored;
mod bench;
mod evaluate;
mod folders_as_brought;
mod ggufs_as_brought;
mod int8_kv;
mod minilm;
mod model;
mod perplexity;
mod smollm2;
mod text_sides;
