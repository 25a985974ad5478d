//! `ListenArgs`: TLS, a port for probes, and under which names the server answers.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lightglm::server::{Listeners, Tls};
use tokio::net::TcpListener;

/// TLS, a port for probes, and under which names the server answers.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenArgs {
    /// A port that has /health, /ready and /metrics alone, without TLS: probes are answered there however many
    /// connections the other one has.
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// Address of --admin-port; if omitted that of --host.
    #[arg(long, value_name = "ADDRESS", requires = "admin_port")]
    pub admin_host: Option<IpAddr>,
    /// A name under which clients reach the server: NAME, NAME:PORT, *.NAME, or * for any (may be given several
    /// times). If omitted a server without keys on a loopback address answers to localhost, 127.0.0.1 and ::1
    /// alone, and others to every name.
    #[arg(long = "allowed-host", value_name = "NAME")]
    pub allowed_hosts: Vec<String>,
    /// Serve with TLS: a PEM file with the server's certificate and those that lead to its root. It and --tls-key
    /// are read again when they change, and on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl ListenArgs {
    /// Takes the ports, and reads the certificate.
    ///
    /// # Errors
    /// Where a port is taken, or a file is at fault.
    pub async fn listeners(&self, host: IpAddr, port: u16) -> Result<Listeners> {
        let tls = self.tls()?;
        let mut listeners = Listeners::new(bound(host, port).await?);
        if let Some(port) = self.admin_port {
            listeners = listeners.with_admin(bound(self.admin_host.unwrap_or(host), port).await?);
        }
        // A service is told by SIGHUP to read its files again, whether it has some or not; in a terminal it is the
        // end.
        if tls.is_some() || !std::io::stderr().is_terminal() {
            tokio::spawn(reloaded_on_hangup(tls.clone()));
        }
        if let Some(tls) = tls {
            listeners = listeners.with_tls(tls);
        }
        Ok(listeners)
    }

    /// The certificate with its key, where there is one.
    ///
    /// # Errors
    /// Where a file is at fault.
    pub fn tls(&self) -> Result<Option<Tls>> {
        Ok(match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::from_files(certificate, key)?),
            _ => None,
        })
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }

    /// Where a server with these options answers probes without TLS.
    ///
    /// # Errors
    /// Where it has no such place.
    pub fn probed(&self, host: IpAddr, port: u16) -> Result<SocketAddr> {
        if let Some(port) = self.admin_port {
            return Ok(SocketAddr::new(self.admin_host.unwrap_or(host), port));
        }
        ensure!(self.tls_cert.is_none(), "--check speaks no TLS: it needs --admin-port");
        Ok(SocketAddr::new(host, port))
    }
}

async fn bound(host: IpAddr, port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((host, port)).await;
    listener.with_context(|| format!("cannot listen on {}", SocketAddr::new(host, port)))
}

async fn reloaded_on_hangup(tls: Option<Tls>) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        while hangup.recv().await.is_some() {
            if let Some(Err(error)) = tls.as_ref().map(Tls::reload) {
                tracing::error!(%error, "the certificate before it stays");
            }
        }
    }
    #[cfg(not(unix))]
    drop(tls);
}
