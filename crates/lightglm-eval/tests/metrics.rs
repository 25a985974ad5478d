//! The metrics against golden cases, values worked out by hand, and what must hold for any input.

use lightglm_eval::data::{Predictions, Problem, Question, read_labeled_texts};
use lightglm_eval::metrics::{
    Estimates, IntervalMethod, Metric, MetricValue, Missing, NoAnswer, ScoreError, accuracy,
    cmrc2018, cmrc2018_exact_match, cmrc2018_f1, final_answer, gsm8k, most_likely, normalize,
    squad2, squad2_exact, squad2_f1, word_tokenize,
};
use proptest::prelude::*;
use serde_json::Value;

/// The same arithmetic in the same order, but Python's and Rust's `powi` need not agree.
const ROUNDING: f64 = 1e-12;

fn cases(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a golden case")).collect()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().expect("a text")
}

fn number(case: &Value, field: &str) -> f64 {
    case[field].as_f64().expect("a number")
}

#[test]
fn words_are_nltks() {
    let cases = cases(include_str!("data/question_sets/word_tokenize.jsonl"));
    assert!(cases.len() > 400);
    for case in cases {
        let tokens: Vec<String> = serde_json::from_value(case["tokens"].clone()).expect("tokens");
        assert_eq!(word_tokenize(text(&case, "text")), tokens, "{:?}", text(&case, "text"));
    }
}

#[test]
fn chinese_scores_are_those_of_the_definition() {
    let cases = cases(include_str!("data/question_sets/cmrc2018.jsonl"));
    assert!(cases.len() > 100);
    for case in cases {
        let (gold, prediction) = (text(&case, "gold"), text(&case, "prediction"));
        assert_eq!(cmrc2018_exact_match(gold, prediction), number(&case, "em"), "{case}");
        assert!((cmrc2018_f1(gold, prediction) - number(&case, "f1")).abs() < ROUNDING, "{case}");
    }
}

#[test]
fn english_scores_are_those_of_the_definition() {
    let cases = cases(include_str!("data/question_sets/squad2.jsonl"));
    assert!(cases.len() > 100);
    for case in cases {
        let (gold, prediction) = (text(&case, "gold"), text(&case, "prediction"));
        assert_eq!(normalize(gold), text(&case, "normalized"), "{case}");
        assert_eq!(squad2_exact(gold, prediction), number(&case, "exact"), "{case}");
        assert!((squad2_f1(gold, prediction) - number(&case, "f1")).abs() < ROUNDING, "{case}");
    }
}

fn question(id: &str, answers: &[&str]) -> Question {
    Question {
        id: id.to_owned(),
        title: "".into(),
        context: "".into(),
        question: String::new(),
        answers: answers.iter().map(|&answer| answer.to_owned()).collect(),
    }
}

fn predictions(pairs: &[(&str, &str)]) -> Predictions {
    let mut predictions = Predictions::new("test");
    for (id, answer) in pairs {
        predictions.insert(*id, *answer);
    }
    predictions
}

fn value(metrics: &[Metric], name: &str) -> f64 {
    let metric = metrics.iter().find(|metric| metric.name == name);
    match metric.unwrap_or_else(|| panic!("no {name} in {metrics:?}")).value {
        MetricValue::Count(count) => count as f64,
        MetricValue::Number(number) => number,
    }
}

/// Two answerable questions, two that are not; of each one is answered as it should be.
fn four() -> (Vec<Question>, Predictions) {
    let questions = vec![
        question("right", &["the Tay", "Tay river"]),
        question("half", &["blue bridge"]),
        question("none", &[]),
        question("made_up", &[]),
    ];
    let answers = [("right", "Tay."), ("half", "bridge"), ("none", ""), ("made_up", "1998")];
    (questions, predictions(&answers))
}

