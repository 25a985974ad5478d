//! How fast a model is, beside what the machine can do: roofs and model are measured in turns, for a
//! shared machine changes its speed within seconds.

mod bench;
#[cfg(feature = "train")]
mod block_latency;
mod costs;
mod peak_memory;
mod rows;
mod turns;
mod workload;

pub use bench::{Bench, BenchModel, BenchResult};
#[cfg(feature = "train")]
pub(crate) use block_latency::BlockLatency;
pub use costs::{kv_bytes_read, prefill_flops};
pub use peak_memory::peak_rss_bytes;
pub use rows::RowSpeed;
pub use turns::decode_speeds;
pub(crate) use turns::in_turns;
pub use workload::{Speeds, Subject, Workload};
