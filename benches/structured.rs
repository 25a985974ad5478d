//! How much of a decode step does structured output take?
//!
//! A vocabulary of GLM-4's size (151,552) and five constraints: a schema, any object, calls of tools, a
//! regular expression, a choice. `LIGHTGLM_TIKTOKEN` may name a file of tokens (base64, a space, the
//! rank, per line), as GLM-4 and its kin are published in; if omitted, the tokens are made up.
//!
//! Timed: in `grammar_vocabulary` what is done once per model, in `grammar_compile` what is done once
//! per request, in `mask_f32` what is done once per token: `LogitsProcessor::process` over one row of
//! logits, along replies of at most 200 tokens that a sampler wrote under the constraint. Not timed:
//! the sampler. Baselines: `fill` writes as many logits as a mask may change; `again` is the mask of the
//! step before, which is remembered. A mask that forbids what the reply says ends the bench.
//!
//! Run: `cargo bench --bench structured`. Read: the time of `grammar` beside that of a decode step
//! (`cargo bench --bench decode`); criterion's times are means, so the slowest steps are printed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lightglm_generation::TokenHistory;
use lightglm_serve::structured::{
    Compiled, Constraint, GrammarVocabulary, StructuredLimits, ToolSpec, compile,
};
use lightglm_testkit::{SplitMix, VocabularyText, made_up_tokens};
use lightglm_text::ChatText;
use serde_json::json;

const VOCAB_SIZE: usize = 151_552;
const EOS: u32 = VOCAB_SIZE as u32 - 1;

const REPLIES: u64 = 20;
const LONGEST_REPLY: usize = 200;

/// The tokens' bytes, and the last of as many ids as GLM-4 has as the one that ends a reply.
fn tokens() -> VocabularyText {
    let words = match std::env::var_os("LIGHTGLM_TIKTOKEN") {
        None => {
            println!("made up tokens; LIGHTGLM_TIKTOKEN names no file");
            made_up_tokens(VOCAB_SIZE - 1000)
        }
        Some(path) => {
            let text = std::fs::read_to_string(path).expect("LIGHTGLM_TIKTOKEN can be read");
            let bytes = |line: &str| {
                let token = line.split(' ').next().unwrap_or_default();
                STANDARD.decode(token).expect("LIGHTGLM_TIKTOKEN has base64 in each line")
            };
            text.lines().map(bytes).take(VOCAB_SIZE - 100).collect()
        }
    };
    VocabularyText::new(words.into_iter().map(Some).collect(), vec![EOS])
}

