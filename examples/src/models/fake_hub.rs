//! A hub on this machine, for tests.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{HubSettings, PipCommand, ResolveOptions};

/// The commit that every repository is at.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Answers as the hub does, and remembers what it was asked.
pub(super) struct FakeHub {
    pub(super) endpoint: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// Answers everything with this status.
    status: Option<u16>,
    /// Breaks the first answers with this file off in the middle.
    broken: Option<(String, usize)>,
    requests: Vec<String>,
    authorizations: Vec<String>,
}

impl FakeHub {
    /// A hub with one repository, `owner/name`.
    pub(super) fn with_files(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        Self::start(State { files, ..State::default() })
    }

    pub(super) fn with_status(status: u16) -> Self {
        Self::start(State { status: Some(status), ..State::default() })
    }

    fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &shared);
            }
        });
        Self { endpoint, state }
    }

    pub(super) fn break_off(&self, file: &str, times: usize) {
        self.state.lock().unwrap().broken = Some((file.to_owned(), times));
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(super) fn authorizations(&self) -> Vec<String> {
        self.state.lock().unwrap().authorizations.clone()
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        headers.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut state = state.lock().unwrap();
    state.requests.push(path.clone());
    state.authorizations.extend(header("authorization"));
    if let Some(status) = state.status {
        return send(&mut stream, status, "", b"", 0);
    }
    if path.starts_with("/api/models/owner/name/revision/") {
        let siblings: Vec<_> =
            state.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return send(&mut stream, 200, "content-type: application/json\r\n", body.as_bytes(), 0);
    }
    let name = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(file) = state.files.get(name).cloned() else {
        return send(&mut stream, 404, "", b"", 0);
    };
    let range = header("range").unwrap_or_default();
    let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap_or(0);
    let last: usize = last.parse().map_or(file.len(), |last: usize| (last + 1).min(file.len()));
    let body = &file[first.min(last)..last];
    let mut lost = 0;
    if let Some((broken, times)) = &mut state.broken
        && broken == name
        && *times > 0
        && body.len() > 1
    {
        *times -= 1;
        lost = body.len() / 2;
    }
    let etag: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let headers = format!(
        "etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-range: bytes {first}-{}/{}\r\n",
        last.saturating_sub(1),
        file.len()
    );
    send(&mut stream, 206, &headers, body, lost);
}

/// Sends all of `body` but its last `lost` bytes.
fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8], lost: usize) {
    let head = format!(
        "HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A client that went away is no failure of the hub.
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(&body[..body.len() - lost]).ok();
}

/// Options that use nothing but `folder` and `endpoint`.
pub(super) fn options(endpoint: &str, folder: &Path) -> ResolveOptions {
    ResolveOptions {
        offline: false,
        progress: false,
        hub: HubSettings {
            endpoint: endpoint.to_owned(),
            cache_dir: folder.join("hub"),
            token: None,
            offline: false,
            timeout: Duration::from_secs(20),
        },
        cache_dir: folder.join("own"),
        pip: vec![PipCommand(vec!["no-such-program-as-this".to_owned()])],
    }
}
