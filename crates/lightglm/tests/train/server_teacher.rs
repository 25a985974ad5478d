//! A teacher behind a server that follows a script: what is sent, what is made of answers, and what goes wrong.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lightglm::training::generations::{GenerationOptions, Generations, generate_rows, prompts};
use lightglm::training::server_teacher::{ServerTeacher, ServerTeacherError, ServerTeacherOptions};
use lightglm::training::{
    DistillConfig, Example, Method, ReadOptions, TrainConfig, TrainEvent, TrainingModel,
    read_examples,
};
use lightglm::{Error, SamplingParams};
use lightglm_text::ChatText;
use serde_json::{Value, json};

use crate::checkpoint_folder::{rows, write_model};

/// What the server does with a request.
enum Step {
    /// Answers with a status, headers and a body.
    Say(&'static str, &'static str, String),
    /// Says nothing until the client goes away.
    Hang,
    /// Says so many bytes, without telling how many before.
    Flood(usize),
    /// Hangs up at once.
    HangUp,
}

fn ok(body: Value) -> Step {
    Step::Say("200 OK", "", body.to_string())
}

fn completion(text: &str, finish: &str) -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}]})
}

/// A server that takes one step a connection; joined, it gives the requests: head and body.
struct Server {
    url: String,
    steps: JoinHandle<Vec<(String, Value)>>,
}

impl Server {
    fn follow(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let steps = std::thread::spawn(move || {
            steps.into_iter().map(|step| take(listener.accept().unwrap().0, step)).collect()
        });
        Self { url, steps }
    }

    fn requests(self) -> Vec<(String, Value)> {
        self.steps.join().unwrap()
    }
}

fn take(mut stream: TcpStream, step: Step) -> (String, Value) {
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    let (head, body) = loop {
        let read = stream.read(&mut piece).unwrap();
        heard.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&heard).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    match step {
        Step::Say(status, headers, body) => {
            let reply = format!(
                "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(reply.as_bytes()).unwrap();
        }
        Step::Hang => while stream.read(&mut piece).is_ok_and(|read| read > 0) {},
        Step::Flood(bytes) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            for _ in 0..bytes / 1024 {
                if stream.write_all(&[b' '; 1024]).is_err() {
                    break;
                }
            }
        }
        Step::HangUp => {}
    }
    (head, serde_json::from_str(&body).unwrap())
}

/// One request at a time, so that answers come in the order of the script.
fn patient(url: &str) -> ServerTeacherOptions {
    ServerTeacherOptions {
        parallel: 1,
        backoff: Duration::from_millis(5),
        api_key: Some("secret".to_owned()),
        timeout: Duration::from_secs(20),
        ..ServerTeacherOptions::new(url, "large")
    }
}

/// Asks the first `count` rows' questions.
fn generate(
    folder: &Path,
    options: ServerTeacherOptions,
    count: usize,
) -> Result<Generations, Error> {
    let examples: Vec<Example> = rows(folder).examples;
    let mut asked = prompts(&examples);
    asked.truncate(count);
    let sampling =
        SamplingParams { temperature: 0.7, max_tokens: 9, seed: 5, ..Default::default() };
    let generation = GenerationOptions { sampling, resume: true, ..GenerationOptions::default() };
    generate_rows(&ServerTeacher::new(options)?, &asked, folder.join("answers.jsonl"), &generation)
}

fn failure(steps: Vec<Step>, change: impl FnOnce(&mut ServerTeacherOptions)) -> ServerTeacherError {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::follow(steps);
    let mut options = patient(&server.url);
    change(&mut options);
    let error = generate(folder.path(), options, 1).unwrap_err();
    let url = format!("{}/v1/chat/completions", server.url);
    server.requests();
    assert!(error.to_string().starts_with(&url), "{error}");
    let Error::TeacherServer(error) = error else { panic!("{error}") };
    assert!(!format!("{error:?}").contains("secret"));
    error
}

