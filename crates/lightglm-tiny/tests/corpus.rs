//! The programs that make what the embedded model learns from.
#![cfg(feature = "corpus")]

use std::fs;
use std::path::Path;

use lightglm_tiny::corpus::{
    CorpusConversation, Domain, FactConversations, FactSettings, HELD_BACK_DOMAINS, Language,
    LookupConversations, Part, PassageConversations, Random, WordSentences, WordSettings,
    read_domain, read_domains,
};

fn domains() -> Vec<Domain> {
    read_domains(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/facts")).unwrap()
}

/// What holds of every conversation.
fn check(conversation: &CorpusConversation) {
    let context = conversation.context.as_deref().unwrap_or_default();
    assert!(!conversation.exchanges.is_empty());
    for exchange in &conversation.exchanges {
        assert!(!exchange.question.is_empty(), "{conversation:?}");
        assert!(!exchange.question.contains(['{', '}']), "{conversation:?}");
        if exchange.answerable {
            assert!(context.contains(&exchange.answer), "{conversation:?}");
        }
    }
}

#[test]
fn the_facts_are_whole() {
    let domains = domains();
    assert!(domains.len() >= 40);
    for domain in &domains {
        assert!(domain.facts.len() >= 18, "{}", domain.name);
        for fact in &domain.facts {
            for language in Language::ALL {
                let wording = fact.wording(language);
                let (statements, questions) = (wording.statements.len(), wording.questions.len());
                assert!(statements == 2 && questions >= 4, "{} {}", domain.name, fact.id);
            }
        }
    }
    for held in HELD_BACK_DOMAINS {
        assert!(domains.iter().any(|domain| domain.name == held), "{held}");
    }
}

#[test]
fn answers_stand_in_their_context() {
    let domains = domains();
    for part in [Part::Training, Part::HeldBackQuestions, Part::HeldBackDomains] {
        let facts = FactConversations::new(&domains, part).unwrap();
        for seed in 0..300 {
            for language in Language::ALL {
                let mut random = Random::new(seed);
                check(&facts.next(language, &mut random));
                check(&facts.without_context(language, &mut random));
                check(&LookupConversations::default().next(language, 6, &mut random));
            }
        }
    }
}

#[test]
fn sentences_of_words_are_asked_for_by_what_only_they_have() {
    let domains = domains();
    let makes = WordSentences::new(&domains);
    let settings = WordSettings { sentences: 5, words: 12, unanswerable: 20 };
    let (mut told, mut untold) = (0, 0);
    for seed in 0..300 {
        for language in Language::ALL {
            let Some(made) = makes.next(language, settings, &mut Random::new(seed)) else {
                continue;
            };
            check(&made);
            let end = if language == Language::English { '.' } else { '。' };
            let context = made.context.as_deref().unwrap().to_lowercase();
            let sentences: Vec<&str> = context.split_terminator(end).map(str::trim).collect();
            for exchange in &made.exchanges {
                if !exchange.answerable {
                    untold += 1;
                    continue;
                }
                told += 1;
                // The longest piece that question and answer have in common stands in no other sentence.
                let question: Vec<char> = exchange.question.to_lowercase().chars().collect();
                let answer = exchange.answer.trim_end_matches(end).to_lowercase();
                let longest = (1..=question.len()).rev().find_map(|len| {
                    let mut pieces = question.windows(len).map(|piece| piece.iter().collect());
                    pieces.find(|piece: &String| answer.contains(piece))
                });
                let longest = longest.unwrap();
                let standing = sentences.iter().filter(|sentence| sentence.contains(&longest));
                assert_eq!(standing.count(), 1, "{longest}: {made:?}");
            }
        }
    }
    assert!(told > 2 * untold && untold > 100, "{told} {untold}");
    // Of a few words none are made, instead of looking for more of them for ever.
    let few = WordSentences::new(&domains[..1]);
    let many = WordSettings { sentences: 50, words: 50, unanswerable: 50 };
    assert!(few.next(Language::English, many, &mut Random::new(1)).is_none());
}

#[test]
fn a_question_may_be_words_of_its_sentence() {
    let domains = domains();
    let settings = FactSettings { words: 100, phrases: 50, mixed: 50, ..FactSettings::default() };
    let facts = FactConversations::new(&domains, Part::Training).unwrap().with_settings(settings);
    for seed in 0..200 {
        for language in Language::ALL {
            check(&facts.next(language, &mut Random::new(seed)));
        }
    }
}

#[test]
fn equal_seeds_make_equal_rows() {
    let domains = domains();
    let facts = FactConversations::new(&domains, Part::Training).unwrap();
    let rows = |seed| {
        let mut random = Random::new(seed);
        let conversation = facts.next(Language::Chinese, &mut random);
        let turns = conversation.turns(&mut random);
        (conversation, turns)
    };
    assert_eq!(rows(7), rows(7));
    assert_ne!(rows(7), rows(8));
}

#[test]
fn some_questions_have_no_answer() {
    let domains = domains();
    let facts = FactConversations::new(&domains, Part::Training).unwrap();
    let mut random = Random::new(3);
    let (mut told, mut untold) = (0, 0);
    for _ in 0..400 {
        for exchange in facts.next(Language::English, &mut random).exchanges {
            if exchange.answerable {
                told += 1;
            } else {
                untold += 1;
                assert_eq!(exchange.answer, Language::English.refusal());
            }
        }
    }
    let share = f64::from(untold) / f64::from(told + untold);
    assert!((0.1..0.5).contains(&share), "{share}");
}

#[test]
fn passages_are_asked_for_by_words_that_only_they_have() {
    let english = "The lamp is in the hall. A ladder leans on the wall. Nobody paints the fence today. The garden has a gate.";
    let chinese =
        "灯在大厅里已经很久。梯子靠在后院的墙上。今天没有人去刷篱笆。花园有一扇绿色的门。";
    let mut passages = PassageConversations::default();
    for (language, text) in [(Language::English, english), (Language::Chinese, chinese)] {
        // One paragraph is not enough: what no text tells is asked of another one.
        assert_eq!(passages.add(language, text, 10), 1);
        assert!(passages.next(language, 4, &mut Random::new(1)).is_none());
        passages.add(language, text, 10);
        for seed in 0..100 {
            if let Some(conversation) = passages.next(language, 4, &mut Random::new(seed)) {
                check(&conversation);
            }
        }
    }
    assert_eq!(passages.add(Language::English, "", 10), 0);
}

#[test]
fn a_wrong_file_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.txt");
    let told = |text: &str| {
        fs::write(&file, text).unwrap();
        read_domain(&file).unwrap_err().to_string()
    };
    let whole = "= a\nn: 1-3\nen> It is {n}.\nen? How many?\nen? Number?\nzh> 是{n}。\nzh? 多少？\nzh? 几个？\n";
    fs::write(&file, whole).unwrap();
    assert_eq!(read_domain(&file).unwrap().facts.len(), 1);
    for (text, expected) in [
        ("en> before a fact\n", "shop.txt:1: before the first fact"),
        ("= a\nen> no question\n", "needs a statement and two questions in `en`"),
        (&whole.replace("n: 1-3", "n: 3-1"), "shop.txt:2: `3-1` is no range and no choice"),
        (&whole.replace("n: 1-3\n", ""), "nothing says what {n} is in `en`"),
        (&whole.replace("n: 1-3", "fr.n: a|b"), "shop.txt:2: `fr` is no language"),
        (&whole.replace("How many?", "How many {m}?"), "{m}"),
        (&whole.replace("n: 1-3", "what"), "`what` is no line of a fact"),
    ] {
        let error = told(text);
        assert!(error.contains(expected), "{error}");
    }
    let error = read_domains(&folder.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none"), "{error}");
}
