//! `SamplingFields`: the fields of chats and completions that decide how tokens are chosen.

use std::collections::BTreeMap;

use lightglm_generation::SamplingParams;
use serde::Deserialize;
use serde_json::Value;

use super::whole::{Whole, whole};
use crate::http::body::json_body::{FromJson, read};
use crate::http::choice_stream::SharedParams;
use crate::http::config::HttpLimits;
use crate::http::error::ApiError;
use crate::http::models::ModelState;
use crate::http::peer::Peer;

/// Characters of `user`.
const LONGEST_USER: usize = 256;

/// As llama.cpp recommends it.
const ANSWER_DRY_MULTIPLIER: f64 = 0.8;

/// Longer than a turn of phrase that an answer may well say twice, and than a small circle, which is to be ended: kept
/// from it, a model that has nothing to say says other nonsense, and for longer.
const ANSWER_DRY_ALLOWED_LENGTH: Whole = Whole(16);

/// A short sentence, three times.
const ANSWER_LOOP_TOKENS: Whole = Whole(24);

/// Logits are divided by it: a smaller one would make infinities of them.
const LEAST_REPETITION: f64 = 0.01;

/// What chats and completions have in common. Absent fields are the server's defaults.
///
/// The bounds of numbers that are configured stand in the OpenAPI document, not here.
#[derive(Deserialize, Default, utoipa::ToSchema)]
pub(in crate::http) struct SamplingFields {
    /// A model or an adapter; the base model where it is absent.
    pub(super) model: Option<String>,
    /// Choices per prompt.
    #[schema(minimum = 1, value_type = Option<u64>)]
    n: Option<Whole>,
    /// Divides the logits; 0 takes the most likely token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Keeps the most likely tokens whose probabilities sum to it; 0 keeps the likeliest alone.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Keeps so many of the most likely tokens; 0 and -1 keep all.
    #[schema(minimum = -1, maximum = 4294967295u64, value_type = Option<i64>)]
    top_k: Option<Whole>,
    /// Keeps tokens at least so many times as likely as the most likely one.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Tokens of the reply at most: up to the end of the context where it is absent or -1, and where it is
    /// more than there is room for.
    #[schema(minimum = -1, value_type = Option<i64>)]
    max_tokens: Option<Whole>,
    /// The same, by its newer name, which wins.
    #[schema(minimum = -1, value_type = Option<i64>)]
    max_completion_tokens: Option<Whole>,
    /// No end before so many tokens; not for replies that have to follow something.
    #[schema(minimum = 0, value_type = Option<u64>)]
    min_tokens: Option<Whole>,
    /// Strings that end the reply; they are not part of it.
    stop: Option<Stop>,
    /// Tokens that end the reply, beside the model's own.
    stop_token_ids: Option<Vec<u32>>,
    /// Goes on after the model's end-of-reply token; not for replies that have to follow something.
    ignore_eos: Option<bool>,
    /// The same seed gives the same reply.
    #[schema(value_type = Option<i64>)]
    seed: Option<Whole>,
    /// Subtracted from a token's logit once per time it stands in the reply.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Subtracted from a token's logit where it stands in the reply.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Over 1: makes tokens that stood before less likely.
    #[schema(minimum = 0.01, maximum = 100)]
    repetition_penalty: Option<f64>,
    /// What it costs a token to continue a run of the reply that stood in it before; 0 is off.
    #[schema(minimum = 0, maximum = 100)]
    dry_multiplier: Option<f64>,
    /// By how much more each further token of such a run costs.
    #[schema(minimum = 1, maximum = 10)]
    dry_base: Option<f64>,
    /// From runs of so many tokens on.
    #[schema(minimum = 1, value_type = Option<u64>)]
    dry_allowed_length: Option<Whole>,
    /// Ends a reply (`finish_reason` is `repetition`) whose last tokens are the same run, three times over or more, so
    /// many in all at least; 0 is off.
    #[schema(minimum = 0, value_type = Option<u64>)]
    loop_tokens: Option<Whole>,
    /// Added to the logits of tokens, which are named by their ids: -100 to 100.
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Whether the reply comes as server-sent events.
    pub(super) stream: Option<bool>,
    /// About the events.
    pub(super) stream_options: Option<StreamOptions>,
    /// Whose request it is; without API keys, users share the server fairly.
    #[schema(max_length = 256)]
    user: Option<String>,
    /// Higher runs first.
    #[schema(value_type = Option<i32>)]
    priority: Option<Whole>,
}