#[test]
fn a_busy_server_is_asked_again_and_its_text_becomes_rows() {
    let folder = tempfile::tempdir().unwrap();
    let busy = |wait| Step::Say("429 Too Many Requests", wait, "{}".to_owned());
    let server = Server::follow(vec![
        busy("Retry-After: 0.2\r\n"),
        Step::Say("503 Service Unavailable", "", "later".to_owned()),
        Step::HangUp,
        ok(completion("on its way", "stop")),
        Step::Say("400 Bad Request", "", "too long".to_owned()),
        ok(completion("in the sh", "length")),
        ok(completion("in the shop", "stop")),
    ]);
    let begun = Instant::now();
    let outcome = generate(folder.path(), patient(&format!("{}/v1/", server.url)), 4).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!((outcome.written, outcome.with_logprobs, outcome.cut), (2, 0, 1));
    assert!(outcome.refused[0].1.contains("status 400: too long"), "{outcome:?}");
    let requests = server.requests();
    assert_eq!(requests.len(), 7);
    let (head, body) = &requests[3];
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer secret"), "{head}");
    assert_eq!(body["model"], "large");
    assert_eq!(body["messages"], json!([{"role": "user", "content": "Where is parcel 0?"}]));
    assert_eq!((&body["max_tokens"], &body["logprobs"]), (&json!(9), &json!(true)));
    assert_eq!(body["top_logprobs"], 20);
    // The same question, the same seed; another question, another one.
    assert_eq!(requests[0].1, *body);
    assert_ne!(requests[4].1["seed"], body["seed"]);
    let read = read_examples(folder.path().join("answers.jsonl"), &ReadOptions::default()).unwrap();
    let answers: Vec<&str> =
        read.examples.iter().map(|row| row.conversation().unwrap().answer()).collect();
    assert_eq!(answers, ["on its way", "in the shop"]);
}

#[test]
fn what_goes_wrong_names_address_and_status() {
    let once = |options: &mut ServerTeacherOptions| options.retries = 0;
    let say = |status, body: &str| Step::Say(status, "", body.to_owned());
    let refused = failure(vec![say("401 Unauthorized", "no such key")], |_| ());
    assert!(
        matches!(&refused, ServerTeacherError::Status { status: 401, message, .. } if message == "no such key")
    );
    let busy = failure(vec![say("500 Oh", ""), say("502 No", "")], |options| options.retries = 1);
    assert!(matches!(busy, ServerTeacherError::Status { status: 502, .. }), "{busy}");
    let moved = Step::Say("307 Moved", "Location: http://127.0.0.1:9/\r\n", String::new());
    let moved = failure(vec![moved], once);
    assert!(matches!(moved, ServerTeacherError::Status { status: 307, .. }), "{moved}");
    for malformed in ["", "nothing", "{\"choices\": []}", "{\"choices\": [{}]}", "[1, 2"] {
        let error = failure(vec![say("200 OK", malformed)], |_| ());
        assert!(matches!(error, ServerTeacherError::Malformed { status: 200, .. }), "{error}");
    }
    let wait = Duration::from_millis(300);
    let hung = failure(vec![Step::Hang], |options| (options.retries, options.timeout) = (0, wait));
    assert!(
        matches!(hung, ServerTeacherError::Timeout { timeout, .. } if timeout == wait),
        "{hung}"
    );
    let gone = failure(vec![Step::HangUp], once);
    assert!(matches!(gone, ServerTeacherError::Unreachable { .. }), "{gone}");
    let small = |options: &mut ServerTeacherOptions| options.max_body = 10_000;
    let told = failure(vec![say("200 OK", &" ".repeat(20_000))], small);
    assert!(matches!(told, ServerTeacherError::TooLarge { limit: 10_000, .. }), "{told}");
    let untold = failure(vec![Step::Flood(50_000_000)], small);
    assert!(matches!(untold, ServerTeacherError::TooLarge { limit: 10_000, .. }), "{untold}");
    for address in ["", "127.0.0.1:8000", "ftp://127.0.0.1", "http://"] {
        let error = ServerTeacher::new(ServerTeacherOptions::new(address, "m")).err().unwrap();
        assert!(matches!(error, ServerTeacherError::Request { .. }), "{error}");
    }
    assert!(!format!("{:?}", patient("http://x")).contains("secret"));
}

#[test]
fn a_server_that_refuses_logprobs_is_asked_without() {
    let folder = tempfile::tempdir().unwrap();
    let refused = "{\"error\": {\"message\": \"logprobs are not supported\"}}".to_owned();
    let server = Server::follow(vec![
        Step::Say("400 Bad Request", "", refused),
        ok(completion("a", "stop")),
        ok(completion("b", "stop")),
    ]);
    let outcome = generate(folder.path(), patient(&server.url), 2).unwrap();
    assert_eq!((outcome.written, outcome.with_logprobs), (2, 0));
    let requests = server.requests();
    assert!(requests[1..].iter().all(|(_, body)| body.get("logprobs").is_none()));
}

