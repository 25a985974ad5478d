//! `Target`: which layers a group of the configuration means, or the ignore list.

use fancy_regex::Regex;

use crate::formats::FormatError;

/// Longest regular expression that is compiled, in bytes.
const LONGEST_PATTERN: usize = 4096;

/// Layers named one by one (`lm_head`), by their class (`Linear`, `Embedding`), or by a pattern: `re:`
/// and a regular expression of Python's that must match from the name's begin.
#[derive(Clone, Debug)]
pub struct Target(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Name(String),
    Pattern(Regex),
}

impl Target {
    /// The target as the field `field` of a configuration spells it.
    ///
    /// # Errors
    /// [`FormatError::Field`] for a pattern that does not compile.
    pub fn parse(text: &str, field: &str) -> Result<Self, FormatError> {
        let Some(pattern) = text.strip_prefix("re:") else {
            return Ok(Self(Kind::Name(text.to_owned())));
        };
        let regex = match pattern.len() {
            0..=LONGEST_PATTERN => Regex::new(&format!("^(?:{pattern})")).ok(),
            _ => None,
        };
        regex.map(|regex| Self(Kind::Pattern(regex))).ok_or_else(|| FormatError::Field {
            field: field.to_owned(),
            value: format!("{:?}", text.chars().take(80).collect::<String>()),
            expected: "a name, or re: and a regular expression",
        })
    }

    /// How closely the target fits the layer `name`: 0 by name, 1 by pattern, 2 by class; `None`
    /// where it does not. Patterns that take too long do not fit.
    pub fn fit(&self, name: &str) -> Option<u8> {
        match &self.0 {
            Kind::Name(target) if target == name => Some(0),
            Kind::Pattern(regex) if regex.is_match(name).unwrap_or(false) => Some(1),
            Kind::Name(target) if target == class_of(name) => Some(2),
            _ => None,
        }
    }
}

/// The torch class of a layer that has a matrix.
fn class_of(name: &str) -> &'static str {
    match name.ends_with("embed_tokens") {
        true => "Embedding",
        false => "Linear",
    }
}
