//! How fast a model is, beside what the machine can do: roofs and model are measured in turns, for a
//! shared machine changes its speed within seconds.

mod bench;
mod costs;
mod peak_memory;
mod rows;
mod turns;
mod workload;

pub use bench::{Bench, BenchModel, BenchResult};
pub use costs::{kv_bytes_read, prefill_flops};
pub use peak_memory::peak_rss_bytes;
pub use rows::RowSpeed;
pub use turns::decode_speeds;
pub(crate) use turns::in_turns;
pub use workload::{Speeds, Subject, Workload};
