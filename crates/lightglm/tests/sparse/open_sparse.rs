//! Sparse models as a user opens them: thresholds from a file, neurons chosen by prompts.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::Param;
use burn::tensor::Tensor;
use lightglm::generic::{QuantizedGlm, load_quantized};
use lightglm::sparse::griffin::{down_by_channels, select};
use lightglm::sparse::{
    ActivationThresholds, Allocation, Calibrated, PromptNeurons, SparseModelError, Sparsify,
    SparsifyReport, WantedThresholds,
};
use lightglm::{
    Cpu, Device, Error, LoadOptions, Model, Progress, ProgressSink, Prompt, Request,
    SamplingParams, Sparsity, WeightDtype, Weights,
};
use lightglm_core::{CausalLm, KvDtype, KvShape, LogitRows, SequenceId, Span};
use lightglm_generation::{ContiguousKvCache, DEFAULT_PREFILL_CHUNK};
use lightglm_model::config::GlmConfig;
use lightglm_sparse::SparsityError;
use lightglm_text::{ChatText, Message};
use serde_json::{Value, json};

/// Tokens of a reply.
const STEPS: usize = 8;

fn options(scheme: &str, sparsity: Sparsity) -> LoadOptions {
    let weights = Weights::scheme(scheme).unwrap();
    LoadOptions { weights, sparsity, kv_dtype: KvDtype::F32, ..LoadOptions::default() }
}

fn quantized(folder: &Path, scheme: &str) -> (GlmConfig, QuantizedGlm<Cpu>) {
    let silent = ProgressSink::default();
    let checkpoint = lightglm::checkpoint::open(folder, &silent).unwrap();
    let weights = Weights::scheme(scheme).unwrap();
    let model = load_quantized(&checkpoint, &weights, &silent, &Default::default()).unwrap().model;
    (checkpoint.config().clone(), model)
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % 300).collect()
}

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, max_tokens: STEPS, ..SamplingParams::default() }
}

/// A file of thresholds for the model in `folder`.
fn thresholds(folder: &Path, allocation: Allocation) -> (PathBuf, ActivationThresholds) {
    let (config, model) = quantized(folder, "int8");
    let (text, silent) = (tokens(256), ProgressSink::default());
    let windows: Vec<&[u32]> = text.chunks(64).collect();
    let calibrated = Calibrated::run(&model, &config, &windows, &[allocation], &silent).unwrap();
    let found = calibrated.thresholds(allocation, 0.6).unwrap();
    let file = folder.join(format!("{}.json", allocation.name()));
    found.save(&file, &model).unwrap();
    (file, found)
}

fn span(tokens: &[u32]) -> Span<'_> {
    Span::text(SequenceId(0), tokens, LogitRows::Last)
}

