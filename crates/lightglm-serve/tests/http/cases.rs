//! Requests as clients send them: `shared/cases/requests`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::anything::Compiled;
use crate::client::{CHAT, config, constrained, post};
use crate::scripted::Scripted;
use crate::toy_text::shown;

/// What becomes of a request.
enum Outcome {
    /// The field is refused.
    Refused(&'static str),
    /// The reply follows a schema, or has to be a call; so much of it is not enforced.
    Constrained(&'static str),
    /// The prompt ends so.
    Prompted(&'static str),
    /// The reply may have so many tokens.
    UpTo(usize),
}
use Outcome::{Constrained, Prompted, Refused, UpTo};

const BROUGHT: [(&str, Outcome); 14] = [
    ("s1_continue_final_message", Prompted("<257>assistant\nThe capital of France is")),
    ("s1_functions", Refused("functions")),
    ("s1_guided_json", Constrained("")),
    ("s1_json_object_schema", Constrained("")),
    ("s2_format_binary", Constrained("")),
    ("s2_format_password", Constrained("")),
    ("s2_if_then", Constrained("#/if, #/then")),
    ("s2_pydantic_set_uniqueItems", Constrained("#/properties/tags/uniqueItems")),
    ("s2_zod_record_propertyNames", Constrained("")),
    ("s4_forced_call_512", Constrained("")),
    ("s4_no_max_tokens", UpTo(usize::MAX)),
    ("s5_max_tokens_16384", UpTo(16_384)),
    ("s6_forced_call_cut", Constrained("")),
    ("s7_tool_results_reversed.tokenize", Prompted("")),
];

#[tokio::test]
async fn requests_have_their_outcomes() {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = shared.unwrap_or(beside).join("cases/requests");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let files = files.map(|file| file.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Some((_, outcome)) = BROUGHT.iter().find(|(brought, _)| *brought == name) else {
            panic!("{name} is not in the table");
        };
        let engine = Scripted::saying("{}");
        let compiled = Compiled::default();
        let router = constrained(&engine, config(), compiled.constrain()).router();
        let body: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let route = if name.ends_with(".tokenize") { "/tokenize" } else { CHAT };
        let answer = post(&router, route, body).await;
        if let Refused(field) = outcome {
            assert_eq!(answer.error().1, *field, "{name}");
            continue;
        }
        answer.ok();
        match outcome {
            Refused(_) => {}
            Constrained(dropped) => {
                assert_eq!(compiled.all().len(), 1, "{name}");
                let header = answer.headers.get("x-lightglm-not-enforced");
                let told = header.map_or("", |value| value.to_str().unwrap());
                assert_eq!(told, *dropped, "{name}");
            }
            Prompted(end) => {
                let prompt = engine.seen().pop().map(|seen| shown(&seen.prompt));
                assert!(prompt.unwrap_or_default().ends_with(end), "{name}");
            }
            UpTo(tokens) => assert_eq!(engine.one().params.max_tokens, *tokens, "{name}"),
        }
    }
}
