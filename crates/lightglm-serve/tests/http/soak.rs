//! Many clients with all kinds of requests, good, bad and given up: nothing leaks, and log and metrics count each
//! request once. `LIGHTGLM_SOAK_REQUESTS` says how many (3000).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lightglm_serve::http::{KeyDigest, Role, Tenant, Tenants};
use serde_json::json;

use crate::client::{CHAT, COMPLETIONS, chat, config};
use crate::logged::{lines, listen};
use crate::loopback::Running;
use crate::scripted::{Script, Scripted, wait_for};

const CLIENTS: usize = 8;

/// What a client does with the answer.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Read,
    /// Hears its beginning and hangs up.
    HangUp,
    /// Sends half of the body and hangs up.
    SendHalf,
}

/// A request of some kind: what is sent, and what becomes of the answer.
fn request(id: &str, kind: usize) -> (String, Then) {
    let post = |path: &str, key: &str, body: String| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\nx-api-key: {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let get = |path: &str, key: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\nx-api-key: {key}\r\n\r\n")
    };
    let streamed = || chat(json!({"stream": true})).to_string();
    match kind % 16 {
        0 | 1 => (post(CHAT, "user", chat(json!({})).to_string()), Then::Read),
        2 | 3 => (post(CHAT, "user", streamed()), Then::Read),
        4 => (post(CHAT, "user", streamed()), Then::HangUp),
        5 => (post(CHAT, "user", chat(json!({"n": 3})).to_string()), Then::SendHalf),
        6 => (
            post(COMPLETIONS, "plain", json!({"prompt": ["a", "b"], "n": 2}).to_string()),
            Then::Read,
        ),
        7 => (post(CHAT, "small", streamed()), Then::Read),
        8 => (post(CHAT, "wrong", streamed()), Then::Read),
        9 => (post(CHAT, "user", "{\"messages\": 1".into()), Then::Read),
        10 => (post(CHAT, "user", chat(json!({"model": "none"})).to_string()), Then::Read),
        11 => {
            (post(COMPLETIONS, "user", json!({"prompt": "x".repeat(9000)}).to_string()), Then::Read)
        }
        12 => (post("/v1/load_lora_adapter", "user", "{\"lora_name\": \"x\"}".into()), Then::Read),
        13 => (get("/nowhere", "user"), Then::Read),
        14 => (get("/v1/models", "plain"), Then::Read),
        _ => (get("/health", ""), Then::Read),
    }
}

/// Reads an answer to its end; `None` where the connection is of no more use.
fn read_answer(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let whole = match length {
                Some(length) => body.len() >= length.parse::<usize>().unwrap(),
                None => body.ends_with("\r\n0\r\n\r\n"),
            };
            if whole {
                return (!head.contains("connection: close")).then(|| text.into_owned());
            }
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

fn client(running: &Running, number: usize, next: &AtomicUsize, most: usize) {
    let mut connection: Option<TcpStream> = None;
    loop {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        if turn >= most {
            return;
        }
        let kind = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20) as usize;
        let (text, then) = request(&format!("soak-{number}-{turn}"), kind);
        // A connection that was closed meanwhile would lose the request: what may be closed is not used again.
        let mut stream = connection.take().unwrap_or_else(|| running.connect());
        let sent = if then == Then::SendHalf { text.len() - 20 } else { text.len() };
        // Where the body is too large the answer may come before all of it is taken.
        let _ = stream.write_all(&text.as_bytes()[..sent]);
        match then {
            Then::Read => connection = read_answer(&mut stream).map(|_| stream),
            Then::HangUp => {
                let _ = stream.read(&mut [0; 64]);
            }
            Then::SendHalf => {}
        }
    }
}

#[test]
fn every_request_is_counted_once_and_nothing_leaks() {
    listen();
    let most = std::env::var("LIGHTGLM_SOAK_REQUESTS").ok().and_then(|it| it.parse().ok());
    let most: usize = most.unwrap_or(3000);
    let engine = Scripted::following(Script::Say("a reply of some length".into()));
    let mut config = config();
    config.limits.body_bytes = 4096;
    config.api_keys = vec!["plain".into()];
    let tenant = |name: &str, change: fn(&mut Tenant)| {
        let mut tenant = Tenant::new(name, KeyDigest::of(name));
        change(&mut tenant);
        tenant
    };
    let tenants = || {
        vec![
            tenant("user", |tenant| tenant.cache_salt = Some("s".into())),
            tenant("small", |tenant| tenant.tokens_per_day = Some(500)),
            tenant("reader", |tenant| tenant.role = Role::Metrics),
        ]
    };
    config.tenants = Tenants::new(tenants()).unwrap();
    let reloaded = config.tenants.clone();
    let mut running = Running::start(&engine, config);
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (running, next) = (&running, &next);
            scope.spawn(move || client(running, number, next, most));
        }
        // The keys are read anew all the while: nobody notices.
        while next.load(Ordering::Relaxed) < most {
            reloaded.replace(tenants()).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let took = begin.elapsed();
    wait_for("the end of all requests", || engine.open() == 0 && lines("soak-").len() >= most);
    let all = lines("soak-");
    let ids: BTreeSet<&str> = all.iter().filter_map(|line| line.get("id").as_str()).collect();
    assert_eq!((all.len(), ids.len()), (most, most), "a line for each");
    let metrics = scrape(&running);
    let sum = |name: &str| {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum::<f64>()
            as usize
    };
    for name in ["lightglm_http_requests_total{", "lightglm_key_requests_total{"] {
        assert_eq!(sum(name), most, "{name}");
    }
    let said =
        |field: &str| all.iter().filter_map(|line| line.get(field).as_u64()).sum::<u64>() as usize;
    let (told, counted) = (said("completion_tokens"), sum("lightglm_key_completion_tokens_total{"));
    // Who hung up did not hear of what was made after that.
    assert!(told > 0 && told <= counted, "{told} of {counted}");
    let status = |status: u64| all.iter().filter(|line| *line.get("status") == status).count();
    for expected in [200, 400, 401, 403, 404, 413, 429] {
        assert!(status(expected) > 0, "{expected}");
    }
    wait_for("the last connections", || scrape(&running).contains("lightglm_connections 1\n"));
    // A permit that was lost would keep the server until its patience ends, which is a minute.
    let end = Instant::now();
    running.stop();
    running.ended();
    assert!(end.elapsed() < Duration::from_secs(10), "a permit was lost");
    println!("{most} requests in {took:.1?}; given up: {}", status(499));
}

fn scrape(running: &Running) -> String {
    let mut stream = running.connect();
    let head = "GET /metrics HTTP/1.1\r\nhost: x\r\nx-api-key: reader\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
