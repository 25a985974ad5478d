//! What other servers' requests ask for and this one does not do: refused by name, as long as it would change
//! the reply.

use serde_json::Value;

use crate::http::error::ApiError;

const AS_TOOLS: &str = "it is not supported: use tools and tool_choice";
const AS_FORMAT: &str = "it is not supported: use response_format";
const NOT_DONE: &str = "it is not supported";

/// Fields, what is said of them, and the number that turns them off, where there is one.
const UNMET: [(&str, &str, Option<f64>); 50] = [
    // OpenAI's.
    ("functions", AS_TOOLS, None),
    ("function_call", AS_TOOLS, None),
    ("audio", NOT_DONE, None),
    ("prediction", NOT_DONE, None),
    ("web_search_options", NOT_DONE, None),
    // vLLM's.
    ("use_beam_search", NOT_DONE, None),
    ("length_penalty", NOT_DONE, Some(1.0)),
    ("early_stopping", NOT_DONE, None),
    ("bad_words", NOT_DONE, None),
    ("allowed_token_ids", NOT_DONE, None),
    ("prompt_logprobs", NOT_DONE, None),
    ("include_stop_str_in_output", NOT_DONE, None),
    ("truncate_prompt_tokens", NOT_DONE, None),
    ("logits_processors", NOT_DONE, None),
    ("guided_whitespace_pattern", NOT_DONE, None),
    ("guided_decoding_backend", NOT_DONE, None),
    ("documents", NOT_DONE, None),
    ("chat_template", "the model's own is used", None),
    ("mm_processor_kwargs", NOT_DONE, None),
    ("kv_transfer_params", NOT_DONE, None),
    ("lora_path", "adapters are named by model", None),
    ("lora_request", "adapters are named by model", None),
    ("echo_prompt", NOT_DONE, None),
    // llama.cpp's.
    ("grammar", "it is not supported: guided_grammar takes a grammar in Lark's notation", None),
    ("grammar_lazy", NOT_DONE, None),
    ("n_predict", "it is not supported: use max_tokens", Some(-1.0)),
    ("n_probs", "it is not supported: use top_logprobs", Some(0.0)),
    ("n_keep", NOT_DONE, Some(0.0)),
    ("typical_p", NOT_DONE, Some(1.0)),
    ("tfs_z", NOT_DONE, Some(1.0)),
    ("top_n_sigma", NOT_DONE, Some(-1.0)),
    ("mirostat", NOT_DONE, Some(0.0)),
    ("dynatemp_range", NOT_DONE, Some(0.0)),
    ("xtc_probability", NOT_DONE, Some(0.0)),
    ("dry_sequence_breakers", NOT_DONE, None),
    ("repeat_penalty", "it is not supported: use repetition_penalty", Some(1.0)),
    ("samplers", NOT_DONE, None),
    ("logit_bias_exp", NOT_DONE, None),
    ("lora", "adapters are named by model", None),
    // Ollama's.
    ("format", AS_FORMAT, None),
    ("options", "it is not supported: its fields stand beside it here", None),
    ("raw", NOT_DONE, None),
    ("images", NOT_DONE, None),
    // TGI's and SGLang's.
    ("no_repeat_ngram_size", NOT_DONE, Some(0.0)),
    ("num_beams", NOT_DONE, Some(1.0)),
    ("regex", "it is not supported: use guided_regex", None),
    ("ebnf", "it is not supported: guided_grammar takes a grammar in Lark's notation", None),
    ("custom_logit_processor", NOT_DONE, None),
    ("decoder_input_details", NOT_DONE, None),
    ("watermark", NOT_DONE, None),
];

/// Fields of messages, as above.
const UNMET_IN_MESSAGES: [(&str, &str); 4] = [
    ("function_call", "it is not supported: use tool_calls"),
    ("audio", NOT_DONE),
    ("images", "this model reads text alone"),
    ("videos", "this model reads text alone"),
];

/// Whether a field that is not done asks for something; `off` is the number that does not.
fn asks(value: &Value, off: Option<f64>) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(off.unwrap_or(0.0)),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) => true,
    }
}

/// Refuses what a request asks for that is not done here.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn refuse_unmet(request: &Value) -> Result<(), ApiError> {
    for (field, reason, off) in UNMET {
        if asks(&request[field], off) {
            return Err(ApiError::field(field, reason));
        }
    }
    for (index, message) in request["messages"].as_array().into_iter().flatten().enumerate() {
        for (field, reason) in UNMET_IN_MESSAGES {
            if asks(&message[field], None) {
                return Err(ApiError::field(format!("messages[{index}].{field}"), reason));
            }
        }
    }
    // The other kinds of output, and control tokens in the text.
    let modalities = request["modalities"].as_array().into_iter().flatten();
    if modalities.into_iter().any(|kind| kind != "text") {
        return Err(ApiError::field("modalities", "this model writes text alone"));
    }
    if request["skip_special_tokens"] == Value::Bool(false) {
        return Err(ApiError::field("skip_special_tokens", "control tokens say nothing here"));
    }
    Ok(())
}
