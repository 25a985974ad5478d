//! What stays of each block under a budget.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lightglm::prune::search::{Budget, FoundStudent, LatencyTable, SearchOptions, search};
use lightglm::prune::{PruneError, StudentError};
use lightglm::{Error, Progress, ProgressSink, Scheme};
use lightglm_model::config::ModelType;
use lightglm_quant::QuantError;
use tempfile::TempDir;

use super::fixture::{TOKENS, change, logits, open, teacher};

/// More than any tiny model has.
const PLENTY: u64 = 1 << 40;

fn scheme(name: &str) -> Scheme {
    name.parse().unwrap()
}

/// Dense, and 8 and 4 bits of which whole rows share a scale.
fn options(bytes: u64) -> SearchOptions {
    SearchOptions {
        schemes: vec![Scheme::Dense, scheme("int8wo"), scheme("int4wo")],
        calibration: TOKENS.repeat(3),
        context: 16,
        depth: 8,
        repetitions: 1,
        ..SearchOptions::new(Budget::Bytes(bytes))
    }
}

fn found(folder: &Path, options: &SearchOptions) -> FoundStudent {
    let out = tempfile::tempdir().unwrap();
    search(&open(folder), options, out.path()).unwrap()
}

fn smallest(folder: &Path, options: &SearchOptions) -> f64 {
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("searched");
    match search(&open(folder), options, &output).unwrap_err() {
        Error::Prune(PruneError::Budget { smallest, .. }) => {
            assert!(matches!(options.budget, Budget::Milliseconds(_)) || !output.exists());
            smallest
        }
        error => panic!("{error}"),
    }
}

/// Three layers, the middle one of which does nothing.
fn with_idle_block(model_type: ModelType) -> TempDir {
    let folder = teacher(model_type, 5);
    change(folder.path(), |name, _, values| {
        if name.starts_with("model.layers.1.") && name.contains("o_proj")
            || name.starts_with("model.layers.1.mlp.down_proj")
        {
            values.fill(0.0);
        }
    });
    folder
}

/// A block that hands on what it was given is the first that goes, and is not missed.
#[test]
fn idle_blocks_go_first() {
    for model_type in [ModelType::Glm4, ModelType::Glm, ModelType::GlmQkNorm] {
        let folder = with_idle_block(model_type);
        let path = folder.path();
        let whole = fs::metadata(path.join("model.safetensors")).unwrap().len();
        let student = found(path, &options(whole / 10 * 9));
        assert_eq!((&student.layers[..], student.measured_kl), (&[0, 2][..], 0.0));
        assert_eq!((student.predicted_kl, student.policy.as_str()), (0.0, ""));
        assert!(student.is_exact && student.cost < student.budget);
        // The cheapest of what loses nothing.
        assert_eq!(found(path, &options(PLENTY)).layers, [0, 2]);
        let kept = SearchOptions { drop: false, ..options(PLENTY) };
        assert_eq!(found(path, &kept).layers, [0, 1, 2]);

        let dense = path.join("dense");
        let packed = path.join("packed");
        student.write(&open(path), &dense, &packed, false, &ProgressSink::default()).unwrap();
        assert_eq!(logits(&dense, &TOKENS), logits(path, &TOKENS));
        let other = teacher(model_type, 6);
        let error = student.write(
            &open(other.path()),
            &path.join("no"),
            &path.join("no"),
            false,
            &ProgressSink::default(),
        );
        assert!(matches!(error, Err(Error::Prune(PruneError::OtherTeacher { .. }))));
    }
}

/// The bytes are those of the folder that is written, whatever it is made of, and smaller budgets lose more.
#[test]
fn bytes_are_those_of_the_folder() {
    let folder = teacher(ModelType::Glm4, 8);
    let path = folder.path();
    let tables = SearchOptions { tables: scheme("int8wo-g32"), ..options(0) };
    let least = smallest(path, &tables) as u64;
    let out = tempfile::tempdir().unwrap();
    let whole = 4 * open(path).config().num_parameters();
    let mut losses = Vec::new();
    for (index, budget) in [least, (least + whole) / 3, (least + whole) / 2].into_iter().enumerate()
    {
        let options = SearchOptions { budget: Budget::Bytes(budget), ..tables.clone() };
        let searched = out.path().join("searched");
        let student = search(&open(path), &options, &searched).unwrap();
        assert!(student.bytes <= budget && student.bytes as f64 == student.cost);
        assert!(student.tables_kl > 0.0 && student.predicted_kl >= student.tables_kl);
        let read = FoundStudent::load(&searched.join("found.json")).unwrap();
        assert_eq!((read.layers, read.policy), (student.layers.clone(), student.policy.clone()));

        let [dense, packed] =
            ["dense", "packed"].map(|name| out.path().join(format!("{name}{index}")));
        let progress = ProgressSink::default();
        student.write(&open(path), &dense, &packed, false, &progress).unwrap();
        let file = fs::read(packed.join("model.safetensors")).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap());
        assert_eq!(file.len() as u64 - 8 - header, student.bytes, "{}", student.policy);
        losses.push(student.predicted_kl);
    }
    assert!(losses[0] > losses[1] && losses[1] > losses[2], "{losses:?}");
    // Scores are of the teacher and the text, not of the budget: one line for each choice of a block but dense.
    let scores = fs::read_to_string(out.path().join("searched/scores.jsonl")).unwrap();
    assert_eq!(scores.lines().count(), 3 * 3 + 1);
}

