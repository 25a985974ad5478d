//! What broke other servers: each advisory, and what comes of the same here.
//!
//! Elsewhere: CVE-2025-46722 (pictures told apart by their bytes without their size) in
//! `doors::pictures_that_differ_share_no_block_behind_them`; GHSA-8jr5-v98p-w75m (orientation and tRNS) in
//! lightglm-media's tests of pictures; GHSA-rm76-4mrf-v9r8 and chosen collisions of picture hashes in lightglm-generation's of the
//! ledger, which allots ids; typed placeholders in `chat`.

use std::net::TcpListener;

use lightglm::LoadOptions;
use serde_json::{Value, json};

use crate::api::{base64, chat, data, image, serve, text};
use crate::models::model;

/// One red pixel, 200 and 201 of them above each other.
const NARROW: [&str; 3] = [
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4IScHAAK2AQUKW6YGAAAAAElFTkSuQmCC",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAADICAIAAACmkByiAAAAFklEQVR42mM4ISfHxMDAMIpH8SjGxACcbQKT5dCAFAAAAABJRU5ErkJggg==",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAADJCAIAAABtzM8HAAAAFklEQVR42mM4ISfHxMDAMIpH8SjGjgGmwQKV0OSZWgAAAABJRU5ErkJggg==",
];

fn url(url: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": url}})
}

/// Whether an answer is a reply, or an error of the client's in words that tell nothing of the server.
fn is_harmless(status: u16, reply: &Value) -> bool {
    if status == 200 {
        return true;
    }
    let error = &reply["error"];
    let message = error["message"].as_str().unwrap_or("/");
    (400..500).contains(&status)
        && error["code"].is_string()
        && !message.contains("0x")
        && !message.contains('/')
}

/// vLLM: a decoder's error text leaked an address, and JPEG 2000 was decoded.
#[test]
fn cve_2026_22778_errors_of_decoders_tell_no_address() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let (_runtime, address) = serve(model);
    let jpeg2000 = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 ";
    let (status, reply) = chat(address, json!([image(jpeg2000)]));
    assert_eq!((status, &reply["error"]["code"]), (400, &json!("unsupported_media")), "{reply}");
    let mut refused = 0;
    for name in ["plain.png", "palette.png", "baseline.jpg", "progressive.jpg", "lossy.webp"] {
        let whole = data(name);
        for part in 1..6 {
            let mut garbled = whole.clone();
            let at = whole.len() * part / 6;
            garbled[at..].iter_mut().for_each(|byte| *byte ^= 0x5a);
            for bytes in [&garbled[..], &whole[..at]] {
                let (status, reply) = chat(address, json!([image(bytes)]));
                assert!(is_harmless(status, &reply), "{name} {part}: {status} {reply}");
                refused += usize::from(status != 200);
            }
        }
    }
    assert!(refused > 25, "{refused}");
    assert_eq!(chat(address, json!([image(&data("plain.png"))])).0, 200);
}

/// vLLM: a picture of one pixel ended the server.
#[test]
fn cve_2026_22773_one_pixel_ends_nothing() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let (_runtime, address) = serve(model);
    for narrow in NARROW {
        let content = json!([url(&format!("data:image/png;base64,{narrow}")), text("what?")]);
        let (status, reply) = chat(address, content);
        assert!(is_harmless(status, &reply), "{status} {reply}");
        assert_eq!(chat(address, json!([text("what?")])).0, 200);
    }
}

/// vLLM: addresses of the inner network were fetched, then again where two parsers read a URL differently; mistral.rs #1919: files
/// and bare paths as well.
#[test]
fn cve_2026_24779_ghsa_3f6c_7fw2_ppm4_nothing_is_fetched() {
    let Some((folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let (_runtime, address) = serve(model);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let file = folder.path().join("here.png");
    std::fs::write(&file, data("plain.png")).unwrap();
    let file = file.to_str().unwrap();
    let urls = [
        format!("http://127.0.0.1:{port}/a.png"),
        format!("HTTP://127.0.0.1:{port}/a.png"),
        format!("https://127.0.0.1:{port}/a.png"),
        format!("http://example.com\\@127.0.0.1:{port}/a.png"),
        format!("http:\\\\127.0.0.1:{port}\\a.png"),
        format!("http://2130706433:{port}/a.png"),
        format!("http://[::ffff:127.0.0.1]:{port}/a.png"),
        format!(" http://127.0.0.1:{port}/a.png"),
        format!("ht\ttp://127.0.0.1:{port}/a.png"),
        format!("//127.0.0.1:{port}/a.png"),
        format!("data:image/png;base64@http://127.0.0.1:{port}/a.png"),
        format!("file://{file}"),
        format!("FILE://localhost{file}"),
        file.to_owned(),
        format!("\\\\127.0.0.1@{port}\\share\\a.png"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "gopher://127.0.0.1/".to_owned(),
    ];
    for given in urls {
        let (status, reply) = chat(address, json!([url(&given)]));
        let code = reply["error"]["code"].as_str();
        assert_eq!(status, 400, "{given}: {reply}");
        assert!(matches!(code, Some("url_not_allowed" | "invalid_data_uri")), "{given}: {reply}");
    }
    let nobody = listener.accept().map(drop).unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

/// vLLM: one URI held as many frames as one liked, separated by commas.
#[test]
fn cve_2026_34755_cve_2026_5497_a_uri_is_one_picture() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let (_runtime, address) = serve(model);
    let frame = base64(&data("plain.png"));
    let frames = vec![frame.as_str(); 10_000].join(",");
    for (kind, code) in [("image/png", "invalid_base64"), ("video/jpeg", "invalid_data_uri")] {
        let (status, reply) = chat(address, json!([url(&format!("data:{kind};base64,{frames}"))]));
        assert_eq!((status, reply["error"]["code"].as_str()), (400, Some(code)), "{reply}");
    }
    assert_eq!(chat(address, json!([image(&data("plain.png"))])).0, 200);
}
