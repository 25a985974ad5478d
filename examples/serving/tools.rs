//! A model that may call a function of yours.
//!
//! ```text
//! cargo run --release --example tools
//! ```
//! Whether a model calls tools by itself depends on its training: GLM-4 does, the small model
//! does not. So the call is made certain here by a constraint, which is what a server does for
//! `tool_choice: required`.

use lightglm::{Constraint, LoadOptions, Message, Model, SMALL_MODEL, ToolSpec, Weights};
use serde_json::json;

fn main() -> Result<(), lightglm::Error> {
    // The small model's template has no place for tools: they are written into the messages.
    let options = LoadOptions {
        weights: Weights::scheme("int8")?,
        fold_tools: true,
        ..LoadOptions::default()
    };
    let model = Model::open(SMALL_MODEL, options)?;

    // The tool as the model is told of it (OpenAI's shape) ...
    let parameters = json!({
        "type": "object",
        "properties": { "order": { "type": "integer", "minimum": 1, "maximum": 99999 } },
        "required": ["order"],
        "additionalProperties": false,
    });
    let tool = json!({ "type": "function", "function": {
        "name": "order_status",
        "description": "Where an order is.",
        "parameters": parameters,
    }});
    // ... and as what the reply has to be: the name, a line break, a JSON object of that schema.
    let spec = ToolSpec { name: "order_status".to_owned(), parameters };
    let must_call = Constraint::ToolCall { tools: vec![spec], parallel: false };

    let question = "Where is my order 4711?";
    let mut asking = model.chat().with_tools(vec![tool]).with_constraint(must_call);
    let reply = asking.ask(question)?.finish()?;
    let parsed = reply.tool_calls(&["order_status"]);
    let call = &parsed.calls[0];
    println!("the model calls {} with {}", call.name, call.arguments);

    // Your function runs, and what it returns goes back as an observation.
    let result = json!({ "order": call.arguments["order"], "status": "arrives tomorrow" });
    let mut answering = model.chat();
    let told = format!("{question}\nThe system says: {result}");
    let answer = answering.say(Message::user(told))?.finish()?;
    println!("{}", answer.text);
    Ok(())
}