/// A request that takes [`SamplingFields`] beside its own.
///
/// They are read apart: serde would name no field of a flattened struct in its errors.
pub(in crate::http) struct Sampled<T> {
    pub(in crate::http) sampling: SamplingFields,
    pub(in crate::http) request: T,
}

impl<T: FromJson> FromJson for Sampled<T> {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        let request = T::from_json(value)?;
        Ok(Self { sampling: read(value)?, request })
    }
}

/// Strings that end a reply.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "it must be a string or a list of strings")]
enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// About the events of a stream.
#[derive(Deserialize, Default, utoipa::ToSchema)]
pub(in crate::http) struct StreamOptions {
    /// Whether a last chunk tells the tokens that were used; where it is absent `/answer` tells them, the
    /// others do not.
    pub(super) include_usage: Option<bool>,
}

/// What comes out of the fields once they are checked.
pub(in crate::http) struct Sampling {
    pub(in crate::http) shared: SharedParams,
    /// Choices per prompt.
    pub(in crate::http) n: usize,
    /// The model as the answer names it.
    pub(in crate::http) model: String,
    /// What `stream_options` says of it.
    pub(in crate::http) include_usage: Option<bool>,
}

impl SamplingFields {
    /// The most likely token at each step, where the request does not say otherwise, and no going round in circles:
    /// small models do, of their likeliest tokens. What is copied from the prompt is no repetition.
    pub(in crate::http) fn greedy_unless_said(mut self) -> Self {
        self.temperature.get_or_insert(0.0);
        self.dry_multiplier.get_or_insert(ANSWER_DRY_MULTIPLIER);
        self.dry_allowed_length.get_or_insert(ANSWER_DRY_ALLOWED_LENGTH);
        self.loop_tokens.get_or_insert(ANSWER_LOOP_TOKENS);
        self
    }

    /// Whether no token is asked for, which is then taken for one.
    pub(super) fn asks_for_nothing(&mut self) -> bool {
        let asked = match self.max_completion_tokens.is_some() {
            true => &mut self.max_completion_tokens,
            false => &mut self.max_tokens,
        };
        let nothing = *asked == Some(Whole(0));
        if nothing {
            *asked = Some(Whole(1));
        }
        nothing
    }

    /// For a reply that has to be what `param` asks for: it ends where that ends.
    ///
    /// # Errors
    /// [`ApiError::Field`] where the request wants it to go on.
    pub(in crate::http) fn constrained_by(&mut self, param: &str) -> Result<(), ApiError> {
        let refused =
            |field| Err(ApiError::field(field, format!("it cannot stand beside {param}")));
        if self.min_tokens.is_some_and(|min| min != Whole(0)) {
            return refused("min_tokens");
        }
        if self.ignore_eos == Some(true) {
            return refused("ignore_eos");
        }
        // Not the server's defaults.
        (self.min_tokens, self.ignore_eos) = (Some(Whole(0)), Some(false));
        Ok(())
    }

