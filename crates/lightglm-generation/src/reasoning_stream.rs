//! Thoughts and answers, told apart while a reply arrives.

use lightglm_text::Thinking;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A part of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyPart {
    /// What the model thinks, without the tags around it.
    Reasoning(String),
    /// What it says.
    Content(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far: thoughts may begin.
    Start,
    /// Behind the tag that opens thoughts, in white space.
    Opened,
    /// In the thoughts.
    Inside,
    /// Behind the tag that ends them, in white space.
    Closed,
    /// In what is said.
    Outside,
}

/// Splits a reply into thoughts and what is said; how the text is cut into pieces makes no difference.
///
/// Thoughts are `<think>...</think>` at the beginning of a reply, or everything up to `</think>` where
/// the prompt has opened them already (GLM-Z1's does). White space around thoughts belongs to neither.
#[derive(Clone, Debug)]
pub struct ReasoningStream {
    state: State,
    /// What may yet be part of a tag, or white space at an end.
    held: String,
}

impl ReasoningStream {
    /// A stream for a reply of a model that thinks like this.
    pub fn new(thinking: Thinking) -> Self {
        let state = match thinking {
            Thinking::Never => State::Outside,
            Thinking::MayOpen => State::Start,
            Thinking::Opened => State::Opened,
        };
        Self { state, held: String::new() }
    }

    /// Whether the next token is a part of thoughts, as far as one can tell.
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::Opened | State::Inside)
    }

    /// Whether the last characters may be the beginning of the tag that ends thoughts.
    pub(crate) fn may_be_ending(&self) -> bool {
        self.state == State::Inside && begun_tag(&self.held) > 0
    }

    /// Takes more of the reply; what is sure is added to `parts`.
    pub fn push(&mut self, text: &str, parts: &mut Vec<ReplyPart>) {
        self.held.push_str(text);
        loop {
            let before = (self.state, self.held.len());
            self.step(parts);
            if before == (self.state, self.held.len()) {
                return;
            }
        }
    }

    /// What was held back, now that nothing follows.
    pub fn finish(&mut self, parts: &mut Vec<ReplyPart>) {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Inside => add(parts, ReplyPart::Reasoning(held.trim_end().to_owned())),
            State::Opened | State::Closed => {}
            State::Start | State::Outside => add(parts, ReplyPart::Content(held)),
        }
    }

    fn step(&mut self, parts: &mut Vec<ReplyPart>) {
        match self.state {
            State::Start => {
                let rest = self.held.trim_start();
                if let Some(thoughts) = rest.strip_prefix(OPEN) {
                    self.held = thoughts.to_owned();
                    self.state = State::Opened;
                } else if !OPEN.starts_with(rest) {
                    self.state = State::Outside;
                }
            }
            State::Opened | State::Closed => {
                let rest = self.held.trim_start();
                if !rest.is_empty() {
                    self.held = rest.to_owned();
                    let is_closed = self.state == State::Closed;
                    self.state = if is_closed { State::Outside } else { State::Inside };
                }
            }
            State::Inside => match self.held.find(CLOSE) {
                Some(at) => {
                    let thoughts = self.held[..at].trim_end().to_owned();
                    add(parts, ReplyPart::Reasoning(thoughts));
                    self.held.drain(..at + CLOSE.len());
                    self.state = State::Closed;
                }
                None => {
                    let sure = sure_of_thoughts(&self.held);
                    add(parts, ReplyPart::Reasoning(self.held.drain(..sure).collect()));
                }
            },
            State::Outside => add(parts, ReplyPart::Content(std::mem::take(&mut self.held))),
        }
    }
}

fn add(parts: &mut Vec<ReplyPart>, part: ReplyPart) {
    let (ReplyPart::Reasoning(text) | ReplyPart::Content(text)) = &part;
    if !text.is_empty() {
        parts.push(part);
    }
}

/// Bytes in front of what may yet be the closing tag, and of the white space before it.
fn sure_of_thoughts(text: &str) -> usize {
    text[..text.len() - begun_tag(text)].trim_end().len()
}

/// Bytes at the end that may be the beginning of the closing tag.
fn begun_tag(text: &str) -> usize {
    let begun = (1..CLOSE.len()).rev().find(|&length| text.ends_with(&CLOSE[..length]));
    begun.unwrap_or(0)
}