fn constraints() -> [(&'static str, Constraint); 5] {
    let person = json!({ "type": "object", "properties": {
        "name": { "type": "string", "maxLength": 60 },
        "age": { "type": "integer", "minimum": 0, "maximum": 150 },
        "email": { "type": "string", "pattern": "^[a-z.]+@[a-z]+\\.(com|cn)$" },
        "mood": { "enum": ["happy", "sad", "平静"] },
        "scores": { "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 5 },
        "address": { "type": "object", "properties": { "street": { "type": "string" },
            "city": { "type": "string" }, "zip": { "type": "string", "pattern": "^[0-9]{5}$" } },
            "required": ["street", "city"], "additionalProperties": false },
        "notes": { "anyOf": [{ "type": "string" }, { "type": "null" }] } },
        "required": ["name", "age", "email", "mood", "scores", "address"],
        "additionalProperties": false });
    let tool = |name: &str| ToolSpec { name: name.into(), parameters: person.clone() };
    let tools = ["get_weather", "search", "send_mail"].map(tool).to_vec();
    let choices = ["positive", "negative", "neutral"].map(str::to_owned).to_vec();
    [
        ("schema", Constraint::JsonSchema(person)),
        ("object", Constraint::JsonObject),
        ("tools", Constraint::ToolCall { tools, parallel: true }),
        ("regex", Constraint::Regex(r"(\d{4}-\d{2}-\d{2}|[A-Z][a-z ]{3,80}\.)+".into())),
        ("choice", Constraint::Choice(choices)),
    ]
}

/// Replies that a sampler writes under a constraint, each with its end; prints how long the slowest
/// masks took.
fn write_replies(name: &str, compiled: &Compiled, closing: &[usize]) -> Vec<Vec<u32>> {
    let mut times = Vec::new();
    let replies = (0..REPLIES).map(|seed| {
        let mut random = SplitMix::new(seed);
        let mut processor = compiled.processor();
        let mut reply = Vec::new();
        while reply.len() < LONGEST_REPLY && reply.last() != Some(&EOS) {
            let mut logits: Vec<f32> = (0..VOCAB_SIZE).map(|_| random.next_f32()).collect();
            // What closes something is likelier, so that more than one string is written.
            closing.iter().for_each(|&token| logits[token] += 0.3);
            let history = TokenHistory { prompt: &[], generated: &reply };
            let start = Instant::now();
            processor.process(history, &mut logits).expect("what is allowed is followed");
            times.push(start.elapsed());
            let best = (0..VOCAB_SIZE).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            reply.push(best.expect("there are tokens") as u32);
        }
        reply
    });
    let replies = replies.collect();
    times.sort();
    let at = |per_mille: usize| times[(times.len() * per_mille / 1000).min(times.len() - 1)];
    let [median, p99, most] = [500, 990, 1000].map(at);
    let count = times.len();
    println!("{name}: {count} masks, {median:.1?} median, {p99:.1?} p99, {most:.1?} most");
    replies
}

/// Masks so many steps of the replies, one reply after the other.
fn follow(compiled: &Compiled, replies: &[Vec<u32>], mut steps: u64) -> Duration {
    let mut logits = vec![0.0f32; VOCAB_SIZE];
    let mut took = Duration::ZERO;
    for reply in replies.iter().cycle() {
        let mut processor = compiled.processor();
        for (at, &token) in reply.iter().enumerate() {
            if steps == 0 {
                return took;
            }
            logits.fill(0.0);
            let history = TokenHistory { prompt: &[], generated: &reply[..at] };
            let start = Instant::now();
            processor.process(history, &mut logits).expect("what is allowed is followed");
            took += start.elapsed();
            assert_eq!(logits[token as usize], 0.0, "token {at} of {reply:?} is forbidden");
            assert!(at > 0 || logits[EOS as usize] == f32::NEG_INFINITY, "a reply may be empty");
            steps -= 1;
        }
    }
    took
}

fn structured(criterion: &mut Criterion) {
    let tokens = tokens();
    let limits = StructuredLimits::default();
    let build =
        || GrammarVocabulary::new(&tokens, VOCAB_SIZE).expect("the tokens make a vocabulary");
    let mut group = criterion.benchmark_group("grammar_vocabulary");
    group.sample_size(10);
    group.bench_function("151552", |bench| bench.iter(|| black_box(build())));
    group.finish();

    let vocabulary = build();
    let compile = |constraint: &Constraint| {
        compile(constraint, &vocabulary, &limits).expect("the constraint is within the limits")
    };
    let mut group = criterion.benchmark_group("grammar_compile");
    for (name, constraint) in constraints() {
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(compile(&constraint).processor()));
        });
    }
    group.finish();

    let closing = tokens.encode("\"},]").expect("each byte has a token");
    let closing: Vec<usize> = closing.into_iter().map(|token| token as usize).collect();
    let mut logits = vec![0.0f32; VOCAB_SIZE];
    let mut group = criterion.benchmark_group("mask_f32");
    group.bench_function("fill/151552", |bench| {
        bench.iter(|| black_box(&mut logits).fill(f32::NEG_INFINITY));
    });
    for (name, constraint) in constraints() {
        let compiled = compile(&constraint);
        group.bench_function(BenchmarkId::new("again", name), |bench| {
            let mut processor = compiled.processor();
            let history = TokenHistory { prompt: &[], generated: &[] };
            bench.iter(|| processor.process(history, black_box(&mut logits)));
        });
        let replies = write_replies(name, &compiled, &closing);
        group.bench_function(BenchmarkId::new("grammar", name), |bench| {
            bench.iter_custom(|steps| follow(&compiled, &replies, steps));
        });
    }
    group.finish();
}

criterion_group!(benches, structured);
criterion_main!(benches);
