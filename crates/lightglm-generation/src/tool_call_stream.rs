//! Tool calls while the reply arrives.

use crate::json_scan::{ObjectScanner, Scan};
use crate::tool_call::ToolCall;

/// What a piece of the reply turned out to be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ToolCallEvent {
    /// Text that is no call.
    Content(String),
    /// A declared name on its own line and an opening brace: most likely a call.
    CallStarted {
        /// The declared tool.
        name: String,
    },
    /// More of the arguments of the call that started, as the model writes them; only of a stream that was told
    /// that there [must be a call](ToolCallStream::must_call).
    CallArguments(String),
    /// The call that started is complete.
    CallFinished(ToolCall),
    /// The call that started ends without being complete: the reply was cut, or what must be a call is no JSON.
    CallCut {
        /// The declared tool.
        name: String,
        /// The arguments so far, as the model wrote them; may be empty.
        raw_arguments: String,
    },
    /// What started was no call after all; its text follows as content.
    CallAbandoned,
}

/// Whether a tool of this name can be told from other text: it is not empty, and has no white space
/// and none of `{}[]":,` in it.
pub fn is_callable(name: &str) -> bool {
    // A name made of JSON punctuation could open a call inside another's arguments, time and again,
    // and cost more than linear time.
    let is_foreign = |c: char| c.is_whitespace() || "{}[]\":,".contains(c);
    !name.is_empty() && !name.contains(is_foreign)
}

/// Where in a line the stream is.
#[derive(Clone, Debug)]
enum State {
    /// Only white space so far: a name may begin.
    LineStart,
    /// In a word that may yet become a declared name.
    Name,
    /// After a declared name, in white space.
    AfterName,
    /// In the arguments.
    Arguments(ObjectScanner),
    /// In a line that is no call.
    MidLine,
}

/// Splits a reply into content and calls while it arrives.
///
/// The rules are those of [`parse_tool_calls`](crate::parse_tool_calls), which is this stream run
/// once; how the text is cut into pieces makes no difference. Held back is only what may yet be part
/// of a call; of a reply that [must call](Self::must_call), only its names.
#[derive(Clone, Debug)]
pub struct ToolCallStream {
    /// Sorted.
    names: Vec<String>,
    state: State,
    /// White space before the word; dropped where a call follows.
    gap: String,
    /// Nothing but white space since the last call.
    after_call: bool,
    /// The word that may be a name.
    word: String,
    /// White space after the word.
    space: String,
    /// The object so far.
    arguments: String,
    /// Whether arguments are told while they arrive.
    must_call: bool,
    /// Bytes of `arguments` that were told.
    told: usize,
}

impl ToolCallStream {
    /// A stream that knows these tools. Those that are not [callable](is_callable) are never called.
    pub fn new<S: AsRef<str>>(tool_names: &[S]) -> Self {
        let names = tool_names.iter().map(AsRef::as_ref).filter(|name| is_callable(name));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        Self {
            names,
            state: State::LineStart,
            gap: String::new(),
            after_call: false,
            word: String::new(),
            space: String::new(),
            arguments: String::new(),
            must_call: false,
            told: 0,
        }
    }

    /// For a reply that can be nothing but calls, because it was made to follow their grammar: a call is one
    /// from its opening brace on, and its arguments are told while they arrive.
    #[must_use]
    pub fn must_call(mut self) -> Self {
        self.must_call = true;
        self
    }

    /// Takes the next piece of the reply; what is certain now.
    pub fn push(&mut self, piece: &str) -> Vec<ToolCallEvent> {
        let mut events = Vec::new();
        self.run(piece, &mut events);
        self.tell_arguments(&mut events);
        events
    }

    /// Ends the reply: what was held back is content.
    pub fn finish(&mut self) -> Vec<ToolCallEvent> {
        let mut events = Vec::new();
        while !self.word.is_empty() {
            let rest = self.give_up(&mut events);
            self.run(&rest, &mut events);
        }
        let gap = std::mem::take(&mut self.gap);
        if !self.after_call {
            push_content(&mut events, &gap);
        }
        self.state = State::LineStart;
        self.after_call = false;
        events
    }

    /// Ends a reply that was cut (by its length, say): a call whose name stands there is given as far as it came,
    /// where [`finish`](Self::finish) makes it content. Where there must be a call, the beginning of a name that
    /// no other tool's has is enough.
    pub fn finish_cut(&mut self) -> Vec<ToolCallEvent> {
        let mut events = Vec::new();
        let has_begun = match &self.state {
            State::Arguments(_) => true,
            State::AfterName if self.must_call || self.space.contains('\n') => {
                events.push(ToolCallEvent::CallStarted { name: self.word.clone() });
                true
            }
            State::Name if self.must_call => self.complete_name(&mut events),
            _ => false,
        };
        if has_begun {
            self.cut_call(&mut events);
        }
        events.extend(self.finish());
        events
    }

