//! The small real model against llama.cpp's greedy continuations.
//!
//! llama.cpp quantizes activations to 8 bits, so its text may part from ours where two candidates are
//! close; fed its own tokens one by one, our first choice must be its first choice wherever its
//! recorded gap between the first two is above 0.3.

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm::{ProgressSink, SMALL_MODEL};
use lightglm_core::{CausalLm, LogitRows, SequenceId, Span};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::decoder::LoadPrecision;
use lightglm_text::Message;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recording {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    messages: Vec<Message>,
    prompt: String,
    prompt_tokens: Vec<u32>,
    output_tokens: Vec<u32>,
    /// Per output token: the first two candidates, `(id, log-probability)`.
    top2: Vec<[(u32, f32); 2]>,
}

const GAP: f32 = 0.3;

#[test]
fn follows_the_recorded_continuations() {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(std::path::PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let file = shared.unwrap_or(beside).join("smollm2_greedy.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: {} is not there", file.display());
        return;
    };
    let recording: Recording = serde_json::from_str(&text).expect("a recording");
    let checkpoint = match lightglm::checkpoint::open(SMALL_MODEL, &ProgressSink::default()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            println!("skipped: the small model is out of reach: {error:#}");
            return;
        }
    };
    let tokenizer = checkpoint.tokenizer().unwrap();
    let template = checkpoint.chat_template().unwrap();
    let config = checkpoint.config().clone();
    let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap();
    let (mut judged, mut agreed) = (0, 0);
    for item in &recording.items {
        let prompt = template.render(&item.messages, &[], true).unwrap();
        assert_eq!(prompt.text(), item.prompt);
        assert_eq!(prompt.encode(&tokenizer).unwrap(), item.prompt_tokens);
        let mut cache = ContiguousKvCache::<Flex>::new(
            KvShape::of(&config),
            1,
            item.prompt_tokens.len() + item.output_tokens.len(),
            KvDtype::F32,
            &FlexDevice,
        );
        let mut next = item.prompt_tokens.clone();
        for (token, [(first, p), (_, q)]) in item.output_tokens.iter().zip(&item.top2) {
            let span = Span::text(SequenceId(0), &next, LogitRows::Last);
            let logits = model.forward(&[span], &mut cache).unwrap();
            let logits = logits.into_data().to_vec::<f32>().unwrap();
            let best = (0..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b });
            if p - q > GAP {
                judged += 1;
                agreed += usize::from(best as u32 == *first);
            }
            next = vec![*token];
        }
    }
    println!("{agreed} of {judged} first choices agree");
    assert!(judged > 100, "only {judged} positions have a clear first choice");
    assert_eq!(agreed, judged);
}
