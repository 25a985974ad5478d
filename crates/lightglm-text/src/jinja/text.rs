//! Text that knows where each of its characters came from.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::error::TemplateError;

/// Who wrote a character: [`TEMPLATE`], or one string of the caller's.
pub(crate) type SourceId = u32;

/// The template itself, and what the program hands it by name (`bos_token`).
pub(crate) const TEMPLATE: SourceId = 0;

/// The longest text a template may make, in characters.
pub(crate) const MAX_CHARACTERS: usize = 32 << 20;

/// A character and who wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glyph {
    pub(crate) character: char,
    pub(crate) source: SourceId,
}

impl Glyph {
    pub(crate) fn template(character: char) -> Self {
        Self { character, source: TEMPLATE }
    }
}

/// An immutable text. Two are equal where their characters are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    glyphs: Rc<Vec<Glyph>>,
    /// Sources of which the template cut something away on the way to this text: where nothing is left
    /// of a message (`content.split('</think>')[-1]`), the template left it out piece by piece, and
    /// did not overlook it.
    cut: Option<Rc<BTreeSet<SourceId>>>,
}

impl Text {
    pub(crate) fn new(text: &str, source: SourceId) -> Self {
        let glyphs = text.chars().map(|character| Glyph { character, source }).collect();
        Self { glyphs: Rc::new(glyphs), cut: None }
    }

    pub(crate) fn template(text: &str) -> Self {
        Self::new(text, TEMPLATE)
    }

    pub(crate) fn glyphs(&self) -> &[Glyph] {
        &self.glyphs
    }

    /// Length in characters.
    pub(crate) fn len(&self) -> usize {
        self.glyphs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.glyphs.is_empty()
    }

    pub(crate) fn chars(&self) -> impl DoubleEndedIterator<Item = char> + '_ {
        self.glyphs.iter().map(|glyph| glyph.character)
    }

    pub(crate) fn plain(&self) -> String {
        self.chars().collect()
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        self.chars().eq(text.chars())
    }

    /// Sources of which something was cut away, where nothing one can see is left.
    pub(crate) fn cut_away(&self) -> impl Iterator<Item = SourceId> + '_ {
        let is_blank = self.cut.is_some() && self.chars().all(char::is_whitespace);
        self.cut().filter(move |_| is_blank)
    }

    fn cut(&self) -> impl Iterator<Item = SourceId> + '_ {
        self.cut.iter().flat_map(|cut| cut.iter().copied())
    }

    /// What is left of this text after cutting: `pick` chooses characters.
    pub(crate) fn remains(&self) -> Remains<'_> {
        let sources = self.glyphs.iter().map(|glyph| glyph.source);
        let mut cut: BTreeSet<SourceId> = self.cut().collect();
        let mut last = TEMPLATE;
        for source in sources {
            if source != last && source != TEMPLATE {
                cut.insert(source);
            }
            last = source;
        }
        Remains { text: self, cut: (!cut.is_empty()).then(|| Rc::new(cut)) }
    }

    /// The characters `start..end`.
    pub(crate) fn part(&self, start: usize, end: usize) -> Self {
        if start == 0 && end == self.len() { self.clone() } else { self.remains().part(start, end) }
    }

    /// Each character turned into any number of them, which came from where it came from.
    pub(crate) fn map_chars<I: IntoIterator<Item = char>>(
        &self,
        mut map: impl FnMut(char) -> I,
    ) -> Self {
        let glyphs = self.glyphs.iter().flat_map(|glyph| {
            let source = glyph.source;
            map(glyph.character).into_iter().map(move |character| Glyph { character, source })
        });
        Self { glyphs: Rc::new(glyphs.collect()), cut: self.cut.clone() }
    }

    /// Where `needle` begins, left to right and without overlaps, in characters.
    pub(crate) fn occurrences(&self, needle: &str) -> Vec<usize> {
        let plain = self.plain();
        let mut found = Vec::new();
        let (mut byte, mut character) = (0, 0);
        for (at, _) in plain.match_indices(needle) {
            character += plain[byte..at].chars().count();
            byte = at;
            found.push(character);
        }
        found
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.chars().eq(other.chars())
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.chars().cmp(other.chars())
    }
}

/// Cuts many parts out of one text.
pub(crate) struct Remains<'a> {
    text: &'a Text,
    cut: Option<Rc<BTreeSet<SourceId>>>,
}

impl Remains<'_> {
    pub(crate) fn part(&self, start: usize, end: usize) -> Text {
        let glyphs = self.text.glyphs.get(start..end).unwrap_or_default();
        Text { glyphs: Rc::new(glyphs.to_vec()), cut: self.cut.clone() }
    }

    pub(crate) fn of(&self, glyphs: Vec<Glyph>) -> Text {
        Text { glyphs: Rc::new(glyphs), cut: self.cut.clone() }
    }
}

/// Collects a text of at most [`MAX_CHARACTERS`].
#[derive(Debug, Default)]
pub(crate) struct TextBuilder {
    glyphs: Vec<Glyph>,
    exceeded: bool,
}

impl TextBuilder {
    fn has_room(&mut self, characters: usize) -> bool {
        self.exceeded |= self.glyphs.len() + characters > MAX_CHARACTERS;
        !self.exceeded
    }

    pub(crate) fn glyph(&mut self, glyph: Glyph) {
        if self.has_room(1) {
            self.glyphs.push(glyph);
        }
    }

    pub(crate) fn glyphs(&mut self, glyphs: &[Glyph]) {
        if self.has_room(glyphs.len()) {
            self.glyphs.extend_from_slice(glyphs);
        }
    }

    pub(crate) fn text(&mut self, text: &Text) {
        self.glyphs(text.glyphs());
    }

    /// Characters that belong to whoever wrote the character they stand for.
    pub(crate) fn str_from(&mut self, text: &str, source: SourceId) {
        if self.has_room(text.len()) {
            self.glyphs.extend(text.chars().map(|character| Glyph { character, source }));
        }
    }

    pub(crate) fn str(&mut self, text: &str) {
        self.str_from(text, TEMPLATE);
    }

    pub(crate) fn fill(&mut self, glyph: Glyph, count: usize) {
        if self.has_room(count) {
            self.glyphs.extend(std::iter::repeat_n(glyph, count));
        }
    }

    /// # Errors
    /// [`TemplateError::TextTooLong`].
    pub(crate) fn finish(self) -> Result<Text, TemplateError> {
        if self.exceeded {
            return Err(TemplateError::TextTooLong { limit: MAX_CHARACTERS });
        }
        Ok(Text { glyphs: Rc::new(self.glyphs), cut: None })
    }
}
