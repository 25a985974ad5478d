//! `ModelText`: tokenizer, chat template and the ends of a reply, as one text side.

use serde_json::{Map, Value, json};

use crate::call_turns::Turns;
use crate::chat_template::ChatTemplate;
use crate::chat_text::{ChatText, ChatTextError, NOT_CONTINUED, THOUGHTS_END, Thinking};
use crate::detokenize::Detokenize;
use crate::error::TextError;
use crate::message::Message;
use crate::prompt::RenderedPrompt;
use crate::tokenizer::Tokenizer;

/// What OpenAI's clients, ChatML and most files call what a tool returned.
const TOOL: &str = "tool";
/// What GLM calls it.
const OBSERVATION: &str = "observation";
/// What is said where it does not matter.
const PLACEHOLDER: &str = "x";
/// The tag that opens thoughts.
const THOUGHTS: &str = "<think>";
/// Tokens at the end of a prompt that hold the tag that opens thoughts and white space behind it.
const TAIL: usize = 16;

/// The text side of a checkpoint.
///
/// As a [`ChatText`] it calls what a tool returned as its model does, whichever of `tool` and
/// `observation` a message says: as the template does where it asks for one of them. A template that
/// asks for neither and prints the role as it is (the GLM-4 of 2024 as `<|observation|>`, ChatML as a
/// word) gets `observation` where `<|observation|>` is a token, `tool` elsewhere.
#[derive(Clone, Debug)]
pub struct ModelText {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// A conversation to a prompt.
    pub template: ChatTemplate,
    /// The tokens that end a reply.
    pub eos_token_ids: Vec<u32>,
}

