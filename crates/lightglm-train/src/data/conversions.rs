//! `example_of`: a record of any format as an example.

use serde_json::{Map, Value, json};

use super::example::{Conversation, Example, Preference, REASONING, Role, Text, Turn};
use super::fault::Fault;
use super::fields::{
    MEDIA, from_text, is_blank, is_nothing, list, missing, optional, required, wrong_type,
};
use super::format::{ALPACA_ANSWERS, DataFormat, pair_of};
use super::names::{is_known_name, with_known_names};
use super::options::ReadOptions;
use super::record::Located;
use super::turns::{Turns, turns_of};

/// Fields that weigh a row as a whole.
const WEIGHTS: [&str; 3] = ["weight", "loss_scale", "sample_weight"];

/// A record as an example, and its fields that are not used.
pub(super) struct Converted {
    pub(super) example: Example,
    pub(super) unused: Vec<String>,
}

/// The record that began on `line` as an example; the fields that are left over become its `extra`.
pub(super) fn example_of(
    fields: Map<String, Value>,
    format: DataFormat,
    options: &ReadOptions,
    line: usize,
) -> Result<Converted, Located> {
    let named = options.columns.as_ref();
    let named = named.map_or([""; 2], |columns| [&columns.question, &columns.answer]);
    let (fields, names) = with_known_names(fields, &named).into_parts();
    let mut record = Record { fields, unused: Vec::new(), tools: None };
    let example = record.example(format, options, line);
    let mut example = example.map_err(|located| names.in_place_of_known(located))?;
    let mut unused: Vec<String> = record.unused.into_iter().map(|field| names.of(field)).collect();
    let extra = match &mut example {
        Example::Conversation(conversation) => &mut conversation.extra,
        Example::Preference(preference) => &mut preference.extra,
        Example::Text(_) => &mut Map::new(),
    };
    for (name, value) in record.fields {
        // Of the fields that formats know, exports write the empty ones, too.
        if name != "expect" && (!is_nothing(&value) || !is_known_name(&name)) {
            unused.push(names.of(name.clone()));
        }
        extra.insert(names.of(name), value);
    }
    if let Some(tools) = record.tools {
        extra.insert("tools".into(), tools);
    }
    Ok(Converted { example, unused })
}

/// A text that began on `line` as an example.
pub(super) fn text_of(text: String, line: usize) -> Result<Example, Located> {
    if is_blank(&text) {
        return Err(Located::row(Fault::EmptyText));
    }
    Ok(Example::Text(Text { text, line }))
}

/// A record whose fields are taken out one by one.
struct Record {
    fields: Map<String, Value>,
    unused: Vec<String>,
    tools: Option<Value>,
}

impl Record {
    fn example(
        &mut self,
        format: DataFormat,
        options: &ReadOptions,
        line: usize,
    ) -> Result<Example, Located> {
        self.refuse_media_and_weights()?;
        if format == DataFormat::Text {
            return text_of(required(&mut self.fields, "text")?, line);
        }
        if format == DataFormat::Preference {
            return self.preference(options, line).map(Example::Preference);
        }
        self.refuse_ratings(format)?;
        let mut turns = match format {
            DataFormat::Alpaca => self.alpaca()?,
            DataFormat::PromptCompletion => self.pair("prompt", "completion")?,
            DataFormat::QuestionAnswer => match &options.columns {
                Some(columns) => self.pair(&columns.question, &columns.answer)?,
                None => {
                    let found = pair_of(|name| self.fields.contains_key(name));
                    let (question, answer) = found.unwrap_or(("question", "answer"));
                    self.pair(question, answer)?
                }
            },
            DataFormat::ShareGpt => self.list_of_turns("conversations")?,
            _ => self.list_of_turns("messages")?,
        };
        self.around(&mut turns, options)?;
        check(&turns)?;
        Ok(Example::Conversation(Conversation { turns, line, extra: Map::new() }))
    }

    fn refuse_media_and_weights(&mut self) -> Result<(), Located> {
        let is_there = |name: &str| self.fields.get(name).is_some_and(|value| !is_nothing(value));
        if let Some(name) = MEDIA.iter().find(|name| is_there(name)) {
            return Err(Located::field(*name, Fault::Media));
        }
        for name in WEIGHTS {
            // A text is a table's column of that name, and is told of like any other.
            if let Some(Value::Number(weight)) = self.fields.get(name) {
                if weight.as_f64() != Some(1.0) {
                    let weight = weight.to_string();
                    return Err(Located::field(name, Fault::Weight { weight }));
                }
                self.fields.shift_remove(name);
            }
        }
        Ok(())
    }