    /// The model that is asked for.
    pub(in crate::http) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Checks every field. `default_max_tokens` is for replies whose length is not said.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub(in crate::http) fn checked(
        self,
        state: &ModelState,
        peer: &Peer,
        prompt_param: &'static str,
        default_max_tokens: usize,
    ) -> Result<Sampling, ApiError> {
        let limits = &state.config.limits;
        let (adapter, model) = (state.adapter.clone(), state.name().to_owned());
        if self.user.as_ref().is_some_and(|user| user.chars().count() > LONGEST_USER) {
            let reason = format!("it must have at most {LONGEST_USER} characters");
            return Err(ApiError::field("user", reason));
        }
        let n = whole("n", self.n, 1, limits.n.min(state.most_choices()))?.unwrap_or(1);
        let most = limits.priority;
        let asked = self.priority.map(|priority| i32::try_from(priority.0).ok());
        let asked = asked.map(|asked| asked.filter(|it| (-most..=most).contains(it)));
        if asked == Some(None) {
            return Err(ApiError::field("priority", format!("it must be -{most} to {most}")));
        }
        let priority = peer.priority(asked.flatten())?;
        let key = peer.fairness_key(self.user.as_deref());
        let stream = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !stream {
            return Err(ApiError::field("stream_options", "it needs stream to be true"));
        }
        let options = self.stream_options.as_ref();
        let include_usage = options.and_then(|options| options.include_usage);
        let params = self.params(state, default_max_tokens)?;
        let opening = String::new();
        let shared = SharedParams {
            adapter,
            params,
            key,
            priority,
            cache_salt: peer.cache_salt(),
            meter: peer.meter(state, &model),
            stream,
            opening,
            prompt_param,
        };
        Ok(Sampling { shared, n, model, include_usage })
    }

    fn params(self, state: &ModelState, default_max: usize) -> Result<SamplingParams, ApiError> {
        let limits = &state.config.limits;
        let default = &state.model.sampling;
        let at_most = |field, asked: Option<Whole>| match asked {
            Some(asked) if asked.is_no_limit() => Ok(Some(limits.max_tokens)),
            asked => whole(field, asked, 1, limits.max_tokens),
        };
        let max_tokens = at_most("max_tokens", self.max_tokens)?;
        let newer = at_most("max_completion_tokens", self.max_completion_tokens)?;
        let max_tokens = newer.or(max_tokens).unwrap_or(default_max.min(limits.max_tokens));
        let min_tokens = whole("min_tokens", self.min_tokens, 0, max_tokens)?;
        let top_p = within("top_p", self.top_p, [0.0, 1.0])?;
        let top_k = match self.top_k {
            Some(asked) if asked.is_no_limit() => Some(0),
            asked => whole("top_k", asked, 0, u32::MAX as usize)?,
        };
        let seed = match self.seed {
            Some(Whole(seed)) => Some(match (u64::try_from(seed), i64::try_from(seed)) {
                (Ok(seed), _) => seed,
                (_, Ok(negative)) => negative as u64,
                _ => return Err(ApiError::field("seed", "it must have at most 64 bits")),
            }),
            None => None,
        };
        let repetition = self.repetition_penalty;
        let repetition = within("repetition_penalty", repetition, [LEAST_REPETITION, 100.0])?;
        let frequency = within("frequency_penalty", self.frequency_penalty, [-2.0, 2.0])?;
        let presence = within("presence_penalty", self.presence_penalty, [-2.0, 2.0])?;
        let dry_multiplier = within("dry_multiplier", self.dry_multiplier, [0.0, 100.0])?;
        let dry_base = within("dry_base", self.dry_base, [1.0, 10.0])?;
        let most = u32::MAX as usize;
        let dry_allowed_length = whole("dry_allowed_length", self.dry_allowed_length, 1, most)?;
        let loop_tokens = whole("loop_tokens", self.loop_tokens, 0, most)?;
        let params = SamplingParams {
            dry_multiplier: dry_multiplier.unwrap_or(default.dry_multiplier),
            dry_base: dry_base.unwrap_or(default.dry_base),
            dry_allowed_length: dry_allowed_length.unwrap_or(default.dry_allowed_length),
            loop_tokens: loop_tokens.unwrap_or(default.loop_tokens),
            temperature: within("temperature", self.temperature, [0.0, 2.0])?
                .unwrap_or(default.temperature),
            // Of 0, and of what is 0 as f32, the most likely token is left.
            top_p: top_p.map_or(default.top_p, |top_p| top_p.max(f32::MIN_POSITIVE)),
            top_k: top_k.unwrap_or(default.top_k),
            min_p: within("min_p", self.min_p, [0.0, 1.0])?.unwrap_or(default.min_p),
            repetition_penalty: repetition.unwrap_or(default.repetition_penalty),
            frequency_penalty: frequency.unwrap_or(default.frequency_penalty),
            presence_penalty: presence.unwrap_or(default.presence_penalty),
            logit_bias: match self.logit_bias {
                Some(biases) => {
                    logit_bias(&biases, limits, state.model.engine.limits().vocab_size)?
                }
                None => default.logit_bias.clone(),
            },
            seed: seed.unwrap_or_else(|| state.random()),
            max_tokens,
            min_tokens: min_tokens.unwrap_or(default.min_tokens.min(max_tokens)),
            stop: match self.stop {
                Some(stop) => stop_strings(stop, limits)?,
                None => default.stop.clone(),
            },
            stop_token_ids: match self.stop_token_ids {
                Some(ids) => stop_tokens(ids, limits, state.model.engine.limits().vocab_size)?,
                None => default.stop_token_ids.clone(),
            },
            ignore_eos: self.ignore_eos.unwrap_or(default.ignore_eos),
            logprobs: None,
        };
        params.validate().map_err(|error| ApiError::sampling(&error))?;
        Ok(params)
    }
}