impl ChatText for ModelText {
    fn encode(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        self.tokenizer.encode_text(text).map_err(refused)
    }

    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ChatTextError> {
        // Not by the post-processor, which may put tokens behind a text: the caller's text has to stay
        // ordinary, and to be continued.
        let mut ids = self.tokenizer.front().to_vec();
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    fn encode_conversation(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ChatTextError> {
        let prompt = self.prompt(messages, tools, add_generation_prompt).map_err(refused)?;
        prompt.encode(&self.tokenizer).map_err(refused)
    }

    fn encode_chat_with(
        &self,
        messages: &[Message],
        tools: &[Value],
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>, ChatTextError> {
        let prompt = self.prompt_with(messages, tools, variables, true).map_err(refused)?;
        prompt.encode(&self.tokenizer).map_err(refused)
    }

    fn encode_continued(
        &self,
        messages: &[Message],
        tools: &[Value],
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>, ChatTextError> {
        let prompt = self.prompt_with(messages, tools, variables, false).map_err(refused)?;
        let content = messages.last().and_then(|message| message.content.as_ref()?.as_str());
        let begun = prompt.up_to_last(content.unwrap_or_default());
        let begun =
            begun.ok_or_else(|| ChatTextError::Template { reason: NOT_CONTINUED.to_owned() })?;
        begun.encode(&self.tokenizer).map_err(refused)
    }

    fn reads_variable(&self, name: &str, tools: &[Value]) -> bool {
        self.template.reads_variable(name, tools)
    }

    fn detokenizer(&self) -> Box<dyn Detokenize + Send> {
        Box::new(self.tokenizer.decode_stream(true))
    }

    fn reply_opening(&self, with_tools: bool) -> String {
        let parameters = json!({"type": "object", "properties": {}});
        let function = json!({
            "name": PLACEHOLDER, "description": PLACEHOLDER, "parameters": parameters
        });
        let tool = [json!({"type": "function", "function": function})];
        let tools = if with_tools { &tool[..] } else { &[] };
        let question = Message::user(PLACEHOLDER);
        let answered = [question.clone(), Message::assistant(PLACEHOLDER)];
        let prompt = self.prompt(&[question], tools, true);
        let whole = self.prompt(&answered, tools, false);
        let (Ok(prompt), Ok(whole)) = (prompt, whole) else { return String::new() };
        let answer = whole.content_ranges().last().cloned().unwrap_or_default();
        let opening = match &whole.text()[answer.clone()] {
            PLACEHOLDER => whole.text()[..answer.start].strip_prefix(prompt.text()),
            _ => None,
        };
        // Control tokens in it say nothing in a reply, either.
        let ids = opening.map(|opening| self.tokenizer.encode_with_specials(opening));
        ids.and_then(Result::ok).map_or_else(String::new, |ids| self.tokenizer.decode(&ids, true))
    }

    fn open_reply(&self, mut prompt: Vec<u32>, opening: &str) -> Result<Vec<u32>, ChatTextError> {
        if opening.ends_with(' ') {
            return Ok(prompt);
        }
        let tokenizer = &self.tokenizer;
        let is_behind_token = prompt.last().is_some_and(|last| tokenizer.is_special(*last));
        // The template wrote it: what looks like a token in it is one.
        let mut ids = tokenizer.encode_with_specials(opening).map_err(refused)?;
        if !ids.iter().any(|id| tokenizer.is_special(*id)) {
            ids = match is_behind_token {
                true => tokenizer.encode_behind_token(opening),
                false => tokenizer.encode_continuation(opening),
            }
            .map_err(refused)?;
        }
        prompt.extend(ids);
        Ok(prompt)
    }

    fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        let is_text = !self.tokenizer.is_special(token);
        is_text.then(|| self.tokenizer.token_bytes(token)).flatten()
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    fn thinking(&self, prompt: &[u32]) -> Thinking {
        let tail = prompt.len().saturating_sub(TAIL);
        let tail = self.tokenizer.decode(&prompt[tail..], false);
        match tail.trim_end().ends_with(THOUGHTS) {
            true => Thinking::Opened,
            false => Thinking::MayOpen,
        }
    }

    fn thinks(&self) -> bool {
        self.template.mentions(&THOUGHTS[1..]) || self.tokenizer.token_to_id(THOUGHTS).is_some()
    }

    fn encode_thoughts_end(&self) -> Result<Vec<u32>, ChatTextError> {
        self.tokenizer.encode_with_specials(THOUGHTS_END).map_err(refused)
    }
}

impl ModelText {
    /// A conversation as its template writes it, nothing left out.
    ///
    /// # Errors
    /// [`TextError::NotInPrompt`] for a content that is not blank, or a tool, that left no trace; those of
    /// [`ChatTemplate::render`].
    pub fn prompt(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        self.prompt_with(messages, tools, &Map::new(), add_generation_prompt)
    }

    /// As [`prompt`](Self::prompt), with values for variables of the template's own.
    ///
    /// # Errors
    /// Those of [`prompt`](Self::prompt) and of [`ChatTemplate::render_with`].
    pub fn prompt_with(
        &self,
        messages: &[Message],
        tools: &[Value],
        variables: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        let knows_calls = self.template.asks_for_attribute("tool_calls", tools);
        let mut turns = match knows_calls {
            true => Turns::unchanged(messages),
            false => {
                let knows_metadata = self.template.asks_for_attribute("metadata", tools);
                Turns::with_calls_as_turns(messages, knows_metadata)
            }
        };
        self.use_known_roles(&mut turns.messages, tools);
        let as_texts = turns.messages.clone();
        let has_data = read_arguments(&mut turns.messages);
        let render = |messages: &[Message]| {
            self.template.render_with(messages, tools, variables, add_generation_prompt)
        };
        let mut prompt = render(&turns.messages);
        // DeepSeek-V3's joins them to other texts.
        if has_data && let Err(TextError::Template { .. }) = prompt {
            prompt = render(&as_texts).or(prompt);
        }
        let prompt = prompt?;
        match prompt.missing_fields().first() {
            None => Ok(prompt),
            Some(field) => Err(TextError::NotInPrompt { field: turns.origin_of(field) }),
        }
    }

    /// Puts the messages under the roles that the template knows.
    fn use_known_roles(&self, messages: &mut [Message], tools: &[Value]) {
        let is_tool = |message: &Message| [TOOL, OBSERVATION].contains(&message.role.as_str());
        let asks_for = |role| self.template.asks_for(role, tools);
        let role = match (asks_for(TOOL), asks_for(OBSERVATION)) {
            // It tells the two apart.
            (true, true) => return,
            (true, false) => TOOL,
            (false, true) => OBSERVATION,
            (false, false) => match self.tokenizer.token_to_id("<|observation|>") {
                Some(id) if self.tokenizer.is_special(id) => OBSERVATION,
                _ => TOOL,
            },
        };
        for message in messages.iter_mut().filter(|message| is_tool(message)) {
            role.clone_into(&mut message.role);
        }
    }
}

/// Makes data of the arguments of calls, which are texts in OpenAI's protocol and data to most templates;
/// whether there were any.
fn read_arguments(messages: &mut [Message]) -> bool {
    let mut found = false;
    let calls = messages.iter_mut().filter_map(|message| message.extra.get_mut("tool_calls"));
    for call in calls.filter_map(Value::as_array_mut).flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let read = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(read @ Value::Object(_)) = read {
            *arguments = read;
            found = true;
        }
    }
    found
}

fn refused(error: TextError) -> ChatTextError {
    let reason = match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match error {
        TextError::Encode { .. } => ChatTextError::Encode { reason },
        TextError::NotInPrompt { field } => ChatTextError::NotInPrompt { field },
        TextError::NotAVariable { name, reason } => ChatTextError::NotAVariable { name, reason },
        TextError::NoFittingTemplate { missing, .. } => ChatTextError::NoTemplate { missing },
        _ => ChatTextError::Template { reason },
    }
}
