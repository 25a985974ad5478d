//! Evaluation prompts as token ids: by the model's chat template, or as plain text.

use lightglm_eval::prompting::{Prompt, PromptText, TextFailure};
use lightglm_text::{ChatText, Message, ModelText};

/// How questions become prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptStyle {
    /// Turns of the model's own chat template: the instruction opens the first question.
    #[default]
    Chat,
    /// One text to be continued, for models that were not tuned to chat.
    Plain,
}

/// Prompts for a model.
pub(super) struct Prompts<'a> {
    pub(super) style: PromptStyle,
    pub(super) text: &'a ModelText,
}

impl PromptText for Prompts<'_> {
    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextFailure> {
        let ModelText { tokenizer, template, .. } = self.text;
        match self.style {
            PromptStyle::Chat => {
                Ok(template.render(&turns(prompt), &[], true)?.encode(tokenizer)?)
            }
            PromptStyle::Plain => Ok(self.text.encode_prompt(&prompt.plain())?),
        }
    }

    fn encode_answer(&self, answer: &str) -> Result<Vec<u32>, TextFailure> {
        let tokenizer = &self.text.tokenizer;
        match self.style {
            PromptStyle::Chat => Ok(tokenizer.encode_text(answer)?),
            PromptStyle::Plain => Ok(tokenizer.encode_continuation(&format!(" {answer}"))?),
        }
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.text.tokenizer.decode(ids, true)
    }
}

fn turns(prompt: &Prompt) -> Vec<Message> {
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
    messages
}