#[test]
fn squad_scores_by_hand() {
    let (questions, predictions) = four();
    let estimates = Estimates::default();
    let metrics = squad2(&questions, &predictions, None, Missing::Refuse, &estimates).unwrap();
    let expected = [
        ("exact", 50.0),
        ("f1", 100.0 * (1.0 + 2.0 / 3.0 + 1.0) / 4.0),
        ("total", 4.0),
        ("HasAns_exact", 50.0),
        ("HasAns_f1", 100.0 * (1.0 + 2.0 / 3.0) / 2.0),
        ("HasAns_total", 2.0),
        ("NoAns_exact", 50.0),
        ("NoAns_f1", 50.0),
        ("NoAns_total", 2.0),
    ];
    assert_eq!(metrics.len(), expected.len());
    for (metric, (name, wanted)) in metrics.iter().zip(expected) {
        assert_eq!(metric.name, name);
        assert!((value(&metrics, name) - wanted).abs() < 1e-9, "{name}");
    }
    let method = |name: &str| {
        let metric = metrics.iter().find(|metric| metric.name == name).expect("a metric");
        metric.interval.expect("an interval").method
    };
    assert_eq!(method("exact"), IntervalMethod::Wilson);
    assert_eq!(method("f1"), IntervalMethod::Bootstrap { resamples: 1000, seed: 0 });
}

#[test]
fn thresholds_by_hand() {
    let (questions, predictions) = four();
    let probabilities = |pairs: [(&str, f64); 4], threshold| {
        NoAnswer::new("na", pairs.map(|(id, p)| (id.to_owned(), p)).to_vec(), threshold)
    };
    let score = |no_answer: &NoAnswer| {
        let estimates = Estimates::default();
        squad2(&questions, &predictions, Some(no_answer), Missing::Refuse, &estimates).unwrap()
    };
    let pairs = [("right", 0.1), ("half", 0.3), ("none", 0.9), ("made_up", 0.5)];
    // Above 0.4: `none` and `made_up` count as unanswered, both right.
    let metrics = score(&probabilities(pairs, 0.4));
    assert_eq!(value(&metrics, "exact"), 75.0);
    assert_eq!(value(&metrics, "NoAns_exact"), 100.0);
    // From 2 (all unanswered): right +1 = 3 at 0.1; half +0 exact, +2/3 F1 at 0.3; made_up -1.
    assert_eq!(value(&metrics, "best_exact"), 75.0);
    assert_eq!(value(&metrics, "best_exact_thresh"), 0.1);
    assert!((value(&metrics, "best_f1") - 100.0 * (3.0 + 2.0 / 3.0) / 4.0).abs() < 1e-9);
    assert_eq!(value(&metrics, "best_f1_thresh"), 0.3);
    // A probability that equals the threshold is not above it.
    assert_eq!(value(&score(&probabilities(pairs, 0.5)), "exact"), 50.0);
    // Best where nobody is let in: the threshold stays 0.
    let pairs = [("right", 0.8), ("half", 0.3), ("none", 0.1), ("made_up", 0.1)];
    let metrics = score(&probabilities(pairs, 1.0));
    assert_eq!((value(&metrics, "best_exact"), value(&metrics, "best_exact_thresh")), (50.0, 0.0));
    let few = NoAnswer::new("na.json", vec![("right".to_owned(), 0.5)], 1.0);
    let error =
        squad2(&questions, &predictions, Some(&few), Missing::Refuse, &Estimates::default());
    let expected = ScoreError::MissingNaProb { origin: "na.json".into(), id: "half".into() };
    assert_eq!(error.unwrap_err(), expected);
}

#[test]
fn gold_answers_that_normalise_to_nothing_are_no_answers() {
    let questions = [question("q", &["the", "."])];
    let score = |answer| {
        let predictions = predictions(&[("q", answer)]);
        squad2(&questions, &predictions, None, Missing::Refuse, &Estimates::default()).unwrap()
    };
    // The question still counts as answerable, as it does officially.
    assert_eq!(value(&score(""), "HasAns_exact"), 100.0);
    assert_eq!(value(&score("the cat"), "exact"), 0.0);
}

