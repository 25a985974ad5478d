//! The fuzz driver finds what it is there to find, the same way every time.

use std::time::Duration;

use lightglm_testkit::fuzz::{Defect, Fuzzer, fingerprint};

fn fuzzer(name: &str) -> Fuzzer {
    let mut fuzzer = Fuzzer::new(name);
    fuzzer.seed = 1;
    fuzzer.max_executions = 200_000;
    fuzzer.max_time = None;
    fuzzer.artifacts = std::env::temp_dir().join(format!("lightglm-fuzz-{}", std::process::id()));
    fuzzer
}

/// A parser of `[count: u8][count bytes]` that trusts the count once the magic fits.
fn careless_parser(input: &[u8]) -> u64 {
    let parsed = match input {
        [b'L', b'G', count, rest @ ..] if *count > 3 => Ok(rest[..*count as usize].len()),
        [b'L', b'G', ..] => Err("count"),
        [b'L', ..] => Err("second byte"),
        _ => Err("magic"),
    };
    fingerprint(&parsed)
}

#[test]
fn a_trusted_length_is_found_from_an_empty_corpus() {
    let mut fuzzer = fuzzer("careless");
    fuzzer.dictionary = vec![b"LG".to_vec()];
    let failure = fuzzer.run(careless_parser).expect_err("the parser slices past the end");
    assert!(matches!(&failure.defect, Defect::Panic(text) if text.contains("range end index")));
    let file = failure.file.as_ref().expect("the temporary folder can be written");
    assert_eq!(std::fs::read(file).expect("the file is there"), failure.input);
    let again = fuzzer.run(careless_parser).expect_err("the same");
    assert_eq!((again.execution, &again.input), (failure.execution, &failure.input));
    assert!(failure.to_string().contains("careless-"), "{failure}");
    std::fs::remove_dir_all(&fuzzer.artifacts).expect("made above");
}

#[test]
fn outcomes_guide_the_corpus() {
    // Four bytes in a row: hopeless in one step, a matter of steps when each one is noticed.
    let staircase = |input: &[u8]| {
        let steps = input.iter().zip(b"wxyz").take_while(|(a, b)| a == b).count();
        assert!(steps < 4, "reached the top");
        steps as u64
    };
    assert!(fuzzer("staircase").run(staircase).is_err());
    let blind = |input: &[u8]| {
        staircase(input);
        0
    };
    let report = fuzzer("blind").run(blind).expect("2^32 inputs are not found blindly");
    assert_eq!((report.executions, report.outcomes), (200_000, 1));
}

#[test]
fn slowness_and_memory_are_defects() {
    let mut slow = fuzzer("slow");
    slow.slow = Duration::from_millis(5);
    let failure = slow.run(|_| {
        std::thread::sleep(Duration::from_millis(20));
        0
    });
    assert!(matches!(failure.unwrap_err().defect, Defect::Slow(_)));
    if cfg!(target_os = "linux") {
        let mut greedy = fuzzer("greedy");
        greedy.max_memory_growth = Some(1 << 30);
        let failure = greedy.run(|_| {
            let untouched = std::hint::black_box(vec![0_u8; 3 << 30]);
            untouched.len() as u64
        });
        assert!(matches!(failure.unwrap_err().defect, Defect::Memory(_)));
    }
}

#[test]
fn seeds_are_run_first_and_time_ends_a_run() {
    let mut timed = fuzzer("timed");
    timed.seeds = vec![b"first".to_vec(), b"second".to_vec()];
    timed.max_executions = u64::MAX;
    timed.max_time = Some(Duration::from_millis(50));
    let mut inputs = Vec::new();
    let report = timed.run(|input| {
        if inputs.len() < 2 {
            inputs.push(input.to_vec());
        }
        input.len() as u64
    });
    assert!(report.expect("nothing panics").executions > 2);
    assert_eq!(inputs, timed.seeds);
}
