//! Tells the caller's characters from the template's in a rendered prompt.
//!
//! Before rendering, every character of the caller's strings is replaced by a character of
//! Unicode's private use planes that occurs nowhere in the input, one for one. What comes out of
//! the template in those characters came from the caller; everything else is scaffolding. One
//! character stays one character and white space stays itself, so trimming, slicing, joining and
//! lengths do what they would have done. The result is checked against a rendering of the plain
//! strings (see `chat_template`); where a template looks at the characters themselves, a weaker
//! [`Coverage`] is tried.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::message::Message;
use serde_json::{Map, Value};

use crate::error::TextError;

/// Deepest nesting of messages and tools.
pub(crate) const MAX_DEPTH: usize = 64;

/// Roles whose name a template may build control tokens from (`<|{{ role }}|>`). Any other role is
/// text of the caller's.
const KNOWN_ROLES: [&str; 8] =
    ["system", "user", "assistant", "observation", "tool", "function", "developer", "ipython"];

/// Characters an escape sequence may need beyond those of the text itself.
const ESCAPE_CHARACTERS: &str = "\\\"'/0123456789abcdefrntux";

/// How much of the caller's strings is replaced, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Every character but white space.
    Everything,
    /// As `Everything`, but values the template compares with (`tool.type == 'function'`) stay.
    AllButLiterals,
    /// Neither letters, digits nor white space are replaced: for templates that lowercase or
    /// search. Every control token has a character that is covered, or is not trusted.
    Punctuation,
}

impl Coverage {
    pub(crate) const ALL: [Self; 3] = [Self::Everything, Self::AllButLiterals, Self::Punctuation];

    /// Whether `character`, had it come from the caller, would have been replaced.
    pub(crate) fn covers(self, character: char) -> bool {
        match self {
            Self::Everything | Self::AllButLiterals => !character.is_whitespace(),
            Self::Punctuation => !character.is_whitespace() && !character.is_alphanumeric(),
        }
    }
}

/// The replacement of one rendering: a bijection between characters and stand-ins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disguise {
    stand_ins: HashMap<char, char>,
    originals: HashMap<char, char>,
}

impl Disguise {
    /// A stand-in for every character of `inputs` that `coverage` covers, none of which occurs in
    /// `inputs` or `trusted`.
    pub(crate) fn new<'a>(
        coverage: Coverage,
        inputs: impl Iterator<Item = &'a str>,
        trusted: impl Iterator<Item = &'a str>,
    ) -> Result<Self, TextError> {
        let mut characters: Vec<char> = Vec::new();
        let mut used: HashSet<char> = HashSet::new();
        for character in ESCAPE_CHARACTERS.chars().chain(inputs.flat_map(str::chars)) {
            if used.insert(character) {
                characters.push(character);
            }
        }
        used.extend(trusted.flat_map(str::chars));
        let mut free = ('\u{100000}'..='\u{10FFFD}')
            .chain('\u{F0000}'..='\u{FFFFD}')
            .filter(|candidate| !used.contains(candidate));
        let mut disguise = Self::default();
        for &character in characters.iter().filter(|character| coverage.covers(**character)) {
            let stand_in =
                free.next().ok_or(TextError::TooManyCharacters { distinct: characters.len() })?;
            disguise.stand_ins.insert(character, stand_in);
            disguise.originals.insert(stand_in, character);
        }
        Ok(disguise)
    }

    pub(crate) fn hide(&self, text: &str) -> String {
        text.chars().map(|character| self.hide_char(character)).collect()
    }

    pub(crate) fn hide_char(&self, character: char) -> char {
        self.stand_ins.get(&character).copied().unwrap_or(character)
    }

    /// The caller's character behind a stand-in; `None` for any other character.
    pub(crate) fn original(&self, character: char) -> Option<char> {
        self.originals.get(&character).copied()
    }

    /// The text behind a rendering, and the byte ranges in it that the caller wrote.
    pub(crate) fn reveal(&self, rendered: &str) -> (String, Vec<Range<usize>>) {
        let mut text = String::with_capacity(rendered.len());
        let mut content: Vec<Range<usize>> = Vec::new();
        for character in rendered.chars() {
            let start = text.len();
            let Some(original) = self.original(character) else {
                text.push(character);
                continue;
            };
            text.push(original);
            match content.last_mut() {
                Some(last) if last.end == start => last.end = text.len(),
                _ => content.push(start..text.len()),
            }
        }
        (text, content)
    }
}

/// What a template's source says about the strings it handles.
#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateWords {
    words: HashSet<String>,
    literals: HashSet<String>,
}

impl TemplateWords {
    pub(crate) fn of(source: &str) -> Self {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let words = source.split(|c| !is_word(c)).filter(|word| !word.is_empty());
        let mut literals = HashSet::new();
        for quote in ['\'', '"'] {
            // Every stretch between two quotes: also what lies between two literals, which does no
            // harm, and never less than the literals.
            literals.extend(source.split(quote).map(str::to_owned));
        }
        Self { words: words.map(str::to_owned).collect(), literals }
    }

    /// Whether `text` stands in quotation marks.
    pub(crate) fn has_literal(&self, text: &str) -> bool {
        self.literals.contains(text)
    }
}

/// Replaces the caller's strings in messages and tools.
pub(crate) struct Disguiser<'a> {
    pub(crate) disguise: &'a Disguise,
    pub(crate) words: &'a TemplateWords,
    pub(crate) coverage: Coverage,
}

impl Disguiser<'_> {
    pub(crate) fn message(&self, message: &Message) -> Message {
        let role = if KNOWN_ROLES.contains(&message.role.as_str()) {
            message.role.clone()
        } else {
            self.text("role", &message.role)
        };
        Message {
            role,
            content: message.content.as_ref().map(|content| self.value("content", content)),
            extra: self.map(&message.extra),
        }
    }

    /// A value found under `key`. Recursion is bounded by [`visit_strings`], which saw it first.
    pub(crate) fn value(&self, key: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(key, text)),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.value(key, item)).collect())
            }
            Value::Object(map) => Value::Object(self.map(map)),
            other => other.clone(),
        }
    }

    fn map(&self, map: &Map<String, Value>) -> Map<String, Value> {
        map.iter()
            .map(|(key, value)| {
                // A key the template asks for by name has to keep it.
                let kept = self.words.words.contains(key);
                let hidden = if kept { key.clone() } else { self.disguise.hide(key) };
                (hidden, self.value(key, value))
            })
            .collect()
    }

    fn text(&self, key: &str, text: &str) -> String {
        let may_be_compared = self.coverage != Coverage::Everything
            && key != "content"
            && key != "text"
            && self.words.literals.contains(text);
        if may_be_compared { text.to_owned() } else { self.disguise.hide(text) }
    }
}

/// Calls `visit` with every string and key in `value`.
///
/// # Errors
/// [`TextError::NestedTooDeeply`].
pub(crate) fn visit_strings<'a>(
    value: &'a Value,
    depth: usize,
    visit: &mut impl FnMut(&'a str),
) -> Result<(), TextError> {
    if depth >= MAX_DEPTH {
        return Err(TextError::NestedTooDeeply { limit: MAX_DEPTH });
    }
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => {
            for item in items {
                visit_strings(item, depth + 1, visit)?;
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                visit(key);
                visit_strings(value, depth + 1, visit)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}
