//! Pictures and recordings behind the API.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use lightglm::{LoadOptions, Model, Server, ServerOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::models::{model, wav};

/// A server on a port of its own, for as long as its runtime lives.
pub(crate) fn serve(model: Model) -> (Runtime, SocketAddr) {
    let options = ServerOptions { model_name: Some("it".into()), ..ServerOptions::default() };
    let server = Server::new(model, options).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(server.serve_on(listener, std::future::pending()));
    (runtime, address)
}

fn ask(address: SocketAddr, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
    send(address, "POST", path, kind, body)
}

fn send(address: SocketAddr, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has said no need not read on.
    let _ = stream.write_all(body);
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn chat(address: SocketAddr, content: Value) -> (u16, Value) {
    let message = json!({"role": "user", "content": content});
    let body =
        json!({"messages": [message], "max_tokens": 6, "temperature": 0, "ignore_eos": true});
    let (status, body) =
        ask(address, "/v1/chat/completions", "application/json", body.to_string().as_bytes());
    (status, serde_json::from_str(&body).unwrap())
}

/// What `/v1/models` says that the model reads.
fn modalities(address: SocketAddr) -> Value {
    let (status, body) = send(address, "GET", "/v1/models", "text/plain", b"");
    assert_eq!(status, 200, "{body}");
    let list: Value = serde_json::from_str(&body).unwrap();
    list["data"][0]["architecture"]["input_modalities"].clone()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let all = all << (8 * (3 - three.len()));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            let index = (all >> (18 - 6 * digit)) as usize & 63;
            text.push(if is_there { DIGITS[index] as char } else { '=' });
        }
    }
    text
}

pub(crate) fn data(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lightglm-media/tests/data");
    std::fs::read(folder.join(name)).unwrap()
}

pub(crate) fn image(bytes: &[u8]) -> Value {
    let url = format!("data:image/png;base64,{}", base64(bytes));
    json!({"type": "image_url", "image_url": {"url": url}})
}

pub(crate) fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

#[test]
fn chats_see() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let (_runtime, address) = serve(model);
    assert_eq!(modalities(address), json!(["text", "image"]));
    let png = data("plain.png");
    let (status, first) = chat(address, json!([image(&png), text("what?")]));
    assert_eq!(status, 200, "{first}");
    let tokens = |reply: &Value| reply["usage"]["prompt_tokens"].as_u64().unwrap();
    let (_, plain) = chat(address, json!([text("what?")]));
    assert!(tokens(&first) > tokens(&plain) + 3, "{first}");
    // The same again is found; the same picture in another file format's words is not needed for that.
    let (_, second) = chat(address, json!([image(&png), text("what?")]));
    assert_eq!(second["choices"][0]["message"], first["choices"][0]["message"]);
    let (status, counted) = {
        let body = json!({"messages": [{"role": "user", "content": [image(&png), text("what?")]}]});
        let (status, body) =
            ask(address, "/tokenize", "application/json", body.to_string().as_bytes());
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    assert_eq!((status, counted["count"].as_u64()), (200, Some(tokens(&first))), "{counted}");
    // Told in tokens of the vocabulary.
    let ids = counted["tokens"].as_array().unwrap();
    assert!(ids.iter().all(|id| id.as_u64().unwrap() < 320), "{counted}");
    let (_, metrics) = send(address, "GET", "/metrics", "text/plain", b"");
    let counted = |name: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name}: {metrics}")).parse::<u64>().unwrap()
    };
    assert_eq!(counted("lightglm_media_requests"), 0);
    assert!(counted("lightglm_media_work_seconds_count") > 1);
}

/// Each a 4xx with a code that stays, and nothing of the machine in its words.
#[test]
fn bad_pictures_are_refused_by_name() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let (_runtime, address) = serve(model);
    let png = data("plain.png");
    let url = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let encoded = base64(&png);
    let cases = [
        (json!([url("http://169.254.169.254/latest/meta-data")]), "url_not_allowed"),
        (json!([url("https://example.com/cat.png")]), "url_not_allowed"),
        (json!([url("file:///etc/passwd")]), "url_not_allowed"),
        (json!([url("/etc/passwd")]), "url_not_allowed"),
        (json!([url("\\\\host\\share\\cat.png")]), "url_not_allowed"),
        (json!([url(&format!("data:image/png,{encoded}"))]), "invalid_data_uri"),
        (json!([url(&format!("data:text/html;base64,{encoded}"))]), "invalid_data_uri"),
        (json!([url("data:image/png;base64,aGk")]), "invalid_base64"),
        (json!([image(b"GIF89a......")]), "unsupported_media"),
        (json!([image(b"<svg xmlns='http://www.w3.org/2000/svg'/>")]), "unsupported_media"),
        (json!([image(&png[..png.len() / 2])]), "damaged_media"),
        (
            json!([{"type": "input_audio", "input_audio": {"data": base64(&wav(1.0, 8000)), "format": "wav"}}]),
            "media_not_taken",
        ),
        (Value::Array(vec![image(&png); 33]), "too_many_media"),
        (Value::Array(vec![json!({"type": "image_url"}); 10_000]), "invalid_value"),
        (json!([{"type": "video_url", "video_url": {"url": "x"}}]), "invalid_value"),
    ];
    for (content, code) in cases {
        let said = content.to_string();
        let said = &said[..said.len().min(80)];
        let (status, reply) = chat(address, content.clone());
        let error = &reply["error"];
        assert_eq!((status, error["code"].as_str()), (400, Some(code)), "{said}: {reply}");
        let message = error["message"].as_str().unwrap();
        assert!(
            !message.contains("0x") && !message.contains("passwd") && !message.contains("/work"),
            "{message}"
        );
        assert!(error["param"].as_str().unwrap().starts_with("messages"), "{reply}");
    }
    let of_system = json!({"messages": [{"role": "system", "content": [image(&png)]}]});
    let (status, _) =
        ask(address, "/v1/chat/completions", "application/json", of_system.to_string().as_bytes());
    assert_eq!(status, 400);
    // After all of that it sees as before.
    assert_eq!(chat(address, json!([image(&png), text("what?")])).0, 200);
}

