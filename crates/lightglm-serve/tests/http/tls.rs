//! TLS: a certificate, another one while connections are open, and what is none.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lightglm_serve::http::{Listeners, Tls, TlsError};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::config;
use crate::loopback::{Running, read_all};
use crate::scripted::Scripted;

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// `certificates/README.md` says how they were made.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/certificates").join(name)
}

/// A connection of a client that trusts the certificate `name`.
fn connect(running: &Running, name: &str) -> Secured {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file(name)).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(client, running.connect())
}

fn health(client: &mut Secured) -> std::io::Result<String> {
    write!(client, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut bytes = [0; 4096];
    let count = client.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn is_answered(client: &mut Secured) -> bool {
    health(client).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// A folder of the test's own, with `one` in it.
fn folder(test: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lightglm-tls-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    put(&folder, "one", "crt");
    put(&folder, "one", "key");
    folder
}

fn put(folder: &Path, name: &str, kind: &str) {
    fs::copy(file(&format!("{name}.{kind}")), folder.join(format!("server.{kind}"))).unwrap();
}

#[test]
fn certificates_change_while_connections_are_open() {
    let folder = folder("change");
    let tls = Tls::from_files(folder.join("server.crt"), folder.join("server.key")).unwrap();
    let own = tls.clone();
    let running = Running::on(&Scripted::saying("x"), config(), |listener| {
        Listeners::new(listener).with_tls(own)
    });
    let mut before = connect(&running, "one.crt");
    assert!(is_answered(&mut before));
    assert!(!is_answered(&mut connect(&running, "two.crt")));

    // The certificate alone is not the key's: the one before stays.
    put(&folder, "two", "crt");
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, TlsError::Pair { .. }) && error.to_string().contains("server.crt"));
    assert!(is_answered(&mut connect(&running, "one.crt")));

    put(&folder, "two", "key");
    tls.reload().unwrap();
    assert!(is_answered(&mut connect(&running, "two.crt")));
    assert!(!is_answered(&mut connect(&running, "one.crt")));
    assert!(is_answered(&mut before), "an open connection keeps what it has");

    // It is noticed without being told.
    put(&folder, "one", "crt");
    put(&folder, "one", "key");
    let begin = Instant::now();
    while !is_answered(&mut connect(&running, "one.crt")) {
        assert!(begin.elapsed() < Duration::from_secs(20), "nobody looks at the files");
        std::thread::sleep(Duration::from_millis(200));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn who_does_not_shake_hands_keeps_nobody_waiting() {
    let tls = Tls::from_files(file("one.crt"), file("one.key")).unwrap();
    let mut config = config();
    config.limits.connections = 4;
    let running = Running::on(&Scripted::saying("x"), config, |listener| {
        Listeners::new(listener).with_tls(tls)
    });
    let _silent: Vec<_> = (0..10).map(|_| running.connect()).collect();
    assert!(is_answered(&mut connect(&running, "one.crt")));
    let mut plain = running.connect();
    write!(plain, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert!(!read_all(&mut plain).contains("200 OK"));
}

#[test]
fn what_is_no_certificate_is_named() {
    let good = [file("one.crt"), file("one.key")];
    let text = |certificate: &Path, key: &Path| {
        Tls::from_files(certificate, key).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let nowhere = text(Path::new("/nowhere.crt"), &good[1]);
    assert!(nowhere.starts_with("/nowhere.crt: "), "{nowhere}");
    let swapped = text(&good[1], &good[0]);
    assert!(swapped.contains("one.key: it has no certificate"), "{swapped}");
    let keyless = text(&good[0], &good[0]);
    assert!(keyless.contains("one.crt: it has no private key"), "{keyless}");
    let mixed = text(&good[0], &file("two.key"));
    assert!(mixed.contains("one.crt") && mixed.contains("two.key"), "{mixed}");
}
