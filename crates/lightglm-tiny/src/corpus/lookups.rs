//! `LookupConversations`: keys and values. Nothing else teaches to copy as fast.

use super::conversation::{CorpusConversation, Exchange};
use super::language::Language;
use super::random::Random;
use super::values::{self, code, invented, invented_chinese};

/// Makes conversations about lists of keys and values; questions are keys, answers are their lines.
#[derive(Clone, Copy, Debug)]
pub struct LookupConversations {
    /// Keys of a list at most: few to begin with, since what is far away among much else is found last.
    pub keys: usize,
}

impl Default for LookupConversations {
    fn default() -> Self {
        Self { keys: 9 }
    }
}

impl LookupConversations {
    /// The next conversation, of at most `questions` questions.
    pub fn next(
        self,
        language: Language,
        questions: usize,
        random: &mut Random,
    ) -> CorpusConversation {
        let mut keys: Vec<String> = Vec::new();
        let fewest = self.keys.clamp(1, 3).min(2);
        for _ in 0..random.within(fewest..=self.keys.max(fewest)) {
            let key = word(language, random);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let style = random.below(3);
        let lines: Vec<String> =
            keys.iter().map(|key| line(key, style, language, random)).collect();
        let between = if random.chance(0.5) { "\n" } else { language.space() };
        let mut order: Vec<usize> = (0..keys.len()).collect();
        random.shuffle(&mut order);
        let mut exchanges = Vec::new();
        for &i in order.iter().take(random.within(1..=questions.max(1))) {
            if random.chance(0.2) {
                let key = word(language, random);
                if !keys.contains(&key) {
                    exchanges.push(Exchange::refused(language, asked(&key, language, random)));
                }
                continue;
            }
            let question = asked(&keys[i], language, random);
            exchanges.push(Exchange { question, answer: lines[i].clone(), answerable: true });
        }
        if exchanges.is_empty() {
            let question = asked(&keys[0], language, random);
            exchanges.push(Exchange { question, answer: lines[0].clone(), answerable: true });
        }
        CorpusConversation { language, context: Some(lines.join(between)), exchanges }
    }
}

fn word(language: Language, random: &mut Random) -> String {
    match (random.below(4), language) {
        (0, _) => code(random),
        (1, language) => values::value("product", language, random),
        (2, language) => values::value("name", language, random),
        (_, Language::English) => invented(random),
        (_, Language::Chinese) => invented_chinese(random),
    }
}

fn line(key: &str, style: usize, language: Language, random: &mut Random) -> String {
    let kinds =
        ["phone", "price", "date", "time", "street", "email", "code", "city", "name", "percent"];
    let mut value = values::value(random.pick(&kinds), language, random);
    if random.chance(0.3) {
        value = format!("{value}, {}", values::value(random.pick(&kinds), language, random));
    }
    match (style, language) {
        (0, Language::English) => format!("{key}: {value}."),
        (0, Language::Chinese) => format!("{key}：{value}。"),
        (1, Language::English) => format!("{key} is {value}."),
        (1, Language::Chinese) => format!("{key}是{value}。"),
        (_, Language::English) => format!("For {key} it is {value}."),
        (_, Language::Chinese) => format!("关于{key}，请记下{value}。"),
    }
}

fn asked(key: &str, language: Language, random: &mut Random) -> String {
    match language {
        Language::English => match random.below(4) {
            0 => format!("{key}?"),
            1 => format!("What about {key}?"),
            2 => format!("Tell me about {key}."),
            _ => key.to_owned(),
        },
        Language::Chinese => match random.below(4) {
            0 => format!("{key}？"),
            1 => format!("{key}呢？"),
            2 => format!("请告诉我{key}的信息"),
            _ => key.to_owned(),
        },
    }
}
