//! A hub on this machine, for tests: both hubs in one.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{
    Hub, HuggingFaceSettings, ModelScopeSettings, PipCommand, ProgressCallback, ResolveOptions,
};

/// The commit that every repository is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Answers as the hub does, and remembers what it was asked.
pub(crate) struct FakeHub {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// Answers everything with this status.
    status: Option<u16>,
    /// Breaks the first answers with this file off in the middle.
    broken: Option<(String, usize)>,
    /// ModelScope's list of files, instead of the right one.
    listing: Option<String>,
    /// Answers with whole files where parts are asked for.
    ignores_ranges: bool,
    requests: Vec<String>,
    authorizations: Vec<String>,
}

impl FakeHub {
    /// A hub with one repository, `owner/name`.
    pub(crate) fn with_files(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        Self::start(State { files, ..State::default() })
    }

    pub(crate) fn with_status(status: u16) -> Self {
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

    pub(crate) fn break_off(&self, file: &str, times: usize) {
        self.state.lock().unwrap().broken = Some((file.to_owned(), times));
    }

    /// Puts a file into the repository, or another content into the file.
    pub(crate) fn put(&self, file: &str, content: &[u8]) {
        self.state.lock().unwrap().files.insert(file.to_owned(), content.to_vec());
    }

    /// Answers with `listing` where ModelScope's list of files is asked for.
    pub(crate) fn lie_about_files(&self, listing: &str) {
        self.state.lock().unwrap().listing = Some(listing.to_owned());
    }

    pub(crate) fn ignore_ranges(&self) {
        self.state.lock().unwrap().ignores_ranges = true;
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(crate) fn authorizations(&self) -> Vec<String> {
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
    if path == "/api/v1/models/owner/name/repo/files?Revision=master&Recursive=true" {
        let body = state.listing.clone().unwrap_or_else(|| model_scope_listing(&state.files));
        return send(&mut stream, 200, "content-type: application/json\r\n", body.as_bytes(), 0);
    }
    let name = path
        .strip_prefix(&format!("/owner/name/resolve/{COMMIT}/"))
        .or_else(|| path.strip_prefix("/models/owner/name/resolve/master/"))
        .unwrap_or_default();
    let Some(file) = state.files.get(name).cloned() else {
        return send(&mut stream, 404, "", b"", 0);
    };
    let range = header("range").filter(|_| !state.ignores_ranges).unwrap_or_default();
    let status = if range.is_empty() { 200 } else { 206 };
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
    send(&mut stream, status, &headers, body, lost);
}

fn model_scope_listing(files: &HashMap<String, Vec<u8>>) -> String {
    let file = |(name, content): (&String, &Vec<u8>)| {
        let hash: String =
            Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::json!({ "Path": name, "Type": "blob", "Size": content.len(), "Sha256": hash })
    };
    let mut listed: Vec<_> = files.iter().map(file).collect();
    listed.push(serde_json::json!({ "Path": "folder", "Type": "tree", "Size": 0, "Sha256": "" }));
    serde_json::json!({ "Code": 200, "Data": { "Files": listed }, "Success": true }).to_string()
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
pub(crate) fn options(endpoint: &str, folder: &Path) -> ResolveOptions {
    ResolveOptions {
        offline: false,
        progress: ProgressCallback::default(),
        default_hub: Hub::HuggingFace,
        hugging_face: HuggingFaceSettings {
            endpoint: endpoint.to_owned(),
            cache_dir: folder.join("hub"),
            token: None,
            offline: false,
            timeout: Duration::from_secs(20),
        },
        model_scope: ModelScopeSettings {
            endpoint: endpoint.to_owned(),
            cache_dir: folder.join("own/modelscope"),
            token: None,
            timeout: Duration::from_secs(20),
        },
        cache_dir: folder.join("own"),
        pip: vec![PipCommand(vec!["no-such-program-as-this".to_owned()])],
    }
}
