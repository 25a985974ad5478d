//! `json_text`: JSON as Python's `json.dumps` writes it, which models are trained on.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::Formatter;

/// JSON with a space behind each comma and colon, other letters than ASCII's as they are.
pub(super) fn json_text(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PythonSpaces);
    // Neither a value nor a vector fails.
    let written = value.serialize(&mut serializer);
    written.map(|()| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

struct PythonSpaces;

/// What stands in front of all but the first of a list's elements.
fn comma<W: ?Sized + io::Write>(to: &mut W, is_first: bool) -> io::Result<()> {
    if is_first { Ok(()) } else { to.write_all(b", ") }
}

impl Formatter for PythonSpaces {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        comma(to, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        comma(to, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_python_writes_it() {
        let value = json!({"城市": "北京", "days": [1, 2.5], "none": null, "quoted": "\"\n"});
        let expected = r#"{"城市": "北京", "days": [1, 2.5], "none": null, "quoted": "\"\n"}"#;
        assert_eq!(json_text(&value), expected);
    }
}
