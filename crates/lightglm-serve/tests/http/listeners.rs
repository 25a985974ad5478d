//! The listener for probes and metrics, and the names that a server answers to.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;

use lightglm_serve::http::Listeners;
use tokio::net::TcpListener;

use crate::client::config;
use crate::loopback::{Running, read_all};
use crate::scripted::Scripted;

fn ask(running: &Running, request: &str) -> String {
    let mut client = running.connect();
    client.write_all(request.as_bytes()).unwrap();
    read_all(&mut client)
}

fn ask_at(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut client = std::net::TcpStream::connect(address).unwrap();
    write!(client, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
        .unwrap();
    read_all(&mut client)
}

#[test]
fn names_are_checked_where_no_key_is() {
    let running = Running::start(&Scripted::saying("x"), config());
    let with = |running: &Running, lines: &str| {
        ask(running, &format!("GET /v1/models HTTP/1.1\r\n{lines}connection: close\r\n\r\n"))
    };
    let port = running.address.port();
    for host in ["localhost", "127.0.0.1", "[::1]", "LocalHost"] {
        for host in [host.to_owned(), format!("{host}:{port}"), format!("{host}:1")] {
            let answer = with(&running, &format!("host: {host}\r\n"));
            assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
        }
    }
    let evil = with(&running, "host: evil.example\r\n");
    assert!(evil.starts_with("HTTP/1.1 403") && evil.contains("--allowed-host evil.example"));
    assert!(evil.contains("x-request-id") && evil.contains("host_not_allowed"), "{evil}");
    let absolute = "GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n\
                    connection: close\r\n\r\n";
    assert!(ask(&running, absolute).starts_with("HTTP/1.1 403"));
    for lines in ["", "host: localhost\r\nhost: localhost\r\n", "host: a b\r\n", "host:\r\n"] {
        let answer = with(&running, lines);
        assert!(answer.starts_with("HTTP/1.1 400"), "{lines}: {answer}");
        assert!(answer.contains("invalid_host"), "{lines}: {answer}");
    }
    assert!(ask(&running, "GET /v1/models HTTP/1.0\r\n\r\n").contains(" 200 OK"));

    let mut named = config();
    named.allowed_hosts = vec!["evil.example".into()];
    let running = Running::start(&Scripted::saying("x"), named);
    assert!(with(&running, "host: evil.example:80\r\n").starts_with("HTTP/1.1 200"));
    assert!(with(&running, "host: other.example\r\n").starts_with("HTTP/1.1 403"));

    let mut keyed = config();
    keyed.api_keys = vec!["alpha".into()];
    let running = Running::start(&Scripted::saying("x"), keyed);
    assert!(with(&running, "host: evil.example\r\n").starts_with("HTTP/1.1 401"));
    let lines = "host: evil.example\r\nauthorization: Bearer alpha\r\n";
    assert!(with(&running, lines).starts_with("HTTP/1.1 200"));
}

#[test]
fn probes_have_a_listener_of_their_own() {
    let mut config = config();
    config.api_keys = vec!["alpha".into()];
    config.limits.connections = 1;
    let admin = Mutex::new(None);
    let running = Running::on(&Scripted::saying("x"), config, |listener| {
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        own.set_nonblocking(true).unwrap();
        *admin.lock().unwrap() = Some(own.local_addr().unwrap());
        Listeners::new(listener).with_admin(TcpListener::from_std(own).unwrap())
    });
    let admin = admin.lock().unwrap().unwrap();
    let key = "authorization: Bearer alpha\r\n";
    for path in ["/health", "/ready", "/health/"] {
        assert!(ask_at(admin, path, "").starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(ask_at(admin, "/metrics", "").starts_with("HTTP/1.1 401"));
    assert!(ask_at(admin, "/metrics", key).contains("# EOF"));
    for path in ["/v1/models", "/", "/openapi.json", "/nowhere"] {
        let answer = ask_at(admin, path, key);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains("/health, /ready, /metrics"), "{path}: {answer}");
    }
    assert!(ask_at(running.address, "/v1/models", key).starts_with("HTTP/1.1 200"));
}