    /// A record that says by true or false whether its answer is a good one (KTO).
    fn refuse_ratings(&self, format: DataFormat) -> Result<(), Located> {
        let is_rating = matches!(self.fields.get("label"), Some(Value::Bool(_)));
        let pair = pair_of(|name| self.fields.contains_key(name));
        let is_label = format == DataFormat::QuestionAnswer && pair == Some(("text", "label"));
        if is_rating && !is_label {
            return Err(Located::field("label", Fault::Rated));
        }
        Ok(())
    }

    /// The turns of the list `name`.
    fn list_of_turns(&mut self, name: &str) -> Result<Vec<Turn>, Located> {
        let messages = list(&mut self.fields, name)?;
        let messages = match messages {
            Some(messages) => messages,
            None => return Err(missing(name)),
        };
        self.turns(messages, name)
    }

    fn turns(&mut self, messages: Vec<Value>, name: &str) -> Result<Vec<Turn>, Located> {
        let Turns { turns, tools, unused } = turns_of(messages, name)?;
        self.unused.extend(unused);
        self.tools = self.tools.take().or(tools);
        Ok(turns)
    }

    fn alpaca(&mut self) -> Result<Vec<Turn>, Located> {
        let question = self.alpaca_question()?;
        let answer = ALPACA_ANSWERS.into_iter().find(|name| self.fields.contains_key(*name));
        let answer = required(&mut self.fields, answer.unwrap_or("output"))?;
        Ok(vec![Turn::new(Role::User, question), Turn::new(Role::Assistant, answer)])
    }

    /// The instruction, and on the next line what it is to be followed on.
    fn alpaca_question(&mut self) -> Result<String, Located> {
        let mut parts = vec![required(&mut self.fields, "instruction")?];
        for name in ["input", "context", "query", "question"] {
            parts.extend(optional(&mut self.fields, name)?);
        }
        parts.retain(|part| !is_blank(part));
        Ok(parts.join("\n"))
    }

    /// A question and its answer: two texts, or two lists of messages.
    fn pair(&mut self, question: &str, answer: &str) -> Result<Vec<Turn>, Located> {
        let mut turns = self.said(question, Role::User)?;
        turns.iter_mut().for_each(|turn| turn.learn = false);
        turns.extend(self.said(answer, Role::Assistant)?);
        Ok(turns)
    }

    /// What the field `name` says: a text of `role`, a message, or a list of them.
    fn said(&mut self, name: &str, role: Role) -> Result<Vec<Turn>, Located> {
        match self.fields.get(name) {
            Some(Value::Array(_)) => self.list_of_turns(name),
            Some(Value::Object(_)) => {
                let message = self.fields.shift_remove(name).unwrap_or_default();
                self.turns(vec![message], name)
            }
            _ => Ok(vec![Turn::new(role, required(&mut self.fields, name)?)]),
        }
    }

    /// Puts what comes before the turns in front of them, and takes the tools.
    fn around(&mut self, turns: &mut Vec<Turn>, options: &ReadOptions) -> Result<(), Located> {
        if let Some(reasoning) = optional(&mut self.fields, REASONING)?
            && !is_blank(&reasoning)
        {
            match turns.iter_mut().rfind(|turn| turn.role == Role::Assistant) {
                Some(answer) if !answer.extra.contains_key(REASONING) => {
                    answer.extra.insert(REASONING.into(), reasoning.into());
                }
                _ => self.unused.push(REASONING.to_owned()),
            }
        }
        let mut before = Vec::new();
        before.extend(
            optional(&mut self.fields, "system")?
                .filter(|system| !is_blank(system))
                .map(|system| Turn::new(Role::System, system)),
        );
        before.extend(self.history()?);
        turns.splice(0..0, before);
        if let Some(system) = &options.system
            && turns.iter().all(|turn| turn.role != Role::System)
        {
            turns.insert(0, Turn::new(Role::System, system.as_str()));
        }
        self.take_tools()
    }

    /// Earlier turns: pairs of question and answer, or messages.
    fn history(&mut self) -> Result<Vec<Turn>, Located> {
        let history = list(&mut self.fields, "history")?.unwrap_or_default();
        if history.iter().all(Value::is_object) {
            return self.turns(history, "history");
        }
        let mut turns = Vec::with_capacity(2 * history.len());
        for (index, exchange) in history.into_iter().enumerate() {
            let at = format!("history[{index}]");
            let pair = match exchange {
                Value::Array(pair) => <[Value; 2]>::try_from(pair).map_err(Value::Array),
                other => Err(other),
            };
            match pair {
                Ok([Value::String(question), Value::String(answer)]) => {
                    turns.push(Turn::new(Role::User, question));
                    turns.push(Turn::new(Role::Assistant, answer));
                }
                Ok(pair) => return Err(wrong_type(at, "two texts", &json!(pair))),
                Err(other) => return Err(wrong_type(at, "a question and its answer", &other)),
            }
        }
        Ok(turns)
    }

