//! `Listeners`: where a server listens, and how.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

#[cfg(feature = "tls")]
use super::tls::Tls;

/// Where a server listens: a listener, or with another for probes and metrics, or with TLS.
#[derive(Debug)]
pub struct Listeners {
    pub(in crate::http) public: TcpListener,
    pub(in crate::http) admin: Option<TcpListener>,
    #[cfg(feature = "tls")]
    pub(in crate::http) tls: Option<Tls>,
}

impl Listeners {
    /// Every route on `listener`, without TLS.
    pub fn new(listener: TcpListener) -> Self {
        Self {
            public: listener,
            admin: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// `/health`, `/ready` and `/metrics` on `listener` as well, without TLS: however many connections the
    /// other one has, probes are answered here.
    #[must_use]
    pub fn with_admin(mut self, listener: TcpListener) -> Self {
        self.admin = Some(listener);
        self
    }

    /// TLS on the listener for everything.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where the listener for everything is.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// How the public listener's connections are secured.
    pub(in crate::http) fn security(&self) -> Security {
        Security {
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        }
    }
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener)
    }
}

/// How connections are secured, if at all.
#[derive(Clone, Default)]
pub(in crate::http) struct Security {
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Security {
    pub(super) fn is_plain(&self) -> bool {
        self.secured().is_none()
    }

    #[cfg(feature = "tls")]
    pub(super) fn secured(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn secured(&self) -> Option<&NoTls> {
        None
    }
}

/// What a build without TLS has in its place: nothing.
#[cfg(not(feature = "tls"))]
pub(super) enum NoTls {}

#[cfg(not(feature = "tls"))]
impl NoTls {
    pub(super) async fn accept(
        &self,
        _: tokio::net::TcpStream,
    ) -> std::io::Result<tokio::net::TcpStream> {
        match *self {}
    }
}
