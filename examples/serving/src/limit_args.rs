//! `LimitArgs`: how much a client may ask of a server; an option for each of [`HttpLimits`].

use std::time::Duration;

use lightglm::server::HttpLimits;

/// How much a client may ask.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Bytes of a request's body.
    #[arg(long, value_name = "BYTES", default_value_t = HttpLimits::default().body_bytes)]
    pub max_body_bytes: usize,
    /// Levels of arrays and objects in a body.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().json_depth)]
    pub max_json_depth: usize,
    /// Values in a body.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().json_values)]
    pub max_json_values: usize,
    /// Bytes of a request's line and headers together.
    #[arg(long, value_name = "BYTES", default_value_t = HttpLimits::default().header_bytes)]
    pub max_header_bytes: usize,
    /// Headers of a request.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().headers)]
    pub max_headers: usize,
    /// Seconds for the headers to arrive, from their first byte.
    #[arg(long, value_name = "SECONDS", default_value_t = HttpLimits::default().header_timeout.as_secs())]
    pub header_timeout: u64,
    /// Seconds for the next request of a connection.
    #[arg(long, value_name = "SECONDS", default_value_t = HttpLimits::default().keep_alive_timeout.as_secs())]
    pub keep_alive_timeout: u64,
    /// Seconds for the body to arrive.
    #[arg(long, value_name = "SECONDS", default_value_t = HttpLimits::default().body_timeout.as_secs())]
    pub body_timeout: u64,
    /// Seconds from the end of the headers to the end of the reply.
    #[arg(long, value_name = "SECONDS", default_value_t = HttpLimits::default().request_timeout.as_secs())]
    pub request_timeout: u64,
    /// Seconds without a byte taken by the client while there is something to send.
    #[arg(long, value_name = "SECONDS", default_value_t = HttpLimits::default().write_timeout.as_secs())]
    pub write_timeout: u64,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().connections)]
    pub max_connections: usize,
    /// Connections of one address.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().connections_per_address)]
    pub max_connections_per_address: usize,
    /// Bytes of all bodies that arrive at the same time, not counting the first 64 KiB of each.
    #[arg(long, value_name = "BYTES", default_value_t = HttpLimits::default().arriving_bytes)]
    pub max_arriving_bytes: usize,
    /// Requests that are worked on at the same time, waiting ones included; more get a 429.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().concurrent_requests)]
    pub max_concurrent_requests: usize,
    /// Choices per prompt (`n`).
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().n)]
    pub max_n: usize,
    /// Prompts times choices of one request.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().choices)]
    pub max_choices: usize,
    /// Tokens of a reply that a request may ask for; if omitted any number, and replies end with the context.
    #[arg(long, value_name = "TOKENS")]
    pub max_reply_tokens: Option<usize>,
    /// Stop strings of a request.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().stop)]
    pub max_stop: usize,
    /// Bytes of one stop string.
    #[arg(long, value_name = "BYTES", default_value_t = HttpLimits::default().stop_bytes)]
    pub max_stop_bytes: usize,
    /// Alternatives per token (`logprobs`).
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().logprobs)]
    pub max_logprobs: usize,
    /// Tokens in `logit_bias`.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().logit_bias)]
    pub max_logit_bias: usize,
    /// Bytes of a JSON schema, a grammar, a regular expression, or a tool.
    #[arg(long, value_name = "BYTES", default_value_t = HttpLimits::default().schema_bytes)]
    pub max_schema_bytes: usize,
    /// Texts of a request for vectors, or documents of a query.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().encoder_inputs)]
    pub max_encoder_inputs: usize,
    /// Tokens of all these together.
    #[arg(long, value_name = "TOKENS", default_value_t = HttpLimits::default().encoder_tokens)]
    pub max_encoder_tokens: usize,
    /// Bytes of the body of a request that may have pictures and recordings in it.
    #[arg(long, value_name = "BYTES", default_value_t = HttpLimits::default().media_bytes)]
    pub max_media_bytes: usize,
    /// Pictures and recordings of a request.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().media_parts)]
    pub max_media_parts: usize,
    /// Requests whose pictures and recordings wait to be encoded.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().media_waiting)]
    pub max_media_waiting: usize,
    /// Messages of a conversation.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().messages)]
    pub max_messages: usize,
    /// Tools of a request.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().tools)]
    pub max_tools: usize,
    /// `priority` may be so far from 0.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().priority)]
    pub max_priority: i32,
    /// Adapters of a model that requests have loaded by their use; for one more, the least recently used leaves.
    #[arg(long, value_name = "N", default_value_t = HttpLimits::default().adapters)]
    pub max_adapters: usize,
}

impl LimitArgs {
    /// The limits as the library takes them: all of them, so that a new one has its option.
    pub fn limits(&self) -> HttpLimits {
        HttpLimits {
            body_bytes: self.max_body_bytes,
            json_depth: self.max_json_depth,
            json_values: self.max_json_values,
            header_bytes: self.max_header_bytes,
            headers: self.max_headers,
            header_timeout: Duration::from_secs(self.header_timeout),
            keep_alive_timeout: Duration::from_secs(self.keep_alive_timeout),
            body_timeout: Duration::from_secs(self.body_timeout),
            request_timeout: Duration::from_secs(self.request_timeout),
            write_timeout: Duration::from_secs(self.write_timeout),
            connections: self.max_connections,
            connections_per_address: self.max_connections_per_address,
            arriving_bytes: self.max_arriving_bytes,
            concurrent_requests: self.max_concurrent_requests,
            n: self.max_n,
            choices: self.max_choices,
            max_tokens: self.max_reply_tokens.unwrap_or(HttpLimits::default().max_tokens),
            stop: self.max_stop,
            stop_bytes: self.max_stop_bytes,
            logprobs: self.max_logprobs,
            logit_bias: self.max_logit_bias,
            schema_bytes: self.max_schema_bytes,
            encoder_inputs: self.max_encoder_inputs,
            encoder_tokens: self.max_encoder_tokens,
            media_bytes: self.max_media_bytes,
            media_parts: self.max_media_parts,
            media_waiting: self.max_media_waiting,
            messages: self.max_messages,
            tools: self.max_tools,
            priority: self.max_priority,
            adapters: self.max_adapters,
        }
    }
}
