//! How long a model thinks, and the variables of its chat template.

use std::sync::Arc;

use lightglm_generation::{LogitsProcessor, ProcessorError, TokenHistory};
use lightglm_serve::http::{ConstrainError, Constraint};
use serde_json::{Value, json};

use crate::client::{CHAT, chat, config, constrained, post, router};
use crate::scripted::Scripted;
use crate::toy_text::{END, shown};

/// A chat in which the model thinks (`think aloud`: the prompt has begun to), or does not.
fn asked(question: &str, fields: Value) -> Value {
    let mut body = chat(fields);
    body["messages"] = json!([{"role": "user", "content": question}]);
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "f"}}])
}

#[tokio::test]
async fn thoughts_end_when_their_budget_is_spent() {
    // No letter of what is wanted next stands in the tag.
    let long = "um, um, um</think>yes";
    for (question, script, fields, thoughts, answer) in [
        ("think aloud", long, json!({"thinking_budget": 4}), "um, ", "um, um</think>yes"),
        ("think aloud", long, json!({"thinking_token_budget": 4}), "um, ", "um, um</think>yes"),
        (
            "think aloud",
            long,
            json!({"thinking": {"type": "enabled", "budget_tokens": 2}}),
            "um",
            ", um, um</think>yes",
        ),
        ("think aloud", long, json!({"thinking_budget": 400}), "um, um, um", "yes"),
        ("think aloud", long, json!({"reasoning_effort": "low"}), "um, um, um", "yes"),
        ("think aloud", long, json!({"reasoning_effort": "high"}), "um, um, um", "yes"),
        ("think aloud", "yes", json!({"thinking_budget": 0}), "", "yes"),
        ("think aloud", "yes", json!({"enable_thinking": false}), "", "yes"),
        ("think aloud", "yes", json!({"thinking": {"type": "disabled"}}), "", "yes"),
        ("think aloud", "yes", json!({"reasoning_effort": "none"}), "", "yes"),
        (
            "think",
            "<think>um, um</think>yes",
            json!({"thinking_budget": 2}),
            "um",
            ", um</think>yes",
        ),
        ("think", "yes", json!({"thinking_budget": 2}), "", "yes"),
        // Characters stay whole.
        ("think aloud", "想一想</think>好", json!({"thinking_budget": 4}), "想一", "想</think>好"),
        ("say", "yes", json!({"reasoning_effort": "none"}), "", "yes"),
        ("say", "yes", json!({"enable_thinking": false}), "", "yes"),
    ] {
        let engine = Scripted::saying(script);
        let reply = post(&router(&engine), CHAT, asked(question, fields.clone())).await.ok();
        let message = &reply["choices"][0]["message"];
        let told = message["reasoning_content"].as_str().unwrap_or_default();
        let thoughts = thoughts.trim_end();
        assert_eq!((told, message["content"].as_str().unwrap()), (thoughts, answer), "{fields}");
    }
}

#[tokio::test]
async fn many_small_budgets_make_an_effort() {
    let engine = Scripted::saying(&format!("{}</think>yes", "h".repeat(200)));
    let body = asked("think aloud", json!({"reasoning_effort": "minimal"}));
    let reply = post(&router(&engine), CHAT, body).await.ok();
    let thoughts = reply["choices"][0]["message"]["reasoning_content"].as_str().unwrap();
    assert_eq!(thoughts.len(), 128);
    // The tokens that end them are counted with them.
    let details = &reply["usage"]["completion_tokens_details"];
    assert!(details["reasoning_tokens"].as_u64().unwrap() >= 128);
}

