//! JSON that can be read back: what a reader refuses although JSON's grammar allows it.
//!
//! `serde_json` (and every reader with doubles) refuses `1e999`, and readers stop at some depth. The
//! grammar of JSON has neither bound, so the bytes are followed here a second time.

/// Digits before the point, and after it.
const MAX_DIGITS: u32 = 200;

/// Digits after which a number ends where it can: nobody needs more, and a model that repeats itself
/// would go on.
const LONG_DIGITS: u32 = 40;

/// Digits of an exponent. With [`MAX_DIGITS`] the largest number is below 1e299, and a double's
/// limit is 1.8e308.
const MAX_EXPONENT_DIGITS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outside,
    Text,
    /// After a backslash in a string.
    Escape,
    Whole(u32),
    Fraction(u32),
    Exponent(u32),
}

/// What a reader would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Depth,
    Number,
}

/// Follows JSON byte by byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonGuard {
    max_depth: usize,
    /// Numbers begin to count at this depth: before the arguments of a call there is a name.
    numbers_from: usize,
    depth: usize,
    state: State,
}

impl JsonGuard {
    /// Begins before a JSON text, or before a call whose arguments are one.
    pub(crate) fn new(max_depth: usize, in_call: bool) -> Self {
        Self { max_depth, numbers_from: in_call.into(), depth: 0, state: State::Outside }
    }

    /// The same, but at `depth` and in a string or not.
    pub(crate) fn at(self, depth: usize, in_text: bool) -> Self {
        let state = if in_text { State::Text } else { State::Outside };
        Self { depth, state, ..self }
    }

    /// Whether a token with this many opening brackets could go too deep.
    pub(crate) fn nears_depth(&self, openers: usize) -> bool {
        self.depth.saturating_add(openers) > self.max_depth
    }

    /// Whether the last byte was part of a number.
    pub(crate) fn in_number(&self) -> bool {
        matches!(self.state, State::Whole(_) | State::Fraction(_) | State::Exponent(_))
    }

    /// Whether the last byte was part of a number that is long enough.
    pub(crate) fn in_long_number(&self) -> bool {
        matches!(self.state, State::Whole(n) | State::Fraction(n) if n >= LONG_DIGITS)
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        bytes.iter().try_for_each(|&byte| self.push_byte(byte))
    }

    fn push_byte(&mut self, byte: u8) -> Result<(), Fault> {
        self.state = match (self.state, byte) {
            (State::Text, b'"') => State::Outside,
            (State::Text, b'\\') => State::Escape,
            (State::Text | State::Escape, _) => State::Text,
            (State::Whole(n), b'0'..=b'9') => State::Whole(counted(n, MAX_DIGITS)?),
            (State::Fraction(n), b'0'..=b'9') => State::Fraction(counted(n, MAX_DIGITS)?),
            (State::Exponent(n), b'0'..=b'9') => State::Exponent(counted(n, MAX_EXPONENT_DIGITS)?),
            (State::Whole(_), b'.') => State::Fraction(0),
            (State::Whole(_) | State::Fraction(_), b'e' | b'E') => State::Exponent(0),
            (State::Exponent(0), b'+' | b'-') => State::Exponent(0),
            (_, byte) => self.between(byte)?,
        };
        Ok(())
    }

    /// A byte that is part of no string and no number yet.
    fn between(&mut self, byte: u8) -> Result<State, Fault> {
        match byte {
            b'"' => return Ok(State::Text),
            b'-' if self.depth >= self.numbers_from => return Ok(State::Whole(0)),
            b'0'..=b'9' if self.depth >= self.numbers_from => return Ok(State::Whole(1)),
            b'{' | b'[' if self.depth >= self.max_depth => return Err(Fault::Depth),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Ok(State::Outside)
    }
}

fn counted(digits: u32, limit: u32) -> Result<u32, Fault> {
    if digits < limit { Ok(digits + 1) } else { Err(Fault::Number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, in_call: bool) -> Result<usize, Fault> {
        let mut guard = JsonGuard::new(4, in_call);
        guard.push(text.as_bytes()).map(|()| guard.depth)
    }

    #[test]
    fn what_readers_refuse_is_refused() {
        assert_eq!(run("[1e99, -2.5E-99]", false), Ok(0));
        assert_eq!(run("[1e100", false), Err(Fault::Number));
        assert_eq!(run("1e+999", false), Err(Fault::Number));
        assert_eq!(run(&"9".repeat(200), false), Ok(0));
        assert_eq!(run(&"9".repeat(201), false), Err(Fault::Number));
        assert_eq!(run(&format!("0.{}", "0".repeat(201)), false), Err(Fault::Number));
        assert_eq!(run("[[[[", false), Ok(4));
        assert_eq!(run("[[[[1],[", false), Ok(4));
        assert_eq!(run("[[[[[", false), Err(Fault::Depth));
    }

    #[test]
    fn strings_and_names_are_only_text() {
        assert_eq!(run(r#"{"[[[[[[":"1e999\"[[[[[[""#, false), Ok(1));
        assert_eq!(run("f1e999\n{\"a\":1", true), Ok(1));
        assert_eq!(run("f1e999\n{\"a\":1e999", true), Err(Fault::Number));
    }
}
