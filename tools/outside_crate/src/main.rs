//! What a user's program does, with `lightglm` alone in its Cargo.toml: open, chat, stream, batch, teach,
//! save, open again, shrink, open again, serve.
//!
//! `outside SCRATCH` runs all of it in an empty folder and then serves on a free port, whose address it
//! prints, until it is told to end. Whatever is not as it should be ends it with an error.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use lightglm::quantize::QuantizeOptions;
use lightglm::training::{LoraConfig, Method, ReadOptions, TrainingModel, read_examples};
use lightglm::{
    SMALL_MODEL, LoadOptions, Model, Request, SamplingParams, Server, ServerOptions, Weights,
};

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = std::env::args().nth(1).ok_or("usage: outside SCRATCH")?;
    let scratch = Path::new(&scratch);

    // Open the small model; chat; stream.
    let int8 = || LoadOptions { weights: Weights::scheme("int8").expect("known"), ..Default::default() };
    let model = Model::open(SMALL_MODEL, int8())?;
    let short = SamplingParams { temperature: 0.0, max_tokens: 16, ..model.sampling().clone() };
    let mut chat = model.chat().with_sampling(short.clone());
    let mut streamed = String::new();
    for piece in chat.ask("What is the capital of France?")? {
        streamed += &piece?.text;
    }
    println!("streamed: {streamed}");
    let second = chat.ask("And of Italy?")?.finish()?;
    assert!(second.speed.prompt_tokens < second.prompt_token_ids.len(), "nothing was kept of the first turn");
    assert_eq!(chat.history().len(), 4, "two questions, two answers");

    // A batch of four is what each would be alone.
    let questions = ["Hello!", "你好！", "What is a warranty?", "What is the capital of France?"];
    let requests = questions.map(|question| Request::ask(question).with_sampling(short.clone()));
    let replies: Vec<_> = model.batch(requests)?.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(replies[3].text, streamed, "a reply depends on its company");

    // LoRA on 20 rows; save; open with the adapter.
    let rows = scratch.join("rows.jsonl");
    let row = |i: usize| format!("{{\"question\": \"Where is shelf {i}?\", \"answer\": \"Row {}.\"}}\n", i % 5);
    std::fs::write(&rows, (0..20).map(row).collect::<String>())?;
    let lora = Method::Lora(LoraConfig { rank: 4, ..LoraConfig::default() });
    let mut student = TrainingModel::open(SMALL_MODEL, lora)?;
    let rows = student.tokenize(&read_examples(&rows, &ReadOptions::default())?)?;
    assert_eq!(rows.len(), 20, "rows were dropped");
    let outcome = student.train(&rows, &student.recommended(), |_| ControlFlow::Continue(()))?;
    println!("trained: {outcome:?}");
    let adapters = scratch.join("adapters");
    student.save_adapter(adapters.join("shop"))?;
    drop(student);
    let adapted = LoadOptions { adapters: Some(adapters), ..int8() };
    let adapted = Model::open(SMALL_MODEL, adapted)?.with_adapter("shop")?;
    let ask = || Request::ask("Where is shelf 7?").with_sampling(short.clone());
    let (taught, untaught) = (adapted.complete(ask())?.text, model.complete(ask())?.text);
    println!("taught: {taught}; untaught: {untaught}");
    assert_ne!(taught, untaught, "the adapter changes nothing");

    // Quantize into a folder; open again; the same answers as quantized while loading.
    let packed = scratch.join("int8");
    model.quantize(&packed, &QuantizeOptions::default())?;
    // The small model's template has no place for tools: they are written into messages.
    let folding = LoadOptions { fold_tools: true, ..Default::default() };
    let reopened = Model::open(&packed, folding)?;
    let again = reopened.complete(Request::ask(questions[3]).with_sampling(short.clone()))?;
    assert_eq!(again.text, streamed, "the folder holds another model");

    // Serve it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = ServerOptions { model_name: Some("outside".into()), ..Default::default() };
    let server = Server::new(reopened, options)?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    println!("http://{}", listener.local_addr()?);
    let told_to_end = async {
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .expect("signals can be waited for");
        end.recv().await;
    };
    runtime.block_on(server.serve_on(listener, told_to_end))?;
    Ok(())
}