/// All blocks get one width, the one with which least is lost.
#[test]
fn a_width_is_of_all_blocks() {
    let folder = teacher(ModelType::Glm4, 9);
    let path = folder.path();
    let wide = SearchOptions { schemes: vec![Scheme::Dense], drop: false, ..options(PLENTY) };
    let both = SearchOptions { intermediate_sizes: vec![112, 64], ..wide.clone() };
    assert_eq!(found(path, &both).intermediate_size, 112);
    let budget = Budget::Bytes(found(path, &wide).bytes - 1);
    let student = found(path, &SearchOptions { budget, ..both });
    assert_eq!((student.intermediate_size, student.ffn.len()), (64, 3));
    assert!(student.measured_kl > 0.0);
    let [dense, packed] = ["dense", "packed"].map(|name| path.join(name));
    student.write(&open(path), &dense, &packed, false, &ProgressSink::default()).unwrap();
    assert_eq!(open(&packed).config().intermediate_size, 64);
}

#[test]
fn a_budget_that_nothing_fits_names_the_smallest() {
    let folder = teacher(ModelType::Glm, 10);
    let least = smallest(folder.path(), &options(1000)) as u64;
    assert_eq!(smallest(folder.path(), &options(least - 1)), least as f64);
    let student = found(folder.path(), &options(least));
    assert_eq!((student.bytes, student.layers.len()), (least, 1));
}

#[test]
fn what_cannot_be_searched_for_is_told() {
    let folder = teacher(ModelType::Glm, 10);
    let refused = |options: &SearchOptions| {
        let out = tempfile::tempdir().unwrap();
        let error = search(&open(folder.path()), options, &out.path().join("no")).unwrap_err();
        assert!(!out.path().join("no").exists());
        error
    };
    let good = options(PLENTY);
    let error = refused(&SearchOptions { calibration: Vec::new(), ..good.clone() });
    assert!(matches!(error, Error::Student(StudentError::NothingMeasured)), "{error}");
    let error = refused(&SearchOptions { schemes: vec![scheme("w8a8-g24-ag16")], ..good.clone() });
    assert!(matches!(error, Error::Quantization(QuantError::Layer { .. })), "{error}");
    let error = refused(&SearchOptions { tables: scheme("int8wo-g16-nested"), ..good.clone() });
    assert!(matches!(error, Error::Policy(_)), "{error}");
    let error = refused(&SearchOptions { intermediate_sizes: vec![113], ..good.clone() });
    assert!(matches!(error, Error::Student(StudentError::Count { .. })), "{error}");
    let error = refused(&SearchOptions { schemes: Vec::new(), ..good.clone() });
    assert!(matches!(error, Error::Option { option: "schemes", .. }), "{error}");
    let budget = Budget::Milliseconds(f64::NAN);
    let error = refused(&SearchOptions { budget, ..good });
    assert!(matches!(error, Error::Option { option: "budget", .. }), "{error}");
}

