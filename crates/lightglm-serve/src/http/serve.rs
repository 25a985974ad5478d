//! Running a server on its listeners, and an end that lets replies finish.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::connections::{
    Gate, HostRule, Listeners, Places, Served, connection, room_for_connections,
};
use super::state::AppState;

/// Between two looks at whether the requests are done.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// After the requests, for the last bytes to go out.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// After an error of `accept`, which is mostly too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Connections beyond the limit, for probes; as many are on their way out at most.
const RESERVE: usize = 32;

/// Connections of the listener for probes and metrics.
const ADMIN_CONNECTIONS: usize = 64;

/// Serves until `shutdown`, then drains.
///
/// While it drains it still accepts: `/health` answers, `/ready` and new requests get a 503, and what
/// runs is finished. It ends when nothing runs any more, or after the drain timeout, when whoever still
/// waits is told so.
pub(super) async fn serve(
    state: AppState,
    router: Router,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (close, closing) = watch::channel(());
    let (public, admin) = served(&state, &router, &listeners, &closing);
    // Dropped, it ends.
    let mut watching: JoinSet<()> = JoinSet::new();
    #[cfg(feature = "tls")]
    if let Some(tls) = listeners.tls.clone() {
        watching.spawn(tls.follow());
    }
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut drained = pin!(async {
        shutdown.as_mut().await;
        drain(&state).await;
    });
    loop {
        let (served, accepted) = tokio::select! {
            () = &mut drained => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listeners.public.accept(), if public.places.may_accept() => (&public, accepted),
            accepted = accept(listeners.admin.as_ref()), if admin.places.may_accept() => {
                (&admin, accepted)
            }
        };
        match accepted {
            Ok((stream, address)) => {
                let (connection, open) =
                    (connection(served, stream, address), state.metrics.connection());
                connections.spawn(async move {
                    connection.await;
                    drop(open);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                served.places.make_room();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listeners);
    watching.shutdown().await;
    // Connections that are idle close now, others after their response.
    let _ = close.send(());
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(CLOSE_TIMEOUT, all).await.is_err() {
        tracing::warn!("connections were closed before their end");
    }
    connections.shutdown().await;
    state.library.end().await;
    Ok(())
}

/// What the connections of the listener for everything, and of the one for probes, have in common.
fn served(
    state: &AppState,
    router: &Router,
    listeners: &Listeners,
    closing: &watch::Receiver<()>,
) -> (Arc<Served>, Arc<Served>) {
    let limits = &state.config.limits;
    let wanted = limits.connections.max(1);
    let admin = listeners.admin.as_ref().map_or(0, |_| ADMIN_CONNECTIONS + RESERVE);
    let beside = 2 * RESERVE + admin;
    let places = room_for_connections(wanted.saturating_add(beside)).saturating_sub(beside).max(1);
    if places < wanted {
        tracing::warn!(
            wanted,
            connections = places,
            "the limit on open files (ulimit -n) does not allow as many connections as wanted"
        );
    }
    // An address keeps its share of what there is.
    let share = limits.connections_per_address.min(wanted) as u128 * places as u128;
    let share = usize::try_from(share / wanted as u128).unwrap_or(places);
    let hosts = |listener: Option<&TcpListener>, admin: bool| {
        let address = listener.and_then(|listener| listener.local_addr().ok());
        HostRule::new(state.config.hosts(), address, state.config.asks_for_keys(), admin)
    };
    let served = |gate, places, security| {
        Arc::new(Served {
            router: router.clone(),
            gate: Arc::new(gate),
            places,
            limits: limits.clone(),
            security,
            closing: closing.clone(),
        })
    };
    let public = served(
        Gate::new(hosts(Some(&listeners.public), false), false),
        Places::new(places, share, RESERVE),
        listeners.security(),
    );
    let admin = served(
        Gate::new(hosts(listeners.admin.as_ref(), true), true),
        Places::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS, RESERVE),
        Default::default(),
    );
    (public, admin)
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
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
