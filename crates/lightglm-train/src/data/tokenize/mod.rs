//! `ConversationTokenizer`: rows as token ids, of which the answers are learnt.

mod error;
mod prefix_end;

use lightglm_text::{ChatText, ChatTextError, Message};
use serde_json::Value;

use crate::trainer::TokenizedExample;

use super::drop_report::{DropReason, DropReport};
use super::example::{Conversation, Example, Role, Text, Turn};
pub use error::TokenizeError;
use prefix_end::PrefixEnd;

/// Turns rows into token ids, through a model's tokenizer and chat template.
///
/// Of a conversation the answers are learnt that the row marks ([`Turn::learn`]): what the template
/// writes behind the prompt for an answer, up to and with the token that ends it. That is one of the
/// text side's [`eos_token_ids`](ChatText::eos_token_ids): the template writes it behind the answer
/// (`<|im_end|>`), or ends an answer by opening the next turn (GLM's `<|user|>` and
/// `<|observation|>`), and then the last answer gets it here. Where the assistant goes on with another
/// turn, what opens that turn is learnt too: the model says it. A plain text is learnt as a whole.
///
/// A row's `tools` reach the template as they reach it in serving.
///
/// ```no_run
/// use lightglm_text::ModelText;
/// use lightglm_train::data::{ConversationTokenizer, ReadOptions, TokenizeError, read_examples};
///
/// # fn text() -> ModelText { unimplemented!() }
/// let text: ModelText = text();
/// let mut rows = read_examples("faq.jsonl", &ReadOptions::default())?;
/// let tokenizer = ConversationTokenizer::new(&text);
/// let examples = tokenizer.tokenize(&rows.examples, 1024, &mut rows.report)?;
/// println!("{} examples\n{}", examples.len(), rows.report);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct ConversationTokenizer<'a> {
    text: &'a dyn ChatText,
}

impl<'a> ConversationTokenizer<'a> {
    /// A tokenizer of rows for the model whose text side is `text`.
    pub fn new(text: &'a dyn ChatText) -> Self {
        Self { text }
    }

    /// The examples as token ids, at most `max_tokens` each: longer conversations are left out and
    /// told to `report`, longer texts are cut.
    ///
    /// # Errors
    /// [`TokenizeError`], at the first row that the text side refuses.
    pub fn tokenize(
        &self,
        examples: &[Example],
        max_tokens: usize,
        report: &mut DropReport,
    ) -> Result<Vec<TokenizedExample>, TokenizeError> {
        let mut tokenized = Vec::with_capacity(examples.len());
        for example in examples {
            match example {
                Example::Text(text) => tokenized.extend(self.text(text, max_tokens)?),
                Example::Preference(preference) => {
                    report.drop(preference.line, DropReason::Preference);
                }
                Example::Conversation(conversation) => {
                    let whole = self.conversation(conversation)?;
                    match whole.tokens.len() > max_tokens {
                        true => report.drop(conversation.line, DropReason::TooLong),
                        false => tokenized.push(whole),
                    }
                }
            }
        }
        Ok(tokenized)
    }

    /// A text and the token that ends it, cut into pieces of at most `max_tokens` tokens.
    ///
    /// # Errors
    /// [`TokenizeError::Text`].
    pub fn text(
        &self,
        text: &Text,
        max_tokens: usize,
    ) -> Result<Vec<TokenizedExample>, TokenizeError> {
        let line = text.line;
        let tokens = self.text.encode(&text.text);
        let mut tokens = tokens.map_err(|source| TokenizeError::Text { line, source })?;
        tokens.extend(self.text.eos_token_ids().first());
        let pieces = tokens.chunks(max_tokens.max(1));
        let piece = |piece: &[u32]| {
            TokenizedExample::new(piece.to_vec(), &vec![true; piece.len()], text.line)
        };
        Ok(pieces.map(piece).collect())
    }

    /// A whole conversation, however long.
    ///
    /// # Errors
    /// All but [`TokenizeError::Text`].
    pub fn conversation(
        &self,
        conversation: &Conversation,
    ) -> Result<TokenizedExample, TokenizeError> {
        let rendering = Rendering::of(self.text, conversation, &conversation.turns)?;
        if rendering.messages.is_empty() {
            return Err(TokenizeError::NoTurns { line: conversation.line });
        }
        let mut tokens = rendering.whole(false)?;
        let mut learn = vec![false; tokens.len()];
        for (index, turn) in conversation.turns.iter().enumerate() {
            if turn.role != Role::Assistant || !turn.learn {
                continue;
            }
            let answer = rendering.answer(&tokens, index)?;
            learn[answer.start..answer.end].fill(true);
            let follows = conversation.turns.get(index + 1);
            match (answer.is_ended, follows) {
                (true, _) => {}
                (false, Some(next)) => {
                    if rendering.is_end(&tokens, &answer, index, next)? {
                        learn[answer.end] = true;
                    }
                }
                (false, None) => {
                    tokens.push(rendering.end_of_last_answer(answer.end)?);
                    learn.push(true);
                }
            }
        }
        Ok(TokenizedExample::new(tokens, &learn, conversation.line))
    }