    /// `tools`, or OpenAI's `functions` of before; a list, also where it is written as a text.
    fn take_tools(&mut self) -> Result<(), Located> {
        for name in ["tools", "functions"] {
            let Some(value) = self.fields.shift_remove(name).map(from_text) else { continue };
            match value {
                value if is_nothing(&value) => {}
                tools @ (Value::Array(_) | Value::Object(_)) => self.tools = Some(tools),
                other => return Err(wrong_type(name, "a list of tools", &other)),
            }
        }
        let tools = match self.tools.take() {
            None => return Ok(()),
            Some(Value::Array(tools)) => tools,
            Some(tool @ Value::Object(_)) => vec![tool],
            Some(other) => return Err(wrong_type("tools", "a list of tools", &other)),
        };
        let tool = |(index, tool): (usize, Value)| match from_text(tool) {
            // Without OpenAI's envelope.
            Value::Object(tool) if !tool.contains_key("function") && tool.contains_key("name") => {
                Ok(json!({"type": "function", "function": tool}))
            }
            tool @ Value::Object(_) => Ok(tool),
            other => Err(wrong_type(format!("tools[{index}]"), "a tool", &other)),
        };
        self.tools =
            Some(Value::Array(tools.into_iter().enumerate().map(tool).collect::<Result<_, _>>()?));
        Ok(())
    }

    /// A better and a worse answer to what stands in front of them.
    fn preference(&mut self, options: &ReadOptions, line: usize) -> Result<Preference, Located> {
        for name in ["kto_tag", "label"] {
            if matches!(self.fields.get(name), Some(Value::Bool(_) | Value::String(_)))
                && !self.fields.contains_key("rejected")
            {
                return Err(Located::field(name, Fault::Rated));
            }
        }
        let has = |name: &str| self.fields.get(name).is_some_and(|value| !is_nothing(value));
        let questions = ["prompt", "question", "query", "input"];
        let mut prompt = if has("messages") {
            self.list_of_turns("messages")?
        } else if has("conversations") {
            self.list_of_turns("conversations")?
        } else if has("instruction") {
            vec![Turn::new(Role::User, self.alpaca_question()?)]
        } else if let Some(question) = questions.into_iter().find(|name| has(name)) {
            self.said(question, Role::User)?
        } else {
            Vec::new()
        };
        let has = |name: &str| self.fields.get(name).is_some_and(|value| !is_nothing(value));
        let rejected = ["rejected", "rejected_response", "rejected_messages"];
        let rejected = rejected.into_iter().find(|name| has(name)).unwrap_or("rejected");
        let answers = ["chosen", "response", "output", "answer"];
        let mut chosen = match answers.into_iter().find(|name| has(name)) {
            Some(name) => self.said(name, Role::Assistant)?,
            // The better answer ends the messages.
            None => {
                let last = prompt.iter().rposition(|turn| turn.role != Role::Assistant);
                prompt.split_off(last.map_or(0, |last| last + 1))
            }
        };
        let mut rejected = self.said(rejected, Role::Assistant)?;
        // Both may repeat what they answer.
        let same = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
        let same = same.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
        prompt.extend(chosen.drain(..same));
        rejected.drain(..same);
        self.around(&mut prompt, options)?;
        for (name, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
            if answer.iter().all(|turn| turn.role != Role::Assistant) {
                return Err(Located::field(name, Fault::NoAssistantTurn));
            }
        }
        Ok(Preference { prompt, chosen, rejected, line, extra: Map::new() })
    }
}

/// Whether the turns end with an answer, and something is learnt from them.
fn check(turns: &[Turn]) -> Result<(), Located> {
    if turns.iter().all(|turn| turn.role != Role::Assistant) {
        return Err(Located::row(Fault::NoAssistantTurn));
    }
    if let Some(last) = turns.last()
        && last.role != Role::Assistant
    {
        return Err(Located::row(Fault::LastTurnNotAssistant { role: last.role }));
    }
    if !turns.iter().any(|turn| turn.learn) {
        return Err(Located::row(Fault::NothingToLearn));
    }
    for turn in turns.iter().filter(|turn| is_blank(&turn.content)) {
        match turn.role {
            Role::Assistant if !turn.says_more_than_content() => {
                return Err(Located::row(Fault::EmptyAnswer));
            }
            Role::User => return Err(Located::row(Fault::EmptyQuestion)),
            _ => {}
        }
    }
    Ok(())
}
