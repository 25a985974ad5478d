//! `shortened`, `shortened_inside`: what a client sent, for an error that repeats it.

/// Characters of a name or a path.
const LONGEST: usize = 128;

/// Characters that are kept of each end of a sentence.
const ENDS: usize = 200;

/// The beginning of a text.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A sentence that has a client's text somewhere inside: its beginning and its end, which says what was
/// expected.
pub(super) fn shortened_inside(text: String) -> String {
    let head = text.char_indices().nth(ENDS).map_or(text.len(), |(end, _)| end);
    let tail = text.char_indices().nth_back(ENDS - 1).map_or(0, |(start, _)| start);
    if tail <= head {
        return text;
    }
    format!("{} … {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_end_or_their_middle() {
        assert_eq!(shortened("é"), "é");
        assert_eq!(shortened(&"é".repeat(128)), "é".repeat(128));
        assert_eq!(shortened(&"é".repeat(129)), format!("{}…", "é".repeat(128)));
        for kept in [String::new(), "é".repeat(399), "é".repeat(400)] {
            assert_eq!(shortened_inside(kept.clone()), kept);
        }
        let long = format!("a{}b", "é".repeat(399));
        let expected = format!("a{} … {}b", "é".repeat(199), "é".repeat(199));
        assert_eq!(shortened_inside(long), expected);
    }
}