fn best(logits: Tensor<Cpu, 2>) -> u32 {
    let logits: Vec<f32> = logits.into_data().to_vec().unwrap();
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

fn cache(config: &GlmConfig) -> ContiguousKvCache<Cpu> {
    ContiguousKvCache::new(KvShape::of(config), 1, 2048, KvDtype::F32, &Default::default())
}

/// The most likely tokens, up to one that ends a reply: the first of `logits`, the others of `model`.
fn reply(
    model: &dyn CausalLm<Cpu>,
    logits: Tensor<Cpu, 2>,
    cache: &mut ContiguousKvCache<Cpu>,
    eos: &[u32],
) -> Vec<u32> {
    let mut tokens = vec![best(logits)];
    while tokens.len() < STEPS && !eos.contains(tokens.last().unwrap()) {
        let last = *tokens.last().unwrap();
        tokens.push(best(model.forward(&[span(&[last])], cache).unwrap()));
    }
    tokens
}

#[test]
fn a_file_says_whether_inputs_or_gates_are_left_out() {
    let folder = crate::tiny_model::folder(3);
    let (config, dense) = quantized(folder.path(), "int8");
    let prompt = tokens(20);
    let mut replies = Vec::new();
    for allocation in Allocation::ALL {
        let (file, found) = thresholds(folder.path(), allocation);
        let is_gates = matches!(found, ActivationThresholds::Gates(_));
        assert_eq!(is_gates, allocation == Allocation::Gates);
        assert_eq!(ActivationThresholds::load(&file, &dense).unwrap(), found);
        let counted = found.count(&dense, &[&tokens(256)]).unwrap().sparsity;
        let most = if is_gates { 0.25 } else { 0.65 };
        assert!(counted > 0.1 && counted < most, "{allocation:?}: {counted}");

        let mut cache = cache(&config);
        let sparse = found.apply(dense.clone()).unwrap();
        let logits = sparse.forward(&[span(&prompt)], &mut cache).unwrap();
        let model = Model::open(folder.path(), options("int8", Sparsity::Thresholds(file)));
        let model = model.unwrap();
        let expected = reply(&*sparse, logits, &mut cache, model.text().eos_token_ids());
        let request = Request { prompt: Prompt::Tokens(prompt.clone()), sampling: Some(greedy()) };
        assert_eq!(model.complete(request.clone()).unwrap().token_ids, expected);
        // Thresholds serve batches and scores as well.
        for reply in model.batch([request.clone(), request]).unwrap() {
            assert_eq!(reply.unwrap().token_ids, expected);
        }
        let dense_model = Model::open(folder.path(), options("int8", Sparsity::Dense)).unwrap();
        let score = |model: &Model| model.score("one", &["two"]).unwrap();
        assert_ne!(score(&model), score(&dense_model), "{allocation:?}");
        replies.push(score(&model));
    }
    assert_ne!(replies[0], replies[3]);
}

/// Allocations that were not asked for have no thresholds.
#[test]
fn an_allocation_is_asked_for_before_the_text_is_run() {
    let folder = crate::tiny_model::folder(3);
    let (config, model) = quantized(folder.path(), "int8");
    let (text, silent) = (tokens(64), ProgressSink::default());
    for asked in [Allocation::Uniform, Allocation::Gates] {
        let calibrated = Calibrated::run(&model, &config, &[&text], &[asked], &silent).unwrap();
        assert!(calibrated.thresholds(asked, 0.5).is_ok());
        assert!(calibrated.thresholds(asked, 1.5).is_err());
        let other = calibrated.thresholds(Allocation::Block, 0.5);
        assert!(matches!(
            other.unwrap_err(),
            Error::SparseModel(SparseModelError::NotCalibrated { allocation: "block" })
        ));
    }
    assert!("blocks".parse::<Allocation>().is_err());
}

#[test]
fn each_turn_of_a_chat_runs_the_neurons_that_its_prompt_chose() {
    let folder = crate::tiny_model::folder(4);
    let (config, whole) = quantized(folder.path(), "int8");
    let whole = down_by_channels(whole);
    for keep in [0.3, 1.0] {
        let model = Model::open(folder.path(), options("int8", Sparsity::PromptNeurons(keep)));
        let model = model.unwrap();
        let by_hand = |prompt: &[u32]| {
            let mut cache = cache(&config);
            let selected = select(&whole, &[span(prompt)], &mut cache, keep).unwrap();
            reply(&selected.model, selected.logits, &mut cache, model.text().eos_token_ids())
        };
        let mut chat = model.chat().with_sampling(greedy());
        let mut other = model.chat().with_sampling(greedy());
        let mut history = Vec::new();
        // The last one is read in several chunks.
        let long = "0123456789".repeat(DEFAULT_PREFILL_CHUNK.get() / 8);
        for question in ["one", "and two", &long] {
            history.push(Message::user(question));
            let prompt = model.text().encode_chat(&history, &[]).unwrap();
            assert_eq!(prompt.len() > DEFAULT_PREFILL_CHUNK.get(), question == long);
            let answer = chat.ask(question).unwrap().finish().unwrap();
            assert_eq!(answer.prompt_token_ids, prompt);
            assert_eq!(answer.speed.prompt_tokens, prompt.len(), "all of it chooses");
            assert_eq!(answer.token_ids, by_hand(&prompt), "{keep}");
            history.push(Message::assistant(answer.text));
            // Conversations of one model do not disturb each other.
            let _ = other.ask("something else").unwrap().next();
        }
        let prompt = tokens(30);
        let request = Request { prompt: Prompt::Tokens(prompt.clone()), sampling: Some(greedy()) };
        assert_eq!(model.complete(request).unwrap().token_ids, by_hand(&prompt), "{keep}");
    }
}

/// With all neurons the replies are those of the whole model; with few they are not.
#[test]
fn few_neurons_are_another_model() {
    let folder = crate::tiny_model::folder(4);
    let (config, whole) = quantized(folder.path(), "int8");
    let prompt = tokens(40);
    let logits = |keep| -> Vec<f32> {
        let model = PromptNeurons::new(whole.clone(), keep).conversation();
        let mut cache = cache(&config);
        model.begin_prompt(prompt.len());
        // In two chunks; what is left of a prompt that was broken off is forgotten.
        model.forward(&[span(&prompt[..10])], &mut cache).unwrap();
        cache.truncate(SequenceId(0), 0).unwrap();
        model.begin_prompt(prompt.len());
        for chunk in prompt.chunks(25) {
            model.forward(&[span(chunk)], &mut cache).unwrap();
        }
        assert!(model.take_failure().is_none());
        model.forward(&[span(&[7])], &mut cache).unwrap().into_data().to_vec().unwrap()
    };
    let mut cache = cache(&config);
    whole.forward(&[span(&prompt)], &mut cache).unwrap();
    let expected = whole.forward(&[span(&[7])], &mut cache).unwrap();
    let expected: Vec<f32> = expected.into_data().to_vec().unwrap();
    assert_eq!(logits(1.0), expected);
    assert_ne!(logits(0.2), expected);
}

#[test]
fn activations_that_are_not_finite_are_told() {
    let folder = crate::tiny_model::folder(4);
    let (config, mut model) = quantized(folder.path(), "int8");
    let norm = &mut model.layers[1].post_attention_layernorm.weight;
    *norm = Param::from_tensor(norm.val() * f32::NAN);
    let conversation = PromptNeurons::new(model, 0.5).conversation();
    conversation.begin_prompt(4);
    conversation.forward(&[span(&tokens(4))], &mut cache(&config)).unwrap();
    let failure = conversation.take_failure();
    assert!(
        matches!(&failure, Some(Error::Sparse(SparsityError::NotFinite { name, .. }))
            if name.contains("layers.1")),
        "{failure:?}"
    );
    assert!(conversation.take_failure().is_none(), "it is told once");
}

#[test]
fn sequences_cannot_share_neurons() {
    let folder = crate::tiny_model::folder(4);
    let model = Model::open(folder.path(), options("int8", Sparsity::PromptNeurons(0.5))).unwrap();
    let refused = model.batch(["one", "two"]).unwrap_err();
    assert!(matches!(refused, Error::OneConversation { doing: "batch" }), "{refused}");
    let refused = model.score("one", &["two"]).unwrap_err();
    assert!(matches!(refused, Error::OneConversation { doing: "score" }), "{refused}");
}

#[test]
fn what_cannot_be_is_refused_before_weights_are_read() {
    let folder = crate::tiny_model::folder(3);
    let open = |options| Model::open(folder.path(), options).map(drop).unwrap_err();
    for keep in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        let error = open(options("int8", Sparsity::PromptNeurons(keep)));
        assert!(matches!(error, Error::Option { option: "sparsity", .. }), "{keep}: {error}");
    }
    let missing = folder.path().join("nothing.json");
    let error = open(options("int8", Sparsity::Thresholds(missing.clone())));
    assert!(matches!(&error, Error::Io { file, .. } if *file == missing), "{error}");
    let (file, _) = thresholds(folder.path(), Allocation::Uniform);
    for sparsity in [Sparsity::Thresholds(file), Sparsity::PromptNeurons(0.5)] {
        let adapters = Some(folder.path().to_owned());
        let error = open(LoadOptions { adapters, ..options("int8", sparsity.clone()) });
        assert!(matches!(error, Error::Option { option: "adapters", .. }), "{error}");
        let weights = Weights::Dtype(WeightDtype::Bf16);
        let error = open(LoadOptions { weights, ..options("int8", sparsity) });
        assert!(matches!(error, Error::Option { option: "weights", .. }), "{error}");
    }
}

