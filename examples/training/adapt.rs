//! Teaches a model a shop's answers, and opens it with what was learnt.
//!
//! ```text
//! cargo run --release --example adapt [DIR]
//! ```
//! DIR gets a folder for the adapter, in the layout of Hugging Face's PEFT; a temporary one if omitted.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use lightglm::training::{
    LoraConfig, Method, ReadOptions, TrainConfig, TrainEvent, TrainingModel, read_examples,
};
use lightglm::{LoadOptions, Model, SMALL_MODEL};

fn main() -> Result<()> {
    // Twenty questions and answers of a shop. JSON lines with `messages` are one of several formats:
    // Alpaca, ShareGPT and CSV files are recognized by their fields.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/faq_train.jsonl");
    let mut faq = read_examples(file, &ReadOptions::default())?;
    faq.examples.truncate(20);

    // LoRA leaves the model's weights alone and puts two thin matrices beside each projection. They are
    // all that is trained, and all that is saved: a few megabytes.
    let method = Method::Lora(LoraConfig { rank: 8, ..LoraConfig::default() });
    let mut student = TrainingModel::open(SMALL_MODEL, method)?;
    println!("{} parameters to train", student.trainable_parameters()?);

    // The chat template turns rows into tokens; only the answers are learnt, each with its end.
    let rows = student.tokenize(&faq)?;
    let config = TrainConfig { epochs: 4, ..student.recommended() };
    student.train(&rows, &config, |event| {
        if let TrainEvent::Step(step) = event {
            println!("step {} of {}: loss {:.3}", step.step, step.total_steps, step.loss);
        }
        ControlFlow::Continue(())
    })?;

    // One folder an adapter. A program that opens the model with the folder around them (a server, say)
    // chooses one by name, and all of them share the model's weights.
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let adapters = folder.unwrap_or_else(|| temporary.path().to_owned());
    student.save_adapter(adapters.join("shop"))?;

    let options = LoadOptions { adapters: Some(adapters), ..LoadOptions::default() };
    let base = Model::open(SMALL_MODEL, options)?;
    let shop = base.with_adapter("shop")?;
    let question = "How long do I have to return something?";
    println!("{question}");
    for (name, model) in [("base", &base), ("with the adapter", &shop)] {
        println!("{name}: {}", model.complete(question)?.text.trim());
    }
    Ok(())
}
