//! How near do the kernels come to the machine's roofs?
//!
//! Each section asks it of one kernel: dense and packed projections, attention, rows chosen from a
//! matrix, products that leave out zeros, the products of training, and the threads themselves.
//!
//! Timed: the kernel, on slices where it takes slices. Not timed: making the data, except in
//! `packed_packing`. Baselines: bytes that a stream reads, multiply-adds or int8 products that
//! registers allow, burn's product, or the dense kernel; each section's file says which. Kernel and
//! baseline take turns, matrices are taken in turns so that none is in the cache, and of each part
//! the best of several rounds counts: a part is short enough to go undisturbed now and then on a
//! shared machine.
//!
//! Run: `cargo bench --bench kernels` takes the first shape of every section;
//! `cargo bench --bench kernels -- packed product` takes all shapes of the sections whose names
//! contain one of the words, and `-- all` those of every section (minutes each). `LIGHTGLM_THREADS`
//! sets the threads, `LIGHTGLM_ISA` picks one of the instruction sets of the dense sections. Read: a
//! percentage is the fraction of the roof printed beside it.

mod attention;
mod best_times;
mod dense;
mod float_channels;
mod packed;
mod packed_channels;
mod product;
mod threads;

use lightglm_kernels::cpu::team;

/// What a section measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// One shape or format, in few rounds: all sections together end within a minute or so.
    First,
    /// Everything.
    All,
}

impl Extent {
    /// Those of `cases` that are measured.
    fn of<T>(self, cases: &[T]) -> &[T] {
        match self {
            Self::First => &cases[..cases.len().min(1)],
            Self::All => cases,
        }
    }

    /// How often each case is measured, out of `rounds`.
    fn rounds(self, rounds: usize) -> usize {
        if self == Self::First { rounds.min(4) } else { rounds }
    }
}

/// A name, and what prints the section's measurements.
type Section = (&'static str, fn(Extent));

const SECTIONS: [Section; 16] = [
    ("fork_join", threads::fork_join),
    ("peaks", threads::peaks),
    ("dense_gemv", dense::gemv),
    ("dense_gemm", dense::gemm),
    ("attention_bf16", attention::bf16_cache),
    ("attention_int8", attention::int8_cache),
    ("attention_backward", attention::backward),
    ("packed_middle", packed::middle),
    ("packed_large", packed::large),
    ("packed_prefill", packed::prefill),
    ("packed_packing", packed::packing),
    ("packed_select_rows", packed::select_rows),
    ("packed_channels", packed_channels::zeros),
    ("float_channels_zeros", float_channels::zeros),
    ("float_channels_tokens", float_channels::tokens),
    ("product", product::beside_burn),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes `--bench`; `cargo test --benches` does not, and wants no measurement.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted = |name: &str| {
        let matches = |word: &&String| word.as_str() == "all" || name.contains(word.as_str());
        words.is_empty() || words.iter().any(matches)
    };
    let extent = if words.is_empty() { Extent::First } else { Extent::All };
    let sections: Vec<_> = SECTIONS.iter().filter(|(name, _)| wanted(name)).collect();
    if sections.is_empty() {
        println!("no such section; there are:");
        SECTIONS.iter().for_each(|(name, _)| println!("{name}"));
        std::process::exit(2);
    }
    let threads = std::env::var("LIGHTGLM_THREADS").ok().and_then(|number| number.parse().ok());
    let default = std::thread::available_parallelism().map_or(1, usize::from);
    team::set_num_threads(threads.unwrap_or(default));
    println!("{} threads", team::num_threads());
    for (name, section) in sections {
        println!("\n{name}");
        section(extent);
    }
}
