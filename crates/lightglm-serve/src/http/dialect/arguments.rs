//! `arguments_object`: the arguments of a call as an object, though the call may have been cut.

use serde_json::{Map, Value};

/// Places that are tried; the last is good, unless the model wrote what nobody can read.
const MOST_TRIES: usize = 16;

/// What of `text` is complete, as an object: a cut one keeps the members that were written to their end.
pub(in crate::http) fn arguments_object(text: &str) -> Map<String, Value> {
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        return object;
    }
    // The places behind which nothing is missing but brackets, the last first.
    let (mut open, mut ends) = (Vec::new(), Vec::new());
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                open.push(if byte == b'{' { '}' } else { ']' });
                ends.push((at + 1, open.clone()));
            }
            b'}' | b']' => {
                open.pop();
                ends.push((at + 1, open.clone()));
            }
            b',' => ends.push((at, open.clone())),
            _ => {}
        }
    }
    let closed = |(end, open): &(usize, Vec<char>)| {
        let closed: String = text[..*end].chars().chain(open.iter().rev().copied()).collect();
        serde_json::from_str::<Map<String, Value>>(&closed).ok()
    };
    ends.iter().rev().take(MOST_TRIES).find_map(closed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_complete_is_kept() {
        for (text, object) in [
            ("{\"a\": 1}", json!({"a": 1})),
            ("{\"a\": \"}\", \"b\": [1, {\"c\": 2}, 3", json!({"a": "}", "b": [1, {"c": 2}]})),
            ("{\"a\": \"\\\"x\", \"b\": \"cut", json!({"a": "\"x"})),
            ("{\"a\": {\"b\": 1}, \"c", json!({"a": {"b": 1}})),
            ("{\"city\": \"北", json!({})),
            ("{", json!({})),
            ("", json!({})),
            ("[1]", json!({})),
            ("no JSON }", json!({})),
        ] {
            assert_eq!(Value::Object(arguments_object(text)), object, "{text}");
        }
    }
}
