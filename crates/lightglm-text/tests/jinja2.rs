//! Chat templates against jinja2 set up as transformers sets it up.
//!
//! `tools/chat_template_golden.py` wrote what it made of the same conversations, which follow from a
//! seed. Of each prompt there is a hash, and one of the control tokens that the template itself wrote:
//! together with the text they decide the ids. The templates of other models lie in the folder
//! `shared`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use lightglm_text::{ChatTemplate, Message, Tokenizer};
use serde_json::{Value, json};

/// Texts that templates look for in contents; in this vocabulary they are tokens all the same.
const LOOKED_FOR: [&str; 2] = ["<think>", "</think>"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(data("jinja2_expected.json")).unwrap()).unwrap()
}

/// The source of a template; `None` where it lies in a folder that is not there.
fn source(file: &str) -> Option<String> {
    let Some(name) = file.strip_prefix("shared:") else {
        return Some(std::fs::read_to_string(data(file)).unwrap());
    };
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("LIGHTGLM_SHARED").map_or(beside, PathBuf::from);
    let path = shared.join(format!("data/tokenizers/{name}.tokenizer_config.json.zst"));
    let Ok(file) = std::fs::File::open(&path) else {
        println!("skipped {name}: there is no {}", path.display());
        return None;
    };
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_end(&mut bytes).unwrap();
    let config: Value = serde_json::from_slice(&bytes).unwrap();
    Some(config["chat_template"].as_str().unwrap().to_owned())
}

