//! Running a server on a listener: connections within limits, and an end that lets replies finish.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use super::config::HttpLimits;
use super::state::AppState;

/// Between two looks at whether the requests are done.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// After the requests, for the last bytes to go out.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// After an error of `accept`, which is mostly too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// hyper's smallest read buffer.
const SMALLEST_BUFFER: usize = 8192;

/// Serves until `shutdown`, then drains.
///
/// While it drains it still accepts: `/health` answers, `/ready` and new requests get a 503, and what
/// runs is finished. It ends when nothing runs any more, or after the drain timeout, when whoever still
/// waits is told so.
pub(super) async fn serve(
    state: AppState,
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (close, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut drained = pin!(async {
        shutdown.as_mut().await;
        drain(&state).await;
    });
    let most = state.config.limits.connections.max(1);
    loop {
        tokio::select! {
            () = &mut drained => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < most => match accepted {
                Ok((stream, address)) => {
                    let limits = &state.config.limits;
                    let connection = connection(stream, address, router.clone(), limits, &closed);
                    let open = state.metrics.connection();
                    connections.spawn(async move {
                        connection.await;
                        drop(open);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Connections that are idle close now, others after their response.
    let _ = close.send(());
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(CLOSE_TIMEOUT, all).await.is_err() {
        tracing::warn!("connections were closed before their end");
    }
    connections.shutdown().await;
    Ok(())
}

async fn drain(state: &AppState) {
    tracing::info!("draining");
    state.drain();
    let begin = Instant::now();
    let config = &state.config;
    sleep(config.drain_notice.min(config.drain_timeout)).await;
    while !state.is_idle() {
        if begin.elapsed() >= config.drain_timeout {
            tracing::warn!("requests still run at the end of the drain timeout: cancelled");
            state.give_up();
            return;
        }
        sleep(DRAIN_POLL).await;
    }
    tracing::info!("drained");
}

fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    limits: &HttpLimits,
    closed: &watch::Receiver<()>,
) -> impl Future<Output = ()> + use<> {
    // Tokens are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(super::stall::StallGuard::new(stream, limits.write_timeout));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER));
    let mut closed = closed.clone();
    async move {
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request: Request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            let router = router.clone();
            router.oneshot(request)
        });
        let mut connection = pin!(builder.serve_connection(stream, service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            _ = closed.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
