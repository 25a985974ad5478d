//! Benches, one measured question per file: see `cargo bench --bench decode` and its siblings.
