//! A `Model` that answers.

use lightglm_generation::FinishReason;
use lightglm_text::ChatText;
use lightglm_train::data::ConversationTokenizer;
use serde_json::{Value, json};

use super::answer_source::{AnswerSource, Answered, Asking, Question, TeacherAnswer};
use crate::error::Error;
use crate::model::{Model, Prompt, Reply, Request, SEQUENCES};

impl AnswerSource for Model {
    fn name(&self) -> String {
        format!("{} {}", self.checkpoint().path().display(), self.scheme())
    }

    fn at_once(&self) -> usize {
        SEQUENCES
    }

    fn answers(
        &self,
        questions: &[Question<'_>],
        asking: &Asking<'_>,
    ) -> Result<Vec<Answered>, Error> {
        let tokenizer = ConversationTokenizer::new(self.text());
        let mut answered: Vec<Answered> = Vec::with_capacity(questions.len());
        let (mut asked, mut requests) = (Vec::new(), Vec::new());
        for (index, question) in questions.iter().enumerate() {
            answered.push(match tokenizer.question(question.conversation) {
                Ok(prompt) => {
                    asked.push(index);
                    let sampling = Some(asking.sampling_of(question));
                    requests.push(Request { prompt: Prompt::Tokens(prompt), sampling });
                    Answered::Unanswered
                }
                Err(error) => Answered::Refused(told(&error)),
            });
        }
        let mut ended = questions.len() - requests.len();
        let replies = self.batch_until(requests, asking.stop, &mut |_, step| {
            ended += usize::from(step.finish.is_some());
            (asking.tell)(ended);
        })?;
        for (index, reply) in asked.into_iter().zip(replies) {
            answered[index] = match reply {
                Ok(reply) => answer(self, &questions[index], reply),
                Err(error @ Error::ConversationTooLong { .. }) => Answered::Refused(told(&error)),
                Err(error) => Answered::Failed(error),
            };
        }
        Ok(answered)
    }
}

fn answer(model: &Model, question: &Question<'_>, reply: Reply) -> Answered {
    let is_cut = match reply.finish {
        None | Some(FinishReason::Cancelled) => return Answered::Unanswered,
        Some(FinishReason::Length | FinishReason::Repetition) => true,
        Some(_) => false,
    };
    let tools = question.conversation.extra.get("tools").and_then(Value::as_array);
    let names: Vec<&str> = tools.into_iter().flatten().filter_map(name_of).collect();
    let opening = model.text().reply_opening(!names.is_empty());
    let text = reply.text.strip_prefix(&*opening).unwrap_or(&reply.text).to_owned();
    if names.is_empty() {
        return Answered::Answer(TeacherAnswer { text, is_cut, ..TeacherAnswer::default() });
    }
    let parsed = lightglm_generation::parse_tool_calls(&text, &names);
    let call = |call: &lightglm_generation::ToolCall| {
        let function = json!({"name": call.name, "arguments": call.raw_arguments});
        json!({"type": "function", "function": function})
    };
    let tool_calls = parsed.calls.iter().map(call).collect();
    let text = parsed.content;
    Answered::Answer(TeacherAnswer { text, is_cut, tool_calls, ..TeacherAnswer::default() })
}

fn name_of(tool: &Value) -> Option<&str> {
    tool.get("function").unwrap_or(tool).get("name")?.as_str()
}

/// An error and its cause.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
