//! `Rendering`: a conversation as its template writes it, and where in it the answers stand.

use lightglm_text::{ChatText, ChatTextError, Message};
use serde_json::Value;

use super::error::TokenizeError;
use super::messages::{Spoken, altered, spoken};
use super::prefix_end::PrefixEnd;
use crate::data::example::{Conversation, REASONING, Role, Turn};

/// What ends the reasoning that stands in a text.
const END_OF_THOUGHT: &str = "</think>";

/// A conversation as its template sees it.
pub(super) struct Rendering<'a> {
    text: &'a dyn ChatText,
    pub(super) spoken: Vec<Spoken>,
    messages: Vec<Message>,
    tools: &'a [Value],
    line: usize,
}

/// What of a conversation's tokens the assistant says in one message.
pub(super) struct Answer {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether the last of them is one that ends an answer.
    pub(super) is_ended: bool,
    /// The conversation up to and with this message, and whatever of the rest is written in front of
    /// it.
    messages: Vec<Message>,
}

impl<'a> Rendering<'a> {
    pub(super) fn of(
        text: &'a dyn ChatText,
        conversation: &'a Conversation,
        turns: &[Turn],
    ) -> Result<Self, TokenizeError> {
        let line = conversation.line;
        let tools: &[Value] = match conversation.extra.get("tools") {
            None | Some(Value::Null) => &[],
            Some(Value::Array(tools)) => tools,
            Some(_) => return Err(TokenizeError::Tools { line }),
        };
        let spoken = spoken(text, turns, tools, line)?;
        let messages = spoken.iter().map(|said| said.message.clone()).collect();
        Ok(Self { text, spoken, messages, tools, line })
    }

    /// The conversation up to and with message `index`, by itself.
    pub(super) fn up_to_message(&self, index: usize) -> Self {
        let (spoken, messages) = (self.spoken[..=index].to_vec(), self.messages[..=index].to_vec());
        Self { text: self.text, spoken, messages, tools: self.tools, line: self.line }
    }

    fn encode(&self, messages: &[Message], prompt: bool) -> Result<Vec<u32>, ChatTextError> {
        self.text.encode_conversation(messages, self.tools, prompt)
    }

    /// The turn of message `index`, counting from 1.
    pub(super) fn turn(&self, index: usize) -> usize {
        self.spoken.get(index).map_or(0, |said| said.turn + 1)
    }

    fn turns(&self) -> usize {
        self.turn(self.spoken.len().saturating_sub(1))
    }

    /// All messages.
    pub(super) fn whole(&self, prompt: bool) -> Result<Vec<u32>, TokenizeError> {
        self.encode(&self.messages, prompt).map_err(|source| {
            // The shortest beginning from which on all are refused names the turn.
            let refused = |count: &usize| self.encode(&self.messages[..*count], prompt).is_err();
            let count = (1..self.messages.len()).rev().take_while(refused).last();
            let turn = self.turn(count.unwrap_or(self.messages.len()).saturating_sub(1));
            TokenizeError::Conversation { line: self.line, turn, source }
        })
    }

    /// Fields of the row that make no difference to its `tokens`.
    pub(super) fn unused(&self, tokens: &[u32]) -> Vec<String> {
        let mut unused = Vec::new();
        if !self.tools.is_empty()
            && self.text.encode_conversation(&self.messages, &[], false).is_ok_and(|t| t == tokens)
        {
            unused.push("tools".to_owned());
        }
        for name in ["name", "tool_call_id", "metadata", REASONING] {
            // What is learnt of reasoning is for `check_written`.
            let has = |said: &Spoken| {
                said.message.extra.contains_key(name) && !(name == REASONING && said.learn)
            };
            if !self.spoken.iter().any(has) {
                continue;
            }
            let mut messages = self.messages.clone();
            for (message, said) in messages.iter_mut().zip(&self.spoken) {
                if has(said) {
                    message.extra.shift_remove(name);
                }
            }
            if self.encode(&messages, false).is_ok_and(|others| others == tokens) {
                unused.push(format!("messages[].{name}"));
            }
        }
        unused
    }

