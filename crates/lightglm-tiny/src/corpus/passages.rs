//! `PassageConversations`: sentences of a text, asked for by words that only one of them has. It teaches what a table of
//! facts cannot: that any word of a question may be what counts.
//!
//! Source: the inverse cloze task of Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain Question
//! Answering", section 4, with words instead of the whole sentence.

use super::conversation::{CorpusConversation, Exchange};
use super::language::Language;
use super::random::Random;

/// Makes conversations about the paragraphs of texts.
#[derive(Clone, Debug, Default)]
pub struct PassageConversations {
    english: Vec<Vec<String>>,
    chinese: Vec<Vec<String>>,
}

impl PassageConversations {
    /// Adds paragraphs of a text, at most so many, from all of it alike; how many are taken.
    pub fn add(&mut self, language: Language, text: &str, at_most: usize) -> usize {
        let paragraphs = match language {
            Language::English => &mut self.english,
            Language::Chinese => &mut self.chinese,
        };
        let mut found = Vec::new();
        let mut sentences: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.trim().is_empty() {
                continue;
            }
            sentences.extend(split_sentences(line.trim(), language));
            while sentences.len() >= 4 {
                let rest = sentences.split_off(sentences.len().min(7));
                found.push(std::mem::replace(&mut sentences, rest));
            }
        }
        let step = found.len().div_ceil(at_most.max(1)).max(1);
        let before = paragraphs.len();
        paragraphs.extend(found.into_iter().step_by(step));
        paragraphs.len() - before
    }

    /// The next conversation, of at most `questions` questions; `None` where there is no text in the language.
    pub fn next(
        &self,
        language: Language,
        questions: usize,
        random: &mut Random,
    ) -> Option<CorpusConversation> {
        let paragraphs = match language {
            Language::English => &self.english,
            Language::Chinese => &self.chinese,
        };
        if paragraphs.len() < 2 {
            return None;
        }
        let sentences = random.pick_ref(paragraphs);
        let mut order: Vec<usize> = (0..sentences.len()).collect();
        random.shuffle(&mut order);
        let mut exchanges = Vec::new();
        for &i in order.iter().take(random.within(1..=questions.max(1))) {
            if random.chance(0.2) {
                let elsewhere = random.pick_ref(paragraphs);
                let words = telling_words(random.pick_ref::<String>(elsewhere), language, random);
                let is_here =
                    |word: &String| sentences.iter().any(|sentence| contains(sentence, word));
                if !words.is_empty() && !words.iter().any(is_here) {
                    exchanges.push(Exchange::refused(language, asked(&words, language, random)));
                }
                continue;
            }
            let mut words = telling_words(&sentences[i], language, random);
            let is_elsewhere = |word: &String| {
                sentences.iter().enumerate().any(|(j, other)| j != i && contains(other, word))
            };
            words.retain(|word| !is_elsewhere(word));
            if !words.is_empty() {
                let question = asked(&words, language, random);
                exchanges.push(Exchange {
                    question,
                    answer: sentences[i].clone(),
                    answerable: true,
                });
            }
        }
        let context = Some(sentences.join(language.space()));
        (!exchanges.is_empty()).then_some(CorpusConversation { language, context, exchanges })
    }
}

pub(super) fn contains(sentence: &str, word: &str) -> bool {
    sentence.to_lowercase().contains(&word.to_lowercase())
}

/// Sentences of a fit length.
fn split_sentences(line: &str, language: Language) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut sentence = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        sentence.push(letter);
        let ends = match language {
            Language::English => {
                ".!?".contains(letter) && letters.peek().is_none_or(|next| *next == ' ')
            }
            Language::Chinese => "。！？".contains(letter),
        };
        if ends {
            sentences.push(std::mem::take(&mut sentence).trim().to_owned());
        }
    }
    let fit = |sentence: &String| match language {
        Language::English => {
            let words = sentence.split_whitespace().count();
            (4..=26).contains(&words) && sentence.starts_with(|c: char| c.is_uppercase())
        }
        Language::Chinese => {
            (8..=48).contains(&sentence.chars().count()) && sentence.starts_with(is_han)
        }
    };
    sentences.retain(fit);
    sentences
}

