//! `Tls`: certificates from files, read anew when they change.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate and its key from PEM files; clones are the same.
///
/// New connections get what the files have: they are read again within 5 s of a change, and by [`Tls::reload`].
/// Connections that are open keep what they began with.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

/// A certificate or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is no PEM, or has no certificate or no key.
    #[error("{}: it has no {wanted} in PEM: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or a key is damaged, of a kind that is not supported, or of different origin.
    #[error("{} with {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// rustls' reason.
        source: rustls::Error,
    },
}

impl Tls {
    /// The certificates in the file `certificate` (the server's, then those that lead to its root), and the private
    /// key in the file `key`, both PEM. TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let config = RwLock::new(Arc::new(read(&certificate, &key)?));
        Ok(Self(Arc::new(Shared { certificate, key, config })))
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// [`TlsError`]; what was read before stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(read(&self.0.certificate, &self.0.key)?);
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        tracing::info!(certificate = %self.0.certificate.display(), "the certificate was read");
        Ok(())
    }

    /// Reads the files when they change, for ever.
    pub(in crate::http) async fn follow(self) {
        let looks = || [&self.0.certificate, &self.0.key].map(|path| look(path));
        let mut seen = looks();
        loop {
            sleep(LOOK).await;
            let now = looks();
            if now == seen {
                continue;
            }
            seen = now;
            if let Err(error) = self.reload() {
                tracing::error!(%error, "the certificate is not usable; the one before it stays");
            }
        }
    }

    /// # Errors
    /// Where the handshake fails or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await?
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.0.certificate)
            .field("key", &self.0.key)
            .finish_non_exhaustive()
    }
}

/// What changes where a file does: tools replace it, or a link to it.
fn look(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), inode(&metadata)))
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let bytes = |path: &Path| {
        std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
    };
    let wrong = |path: &Path, wanted, error: pem::Error| {
        let reason = error.to_string();
        TlsError::Pem { path: path.to_owned(), wanted, reason }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
    let chain = chain.and_then(|chain| match chain.is_empty() {
        true => Err(pem::Error::NoItemsFound),
        false => Ok(chain),
    });
    let chain = chain.map_err(|error| wrong(certificate, "certificate", error))?;
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?)
        .map_err(|error| wrong(key, "private key", error))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|source| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
