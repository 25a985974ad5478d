//! `word_tokenize`: what NLTK's word tokenizer makes of a line of text.
//!
//! Source: NLTK 3.10 (`NLTKWordTokenizer`), after Robert MacIntyre's Penn Treebank tokenizer of
//! 1995. It is a sequence of substitutions that put spaces where tokens part; their order is part
//! of the definition. Tests compare with what NLTK gave.

use std::sync::LazyLock;

use regex::Regex;

use crate::python_text::{is_space, is_word};

/// A pattern and what it is replaced by.
type Rule = (Regex, &'static str);

fn rules(rules: &[(&str, &'static str)]) -> Vec<Rule> {
    let rule = |&(pattern, replacement): &(&str, &'static str)| {
        (Regex::new(pattern).expect("a constant pattern"), replacement)
    };
    rules.iter().map(rule).collect()
}

/// Before the opening apostrophes are looked for.
static OPENING_QUOTES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        ("([«“‘„]|`+)", " $1 "),
        ("^\"", "``"),
        ("(``)", " $1 "),
        (r#"([ (\[{<])("|'{2})"#, "$1 `` "),
    ])
});

static PUNCTUATION: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        (r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "$1 $2 $3 "),
        (r"([:,])(\D)", " $1 $2"),
        ("([:,])(\n?)$", " $1 $2"),
        (r"(\.{2,})", " $1 "),
        ("([;@#$%&])", " $1 "),
        ("([\u{2012}-\u{2015}])", " $1 "),
        (r#"([^.])(\.)([\])}>"']*)\s*$"#, "$1 $2$3 "),
        ("([?!])", " $1 "),
        ("([^'])' ", "$1 ' "),
        (r"(\*)", " $1 "),
        (r"([\]\[(){}<>])", " $1 "),
        ("(--)", " $1 "),
    ])
});

/// With a space on either side of the text.
static CLOSING_QUOTES_AND_CONTRACTIONS: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        ("([»”’])", " $1 "),
        ("''", " '' "),
        ("\"", " '' "),
        (r"[\s\x1c-\x1f]+", " "),
        ("([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
        ("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
        (r"(?i)\b(can)(not)\b", " $1 $2 "),
        (r"(?i)\b(d)('ye)\b", " $1 $2 "),
        (r"(?i)\b(gim)(me)\b", " $1 $2 "),
        (r"(?i)\b(gon)(na)\b", " $1 $2 "),
        (r"(?i)\b(got)(ta)\b", " $1 $2 "),
        (r"(?i)\b(lem)(me)\b", " $1 $2 "),
        (r"(?i)\b(more)('n)\b", " $1 $2 "),
        // The original looks ahead for the space; here it is taken and given back.
        (r"(?i)\b(wan)(na)(\s)", " $1 $2 $3"),
        (r"(?i) ('t)(is)\b", " $1 $2 "),
        (r"(?i) ('t)(was)\b", " $1 $2 "),
    ])
});

/// Splits `text`, taken as one sentence, into words and punctuation.
///
/// Only a point at the very end is a token of its own. NLTK's function of this name looks for the
/// ends of sentences first, with a trained model; this is what it does with `preserve_line=True`.
pub fn word_tokenize(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let text = apply(&OPENING_QUOTES, text.to_owned());
    let text = apply(&PUNCTUATION, part_opening_apostrophes(&text));
    let text = apply(&CLOSING_QUOTES_AND_CONTRACTIONS, format!(" {text} "));
    text.split(is_space).filter(|token| !token.is_empty()).map(String::from).collect()
}

fn apply(rules: &[Rule], text: String) -> String {
    rules.iter().fold(text, |text, (pattern, replacement)| {
        pattern.replace_all(&text, *replacement).into_owned()
    })
}

/// Puts a space behind each apostrophe that opens a word, unless the word is the second half of a
/// contraction (`'ll`).
fn part_opening_apostrophes(text: &str) -> String {
    const ENDINGS: [&str; 8] = ["re", "ve", "ll", "m", "t", "s", "d", "n"];
    let mut parted = String::with_capacity(text.len());
    let mut before = None;
    for (at, c) in text.char_indices() {
        parted.push(c);
        let rest = &text[at + c.len_utf8()..];
        if c == '\'' && !before.is_some_and(is_word) && rest.starts_with(is_word) {
            let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
            if !ENDINGS.iter().any(|ending| word.eq_ignore_ascii_case(ending)) {
                parted.push(' ');
            }
        }
        before = Some(c);
    }
    parted
}
