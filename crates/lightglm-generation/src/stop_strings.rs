//! `StopStrings`: finding stop strings in streamed text.

/// What a piece of text brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopMatch {
    /// Text that can be printed now.
    pub text: String,
    /// Index of the stop string that was completed; nothing may be pushed after it.
    pub stopped: Option<usize>,
}

/// Looks for stop strings in text that comes in pieces, and holds back what may become one.
///
/// The stop string that is **completed first** wins, the longest of those that end at the same byte;
/// the text before it is kept, it and everything after it is dropped. So the result does not depend
/// on how the text was cut into tokens.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    pending: String,
}

impl StopStrings {
    /// A matcher for `stops`; empty strings never match.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), pending: String::new() }
    }

    /// Takes the next piece of text; without stop strings it is what comes back.
    pub fn push(&mut self, piece: impl Into<String>) -> StopMatch {
        let piece = piece.into();
        if self.stops.iter().all(String::is_empty) {
            return StopMatch { text: piece, stopped: None };
        }
        match self.pending.is_empty() {
            true => self.pending = piece,
            false => self.pending.push_str(&piece),
        }
        if let Some((start, index)) = self.first_completed() {
            let mut text = std::mem::take(&mut self.pending);
            text.truncate(start);
            return StopMatch { text, stopped: Some(index) };
        }
        let held = self.pending.split_off(self.pending.len() - self.longest_partial());
        let text = std::mem::replace(&mut self.pending, held);
        StopMatch { text, stopped: None }
    }

    /// The text still held back, now that nothing follows.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }

    /// Where the winning stop string starts, and its index.
    fn first_completed(&self) -> Option<(usize, usize)> {
        let stops = self.stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        // A string's first occurrence is also its first to end.
        let found = stops.filter_map(|(index, stop)| {
            self.pending.find(stop.as_str()).map(|start| (start + stop.len(), start, index))
        });
        found.min().map(|(_, start, index)| (start, index))
    }

    /// Length in bytes of the longest end of the text that is the beginning of a stop string.
    fn longest_partial(&self) -> usize {
        let partial = |stop: &String| {
            let longest = self.pending.len().min(stop.len().saturating_sub(1));
            let ends_with =
                |&len: &usize| stop.is_char_boundary(len) && self.pending.ends_with(&stop[..len]);
            (1..=longest).rev().find(ends_with).unwrap_or(0)
        };
        self.stops.iter().map(partial).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut matcher = StopStrings::new(&stops);
        let mut text = String::new();
        for piece in pieces {
            let step = matcher.push(*piece);
            text += &step.text;
            if step.stopped.is_some() {
                return (text, step.stopped);
            }
        }
        (text + &matcher.finish(), None)
    }

    #[test]
    fn spans_pieces_and_releases_false_starts() {
        assert_eq!(stream(&["</s>"], &["a<", "/", "s", ">b"]), ("a".into(), Some(0)));
        assert_eq!(stream(&["</s>"], &["a<", "/", "b", "<"]), ("a</b<".into(), None));
        assert_eq!(stream(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some(0)));
    }

    #[test]
    fn prefixes_and_overlaps() {
        // "ab" is completed before "abc" can be.
        assert_eq!(stream(&["abc", "ab"], &["xabc"]), ("x".into(), Some(1)));
        assert_eq!(stream(&["abcd", "bc"], &["abcd"]), ("a".into(), Some(1)));
        // Both end at the same byte: the longer one.
        assert_eq!(stream(&["c", "abc"], &["ab", "c"]), ("".into(), Some(1)));
        assert_eq!(stream(&["abc", "bx"], &["ab", "x"]), ("a".into(), Some(1)));
    }

    #[test]
    fn multi_byte_characters_are_never_cut() {
        assert_eq!(stream(&["停止"], &["好停", "好停", "止"]), ("好停好".into(), Some(0)));
        // é and è share their first byte.
        assert_eq!(stream(&["è!"], &["é", "è", "é"]), ("éèé".into(), None));
        assert_eq!(stream(&[""], &["a", ""]), ("a".into(), None));
    }

    #[test]
    fn nothing_is_held_without_need() {
        let mut matcher = StopStrings::new(&["\n\nUser".into()]);
        assert_eq!(matcher.push("one\ntwo").text, "one\ntwo");
        assert_eq!(matcher.push("\n").text, "");
        assert_eq!(matcher.push("x").text, "\nx");
    }

    proptest! {
        #[test]
        fn the_cut_into_pieces_does_not_matter(
            text in "[abé]{0,24}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cuts in prop::collection::vec(0usize..24, 0..8),
        ) {
            let whole_stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let by_char: Vec<String> = text.chars().map(String::from).collect();
            let by_char: Vec<&str> = by_char.iter().map(String::as_str).collect();
            let mut bounds: Vec<usize> =
                cuts.into_iter().filter(|&cut| text.is_char_boundary(cut)).collect();
            bounds.extend([0, text.len()]);
            bounds.sort_unstable();
            let pieces: Vec<&str> = bounds.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let expected = stream(&whole_stops, &by_char);
            prop_assert_eq!(stream(&whole_stops, &[&text]), expected.clone());
            prop_assert_eq!(stream(&whole_stops, &pieces), expected);
        }
    }
}
