//! `options`: how tokens are chosen, by Ollama's names.

use serde::Deserialize;
use serde_json::Value;

use crate::http::dialect::{Translation, read_at};
use crate::http::error::ApiError;
use crate::http::openai::whole::Whole;

/// Options that change what is said. Those that say how Ollama loads a model (`num_gpu`, `num_batch`,
/// `num_thread`, `use_mmap`, ...) change nothing here, for it is loaded.
#[derive(Deserialize)]
struct Options {
    temperature: Option<f64>,
    top_k: Option<Whole>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    num_predict: Option<Whole>,
    stop: Option<Value>,
    seed: Option<Whole>,
    repeat_penalty: Option<f64>,
    repeat_last_n: Option<Whole>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    num_ctx: Option<Whole>,
}

/// What is not done here, and the number that turns it off.
const REFUSED: [(&str, f64); 3] = [("typical_p", 1.0), ("tfs_z", 1.0), ("mirostat", 0.0)];

/// Turns options into the fields of a chat; `room` are the tokens of the context, where that is known.
///
/// # Errors
/// [`ApiError::Field`].
pub(super) fn translate_options(
    options: &Value,
    room: Option<usize>,
    chat: &mut Translation,
) -> Result<(), ApiError> {
    for (field, off) in REFUSED {
        if options.get(field).is_some_and(|it| !it.is_null() && it.as_f64() != Some(off)) {
            return Err(ApiError::field(format!("options.{field}"), "it is not supported"));
        }
    }
    let options: Options = read_at("options", options)?;
    let number = |value: Whole| i64::try_from(value.0).unwrap_or(i64::MAX);
    chat.set("temperature", "options.temperature", options.temperature);
    chat.set("top_k", "options.top_k", options.top_k.map(number));
    chat.set("top_p", "options.top_p", options.top_p);
    chat.set("min_p", "options.min_p", options.min_p);
    // -1 is no limit, and -2 the room that there is: the same here.
    let most = options.num_predict.map(number).filter(|most| *most != -2);
    chat.set("max_tokens", "options.num_predict", most);
    chat.set("stop", "options.stop", options.stop);
    chat.set("seed", "options.seed", seed(options.seed)?);
    chat.set("frequency_penalty", "options.frequency_penalty", options.frequency_penalty);
    chat.set("presence_penalty", "options.presence_penalty", options.presence_penalty);
    // A penalty looks at all tokens here. One that looks at none is none.
    let looks = match options.repeat_last_n {
        None | Some(Whole(-1)) => true,
        Some(Whole(0)) => false,
        Some(_) => {
            let reason = "it must be -1 or 0: repeat_penalty looks at all tokens";
            return Err(ApiError::field("options.repeat_last_n", reason));
        }
    };
    let penalty = options.repeat_penalty.map(|penalty| if looks { penalty } else { 1.0 });
    chat.set("repetition_penalty", "options.repeat_penalty", penalty);
    if let Some(room) = room
        && options.num_ctx.is_some_and(|Whole(wanted)| wanted > room as i128)
    {
        let reason = format!("the server's context has {room} tokens");
        return Err(ApiError::field("options.num_ctx", reason));
    }
    Ok(())
}

fn seed(seed: Option<Whole>) -> Result<Value, ApiError> {
    let Some(Whole(seed)) = seed else { return Ok(Value::Null) };
    match (u64::try_from(seed), i64::try_from(seed)) {
        (Ok(seed), _) => Ok(seed.into()),
        (_, Ok(seed)) => Ok(seed.into()),
        _ => Err(ApiError::field("options.seed", "it must have at most 64 bits")),
    }
}
