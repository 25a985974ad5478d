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

/// What a model that was made for it is asked about a recording.
///
/// Source: transformers 5.23.0, `processing_glmasr.py`.
pub const TRANSCRIPTION_PROMPT: &str = "Please transcribe this audio into text";

/// A subtitle: from when to when in seconds, and what is said. `mark` stands before the thousandths: `,` in SRT, `.` in WebVTT.
pub fn subtitle(start: f64, end: f64, text: &str, mark: char) -> String {
    format!("{} --> {}\n{text}\n", time(start, mark), time(end, mark))
}

/// `00:01:02,500`.
fn time(seconds: f64, mark: char) -> String {
    let all = (seconds.max(0.0) * 1000.0).round() as u64;
    let (hours, minutes, seconds) = (all / 3_600_000, all / 60_000 % 60, all / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{mark}{:03}", all % 1000)
}

#[cfg(test)]
mod tests {
    use super::{join_pieces, subtitle};

    #[test]
    fn times_of_subtitles() {
        let expected = "00:00:00,000 --> 01:02:03,457\nhi\n";
        assert_eq!(subtitle(-1.0, 3723.4567, "hi", ','), expected);
        assert_eq!(subtitle(0.0, 59.9996, "", '.'), "00:00:00.000 --> 00:01:00.000\n\n");
    }

    #[test]
    fn chinese_has_no_spaces() {
        assert_eq!(join_pieces(["hello there", "", " friend. "]), "hello there friend.");
        assert_eq!(join_pieces(["你好，", "世界", "and more"]), "你好，世界and more");
        assert_eq!(join_pieces([]), "");
    }
}