#[tokio::test]
async fn what_cannot_be_done_is_named() {
    let engine = Scripted::saying("yes");
    let router = router(&engine);
    for (question, fields, param) in [
        ("say", json!({"thinking_budget": 4}), "thinking_budget"),
        ("say", json!({"reasoning_effort": "low"}), "reasoning_effort"),
        ("say", json!({"reasoning_effort": "xhigh"}), "reasoning_effort"),
        ("say", json!({"enable_thinking": true}), "enable_thinking"),
        ("say", json!({"thinking": {"type": "enabled"}}), "thinking.type"),
        ("think", json!({"thinking": {"type": "adaptive"}}), "thinking.type"),
        ("think", json!({"thinking": {}}), "thinking.type"),
        ("think", json!({"reasoning_effort": "huge"}), "reasoning_effort"),
        ("think", json!({"thinking_budget": -1}), "thinking_budget"),
        ("think", json!({"thinking_budget": "4"}), "thinking_budget"),
        ("think", json!({"enable_thinking": "no"}), "enable_thinking"),
        (
            "think",
            json!({"thinking_budget": 4, "thinking_token_budget": 4}),
            "thinking_token_budget",
        ),
        (
            "think",
            json!({"enable_thinking": false, "reasoning_effort": "none"}),
            "reasoning_effort",
        ),
        (
            "think",
            json!({"enable_thinking": true, "thinking": {"type": "enabled"}}),
            "thinking.type",
        ),
        ("say", json!({"chat_template_kwargs": {"mood": 1}}), "chat_template_kwargs.mood"),
        ("say", json!({"chat_template_kwargs": [1]}), "chat_template_kwargs"),
        (
            "say",
            json!({"chat_template_kwargs": {"tone": "t".repeat(70_000)}}),
            "chat_template_kwargs",
        ),
        (
            "say",
            json!({"tools": tools(), "enable_thinking": true,
                   "chat_template_kwargs": {"thinking": false}}),
            "enable_thinking",
        ),
    ] {
        let error = post(&router, CHAT, asked(question, fields.clone())).await.error();
        assert_eq!(error, (400, param.into(), "invalid_value".into()), "{fields}");
    }
    assert!(engine.seen().is_empty());
    let body = json!({"messages": [{"role": "user", "content": "a"}],
                      "chat_template_kwargs": {"mood": 1}});
    assert_eq!(post(&router, "/tokenize", body).await.error().1, "chat_template_kwargs.mood");
}

#[tokio::test]
async fn variables_reach_the_template() {
    let engine = Scripted::saying("yes");
    let router = router(&engine);
    for (fields, written) in [
        (json!({"chat_template_kwargs": {"tone": "<259>"}}), r#"{tone="<259>"}"#),
        (json!({"chat_template_kwargs": null}), "<258>"),
        // Toy's template has these where there are tools.
        (json!({"tools": tools(), "enable_thinking": false}), "{thinking=false}"),
        (json!({"tools": tools(), "thinking": {"type": "enabled"}}), "{thinking=true}"),
        (json!({"tools": tools(), "reasoning_effort": "none"}), "{thinking=false}"),
        (json!({"tools": tools(), "reasoning_effort": "low"}), r#"{reasoning_effort="low"}"#),
    ] {
        post(&router, CHAT, asked("say", fields.clone())).await.ok();
        let seen = engine.seen();
        let prompt = shown(&seen.last().unwrap().prompt);
        assert!(prompt.ends_with(written), "{fields}: {prompt}");
        assert_eq!(seen.last().unwrap().processors, 0);
    }
}

/// Allows `{`, then `}`, then the end.
struct Braces;

impl LogitsProcessor for Braces {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        let next = match history.generated.len() {
            0 => u32::from(b'{'),
            1 => u32::from(b'}'),
            _ => END,
        };
        logits.fill(f32::NEG_INFINITY);
        logits[next as usize] = 0.0;
        Ok(())
    }
}

#[tokio::test]
async fn a_constraint_holds_what_is_said_not_what_is_thought() {
    let constrain = |_: &Constraint, replies: usize| {
        let processors = (0..replies).map(|_| Box::new(Braces) as Box<dyn LogitsProcessor>);
        Ok::<_, ConstrainError>(processors.collect())
    };
    for (question, script, budget, thoughts) in [
        ("think aloud", "hm, hm</think>", Value::Null, json!("hm, hm")),
        // The reply does not end in the thoughts.
        ("think aloud", "hm", json!(3), json!("hm\0")),
        ("think aloud", "hm, hm</think>", json!(1), json!("h")),
        ("think aloud", "", json!(0), Value::Null),
        ("think", "", Value::Null, Value::Null),
    ] {
        let engine = Scripted::saying(script);
        let router = constrained(&engine, config(), Arc::new(constrain)).router();
        let fields = json!({"response_format": {"type": "json_object"}, "thinking_budget": budget});
        let reply = post(&router, CHAT, asked(question, fields)).await.ok();
        let message = &reply["choices"][0]["message"];
        assert_eq!(message["content"], "{}", "{script}");
        assert_eq!(message["reasoning_content"], thoughts, "{script}");
    }
}
