//! Finds tool calls in what the model says.
//!
//! GLM-4 writes a call without delimiters: the function's name, a line break, a JSON object. What
//! tells a call from text is that the line is nothing but the name of a declared tool, and that a
//! complete JSON object follows.

use crate::tool_call::ToolCall;
use crate::tool_call_stream::{ToolCallEvent, ToolCallStream};

/// A reply, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedReply {
    /// Everything that is no call. White space between text and a call, or between two calls, is
    /// left out; so is what follows the last call, if it is only white space.
    pub content: String,
    /// The calls, in order.
    pub calls: Vec<ToolCall>,
}

/// Takes the calls of `tool_names` out of a reply, in time linear in its length.
///
/// A call stands at the beginning of the reply or of a line, or right after another call: the name,
/// white space with a line break in it, a JSON object. Several may follow each other, text may stand
/// before, between and after them. All else is content: a name in a sentence, a name nobody
/// declared, an object that is incomplete or no JSON, arguments nested deeper than 100 levels.
///
/// ```
/// use lightglm_generation::parse_tool_calls;
///
/// let reply = parse_tool_calls("One moment.\nget_weather\n{\"city\": \"Paris\"}", &["get_weather"]);
/// assert_eq!(reply.content, "One moment.");
/// assert_eq!(reply.calls[0].arguments["city"], "Paris");
/// ```
pub fn parse_tool_calls<S: AsRef<str>>(text: &str, tool_names: &[S]) -> ParsedReply {
    let mut stream = ToolCallStream::new(tool_names);
    let mut reply = ParsedReply::default();
    let mut events = stream.push(text);
    events.extend(stream.finish());
    for event in events {
        match event {
            ToolCallEvent::Content(text) => reply.content.push_str(&text),
            ToolCallEvent::CallFinished(call) => reply.calls.push(call),
            // Told while calls arrive; a reply that is not said to be cut has none of the last.
            ToolCallEvent::CallStarted { .. }
            | ToolCallEvent::CallArguments(_)
            | ToolCallEvent::CallAbandoned
            | ToolCallEvent::CallCut { .. } => {}
        }
    }
    reply
}
