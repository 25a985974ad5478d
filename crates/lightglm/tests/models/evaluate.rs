//! Perplexity, divergence and question sets over `Model`.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use lightglm::evaluate::{
    AskOptions, Metric, MetricValue, Missing, Predictions, PromptStyle, Protocol, QuestionOptions,
    QuestionSet, ScoreOptions, Task, TextOptions, divergence_metrics, perplexity_metrics,
};
use lightglm::speed::decode_speeds;
use lightglm::{Error, KvDtype, LoadOptions, Model, Progress, ProgressSink, Weights};
use lightglm_eval::EvalError;

const TEXT: &str = "What is a card? When does the card arrive? I am still waiting on my card.";

fn exact() -> LoadOptions {
    LoadOptions { kv_dtype: KvDtype::F32, ..LoadOptions::default() }
}

fn windows(context_length: usize, stride: usize) -> TextOptions {
    let protocol = Protocol { context_length, stride, bos: None, context_only: 0 };
    TextOptions { protocol, ..TextOptions::default() }
}

fn number(metrics: &[Metric], name: &str) -> f64 {
    match metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value) {
        Some(MetricValue::Number(number)) => number,
        other => panic!("{name}: {other:?}"),
    }
}

/// Breaks off after so many reports.
fn breaking_after(reports: usize) -> ProgressSink {
    let count = std::sync::atomic::AtomicUsize::new(0);
    ProgressSink::new(move |progress| {
        assert!(matches!(progress, Progress::Working { .. }));
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < reports {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })
}

#[test]
fn perplexity_is_that_of_the_scores() {
    let folder = crate::tiny_model::folder(21);
    let model = crate::tiny_model::open(&folder, exact());
    let tokens = model.count_tokens(TEXT).unwrap();
    let result = model.perplexity(TEXT, &windows(256, 256)).unwrap();
    assert_eq!(result.tokens, tokens - 1);
    // The same by `score`, from the first token on.
    let (first, rest) = TEXT.split_at(1);
    if model.count_tokens(first).unwrap() == 1 {
        let sum: f64 = model.score(first, &[rest]).unwrap()[0];
        let here = -sum / model.count_tokens(rest).unwrap() as f64;
        // Nearly, where the cut makes other tokens; both begin as every text of the model does.
        let same = model.count_tokens(rest).unwrap() + 1 == tokens;
        let apart = (here - result.nll_mean).abs();
        assert!(apart < if same { 1e-3 } else { 0.2 }, "{here} {}", result.nll_mean);
    }
    let metrics = perplexity_metrics(&result);
    assert_eq!(number(&metrics, "perplexity"), result.perplexity);
    let few = model.perplexity(TEXT, &windows(8, 4).with_windows(2)).unwrap();
    assert_eq!(few.tokens, 8 + 4 - 1);
}

#[test]
fn a_model_is_no_distance_from_itself_and_some_from_its_quantized_form() {
    let folder = crate::tiny_model::folder(22);
    let model = crate::tiny_model::open(&folder, exact());
    let same = model.kl_divergence(&model, TEXT, &windows(16, 8)).unwrap();
    assert_eq!((same.mean, same.top1_agreement), (0.0, 1.0));
    let weights = Weights::scheme("int4wo-g32").unwrap();
    let quantized = crate::tiny_model::open(&folder, LoadOptions { weights, ..exact() });
    let other = quantized.kl_divergence(&model, TEXT, &windows(16, 8)).unwrap();
    assert!(other.mean > 0.0);
    assert_eq!(other.reference, same.reference);
    let metrics = divergence_metrics(&other, &Default::default());
    assert_eq!(number(&metrics, "kl_divergence"), other.mean);
    // A budget that holds everything changes nothing but the way.
    let budget = crate::tiny_model::open(&folder, LoadOptions { kv_budget: Some(4096), ..exact() });
    let same = budget.kl_divergence(&model, TEXT, &windows(16, 8)).unwrap();
    assert!(same.mean.abs() < 1e-9, "{}", same.mean);
    let tokens = model.text().tokenizer.encode_text(TEXT).unwrap();
    let speeds = decode_speeds([&model, &quantized], &tokens, 8, &ProgressSink::default());
    assert!(speeds.unwrap().into_iter().all(|speed| speed > 0.0 && speed.is_finite()));
}

#[test]
fn impossible_measurements_are_refused() {
    let folder = crate::tiny_model::folder(23);
    let model = crate::tiny_model::open(&folder, exact());
    let error = model.perplexity(TEXT, &windows(8, 9)).unwrap_err();
    assert!(matches!(error, Error::Eval(EvalError::StrideTooLong { .. })), "{error}");
    let error = model.perplexity("", &windows(8, 8)).unwrap_err();
    assert!(matches!(error, Error::Eval(EvalError::EmptyText { tokens: 0 })), "{error}");
    let broken = TextOptions { progress: breaking_after(1), ..windows(8, 8) };
    let error = model.perplexity(TEXT, &broken).unwrap_err();
    assert!(matches!(error, Error::Interrupted { doing: "measuring" }), "{error}");
    let error = decode_speeds([&model, &model], &[], 8, &ProgressSink::default()).unwrap_err();
    assert!(matches!(error, Error::Option { option: "tokens", .. }), "{error}");

    let other = crate::tiny_model::folder(23);
    // The same vocabulary without merges: every byte is a token.
    let tokenizer = other.path().join("tokenizer.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(&tokenizer).unwrap()).unwrap();
    json["model"]["merges"] = serde_json::json!([]);
    fs::write(&tokenizer, json.to_string()).unwrap();
    let other = Model::open(other.path(), exact()).unwrap();
    let error = model.kl_divergence(&other, TEXT, &windows(8, 8)).unwrap_err();
    assert!(matches!(error, Error::OtherTokens { .. }), "{error}");
}

fn problems(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("problems.jsonl");
    let line = |i: usize| {
        format!("{{\"question\": \"What is {i} + 1?\", \"answer\": \"It is.\\n#### {}\"}}\n", i + 1)
    };
    fs::write(&file, (0..6).map(line).collect::<String>()).unwrap();
    file
}

#[test]
fn answers_do_not_depend_on_the_batch_and_are_scored() {
    let folder = crate::tiny_model::folder(24);
    let model = crate::tiny_model::open(&folder, exact());
    let file = problems(folder.path());
    let shown = QuestionOptions { shots: 1, shots_from: Some(file.clone()), ..Default::default() };
    let questions = QuestionSet::read(Task::Gsm8k, &file, &shown).unwrap();
    assert_eq!(questions.len(), 6);
    let asked = |batch| {
        let (prompt_style, max_new_tokens) = (PromptStyle::Plain, Some(6));
        let options = AskOptions { batch, prompt_style, max_new_tokens, ..AskOptions::default() };
        model.answer(&questions, &options).unwrap()
    };
    let (one, four) = (asked(1), asked(4));
    assert!(one.is_complete() && four.is_complete());
    assert_eq!(one.predictions, four.predictions);
    let metrics = questions.score_answers(&one, &ScoreOptions::default()).unwrap();
    assert!((0.0..=100.0).contains(&number(&metrics, "exact_match")));

    let csv = folder.path().join("bank.csv");
    fs::write(&csv, "text,category\nWhere is my card?,card_arrival\nI lost it,lost_card\n")
        .unwrap();
    let labels = QuestionSet::read(Task::Banking77, &csv, &QuestionOptions::default()).unwrap();
    let plain = AskOptions { prompt_style: PromptStyle::Plain, ..AskOptions::default() };
    let metrics = model.evaluate(&labels, &plain, &ScoreOptions::default()).unwrap();
    assert_eq!(metrics[1].name, "accuracy_norm");
}

#[test]
fn a_run_that_is_broken_off_keeps_its_answers() {
    let folder = crate::tiny_model::folder(25);
    let model = crate::tiny_model::open(&folder, exact());
    let file = problems(folder.path());
    let questions = QuestionSet::read(Task::Gsm8k, &file, &QuestionOptions::default()).unwrap();
    let ask = |progress| {
        let (prompt_style, max_new_tokens) = (PromptStyle::Plain, Some(4));
        let options = AskOptions { batch: 1, prompt_style, max_new_tokens, progress };
        model.answer(&questions, &options)
    };
    let whole = ask(ProgressSink::default()).unwrap();
    let reached = ProgressSink::new(|progress| match progress {
        Progress::Working { done, .. } if done >= 2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let part = ask(reached).unwrap();
    assert!(!part.is_complete() && part.predictions.len() >= 2, "{}", part.predictions.len());
    assert!(part.predictions.len() < whole.predictions.len());
    questions.score_answers(&part, &ScoreOptions::default()).unwrap();
    let error = questions.score(&part.predictions, &ScoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Score(_)), "{error}");
    let official = ScoreOptions { missing: Missing::AsOfficial, ..ScoreOptions::default() };
    questions.score(&part.predictions, &official).unwrap();
    let error = ask(breaking_after(0)).map(|answers| answers.predictions.len());
    assert!(matches!(error, Err(Error::Interrupted { doing: "asking" }) | Ok(1)), "{error:?}");
}

#[test]
fn malformed_questions_name_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = problems(folder.path());
    let wanted = QuestionOptions { shots: 7, shots_from: Some(file.clone()), ..Default::default() };
    let error = QuestionSet::read(Task::Gsm8k, &file, &wanted).unwrap_err();
    match &error {
        Error::TooFewShots { file: named, found: 6, wanted: 7 } => assert_eq!(*named, file),
        other => panic!("{other}"),
    }
    fs::write(&file, "{\"question\": 3}\n").unwrap();
    let error = QuestionSet::read(Task::Gsm8k, &file, &QuestionOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Data(_)) && error.to_string().contains("problems.jsonl:1"));
    let error = Predictions::read(&folder.path().join("none.json")).unwrap_err();
    assert!(error.to_string().contains("none.json"));
}
