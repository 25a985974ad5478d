//! scratch
use lightglm_text::*;
use std::time::{Duration, UNIX_EPOCH};
#[test]
fn scratch() {
    let all: serde_json::Value =
        serde_json::from_slice(&std::fs::read("/tmp/w/tplcases.json").unwrap()).unwrap();
    for entry in all.as_array().unwrap() {
        let file = entry[0].as_str().unwrap();
        let t = match ChatTemplate::from_source(entry[1].as_str().unwrap()) {
            Ok(t) => t
                .with_time(UNIX_EPOCH + Duration::from_secs(1_785_000_000))
                .with_special_token("bos_token", "<s>")
                .with_special_token("eos_token", "</s>")
                .with_special_token("unk_token", "<unk>")
                .with_special_token("pad_token", "<pad>"),
            Err(e) => {
                println!(
                    "LOAD {file}: {e} {:?}",
                    std::error::Error::source(&e).map(|e| e.to_string())
                );
                continue;
            }
        };
        let (mut same, mut shown) = (0, 0);
        let cases = entry[2].as_array().unwrap();
        let mut missing = std::collections::BTreeMap::<String, usize>::new();
        for c in cases {
            if c[0] == "LOAD" {
                println!("REF LOAD ERR {file} {}", c[1]);
                continue;
            }
            let m: Vec<Message> = serde_json::from_value(c[0].clone()).unwrap();
            let tools = c[1].as_array().unwrap();
            let r = t.render(&m, tools, c[2].as_bool().unwrap());
            let expected = c[3].as_str();
            if let Ok(p) = &r {
                for f in p.missing_fields() {
                    *missing
                        .entry(f.split(|c: char| c.is_numeric()).collect::<Vec<_>>().join("N"))
                        .or_default() += 1;
                }
            }
            let got = r.as_ref().ok().map(|p| p.text());
            if got == expected {
                same += 1;
            } else if shown < 2 {
                shown += 1;
                println!(
                    "DIFF {file}\n exp {expected:?}\n got {:?}",
                    r.map(|p| p.text().to_owned())
                );
            }
        }
        println!("{file}: {same}/{} missing {missing:?}", cases.len());
    }
}
#[test]
fn scratch_missing() {
    let all: serde_json::Value =
        serde_json::from_slice(&std::fs::read("/tmp/w/tplcases.json").unwrap()).unwrap();
    for entry in all.as_array().unwrap() {
        let Ok(t) = ChatTemplate::from_source(entry[1].as_str().unwrap()) else { continue };
        let mut shown = 0;
        for c in entry[2].as_array().unwrap() {
            let m: Vec<Message> = serde_json::from_value(c[0].clone()).unwrap();
            if let Ok(p) = t.render(&m, c[1].as_array().unwrap(), true)
                && p.missing_fields().iter().any(|f| f.starts_with('m'))
                && shown < 2
            {
                shown += 1;
                println!(
                    "{} {:?} {}\n {:?}",
                    entry[0],
                    p.missing_fields(),
                    c[0],
                    p.text()
                        .chars()
                        .rev()
                        .take(300)
                        .collect::<String>()
                        .chars()
                        .rev()
                        .collect::<String>()
                );
            }
        }
    }
}