/// Up to three words of a sentence that are more than grammar; of Chinese, pieces of two to four characters.
pub(super) fn telling_words(
    sentence: &str,
    language: Language,
    random: &mut Random,
) -> Vec<String> {
    match language {
        Language::English => {
            let words: Vec<&str> =
                sentence.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-').collect();
            let mut words: Vec<&str> =
                words.into_iter().filter(|word| word.len() > 3 && !is_grammar(word)).collect();
            words.dedup();
            if words.is_empty() {
                return Vec::new();
            }
            let first = random.below(words.len());
            // Neighbours, or words from anywhere.
            let count = random.within(1..=3);
            let chosen: Vec<&str> = match random.chance(0.5) {
                true => words[first..].iter().take(count).copied().collect(),
                false => (0..count).map(|_| random.pick(&words)).collect(),
            };
            let mut chosen: Vec<String> = chosen.into_iter().map(str::to_owned).collect();
            chosen.dedup();
            chosen
        }
        Language::Chinese => {
            let pieces: Vec<Vec<char>> = sentence
                .split(|c: char| !is_han(c))
                .map(|piece| piece.chars().collect())
                .filter(|p: &Vec<char>| p.len() >= 2)
                .collect();
            if pieces.is_empty() {
                return Vec::new();
            }
            let mut words = Vec::new();
            for _ in 0..random.within(1..=2) {
                let piece = random.pick_ref(&pieces);
                let length = random.within(2..=4).min(piece.len());
                let first = random.below(piece.len() - length + 1);
                words.push(piece[first..first + length].iter().collect());
            }
            words.dedup();
            words
        }
    }
}

/// Three to six words in a row, which say which sentence is meant without any doubt; of Chinese, four to nine characters.
pub(super) fn telling_phrase(
    sentence: &str,
    language: Language,
    random: &mut Random,
) -> Option<String> {
    match language {
        Language::English => {
            let words: Vec<&str> = sentence.trim_end_matches(['.', '!', '?']).split(' ').collect();
            let count = random.within(3..=6);
            // Not from the beginning: what is asked for is to be found within.
            let last = words.len().checked_sub(count + 1)?;
            let first = 1 + random.below(last + 1);
            Some(words[first..first + count].join(" ").trim_end_matches([',', ';', ':']).to_owned())
        }
        Language::Chinese => {
            let letters: Vec<char> =
                sentence.trim_end_matches(['。', '！', '？']).chars().collect();
            let count = random.within(4..=9);
            let last = letters.len().checked_sub(count + 2)?;
            let first = 2 + random.below(last + 1);
            Some(letters[first..first + count].iter().collect())
        }
    }
}

fn is_han(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

fn is_grammar(word: &str) -> bool {
    const WORDS: [&str; 44] = [
        "about", "after", "again", "also", "because", "been", "before", "being", "both", "could",
        "does", "each", "every", "from", "have", "here", "into", "just", "like", "more", "most",
        "must", "only", "other", "over", "same", "should", "some", "such", "than", "that", "their",
        "them", "then", "there", "these", "they", "this", "those", "when", "where", "which",
        "with", "would",
    ];
    WORDS.contains(&word.to_lowercase().as_str())
}

pub(super) fn asked(words: &[String], language: Language, random: &mut Random) -> String {
    match language {
        Language::English => {
            let joined = words.join(if random.chance(0.5) { " " } else { " and " });
            match random.below(8) {
                0 => format!("{joined}?"),
                1 => format!("What about {joined}?"),
                2 => format!("What does it say about {joined}?"),
                3 => format!("Tell me about {joined}."),
                4 => format!("Is there anything on {joined}?"),
                5 => format!("How is it with {joined}?"),
                6 => format!("I have a question about {joined}."),
                _ => joined.to_lowercase(),
            }
        }
        Language::Chinese => {
            let joined = words.join(if random.chance(0.5) { "和" } else { "，" });
            match random.below(7) {
                0 => format!("{joined}？"),
                1 => format!("{joined}呢？"),
                2 => format!("关于{joined}，文中怎么说？"),
                3 => format!("请问{joined}是怎么回事？"),
                4 => format!("有没有提到{joined}？"),
                5 => format!("{joined}怎么办？"),
                _ => joined,
            }
        }
    }
}
