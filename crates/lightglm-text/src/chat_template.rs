//! Messages to prompts, through the model's own Jinja template.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::error::TextError;
use crate::fold_tools;
use crate::gguf_vocabulary::GgufVocabulary;
use crate::jinja::{Located, Rendered, TEMPLATE, Template, TemplateError, VARIABLES};
use crate::message::Message;
use crate::prompt::RenderedPrompt;
use crate::template_inputs::{self, Fields, ToolsPlace};
use crate::template_source::{self, TemplateFiles};
use crate::tokenizer::Tokenizer;

/// The template of GLM-4-9B-0414 and its siblings.
const GLM4_0414: &str = include_str!("glm4_0414.jinja");

/// The control tokens that it writes.
const GLM4_0414_TOKENS: [&str; 6] =
    ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

const DEFAULT: &str = "default";
/// Chosen over the default where tools are given, as transformers does.
const TOOL_USE: &str = "tool_use";

/// A model's chat template: one Jinja source, or several by name.
///
/// ```
/// use lightglm_text::{ChatTemplate, Message};
///
/// let template = ChatTemplate::glm4_0414();
/// let prompt = template.render(&[Message::user("Hi")], &[], true)?;
/// assert_eq!(prompt.text(), "[gMASK]<sop><|user|>\nHi<|assistant|>");
/// # Ok::<(), lightglm_text::TextError>(())
/// ```
///
/// Running time, recursion, output and the length of every text of a template are bounded. A template
/// is a program of whoever published the model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    templates: BTreeMap<String, Template>,
    special_tokens: BTreeMap<String, String>,
    time: Option<SystemTime>,
    folds_tools: bool,
    /// Where there is no template: why.
    absent: Option<Absent>,
}

/// What has no chat template, and what its vocabulary lacks for the built-in one.
#[derive(Clone, Debug)]
struct Absent {
    origin: String,
    missing: Vec<String>,
}

impl ChatTemplate {
    /// Takes a template's source.
    ///
    /// # Errors
    /// [`TextError::Template`] where the source is no Jinja, [`TextError::UnsupportedTemplate`] where it
    /// uses a construct that is not run here.
    pub fn from_source(source: impl Into<String>) -> Result<Self, TextError> {
        Self::from_sources([(DEFAULT.to_owned(), source.into())].into(), BTreeMap::new())
    }

