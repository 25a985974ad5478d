//! The methods of Python's `str`.

use super::args::{Args, Bound};
use super::error::TemplateError;
use super::operators::slice;
use super::printf;
use super::text::{Glyph, Text, TextBuilder};
use super::value::Value;

type Outcome = Result<Value, TemplateError>;

/// The methods, and the names of their parameters.
pub(crate) const METHODS: &[(&str, &[&str])] = &[
    ("capitalize", &[]),
    ("casefold", &[]),
    ("center", &["width", "fillchar"]),
    ("count", &["sub", "start", "end"]),
    ("endswith", &["suffix", "start", "end"]),
    ("expandtabs", &["tabsize"]),
    ("find", &["sub", "start", "end"]),
    ("index", &["sub", "start", "end"]),
    ("isalnum", &[]),
    ("isalpha", &[]),
    ("isascii", &[]),
    ("isdecimal", &[]),
    ("isdigit", &[]),
    ("islower", &[]),
    ("isnumeric", &[]),
    ("isspace", &[]),
    ("isupper", &[]),
    ("join", &["iterable"]),
    ("ljust", &["width", "fillchar"]),
    ("lower", &[]),
    ("lstrip", &["chars"]),
    ("partition", &["sep"]),
    ("removeprefix", &["prefix"]),
    ("removesuffix", &["suffix"]),
    ("replace", &["old", "new", "count"]),
    ("rfind", &["sub", "start", "end"]),
    ("rindex", &["sub", "start", "end"]),
    ("rjust", &["width", "fillchar"]),
    ("rpartition", &["sep"]),
    ("rsplit", &["sep", "maxsplit"]),
    ("rstrip", &["chars"]),
    ("split", &["sep", "maxsplit"]),
    ("splitlines", &["keepends"]),
    ("startswith", &["prefix", "start", "end"]),
    ("strip", &["chars"]),
    ("swapcase", &[]),
    ("title", &[]),
    ("upper", &[]),
    ("zfill", &["width"]),
];

/// Which ends a text loses something at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Left,
    Right,
    Both,
}

/// Calls `text.name(args)`.
///
/// # Errors
/// [`TemplateError`] where Python raises an exception.
pub(crate) fn call(text: &Text, name: &str, args: Args) -> Outcome {
    if name == "format" {
        return printf::format(text, &args);
    }
    let Some((_, parameters)) = METHODS.iter().find(|(known, _)| *known == name) else {
        return Err(TemplateError::Undefined { what: format!("str.{name}") });
    };
    let args = args.bind(name, parameters)?;
    match name {
        "capitalize" => Ok(Value::Text(capitalized(text))),
        "casefold" => Ok(Value::Text(text.map_chars(casefolded))),
        "lower" => Ok(Value::Text(lower(text))),
        "upper" => Ok(Value::Text(text.map_chars(char::to_uppercase))),
        "swapcase" => Ok(Value::Text(text.map_chars(|c| match c.is_uppercase() {
            true => c.to_lowercase().collect::<Vec<_>>(),
            false => c.to_uppercase().collect(),
        }))),
        "title" => Ok(Value::Text(title(text))),
        "strip" => Ok(Value::Text(strip(text, args.optional_text(0)?, Ends::Both))),
        "lstrip" => Ok(Value::Text(strip(text, args.optional_text(0)?, Ends::Left))),
        "rstrip" => Ok(Value::Text(strip(text, args.optional_text(0)?, Ends::Right))),
        "split" => split(text, &args, false),
        "rsplit" => split(text, &args, true),
        "splitlines" => Ok(splitlines(text, args.flag(0))),
        "partition" | "rpartition" => partition(text, args.text(0)?, name == "rpartition"),
        "removeprefix" | "removesuffix" => Ok(Value::Text(without(text, args.text(0)?, name))),
        "replace" => replace(text, args.text(0)?, args.text(1)?, args.optional_int(2)?),
        "join" => join(text, args.required(0)?),
        "startswith" | "endswith" => begins_or_ends(text, &args, name == "startswith"),
        "find" | "index" | "rfind" | "rindex" | "count" => find(text, &args, name),
        "center" | "ljust" | "rjust" => justify(text, &args, name),
        "zfill" => zfill(text, args.count(0, 0)?),
        "expandtabs" => expandtabs(text, args.count(0, 8)?),
        _ => Ok(Value::Bool(is(text, name))),
    }
}

