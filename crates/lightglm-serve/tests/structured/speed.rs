//! How long a mask takes with a vocabulary of GLM-4's size. Prints, and is run by hand:
//!
//! ```text
//! cargo test --release -p lightglm-serve --test structured speed -- --ignored --nocapture
//! ```
//!
//! `LIGHTGLM_TIKTOKEN` may name a file of tokens (base64, a space, the rank, per line), as GLM-4 and
//! its kin are published in; without it the tokens are made up.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lightglm_generation::TokenHistory;
use lightglm_serve::structured::{
    Constraint, GrammarVocabulary, StructuredLimits, ToolSpec, compile,
};
use lightglm_testkit::SplitMix;
use serde_json::json;

use crate::toy::Toy;

const VOCAB_SIZE: usize = 151_552;
const EOS: u32 = VOCAB_SIZE as u32 - 1;

/// Bytes, then pieces of words in three scripts with and without a space, digits, punctuation.
fn made_up() -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    words.extend((0..1000).map(|number: u32| number.to_string().into_bytes()).skip(10));
    let marks = ["{", "}", "[", "]", "\"", ":", ",", " ", "\n", "\\", ".", "-"];
    for a in marks {
        for b in marks {
            words.push(format!("{a}{b}").into_bytes());
            words.extend(marks.iter().map(|c| format!("{a}{b}{c}").into_bytes()));
        }
    }
    let mut random = SplitMix::new(1);
    let mut random = move |below: usize| random.below(below);
    let syllables =
        ["ing", "er", "a", "con", "tion", "th", "e", "s", "re", "ly", "un", "o", "ст", "на"];
    let mut seen: HashSet<Vec<u8>> = words.iter().cloned().collect();
    while words.len() < VOCAB_SIZE - 1000 {
        let mut word = String::from(["", " ", " "][random(3)]);
        if random(4) == 0 {
            let character = |n| char::from_u32(0x4E00 + n as u32).unwrap();
            (0..1 + random(3)).for_each(|_| word.push(character(random(3000))));
        } else {
            (0..1 + random(4)).for_each(|_| word.push_str(syllables[random(syllables.len())]));
            word.push(char::from(b'a' + random(26) as u8));
        }
        if seen.insert(word.clone().into_bytes()) {
            words.push(word.into_bytes());
        }
    }
    words
}

fn words() -> Vec<Vec<u8>> {
    let Some(path) = std::env::var_os("LIGHTGLM_TIKTOKEN") else {
        println!("made up tokens; LIGHTGLM_TIKTOKEN names no file");
        return made_up();
    };
    let text = std::fs::read_to_string(path).unwrap();
    let mut words: Vec<Vec<u8>> =
        text.lines().map(|line| base64(line.split(' ').next().unwrap())).collect();
    words.truncate(VOCAB_SIZE - 100);
    words
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        bits = bits << 6 | LETTERS.iter().position(|l| *l == letter).unwrap() as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn constraints() -> Vec<(&'static str, Constraint)> {
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
    vec![
        ("schema", Constraint::JsonSchema(person)),
        ("object", Constraint::JsonObject),
        ("tools", Constraint::ToolCall { tools, parallel: true }),
        ("regex", Constraint::Regex(r"(\d{4}-\d{2}-\d{2}|[A-Z][a-z ]{3,80}\.)+".into())),
        (
            "choice",
            Constraint::Choice(vec!["positive".into(), "negative".into(), "neutral".into()]),
        ),
    ]
}

#[test]
#[ignore = "a measurement"]
fn masks_take_little_of_a_step() {
    let words = Toy::of(words().into_iter().map(Some).collect(), vec![EOS]);
    let started = Instant::now();
    let vocabulary = GrammarVocabulary::new(&words, VOCAB_SIZE).unwrap();
    println!("vocabulary of {VOCAB_SIZE}: {:.1?}", started.elapsed());
    let limits = StructuredLimits::default();
    let mut random = SplitMix::new(1);
    for (name, constraint) in constraints() {
        let (mut compiled, mut times): (Vec<Duration>, Vec<Duration>) = Default::default();
        for _ in 0..20 {
            let started = Instant::now();
            let mut processor = compile(&constraint, &vocabulary, &limits).unwrap().processor();
            compiled.push(started.elapsed());
            let mut generated = Vec::new();
            let mut logits = vec![0.0f32; VOCAB_SIZE];
            while generated.len() < 200 {
                logits.iter_mut().for_each(|logit| *logit = random.next_f32());
                // What closes something is likelier, so that more than one string is written.
                b"\"},]".iter().for_each(|byte| logits[usize::from(*byte)] += 0.3);
                let history = TokenHistory { prompt: &[], generated: &generated };
                let started = Instant::now();
                processor.process(history, &mut logits).unwrap();
                times.push(started.elapsed());
                let best =
                    (0..VOCAB_SIZE).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                if best as u32 == EOS {
                    break;
                }
                generated.push(best as u32);
            }
        }
        compiled.sort();
        times.sort();
        let at = |part: usize| times[(times.len() * part / 1000).min(times.len() - 1)];
        println!(
            "{name:8} compile {:8.1?} (median), mask {:8.1?} median {:8.1?} p99 {:8.1?} most, {} masks",
            compiled[compiled.len() / 2],
            at(500),
            at(990),
            at(1000),
            times.len()
        );
    }
    let (mut logits, mask) = (vec![0.0f32; VOCAB_SIZE], Constraint::JsonObject);
    let mut processor = compile(&mask, &vocabulary, &limits).unwrap().processor();
    let history = TokenHistory { prompt: &[], generated: &[] };
    let started = Instant::now();
    (0..100).for_each(|_| processor.process(history, &mut logits).unwrap());
    println!("the same mask again: {:.1?}", started.elapsed() / 100);
}