/// A number within its bounds; NaN is in none.
fn within(
    field: &str,
    value: Option<f64>,
    [least, most]: [f64; 2],
) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(ApiError::field(field, format!("it must be {least} to {most}")))
        }
        value => Ok(value.map(|value| value as f32)),
    }
}

fn stop_strings(stop: Stop, limits: &HttpLimits) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        // As clients write it that have a field for it and nothing in it.
        Stop::One(stop) if stop.is_empty() => Vec::new(),
        Stop::One(stop) => vec![stop],
        Stop::Many(stops) => stops,
    };
    if stops.len() > limits.stop {
        return Err(ApiError::field(
            "stop",
            format!("it must have at most {} strings", limits.stop),
        ));
    }
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > limits.stop_bytes) {
        let reason = format!("each string must have 1 to {} bytes", limits.stop_bytes);
        return Err(ApiError::field("stop", reason));
    }
    Ok(stops)
}

fn stop_tokens(
    ids: Vec<u32>,
    limits: &HttpLimits,
    vocab_size: usize,
) -> Result<Vec<u32>, ApiError> {
    let field = "stop_token_ids";
    if ids.len() > limits.stop {
        return Err(ApiError::field(field, format!("it must have at most {} ids", limits.stop)));
    }
    match ids.iter().all(|id| (*id as usize) < vocab_size) {
        true => Ok(ids),
        false => Err(ApiError::field(field, format!("they must be token ids below {vocab_size}"))),
    }
}

fn logit_bias(
    biases: &BTreeMap<String, f64>,
    limits: &HttpLimits,
    vocab_size: usize,
) -> Result<Vec<(u32, f32)>, ApiError> {
    if biases.len() > limits.logit_bias {
        let reason = format!("it must name at most {} tokens", limits.logit_bias);
        return Err(ApiError::field("logit_bias", reason));
    }
    let pair = |(token, bias): (&String, &f64)| {
        // `parse` takes a plus sign, which would let one token stand there twice.
        let digits = token.bytes().all(|byte| byte.is_ascii_digit());
        let id = token.parse::<u32>().ok().filter(|id| digits && (*id as usize) < vocab_size);
        let Some(id) = id else {
            let reason = format!("its names must be token ids below {vocab_size}");
            return Err(ApiError::field("logit_bias", reason));
        };
        if !(-100.0..=100.0).contains(bias) {
            let param = format!("logit_bias.{id}");
            return Err(ApiError::field(param, "it must be -100 to 100"));
        }
        Ok((id, *bias as f32))
    };
    biases.iter().map(pair).collect()
}
