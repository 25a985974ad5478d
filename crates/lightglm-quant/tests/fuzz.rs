//! The metadata of quantized checkpoints, fed with mutated inputs: no panic, no memory that a shape
//! made up. See docs/contributing.md, "Fuzzing".

mod table_source;

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LoadPart, PartSource, QUANTIZATION_KEY};
use lightglm_quant::{CheckpointQuantizer, PackedIndex, Policy, QuantizedCheckpoint};
use lightglm_testkit::fuzz::{Fuzzer, fingerprint};
use table_source::TableSource;

/// Address space that one run may grow by: far above what these inputs can ask for with reason.
const MEMORY_GROWTH: u64 = 8 << 30;

const TOKENS: [&str; 16] = [
    "null",
    "-1",
    "0",
    "1e400",
    "18446744073709551615",
    "4294967296",
    "[]",
    "{}",
    "\"\"",
    "\\ud800",
    "w8a8-g128-ag128-f16",
    "w4a16-g64-ag128-zp-f16",
    "dense",
    "-g8",
    "-at",
    "panels-32",
];

const TENSORS: [(&str, &[usize]); 3] =
    [("a.weight", &[40, 64]), ("b.weight", &[8, 72]), ("norm.weight", &[64])];

#[test]
fn packed_index() {
    let source = TableSource::random(&TENSORS, 5);
    let tensors = TENSORS.map(|(name, shape)| (name.to_owned(), shape.to_vec()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let mut seeds = Vec::new();
    let mut stored = TableSource::default();
    for policy in ["a=int4wo-g32-zp,*=int8", "w8a8", "a=int4,*=dense"] {
        let policy: Policy = policy.parse().unwrap();
        CheckpointQuantizer::new(&source, Path::new("table"), &policy)
            .save(&file, &tensors)
            .unwrap();
        stored = TableSource::read(&file, 0);
        seeds.push(stored.metadata[QUANTIZATION_KEY].clone().into_bytes());
    }
    let mut fuzzer = Fuzzer::new("packed_index");
    fuzzer.seeds = seeds;
    fuzzer.dictionary = TOKENS.iter().map(|token| token.as_bytes().to_vec()).collect();
    fuzzer.max_memory_growth = Some(MEMORY_GROWTH);
    let report = fuzzer.run(|input| {
        let Ok(json) = std::str::from_utf8(input) else { return 1 };
        let index = match PackedIndex::from_json(json, &file) {
            Ok(index) => index,
            Err(error) => return fingerprint(&format_args!("{error}")),
        };
        // The index against a file that it may not describe.
        stored.metadata.insert(QUANTIZATION_KEY.to_owned(), json.to_owned());
        let checkpoint = QuantizedCheckpoint::open(&stored, &file).expect("the same index");
        let mut outcomes = 0;
        for (name, entry) in index.matrices() {
            match PartSource::<Flex>::linear(
                &checkpoint,
                &LoadPart::new(name, entry.shape),
                &FlexDevice,
            ) {
                Ok(linear) => assert_eq!(lightglm_core::Linear::shape(&linear), entry.shape),
                Err(error) => outcomes ^= fingerprint(&format_args!("{error}")),
            }
        }
        outcomes
    });
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.outcomes > 1, "the mutations all looked alike: {report:?}");
    println!("packed_index: {report:?}");
}