#[test]
fn more_rows_than_the_context_are_refused_before_they_are_encoded() {
    let short = LoadOptions { max_context: Some(64), ..LoadOptions::default() };
    let Some((_folder, model)) = model("glm4v", short) else { return };
    let store = model.media().unwrap().clone();
    let (_runtime, address) = serve(model);
    let (status, reply) = chat(address, Value::Array(vec![image(&data("plain.png")); 9]));
    assert_eq!(
        (status, &reply["error"]["code"]),
        (400, &json!("context_length_exceeded")),
        "{reply}"
    );
    assert_eq!(store.stats().encoded, 0);
}

#[test]
fn a_model_of_text_says_so() {
    let model = Model::open(lightglm::DEFAULT_MODEL, LoadOptions::default()).unwrap();
    let (_runtime, address) = serve(model);
    assert_eq!(modalities(address), json!(["text"]));
    let (status, reply) = chat(address, json!([image(&data("plain.png")), text("what?")]));
    assert_eq!((status, &reply["error"]["code"]), (400, &json!("media_not_taken")), "{reply}");
    let (status, reply) = transcribe(address, &[], &wav(1.0, 8000));
    assert!(status == 400 && reply.contains("media_not_taken"), "{reply}");
}

fn transcribe(address: SocketAddr, fields: &[(&str, &str)], file: &[u8]) -> (u16, String) {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    body.extend(
        b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n",
    );
    body.extend_from_slice(file);
    body.extend(b"\r\n--edge--\r\n");
    ask(address, "/v1/audio/transcriptions", "multipart/form-data; boundary=edge", &body)
}

#[test]
fn recordings_are_written_down() {
    let Some((_folder, model)) = model("glmasr", LoadOptions::default()) else { return };
    let (_runtime, address) = serve(model);
    assert_eq!(modalities(address), json!(["text", "audio"]));
    let tone = wav(1.3, 8000);
    let short = [("model", "it"), ("temperature", "0"), ("response_format", "json")];
    let (status, reply) = transcribe(address, &short, &tone);
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(status, 200, "{reply}");
    assert!(reply["text"].is_string() && reply["segments"].is_null());
    let (_, verbose) = transcribe(
        address,
        &[("response_format", "verbose_json"), ("language", "en")],
        &wav(70.0, 8000),
    );
    let verbose: Value = serde_json::from_str(&verbose).unwrap();
    let segments = verbose["segments"].as_array().unwrap();
    assert!(segments.len() >= 3 && verbose["language"] == "en", "{verbose}");
    assert!((verbose["duration"].as_f64().unwrap() - 70.0).abs() < 1e-3);
    let (_, srt) = transcribe(address, &[("response_format", "srt")], &tone);
    assert!(srt.starts_with("1\n00:00:00,000 --> 00:00:01,300\n"), "{srt}");
    let (_, vtt) = transcribe(address, &[("response_format", "vtt")], &tone);
    assert!(vtt.starts_with("WEBVTT\n\n00:00:00.000 --> 00:00:01.300\n"), "{vtt}");
    let (status, stream) = transcribe(address, &[("stream", "true")], &tone);
    assert!(status == 200 && stream.contains("transcript.text.done"), "{stream}");
    // In a chat too.
    let audio =
        json!({"type": "input_audio", "input_audio": {"data": base64(&tone), "format": "wav"}});
    assert_eq!(chat(address, json!([audio, text("what is said?")])).0, 200);
    let none: &[(&str, &str)] = &[];
    let bad = [
        (none, b"not a recording".to_vec(), "unsupported_media"),
        (none, tone[..20].to_vec(), "damaged_media"),
        (none, wav(0.001, 8000), "recording_too_short"),
        (&[("response_format", "xml")], tone.clone(), "invalid_value"),
        (&[("n", "2")], tone.clone(), "invalid_value"),
        (none, data("plain.png"), "unsupported_media"),
    ];
    for (fields, file, code) in bad {
        let (status, reply) = transcribe(address, fields, &file);
        assert!(status == 400 && reply.contains(code), "{code}: {status} {reply}");
    }
    let (status, _) = ask(address, "/v1/audio/transcriptions", "application/json", b"{}");
    assert_eq!(status, 400);
}
