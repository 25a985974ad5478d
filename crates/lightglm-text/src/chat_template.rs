//! Messages to prompts, through the model's own Jinja template.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::message::Message;
use minijinja::context;
use serde_json::Value;

use crate::error::TextError;
use crate::gguf_vocabulary::GgufVocabulary;
use crate::prompt::RenderedPrompt;
use crate::provenance::{Coverage, Disguise, Disguiser, TemplateWords, visit_strings};
use crate::template_environment::{BoundedOutput, OUTPUT_LIMIT, Raised, environment};
use crate::template_source::{self, TemplateFiles};

/// The template of GLM-4-9B-0414 and its siblings.
const GLM4_0414: &str = include_str!("glm4_0414.jinja");

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
/// Running time, recursion and output of a template are bounded, its memory is not: strings it
/// joins inside may grow. A template is a program of whoever published the model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    sources: BTreeMap<String, TemplateSource>,
    special_tokens: BTreeMap<String, String>,
    time: Option<SystemTime>,
}

#[derive(Clone, Debug)]
struct TemplateSource {
    text: String,
    words: TemplateWords,
}

/// The variables of one rendering.
struct Inputs<'a> {
    messages: Cow<'a, [Message]>,
    tools: Cow<'a, [Value]>,
    add_generation_prompt: bool,
    unix_seconds: i64,
}

impl ChatTemplate {
    /// Takes a template's source.
    ///
    /// # Errors
    /// [`TextError::Template`] where the source is no Jinja.
    pub fn from_source(source: impl Into<String>) -> Result<Self, TextError> {
        Self::from_sources([(DEFAULT.to_owned(), source.into())].into(), BTreeMap::new())
    }

