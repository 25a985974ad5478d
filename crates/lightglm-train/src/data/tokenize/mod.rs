//! `ConversationTokenizer`: rows as token ids, of which the answers are learnt.

mod error;
mod messages;
mod prefix_end;
mod rendering;

use lightglm_text::ChatText;
use rayon::prelude::*;

use crate::trainer::TokenizedExample;

use super::drop_report::{DropReason, DropReport, OnBadRow};
use super::example::{Conversation, Example, Text};
pub use error::TokenizeError;
use rendering::Rendering;

/// Turns rows into token ids, through a model's tokenizer and chat template.
///
/// Of a conversation the answers are learnt that the row marks ([`Turn::learn`](super::Turn::learn)):
/// what the template writes behind the prompt for an answer, up to and with the token that ends it. That
/// is one of the text side's [`eos_token_ids`](ChatText::eos_token_ids): the template writes it behind
/// the answer (`<|im_end|>`), or ends an answer by opening the next turn (GLM's `<|user|>` and
/// `<|observation|>`), and then the last answer gets it here. Where the assistant goes on with another
/// turn, what opens that turn is learnt too: the model says it. A plain text is learnt as a whole,
/// behind what the tokenizer puts in front of every text.
///
/// A row's `tools`, its calls of tools and its reasoning reach the template as they reach it in serving.
/// A template that writes an answer otherwise once more turns follow (most drop its reasoning) makes an
/// example more: the conversation up to that answer, as the model has it before it when it answers.
///
/// A row that the template refuses, or that says what the template does not write, is dropped and told
/// to the report, or ends the work ([`with_on_bad_row`](Self::with_on_bad_row)).
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
    on_bad_row: OnBadRow,
    allow_dropped: bool,
}

impl<'a> ConversationTokenizer<'a> {
    /// A tokenizer of rows for the model whose text side is `text`. Bad rows are dropped, but for files
    /// of which more than half is.
    pub fn new(text: &'a dyn ChatText) -> Self {
        Self { text, on_bad_row: OnBadRow::Drop, allow_dropped: false }
    }

    /// What to do about rows that the template refuses or does not write.
    #[must_use]
    pub fn with_on_bad_row(self, on_bad_row: OnBadRow) -> Self {
        Self { on_bad_row, ..self }
    }

    /// Whether more than half of the rows may be dropped.
    #[must_use]
    pub fn with_dropped_allowed(self, allow_dropped: bool) -> Self {
        Self { allow_dropped, ..self }
    }

    /// The examples as token ids, at most `max_tokens` each: longer conversations are left out and
    /// told to `report`, longer texts are cut. A report that has no rows yet gets these. Rows are taken by
    /// all threads; what comes out is in their order.
    ///
    /// # Errors
    /// [`TokenizeError`]: [`MostDropped`](TokenizeError::MostDropped);
    /// [`NoEndToken`](TokenizeError::NoEndToken); and the first bad row, where they are not dropped.
    pub fn tokenize(
        &self,
        examples: &[Example],
        max_tokens: usize,
        report: &mut DropReport,
    ) -> Result<Vec<TokenizedExample>, TokenizeError> {
        report.rows = if report.rows == 0 { examples.len() } else { report.rows };
        let pieces = |example: &Example| match example {
            Example::Text(text) => Ok((self.text(text, max_tokens)?, Vec::new())),
            Example::Preference(row) => Err(TokenizeError::Preference { line: row.line }),
            Example::Conversation(conversation) => self.pieces(conversation),
        };
        let taken: Vec<_> = examples.par_iter().map(pieces).collect();
        let mut tokenized = Vec::with_capacity(examples.len());
        for (example, pieces) in examples.iter().zip(taken) {
            let line = example.line();
            let unused = pieces.as_ref().map_or(&[][..], |(_, unused)| unused);
            unused.iter().for_each(|field| report.leave_unused(line, field));
            match pieces {
                Ok((pieces, _)) if pieces.iter().any(|piece| piece.tokens.len() > max_tokens) => {
                    report.drop(line, DropReason::TooLong);
                }
                Ok((pieces, _)) => tokenized.extend(pieces),
                Err(error) => match error.reason().filter(|_| self.on_bad_row == OnBadRow::Drop) {
                    Some(reason) => report.drop_for(line, reason, error.what()),
                    None => return Err(error),
                },
            }
        }
        if report.is_mostly_dropped() && !self.allow_dropped {
            return Err(TokenizeError::MostDropped { report: Box::new(report.clone()) });
        }
        Ok(tokenized)
    }