/// The byte-level tokenizer of the fixtures with other control tokens.
fn tokenizer(tokens: &[&str]) -> Tokenizer {
    let bytes = std::fs::read(data("text/tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&bytes).unwrap();
    for (index, token) in file["added_tokens"].as_array_mut().unwrap().iter_mut().enumerate() {
        let content = tokens.get(index).map_or(format!("<|unused{index}|>"), |t| (*t).to_owned());
        token["content"] = content.into();
    }
    file["post_processor"] = Value::Null;
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

/// splitmix64, as in the script.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn text(&mut self, pieces: &[&str]) -> String {
        (0..self.below(8)).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

/// What [`conversation`] draws from.
struct Choices<'a> {
    pieces: Vec<&'a str>,
    tokens: Vec<&'a str>,
    tools: &'a [Value],
    arguments: &'a [Value],
}

/// Messages, tools and whether the assistant is asked: draws what the script draws, in its order.
fn conversation(random: &mut Random, choices: &Choices<'_>) -> (Vec<Message>, Vec<Value>, bool) {
    let mut pieces = choices.pieces.clone();
    if random.below(2) == 1 {
        pieces.extend(&choices.tokens);
    }
    let mut messages = Vec::new();
    if random.below(3) == 0 {
        messages.push(Message::system(random.text(&pieces)));
    }
    let turns = 1 + random.below(4);
    for turn in 0..turns {
        messages.push(Message::user(random.text(&pieces)));
        if turn + 1 == turns && random.below(2) == 1 {
            break;
        }
        match random.below(6) {
            0 => {
                let content = match random.below(2) {
                    1 => Value::String(random.text(&pieces)),
                    _ => Value::Null,
                };
                let tool = &choices.tools[random.below(choices.tools.len())];
                let arguments = &choices.arguments[random.below(choices.arguments.len())];
                let function = json!({"name": tool["function"]["name"], "arguments": arguments});
                let call = json!({"id": "call12345", "type": "function", "function": function});
                messages.push(Message::new("assistant", content).with("tool_calls", json!([call])));
                let result = Message::tool(random.text(&pieces));
                messages.push(result.with("tool_call_id", "call12345"));
                if random.below(2) == 1 {
                    messages.push(Message::assistant(random.text(&pieces)));
                }
            }
            kind @ (1 | 2) => {
                let said = Message::assistant(random.text(&pieces));
                let field = if kind == 1 { "reasoning_content" } else { "metadata" };
                messages.push(said.with(field, random.text(&pieces)));
            }
            3 => {
                let thought = random.text(&pieces);
                let said = random.text(&pieces);
                messages.push(Message::assistant(format!("<think>{thought}</think>{said}")));
            }
            _ => messages.push(Message::assistant(random.text(&pieces))),
        }
    }
    let tools =
        (0..random.below(3)).map(|_| choices.tools[random.below(choices.tools.len())].clone());
    (messages, tools.collect(), random.below(2) == 1)
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |value, byte| {
        (value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn template(golden: &Value, entry: &Value, source: String) -> ChatTemplate {
    let time = UNIX_EPOCH + Duration::from_secs(golden["unix_seconds"].as_u64().unwrap());
    let mut template = ChatTemplate::from_source(source).unwrap().with_time(time);
    for (name, text) in entry["special_tokens"].as_object().unwrap() {
        template = template.with_special_token(name, text.as_str().unwrap());
    }
    template
}

#[test]
fn conversations_have_the_text_and_the_control_tokens_of_jinja2() {
    let golden = golden();
    let seed = golden["seed"].as_u64().unwrap();
    let (mut rendered, mut refused) = (0, 0);
    for (index, entry) in golden["templates"].as_array().unwrap().iter().enumerate() {
        let name = entry["name"].as_str().unwrap();
        let Some(source) = source(entry["file"].as_str().unwrap()) else { continue };
        let template = template(&golden, entry, source);
        let choices = Choices {
            pieces: strings(&golden["pieces"]),
            tokens: strings(&entry["tokens"]),
            tools: golden["tools"].as_array().unwrap(),
            arguments: golden["arguments"].as_array().unwrap(),
        };
        let tokenizer = tokenizer(&choices.tokens);
        let expected: Vec<&str> = entry["expected"].as_str().unwrap().split(' ').collect();
        assert_eq!(expected.len(), 200);
        for (number, expected) in expected.into_iter().enumerate() {
            let show = format!("tools/chat_template_golden.py {name} {number}");
            let mut random = Random(seed + 1000 * index as u64 + number as u64);
            let (messages, tools, ask) = conversation(&mut random, &choices);
            // The template of 2024 is given the tools where it looks for them, which transformers leaves
            // to the caller.
            let tools = if name == "glm4_2024" { Vec::new() } else { tools };
            let prompt = template.render(&messages, &tools, ask);
            let Ok(prompt) = prompt else {
                assert_eq!(expected, "error", "{show}: {:?}", prompt.unwrap_err());
                refused += 1;
                continue;
            };
            let ids = prompt.encode(&tokenizer).unwrap();
            assert_eq!(tokenizer.decode(&ids, false), prompt.text(), "{show}");
            let special = ids.iter().filter(|id| tokenizer.is_special(**id));
            let special: Vec<&str> = special
                .map(|id| tokenizer.id_to_token(*id).unwrap())
                .filter(|token| !LOOKED_FOR.contains(token))
                .collect();
            let found =
                format!("{:016x}/{:06x}", fnv(prompt.text()), fnv(&special.join(" ")) & 0xFF_FFFF);
            assert_eq!(found, expected, "{show}: {:?}", prompt.text());
            let in_content = |token: &&str| {
                prompt
                    .content_ranges()
                    .iter()
                    .any(|range| prompt.text()[range.clone()].contains(*token))
            };
            if !choices.tokens.iter().any(in_content) {
                assert_eq!(ids, tokenizer.encode_with_specials(prompt.text()).unwrap(), "{show}");
            }
            rendered += 1;
        }
    }
    println!("{rendered} prompts are jinja2's, {refused} conversations are refused as there");
    assert!(rendered > 1500);
}

#[test]
fn expressions_render_as_in_jinja2() {
    let golden = golden();
    let messages: Vec<Message> = serde_json::from_value(golden["messages"].clone()).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(golden["unix_seconds"].as_u64().unwrap());
    let mut wrong = Vec::new();
    for pair in golden["expressions"].as_array().unwrap() {
        let source = pair[0].as_str().unwrap();
        let template = ChatTemplate::from_source(source)
            .map(|template| template.with_time(time).with_special_token("bos_token", "<s>"));
        let made = template.and_then(|template| template.render(&messages, &[], true));
        let made = made.map(|prompt| prompt.text().to_owned());
        if made.as_ref().ok().map(String::as_str) != pair[1].as_str() {
            wrong.push(format!("{source}\n  expected {}\n  got      {made:?}", pair[1]));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
