//! Masks against transformers' `return_assistant_tokens_mask`.
//!
//! The data is written by `tools/label_masks_golden.py`, which says how the templates are marked.

use std::ops::Range;
use std::path::{Path, PathBuf};

use lightglm_text::{ChatTextError, ModelText};
use lightglm_train::data::{
    ConversationTokenizer, Example, OnBadRow, ReadOptions, TokenizeError, read_examples,
};
use lightglm_train::trainer::TokenizedExample;
use serde::Deserialize;

use crate::{glm4_0414, glm4_2024, smollm2};

#[derive(Deserialize)]
struct Golden {
    glm4_0414: Vec<Masked>,
    glm4_2024: Vec<Masked>,
    smollm2: Vec<Masked>,
}

/// A conversation's tokens, and which of them the assistant says.
#[derive(Deserialize, Debug, PartialEq)]
struct Masked {
    ids: Vec<u32>,
    learnt: Vec<(usize, usize)>,
}

impl Masked {
    fn of(example: &TokenizedExample) -> Self {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (at, target) in example.targets.iter().enumerate() {
            let Some(target) = target else { continue };
            // What is wanted behind a token is the next one.
            assert_eq!(*target, example.tokens[at + 1]);
            match runs.last_mut() {
                Some(run) if run.end == at + 1 => run.end += 1,
                _ => runs.push(at + 1..at + 2),
            }
        }
        let learnt = runs.into_iter().map(|run| (run.start, run.end)).collect();
        Self { ids: example.tokens.clone(), learnt }
    }
}

fn labels(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/labels").join(name)
}

#[test]
fn masks_are_those_of_transformers() {
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(labels("masks.json")).unwrap()).unwrap();
    let models: [(&str, ModelText, Vec<Masked>); 3] = [
        ("GLM-4-0414", glm4_0414(), golden.glm4_0414),
        ("GLM-4 of 2024", glm4_2024(), golden.glm4_2024),
        ("SmolLM2", smollm2(), golden.smollm2),
    ];
    for (name, text, expected) in models {
        let path = labels("conversations.jsonl");
        let mut rows = read_examples(&path, &ReadOptions::default()).unwrap();
        let tokenizer = ConversationTokenizer::new(&text);
        if name == "SmolLM2" {
            // Its template writes no tools, and transformers says nothing about it.
            let strict = ConversationTokenizer::new(&text).with_on_bad_row(OnBadRow::Fail);
            let with_tools = strict.tokenize(&rows.examples, 1 << 20, &mut rows.report.clone());
            let error = with_tools.unwrap_err();
            assert!(
                matches!(&error, TokenizeError::Conversation { source: ChatTextError::NotInPrompt { field }, .. } if field == "tools[0]"),
                "{error:?}"
            );
            for example in &mut rows.examples {
                if let Example::Conversation(conversation) = example {
                    conversation.extra.remove("tools");
                }
            }
        }
        let examples = tokenizer.tokenize(&rows.examples, 1 << 20, &mut rows.report).unwrap();
        assert_eq!((examples.len(), expected.len(), rows.report.total_dropped()), (50, 50, 0));
        for (example, expected) in examples.iter().zip(&expected) {
            let (found, line) = (Masked::of(example), example.line);
            let shown = text.tokenizer.decode(&example.tokens, false);
            assert_eq!(&found, expected, "{name}, line {line}: {shown}");
        }
    }
}