    /// A text and the token that ends it, cut into pieces of at most `max_tokens` tokens. What the
    /// tokenizer puts in front of every text stands in front of the first, and is not learnt.
    ///
    /// # Errors
    /// [`TokenizeError::Text`].
    pub fn text(
        &self,
        text: &Text,
        max_tokens: usize,
    ) -> Result<Vec<TokenizedExample>, TokenizeError> {
        let line = text.line;
        let refused = |source| TokenizeError::Text { line, source };
        let mut tokens = self.text.encode_prompt("").map_err(refused)?;
        let prefix = tokens.len();
        tokens.extend(self.text.encode(&text.text).map_err(refused)?);
        tokens.extend(self.text.eos_token_ids().first());
        let mut learn = vec![true; tokens.len()];
        learn[..prefix].fill(false);
        let length = max_tokens.max(1);
        let pieces = tokens.chunks(length).zip(learn.chunks(length));
        Ok(pieces
            .map(|(piece, learn)| TokenizedExample::new(piece.to_vec(), learn, line))
            .collect())
    }

    /// A whole conversation, however long: one example, and one for each answer that the template writes
    /// otherwise once more turns follow, in the order of the answers.
    ///
    /// # Errors
    /// [`TokenizeError`], all but those of texts.
    pub fn conversation(
        &self,
        conversation: &Conversation,
    ) -> Result<Vec<TokenizedExample>, TokenizeError> {
        Ok(self.pieces(conversation)?.0)
    }

    /// As [`conversation`](Self::conversation), with the fields that have no effect.
    fn pieces(
        &self,
        conversation: &Conversation,
    ) -> Result<(Vec<TokenizedExample>, Vec<String>), TokenizeError> {
        let line = conversation.line;
        let rendering = Rendering::of(self.text, conversation, &conversation.turns)?;
        if rendering.spoken.is_empty() {
            return Err(TokenizeError::NoTurns { line });
        }
        let mut whole = Learnt::of(rendering.whole(false)?);
        let unused = rendering.unused(&whole.tokens);
        let mut pieces = Vec::new();
        for index in 0..rendering.spoken.len() {
            if !rendering.spoken[index].learn {
                continue;
            }
            match whole.learn(&rendering, index, None) {
                Err(TokenizeError::Rewritten { .. }) if index + 1 < rendering.spoken.len() => {
                    let part = rendering.up_to_message(index);
                    let mut piece = Learnt::of(part.whole(false)?);
                    piece.learn(&part, index, rendering.spoken.get(index + 1))?;
                    pieces.push(piece.into_example(line));
                }
                learnt => learnt?,
            }
        }
        if whole.learn.contains(&true) || pieces.is_empty() {
            pieces.push(whole.into_example(line));
        }
        Ok((pieces, unused))
    }

    /// The prompt for a conversation's last answer: what a model is asked when it is tested.
    ///
    /// # Errors
    /// [`TokenizeError::Conversation`], [`TokenizeError::Tools`], [`TokenizeError::ToolCalls`].
    pub fn question(&self, conversation: &Conversation) -> Result<Vec<u32>, TokenizeError> {
        Rendering::of(self.text, conversation, conversation.question())?.whole(true)
    }
}

/// A conversation's tokens, and which of them are learnt.
struct Learnt {
    tokens: Vec<u32>,
    learn: Vec<bool>,
}

impl Learnt {
    fn of(tokens: Vec<u32>) -> Self {
        let learn = vec![false; tokens.len()];
        Self { tokens, learn }
    }

    /// Marks what message `index` says, and the token that ends it: of the last one, in front of `next`.
    fn learn(
        &mut self,
        rendering: &Rendering<'_>,
        index: usize,
        next: Option<&messages::Spoken>,
    ) -> Result<(), TokenizeError> {
        let answer = rendering.answer(&self.tokens, index)?;
        rendering.check_written(index, &self.tokens[answer.start..answer.end])?;
        self.learn[answer.start..answer.end].fill(true);
        if answer.is_ended {
            return Ok(());
        }
        if index + 1 == rendering.spoken.len() {
            let end = rendering.end_of_last_answer(&self.tokens, next)?;
            self.tokens.push(end);
            self.learn.push(true);
        } else if rendering.is_end(&self.tokens, &answer, index)? {
            self.learn[answer.end] = true;
        }
        Ok(())
    }

    fn into_example(self, line: usize) -> TokenizedExample {
        TokenizedExample::new(self.tokens, &self.learn, line)
    }
}