#[test]
fn unanswered_questions_are_refused_or_counted_as_officially() {
    let (questions, _) = four();
    let some = predictions(&[("right", "Tay"), ("other", "x")]);
    let estimates = Estimates::default();
    let refused = ScoreError::MissingPredictions {
        origin: "test".into(),
        missing: 3,
        total: 4,
        first: "half".into(),
    };
    assert_eq!(squad2(&questions, &some, None, Missing::Refuse, &estimates), Err(refused.clone()));
    assert_eq!(cmrc2018(&questions, &some, Missing::Refuse, &estimates), Err(refused));
    let metrics = squad2(&questions, &some, None, Missing::AsOfficial, &estimates).unwrap();
    assert_eq!((value(&metrics, "exact"), value(&metrics, "total")), (100.0, 1.0));
    let metrics = cmrc2018(&questions, &some, Missing::AsOfficial, &estimates).unwrap();
    assert_eq!((value(&metrics, "total"), value(&metrics, "skip")), (4.0, 3.0));
    assert_eq!(value(&metrics, "em"), 0.0);
    let nobody = predictions(&[]);
    let nothing = ScoreError::NoQuestions { origin: "test".into() };
    assert_eq!(squad2(&[], &nobody, None, Missing::Refuse, &estimates), Err(nothing.clone()));
    assert_eq!(
        squad2(&questions, &nobody, None, Missing::AsOfficial, &estimates),
        Err(nothing.clone())
    );
    assert_eq!(cmrc2018(&[], &nobody, Missing::Refuse, &estimates), Err(nothing));
}

#[test]
fn final_answers() {
    let answer = |text: &str| final_answer(text);
    assert_eq!(answer("so 3.\n#### 1,234.50"), Some("1234.50".into()));
    assert_eq!(answer("#### -5 apples"), Some("-5".into()));
    assert_eq!(answer("#### 7\n#### 8"), Some("7".into()));
    assert_eq!(answer("#### $7\n#### 8"), Some("8".into()));
    assert_eq!(answer("##### 7"), Some("7".into()));
    for none in ["", "7", "####7", "####  7", "#### ", "#### x", "#### -"] {
        assert_eq!(answer(none), None, "{none:?}");
    }
    // As officially: text against text, so 7.0 is not 7.
    assert_eq!(answer("#### 7.0"), Some("7.0".into()));
    assert_eq!(answer("#### ,"), Some("".into()));
}

#[test]
fn solutions_are_compared_by_their_final_answer() {
    let problem = |id: &str, answer: &str| Problem {
        id: id.into(),
        question: String::new(),
        solution: String::new(),
        answer: answer.into(),
    };
    let problems = [problem("0", "72"), problem("1", "-3"), problem("2", "1000")];
    let predictions = predictions(&[("0", "#### 72"), ("1", "3"), ("2", "x\n#### 1,000")]);
    let metrics = gsm8k(&problems, &predictions, Missing::Refuse, &Estimates::default()).unwrap();
    assert!((value(&metrics, "exact_match") - 200.0 / 3.0).abs() < 1e-9);
    assert_eq!((value(&metrics, "no_answer"), value(&metrics, "total")), (1.0, 3.0));
}

#[test]
fn labels_are_compared_and_foreign_ones_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "text,category\na,x\nb,y\n").expect("a file");
    let texts = read_labeled_texts(file.path()).expect("two texts");
    let labels = ["x".to_owned(), "y".to_owned()];
    let score = |pairs: &[(&str, &str)]| {
        accuracy(&texts, &labels, &predictions(pairs), Missing::Refuse, &Estimates::default())
    };
    assert_eq!(value(&score(&[("0", "x"), ("1", "x")]).unwrap(), "accuracy"), 50.0);
    let unknown = ScoreError::UnknownLabel {
        origin: "test".into(),
        id: "1".into(),
        label: "z".into(),
        labels: 2,
    };
    assert_eq!(score(&[("0", "x"), ("1", "z")]), Err(unknown));
    assert_eq!(most_likely(&[-3.0, -2.0, -2.0], &[1.0; 3]), 1);
    assert_eq!(most_likely(&[-3.0, -2.0], &[3.0, 1.0]), 0);
}

