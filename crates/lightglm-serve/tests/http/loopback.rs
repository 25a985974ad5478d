//! A server on a socket: clients that go away, clients that are slow, and the end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use lightglm_serve::http::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{CHAT, chat, config, server};
use crate::scripted::{Script, Scripted, wait_for};

pub(crate) struct Running {
    runtime: Runtime,
    address: SocketAddr,
    /// Dropped or sent: both are the end.
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) fn start(engine: &Arc<Scripted>, config: ServerConfig) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = server(engine, config).serve(listener, async {
            let _ = stopped.await;
        });
        let server = runtime.spawn(server);
        Self { runtime, address, stop: Some(stop), server }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn post(&self, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        write!(stream, "{}{body}", head(body.to_string().len())).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        read_all(&mut stream)
    }

    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    pub(crate) fn ended(self) {
        self.runtime.block_on(self.server).unwrap().unwrap();
    }
}

fn head(length: usize) -> String {
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // What arrived before a reset counts.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_some(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn clients_that_go_away_are_cancelled() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let running = Running::start(&engine, config());
    for stream in [true, false] {
        let body = chat(json!({"stream": stream, "max_tokens": 8192, "n": 2}));
        let clients: Vec<_> = (0..4).map(|_| running.post(&body)).collect();
        wait_for("the start", || engine.open() == 8);
        drop(clients);
        wait_for("the cancelling", || engine.open() == 0);
    }
    assert_eq!(engine.cancelled(), 16);
    assert!(engine.seen().iter().all(|seen| seen.key == "peer:127.0.0.1"));
}

#[test]
fn the_end_waits_for_what_runs() {
    let text = "slow and steady ".repeat(4);
    let engine = Scripted::following(Script::Slowly(text.clone(), Duration::from_millis(10)));
    let mut running = Running::start(&engine, config());
    let mut plain = running.post(&chat(json!({})));
    let mut stream = running.post(&chat(json!({"stream": true})));
    wait_for("the start", || engine.open() == 2);
    running.stop();
    wait_for("the draining", || engine.draining.load(std::sync::atomic::Ordering::SeqCst));
    assert!(running.get("/ready").starts_with("HTTP/1.1 503"));
    assert!(running.get("/health").starts_with("HTTP/1.1 200"));
    let refused = read_all(&mut running.post(&chat(json!({}))));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after"), "{refused}");
    let plain = read_all(&mut plain);
    assert!(plain.contains(&text), "{plain}");
    let stream = read_all(&mut stream);
    assert!(stream.contains("data: [DONE]"), "{stream}");
    let address = running.address;
    running.ended();
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(engine.cancelled(), 0);
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let mut config = config();
    config.drain_timeout = Duration::from_millis(200);
    let mut running = Running::start(&engine, config);
    let mut stream = running.post(&chat(json!({"stream": true, "max_tokens": 8192})));
    let mut plain = running.post(&chat(json!({"max_tokens": 8192})));
    let _idle = running.connect();
    wait_for("the start", || engine.open() == 2);
    running.stop();
    running.ended();
    wait_for("the cancelling", || engine.open() == 0);
    assert_eq!(engine.cancelled(), 2);
    // Whoever waited is told why nothing follows.
    let plain = read_all(&mut plain);
    assert!(plain.starts_with("HTTP/1.1 503") && plain.contains("shutting_down"), "{plain}");
    let stream = read_all(&mut stream);
    let end = stream.rsplit("data: {").next().unwrap();
    assert!(end.contains("\"code\":\"shutting_down\"") && end.contains("data: [DONE]"), "{end}");
}

#[test]
fn slow_clients_are_let_go() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.limits.header_timeout = Duration::from_millis(200);
    config.limits.body_timeout = Duration::from_millis(200);
    let running = Running::start(&engine, config);
    let mut headers = running.connect();
    write!(headers, "POST {CHAT} HTTP/1.1\r\nhost: x\r\n").unwrap();
    let mut body = running.connect();
    write!(body, "{}{{\"mess", head(1000)).unwrap();
    let mut silent = running.connect();
    assert!(read_all(&mut body).starts_with("HTTP/1.1 408"));
    // hyper says 408 or nothing at all.
    assert!(!read_all(&mut headers).contains("200 OK"));
    assert_eq!(read_all(&mut silent), "");
}

#[test]
fn clients_that_do_not_read_are_let_go() {
    let engine = Scripted::following(Script::Forever(Duration::ZERO));
    let mut config = config();
    config.limits.write_timeout = Duration::from_millis(300);
    config.limits.max_tokens = 1_000_000;
    let running = Running::start(&engine, config);
    let body = chat(json!({"stream": true, "max_tokens": 1_000_000, "logprobs": true,
                           "top_logprobs": 20}));
    let _never_read = running.post(&body);
    wait_for("the start", || engine.open() == 1);
    wait_for("the cancelling", || engine.open() == 0);
    assert_eq!(engine.cancelled(), 1);
}

#[test]
fn headers_have_limits() {
    let engine = Scripted::saying("x");
    let running = Running::start(&engine, config());
    let mut many = running.connect();
    let lines: String = (0..100).map(|i| format!("x-{i}: y\r\n")).collect();
    write!(many, "GET /health HTTP/1.1\r\nhost: x\r\n{lines}\r\n").unwrap();
    assert!(read_all(&mut many).starts_with("HTTP/1.1 431"));
    let mut long = running.connect();
    let value = "y".repeat(100_000);
    // The server may hang up before all of it is sent.
    let _ = write!(long, "GET /health HTTP/1.1\r\nhost: x\r\nx-long: {value}\r\n\r\n");
    let answer = read_all(&mut long);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut nonsense = running.connect();
    write!(nonsense, "\u{1}\u{2}\u{3}\r\n\r\n").unwrap();
    assert!(read_all(&mut nonsense).starts_with("HTTP/1.1 400"));
    assert!(running.get("/health").starts_with("HTTP/1.1 200"));
}

#[test]
fn large_bodies_get_their_answer() {
    let engine = Scripted::saying("x");
    let running = Running::start(&engine, config());
    let body = chat(json!({"user": "u".repeat(10 << 20)}));
    let answer = read_all(&mut running.post(&body));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("body_too_large"));
}

#[test]
fn a_stream_arrives_while_it_is_made() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(5)));
    let running = Running::start(&engine, config());
    let mut stream = running.post(&chat(json!({"stream": true})));
    let mut text = String::new();
    while text.matches("data: {").count() < 3 {
        text += &read_some(&mut stream);
    }
    assert!(text.contains("content-type: text/event-stream"));
    assert_eq!(engine.open(), 1);
}
