//! Many clients that do nothing, or little: others are served all the same.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use lightglm_serve::http::ServerConfig;
use serde_json::json;

use crate::client::{CHAT, chat, config};
use crate::loopback::{Running, head, read_all, read_some};
use crate::scripted::{Script, Scripted, wait_for};

/// Places, of 1,024 descriptors some 850; and clients, more than there are places.
const PLACES: usize = 24;
const CLIENTS: usize = 60;

/// What a probe may take.
const SOON: Duration = Duration::from_millis(100);

fn few_places() -> ServerConfig {
    let mut config = config();
    config.limits.connections = PLACES;
    config.limits.connections_per_address = PLACES * 3 / 4;
    config
}

/// Clients that send `begin` and then a byte at a time.
struct Flood {
    over: Arc<AtomicBool>,
    clients: Option<JoinHandle<()>>,
}

impl Flood {
    fn of(running: &Running, begin: impl Fn(&mut TcpStream), drip: Option<u8>) -> Self {
        let clients = (0..CLIENTS).map(|_| {
            let mut client = TcpStream::connect(running.address).unwrap();
            begin(&mut client);
            client
        });
        let mut clients: Vec<_> = clients.collect();
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let clients = spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(50));
                for client in &mut clients {
                    // Some have been closed.
                    let _ = drip.map(|byte| client.write_all(&[byte]));
                }
            }
        });
        Self { over, clients: Some(clients) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.clients.take().map(JoinHandle::join);
    }
}

fn is_served(running: &Running, kind: &str) {
    // The machine may be busy with something else for a moment.
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let begin = Instant::now();
            let health = running.get("/health");
            assert!(health.starts_with("HTTP/1.1 200"), "{kind}: {health}");
            begin.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[2] < SOON, "{kind}: {times:?}");
    for _ in 0..3 {
        let answer = read_all(&mut running.post(&chat(json!({}))));
        assert!(answer.starts_with("HTTP/1.1 200"), "{kind}: {answer}");
    }
}

#[test]
fn clients_that_do_little_leave_room() {
    let never_read =
        "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20);
    let slow_body = format!("{}{{", head(1000));
    let kinds: [(&str, Option<u8>); 7] = [
        ("", None),
        ("GET /hea", Some(b'l')),
        ("\r\n", Some(b'\n')),
        ("POST / HTTP/1.1\r\nhost: localhost\r\nx-slow: ", Some(b'x')),
        (&slow_body, Some(b' ')),
        ("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n", None),
        (&never_read, None),
    ];
    for (begin, drip) in kinds {
        let running = Running::start(&Scripted::saying("hello"), few_places());
        let send = |client: &mut TcpStream| {
            // Those that are closed early do not take it.
            let _ = client.write_all(begin.as_bytes());
        };
        let flood = Flood::of(&running, send, drip);
        // A probe is answered from the first moment on; others when it shows who is slow.
        assert!(running.get("/health").starts_with("HTTP/1.1 200"), "{begin}");
        sleep(Duration::from_millis(if begin.contains("swagger") { 2500 } else { 600 }));
        is_served(&running, &begin[..begin.len().min(60)]);
        drop(flood);
    }
}

#[test]
fn half_closed_clients_leave_room() {
    let running = Running::start(&Scripted::saying("hello"), few_places());
    let close = |client: &mut TcpStream| client.shutdown(Shutdown::Write).unwrap();
    let _flood = Flood::of(&running, close, None);
    is_served(&running, "half closed");
}

#[test]
fn replies_are_not_closed_for_others() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(5)));
    let running = Running::start(&engine, few_places());
    let body = chat(json!({"stream": true, "max_tokens": 1_000_000}));
    let mut streams: Vec<_> = (0..4).map(|_| running.post(&body)).collect();
    wait_for("the start", || engine.open() == 4);
    let _flood = Flood::of(&running, |_| {}, None);
    sleep(Duration::from_millis(300));
    for stream in &mut streams {
        let mut text = String::new();
        while text.matches("data: {").count() < 3 {
            text += &read_some(stream);
        }
    }
    assert_eq!((engine.open(), engine.cancelled()), (4, 0));
}