    /// Makes the word the only name that begins so.
    fn complete_name(&mut self, events: &mut Vec<ToolCallEvent>) -> bool {
        let mut meant = self.names.iter().filter(|name| name.starts_with(&self.word));
        let (Some(name), None) = (meant.next(), meant.next()) else { return false };
        self.word.clone_from(name);
        events.push(ToolCallEvent::CallStarted { name: name.clone() });
        true
    }

    fn cut_call(&mut self, events: &mut Vec<ToolCallEvent>) {
        self.tell_arguments(events);
        let name = std::mem::take(&mut self.word);
        let raw_arguments = std::mem::take(&mut self.arguments);
        events.push(ToolCallEvent::CallCut { name, raw_arguments });
        self.call_is_over();
    }

    fn tell_arguments(&mut self, events: &mut Vec<ToolCallEvent>) {
        if self.must_call && self.told < self.arguments.len() {
            events.push(ToolCallEvent::CallArguments(self.arguments[self.told..].to_owned()));
            self.told = self.arguments.len();
        }
    }

    fn call_is_over(&mut self) {
        self.gap.clear();
        self.space.clear();
        self.told = 0;
        self.state = State::LineStart;
        self.after_call = true;
    }

    fn run(&mut self, text: &str, events: &mut Vec<ToolCallEvent>) {
        for character in text.chars() {
            while !self.accept(character, events) {
                // What was held back is no call. None of it can have started a call that fails
                // before its end: another name and brace in there would have ended the first
                // call's arguments. So this goes one level deep.
                let rest = self.give_up(events);
                self.run(&rest, events);
            }
        }
    }

    /// Takes one character; false where it shows that what is held back is no call.
    fn accept(&mut self, character: char, events: &mut Vec<ToolCallEvent>) -> bool {
        match &mut self.state {
            State::LineStart if character.is_whitespace() => self.gap.push(character),
            State::LineStart => {
                self.word.push(character);
                if !self.is_name_prefix() {
                    self.word.pop();
                    push_content(events, &std::mem::take(&mut self.gap));
                    self.after_call = false;
                    self.state = State::MidLine;
                    return self.accept(character, events);
                }
                self.state = State::Name;
            }
            State::Name if character.is_whitespace() => {
                if self.names.binary_search(&self.word).is_err() {
                    return false;
                }
                self.state = State::AfterName;
                self.space.push(character);
            }
            State::Name => {
                self.word.push(character);
                if !self.is_name_prefix() {
                    self.word.pop();
                    return false;
                }
            }
            State::AfterName if character.is_whitespace() => self.space.push(character),
            State::AfterName => {
                if character != '{' || !self.space.contains('\n') {
                    return false;
                }
                self.arguments.push(character);
                self.state = State::Arguments(ObjectScanner::after_brace());
                events.push(ToolCallEvent::CallStarted { name: self.word.clone() });
            }
            State::Arguments(scanner) => match scanner.push(character) {
                // What was told cannot be taken back: the call ends here, and the rest is content.
                Scan::Invalid if self.must_call => {
                    self.cut_call(events);
                    return self.accept(character, events);
                }
                Scan::Invalid => return false,
                Scan::Open => self.arguments.push(character),
                Scan::Complete => {
                    self.arguments.push(character);
                    self.end_call(events);
                }
            },
            State::MidLine if character == '\n' => {
                self.gap.push(character);
                self.state = State::LineStart;
            }
            State::MidLine => push_content(events, character.encode_utf8(&mut [0; 4])),
        }
        true
    }

    fn is_name_prefix(&self) -> bool {
        let next = self.names.partition_point(|name| name.as_str() < self.word.as_str());
        self.names.get(next).is_some_and(|name| name.starts_with(&self.word))
    }

    fn end_call(&mut self, events: &mut Vec<ToolCallEvent>) {
        match serde_json::from_str(&self.arguments) {
            Ok(arguments) => {
                self.tell_arguments(events);
                events.push(ToolCallEvent::CallFinished(ToolCall {
                    name: std::mem::take(&mut self.word),
                    arguments,
                    raw_arguments: std::mem::take(&mut self.arguments),
                }));
                self.call_is_over();
            }
            Err(_) if self.must_call => self.cut_call(events),
            // Well nested, but with a number or a word that JSON does not have.
            Err(_) => {
                let rest = self.give_up(events);
                self.run(&rest, events);
            }
        }
    }

    /// Makes the held back word content, and the line one without a call; what was held back after
    /// the word has to be looked at again.
    fn give_up(&mut self, events: &mut Vec<ToolCallEvent>) -> String {
        if matches!(self.state, State::Arguments(_)) {
            events.push(ToolCallEvent::CallAbandoned);
        }
        push_content(events, &std::mem::take(&mut self.gap));
        push_content(events, &std::mem::take(&mut self.word));
        self.after_call = false;
        self.state = State::MidLine;
        std::mem::take(&mut self.space) + &std::mem::take(&mut self.arguments)
    }
}

fn push_content(events: &mut Vec<ToolCallEvent>, text: &str) {
    match events.last_mut() {
        _ if text.is_empty() => {}
        Some(ToolCallEvent::Content(last)) => last.push_str(text),
        _ => events.push(ToolCallEvent::Content(text.to_owned())),
    }
}
