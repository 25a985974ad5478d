//! How long the model thinks before it speaks, and the variables of its chat template.

use lightglm_generation::ThinkingControl;
use lightglm_text::{ChatText, Thinking};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::whole::{Whole, whole};
use crate::http::body::json_body::{FromJson, read};
use crate::http::choice_stream::ChoicePrompt;
use crate::http::config::HttpLimits;
use crate::http::error::ApiError;

/// The variable that says whether there are thoughts: most templates', and DeepSeek's.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];
/// The variable that says how long they are.
const EFFORT: &str = "reasoning_effort";

/// The fields of a chat about thoughts.
#[derive(Deserialize, Default, utoipa::ToSchema)]
pub(in crate::http) struct ThinkingFields {
    /// How long the model may think. Where its chat template has a variable of this name, that; otherwise a
    /// budget: `minimal` 128 tokens, `low` 1,024, `medium` 4,096, the others none. `none` is as
    /// `enable_thinking` false.
    reasoning_effort: Option<Effort>,
    /// Tokens of thoughts at most; those that end them come on top.
    #[schema(minimum = 0, value_type = Option<u64>)]
    thinking_budget: Option<Whole>,
    /// The same, by vLLM's name.
    #[schema(minimum = 0, value_type = Option<u64>)]
    thinking_token_budget: Option<Whole>,
    /// Whether the model thinks before it speaks. Where its chat template has a variable for it, that;
    /// otherwise false is a budget of 0.
    enable_thinking: Option<bool>,
    /// The same in GLM's and Anthropic's form.
    thinking: Option<ThinkingSwitch>,
    /// Variables of the chat template, by name; one that it does not read is refused.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

/// How long the model may think.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Effort {
    /// Not at all.
    None,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// As most questions need.
    Medium,
    /// As long as it likes.
    High,
    /// The same.
    Xhigh,
}

/// Whether the model thinks before it speaks.
#[derive(Deserialize, utoipa::ToSchema)]
struct ThinkingSwitch {
    /// `enabled` or `disabled`.
    #[serde(rename = "type")]
    kind: SwitchType,
    /// Tokens of thoughts at most.
    #[schema(minimum = 0, value_type = Option<u64>)]
    budget_tokens: Option<Whole>,
}

/// Whether the model thinks before it speaks.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum SwitchType {
    /// It does.
    Enabled,
    /// It does not.
    Disabled,
}

/// A request that takes [`ThinkingFields`] beside its own; read apart, as
/// [`Sampled`](super::sampling::Sampled) is.
pub(in crate::http) struct WithThinking<T> {
    pub(in crate::http) thinking: ThinkingFields,
    pub(in crate::http) request: T,
}

impl<T: FromJson> FromJson for WithThinking<T> {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        let request = T::from_json(value)?;
        Ok(Self { thinking: read(value)?, request })
    }
}

/// What the fields ask for.
#[derive(Default)]
pub(in crate::http) struct ThinkingDemand {
    /// Of the chat template.
    pub(in crate::http) variables: Map<String, Value>,
    /// Tokens of thoughts at most.
    budget: Option<usize>,
    /// The field that needs a model that thinks.
    needs_thoughts: Option<&'static str>,
}

impl Effort {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
        }
    }

    /// Tokens of thoughts where the template knows no effort; `None` for as many as it takes.
    fn budget(self) -> Option<usize> {
        match self {
            Self::None => Some(0),
            Self::Minimal => Some(128),
            Self::Low => Some(1024),
            Self::Medium => Some(4096),
            Self::High | Self::Xhigh => None,
        }
    }
}

