//! `OpenRequest`: a request until its answer has been sent, and then its line in the log.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::response::Response;

use super::request_record::{Refusal, RequestRecord, Said};
use crate::http::shorten::shortened;
use crate::http::state::AppState;

/// What nginx says of a client that went away before it had its answer; it is never sent.
const GONE: u16 = 499;

/// Routes that are asked for all day long by machines.
const PROBES: [&str; 3] = ["/health", "/ready", "/metrics"];

/// A request until its answer has been sent. Dropped, it is counted and has its line in the log: each exactly
/// one, whatever became of it.
pub(in crate::http) struct OpenRequest {
    state: AppState,
    record: RequestRecord,
    id: String,
    route: String,
    method: String,
    /// Without the query, in which some clients send keys.
    path: String,
    peer: Option<IpAddr>,
    /// That of the answer, once there is one.
    status: Option<u16>,
    sent: bool,
}

impl OpenRequest {
    /// Puts a record into the request's extensions, for who learns more of it.
    pub(in crate::http) fn new(
        state: AppState,
        id: String,
        route: String,
        request: &mut Request,
    ) -> Self {
        let record = RequestRecord::default();
        request.extensions_mut().insert(record.clone());
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        Self {
            peer: peer.map(|info| info.0.ip()),
            method: shortened(request.method().as_str()),
            path: shortened(request.uri().path()),
            state,
            record,
            id,
            route,
            status: None,
            sent: false,
        }
    }

    pub(in crate::http) fn id(&self) -> &str {
        &self.id
    }

    /// There is an answer, of which nothing is sent yet.
    pub(in crate::http) fn answered(&mut self, response: &Response) {
        self.status = Some(response.status().as_u16());
        if let Some(refusal) = response.extensions().get::<Refusal>() {
            self.record.said(|said| said.refusal = Some(refusal.clone()));
        }
    }

    /// All of the answer is sent, or as good as that.
    pub(in crate::http) fn sent(&mut self) {
        self.sent = true;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut said = self.record.said(|said| said.clone());
        let status = match self.status {
            // A refusal that nobody heard to its end was one.
            Some(status) if self.sent || status >= 400 => status,
            _ => {
                let gone = || Refusal { code: Some("client_closed"), ..Refusal::default() };
                said.refusal.get_or_insert_with(gone);
                GONE
            }
        };
        let (key, model) = (said.key.as_deref(), said.model.as_deref());
        self.state.metrics.count(&self.route, status, key, model);
        if PROBES.contains(&self.route.as_str()) && status < 400 {
            line(Line { open: self, said, status, probe: true });
        } else {
            line(Line { open: self, said, status, probe: false });
        }
    }
}

struct Line<'a> {
    open: &'a OpenRequest,
    said: Said,
    status: u16,
    probe: bool,
}

/// Writes the line. A field that says nothing is left out.
fn line(Line { open, said, status, probe }: Line<'_>) {
    let record = &open.record;
    let peer = open.peer.map(tracing::field::display);
    let refusal = said.refusal.unwrap_or_default();
    let reason = (!refusal.reason.is_empty()).then_some(refusal.reason.as_str());
    let tokens = record.tokens();
    let generates = tokens.prompt > 0;
    let count = |tokens: u64| generates.then_some(tokens);
    let milliseconds = |duration: std::time::Duration| duration.as_micros() as f64 / 1000.0;
    // The level is part of what a macro makes static.
    macro_rules! write_line {
        ($level:expr) => {
            tracing::event!(
                target: "lightglm::request",
                $level,
                id = open.id.as_str(),
                peer,
                key = said.key.as_deref(),
                model = said.model.as_deref(),
                method = open.method.as_str(),
                path = open.path.as_str(),
                status,
                error = refusal.code,
                param = refusal.param.as_deref(),
                reason,
                prompt_tokens = count(tokens.prompt),
                cached_tokens = count(tokens.cached),
                completion_tokens = count(tokens.completion),
                first_token_ms = record.first_token().map(milliseconds),
                total_ms = milliseconds(record.elapsed()),
                finish_reason = said.finish_reason,
                prompt = said.prompt.as_deref(),
                "request"
            )
        };
    }
    match probe {
        true => write_line!(tracing::Level::DEBUG),
        false => write_line!(tracing::Level::INFO),
    }
}
