//! Our own server as a teacher: its rows are those of the model behind it.

use std::fs;

use lightglm::training::generations::{GenerationOptions, generate_rows, prompts};
use lightglm::training::server_teacher::{ServerTeacher, ServerTeacherOptions};
use lightglm::training::{Method, ReadOptions, TrainingModel, read_examples};
use lightglm::{LoadOptions, SamplingParams, Server, ServerOptions};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::server::runtime;
use crate::tiny_model::{folder, open};

#[test]
fn a_server_writes_the_rows_of_its_model() {
    let folder = folder(3);
    let options = ServerOptions { model_name: Some("tiny".into()), ..Default::default() };
    let server = Server::new(open(&folder, LoadOptions::default()), options).unwrap();
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let serving = runtime.spawn(server.serve_on(listener, async {
        let _ = ended.await;
    }));

    let question = |i: usize| format!("{{\"question\": \"Where is {i}?\", \"answer\": \"x\"}}\n");
    let file = folder.path().join("questions.jsonl");
    fs::write(&file, (0..6).map(question).collect::<String>()).unwrap();
    let examples = read_examples(&file, &ReadOptions::default()).unwrap().examples;
    let asked = prompts(&examples);
    let sampling = SamplingParams { temperature: 1.0, max_tokens: 8, ..Default::default() };
    let options = GenerationOptions { sampling, keep_cut: true, ..GenerationOptions::default() };
    let rows = |name: &str| -> Vec<Value> {
        let rows = fs::read_to_string(folder.path().join(name)).unwrap();
        rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
    };
    let model = open(&folder, LoadOptions::default());
    generate_rows(&model, &asked, folder.path().join("model.jsonl"), &options).unwrap();
    let teacher = ServerTeacherOptions {
        parallel: 2,
        ..ServerTeacherOptions::new(format!("http://{address}"), "tiny")
    };
    let teacher = ServerTeacher::new(teacher).unwrap();
    let outcome =
        generate_rows(&teacher, &asked, folder.path().join("server.jsonl"), &options).unwrap();
    assert!(outcome.written > 3, "{outcome:?}");
    assert_eq!(outcome.with_logprobs, outcome.written);
    let (own, served) = (rows("model.jsonl"), rows("server.jsonl"));
    assert_eq!(own.len(), served.len());
    for (own, served) in own.iter().zip(&served) {
        assert_eq!(own["messages"], served["messages"]);
        assert_eq!(own["teacher"]["prompt"], served["teacher"]["prompt"]);
    }
    // What it says of its tokens is a distribution over a student's of the same vocabulary.
    let student = TrainingModel::open(folder.path(), Method::Full).unwrap();
    let read = read_examples(folder.path().join("server.jsonl"), &ReadOptions::default()).unwrap();
    let recorded = student.recorded(&read.examples).unwrap();
    assert_eq!(recorded.rows.len(), recorded.with_logprobs + recorded.text_alone.len());
    end.send(()).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}
