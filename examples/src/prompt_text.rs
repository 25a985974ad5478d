//! Evaluation prompts as token ids: by the model's chat template, or as plain text.

use lightglm_eval::prompting::{Prompt, PromptText, TextFailure};
use lightglm_text::{ChatTemplate, Message, Tokenizer};

/// `--prompt-style`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PromptStyle {
    /// Turns of the model's own chat template: the instruction opens the first question.
    #[default]
    Chat,
    /// One text to be continued, for models that were not tuned to chat.
    Plain,
}

/// Prompts as turns of a conversation.
pub struct ChatText<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The model's template.
    pub template: &'a ChatTemplate,
}

/// Prompts as one text.
pub struct PlainText<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
}

impl PromptText for ChatText<'_> {
    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextFailure> {
        let mut instruction = prompt.instruction.as_str();
        // The instruction stands in the first question: not every template has a system turn.
        let mut user = |question: &str| match std::mem::take(&mut instruction) {
            "" => Message::user(question),
            instruction => Message::user(format!("{instruction}\n\n{question}")),
        };
        let mut messages = Vec::new();
        for shot in &prompt.shots {
            messages.push(user(&shot.question));
            messages.push(Message::assistant(shot.answer.as_str()));
        }
        messages.push(user(&prompt.question));
        Ok(self.template.render(&messages, &[], true)?.encode(self.tokenizer)?)
    }

    fn encode_answer(&self, answer: &str) -> Result<Vec<u32>, TextFailure> {
        Ok(self.tokenizer.encode_text(answer)?)
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true)
    }
}

impl PromptText for PlainText<'_> {
    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextFailure> {
        Ok(self.tokenizer.encode_text(&prompt.plain())?)
    }

    fn encode_answer(&self, answer: &str) -> Result<Vec<u32>, TextFailure> {
        Ok(self.tokenizer.encode_text(&format!(" {answer}"))?)
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true)
    }
}
