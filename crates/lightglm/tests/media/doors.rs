//! The engine and pictures: whatever it does with a prompt, the reply is the same.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};

use burn_flex::FlexDevice;
use lightglm::{Cpu, IntoMedium, KvDtype, LoadOptions, Medium, Model, SamplingParams};
use lightglm_core::{KvShape, MediaRuns};
use lightglm_generation::media::place_media;
use lightglm_serve::engine::{
    Engine, EngineBuilder, EngineConfig, EngineRequest, Event, PaceConfig, Rejection,
};
use lightglm_serve::kv::PagedKvCache;
use lightglm_text::ChatText;

use crate::models::{model, picture};

type Cache = PagedKvCache<Cpu>;

fn engine(model: &Model, blocks: usize, token_budget: usize) -> Engine<Cpu, Cache> {
    let shape = KvShape::of(model.config());
    let cache = Cache::new(shape, blocks, KvDtype::F32, &FlexDevice);
    let mut config = EngineConfig::new(512);
    config.token_budget = token_budget;
    config.pace = PaceConfig { short_prompt: 512, ..PaceConfig::default() };
    let loaded = model.loaded::<Cpu>().unwrap();
    EngineBuilder::new(loaded.model.clone(), cache, config).build()
}

/// A prompt with three pictures, of which two are the same.
fn prompt(model: &Model, question: &str) -> (Vec<u32>, MediaRuns) {
    let media: Vec<Medium> = [picture(64, 48, 1), picture(40, 40, 2), picture(64, 48, 1)]
        .map(IntoMedium::into_medium)
        .into();
    placed(model, question, &media)
}

fn placed(model: &Model, question: &str, media: &[Medium]) -> (Vec<u32>, MediaRuns) {
    let parts = media.iter().map(|_| serde_json::json!({"type": "image"}));
    let parts = parts.chain([serde_json::json!({"type": "text", "text": question})]);
    let message = lightglm::Message::new("user", serde_json::Value::Array(parts.collect()));
    let tokens = model.text().encode_chat(&[message], &[]).unwrap();
    let inputs: Vec<_> = media.iter().map(Medium::input).collect();
    let store = model.media().unwrap();
    let contents = store.contents(&inputs, &mut || ControlFlow::Continue(())).unwrap();
    place_media(&tokens, store.encoder().placeholder(), &contents).unwrap()
}

fn request(
    model: &Model,
    (tokens, media): (Vec<u32>, MediaRuns),
    max_tokens: usize,
) -> EngineRequest {
    let params = SamplingParams {
        temperature: 0.0,
        max_tokens,
        ignore_eos: true,
        logprobs: Some(0),
        ..SamplingParams::default()
    };
    let mut request = EngineRequest::new(tokens, params, vec![], model.text().detokenizer());
    request.media = media;
    request
}

fn submit(engine: &Engine<Cpu, Cache>, request: EngineRequest) -> Receiver<Event> {
    let (sender, events) = channel();
    let sink = move |event| {
        let _ = sender.send(event);
        ControlFlow::Continue(())
    };
    engine.handle().submit(request, Box::new(sink)).unwrap();
    events
}

