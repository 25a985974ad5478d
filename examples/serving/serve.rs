//! Serves a model over HTTP: OpenAI's API, `/answer`, and a web page to try it.
//!
//! ```text
//! cargo run --release --example serve
//! ```
//! and open <http://127.0.0.1:8080>. Any OpenAI client talks to <http://127.0.0.1:8080/v1>;
//! <http://127.0.0.1:8080/docs> describes every route. `--host 0.0.0.0` lets other machines in, and
//! asks for `--api-key` then. Ctrl-C and SIGTERM finish what runs and end; a second one ends at once.

use std::io::{IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lightglm::ServerOptions;
use lightglm_serving_examples::listen_args::ListenArgs;
use lightglm_serving_examples::serve_args::{ServeArgs, Started};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    about = "Serve a model over HTTP",
    after_help = "Dense weights are held as int8 unless --scheme, --policy or --dtype says otherwise; a GGUF \
                  file's blocks and folders that `quantize` wrote are served as they are stored."
)]
struct Args {
    #[command(flatten)]
    serve: ServeArgs,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[command(flatten)]
    listen: ListenArgs,
    /// A key that clients must send (may be given several times).
    #[arg(
        long = "api-key",
        env = "LIGHTGLM_API_KEYS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    api_keys: Vec<String>,
    /// Serve other machines without a key.
    #[arg(long)]
    without_key: bool,
    /// Let pages of this origin call the server from a browser (may be given several times).
    #[arg(long = "cors-origin")]
    cors_origins: Vec<String>,
    /// Seconds that running requests get once the server is told to end.
    #[arg(long, default_value_t = 60)]
    drain_seconds: u64,
    /// Seconds for which /ready says no before the server stops to listen: what a load balancer needs
    /// to notice.
    #[arg(long, default_value_t = 0)]
    notice_seconds: u64,
    /// Serve nothing: ask the server that listens on --host and --port whether it lives.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    if args.check {
        return check(args.listen.probed(args.host, args.port)?);
    }
    let filter = match std::env::var("LIGHTGLM_LOG") {
        Ok(filter) => EnvFilter::try_new(filter).context("LIGHTGLM_LOG")?,
        Err(_) => "info".into(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let keyless = args.api_keys.is_empty() && !args.without_key;
    ensure!(
        !keyless || args.host.is_loopback(),
        "--host {}: other machines can reach this; set --api-key, or say --without-key",
        args.host
    );
    // What can be refused is refused before a model is loaded.
    let options = args.options();
    options.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The port first: who finds it taken should not wait for a model.
    let listeners = runtime.block_on(args.listen.listeners(args.host, args.port))?;
    let Started { server, scheme, .. } = args.serve.start(options)?;
    let limits = server.handle().limits();
    eprintln!(
        "{} ({scheme}), {} requests at a time, {} tokens each at most, {:.0} MiB for keys and values",
        args.serve.name(),
        limits.max_running,
        limits.max_positions,
        server.kv_bytes() as f64 / f64::from(1 << 20)
    );
    println!("{}://{}", args.listen.scheme(), listeners.address()?);
    runtime.block_on(server.serve_on(listeners, told_to_end()))?;
    // A text or an adapter that somebody gave up waiting for may still be worked on.
    runtime.shutdown_background();
    Ok(())
}

impl Args {
    fn options(&self) -> ServerOptions {
        ServerOptions {
            api_keys: self.api_keys.clone(),
            cors_origins: self.cors_origins.clone(),
            allowed_hosts: self.listen.allowed_hosts.clone(),
            drain_timeout: Duration::from_secs(self.drain_seconds),
            drain_notice: Duration::from_secs(self.notice_seconds),
            ..self.serve.options()
        }
    }
}

/// What curl would do in a container that has none.
fn check(address: SocketAddr) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let host = match address.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(host, address.port()), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0u8; 12];
    stream.read_exact(&mut status)?;
    ensure!(&status == b"HTTP/1.1 200", "/health: {}", String::from_utf8_lossy(&status));
    Ok(())
}

/// Until Ctrl-C or SIGTERM; the next one ends the process at once.
async fn told_to_end() {
    signal().await;
    eprintln!("finishing what runs; once more ends at once");
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
}

async fn signal() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                () = ctrl_c => {}
                _ = terminate.recv() => {}
            },
            Err(_) => ctrl_c.await,
        }
    }
    #[cfg(not(unix))]
    ctrl_c.await;
}