/// Every way in which a file of thresholds can be wrong names the file.
#[test]
fn files_of_other_models_or_values_are_refused() {
    let folder = crate::tiny_model::folder(3);
    let (file, _) = thresholds(folder.path(), Allocation::Uniform);
    let (gates, _) = thresholds(folder.path(), Allocation::Gates);
    let other = crate::tiny_model::folder(5);
    let options = |file: &Path| options("int8", Sparsity::Thresholds(file.to_owned()));
    let error = Model::open(other.path(), options(&file)).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Sparse(SparsityError::OtherModel { file: named, .. })
        if *named == file));

    let read =
        |file: &Path| -> Value { serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap() };
    let wrong = folder.path().join("wrong.json");
    let refused = |text: &str| {
        std::fs::write(&wrong, text).unwrap();
        let error = Model::open(folder.path(), options(&wrong)).map(drop).unwrap_err();
        assert!(error.to_string().contains("wrong.json"), "{error}");
        error
    };
    let changed = |file: &Path, change: &dyn Fn(&mut Value)| {
        let mut value = read(file);
        change(&mut value["projections"]);
        refused(&value.to_string())
    };
    let entry = |magnitude: f64| json!({ "threshold": magnitude, "sparsity": 0.5 });
    let projection = "model.layers.0.mlp.down_proj";
    for magnitude in [1e39, -1.0] {
        let error = changed(&file, &|all| all[projection] = entry(magnitude));
        let Error::SparseModel(SparseModelError::File { source, .. }) = error else {
            panic!("{error}")
        };
        assert!(matches!(source, SparsityError::Threshold { name, .. } if name == projection));
    }
    let text = read(&file).to_string();
    let nan = text.replacen("\"threshold\":", "\"threshold\":NaN,\"was\":", 1);
    for text in [nan.as_str(), "", "[]", &text[..text.len() / 2]] {
        assert!(matches!(refused(text), Error::Sparse(SparsityError::Json { .. })));
    }
    for (file, name) in [(&file, projection), (&gates, "model.layers.1.mlp.gate")] {
        let error = changed(file, &|all| drop(all.as_object_mut().unwrap().remove(name)));
        let Error::SparseModel(SparseModelError::File { source, .. }) = error else {
            panic!("{error}")
        };
        assert!(matches!(source, SparsityError::Missing(missing) if missing == name));
    }
    let error = changed(&file, &|all| all["model.layers.0.mlp.gate"] = entry(0.1));
    assert!(matches!(error, Error::SparseModel(SparseModelError::Mixed { .. })), "{error}");
    for file in [&file, &gates] {
        let error = changed(file, &|all| all["model.layers.9.mlp.gate"] = entry(0.1));
        assert!(matches!(error, Error::SparseModel(SparseModelError::Unknown { .. })), "{error}");
    }
    let error = changed(&file, &|all| *all = json!({}));
    assert!(matches!(error, Error::SparseModel(SparseModelError::File { .. })), "{error}");
}

