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
    /// How many of a hundred lists have sentences in which the key stands behind something else: to answer, the model
    /// must go back to where the sentence begins.
    pub inside: usize,
    /// How many of a hundred questions are for a key that is not there.
    pub unanswerable: usize,
}

impl Default for LookupConversations {
    fn default() -> Self {
        Self { keys: 9, inside: 30, unanswerable: 20 }
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
        let inside = random.below(100) < self.inside;
        let style = random.below(3);
        let mut lines: Vec<String> = Vec::new();
        for key in &keys {
            lines.push(match inside {
                true => key_inside(key, language, random),
                false => line(key, style, language, random),
            });
        }
        let between = if random.chance(0.5) { "\n" } else { language.space() };
        let mut order: Vec<usize> = (0..keys.len()).collect();
        random.shuffle(&mut order);
        let mut exchanges = Vec::new();
        for &i in order.iter().take(random.within(1..=questions.max(1))) {
            if random.below(100) < self.unanswerable {
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

/// A sentence that begins with something else than its key.
fn key_inside(key: &str, language: Language, random: &mut Random) -> String {
    let mut value = |kind| values::value(kind, language, random);
    let (name, city, price, date) = (value("name"), value("city"), value("price"), value("date"));
    let (phone, day, street, email) =
        (value("phone"), value("day"), value("street"), value("email"));
    let (time, company) = (value("time"), value("company"));
    match (random.below(10), language) {
        (0, Language::English) => format!("{name} bought {key} on {date}."),
        (0, Language::Chinese) => format!("{name}在{date}买了{key}。"),
        (1, Language::English) => format!("{city} has {key} for {price}."),
        (1, Language::Chinese) => format!("{city}的{key}卖{price}。"),
        (2, Language::English) => format!("{phone} is the number for {key}, from {time}."),
        (2, Language::Chinese) => format!("{phone}是咨询{key}的电话，{time}起有人接听。"),
        (3, Language::English) => format!("{day} is when {name} looks after {key}."),
        (3, Language::Chinese) => format!("{day}由{name}负责{key}。"),
        (4, Language::English) => format!("{email} answers what concerns {key}."),
        (4, Language::Chinese) => format!("{email}负责{key}的事。"),
        (5, Language::English) => format!("{company} sells {key} at {price}."),
        (5, Language::Chinese) => format!("{company}出售{key}，{price}。"),
        (6, Language::English) => format!("{price} is what {key} costs in {city}."),
        (6, Language::Chinese) => format!("{price}可以在{city}买到{key}。"),
        (7, Language::English) => format!("{street} is where we keep {key}."),
        (7, Language::Chinese) => format!("{street}存放着{key}。"),
        (8, Language::English) => format!("{date} was the day on which {key} came to {company}."),
        (8, Language::Chinese) => format!("{date}那天{key}到了{company}。"),
        (_, Language::English) => format!("{time} is too late for {key}, says {name}."),
        (_, Language::Chinese) => format!("{time}以后不再办理{key}，{name}说。"),
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