fn answer() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "the",
        "b",
        "Tay",
        "1998年",
        "图书馆",
        "。",
        "don't",
        "…",
        " ",
        "-",
    ])
    .prop_flat_map(|first| {
        prop::collection::vec(
            prop::sample::select(vec!["x", " ", "the", "桥", "3.5", "'", "\"", ",", "\u{301}"]),
            0..6,
        )
        .prop_map(move |rest| format!("{first}{}", rest.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn scores_are_percentages_and_gold_scores_a_hundred(
        golds in prop::collection::vec(prop::collection::vec(answer(), 0..3), 1..6),
        given in prop::collection::vec(answer(), 6),
    ) {
        let questions: Vec<Question> = golds
            .iter()
            .enumerate()
            .map(|(id, golds)| {
                let golds: Vec<&str> = golds.iter().map(String::as_str).collect();
                question(&id.to_string(), &golds)
            })
            .collect();
        let mut any = Predictions::new("any");
        let mut gold = Predictions::new("gold");
        for (question, given) in questions.iter().zip(&given) {
            any.insert(&question.id, given);
            // A gold answer that normalises to nothing is none.
            let real = question.answers.iter().find(|answer| !normalize(answer).is_empty());
            gold.insert(&question.id, real.map_or("", String::as_str));
        }
        let estimates = Estimates { resamples: 20, seed: 1 };
        let english = |predictions: &Predictions, questions: &[Question]| {
            squad2(questions, predictions, None, Missing::Refuse, &estimates).unwrap()
        };
        for metric in english(&any, &questions) {
            if let (MetricValue::Number(x), Some(interval)) = (metric.value, metric.interval) {
                prop_assert!((0.0..=100.0).contains(&x), "{metric:?}");
                prop_assert!(0.0 <= interval.low && interval.low <= interval.high, "{metric:?}");
                prop_assert!(interval.high <= 100.0, "{metric:?}");
            }
        }
        let best = english(&gold, &questions);
        prop_assert_eq!([value(&best, "exact"), value(&best, "f1")], [100.0, 100.0]);
        // Order changes nothing but rounding.
        let mut reversed = questions.clone();
        reversed.reverse();
        let (one, other) = (english(&any, &questions), english(&any, &reversed));
        for name in ["exact", "f1"] {
            prop_assert!((value(&one, name) - value(&other, name)).abs() < 1e-9);
        }
    }

    #[test]
    fn chinese_gold_scores_a_hundred(gold in answer(), other in answer()) {
        let questions = [question("q", &[&gold])];
        let score = |answer: &str| {
            let predictions = predictions(&[("q", answer)]);
            cmrc2018(&questions, &predictions, Missing::Refuse, &Estimates::default()).unwrap()
        };
        let best = score(&gold);
        prop_assert_eq!(value(&best, "em"), 100.0);
        // Without any token left, nothing can be in common: the official F1 is then 0.
        let tokens = lightglm_eval::metrics::segment(&gold);
        let wanted = if tokens.is_empty() { 0.0 } else { 100.0 };
        prop_assert_eq!(value(&best, "f1"), wanted);
        let f1 = value(&score(&other), "f1");
        prop_assert!((0.0..=100.0).contains(&f1));
        prop_assert_eq!(cmrc2018_f1(&gold, &other), cmrc2018_f1(&other, &gold));
    }

    #[test]
    fn any_text_can_be_scored(gold in ".{0,40}", prediction in ".{0,40}") {
        for score in [squad2_f1, squad2_exact, cmrc2018_f1, cmrc2018_exact_match] {
            prop_assert!((0.0..=1.0).contains(&score(&gold, &prediction)));
            prop_assert!((0.0..=1.0).contains(&score(&gold, &gold)));
        }
        let _ = final_answer(&prediction);
    }
}