/// Ends the work at the `last`th time that blocks are scored, and counts them.
fn stopping(last: usize) -> (ProgressSink, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let sink = ProgressSink::new(move |progress| match progress {
        Progress::Working { doing: "scoring blocks", .. }
            if count.fetch_add(1, Ordering::Relaxed) + 1 == last =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    (sink, seen)
}

/// An interrupted search that goes on, behind a line that was torn, finds what one in one piece finds.
#[test]
fn an_interrupted_search_goes_on() {
    let folder = teacher(ModelType::GlmQkNorm, 11);
    let budget = smallest(folder.path(), &options(0)) as u64 * 3 / 2;
    let out = tempfile::tempdir().unwrap();
    let [whole, torn] = ["whole", "torn"].map(|name| out.path().join(name));
    let checkpoint = open(folder.path());
    let expected = search(&checkpoint, &options(budget), &whole).unwrap();

    let (progress, _) = stopping(6);
    let error = search(&checkpoint, &SearchOptions { progress, ..options(budget) }, &torn);
    assert!(matches!(error, Err(Error::Interrupted { .. })));
    let scores = torn.join("scores.jsonl");
    let lines = fs::read_to_string(&scores).unwrap();
    assert_eq!(lines.lines().count(), 5);
    fs::write(&scores, lines + "{\"teacher\":\"12").unwrap();
    let (progress, seen) = stopping(usize::MAX);
    let actual = search(&checkpoint, &SearchOptions { progress, ..options(budget) }, &torn);
    assert_eq!(actual.unwrap(), expected);
    // Nine choices, of which five were known, and the end.
    assert_eq!(seen.load(Ordering::Relaxed), 4 + 1);
    for file in ["scores.jsonl", "found.json"] {
        let [whole, torn] = [&whole, &torn].map(|folder| fs::read(folder.join(file)).unwrap());
        assert_eq!(whole, torn, "{file}");
    }

    // Another text is scored anew, and a line of something else is told.
    let (progress, seen) = stopping(usize::MAX);
    let other = SearchOptions { calibration: TOKENS.to_vec(), progress, ..options(budget) };
    search(&checkpoint, &other, &torn).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 9 + 1);
    let lines = fs::read_to_string(&scores).unwrap();
    fs::write(&scores, "{}\n".to_owned() + &lines).unwrap();
    let error = search(&checkpoint, &options(budget), &torn).unwrap_err();
    assert!(matches!(error, Error::Prune(PruneError::ScoreLine { line: 1, .. })), "{error}");
}

/// Times are measured once; a table of another machine or of another shape is refused.
#[test]
fn latencies_are_measured_once() {
    let folder = teacher(ModelType::Glm, 12);
    let checkpoint = open(folder.path());
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("table.json");
    let options = |milliseconds| SearchOptions {
        budget: Budget::Milliseconds(milliseconds),
        latency_table: Some(file.clone()),
        ..options(0)
    };
    let searched = out.path().join("searched");
    search(&checkpoint, &options(1e6), &searched).unwrap();
    let mut table = LatencyTable::load(&file).unwrap();
    assert_eq!(table.milliseconds.len(), 3 + 1);
    table.check(&LatencyTable::here(8), &file).unwrap();

    // A table by hand: four bits are twice as fast, so three of them fit, and dense blocks do not.
    for (key, time) in &mut table.milliseconds {
        *time = if key.starts_with("head") {
            1.0
        } else if key.contains("w4") {
            2.0
        } else {
            4.0
        };
    }
    table.save(&file).unwrap();
    assert_eq!(LatencyTable::load(&file).unwrap(), table);
    let kept = SearchOptions { drop: false, ..options(7.0) };
    let student = search(&checkpoint, &kept, &searched).unwrap();
    assert_eq!((student.cost, student.unit.as_str()), (7.0, "milliseconds"));
    assert!(student.blocks.iter().all(|block| block.choice == "int4wo"));
    assert_eq!(smallest(folder.path(), &options(2.5)), 3.0);

    let refused = |table: &LatencyTable, options: &SearchOptions| {
        table.save(&file).unwrap();
        match search(&checkpoint, options, &searched).unwrap_err() {
            Error::Prune(error) => error,
            error => panic!("{error}"),
        }
    };
    let machine = |error| match error {
        PruneError::LatencyMachine { field, .. } => field,
        error => panic!("{error}"),
    };
    let threads = LatencyTable { threads: table.threads + 1, ..table.clone() };
    assert_eq!(machine(refused(&threads, &options(1e6))), "threads");
    let processor = LatencyTable { processor: "abacus".to_owned(), ..table.clone() };
    assert_eq!(machine(refused(&processor, &options(1e6))), "processor");
    let deeper = SearchOptions { depth: 9, ..options(1e6) };
    assert_eq!(machine(refused(&table, &deeper)), "depth");
    let narrower = SearchOptions { intermediate_sizes: vec![64], ..options(1e6) };
    let error = refused(&table, &narrower);
    assert!(
        matches!(&error, PruneError::LatencyMissing { key, .. } if key.contains("ffn 64")),
        "{error}"
    );
    let negative = table.milliseconds.keys().map(|key| (key.clone(), -1.0)).collect();
    let error = refused(&LatencyTable { milliseconds: negative, ..table }, &options(1e6));
    assert!(matches!(error, PruneError::SearchFile { .. }), "{error}");
}
