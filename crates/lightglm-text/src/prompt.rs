//! A rendered prompt and its way to token ids.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::TextError;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::AddedToken;

/// What a chat template wrote, with the parts that the caller's text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedPrompt {
    text: String,
    content: Vec<Range<usize>>,
    missing: Vec<String>,
}

impl RenderedPrompt {
    pub(crate) fn new(text: String, content: Vec<Range<usize>>, missing: Vec<String>) -> Self {
        Self { text, content, missing }
    }

    /// The prompt as one text. To show, not to tokenize: that is what [`encode`](Self::encode) is
    /// for.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges of [`text`](Self::text) that came from messages and tools, in ascending order.
    ///
    /// Names of known roles belong to the template.
    pub fn content_ranges(&self) -> &[Range<usize>] {
        &self.content
    }

    /// What of the conversation left no trace in the prompt, by its path (`messages[3].content`,
    /// `tools[0]`): contents that are not blank, and the names of tools.
    ///
    /// A content of which the template wrote what it left of it is not missing, even where nothing was
    /// left (the thoughts of an earlier turn).
    pub fn missing_fields(&self) -> &[String] {
        &self.missing
    }

    /// The prompt up to the end of the last message's content `content`, so that a reply goes on with it;
    /// `None` where something else is the last that a caller wrote in it.
    pub(crate) fn up_to_last(mut self, content: &str) -> Option<Self> {
        let last = self.content.last()?.clone();
        // A template may cut the content, at its ends or its thoughts.
        let written = self.text[last.clone()].trim_end();
        let content = content.trim_end();
        let is_its_end = content.ends_with(written) || written.ends_with(content);
        if content.is_empty() || written.is_empty() || !is_its_end {
            return None;
        }
        self.text.truncate(last.end);
        Some(self)
    }

    /// The ids of the prompt.
    ///
    /// A reserved token comes out only where the template wrote all of it. Everything between two of
    /// them, scaffolding and contents alike, is encoded as one ordinary text, as the reference
    /// encodes what stands between special tokens.
    ///
    /// # Errors
    /// [`TextError::Encode`].
    pub fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, TextError> {
        let matcher = ScaffoldMatcher::new(tokenizer);
        let mut ids = Vec::new();
        let mut ordinary_start = 0;
        let mut position = 0;
        while position < self.text.len() {
            let Some((token, range)) = matcher.match_at(self, position) else {
                position += self.text[position..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let start = range.start.max(ordinary_start);
            ids.extend(self.encode_ordinary(ordinary_start..start, tokenizer)?);
            ids.push(token.id);
            ordinary_start = range.end;
            position = range.end;
        }
        ids.extend(self.encode_ordinary(ordinary_start..self.text.len(), tokenizer)?);
        Ok(ids)
    }

    fn encode_ordinary(
        &self,
        range: Range<usize>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, TextError> {
        let text = &self.text[range.clone()];
        match range.start {
            0 => tokenizer.encode_text(text),
            _ => tokenizer.encode_behind_token(text),
        }
    }

    /// Whether the template, and nobody else, wrote `range`.
    fn is_scaffold(&self, range: &Range<usize>) -> bool {
        let next = self.content.partition_point(|content| content.end <= range.start);
        self.content.get(next).is_none_or(|content| content.start >= range.end)
    }
}

/// Finds reserved tokens in scaffolding, leftmost first and longest among those.
struct ScaffoldMatcher<'a> {
    by_first_byte: HashMap<u8, Vec<&'a AddedToken>>,
}

impl<'a> ScaffoldMatcher<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        let mut by_first_byte: HashMap<u8, Vec<&AddedToken>> = HashMap::new();
        for token in tokenizer.reserved_tokens() {
            if let Some(first) = token.content.bytes().next() {
                by_first_byte.entry(first).or_default().push(token);
            }
        }
        for tokens in by_first_byte.values_mut() {
            tokens.sort_by_key(|token| std::cmp::Reverse(token.content.len()));
        }
        Self { by_first_byte }
    }

    /// The token at `position` and the range it takes, white space it strips included.
    fn match_at(
        &self,
        prompt: &RenderedPrompt,
        position: usize,
    ) -> Option<(&'a AddedToken, Range<usize>)> {
        let text = &prompt.text;
        let rest = &text[position..];
        let tokens = self.by_first_byte.get(rest.as_bytes().first()?)?;
        let token = tokens.iter().find(|token| {
            let end = position + token.content.len();
            rest.starts_with(&token.content)
                && prompt.is_scaffold(&(position..end))
                && (!token.single_word || stands_alone(text, &(position..end)))
        })?;
        let mut range = position..position + token.content.len();
        if token.lstrip {
            range.start = text[..range.start].trim_end().len();
        }
        if token.rstrip {
            range.end = text.len() - text[range.end..].trim_start().len();
        }
        Some((token, range))
    }
}

fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    !text[..range.start].ends_with(is_word) && !text[range.end..].starts_with(is_word)
}