    /// Whether the template writes what message `index` is to teach, which it `said`.
    pub(super) fn check_written(&self, index: usize, said: &[u32]) -> Result<(), TokenizeError> {
        let bytes: Vec<u8> = said
            .iter()
            .filter_map(|&token| self.text.token_bytes(token))
            .flatten()
            .copied()
            .collect();
        let is_written = |text: &str| {
            let text = text.trim().as_bytes();
            text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
        };
        let message = &self.messages[index];
        // A template may write it in its own way: then taking it away makes a difference.
        let check = |field: &'static str, without: Message| {
            let with = self.up_to(&self.messages[..=index], index, false)?;
            let without = [&self.messages[..index], &[without]].concat();
            match self.encode(&without, false).is_ok_and(|without| without == with) {
                true => {
                    let (line, turn) = (self.line, self.turn(index));
                    Err(TokenizeError::NotWritten { line, turn, field })
                }
                false => Ok(()),
            }
        };
        if let Some(Value::String(reasoning)) = message.extra.get(REASONING)
            && !is_written(reasoning)
        {
            let mut without = message.clone();
            without.extra.shift_remove(REASONING);
            check(REASONING, without)?;
        }
        if let Some(Value::String(content)) = &message.content
            && !is_written(content)
        {
            let with = |content: &str| Message { content: Some(content.into()), ..message.clone() };
            if let Some((_, answer)) = content.rsplit_once(END_OF_THOUGHT) {
                check("the reasoning in its content", with(answer.trim_start()))?;
            }
            let other = altered(message).content;
            check("its content", Message { content: other, ..message.clone() })?;
        }
        Ok(())
    }

    /// Some of the messages, of which `last` is the last.
    fn up_to(
        &self,
        messages: &[Message],
        last: usize,
        prompt: bool,
    ) -> Result<Vec<u32>, TokenizeError> {
        self.encode(messages, prompt).map_err(|source| TokenizeError::Conversation {
            line: self.line,
            turn: self.turn(last),
            source,
        })
    }

    /// Where the answer of message `index` stands in the `tokens` of the whole.
    pub(super) fn answer(&self, tokens: &[u32], index: usize) -> Result<Answer, TokenizeError> {
        let later = self.messages[index + 1..].iter().filter(|message| message.role == "system");
        let later: Vec<Message> = later.cloned().collect();
        let mut range = self.range(tokens, index, &[])?;
        if range.is_none() && !later.is_empty() {
            // GLM-4-0414's template gathers the system's turns in front of all others.
            range = self.range(tokens, index, &later)?;
        }
        let Some((start, end, messages)) = range else {
            let (line, turns) = (self.line, self.turns());
            return Err(TokenizeError::Rewritten { line, turn: self.turn(index), turns });
        };
        // What the template writes behind the end of an answer is not the model's to say.
        let said = tokens.get(start..end).unwrap_or_default();
        let ends = self.text.eos_token_ids();
        let ended = said.iter().position(|token| ends.contains(token));
        Ok(match ended {
            Some(at) => Answer { start, end: start + at + 1, is_ended: true, messages },
            None => Answer { start, end, is_ended: false, messages },
        })
    }

    /// Where what the template adds for message `index` begins and ends, with `later` messages behind;
    /// and those messages.
    fn range(
        &self,
        tokens: &[u32],
        index: usize,
        later: &[Message],
    ) -> Result<Option<(usize, usize, Vec<Message>)>, TokenizeError> {
        let messages = [&self.messages[..=index], later].concat();
        let with = self.up_to(&messages, index, false)?;
        let Some(end) = self.end_in(tokens, &with) else { return Ok(None) };
        let start = self.start(tokens, end.within, index, later)?;
        Ok(start.map(|start| (start, end.within, messages)))
    }

    fn end_in(&self, tokens: &[u32], prefix: &[u32]) -> Option<PrefixEnd> {
        PrefixEnd::find(|token| self.text.token_bytes(token), tokens, prefix)
    }

    /// Where in `tokens` what message `index` says begins, which ends at `end`.
    ///
    /// Behind the prompt for it. Where the template writes an answer otherwise than it prompts for one
    /// (`<think>` that it opens in the prompt alone), behind what both have in common; and where it
    /// writes what stands in front otherwise, too, where another answer would make a difference.
    fn start(
        &self,
        tokens: &[u32],
        end: usize,
        index: usize,
        later: &[Message],
    ) -> Result<Option<usize>, TokenizeError> {
        let before = [&self.messages[..index], later].concat();
        if let Ok(prompt) = self.encode(&before, true) {
            if let Some(start) = self.end_in(tokens, &prompt) {
                return Ok(Some(start.behind));
            }
            let plain = self.encode(&before, false).ok();
            let plain = plain.and_then(|plain| self.end_in(tokens, &plain));
            let common = common_prefix(tokens, &prompt);
            if plain.is_some_and(|plain| (plain.within..end).contains(&common)) {
                return Ok(Some(common));
            }
        }
        let start = self.first_difference(tokens, index, index, later)?;
        // What was said before has to stand in front.
        let is_behind = match index.checked_sub(1) {
            Some(before) => self.first_difference(tokens, before, index, later)? < start,
            None => true,
        };
        Ok((is_behind && start < end).then_some(start))
    }

    /// Where `tokens` would be others if message `changed` of those up to `last` said something else.
    fn first_difference(
        &self,
        tokens: &[u32],
        changed: usize,
        last: usize,
        later: &[Message],
    ) -> Result<usize, TokenizeError> {
        let mut messages = [&self.messages[..=last], later].concat();
        messages[changed] = altered(&messages[changed]);
        Ok(common_prefix(tokens, &self.up_to(&messages, last, false)?))
    }

    /// Whether the token behind the answer of message `index`, where the next one begins, is the
    /// model's to say.
    pub(super) fn is_end(
        &self,
        tokens: &[u32],
        answer: &Answer,
        index: usize,
    ) -> Result<bool, TokenizeError> {
        let Some(&token) = tokens.get(answer.end) else { return Ok(false) };
        if self.text.eos_token_ids().contains(&token) {
            return Ok(true);
        }
        let goes_on = self.spoken.get(index + 1).is_some_and(|next| next.role == Role::Assistant);
        if !goes_on || self.text.token_bytes(token).is_some() {
            return Ok(false);
        }
        let prompt = self.up_to(&answer.messages, index, true)?;
        Ok(prompt.get(answer.end) == Some(&token))
    }

    /// The token that ends the last answer, the conversation's `tokens` being written: what the template
    /// would go on with in front of `next`, or else of what a tool returns to a call and the user says to
    /// an answer; or the model's first end token.
    pub(super) fn end_of_last_answer(
        &self,
        tokens: &[u32],
        next: Option<&Spoken>,
    ) -> Result<u32, TokenizeError> {
        let ends = self.text.eos_token_ids();
        let next = match (next, self.spoken.last()) {
            (Some(next), _) => next.message.clone(),
            (None, Some(last)) if last.calls => Message::tool("x"),
            (None, _) => Message::user("x"),
        };
        let more = [self.messages.as_slice(), &[next]].concat();
        let end = self.encode(&more, false).ok().and_then(|more_tokens| {
            match more_tokens.starts_with(tokens) {
                true => more_tokens.get(tokens.len()).copied(),
                // It writes this answer otherwise, too: what follows begins where no other answer would
                // make a difference.
                false => {
                    let mut other = more.clone();
                    let last = self.messages.len() - 1;
                    other[last] = altered(&other[last]);
                    let other = self.encode(&other, false).ok()?;
                    let same = common_suffix(&more_tokens, &other);
                    let behind = &more_tokens[more_tokens.len() - same..];
                    behind.iter().copied().find(|token| ends.contains(token))
                }
            }
        });
        let end = end.filter(|token| ends.contains(token)).or(ends.first().copied());
        end.ok_or(TokenizeError::NoEndToken { line: self.line, turn: self.turns() })
    }
}

fn common_suffix(a: &[u32], b: &[u32]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
