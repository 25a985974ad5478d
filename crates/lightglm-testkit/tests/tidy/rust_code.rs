//! Reading Rust, as far as the rules need it: code without its comments and literals.

/// Numbered lines from 1, without comments, doc comments and the contents of string literals.
///
/// Block comments, raw strings and strings over several lines are followed across lines.
pub(crate) fn code_lines(text: &str) -> Vec<(usize, String)> {
    let mut scanner = Scanner { chars: text.chars().collect(), at: 0, code: String::new() };
    scanner.run();
    scanner.code.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())).collect()
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    /// What is left: code, and every line break.
    code: String,
}

impl Scanner {
    fn run(&mut self) {
        while let Some(&c) = self.chars.get(self.at) {
            let next = self.chars.get(self.at + 1).copied();
            let after_word = self.at > 0 && is_word(self.chars[self.at - 1]);
            match c {
                '/' if next == Some('/') => self.skip_until(|rest| rest[0] == '\n'),
                '/' if next == Some('*') => self.skip_block_comment(),
                'r' if !after_word && self.raw_hashes(self.at + 1).is_some() => {
                    self.skip_raw_string(self.at + 1)
                }
                'b' if !after_word
                    && next == Some('r')
                    && self.raw_hashes(self.at + 2).is_some() =>
                {
                    self.skip_raw_string(self.at + 2)
                }
                '"' => self.skip_string(),
                '\'' => self.skip_char(),
                _ => self.keep(1),
            }
        }
    }

    fn keep(&mut self, count: usize) {
        let end = (self.at + count).min(self.chars.len());
        self.code.extend(&self.chars[self.at..end]);
        self.at = end;
    }

    /// Drops characters up to where `end` holds, but no line break.
    fn skip_until(&mut self, end: impl Fn(&[char]) -> bool) {
        while self.at < self.chars.len() && !end(&self.chars[self.at..]) {
            self.skip(1);
        }
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.chars.get(self.at) == Some(&'\n') {
                self.code.push('\n');
            }
            self.at += 1;
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            let opens = self.chars[self.at..].starts_with(&['/', '*']);
            let closes = self.chars[self.at..].starts_with(&['*', '/']);
            depth += i32::from(opens) - i32::from(closes);
            self.skip(if opens || closes { 2 } else { 1 });
            if closes && depth == 0 {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        self.skip(1);
        while self.at < self.chars.len() && self.chars[self.at] != '"' {
            self.skip(if self.chars[self.at] == '\\' { 2 } else { 1 });
        }
        self.skip(1);
    }

    /// A character literal; a lifetime is kept.
    fn skip_char(&mut self) {
        let escaped = self.chars.get(self.at + 1) == Some(&'\\');
        if escaped {
            self.skip(3);
            self.skip_until(|rest| rest[0] == '\'');
            self.skip(1);
        } else if self.chars.get(self.at + 2) == Some(&'\'') {
            self.skip(3);
        } else {
            self.keep(1);
        }
    }

    /// The number of `#` before the quote, where a raw string opens at `at`.
    fn raw_hashes(&self, at: usize) -> Option<usize> {
        let hashes = self.chars[at..].iter().take_while(|c| **c == '#').count();
        (self.chars.get(at + hashes) == Some(&'"')).then_some(hashes)
    }

    fn skip_raw_string(&mut self, at: usize) {
        let hashes = self.raw_hashes(at).unwrap_or(0);
        self.skip(at + hashes + 1 - self.at);
        let close: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
        self.skip_until(|rest| rest.starts_with(&close));
        self.skip(close.len());
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// The functions under an `#[ignore]`, with the line of the attribute.
pub(crate) fn ignored_tests(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut ignored = None;
    for (number, line) in code_lines(text) {
        if line.trim_start().starts_with("#[ignore") {
            ignored = Some(number);
        }
        let name = words(&line).skip_while(|word| *word != "fn").nth(1);
        if let (Some(name), Some(attribute)) = (name, ignored) {
            found.push((attribute, name.to_owned()));
            ignored = None;
        }
    }
    found
}

pub(crate) enum UnsafeUse {
    /// A block or an `unsafe impl`.
    Block,
    /// A function or trait that callers elsewhere can reach.
    Public,
}

/// What a line of code uses `unsafe` for, if it does and owes an argument for it.
///
/// A type (`unsafe fn(..)`) owes nothing. Nor does a private function of its own: a file of
/// intrinsics has one contract, stated once.
pub(crate) fn unsafe_keyword(line: &str) -> Option<UnsafeUse> {
    let mut after = words(line).skip_while(|word| *word != "unsafe");
    after.next()?;
    match after.next() {
        Some("fn" | "extern" | "trait") => {
            line.trim_start().starts_with("pub unsafe").then_some(UnsafeUse::Public)
        }
        _ => Some(UnsafeUse::Block),
    }
}

/// Whether one of `arguments` stands in the last of `lines` or above it: within `distance` lines, or
/// anywhere in the run of comments and attributes that touches it.
pub(crate) fn argued(lines: &[&str], arguments: &[&str], distance: usize) -> bool {
    let holds = |line: &&str| arguments.iter().any(|argument| line.contains(argument));
    let comment = |line: &&&str| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with("#[")
    };
    let above = || lines.iter().rev();
    above().take(distance + 1).any(holds) || above().skip(1).take_while(comment).any(holds)
}
