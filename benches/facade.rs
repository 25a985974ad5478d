//! What does a decode step cost more through `lightglm::Chat` than through the generic parts?
//!
//! The tiny shape with one layer, f32, whose step takes microseconds: what the facade adds (a virtual
//! call, the reply's text and clock, the conversation's tokens) is the same on every shape, and here it
//! can be seen.
//!
//! Timed: a conversation of 256 greedy tokens, its cache and its template included. Baseline:
//! `generator`, the same tokens by `Generator` on the model that is inside. They take turns, since a
//! shared machine changes its speed by the second.
//!
//! Run: `cargo bench --bench facade`. Read: `difference` is the price of a step; hold it against a step
//! of the shape that you run (`cargo bench --bench decode`).

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use burn_flex::{Flex, FlexDevice};
use lightglm::{LoadOptions, Message, Model, SamplingParams, WeightDtype};
use lightglm_core::{CausalLm, KvShape, SequenceId};
use lightglm_generation::{ContiguousKvCache, GenerationRequest, Generator};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;
use lightglm_text::ChatText;

const TOKENS: usize = 256;
const PAIRS: usize = 400;
const QUESTION: &str = "How do I return an order?";

fn tiny() -> Result<Model, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let config = GlmConfig {
        num_hidden_layers: 1,
        max_position_embeddings: 2 * TOKENS,
        ..GlmConfig::tiny()
    };
    let progress = &mut |_| std::ops::ControlFlow::Continue(());
    write_random_checkpoint(folder.path(), &config, WeightDtype::F32, 0, None, progress)?;
    let tokenizer = "../crates/lightglm-text/tests/data/text/tokenizer.json";
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join(tokenizer);
    std::fs::copy(tokenizer, folder.path().join("tokenizer.json"))?;
    Ok(Model::open(folder.path(), LoadOptions::default())?)
}

fn greedy() -> SamplingParams {
    SamplingParams {
        temperature: 0.0,
        max_tokens: TOKENS,
        ignore_eos: true,
        ..SamplingParams::default()
    }
}

fn through_facade(model: &Model) -> String {
    let mut chat = model.chat().with_sampling(greedy());
    let answer = chat.ask(QUESTION).expect("it fits");
    answer.map(|step| step.expect("a step").text).collect()
}

fn by_generator(model: &Model) -> String {
    let loaded = model.loaded::<Flex>().expect("it is on the CPU");
    let text = model.text();
    let prompt = text.encode_chat(&[Message::user(QUESTION)], &[]).expect("a template");
    let shape = KvShape::of(model.config());
    let kv = model.options().kv_dtype;
    let mut cache = ContiguousKvCache::new(shape, 1, 2 * TOKENS, kv, &FlexDevice);
    let eos = text.eos_token_ids().to_vec();
    let request = GenerationRequest::new(prompt, greedy(), eos, text.detokenizer());
    let model: &dyn CausalLm<Flex> = &*loaded.model;
    let steps = Generator::new(model, &mut cache, SequenceId(0), request).expect("it fits");
    steps.map(|step| step.expect("a step").text).collect()
}

fn seconds(answer: impl FnOnce() -> String) -> f64 {
    let start = Instant::now();
    black_box(answer());
    start.elapsed().as_secs_f64()
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = tiny()?;
    assert_eq!(through_facade(&model), by_generator(&model), "both paths give one answer");
    let mut pairs: Vec<[f64; 2]> = (0..PAIRS)
        .map(|pair| {
            // Each goes first in every other pair.
            let first = (pair % 2 == 0).then(|| seconds(|| through_facade(&model)));
            let generator = seconds(|| by_generator(&model));
            [first.unwrap_or_else(|| seconds(|| through_facade(&model))), generator]
        })
        .collect();
    let quartiles = |pairs: &mut Vec<[f64; 2]>, of: fn(&[f64; 2]) -> f64| {
        pairs.sort_by(|a, b| of(a).total_cmp(&of(b)));
        [1, 2, 3].map(|i| of(&pairs[i * PAIRS / 4]) / TOKENS as f64 * 1e6)
    };
    type Column = fn(&[f64; 2]) -> f64;
    let rows: [(&str, Column); 3] =
        [("lightglm", |p| p[0]), ("generator", |p| p[1]), ("difference", |p| p[0] - p[1])];
    println!("us a step, quartiles of {PAIRS} pairs of {TOKENS} steps");
    for (name, of) in rows {
        let [low, median, high] = quartiles(&mut pairs, of);
        println!("{name:<12}{low:>9.3}{median:>9.3}{high:>9.3}");
    }
    Ok(())
}
