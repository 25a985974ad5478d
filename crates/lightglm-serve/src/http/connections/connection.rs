//! `connection`: a connection from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tower::ServiceExt;

use super::body::{watched, watched_answer};
use super::gate::Gate;
use super::line::{Line, Phase};
use super::listeners::Security;
use super::places::{Place, Places};
use super::stream::ClientStream;
use crate::http::config::HttpLimits;

/// hyper's smallest read buffer.
const SMALLEST_BUFFER: usize = 8192;

/// What a connection of the reserve gets for its head.
const RESERVED_HEAD: Duration = Duration::from_secs(5);

/// What the connections of a listener have in common.
pub(in crate::http) struct Served {
    pub(in crate::http) router: Router,
    pub(in crate::http) gate: Arc<Gate>,
    pub(in crate::http) places: Arc<Places>,
    pub(in crate::http) limits: HttpLimits,
    pub(in crate::http) security: Security,
    /// Changes when connections should end after what they do.
    pub(in crate::http) closing: watch::Receiver<()>,
}

/// Serves `stream`, for which a place is found now.
pub(in crate::http) fn connection(
    served: &Arc<Served>,
    stream: TcpStream,
    address: SocketAddr,
) -> impl Future<Output = ()> + Send + use<> {
    // Tokens are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let phase = if served.security.is_plain() { Phase::Idle } else { Phase::Head };
    let place = served.places.take(address.ip(), phase);
    let served = served.clone();
    async move {
        let Some(secured) = served.security.secured() else {
            return spoken(&served, stream, address, place).await;
        };
        let mut place = place;
        let handshake = tokio::select! {
            _ = &mut place.closed => return,
            handshake = secured.accept(stream) => handshake,
        };
        match handshake {
            Ok(stream) => {
                place.line.wait();
                spoken(&served, stream, address, place).await;
            }
            Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
        }
    }
}

/// HTTP on a stream.
async fn spoken<S>(served: &Served, stream: S, address: SocketAddr, mut place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &served.limits;
    let line = place.line.clone();
    let stream = ClientStream::new(stream, line.clone(), limits.write_timeout);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // hyper's own would run between requests as well.
        .header_read_timeout(None)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER));
    let reserved = place.reserved;
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let refusal = served.gate.refusal(&request, reserved);
        let mut request = watched(request, &line);
        request.extensions_mut().insert(ConnectInfo(address));
        if let Some(refusal) = refusal {
            request.extensions_mut().insert(refusal);
        }
        let (router, line) = (served.router.clone(), line.clone());
        async move {
            let answer = router.oneshot(request).await?;
            let mut answer = watched_answer(answer, &line);
            if reserved {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut closing = served.closing.clone();
    let mut closing = pin!(closing.changed());
    let mut told = false;
    let mut timer = pin!(sleep_until(Instant::now().into()));
    poll_fn(|context| {
        if Pin::new(&mut place.closed).poll(context).is_ready() {
            tracing::debug!("a connection was closed for another");
            return Poll::Ready(());
        }
        if !told && closing.as_mut().poll(context).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(context) {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            return Poll::Ready(());
        }
        // What it does may have changed in there.
        let Some(deadline) = deadline(&line, limits, reserved) else { return Poll::Pending };
        let deadline = deadline.into();
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context).map(|()| tracing::debug!("a client was silent for too long"))
    })
    .await;
}

/// When a connection has waited too long for its client; a body has its own time.
fn deadline(line: &Line, limits: &HttpLimits, reserved: bool) -> Option<Instant> {
    let patience = match line.phase() {
        Phase::Idle if !reserved => limits.keep_alive_timeout,
        Phase::Head if !reserved => limits.header_timeout,
        Phase::Idle | Phase::Head => {
            return line.began().checked_add(limits.header_timeout.min(RESERVED_HEAD));
        }
        Phase::Body | Phase::Answer | Phase::Closed => return None,
    };
    line.since().checked_add(patience)
}