    /// Reads the template of a model directory, and its special tokens: `chat_template.jinja` and
    /// `additional_chat_templates/*.jinja` where there are any, else the `chat_template` field of
    /// `tokenizer_config.json` (one source, or a list of names and sources).
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`], [`TextError::Read`], [`TextError::Malformed`],
    /// [`TextError::Template`], [`TextError::UnsupportedTemplate`].
    pub fn from_dir(directory: impl AsRef<std::path::Path>) -> Result<Self, TextError> {
        let TemplateFiles { sources, special_tokens } =
            template_source::read_directory(directory.as_ref())?;
        Self::from_sources(sources, special_tokens)
    }

    /// Takes the template of a GGUF file, and the texts of its BOS, EOS and padding tokens.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`], [`TextError::Template`], [`TextError::UnsupportedTemplate`].
    pub fn from_gguf(vocabulary: &GgufVocabulary) -> Result<Self, TextError> {
        let Some(source) = &vocabulary.chat_template else {
            return Err(TextError::NoChatTemplate { origin: "tokenizer.chat_template".to_owned() });
        };
        let special_tokens = vocabulary.special_tokens().collect();
        Self::from_sources([(DEFAULT.to_owned(), source.clone())].into(), special_tokens)
    }

    /// The template of GLM-4-9B-0414, built in.
    pub fn glm4_0414() -> Self {
        Self::from_source(GLM4_0414).unwrap_or_else(|error| unreachable!("built in: {error}"))
    }

    /// The template of GLM-4-9B-0414 where every token that it writes is a control token of
    /// `tokenizer`'s; otherwise none, which refuses every conversation
    /// ([`TextError::NoFittingTemplate`]) and leaves plain texts alone. `origin` names the model that
    /// brings no template of its own.
    pub fn built_in_for(tokenizer: &Tokenizer, origin: impl Into<String>) -> Self {
        let has =
            |token: &str| tokenizer.token_to_id(token).is_some_and(|id| tokenizer.is_special(id));
        let missing = GLM4_0414_TOKENS.into_iter().filter(|token| !has(token));
        let missing: Vec<String> = missing.map(str::to_owned).collect();
        if missing.is_empty() {
            return Self::glm4_0414();
        }
        let absent = Some(Absent { origin: origin.into(), missing });
        Self {
            templates: BTreeMap::new(),
            special_tokens: BTreeMap::new(),
            time: None,
            folds_tools: false,
            absent,
        }
    }

    fn from_sources(
        sources: BTreeMap<String, String>,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<Self, TextError> {
        let templates = sources.into_iter().map(|(name, source)| {
            let source = template_source::without_generation_tags(&source);
            match Template::parse(&source) {
                Ok(template) => Ok((name, template)),
                Err(error) => Err(failed(&name, error)),
            }
        });
        let templates = templates.collect::<Result<_, _>>()?;
        Ok(Self { templates, special_tokens, time: None, folds_tools: false, absent: None })
    }

    /// Sets what a template can ask for by name beside the messages: `bos_token`, `eos_token`.
    #[must_use]
    pub fn with_special_token(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.special_tokens.insert(name.into(), text.into());
        self
    }

    /// Fixes the time that templates which print the date see. Without it, it is the present, in
    /// UTC.
    #[must_use]
    pub fn with_time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    /// Lets tools and what they returned be written into the system message and the user's messages where
    /// the template has no place for them. Without it they are [missing](RenderedPrompt::missing_fields).
    #[must_use]
    pub fn with_folded_tools(mut self, folds: bool) -> Self {
        self.folds_tools = folds;
        self
    }

    /// Names of the templates, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// Renders a conversation. Where there are several templates, takes `tool_use` if there are
    /// tools, `default` otherwise.
    ///
    /// The template finds the tools in its variable `tools`; where it asks for `tools` of a message
    /// instead, as the GLM-4 of 2024 does, on the system message. What of the messages and tools did not
    /// get into the prompt is in [`RenderedPrompt::missing_fields`].
    ///
    /// # Errors
    /// [`TextError::Refused`] where the template raises an exception, [`TextError::Template`] where
    /// it fails or runs too long, [`TextError::NestedTooDeeply`], [`TextError::UnknownChatTemplate`],
    /// [`TextError::NoFittingTemplate`].
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        self.render_named(self.name_for(tools), messages, tools, add_generation_prompt)
    }

    /// As [`render`](Self::render), with values for variables of the template's own, such as
    /// `enable_thinking`: what transformers calls `chat_template_kwargs`. Texts among them are a caller's
    /// and become no control tokens.
    ///
    /// # Errors
    /// Those of [`render`](Self::render); [`TextError::NotAVariable`] for a name that the template does not
    /// read, or that is not the caller's to set.
    pub fn render_with(
        &self,
        messages: &[Message],
        tools: &[Value],
        variables: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        let refused = variables.keys().find(|name| !self.reads_variable(name, tools));
        if let Some(name) = refused {
            let is_set = VARIABLES.contains(&name.as_str());
            let is_set = is_set || self.special_tokens.contains_key(name);
            let reason = if is_set { "is set already" } else { "is not read by the template" };
            return Err(TextError::NotAVariable { name: name.clone(), reason });
        }
        let name = self.name_for(tools);
        self.render_folding(name, messages, tools, variables, add_generation_prompt)
    }

    /// Whether the template for `tools` reads the variable `name`, which is left to the caller to set.
    pub fn reads_variable(&self, name: &str, tools: &[Value]) -> bool {
        let is_set = VARIABLES.contains(&name) || self.special_tokens.contains_key(name);
        let template = self.templates.get(self.name_for(tools));
        !is_set && template.is_some_and(|template| template.reads_variable(name))
    }

    /// Whether `text` stands in one of the templates.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.templates.values().any(|template| template.mentions(text))
    }

    /// The template that a conversation with `tools` goes through.
    fn name_for(&self, tools: &[Value]) -> &'static str {
        let for_tools = !tools.is_empty() && self.templates.contains_key(TOOL_USE);
        if for_tools { TOOL_USE } else { DEFAULT }
    }

    /// Whether the template for `tools` compares something with the text `role`.
    pub(crate) fn asks_for(&self, role: &str, tools: &[Value]) -> bool {
        let template = self.templates.get(self.name_for(tools));
        template.is_some_and(|template| template.has_literal(role))
    }

    /// Whether the template for `tools` asks anything for its attribute or item `name`.
    pub(crate) fn asks_for_attribute(&self, name: &str, tools: &[Value]) -> bool {
        let template = self.templates.get(self.name_for(tools));
        template.is_some_and(|template| template.asks_for_attribute(name))
    }

    /// Renders a conversation through the template called `name`.
    ///
    /// # Errors
    /// Those of [`render`](Self::render).
    pub fn render_named(
        &self,
        name: &str,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        self.render_folding(name, messages, tools, &Map::new(), add_generation_prompt)
    }

    fn render_folding(
        &self,
        name: &str,
        messages: &[Message],
        tools: &[Value],
        given: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        let written = self.render_as_given(name, messages, tools, given, add_generation_prompt);
        if !self.folds_tools {
            return written;
        }
        let lost = match &written {
            Ok(prompt) if prompt.missing_fields().is_empty() => return written,
            Ok(prompt) => Some(prompt.missing_fields()),
            Err(TextError::Refused { .. } | TextError::Template { .. }) => None,
            Err(_) => return written,
        };
        let loses_tools = lost.is_none_or(|lost| lost.iter().any(|field| is_of_tools(field)));
        let (folded_tools, kept_tools) =
            if loses_tools { (tools, &[][..]) } else { (&[][..], tools) };
        let folded = fold_tools::into_system(messages, folded_tools, lost);
        let in_user = fold_tools::system_into_user(&folded);
        for messages in [Some(folded), in_user].into_iter().flatten() {
            let prompt =
                self.render_as_given(name, &messages, kept_tools, given, add_generation_prompt);
            if let Ok(prompt) = prompt
                && prompt.missing_fields().is_empty()
            {
                return Ok(prompt);
            }
        }
        written
    }

    fn render_as_given(
        &self,
        name: &str,
        messages: &[Message],
        tools: &[Value],
        given: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        if let Some(Absent { origin, missing }) = self.absent.clone() {
            return Err(TextError::NoFittingTemplate { origin, missing });
        }
        let template = self.templates.get(name).ok_or_else(|| TextError::UnknownChatTemplate {
            name: name.to_owned(),
            available: self.names().map(str::to_owned).collect(),
        })?;
        template_inputs::check_depth(messages, tools, given)?;
        let run = |place| {
            let mut fields = Fields::default();
            let variables = || {
                let special_tokens = self.special_tokens.iter();
                let fields = &mut fields;
                template_inputs::variables(
                    fields,
                    messages,
                    tools,
                    place,
                    given,
                    add_generation_prompt,
                    special_tokens,
                )
            };
            let rendered = template.render(self.unix_seconds(), variables);
            let rendered = rendered.map_err(|error| failed(name, error))?;
            let missing = fields.untraced(&rendered.traced);
            Ok::<_, TextError>(prompt(rendered, missing))
        };
        let prompt = run(ToolsPlace::Variable)?;
        let misses_tools = prompt.missing_fields().iter().any(|field| is_of_tools(field));
        if !misses_tools || !template.asks_for_attribute("tools") {
            return Ok(prompt);
        }
        let count = |prompt: &RenderedPrompt| prompt.missing_fields().len();
        let on_message = run(ToolsPlace::SystemMessage).ok();
        Ok(on_message.filter(|on_message| count(on_message) < count(&prompt)).unwrap_or(prompt))
    }

    fn unix_seconds(&self) -> i64 {
        let time = self.time.unwrap_or_else(SystemTime::now);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(0, |secs| -secs),
        }
    }
}

/// Whether a missing field is a tool.
fn is_of_tools(field: &str) -> bool {
    field.starts_with("tools[")
}

fn failed(name: &str, (error, line): Located) -> TextError {
    let name = name.to_owned();
    match error {
        TemplateError::Raised { message } => TextError::Refused { message },
        TemplateError::Unsupported { construct } => {
            TextError::UnsupportedTemplate { name, line, construct }
        }
        source => TextError::Template { name, line, source },
    }
}

fn prompt(rendered: Rendered, missing: Vec<String>) -> RenderedPrompt {
    let mut content: Vec<std::ops::Range<usize>> = Vec::new();
    let mut start = 0;
    for (end, source) in rendered.runs {
        match content.last_mut() {
            _ if source == TEMPLATE => {}
            Some(last) if last.end == start => last.end = end,
            _ => content.push(start..end),
        }
        start = end;
    }
    RenderedPrompt::new(rendered.text, content, missing)
}