/// Requests go out together, and rows stand in the order of their questions.
#[test]
fn several_requests_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        // All three are here before one is answered, and the last is answered first.
        let mut streams: Vec<TcpStream> = (0..3).map(|_| listener.accept().unwrap().0).collect();
        while let Some(stream) = streams.pop() {
            let step = ok(completion("yes", "stop"));
            take(stream, step);
        }
    });
    let options = ServerTeacherOptions { parallel: 3, ..patient(&url) };
    assert_eq!(generate(folder.path(), options, 3).unwrap().written, 3);
    server.join().unwrap();
    let rows = fs::read_to_string(folder.path().join("answers.jsonl")).unwrap();
    let prompts: Vec<Value> = rows
        .lines()
        .map(|row| serde_json::from_str::<Value>(row).unwrap()["teacher"]["prompt"].clone())
        .collect();
    assert_eq!(prompts, [0, 1, 2]);
}

/// The log-probabilities of `text` as a server has them that cuts it as `cut` does.
fn with_logprobs(text: &str, cut: &[Vec<u8>]) -> Value {
    let entry = |bytes: &Vec<u8>, logprob: f64| {
        let token = String::from_utf8_lossy(bytes);
        json!({"token": token, "bytes": bytes, "logprob": logprob})
    };
    let tokens = cut.iter().map(|bytes| {
        let mut token = entry(bytes, -0.2);
        // An alternative that the student has, and one that it has not.
        token["top_logprobs"] = json!([
            entry(bytes, -0.2),
            entry(&b"e".to_vec(), -2.5),
            entry(&b"quite another".to_vec(), -3.0),
        ]);
        token
    });
    let mut body = completion(text, "stop");
    body["choices"][0]["logprobs"] = json!({"content": tokens.collect::<Vec<_>>()});
    body
}

#[test]
fn likeliest_tokens_teach_where_they_are_the_students() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let student = TrainingModel::open(&base, Method::Full).unwrap();
    let own_cut = |said: &str| {
        let tokens = student.text().encode(said).unwrap();
        let bytes = |token| student.text().token_bytes(token).unwrap().to_vec();
        tokens.into_iter().map(bytes).collect::<Vec<_>>()
    };
    let bytes_alone: Vec<Vec<u8>> = "in the shop".bytes().map(|byte| vec![byte]).collect();
    assert_ne!(own_cut("in the shop"), bytes_alone);
    let server = Server::follow(vec![
        ok(with_logprobs("in the shop", &own_cut("in the shop"))),
        ok(with_logprobs("in the shop", &bytes_alone)),
        ok(with_logprobs("in the shop", &[b"in the shop".to_vec()])),
        ok(completion("in the shop", "stop")),
    ]);
    let outcome = generate(folder.path(), patient(&server.url), 4).unwrap();
    assert_eq!((outcome.written, outcome.with_logprobs), (4, 3));
    server.requests();
    let read = read_examples(folder.path().join("answers.jsonl"), &ReadOptions::default()).unwrap();
    let recorded = student.recorded(&read.examples).unwrap();
    assert_eq!((recorded.rows.len(), recorded.with_logprobs), (4, 1));
    let reasons: Vec<(usize, &str)> =
        recorded.text_alone.iter().map(|(line, reason)| (*line, &**reason)).collect();
    assert_eq!(
        reasons,
        [
            (2, "the student cuts the answer into other tokens"),
            (3, "a token of the teacher's is none of the student's"),
            (4, "it has no log-probabilities"),
        ]
    );

    let rows = recorded.rows.clone();
    let mut student =
        student.with_recorded_teacher(recorded.teacher, DistillConfig::default()).unwrap();
    let config =
        TrainConfig { epochs: 20, batch_size: 4, learning_rate: 3e-3, ..student.recommended() };
    let mut losses = Vec::new();
    let outcome = student.train(&rows, &config, |event| {
        if let TrainEvent::Step(step) = event {
            losses.push(step.loss);
        }
        ControlFlow::Continue(())
    });
    outcome.unwrap();
    assert!(losses[19] > 0.0 && losses[19] < 0.5 * losses[0], "{losses:?}");
}