/// Tokens and the bits of their log-probabilities, and how many of the prompt's tokens were found.
fn reply(events: &Receiver<Event>) -> (Vec<(u32, u32)>, usize) {
    let (mut said, mut cached) = (Vec::new(), 0);
    for event in events.try_iter() {
        match event {
            Event::Started { cached_tokens } => cached = cached_tokens,
            Event::Step(step) => {
                said.extend(step.token.map(|token| (token, step.logprob.unwrap().to_bits())));
            }
            Event::Finished { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (said, cached)
}

fn run(engine: &mut Engine<Cpu, Cache>) {
    while engine.step() {}
}

#[test]
fn chunks_batches_prefix_hits_and_preemption_change_no_bit() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let mut alone = engine(&model, 64, 4096);
    let events = submit(&alone, request(&model, prompt(&model, "what?"), 24));
    run(&mut alone);
    let (expected, cached) = reply(&events);
    assert_eq!((expected.len(), cached), (24, 0));
    // However the prompt is cut.
    for budget in [1, 7, 16] {
        let mut engine = engine(&model, 64, budget);
        let events = submit(&engine, request(&model, prompt(&model, "what?"), 24));
        run(&mut engine);
        assert_eq!(reply(&events).0, expected, "chunks of {budget}");
    }
    // What the cache holds of it is found, pictures and all.
    let events = submit(&alone, request(&model, prompt(&model, "what?"), 24));
    run(&mut alone);
    let (said, cached) = reply(&events);
    assert_eq!(said, expected);
    let rows = prompt(&model, "what?").0.len();
    assert!(cached >= rows - 16 && cached < rows, "{cached} of {rows}");
    // Beside others, and with blocks so few that somebody has to give way.
    let blocks = (rows + 24).div_ceil(16) * 2;
    let mut crowded = engine(&model, blocks, 64);
    let questions = ["what?", "a thing of another kind?", "what?", "who?"];
    let events =
        questions.map(|question| submit(&crowded, request(&model, prompt(&model, question), 24)));
    run(&mut crowded);
    let said = events.map(|events| reply(&events).0);
    assert_eq!(said[0], expected);
    assert_eq!(said[2], expected);
    let mut few = engine(&model, rows.div_ceil(16) + 3, 64);
    let pair = ["what?", "who?"]
        .map(|question| submit(&few, request(&model, prompt(&model, question), 24)));
    run(&mut few);
    assert_eq!(reply(&pair[0]).0, expected);
    assert_eq!(reply(&pair[1]).0, said[3]);
}

#[test]
fn preempted_within_pictures() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let mut alone = engine(&model, 64, 4096);
    let urgent =
        |question| EngineRequest { priority: 1, ..request(&model, prompt(&model, question), 40) };
    let first = submit(&alone, request(&model, prompt(&model, "what?"), 40));
    let second = submit(&alone, urgent("quick, who?"));
    run(&mut alone);
    let expected = [reply(&first).0, reply(&second).0];
    let rows = prompt(&model, "quick, who?").0.len();
    let mut few = engine(&model, 2 * (rows + 1).div_ceil(16) + 1, 8);
    let first = submit(&few, request(&model, prompt(&model, "what?"), 40));
    for _ in 0..12 {
        few.step();
    }
    let second = submit(&few, urgent("quick, who?"));
    run(&mut few);
    assert!(few.handle().stats().preemptions > 0);
    assert_eq!([reply(&first).0, reply(&second).0], expected);
}

#[test]
fn pictures_that_differ_share_no_block_behind_them() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let mut engine = engine(&model, 128, 4096);
    let first = picture(64, 48, 1);
    let mut pixels = first.rgb().to_vec();
    pixels[4242] ^= 1;
    let one_pixel = lightglm::Picture::new(64, 48, pixels).unwrap();
    // The same bytes, as another shape.
    let turned = lightglm::Picture::new(48, 64, first.rgb().to_vec()).unwrap();
    let mut found = Vec::new();
    for other in [first.clone(), first, one_pixel, turned] {
        let prompt = placed(&model, "what?", &[other.into_medium()]);
        let start = prompt.1.runs()[0].start;
        let events = submit(&engine, request(&model, prompt, 4));
        run(&mut engine);
        found.push((reply(&events).1, start));
    }
    assert_eq!(found[0].0, 0);
    assert!(found[1].0 > found[1].1, "the same picture is found: {found:?}");
    assert!(found[2].0 <= found[2].1 && found[3].0 <= found[3].1, "{found:?}");
}

#[test]
fn ids_that_are_no_media_are_refused() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let engine = engine(&model, 64, 512);
    let (tokens, media) = prompt(&model, "what?");
    let none = request(&model, (tokens.clone(), MediaRuns::default()), 4);
    let mut moved = tokens.clone();
    moved.remove(0);
    let moved = request(&model, (moved, media.clone()), 4);
    for request in [none, moved] {
        let refused = engine.handle().submit(request, Box::new(|_| ControlFlow::Continue(())));
        assert!(matches!(refused, Err(Rejection::UnknownToken { .. })), "{refused:?}");
    }
    assert!(media.check(&tokens, model.config().vocab_size).is_ok());
}