/// Files that were found and compared are files that models are opened with.
#[test]
fn thresholds_are_found_compared_and_kept() {
    let folder = crate::tiny_model::folder(3);
    let silent = ProgressSink::default();
    let checkpoint = lightglm::checkpoint::open(folder.path(), &silent).unwrap();
    let text = tokens(192);
    let (calibration, check) = text.split_at(96);
    let sparsify = |progress| Sparsify {
        checkpoint: &checkpoint,
        policy: None,
        device: Device::Cpu,
        calibration,
        check,
        context: 32,
        progress,
    };
    let allocations = [Allocation::Uniform, Allocation::Gates];
    let (sparsities, output) = ([0.0, 0.5], folder.path());
    let wanted = WantedThresholds::New {
        allocations: &allocations,
        sparsities: &sparsities,
        folder: output,
    };
    let mut report = SparsifyReport::default();
    sparsify(silent.clone()).run(wanted, &mut report).unwrap();
    assert_eq!((report.scheme.as_str(), report.rows.len()), ("int8", 4));
    for (row, (allocation, sparsity)) in
        report.rows.iter().zip([("uniform", 0.0), ("uniform", 0.5), ("gates", 0.0), ("gates", 0.5)])
    {
        assert_eq!(
            (row.allocation.as_str(), row.comparison.sparsity_aimed),
            (allocation, sparsity)
        );
        let (all, half) = (&row.comparison.all_tokens, &row.comparison.second_half);
        assert_eq!((all.tokens, half.tokens), (93, 45));
        for quality in [all, half] {
            assert_eq!(quality.kl_divergence == 0.0, sparsity == 0.0, "{allocation} {sparsity}");
        }
        let model =
            Model::open(output, options("int8", Sparsity::Thresholds(row.thresholds.clone())));
        assert!(model.is_ok(), "{allocation} {sparsity}");
        let mut again = SparsifyReport::default();
        sparsify(silent.clone()).run(WantedThresholds::File(&row.thresholds), &mut again).unwrap();
        assert_eq!(again.rows[0].comparison.all_tokens, *all);
    }
    // What is done when it is broken off stays.
    let speeds = AtomicU64::new(0);
    let stopping = ProgressSink::new(move |progress| match progress {
        Progress::Working { doing: "measuring speed", done: 0, .. }
            if speeds.fetch_add(1, Ordering::Relaxed) == 1 =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    let mut report = SparsifyReport::default();
    let stopped = sparsify(stopping).run(wanted, &mut report);
    assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{stopped:?}");
    assert_eq!(report.rows.len(), 1);
}
