//! An answer that a program can read: a JSON object of a given schema, whatever the model.
//!
//! ```text
//! cargo run --release --example json_schema
//! ```

use lightglm::{Constraint, LoadOptions, Model, SMALL_MODEL, SamplingParams, Weights};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = LoadOptions { weights: Weights::scheme("int8")?, ..LoadOptions::default() };
    let model = Model::open(SMALL_MODEL, options)?;

    // Before each token the schema says which tokens may follow; the model chooses among them.
    let schema = json!({
        "type": "object",
        "properties": {
            "topic": { "enum": ["delivery", "payment", "return", "other"] },
            "urgent": { "type": "boolean" },
            "summary": { "type": "string", "maxLength": 60 },
        },
        "required": ["topic", "urgent", "summary"],
        "additionalProperties": false,
    });
    let greedy = SamplingParams { temperature: 0.0, ..model.sampling().clone() };
    let mut chat = model
        .chat()
        .with_system("You sort messages to a shop. Reply in JSON.")
        .with_constraint(Constraint::JsonSchema(schema))
        .with_sampling(greedy);

    for message in ["My parcel is a week late and I need it today!", "我想退回这件衣服。"]
    {
        let reply = chat.ask(message)?.finish()?;
        // It parses, always: that is the point.
        let ticket: Value = serde_json::from_str(&reply.text)?;
        println!("{message}\n  topic {}, urgent {}", ticket["topic"], ticket["urgent"]);
        println!("  {}", ticket["summary"]);
        // Each message is a case of its own.
        chat.clear();
    }
    Ok(())
}
