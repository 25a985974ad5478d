//! The rows that the embedded model learns from, what is asked for in them on the way, and how it grows.

use std::path::{Path, PathBuf};

use lightglm::Cpu;
use lightglm::WeightDtype;
use lightglm::training::{Example, Method, TokenizedExample, TrainingModel};
use lightglm_core::{LabelledSpan, Tap};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_tiny::corpus::{CorpusConversation, Exchange, Language, Random, read_domains};
use lightglm_training_examples::tiny::grow::{FIRST_BLOCKS, grow, grows};
use lightglm_training_examples::tiny::hints::{Hint, cut_answers, give_conversation};
use lightglm_training_examples::tiny::rows::row;
use lightglm_training_examples::tiny::start::{ShapeArgs, write, write_like};
use lightglm_training_examples::tiny::tensors;
use lightglm_training_examples::tiny::token_rows::TokenRows;
use lightglm_training_examples::tiny::vocabulary::Vocabulary;
use tempfile::TempDir;

const SHAPE: ShapeArgs = ShapeArgs {
    vocab_size: 1024,
    hidden_size: 64,
    layers: 5,
    heads: 2,
    kv_heads: 2,
    intermediate_size: 64,
};

fn facts() -> Vec<String> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/lightglm-tiny/data/facts");
    let domains = read_domains(&folder).unwrap();
    let facts = domains.iter().take(20).flat_map(|domain| &domain.facts);
    facts
        .flat_map(|fact| Language::ALL.map(|language| fact.wording(language)))
        .flat_map(|wording| wording.statements.iter().chain(&wording.questions).cloned())
        .collect()
}

/// The folder of a model before it has learnt anything, below one that goes with the test, and its tokens.
fn begun() -> (TempDir, PathBuf, Vocabulary) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write(&model, &SHAPE, &facts(), 1).unwrap();
    let vocabulary = Vocabulary::open(&model).unwrap();
    (folder, model, vocabulary)
}

const KIND: TokenRows = TokenRows { sentences: 4, tokens: 8, asked: 2, same_beginning: 20 };

