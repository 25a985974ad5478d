//! Texts that were written apart, as one.

/// Texts with a space between them, but for scripts that have none; blank ones leave nothing.
pub fn join_pieces<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = String::new();
    for text in texts {
        let text = text.trim();
        if needs_space(&all, text) {
            all.push(' ');
        }
        all.push_str(text);
    }
    all
}

/// Whether there is a space between `before` and `text`: not at an end, and not beside a Chinese, Japanese or full-width
/// character.
pub fn needs_space(before: &str, text: &str) -> bool {
    let is_wide = |c: char| ('\u{2e80}'..='\u{9fff}').contains(&c) || c >= '\u{ff00}';
    let is_open = |c: Option<char>| c.is_some_and(|c| !is_wide(c) && !c.is_whitespace());
    is_open(before.chars().next_back()) && is_open(text.chars().next())
}

#[cfg(test)]
mod tests {
    use super::join_pieces;

    #[test]
    fn chinese_has_no_spaces() {
        assert_eq!(join_pieces(["hello there", "", " friend. "]), "hello there friend.");
        assert_eq!(join_pieces(["你好，", "世界", "and more"]), "你好，世界and more");
        assert_eq!(join_pieces([]), "");
    }
}
