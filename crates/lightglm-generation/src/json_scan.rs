//! Finds the end of a JSON object while its characters arrive.

/// Deepest nesting accepted; below the recursion limit of serde_json, which reads the object next.
const MAX_DEPTH: usize = 100;

/// What the characters so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The beginning of an object.
    Open,
    /// An object, complete with this character.
    Complete,
    /// Not JSON.
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// A key, or the end of an object that has nothing yet.
    FirstKey,
    Key,
    Colon,
    Value,
    /// A value, or the end of an array that has nothing yet.
    FirstItem,
    /// What follows a value: a comma or the end of what surrounds it.
    Next,
    /// Inside a string; whether it is a key.
    Text {
        key: bool,
    },
    /// After a backslash in a string.
    Escape {
        key: bool,
    },
    /// Hexadecimal digits still to come after `\u`.
    Unicode {
        key: bool,
        digits: u8,
    },
    /// Inside a number or a word; their spelling is left to the reader of the whole object.
    Bare,
}

/// A JSON object as far as it has been seen.
///
/// Refuses at the first character that no object can have there, so that text which only looks like
/// a call costs no more than its own length. Numbers and words are checked for their characters
/// alone.
#[derive(Clone, Debug)]
pub(crate) struct ObjectScanner {
    /// The brackets that are open.
    stack: Vec<u8>,
    expect: Expect,
}

impl ObjectScanner {
    /// A scanner that has seen the opening brace.
    pub(crate) fn after_brace() -> Self {
        Self { stack: vec![b'{'], expect: Expect::FirstKey }
    }

    /// Takes the next character.
    pub(crate) fn push(&mut self, character: char) -> Scan {
        let expect = match (self.expect, character) {
            (Expect::Text { key: true }, '"') => Expect::Colon,
            (Expect::Text { key: false }, '"') => Expect::Next,
            (Expect::Text { key }, '\\') => Expect::Escape { key },
            (Expect::Text { .. }, '\0'..='\x1F') => return Scan::Invalid,
            (Expect::Text { key }, _) => Expect::Text { key },
            (Expect::Escape { key }, 'u') => Expect::Unicode { key, digits: 4 },
            (Expect::Escape { key }, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {
                Expect::Text { key }
            }
            (Expect::Unicode { key, digits }, c) if c.is_ascii_hexdigit() => match digits {
                1 => Expect::Text { key },
                more => Expect::Unicode { key, digits: more - 1 },
            },
            (Expect::Bare, '0'..='9' | 'a'..='z' | '.' | '+' | '-' | 'E') => Expect::Bare,
            (Expect::Bare, ' ' | '\t' | '\n' | '\r') => Expect::Next,
            (Expect::Bare | Expect::Next, ',' | '}' | ']') => return self.after_value(character),
            (unchanged, ' ' | '\t' | '\n' | '\r')
                if !matches!(unchanged, Expect::Escape { .. } | Expect::Unicode { .. }) =>
            {
                unchanged
            }
            (Expect::FirstKey | Expect::Key, '"') => Expect::Text { key: true },
            (Expect::FirstKey, '}') | (Expect::FirstItem, ']') => return self.close(character),
            (Expect::Colon, ':') => Expect::Value,
            (Expect::Value | Expect::FirstItem, _) => match self.begin_value(character) {
                Some(expect) => expect,
                None => return Scan::Invalid,
            },
            _ => return Scan::Invalid,
        };
        self.expect = expect;
        Scan::Open
    }

    fn begin_value(&mut self, character: char) -> Option<Expect> {
        Some(match character {
            '"' => Expect::Text { key: false },
            '{' | '[' if self.stack.len() >= MAX_DEPTH => return None,
            '{' => {
                self.stack.push(b'{');
                Expect::FirstKey
            }
            '[' => {
                self.stack.push(b'[');
                Expect::FirstItem
            }
            '-' | '0'..='9' | 't' | 'f' | 'n' => Expect::Bare,
            _ => return None,
        })
    }

    fn after_value(&mut self, character: char) -> Scan {
        if character != ',' {
            return self.close(character);
        }
        let in_object = self.stack.last() == Some(&b'{');
        self.expect = if in_object { Expect::Key } else { Expect::Value };
        Scan::Open
    }

    fn close(&mut self, bracket: char) -> Scan {
        let opening = if bracket == '}' { b'{' } else { b'[' };
        if self.stack.pop() != Some(opening) {
            return Scan::Invalid;
        }
        self.expect = Expect::Next;
        if self.stack.is_empty() { Scan::Complete } else { Scan::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> (Scan, usize) {
        let mut scanner = ObjectScanner::after_brace();
        for (index, character) in text.char_indices().skip(1) {
            match scanner.push(character) {
                Scan::Open => {}
                end => return (end, index + character.len_utf8()),
            }
        }
        (Scan::Open, text.len())
    }

    #[test]
    fn objects_end_where_they_end() {
        for object in [
            "{}",
            r#"{"a":"}\"{\\"}"#,
            r#"{ "a" : [ ] , "b" : { "c" : [1, -2.5e+3, true, null, "\u00e9"] } }"#,
            "{\n\"你\": \"好\"\n}",
        ] {
            let followed = format!("{object} and {{more}}");
            assert_eq!(scan(&followed), (Scan::Complete, object.len()), "{object}");
            assert!(serde_json::from_str::<serde_json::Value>(object).is_ok());
        }
    }

    #[test]
    fn what_is_no_json_is_refused_at_once() {
        for (text, at) in [
            ("{a", 2),
            ("{\"a\n", 4),
            (r#"{"a" 1"#, 6),
            (r#"{"a":1]"#, 7),
            (r#"{"a":1,}"#, 8),
            (r#"{"a":[1,]"#, 9),
            (r#"{"a":\"#, 6),
            (r#"{"\x"#, 4),
            (r#"{"\u12g"#, 7),
        ] {
            assert_eq!(scan(text), (Scan::Invalid, at), "{text}");
        }
        assert_eq!(scan(&"{\"a\":".repeat(1000)).0, Scan::Invalid);
    }
}
