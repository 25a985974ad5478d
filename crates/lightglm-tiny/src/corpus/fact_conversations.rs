//! `FactConversations`: contexts of facts, and questions for them.

use std::collections::BTreeMap;

use super::conversation::{CorpusConversation, Exchange};
use super::facts::{Domain, Fact, SlotValues, slots_of};
use super::greetings;
use super::language::Language;
use super::passages::{asked as asked_by, contains, telling_phrase, telling_words};
use super::questions::{as_written, sentence};
use super::random::Random;
use super::values;

/// The domains of which nothing is learnt.
pub const HELD_BACK_DOMAINS: [&str; 6] =
    ["airline", "coffee-machine", "gym", "insurance", "library", "loyalty"];

/// Which facts and which questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is learnt: neither held-back domains nor held-back questions.
    Training,
    /// The held-back question of each fact, in the domains that are learnt.
    HeldBackQuestions,
    /// The domains that are held back, with all their questions.
    HeldBackDomains,
}

/// What conversations about facts are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FactSettings {
    /// Facts of a context at most; one that is told of several things counts once.
    pub facts: usize,
    /// Questions at most; half as many at least, as far as there are facts.
    pub questions: usize,
    /// How many of a hundred questions the context does not answer.
    pub unanswerable: usize,
    /// How many of a hundred contexts have their facts from all domains: those are easier told apart than the facts
    /// of one.
    pub mixed: usize,
    /// How many of a hundred questions are words of the sentence that answers, which no other has: to find by the letter
    /// comes before to find by the meaning.
    pub words: usize,
    /// How many of these are a phrase, several words in a row.
    pub phrases: usize,
}

impl Default for FactSettings {
    fn default() -> Self {
        Self { facts: 8, questions: 6, unanswerable: 25, mixed: 0, words: 0, phrases: 0 }
    }
}

/// Makes conversations about facts.
#[derive(Clone, Debug)]
pub struct FactConversations<'a> {
    domains: Vec<&'a Domain>,
    part: Part,
    settings: FactSettings,
}

/// A fact as a context says it.
struct Said<'a> {
    fact: &'a Fact,
    values: BTreeMap<String, String>,
    statement: String,
    /// Whether its sentence tells another fact, too, and is written once.
    joined: bool,
}

impl<'a> FactConversations<'a> {
    /// Of these domains, what belongs to `part`; `None` where nothing does.
    pub fn new(domains: &'a [Domain], part: Part) -> Option<Self> {
        let held = part == Part::HeldBackDomains;
        let is_held = |domain: &&Domain| HELD_BACK_DOMAINS.contains(&domain.name.as_str()) == held;
        let domains: Vec<_> =
            domains.iter().filter(is_held).filter(|domain| domain.facts.len() > 1).collect();
        let settings = FactSettings::default();
        (!domains.is_empty()).then_some(Self { domains, part, settings })
    }

    /// The same, of conversations as `settings` say.
    #[must_use]
    pub fn with_settings(self, settings: FactSettings) -> Self {
        Self { settings, ..self }
    }

    /// The next conversation.
    pub fn next(&self, language: Language, random: &mut Random) -> CorpusConversation {
        let settings = self.settings;
        let mut facts: Vec<&Fact> = random.pick(&self.domains).facts.iter().collect();
        if random.below(100) < settings.mixed {
            facts.clear();
            for _ in 0..2 * settings.facts.max(1) {
                let domain = random.pick(&self.domains);
                facts.push(random.pick_ref(&domain.facts));
            }
        } else if random.chance(0.15) {
            facts.extend(random.pick(&self.domains).facts.iter());
        }
        random.shuffle(&mut facts);
        // One domain may have been picked twice.
        let mut seen = Vec::new();
        facts.retain(|fact| {
            let new = !seen.contains(&std::ptr::from_ref(*fact));
            seen.push(std::ptr::from_ref(*fact));
            new
        });
        let told = random.within(2..=settings.facts.max(2)).min(facts.len() - 1).max(1);
        let (told, untold) = facts.split_at(told);
        let mut said: Vec<Said<'a>> = Vec::new();
        for fact in told {
            for values in different_values(fact, language, random) {
                said.push(Said::new(fact, language, values, random));
            }
        }
        said.truncate(10);
        join_some(&mut said, language, random);
        let context = self.context(&said, language, random);
        let mut order: Vec<usize> = (0..said.len()).collect();
        random.shuffle(&mut order);
        let mut exchanges = Vec::new();
        let mut next = order.iter();
        let most = settings.questions.max(1);
        for _ in 0..random.within(most.div_ceil(2)..=most) {
            let exchange = if random.below(100) < settings.unanswerable && !untold.is_empty() {
                self.unanswerable(&said, untold, language, random)
            } else {
                next.next().map(|&i| self.answerable(i, &said, language, random))
            };
            exchanges.extend(exchange);
        }
        if exchanges.is_empty() {
            exchanges.push(self.answerable(order[0], &said, language, random));
        }
        CorpusConversation { language, context: Some(context), exchanges }
    }