    /// Reads the template of a model directory, and its special tokens: `chat_template.jinja` and
    /// `additional_chat_templates/*.jinja` where there are any, else the `chat_template` field of
    /// `tokenizer_config.json` (one source, or a list of names and sources).
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`], [`TextError::Read`], [`TextError::Malformed`],
    /// [`TextError::Template`].
    pub fn from_dir(directory: impl AsRef<std::path::Path>) -> Result<Self, TextError> {
        let TemplateFiles { sources, special_tokens } =
            template_source::read_directory(directory.as_ref())?;
        Self::from_sources(sources, special_tokens)
    }

    /// Takes the template of a GGUF file, and the texts of its BOS, EOS and padding tokens.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`], [`TextError::Template`].
    pub fn from_gguf(vocabulary: &GgufVocabulary) -> Result<Self, TextError> {
        let Some(source) = &vocabulary.chat_template else {
            return Err(TextError::NoChatTemplate { origin: "tokenizer.chat_template".to_owned() });
        };
        let special_tokens = vocabulary.special_tokens().collect();
        Self::from_sources([(DEFAULT.to_owned(), source.clone())].into(), special_tokens)
    }

    /// The template of GLM-4-9B-0414, built in.
    pub fn glm4_0414() -> Self {
        let source = TemplateSource::new(GLM4_0414.to_owned());
        Self {
            sources: [(DEFAULT.to_owned(), source)].into(),
            special_tokens: BTreeMap::new(),
            time: None,
        }
    }

    fn from_sources(
        sources: BTreeMap<String, String>,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<Self, TextError> {
        let sources: BTreeMap<_, _> =
            sources.into_iter().map(|(name, text)| (name, TemplateSource::new(text))).collect();
        for (name, source) in &sources {
            environment(&Arc::default(), 0)
                .template_from_str(&source.text)
                .map_err(|source| TextError::Template { name: name.clone(), source })?;
        }
        Ok(Self { sources, special_tokens, time: None })
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

    /// Names of the templates, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// Renders a conversation. Where there are several templates, takes `tool_use` if there are
    /// tools, `default` otherwise.
    ///
    /// # Errors
    /// [`TextError::Refused`] where the template raises an exception, [`TextError::Template`] where
    /// it fails or runs too long, [`TextError::PromptTooLong`], [`TextError::NestedTooDeeply`],
    /// [`TextError::TooManyCharacters`], [`TextError::UnknownChatTemplate`],
    /// [`TextError::Untrackable`].
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, TextError> {
        self.render_named(self.name_for(tools), messages, tools, add_generation_prompt)
    }

    /// The template that a conversation with `tools` goes through.
    fn name_for(&self, tools: &[Value]) -> &'static str {
        let for_tools = !tools.is_empty() && self.sources.contains_key(TOOL_USE);
        if for_tools { TOOL_USE } else { DEFAULT }
    }

    /// Whether the template for `tools` compares something with the text `role`.
    pub(crate) fn asks_for(&self, role: &str, tools: &[Value]) -> bool {
        let source = self.sources.get(self.name_for(tools));
        source.is_some_and(|source| source.words.has_literal(role))
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
        let source = self.sources.get(name).ok_or_else(|| TextError::UnknownChatTemplate {
            name: name.to_owned(),
            available: self.names().map(str::to_owned).collect(),
        })?;
        let strings = caller_strings(messages, tools)?;
        let inputs = Inputs {
            messages: Cow::Borrowed(messages),
            tools: Cow::Borrowed(tools),
            add_generation_prompt,
            unix_seconds: self.unix_seconds(),
        };
        // What the reference renders; every tracked rendering has to say the same.
        let plain = self.run(name, source, &inputs, &Arc::default())?;

        let mut last = None;
        for coverage in Coverage::ALL {
            let trusted = self.special_tokens.values().chain([&source.text]).map(String::as_str);
            let disguise = Arc::new(Disguise::new(coverage, strings.iter().copied(), trusted)?);
            let disguiser = Disguiser { disguise: &disguise, words: &source.words, coverage };
            let hidden = Inputs {
                messages: messages.iter().map(|message| disguiser.message(message)).collect(),
                tools: tools.iter().map(|tool| disguiser.value("tools", tool)).collect(),
                ..inputs
            };
            let Ok(rendered) = self.run(name, source, &hidden, &disguise) else { continue };
            let (text, content) = disguise.reveal(&rendered);
            let is_same = text == plain;
            last = Some(RenderedPrompt::new(text, content, coverage));
            if is_same {
                break;
            }
        }
        // Where none is the same, the template looks for markup in the caller's text (`</think>` in
        // a message, say). What it wrote without finding any is then the prompt: the text is still
        // the caller's, and still no markup.
        last.ok_or_else(|| TextError::Untrackable { name: name.to_owned() })
    }

    fn unix_seconds(&self) -> i64 {
        let time = self.time.unwrap_or_else(SystemTime::now);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(0, |secs| -secs),
        }
    }

    fn run(
        &self,
        name: &str,
        source: &TemplateSource,
        inputs: &Inputs<'_>,
        disguise: &Arc<Disguise>,
    ) -> Result<String, TextError> {
        let failed = |source| TextError::Template { name: name.to_owned(), source };
        let environment = environment(disguise, inputs.unix_seconds);
        let template = environment.template_from_str(&source.text).map_err(failed)?;
        let tools = (!inputs.tools.is_empty()).then_some(&inputs.tools);
        let variables = context! {
            messages => inputs.messages,
            tools => tools,
            documents => (),
            add_generation_prompt => inputs.add_generation_prompt,
            ..minijinja::Value::from_serialize(&self.special_tokens)
        };
        let mut output = BoundedOutput::default();
        let outcome = template.render_captured_to(variables, &mut output).map(drop);
        if output.exceeded {
            return Err(TextError::PromptTooLong { limit: OUTPUT_LIMIT });
        }
        outcome.map_err(|error| raised(&error).unwrap_or_else(|| failed(error)))?;
        // Jinja writes whole strings, so this never replaces anything.
        Ok(String::from_utf8_lossy(&output.bytes).into_owned())
    }
}

impl TemplateSource {
    fn new(text: String) -> Self {
        let text = template_source::without_generation_tags(&text);
        Self { words: TemplateWords::of(&text), text }
    }
}

/// The refusal behind an error that `raise_exception` caused.
fn raised(error: &minijinja::Error) -> Option<TextError> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Some(TextError::Refused { message: message.clone() });
        }
        source = cause.source();
    }
    None
}

/// Every string in messages and tools.
fn caller_strings<'a>(
    messages: &'a [Message],
    tools: &'a [Value],
) -> Result<Vec<&'a str>, TextError> {
    let mut strings: Vec<&'a str> = Vec::new();
    for message in messages {
        strings.push(&message.role);
        strings.extend(message.extra.keys().map(String::as_str));
        for value in message.content.iter().chain(message.extra.values()) {
            visit_strings(value, 0, &mut |text| strings.push(text))?;
        }
    }
    for tool in tools {
        visit_strings(tool, 0, &mut |text| strings.push(text))?;
    }
    Ok(strings)
}