#[test]
fn rows_of_tokens_ask_for_answers_and_on_the_way_for_beginnings() {
    let (_folder, _, vocabulary) = begun();
    let mut found = 0;
    for seed in 0..50 {
        let plain = KIND.next(&vocabulary, &mut Random::new(seed), false);
        let hinted = KIND.next(&vocabulary, &mut Random::new(seed), true);
        assert_eq!(plain.tokens, hinted.tokens, "equal seeds, equal rows");
        assert!(hinted.labels() > plain.labels());
        for (i, (asked, more)) in plain.targets.iter().zip(&hinted.targets).enumerate() {
            // What is answered is the next token; hints never replace it.
            if let Some(next) = asked {
                assert_eq!(plain.tokens.get(i + 1), Some(next));
                assert_eq!(asked, more);
            }
        }
        let (twinned, twins) = KIND.with_twins(&vocabulary, &mut Random::new(seed));
        assert_eq!(twinned.tokens, plain.tokens);
        for twin in twins {
            assert!(twin.told < twin.asked);
            assert_eq!(plain.tokens[twin.told], plain.tokens[twin.asked]);
            // The same sentence begins alike, wherever it is noted.
            if let Some(first) = hinted.targets[twin.asked] {
                assert_eq!(hinted.targets[twin.told], Some(first));
                found += 1;
            }
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn tokens_that_spell_the_same_begin_alike() {
    let (_folder, model, vocabulary) = begun();
    let mut all = tensors::read(&model.join("model.safetensors")).unwrap();
    let rows = tensors::values(&mut all, "model.embed_tokens.weight").unwrap();
    let embedding = |token: u32| &rows[token as usize * SHAPE.hidden_size..][..SHAPE.hidden_size];
    let cosine = |a: u32, b: u32| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (a, b) = (embedding(a), embedding(b));
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let (mut alike, mut pairs) = (0.0, 0);
    let (mut other, mut others) = (0.0, 0);
    for token in 0..vocabulary.size() as u32 {
        for &twin in vocabulary.alike(token).iter().filter(|&&twin| twin > token) {
            alike += cosine(token, twin);
            pairs += 1;
        }
        other += cosine(token, (token * 7 + 13) % vocabulary.size() as u32).abs();
        others += 1;
    }
    assert!(pairs > 20, "{pairs} pairs");
    assert!(alike / pairs as f32 > 0.35, "{}", alike / pairs as f32);
    assert!(other / (others as f32) < 0.2, "{}", other / others as f32);
}

/// A conversation of two questions as tokens.
fn conversation(model: &Path) -> TokenizedExample {
    let said = CorpusConversation {
        language: Language::English,
        context: Some("Parcels come in two days. The shop opens at nine.".into()),
        exchanges: vec![
            Exchange {
                question: "When does the shop open?".into(),
                answer: "The shop opens at nine.".into(),
                answerable: true,
            },
            Exchange {
                question: "Is there a lift?".into(),
                answer: Language::English.refusal().into(),
                answerable: false,
            },
        ],
    };
    let student = TrainingModel::open_with(model, Method::Full, Default::default()).unwrap();
    let examples: Vec<Example> = vec![row(&said, 3)];
    student.tokenize_examples(&examples).unwrap().rows.remove(0)
}

#[test]
fn questions_are_told_how_their_answers_begin() {
    let (_folder, model, vocabulary) = begun();
    let plain = conversation(&model);
    let first = |text: &str| Some(vocabulary.encode(text)[0]);
    let hints = |hint, told| {
        let mut row = plain.clone();
        give_conversation(&mut row, &vocabulary, hint, told);
        let new = |(i, target): (usize, &Option<u32>)| {
            (plain.targets[i].is_none()).then_some(*target).flatten().map(|token| (i, token))
        };
        row.targets.iter().enumerate().filter_map(new).collect::<Vec<_>>()
    };
    let place = |text: &str| {
        let tokens = vocabulary.encode(text);
        let found = plain.tokens.windows(tokens.len()).position(|window| window == tokens);
        found.unwrap_or_else(|| panic!("{text}")) + tokens.len() - 1
    };
    let told = hints(Hint::Found, true);
    let at = |hints: &[(usize, u32)], place: usize| {
        hints.iter().find(|(i, _)| *i == place).map(|(_, token)| *token)
    };
    assert_eq!(at(&told, place("Parcels come in two")), first("Parcels"));
    assert_eq!(at(&told, place(" opens at")), first("The"));
    assert!(hints(Hint::Found, false).len() < told.len());
    let meant = hints(Hint::Meant, false);
    let refusal = first(Language::English.refusal());
    assert_eq!(meant.iter().filter(|(_, token)| Some(*token) == refusal).count(), 2);
    assert!(meant.iter().filter(|(_, token)| Some(*token) == first("The")).count() > 3);
}

#[test]
fn a_cut_answer_keeps_its_beginning_and_every_question() {
    let (_folder, model, vocabulary) = begun();
    let plain = conversation(&model);
    let mut cut = plain.clone();
    cut_answers(&mut cut, &vocabulary, 2);
    assert_eq!(cut.tokens.len(), cut.targets.len());
    assert!(cut.tokens.len() < plain.tokens.len());
    let count = |row: &TokenizedExample, name: &str| {
        row.tokens.iter().filter(|&&token| token == vocabulary.special(name)).count()
    };
    assert_eq!(count(&cut, "<|assistant|>"), 2);
    assert_eq!(count(&cut, "<|user|>"), count(&plain, "<|user|>"));
    // Of both answers the line in front, two tokens, and the one behind them that is asked for.
    assert_eq!(cut.labels(), 8);
    let mut long = plain.clone();
    cut_answers(&mut long, &vocabulary, 1000);
    assert_eq!(long.tokens, plain.tokens);
    assert_eq!(long.targets, plain.targets);
}

#[test]
fn a_grown_model_looks_at_the_same_token_in_its_third_block() {
    let (folder, fresh, vocabulary) = begun();
    let [two, grown] = ["two", "grown"].map(|name| folder.path().join(name));
    write_like(&fresh, &two, FIRST_BLOCKS, 2).unwrap();
    grow(&two, &fresh, &grown, 3).unwrap();
    // What is written opens, text side and all.
    TrainingModel::open_with(&grown, Method::Full, Default::default()).unwrap();
    let checkpoint = Checkpoint::open(&grown).unwrap();
    let config = checkpoint.config().clone();
    assert_eq!(config.num_hidden_layers, SHAPE.layers);
    let precision = LoadPrecision::Convert(WeightDtype::F32);
    let model: DenseGlm<Cpu> = DenseGlm::load(
        &config,
        checkpoint.weights(),
        checkpoint.path(),
        precision,
        &Default::default(),
    )
    .unwrap();
    let (mut first, mut all) = (0, 0);
    let mut random = Random::new(99);
    for _ in 0..40 {
        let (row, twins) = KIND.with_twins(&vocabulary, &mut random);
        let span = LabelledSpan::text(&row.tokens, &row.targets);
        let taps = model.tapped(&[Tap::Queries(3), Tap::Keys(3)], &[span]).unwrap();
        let [queries, keys] =
            [0, 1].map(|i| taps[i].clone().into_data().convert::<f32>().into_vec::<f32>().unwrap());
        let width = config.num_attention_heads * config.head_dim;
        for twin in twins {
            let score = |at: usize| -> f32 {
                let query = &queries[twin.asked * width..][..width];
                query.iter().zip(&keys[at * width..][..width]).map(|(q, k)| q * k).sum()
            };
            let best = (0..twin.asked).max_by(|&a, &b| score(a).total_cmp(&score(b)));
            first += usize::from(best == Some(twin.told));
            all += 1;
        }
    }
    // By chance it would be one of some thirty.
    assert!(all > 50 && 2 * first > all, "{first} of {all}");
}

#[test]
fn what_cannot_grow_is_told_and_nothing_is_left() {
    let (folder, fresh, _) = begun();
    let [two, other, grown] = ["two", "other", "grown"].map(|name| folder.path().join(name));
    let fails = |from: &Path, to_be: &str| {
        let error = format!("{:#}", grow(from, &fresh, &grown, 3).unwrap_err());
        assert!(error.contains(to_be), "{error}");
        assert!(!grown.exists());
    };
    fails(&folder.path().join("nowhere"), "nowhere");
    // Not a taught one: too few blocks, or of another shape.
    write_like(&fresh, &two, 1, 2).unwrap();
    fails(&two, "model.layers.1");
    write(&other, &ShapeArgs { hidden_size: 96, ..SHAPE }, &facts(), 1).unwrap();
    fails(&other, "shape [");
    let shape = |layers, kv_heads| {
        ShapeArgs { layers, heads: 4, kv_heads, ..SHAPE }.config().map(|config| grows(&config))
    };
    assert!(!shape(3, 2).unwrap().unwrap());
    assert!(shape(4, 2).unwrap().unwrap());
    let error = shape(4, 4).unwrap().unwrap_err().to_string();
    assert!(error.contains("4 heads of keys"), "{error}");
}
