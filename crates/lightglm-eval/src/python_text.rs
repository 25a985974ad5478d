//! What Python's `str` methods and regular expressions mean by lower case, space and word.
//!
//! The official scorers are Python programs; where Rust's definitions are others, theirs count.

/// `str.lower()`.
pub(crate) fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// What `str.split()` and `str.strip()` take for white space: Unicode's and four control codes.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `\w`: letters, numbers of any kind and the underscore, but no combining marks.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `string.punctuation`.
pub(crate) fn is_ascii_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
}