    /// The prompt for a conversation's last answer: what a model is asked when it is tested.
    ///
    /// # Errors
    /// [`TokenizeError::Conversation`], [`TokenizeError::Tools`].
    pub fn question(&self, conversation: &Conversation) -> Result<Vec<u32>, TokenizeError> {
        Rendering::of(self.text, conversation, conversation.question())?.whole(true)
    }
}

/// A conversation as its template sees it.
struct Rendering<'a> {
    text: &'a dyn ChatText,
    messages: Vec<Message>,
    tools: &'a [Value],
    line: usize,
}

/// What of a conversation's tokens the assistant says in one turn.
struct Answer {
    start: usize,
    end: usize,
    /// Whether the last of them is one that ends an answer.
    is_ended: bool,
    /// The conversation up to and with this turn, and whatever of the rest is written in front of it.
    messages: Vec<Message>,
}

impl<'a> Rendering<'a> {
    fn of(
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
        let message = |turn: &Turn| Message::new(turn.role.as_str(), turn.content.as_str());
        Ok(Self { text, messages: turns.iter().map(message).collect(), tools, line })
    }

    fn encode(&self, messages: &[Message], prompt: bool) -> Result<Vec<u32>, ChatTextError> {
        self.text.encode_conversation(messages, self.tools, prompt)
    }

    /// All messages.
    fn whole(&self, prompt: bool) -> Result<Vec<u32>, TokenizeError> {
        self.encode(&self.messages, prompt).map_err(|source| {
            // The shortest beginning from which on all are refused names the turn.
            let refused = |count: &usize| self.encode(&self.messages[..*count], prompt).is_err();
            let turns = (1..self.messages.len()).rev().take_while(refused).last();
            let turn = turns.unwrap_or(self.messages.len());
            TokenizeError::Conversation { line: self.line, turn, source }
        })
    }

    /// The first messages, up to and with `last`.
    fn up_to(
        &self,
        messages: &[Message],
        last: usize,
        prompt: bool,
    ) -> Result<Vec<u32>, TokenizeError> {
        self.encode(messages, prompt).map_err(|source| TokenizeError::Conversation {
            line: self.line,
            turn: last + 1,
            source,
        })
    }

    /// Where the answer of turn `index` stands in the `tokens` of the whole.
    fn answer(&self, tokens: &[u32], index: usize) -> Result<Answer, TokenizeError> {
        let later = self.messages[index + 1..].iter().filter(|message| message.role == "system");
        let later: Vec<Message> = later.cloned().collect();
        let mut range = self.range(tokens, index, &[])?;
        if range.is_none() && !later.is_empty() {
            // GLM-4-0414's template gathers the system's turns in front of all others.
            range = self.range(tokens, index, &later)?;
        }
        let Some((start, end, messages)) = range else {
            let (line, turns) = (self.line, self.messages.len());
            return Err(TokenizeError::Rewritten { line, turn: index + 1, turns });
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

    /// Where what the template adds for turn `index` begins and ends, with `later` messages behind; and
    /// those messages.
    fn range(
        &self,
        tokens: &[u32],
        index: usize,
        later: &[Message],
    ) -> Result<Option<(usize, usize, Vec<Message>)>, TokenizeError> {
        let before = [&self.messages[..index], later].concat();
        let messages = [&self.messages[..=index], later].concat();
        let before = self.up_to(&before, index, true)?;
        let with = self.up_to(&messages, index, false)?;
        let token_bytes = |token| self.text.token_bytes(token);
        let start = PrefixEnd::find(token_bytes, tokens, &before);
        let end = PrefixEnd::find(token_bytes, tokens, &with);
        Ok(start.zip(end).map(|(start, end)| (start.behind, end.within, messages)))
    }

    /// Whether the token behind the answer of turn `index`, where `next` begins, is the model's to
    /// say.
    fn is_end(
        &self,
        tokens: &[u32],
        answer: &Answer,
        index: usize,
        next: &Turn,
    ) -> Result<bool, TokenizeError> {
        let Some(&token) = tokens.get(answer.end) else { return Ok(false) };
        if self.text.eos_token_ids().contains(&token) {
            return Ok(true);
        }
        if next.role != Role::Assistant || self.text.token_bytes(token).is_some() {
            return Ok(false);
        }
        let prompt = self.up_to(&answer.messages, index, true)?;
        Ok(prompt.get(answer.end) == Some(&token))
    }

    /// The token that ends the last answer, the conversation's `len` tokens being written: what the
    /// template would go on with if the user spoke again, or the model's first end token.
    fn end_of_last_answer(&self, len: usize) -> Result<u32, TokenizeError> {
        let ends = self.text.eos_token_ids();
        let more = [self.messages.as_slice(), &[Message::user("x")]].concat();
        let next = self.encode(&more, false).ok().and_then(|tokens| tokens.get(len).copied());
        let next = next.filter(|token| ends.contains(token)).or(ends.first().copied());
        let (line, turn) = (self.line, self.messages.len());
        next.ok_or(TokenizeError::NoEndToken { line, turn })
    }
}
