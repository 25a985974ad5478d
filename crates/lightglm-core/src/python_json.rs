//! JSON as Python writes it: with a byte order mark where an editor left one, and numbers that JSON has not.

use serde_json::Value;

/// The value in `bytes`. `NaN`, `Infinity` and `-Infinity` in the place of a value are `null`: Python's `json`
/// writes them, and no field that is read here means anything by them.
///
/// # Errors
/// Where it is not JSON otherwise.
pub fn python_json(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|error| {
        let without = without_python_numbers(bytes);
        // The first error names the place in the file as it is.
        without.and_then(|text| serde_json::from_slice(&text).ok()).ok_or(error)
    })
}

/// The text with `null` in the place of each `NaN`, `Infinity` and `-Infinity` outside of its texts; `None` where
/// there are none.
pub fn without_python_numbers(bytes: &[u8]) -> Option<Vec<u8>> {
    const NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let (mut text, mut in_string, mut found, mut at) = (Vec::new(), false, false, 0);
    while at < bytes.len() {
        let number = NUMBERS.iter().find(|number| bytes[at..].starts_with(number));
        match (in_string, number) {
            (false, Some(number)) => {
                text.extend(b"null");
                found = true;
                at += number.len();
            }
            _ => {
                in_string ^= bytes[at] == b'"';
                let escape = in_string && bytes[at] == b'\\';
                let end = bytes.len().min(at + if escape { 2 } else { 1 });
                text.extend(&bytes[at..end]);
                at = end;
            }
        }
    }
    found.then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::python_json;

    #[test]
    fn what_python_writes_is_read() {
        let read = |text: &str| python_json(text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read("\u{feff}{\"a\": 1}"), Ok(json!({"a": 1})));
        let numbers = r#"{"a": NaN, "b": [-Infinity, Infinity, 1], "c": "NaN \" NaN"}"#;
        let expected = json!({"a": null, "b": [null, null, 1], "c": "NaN \" NaN"});
        assert_eq!(read(numbers), Ok(expected));
        for text in ["", "NaN NaN", "{\"a\": Nan}", "{\"a\": NaN", "\u{feff}", "\"\\"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
