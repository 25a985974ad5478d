//! Examples as token ids: conversations through the model's chat template, of which the answers are
//! learnt; and what a model answers to the questions of others.

use anyhow::{Context, Result, anyhow};
use lightglm_core::CausalLm;
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::batched::{BatchOptions, BatchSubject, ReplyControl, generate};
use lightglm_generation::{
    ContiguousKvCache, FinishReason, GenerationRequest, RunControl, SamplingParams,
};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_text::{Message, ModelText};
use lightglm_train::data::{Conversation, DropReason, DropReport, Example, Role, Turn};
use lightglm_train::trainer::TokenizedExample;

/// Questions that are answered at once: a decode step reads every weight once for all of them.
const SEQUENCES: usize = 32;

/// The text side of a model that is taught.
pub struct Classroom(ModelText);

/// What came out of asking a model the questions of a file.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Marks {
    /// Questions asked.
    pub asked: usize,
    /// Answers that are the wanted one, or contain what is expected where the row says so.
    pub right: usize,
    /// `right / asked`.
    pub accuracy: f64,
}

impl Classroom {
    /// The text side of `checkpoint`.
    ///
    /// # Errors
    /// Where the tokenizer or the template is missing or malformed.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Self(checkpoint.text()?))
    }

    /// The examples as token ids, `longest` at most: longer conversations are left out and told to
    /// `report`, longer texts are cut.
    ///
    /// # Errors
    /// Where the tokenizer or the template refuses one, naming its line.
    pub fn tokenize(
        &self,
        examples: &[Example],
        longest: usize,
        report: &mut DropReport,
    ) -> Result<Vec<TokenizedExample>> {
        let mut tokenized = Vec::with_capacity(examples.len());
        for example in examples {
            let line = example.line();
            let context = || format!("line {line}");
            match example {
                Example::Text(text) => {
                    let tokens = self.tokenize_text(&text.text).with_context(context)?;
                    for piece in tokens.chunks(longest.max(1)) {
                        let learn = vec![true; piece.len()];
                        tokenized.push(TokenizedExample::new(piece.to_vec(), &learn, line));
                    }
                }
                Example::Conversation(conversation) => {
                    let one = self.tokenize_conversation(conversation).with_context(context)?;
                    match one.tokens.len() > longest {
                        true => report.drop(line, DropReason::TooLong),
                        false => tokenized.push(one),
                    }
                }
            }
        }
        Ok(tokenized)
    }

    /// The text, and the token that ends it.
    fn tokenize_text(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.0.tokenizer.encode_text(text)?;
        tokens.extend(self.0.eos_token_ids.first());
        Ok(tokens)
    }

    /// The whole conversation, of which the answers are learnt with the token that ends each.
    fn tokenize_conversation(&self, conversation: &Conversation) -> Result<TokenizedExample> {
        let messages: Vec<Message> = conversation.turns.iter().map(message).collect();
        let last = messages.len().checked_sub(1).ok_or_else(|| anyhow!("no turns"))?;
        let mut tokens = self.render(&messages, false)?;
        let mut learn = vec![false; tokens.len()];
        let learnt = conversation.turns.iter().enumerate().filter(|(_, turn)| turn.learn);
        for (i, _) in learnt {
            let start = self.render(&messages[..i], true)?;
            let end = self.render(&messages[..=i], false)?;
            let fits = tokens.starts_with(&end) && end.starts_with(&start);
            anyhow::ensure!(
                fits,
                "the chat template writes turn {} anew behind a later one ({} turns), so the tokens \
                 of its answer cannot be told",
                i + 1,
                last + 1
            );
            // What the template writes behind the end of an answer is not the model's to say.
            let ends = |&at: &usize| self.0.eos_token_ids.contains(&tokens[at]);
            let said = (start.len()..end.len()).find(ends).map_or(end.len(), |at| at + 1);
            learn[start.len()..said].fill(true);
            let ended =
                tokens[start.len()..said].last().is_some_and(|t| self.0.eos_token_ids.contains(t));
            if !ended {
                // GLM's templates end an answer by opening the next turn.
                match tokens.get(said) {
                    Some(_) => learn[said] = true,
                    None if i == last => {
                        tokens.push(self.end_of_answer(&messages, end.len())?);
                        learn.push(true);
                    }
                    None => {}
                }
            }
        }
        Ok(TokenizedExample::new(tokens, &learn, conversation.line))
    }

    /// The token that ends the last answer: what the template would go on with, or the model's first
    /// end token.
    fn end_of_answer(&self, messages: &[Message], len: usize) -> Result<u32> {
        let more: Vec<Message> = messages.iter().cloned().chain([Message::user("x")]).collect();
        let next = self.render(&more, false)?.get(len).copied();
        let next = next.filter(|token| self.0.eos_token_ids.contains(token));
        let end = next.or(self.0.eos_token_ids.first().copied());
        end.ok_or_else(|| anyhow!("the model has no token that ends an answer"))
    }

    fn render(&self, messages: &[Message], prompt: bool) -> Result<Vec<u32>> {
        Ok(self.0.template.render(messages, &[], prompt)?.encode(&self.0.tokenizer)?)
    }

    /// The greedy answers to the conversations' last questions, `longest` tokens at most; `None`
    /// where `control` was told to stop before.
    ///
    /// # Errors
    /// Where a question cannot be encoded or the model refuses it.
    pub fn answers<B: LmBackend>(
        &self,
        model: &dyn CausalLm<B>,
        checkpoint: &Checkpoint,
        conversations: &[&Conversation],
        longest: usize,
        control: &mut RunControl<'_>,
        device: &B::Device,
    ) -> Result<Vec<Option<String>>> {
        let prompts = conversations.iter().map(|conversation| {
            let messages: Vec<Message> = conversation.question().iter().map(message).collect();
            let line = conversation.line;
            self.render(&messages, true).with_context(|| format!("line {line}"))
        });
        let prompts = prompts.collect::<Result<Vec<_>>>()?;
        let shape = KvShape::of(checkpoint.config());
        let mut make_cache = |sequences, positions| {
            Ok(ContiguousKvCache::<B>::new(shape, sequences, positions, KvDtype::F32, device))
        };
        let mut subject = BatchSubject::new(model, &mut make_cache, ContiguousKvCache::truncate);
        let params = SamplingParams { max_tokens: longest, ..SamplingParams::default() };
        let request = |prompt| {
            let eos = self.0.eos_token_ids.clone();
            let detokenizer = self.0.tokenizer.decode_stream(true);
            GenerationRequest::new(prompt, params.clone(), eos, detokenizer)
        };
        let requests = prompts.into_iter().map(request).collect();
        let options = BatchOptions { sequences: SEQUENCES, ..BatchOptions::default() };
        let mut replies = ReplyControl { stop_at_error: true, ..ReplyControl::default() };
        let results = generate(&mut subject, requests, &options, &mut replies, control)?;
        let mut answers = Vec::with_capacity(results.len());
        for (conversation, result) in conversations.iter().zip(results) {
            let reply = result.with_context(|| format!("line {}", conversation.line))?;
            answers.push((reply.finish != FinishReason::Cancelled).then_some(reply.text));
        }
        Ok(answers)
    }

    /// The longest wanted answer in tokens, with some room.
    ///
    /// # Errors
    /// Where an answer cannot be encoded.
    pub fn longest_answer(&self, conversations: &[&Conversation]) -> Result<usize> {
        let mut longest = 0;
        for conversation in conversations {
            longest = longest.max(self.0.tokenizer.encode_text(conversation.answer())?.len());
        }
        Ok(longest + longest / 4 + 2)
    }
}

/// Compares answers with what the rows want.
pub fn mark(conversations: &[&Conversation], answers: &[Option<String>]) -> Marks {
    let mut marks = Marks::default();
    for (conversation, answer) in conversations.iter().zip(answers) {
        let Some(answer) = answer else { continue };
        let same = answer.trim().eq_ignore_ascii_case(conversation.answer().trim());
        marks.asked += 1;
        marks.right += usize::from(conversation.meets_expectations(answer).unwrap_or(same));
    }
    marks.accuracy = marks.right as f64 / marks.asked.max(1) as f64;
    marks
}

fn message(turn: &Turn) -> Message {
    let role = match turn.role {
        Role::Tool => "observation",
        role => role.as_str(),
    };
    Message::new(role, turn.content.as_str())
}