/// The one value of a thing that has several names.
///
/// # Errors
/// [`ApiError::Field`] where two of them are given.
fn one_of<T>(
    values: impl IntoIterator<Item = (&'static str, Option<T>)>,
) -> Result<Option<(&'static str, T)>, ApiError> {
    let mut found: Option<(&'static str, T)> = None;
    for (field, value) in values {
        match (value, &found) {
            (None, _) => {}
            (Some(value), None) => found = Some((field, value)),
            (Some(_), Some((other, _))) => {
                return Err(ApiError::field(field, format!("it cannot stand beside {other}")));
            }
        }
    }
    Ok(found)
}

impl ThinkingFields {
    /// Bytes of the variables.
    pub(in crate::http) fn bytes(&self) -> usize {
        let variables = self.chat_template_kwargs.as_ref();
        variables.map_or(0, |variables| Value::Object(variables.clone()).to_string().len())
    }

    /// What the fields ask for, of a model with this text side and for these tools.
    ///
    /// # Errors
    /// [`ApiError::Field`] where two fields say the same thing, or one is too large.
    pub(in crate::http) fn checked(
        self,
        limits: &HttpLimits,
        text: &dyn ChatText,
        tools: &[Value],
    ) -> Result<ThinkingDemand, ApiError> {
        if self.bytes() > limits.schema_bytes {
            let reason = format!("it is larger than {} bytes", limits.schema_bytes);
            return Err(ApiError::field("chat_template_kwargs", reason));
        }
        let (kind, of_switch) = match self.thinking {
            Some(switch) => (Some(switch.kind), switch.budget_tokens),
            None => (None, None),
        };
        let kind = kind.map(|kind| kind == SwitchType::Enabled);
        let budget = one_of([
            ("thinking_budget", self.thinking_budget),
            ("thinking_token_budget", self.thinking_token_budget),
            ("thinking.budget_tokens", of_switch),
        ])?;
        let none = (self.reasoning_effort == Some(Effort::None)).then_some(false);
        let switch = one_of([
            ("enable_thinking", self.enable_thinking),
            ("thinking.type", kind),
            (EFFORT, none),
        ])?;
        let mut demand = ThinkingDemand {
            variables: self.chat_template_kwargs.unwrap_or_default(),
            ..ThinkingDemand::default()
        };
        if let Some((field, budget)) = budget {
            demand.budget = whole(field, Some(budget), 0, usize::MAX)?;
            demand.needs_thoughts = Some(field);
        }
        if let Some((field, thinks)) = switch {
            let variable = SWITCHES.into_iter().find(|name| text.reads_variable(name, tools));
            match variable {
                Some(name) => demand.set(field, name, thinks.into())?,
                None if thinks => demand.needs_thoughts = Some(field),
                // Nothing to do for a model that does not think.
                None => (demand.budget, demand.needs_thoughts) = (Some(0), None),
            }
        }
        if let Some(effort) = self.reasoning_effort.filter(|effort| *effort != Effort::None) {
            match text.reads_variable(EFFORT, tools) {
                true => demand.set(EFFORT, EFFORT, effort.name().into())?,
                false => {
                    demand.needs_thoughts.get_or_insert(EFFORT);
                    let both = demand.budget.into_iter().chain(effort.budget()).min();
                    demand.budget = both;
                }
            }
        }
        Ok(demand)
    }
}

impl ThinkingDemand {
    fn set(&mut self, field: &str, name: &str, value: Value) -> Result<(), ApiError> {
        match self.variables.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => {
                let reason = format!("it cannot stand beside chat_template_kwargs.{name}");
                Err(ApiError::field(field, reason))
            }
        }
    }

    /// Lets the choices of a chat think as they are asked to, and speak within their constraints. `thinking`
    /// is how the model does it.
    ///
    /// # Errors
    /// [`ApiError::Field`] where the model does not think.
    pub(in crate::http) fn control(
        &self,
        text: &dyn ChatText,
        thinking: Thinking,
        choices: &mut [ChoicePrompt],
    ) -> Result<(), ApiError> {
        let thinks = thinking == Thinking::Opened || (thinking != Thinking::Never && text.thinks());
        if let Some(field) = self.needs_thoughts
            && !thinks
        {
            return Err(ApiError::field(field, "the model does not think before this reply"));
        }
        let is_constrained = choices.iter().any(|choice| !choice.processors.is_empty());
        let thinks_first = thinking == Thinking::Opened && is_constrained;
        if thinking == Thinking::Never || !(self.budget.is_some() || thinks_first) {
            return Ok(());
        }
        let end = text.encode_thoughts_end();
        let end = end.map_err(|error| ApiError::text("messages", &error))?;
        for choice in choices {
            let mut control = ThinkingControl::new(thinking, text.detokenizer(), end.clone());
            if let Some(budget) = self.budget {
                control = control.with_budget(budget);
            }
            if let Some(constraint) = choice.processors.pop() {
                control = control.with_answer(constraint, text.eos_token_ids().to_vec());
            }
            choice.processors.push(Box::new(control));
        }
        Ok(())
    }
}
