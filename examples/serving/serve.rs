//! Serves a model over HTTP: OpenAI's API, `/answer`, and a web page to try it.
//!
//! ```text
//! cargo run --release --example serve
//! ```
//! and open <http://127.0.0.1:8080>. Any OpenAI client talks to <http://127.0.0.1:8080/v1>;
//! <http://127.0.0.1:8080/docs> describes every route. `--host 0.0.0.0` lets other machines in, and
//! asks for `--api-key` or `--keys` then; `--config FILE` reads all options from a
//! file. Ctrl-C and SIGTERM finish what runs and end; a second one ends at once. SIGHUP reads the keys anew.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use lightglm_serving_examples::config_file;
use lightglm_serving_examples::key_args::new_key;
#[cfg(unix)]
use lightglm_serving_examples::key_args::reload_on_hangup;
use lightglm_serving_examples::models_file::check_options;
use lightglm_serving_examples::program_args::ProgramArgs;
use lightglm_serving_examples::serve_args::Started;

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args: ProgramArgs = config_file::parse(check_options)?;
    if let Some(name) = &args.keys.new_key {
        let (key, entry) = new_key(name)?;
        println!("{key}\n\n{entry}");
        return Ok(());
    }
    if args.check && args.config.is_none() {
        return check(args.listen.probed(args.host, args.port)?);
    }
    // What can be refused is refused before a model is loaded.
    let options = args.options()?;
    if args.check {
        args.listen.tls()?;
        println!("the settings are good");
        return Ok(());
    }
    args.log.init()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The port first: who finds it taken should not wait for a model.
    let listeners = runtime.block_on(args.listen.listeners(args.host, args.port))?;
    #[cfg(unix)]
    if let Some(path) = args.keys.keys.clone() {
        runtime.spawn(reload_on_hangup(options.tenants.clone(), path));
    }
    let Started { server, told } = args.serve.start(options)?;
    eprintln!("{told}");
    println!("{}://{}", args.listen.scheme(), listeners.address()?);
    runtime.block_on(server.serve_on(listeners, told_to_end()))?;
    // A text or an adapter that somebody gave up waiting for may still be worked on.
    runtime.shutdown_background();
    Ok(())
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
