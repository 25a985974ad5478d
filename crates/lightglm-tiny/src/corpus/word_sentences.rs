//! `WordSentences`: sentences of words in no order. They have no pattern by which to tell where one begins from what stands in
//! it: who answers with the whole of one must know it at every word.

use super::conversation::{CorpusConversation, Exchange};
use super::fact_conversations::HELD_BACK_DOMAINS;
use super::facts::Domain;
use super::language::Language;
use super::passages::{asked, contains};
use super::questions::sentence;
use super::random::Random;

/// Makes conversations about sentences of words in no order; questions are a word or two, answers their sentence.
#[derive(Clone, Debug)]
pub struct WordSentences {
    english: Vec<String>,
    chinese: Vec<String>,
}

/// What the sentences are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordSettings {
    /// Sentences at most.
    pub sentences: usize,
    /// Words of a sentence at most; most have fewer, so that what is near is learnt first.
    pub words: usize,
    /// How many of a hundred questions are for a word that is not there.
    pub unanswerable: usize,
}

impl Default for WordSettings {
    fn default() -> Self {
        Self { sentences: 4, words: 12, unanswerable: 10 }
    }
}

impl WordSentences {
    /// Of the words of all statements, but those of [`HELD_BACK_DOMAINS`].
    pub fn new(domains: &[Domain]) -> Self {
        let words = |language: Language| {
            let learnt =
                domains.iter().filter(|domain| !HELD_BACK_DOMAINS.contains(&domain.name.as_str()));
            let facts = learnt.flat_map(|domain| &domain.facts);
            let statements = facts.flat_map(|fact| &fact.wording(language).statements);
            let mut words: Vec<String> =
                statements.flat_map(|text| split(text, language)).collect();
            words.sort();
            words.dedup();
            words
        };
        Self { english: words(Language::English), chinese: words(Language::Chinese) }
    }

    /// The next conversation, `None` where there are fewer than twice the words that it may take.
    pub fn next(
        &self,
        language: Language,
        settings: WordSettings,
        random: &mut Random,
    ) -> Option<CorpusConversation> {
        let words = match language {
            Language::English => &self.english,
            Language::Chinese => &self.chinese,
        };
        // A word more for each sentence: one that is asked for and not there.
        let most = settings.sentences.max(2) * (settings.words.max(3) + 1);
        if words.len() < 2 * most {
            return None;
        }
        let longest = random.within(3..=settings.words.max(3));
        let mut used: Vec<&String> = Vec::new();
        let mut fresh = |random: &mut Random| loop {
            let word = random.pick_ref(words);
            if !used.contains(&word) {
                used.push(word);
                return word.clone();
            }
        };
        let count = random.within(2..=settings.sentences.max(2));
        let sentences: Vec<Vec<String>> = (0..count)
            .map(|_| (0..random.within(3..=longest)).map(|_| fresh(random)).collect())
            .collect();
        let whole = |words: &[String]| match language {
            Language::English => sentence(&words.join(" ")) + ".",
            Language::Chinese => words.concat() + "。",
        };
        let text: Vec<String> = sentences.iter().map(|words| whole(words)).collect();
        let mut order: Vec<usize> = (0..count).collect();
        random.shuffle(&mut order);
        let mut exchanges = Vec::new();
        for &i in &order {
            let is_told = random.below(100) >= settings.unanswerable;
            let key = match is_told {
                true => {
                    // Not the first word, with which the answer begins.
                    let words = &sentences[i];
                    let first = random.within(1..=words.len() - 1);
                    let last = (first + random.within(1..=2)).min(words.len());
                    words[first..last].join(language.space())
                }
                false => fresh(random),
            };
            // A word may be part of another, and of Chinese stand across two of them.
            let elsewhere = |j: usize| (!is_told || j != i) && contains(&text[j], &key);
            if (0..count).any(elsewhere) {
                continue;
            }
            let question = asked(&[key], language, random);
            exchanges.push(match is_told {
                true => Exchange { question, answer: text[i].clone(), answerable: true },
                false => Exchange::refused(language, question),
            });
        }
        let context = Some(text.join(language.space()));
        (!exchanges.is_empty()).then_some(CorpusConversation { language, context, exchanges })
    }
}

/// The words of a statement, slots left out; of Chinese, pieces of two characters.
fn split(text: &str, language: Language) -> Vec<String> {
    let mut words = Vec::new();
    let pieces = text.split(['{', '}']).step_by(2);
    match language {
        Language::English => {
            for word in pieces.flat_map(|piece| piece.split(|c: char| !c.is_alphabetic())) {
                if word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase()) {
                    words.push(word.to_owned());
                }
            }
        }
        Language::Chinese => {
            for piece in pieces.flat_map(|piece| piece.split(|c: char| !c.is_alphabetic())) {
                let letters: Vec<char> = piece.chars().filter(|c| !c.is_ascii()).collect();
                let chunks = letters.chunks(2).filter(|chunk| chunk.len() == 2);
                words.extend(chunks.map(|chunk| chunk.iter().collect::<String>()));
            }
        }
    }
    words
}