    /// A conversation without a context: greetings, and questions that cannot be answered without one.
    pub fn without_context(&self, language: Language, random: &mut Random) -> CorpusConversation {
        greetings::next(self, language, random)
    }

    /// A question of any fact.
    pub(super) fn any_question(&self, language: Language, random: &mut Random) -> String {
        let domain = random.pick(&self.domains);
        let fact = random.pick_ref(&domain.facts);
        let values = fill_values(fact, language, random);
        self.question(fact, &values, language, random)
    }

    /// A question for the fact of this number.
    fn answerable(
        &self,
        i: usize,
        all: &[Said<'_>],
        language: Language,
        random: &mut Random,
    ) -> Exchange {
        let said = &all[i];
        let others = all.iter().filter(|other| other.statement != said.statement);
        let by_words = self.by_words(&said.statement, others, language, random);
        let question =
            by_words.unwrap_or_else(|| self.question(said.fact, &said.values, language, random));
        Exchange { question, answer: said.statement.clone(), answerable: true }
    }

    /// At times: words of a sentence that none of the others has.
    fn by_words<'s>(
        &self,
        sentence: &str,
        others: impl Iterator<Item = &'s Said<'s>>,
        language: Language,
        random: &mut Random,
    ) -> Option<String> {
        if random.below(100) >= self.settings.words {
            return None;
        }
        let phrase = match random.below(100) < self.settings.phrases {
            true => telling_phrase(sentence, language, random),
            false => None,
        };
        let mut words =
            phrase.map_or_else(|| telling_words(sentence, language, random), |phrase| vec![phrase]);
        for other in others {
            words.retain(|word| !contains(&other.statement, word));
        }
        (!words.is_empty()).then(|| asked_by(&words, language, random))
    }

    /// What the context does not tell: another fact, or one that it tells of something else.
    fn unanswerable(
        &self,
        said: &[Said<'_>],
        untold: &[&Fact],
        language: Language,
        random: &mut Random,
    ) -> Option<Exchange> {
        let fact = random.pick(untold);
        let (mut fact, mut values) = (fact, fill_values(fact, language, random));
        if random.chance(0.35) {
            let told = random.pick_ref(said).fact;
            let asked = asked_slots(told, language);
            let other = fill_values(told, language, random);
            let differs = |said: &&Said<'_>| {
                std::ptr::eq(said.fact, told)
                    && asked.iter().all(|slot| said.values.get(slot) == other.get(slot))
            };
            if !asked.is_empty() && !said.iter().any(|said| differs(&said)) {
                (fact, values) = (told, other);
            }
        }
        let untold = Said::new(fact, language, values, random);
        let by_words = self.by_words(&untold.statement, said.iter(), language, random);
        let question =
            by_words.unwrap_or_else(|| self.question(fact, &untold.values, language, random));
        Some(Exchange::refused(language, question))
    }

    fn question(
        &self,
        fact: &Fact,
        values: &BTreeMap<String, String>,
        language: Language,
        random: &mut Random,
    ) -> String {
        let questions = &fact.wording(language).questions;
        let last = questions.len() - 1;
        let question = match self.part {
            Part::Training => random.pick_ref(&questions[..last]),
            Part::HeldBackQuestions => &questions[last],
            Part::HeldBackDomains => random.pick_ref(questions),
        };
        as_written(&sentence(&fill(question, values)), language, random)
    }

