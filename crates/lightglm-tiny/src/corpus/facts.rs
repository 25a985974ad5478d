//! Facts: what a business may have to say, in both languages, with slots for what differs; and their files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::language::Language;
use super::values;

/// What a business of a kind may have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name: that of its file.
    pub name: String,
    /// Its facts.
    pub facts: Vec<Fact>,
}

/// Something that may be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Its name in the domain.
    pub id: String,
    /// In English.
    pub english: Wording,
    /// In Chinese.
    pub chinese: Wording,
}

/// A fact in one language. `{name}` stands for a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wording {
    /// Ways to say it.
    pub statements: Vec<String>,
    /// Ways to ask for it. The last one is held back.
    pub questions: Vec<String>,
    /// What its own slots may be.
    pub(super) slots: BTreeMap<String, SlotValues>,
}

/// What a slot may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SlotValues {
    Between(usize, usize),
    OneOf(Vec<String>),
}

impl Fact {
    /// Its wording in a language.
    pub fn wording(&self, language: Language) -> &Wording {
        match language {
            Language::English => &self.english,
            Language::Chinese => &self.chinese,
        }
    }

    fn wording_mut(&mut self, tag: &str) -> Option<&mut Wording> {
        match tag {
            "en" => Some(&mut self.english),
            "zh" => Some(&mut self.chinese),
            _ => None,
        }
    }
}

/// Why a file of facts cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// It cannot be read at all.
    #[error("{}: {source}", .file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{}:{line}: {reason}", .file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line, counting from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// The domains of all files `*.txt` of a folder, by name.
///
/// # Errors
/// [`FactsError`].
pub fn read_domains(folder: &Path) -> Result<Vec<Domain>, FactsError> {
    let io = |source| FactsError::Io { file: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        files.push(entry.map_err(io)?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files.iter().map(|file| read_domain(file)).collect()
}

/// The domain of a file. Its layout: a line `# Title`, then for each fact `= id`, slots (`n: 2-9`, `en.kind: a|b`),
/// statements (`en> ...`, `zh> ...`) and questions (`en? ...`, `zh? ...`).
///
/// # Errors
/// [`FactsError`], with the line of what is wrong.
pub fn read_domain(file: &Path) -> Result<Domain, FactsError> {
    let text = fs::read_to_string(file)
        .map_err(|source| FactsError::Io { file: file.to_owned(), source })?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut domain = Domain { name, facts: Vec::new() };
    let mut line = 0;
    let wrong = |line, reason| FactsError::Line { file: file.to_owned(), line, reason };
    for content in text.lines() {
        line += 1;
        take_line(content.trim(), &mut domain).map_err(|reason| wrong(line, reason))?;
    }
    check_last(&domain).map_err(|reason| wrong(line, reason))?;
    Ok(domain)
}

fn take_line(line: &str, domain: &mut Domain) -> Result<(), String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    if let Some(id) = line.strip_prefix("= ") {
        check_last(domain)?;
        domain.facts.push(Fact { id: id.to_owned(), ..Fact::default() });
        return Ok(());
    }
    let fact = domain.facts.last_mut().ok_or("before the first fact (`= id`)")?;
    match (line.get(..2), line.get(2..3)) {
        (Some(tag @ ("en" | "zh")), Some(kind @ (">" | "?"))) => {
            let wording = fact.wording_mut(tag).ok_or("no language")?;
            let text = line[3..].trim().to_owned();
            match kind {
                ">" => wording.statements.push(text),
                _ => wording.questions.push(text),
            }
            Ok(())
        }
        _ => take_slot(line, fact),
    }
}

fn take_slot(line: &str, fact: &mut Fact) -> Result<(), String> {
    let (name, values) =
        line.split_once(':').ok_or_else(|| format!("`{line}` is no line of a fact"))?;
    let (tags, name) = match name.split_once('.') {
        Some((tag, name)) => (vec![tag], name),
        None => (vec!["en", "zh"], name),
    };
    let values = values.trim();
    let range = values.split_once('-').and_then(|(from, to)| {
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (from <= to).then_some(SlotValues::Between(from, to))
    });
    let choices = || {
        let choices: Vec<String> = values.split('|').map(|value| value.trim().to_owned()).collect();
        let fine = choices.len() >= 2 && choices.iter().all(|choice| !choice.is_empty());
        fine.then_some(SlotValues::OneOf(choices))
    };
    let values =
        range.or_else(choices).ok_or_else(|| format!("`{values}` is no range and no choice"))?;
    for tag in tags {
        let wording = fact.wording_mut(tag).ok_or_else(|| format!("`{tag}` is no language"))?;
        wording.slots.insert(name.trim().to_owned(), values.clone());
    }
    Ok(())
}

/// The fact that ends here.
fn check_last(domain: &Domain) -> Result<(), String> {
    let Some(fact) = domain.facts.last() else { return Ok(()) };
    for language in Language::ALL {
        let (wording, tag) = (fact.wording(language), language.tag());
        if wording.statements.is_empty() || wording.questions.len() < 2 {
            return Err(format!("`{}` needs a statement and two questions in `{tag}`", fact.id));
        }
        for text in wording.statements.iter().chain(&wording.questions) {
            for slot in slots_of(text) {
                if !wording.slots.contains_key(slot) && !values::is_built_in(slot) {
                    return Err(format!(
                        "`{}`: nothing says what {{{slot}}} is in `{tag}`",
                        fact.id
                    ));
                }
            }
        }
        for slot in wording.questions.iter().flat_map(|question| slots_of(question)) {
            let named = |statement: &String| slots_of(statement).any(|other| other == slot);
            if !wording.statements.iter().all(named) {
                return Err(format!(
                    "`{}`: a question in `{tag}` names {{{slot}}}, a statement does not",
                    fact.id
                ));
            }
        }
    }
    Ok(())
}

/// The names of the slots of a text, in order.
pub(super) fn slots_of(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|piece| piece.split_once('}').map(|(name, _)| name))
}