#[test]
fn probes_are_answered_beside_a_full_house() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(5)));
    let mut config = config();
    config.limits.connections = 2;
    let mut running = Running::start(&engine, config);
    let body = chat(json!({"stream": true, "max_tokens": 1_000_000}));
    let _streams = [running.post(&body), running.post(&body)];
    wait_for("the start", || engine.open() == 2);
    for path in ["/health", "/ready"] {
        let begin = Instant::now();
        let answer = running.get(path);
        assert!(answer.starts_with("HTTP/1.1 200") && begin.elapsed() < SOON * 5, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let refused = read_all(&mut running.post(&chat(json!({}))));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("connection_limit"), "{refused}");
    running.stop();
}

#[test]
fn idle_and_slow_are_told_apart() {
    let mut config = config();
    config.limits.keep_alive_timeout = Duration::from_millis(1200);
    config.limits.header_timeout = Duration::from_millis(200);
    let running = Running::start(&Scripted::saying("x"), config);
    let mut client = running.connect();
    for _ in 0..3 {
        // Longer than a head may take.
        sleep(Duration::from_millis(400));
        write!(client, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        assert!(read_some(&mut client).starts_with("HTTP/1.1 200"));
    }
    let begin = Instant::now();
    write!(client, "GET /hea").unwrap();
    assert!(!read_all(&mut client).contains("200 OK"));
    assert!(begin.elapsed() < Duration::from_millis(1000), "{:?}", begin.elapsed());
    let begin = Instant::now();
    assert_eq!(read_all(&mut running.connect()), "");
    assert!(begin.elapsed() > Duration::from_millis(1100), "{:?}", begin.elapsed());
}

#[test]
fn slow_bodies_take_no_place_of_a_request() {
    let engine = Scripted::saying("hello");
    let mut config = config();
    config.limits.concurrent_requests = 1;
    let running = Running::start(&engine, config);
    let slow: Vec<_> = (0..5)
        .map(|_| {
            let mut slow = running.connect();
            write!(slow, "{}{{", head(1000)).unwrap();
            slow
        })
        .collect();
    sleep(Duration::from_millis(50));
    assert!(read_all(&mut running.post(&chat(json!({})))).starts_with("HTTP/1.1 200"));
    drop(slow);
}

#[test]
fn bodies_that_arrive_are_bounded_together() {
    let mut config = config();
    (config.limits.body_bytes, config.limits.arriving_bytes) = (192 << 10, 128 << 10);
    let running = Running::start(&Scripted::saying("hello"), config);
    let large = chat(json!({"user_data": "u".repeat(190 << 10)})).to_string();
    let refused = || {
        let answer = read_all(&mut running.post(&serde_json::from_str(&large).unwrap()));
        answer.starts_with("HTTP/1.1 429") && answer.contains("concurrency_limit")
    };
    let begin = Instant::now();
    let mut slow = loop {
        let mut slow = running.connect();
        write!(slow, "{}{}", head(large.len()), &large[..large.len() - 10]).unwrap();
        sleep(Duration::from_millis(100));
        // Where the second came first, the slow one was refused: once more.
        if refused() {
            break slow;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing is refused");
    };
    assert!(read_all(&mut running.post(&chat(json!({})))).starts_with("HTTP/1.1 200"));
    write!(slow, "{}", &large[large.len() - 10..]).unwrap();
    assert!(read_all(&mut slow).starts_with("HTTP/1.1 200"));
    assert!(!refused());
}

#[test]
fn where_no_request_is_taken_no_body_is_read() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let mut config = config();
    config.limits.concurrent_requests = 1;
    let running = Running::start(&engine, config);
    let _runs = running.post(&chat(json!({"stream": true, "max_tokens": 1_000_000})));
    wait_for("the start", || engine.open() == 1);
    // It waits to be asked for its body, and is not.
    let mut client = running.connect();
    let head = "host: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue";
    write!(client, "POST {CHAT} HTTP/1.1\r\n{head}\r\ncontent-length: 1000\r\n\r\n").unwrap();
    assert!(read_some(&mut client).starts_with("HTTP/1.1 429"));
}
