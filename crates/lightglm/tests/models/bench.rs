//! What is timed: dense and sparse models, stored and random.

use std::ops::ControlFlow;

use lightglm::speed::{Bench, BenchModel, Workload, kv_bytes_read};
use lightglm::{
    Error, KvDtype, LoadOptions, Progress, ProgressSink, Sparsity, WeightDtype, Weights,
};
use lightglm_model::config::GlmConfig;

const WORKLOAD: Workload =
    Workload { prefill: 8, decode: 2, depth: 16, batch: 1, repetitions: 1, threads: 1 };

fn options(weights: Weights, sparsity: Sparsity) -> LoadOptions {
    LoadOptions { weights, sparsity, ..LoadOptions::default() }
}

fn bench(model: BenchModel<'_>, options: LoadOptions) -> Bench<'_> {
    Bench { model, options, sparsity: None, kv_dtype: None, workload: WORKLOAD, rows: &[] }
}

#[test]
fn every_kind_of_model_is_timed() {
    let config = GlmConfig::tiny();
    let folder = crate::tiny_model::folder(3);
    let stored = lightglm::checkpoint::open(folder.path(), &ProgressSink::default()).unwrap();
    let int8 = Weights::scheme("int8").unwrap();
    let mut bytes = Vec::new();
    for (weights, sparsity, uniform) in [
        (Weights::Stored, Sparsity::Dense, None),
        (int8.clone(), Sparsity::Dense, None),
        (int8.clone(), Sparsity::Dense, Some(0.5)),
        (int8, Sparsity::PromptNeurons(0.25), None),
    ] {
        for model in [BenchModel::Random(&config), BenchModel::Checkpoint(&stored)] {
            let options = options(weights.clone(), sparsity.clone());
            let bench = Bench { sparsity: uniform, ..bench(model, options) };
            let result = bench.run().unwrap();
            assert_eq!(result.sparsity.is_some(), uniform.is_some());
            if let (Some(counted), Some(aimed)) = (result.sparsity, uniform) {
                assert!((counted - aimed).abs() < 0.2, "{counted} instead of {aimed}");
            }
            let speeds = result.speeds;
            assert!(speeds.decode_tokens_per_s.unwrap() > 0.0);
            assert!(speeds.prefill_tokens_per_s.unwrap() > 0.0);
            let is_int8 = weights != Weights::Stored;
            assert_eq!(speeds.prefill_fraction_of_int8.is_some(), is_int8);
            bytes.push(speeds.decode_bytes_per_step);
        }
    }
    let [random, stored, int8, int8_stored, _, _, compact, compact_stored] = bytes[..] else {
        unreachable!()
    };
    // Random weights are bf16, those of the folder f32.
    assert!(random < stored && int8 < random && int8 == int8_stored, "{bytes:?}");
    assert!(compact < int8 && compact == compact_stored, "{bytes:?}");
}

#[test]
fn passes_of_some_rows_are_timed() {
    let config = GlmConfig::tiny();
    for weights in [Weights::Stored, Weights::scheme("int8").unwrap()] {
        let model = BenchModel::Random(&config);
        let bench = Bench { rows: &[1, 3, 24], ..bench(model, options(weights, Sparsity::Dense)) };
        let rows = bench.run().unwrap().rows;
        assert_eq!(rows.iter().map(|r| r.rows).collect::<Vec<_>>(), [1, 3, 24]);
        for row in rows {
            assert!(row.tokens_per_s > 0.0, "{row:?}");
            assert!(row.fraction_of_bandwidth > 0.0 && row.fraction_of_peak > 0.0, "{row:?}");
        }
        assert!(matches!(Bench { rows: &[0], ..bench }.run(), Err(Error::Option { .. })));
    }
}

#[test]
fn nothing_is_timed_where_nothing_is_asked_for() {
    let config = GlmConfig::tiny();
    let options = options(Weights::Dtype(WeightDtype::F32), Sparsity::Dense);
    let workload = Workload { prefill: 0, decode: 0, ..WORKLOAD };
    let bench = Bench { workload, ..bench(BenchModel::Random(&config), options) };
    let result = bench.run().unwrap();
    assert_eq!(result.scheme, "f32");
    assert_eq!(result.speeds.decode_tokens_per_s, None);
    assert_eq!(result.speeds.prefill_fraction_of_compute, None);
    assert!(result.speeds.read_bandwidth_gbs > 0.0);
}

#[test]
fn what_cannot_be_timed_is_refused() {
    let config = GlmConfig::tiny();
    let folder = crate::tiny_model::folder(3);
    let stored = lightglm::checkpoint::open(folder.path(), &ProgressSink::default()).unwrap();
    let refused = |bench: Bench<'_>, wanted: &str| {
        let error = bench.run().unwrap_err();
        assert!(matches!(&error, Error::Option { option, .. } if *option == wanted), "{error}");
    };
    let random = || bench(BenchModel::Random(&config), LoadOptions::default());
    refused(Bench { workload: Workload { batch: 0, ..WORKLOAD }, ..random() }, "batch");
    refused(Bench { workload: Workload { repetitions: 0, ..WORKLOAD }, ..random() }, "repetitions");
    let neurons = options(Weights::Stored, Sparsity::PromptNeurons(0.5));
    let two = Workload { batch: 2, ..WORKLOAD };
    refused(Bench { workload: two, options: neurons, ..random() }, "batch");
    let bf16 = || options(Weights::Dtype(WeightDtype::Bf16), Sparsity::Dense);
    let converted = bench(BenchModel::Checkpoint(&stored), bf16());
    refused(Bench { sparsity: Some(0.5), ..converted }, "weights");
    assert!(Bench { sparsity: Some(1.5), ..random() }.run().is_err());
    let stop = ProgressSink::new(|progress| match progress {
        Progress::Working { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let options = LoadOptions { progress: stop, ..LoadOptions::default() };
    let stopped = bench(BenchModel::Random(&config), options).run();
    assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{stopped:?}");
}

#[test]
fn a_budget_reads_fewer_positions_beyond_itself_alone() {
    let config = GlmConfig { num_hidden_layers: 6, ..GlmConfig::tiny() };
    let read = |budget, positions| kv_bytes_read(&config, KvDtype::F16, budget, positions);
    assert_eq!(read(Some(64), 64), read(None, 64));
    assert!(read(Some(64), 512) < read(None, 512));
    // Two layers of six stay exact.
    assert!(read(Some(64), 512) > read(None, 512) / 3);
    assert_eq!(read(None, 512), 6 * 2 * 2 * config.num_key_value_heads * config.head_dim * 512);
}

/// Beyond the positions that the shape is made for: random weights have as many as the run needs.
#[test]
fn a_run_reaches_its_last_position() {
    let config = GlmConfig::tiny();
    let workload = Workload { depth: config.max_position_embeddings, ..WORKLOAD };
    let bench = bench(BenchModel::Random(&config), options(Weights::Stored, Sparsity::Dense));
    let bench = Bench { workload, ..bench };
    assert!(bench.run().unwrap().speeds.decode_tokens_per_s.is_some());
}