    /// The facts one after the other, as people write them down.
    fn context(&self, said: &[Said<'_>], language: Language, random: &mut Random) -> String {
        let mut order: Vec<&Said<'_>> = said.iter().collect();
        random.shuffle(&mut order);
        let mut written: Vec<&str> = Vec::new();
        order.retain(|said| {
            let new = !written.contains(&said.statement.as_str());
            written.push(&said.statement);
            new
        });
        let opening = random.chance(0.3).then(|| opening(language, random));
        let layout = random.below(10);
        let mut lines: Vec<String> = Vec::new();
        for (i, said) in order.iter().enumerate() {
            let statement = &said.statement;
            lines.push(match (layout, language) {
                (6, _) => format!("- {statement}"),
                (7, _) => format!("{}. {statement}", i + 1),
                (8, Language::English) => format!(
                    "Q: {}\nA: {statement}",
                    self.question(said.fact, &said.values, language, random)
                ),
                (8, Language::Chinese) => format!(
                    "问：{}\n答：{statement}",
                    self.question(said.fact, &said.values, language, random)
                ),
                _ => statement.clone(),
            });
        }
        let between = if layout < 6 { language.space() } else { "\n" };
        let lines = lines.join(between);
        match opening {
            Some(opening) => format!("{opening}{between}{lines}"),
            None => lines,
        }
    }
}

/// Makes one sentence of two, here and there; both facts are told by it.
fn join_some(said: &mut [Said<'_>], language: Language, random: &mut Random) {
    for i in 1..said.len() {
        let (before, after) = said.split_at_mut(i);
        let (first, second) = (&mut before[i - 1], &mut after[0]);
        let is_joined = first.joined || !random.chance(0.12);
        let end = language.full_stop();
        let one = |text: &str| text.matches(end).count() == 1 && text.ends_with(end);
        if is_joined || !one(&first.statement) || !one(&second.statement) {
            continue;
        }
        let head = first.statement.trim_end_matches(end);
        let between = match language {
            Language::English => [", and ", "; ", ", while "],
            Language::Chinese => ["，", "；", "，另外"],
        };
        let tail = match language {
            Language::English => uncapitalized(&second.statement),
            Language::Chinese => second.statement.clone(),
        };
        let joined = format!("{head}{}{tail}", random.pick(&between));
        first.statement = joined.clone();
        second.statement = joined;
        (first.joined, second.joined) = (true, true);
    }
}

/// With a small first letter, where the first word is one of those that are not names.
fn uncapitalized(sentence: &str) -> String {
    const SMALL: [&str; 18] = [
        "The", "A", "An", "You", "We", "Your", "Our", "If", "For", "On", "In", "It", "Each", "All",
        "To", "There", "With", "At",
    ];
    let first = sentence.split(' ').next().unwrap_or_default();
    match SMALL.contains(&first) {
        true => first.to_lowercase() + &sentence[first.len()..],
        false => sentence.to_owned(),
    }
}

impl<'a> Said<'a> {
    fn new(
        fact: &'a Fact,
        language: Language,
        values: BTreeMap<String, String>,
        random: &mut Random,
    ) -> Self {
        let statement = random.pick_ref(&fact.wording(language).statements);
        let statement = sentence(&fill(statement, &values));
        Self { fact, values, statement, joined: false }
    }
}

fn opening(language: Language, random: &mut Random) -> String {
    let company = values::value("company", language, random);
    match language {
        Language::English => match random.below(6) {
            0 => format!("Welcome to {company}."),
            1 => format!("Here is what you should know about {company}."),
            2 => format!("{company} has been in business since {}.", random.within(1900..=2024)),
            3 => "Frequently asked questions.".to_owned(),
            4 => format!("Thank you for choosing {company}."),
            _ => format!("{company} is based in {}.", values::value("city", language, random)),
        },
        Language::Chinese => match random.below(6) {
            0 => format!("欢迎光临{company}。"),
            1 => format!("以下是{company}的服务说明。"),
            2 => format!("{company}成立于{}年。", random.within(1900..=2024)),
            3 => "常见问题。".to_owned(),
            4 => format!("感谢您选择{company}。"),
            _ => format!("{company}位于{}。", values::value("city", language, random)),
        },
    }
}

/// The slots that the questions of a fact name.
fn asked_slots(fact: &Fact, language: Language) -> Vec<String> {
    let mut slots: Vec<String> = fact
        .wording(language)
        .questions
        .iter()
        .flat_map(|question| slots_of(question))
        .map(str::to_owned)
        .collect();
    slots.sort();
    slots.dedup();
    slots
}

/// The values of a fact, once; or, where its questions say of what they ask, of several things.
fn different_values(
    fact: &Fact,
    language: Language,
    random: &mut Random,
) -> Vec<BTreeMap<String, String>> {
    let asked = asked_slots(fact, language);
    let times = if !asked.is_empty() && random.chance(0.5) { random.within(2..=4) } else { 1 };
    let mut all: Vec<BTreeMap<String, String>> = Vec::new();
    for _ in 0..times {
        let values = fill_values(fact, language, random);
        let same = |other: &BTreeMap<String, String>| {
            asked.iter().all(|slot| other.get(slot) == values.get(slot))
        };
        if all.is_empty() || !all.iter().any(same) {
            all.push(values);
        }
    }
    all
}

fn fill_values(fact: &Fact, language: Language, random: &mut Random) -> BTreeMap<String, String> {
    let wording = fact.wording(language);
    let mut filled = BTreeMap::new();
    for slot in wording.statements.iter().chain(&wording.questions).flat_map(|text| slots_of(text))
    {
        if !filled.contains_key(slot) {
            let value = match wording.slots.get(slot) {
                Some(SlotValues::Between(from, to)) => random.within(*from..=*to).to_string(),
                Some(SlotValues::OneOf(values)) => random.pick_ref(values).clone(),
                None => values::value(slot, language, random),
            };
            filled.insert(slot.to_owned(), value);
        }
    }
    filled
}

fn fill(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        match after.split_once('}') {
            Some((slot, after)) => {
                filled.push_str(values.get(slot).map_or("", String::as_str));
                rest = after;
            }
            None => rest = after,
        }
    }
    filled.push_str(rest);
    filled
}