/// What `str.isspace` takes for white space.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&character)
}

pub(crate) fn lower(text: &Text) -> Text {
    text.map_chars(char::to_lowercase)
}

pub(crate) fn capitalized(text: &Text) -> Text {
    let mut first = true;
    text.map_chars(|c| {
        let is_first = std::mem::take(&mut first);
        if is_first { titlecased(c) } else { c.to_lowercase().collect() }
    })
}

/// The character as the first one of a word: of an upper case of several, the first alone.
pub(crate) fn titlecased(character: char) -> Vec<char> {
    let mut upper = character.to_uppercase();
    upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect()
}

/// The character in a spelling that its upper and its lower case share.
fn casefolded(character: char) -> Vec<char> {
    match character {
        // Its upper case is another letter's.
        'ı' => vec![character],
        _ => character.to_uppercase().flat_map(char::to_lowercase).collect(),
    }
}

fn title(text: &Text) -> Text {
    let mut in_word = false;
    text.map_chars(|c| {
        let mapped = if in_word { c.to_lowercase().collect() } else { titlecased(c) };
        in_word = c.is_alphabetic();
        mapped
    })
}

pub(crate) fn strip(text: &Text, characters: Option<&Text>, ends: Ends) -> Text {
    let goes = |character: char| match characters {
        None => is_space(character),
        Some(set) => set.chars().any(|one| one == character),
    };
    let (mut start, mut end) = (0, text.len());
    let glyphs = text.glyphs();
    if ends != Ends::Right {
        while start < end && goes(glyphs[start].character) {
            start += 1;
        }
    }
    if ends != Ends::Left {
        while end > start && goes(glyphs[end - 1].character) {
            end -= 1;
        }
    }
    text.part(start, end)
}

fn split(text: &Text, args: &Bound, from_right: bool) -> Outcome {
    let most = match args.optional_int(1)? {
        Some(most) => usize::try_from(most).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let ranges = match args.optional_text(0)? {
        Some(separator) if separator.is_empty() => {
            return Err(TemplateError::operation("empty separator"));
        }
        Some(separator) => split_at(text, separator, most, from_right),
        None => split_at_spaces(text, most, from_right),
    };
    let remains = text.remains();
    let whole = ranges.len() == 1 && ranges[0] == (0, text.len());
    let part = |&(start, end): &(usize, usize)| match whole {
        true => Value::Text(text.clone()),
        false => Value::Text(remains.part(start, end)),
    };
    Ok(Value::list(ranges.iter().map(part).collect()))
}

/// Where `separator` lies, left to right, without overlaps, seen from the right where asked.
fn occurrences(text: &Text, separator: &Text, from_right: bool) -> Vec<usize> {
    if !from_right {
        return text.occurrences(&separator.plain());
    }
    let reversed = |text: &Text| text.chars().rev().collect::<String>();
    let backwards = Text::template(&reversed(text)).occurrences(&reversed(separator));
    backwards.iter().rev().map(|at| text.len() - at - separator.len()).collect()
}

fn split_at(text: &Text, separator: &Text, most: usize, from_right: bool) -> Vec<(usize, usize)> {
    let mut found = occurrences(text, separator, from_right);
    if from_right {
        found.drain(..found.len().saturating_sub(most));
    } else {
        found.truncate(most);
    }
    let mut start = 0;
    let mut ranges = Vec::with_capacity(found.len() + 1);
    for at in found {
        ranges.push((start, at));
        start = at + separator.len();
    }
    ranges.push((start, text.len()));
    ranges
}

fn split_at_spaces(text: &Text, most: usize, from_right: bool) -> Vec<(usize, usize)> {
    let mut words: Vec<(usize, usize)> = Vec::new();
    let mut start = None;
    for (at, character) in text.chars().chain([' ']).enumerate() {
        match (is_space(character), start) {
            (true, Some(begin)) => {
                words.push((begin, at));
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    if words.len() <= most {
        return words;
    }
    if from_right {
        // What is left in front keeps its white space inside.
        let rest = words.len() - most;
        let mut kept = words.split_off(rest);
        kept.insert(0, (0, words.last().map_or(0, |word| word.1)));
        kept
    } else {
        let begin = words[most].0;
        words.truncate(most);
        words.push((begin, text.len()));
        words
    }
}

fn splitlines(text: &Text, keep_ends: bool) -> Value {
    let remains = text.remains();
    let glyphs = text.glyphs();
    let breaks = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{1C}'
                ..='\u{1E}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let (mut lines, mut start, mut at) = (Vec::new(), 0, 0);
    while at < glyphs.len() {
        if !breaks(glyphs[at].character) {
            at += 1;
            continue;
        }
        let is_pair = glyphs[at].character == '\r'
            && glyphs.get(at + 1).is_some_and(|next| next.character == '\n');
        let end = at + 1 + usize::from(is_pair);
        lines.push(Value::Text(remains.part(start, if keep_ends { end } else { at })));
        (start, at) = (end, end);
    }
    if start < glyphs.len() {
        lines.push(Value::Text(remains.part(start, glyphs.len())));
    }
    Value::list(lines)
}

fn partition(text: &Text, separator: &Text, last: bool) -> Outcome {
    if separator.is_empty() {
        return Err(TemplateError::operation("empty separator"));
    }
    let found = occurrences(text, separator, last);
    let at = if last { found.last() } else { found.first() };
    let remains = text.remains();
    let parts = match at {
        Some(&at) => {
            let end = at + separator.len();
            [remains.part(0, at), remains.part(at, end), remains.part(end, text.len())]
        }
        None if last => [Text::default(), Text::default(), text.clone()],
        None => [text.clone(), Text::default(), Text::default()],
    };
    Ok(Value::tuple(parts.map(Value::Text).into()))
}

fn without(text: &Text, affix: &Text, name: &str) -> Text {
    let (plain, affix_plain) = (text.plain(), affix.plain());
    if name == "removeprefix" && plain.starts_with(&affix_plain) {
        text.part(affix.len(), text.len())
    } else if name == "removesuffix" && plain.ends_with(&affix_plain) {
        text.part(0, text.len() - affix.len())
    } else {
        text.clone()
    }
}

/// `text.replace(old, new, most)`.
///
/// # Errors
/// [`TemplateError::TextTooLong`].
pub(crate) fn replace(text: &Text, old: &Text, new: &Text, most: Option<i128>) -> Outcome {
    let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let found: Vec<usize> = match old.is_empty() {
        true => (0..=text.len()).collect(),
        false => text.occurrences(&old.plain()),
    };
    if found.is_empty() || most == 0 {
        return Ok(Value::Text(text.clone()));
    }
    let mut out = TextBuilder::default();
    let mut start = 0;
    for &at in found.iter().take(most) {
        out.glyphs(&text.glyphs()[start..at]);
        out.text(new);
        start = at + old.len();
    }
    out.glyphs(&text.glyphs()[start..]);
    let replaced = out.finish()?;
    Ok(Value::Text(text.remains().of(replaced.glyphs().to_vec())))
}

fn join(separator: &Text, items: &Value) -> Outcome {
    let mut out = TextBuilder::default();
    for (index, item) in items.items()?.iter().enumerate() {
        let Value::Text(item) = item else {
            let reason = format!("join: item {index} is {}, not str", item.type_name());
            return Err(TemplateError::operation(reason));
        };
        if index > 0 {
            out.text(separator);
        }
        out.text(item);
    }
    out.finish().map(Value::Text)
}

/// The part of a text that `start` and `end` mean, and where it begins.
fn window(text: &Text, args: &Bound) -> Result<(Text, usize), TemplateError> {
    let (start, end) = (args.optional_int(1)?, args.optional_int(2)?);
    if start.is_none() && end.is_none() {
        return Ok((text.clone(), 0));
    }
    let length = text.len() as i128;
    let begin = start.map_or(0, |at| if at < 0 { (at + length).max(0) } else { at });
    let part = match slice(&Value::Text(text.clone()), [start, end, None])? {
        Value::Text(part) => part,
        _ => Text::default(),
    };
    Ok((part, usize::try_from(begin).unwrap_or(usize::MAX)))
}

fn begins_or_ends(text: &Text, args: &Bound, begins: bool) -> Outcome {
    let plain = window(text, args)?.0.plain();
    let fits = |affix: &Value| match affix {
        Value::Text(affix) if begins => Ok(plain.starts_with(&affix.plain())),
        Value::Text(affix) => Ok(plain.ends_with(&affix.plain())),
        other => Err(TemplateError::operation(format!(
            "startswith and endswith take str or a tuple of str, not {}",
            other.type_name()
        ))),
    };
    match args.required(0)? {
        Value::Tuple(affixes) => {
            for affix in affixes.iter() {
                if fits(affix)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        affix => fits(affix).map(Value::Bool),
    }
}

fn find(text: &Text, args: &Bound, name: &str) -> Outcome {
    let needle = args.text(0)?;
    let (part, begin) = window(text, args)?;
    let (plain, wanted) = (part.plain(), needle.plain());
    if name == "count" {
        return Ok(Value::count(match wanted.is_empty() {
            true if begin > text.len() => 0,
            true => part.len() + 1,
            false => plain.matches(&wanted).count(),
        }));
    }
    let found = if name.starts_with('r') { plain.rfind(&wanted) } else { plain.find(&wanted) };
    match found {
        Some(byte) if begin <= text.len() => {
            Ok(Value::count(begin + plain[..byte].chars().count()))
        }
        _ if name.ends_with("find") => Ok(Value::Int(-1)),
        _ => Err(TemplateError::operation("substring not found")),
    }
}

fn justify(text: &Text, args: &Bound, name: &str) -> Outcome {
    let width = args.count(0, 0)?;
    let fill = match args.optional_text(1)? {
        None => Glyph::template(' '),
        Some(text) => match text.glyphs() {
            [glyph] => *glyph,
            _ => {
                return Err(TemplateError::operation(format!("{name}: fillchar is one character")));
            }
        },
    };
    let missing = width.saturating_sub(text.len());
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // As CPython: the odd one goes to the left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let mut out = TextBuilder::default();
    out.fill(fill, left);
    out.text(text);
    out.fill(fill, missing - left);
    out.finish().map(Value::Text)
}

fn zfill(text: &Text, width: usize) -> Outcome {
    let sign = usize::from(matches!(text.chars().next(), Some('+' | '-')));
    let mut out = TextBuilder::default();
    out.glyphs(&text.glyphs()[..sign]);
    out.fill(Glyph::template('0'), width.saturating_sub(text.len()));
    out.glyphs(&text.glyphs()[sign..]);
    out.finish().map(Value::Text)
}

fn expandtabs(text: &Text, size: usize) -> Outcome {
    let mut out = TextBuilder::default();
    let mut column = 0;
    for &glyph in text.glyphs() {
        match glyph.character {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                out.fill(Glyph::template(' '), spaces);
                column += spaces;
            }
            character => {
                out.glyph(glyph);
                column = if matches!(character, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    out.finish().map(Value::Text)
}

/// A digit of ASCII's, or of the Arabic, Persian, Devanagari and full-width ones.
fn is_decimal(character: char) -> bool {
    matches!(character,
        '0'..='9' | '\u{660}'..='\u{669}' | '\u{6F0}'..='\u{6F9}' | '\u{966}'..='\u{96F}' | '０'..='９')
}

fn is(text: &Text, name: &str) -> bool {
    let all = |holds: fn(char) -> bool| !text.is_empty() && text.chars().all(holds);
    let cased = |wanted: fn(char) -> bool, other: fn(char) -> bool| {
        text.chars().any(wanted) && !text.chars().any(other)
    };
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.chars().all(|c| c.is_ascii()),
        "isdecimal" | "isdigit" => all(is_decimal),
        "isnumeric" => all(char::is_numeric),
        "isspace" => all(is_space),
        "islower" => cased(char::is_lowercase, char::is_uppercase),
        _ => cased(char::is_uppercase, char::is_lowercase),
    }
}
