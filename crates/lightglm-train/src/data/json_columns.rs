//! `records_of_columns`: a JSON object of columns as rows.

use serde_json::{Map, Value};

use super::fault::Fault;
use super::fields::wrong_type;
use super::record::Located;

/// Rows, and the fields that are no columns.
type Records = (Vec<Map<String, Value>>, Vec<String>);

/// The rows of `{"question": ["...", ...], "answer": ["...", ...]}`; in the place of a list pandas writes
/// an object by indices, `{"0": "...", "1": "..."}`.
pub(super) fn records_of_columns(fields: Map<String, Value>) -> Result<Records, Located> {
    let (mut records, mut others) = (Vec::new(), Vec::new());
    for (index, (name, column)) in fields.into_iter().enumerate() {
        let values: Vec<Value> = match column {
            Value::Array(values) => values,
            Value::Object(values) => values.into_iter().map(|(_, value)| value).collect(),
            other if index == 0 => return Err(wrong_type(name, "a column", &other)),
            _ => {
                others.push(name);
                continue;
            }
        };
        if index == 0 {
            records = vec![Map::new(); values.len()];
        }
        let (expected, actual) = (records.len(), values.len());
        if expected != actual {
            let reason = format!("a column of {actual} rows beside one of {expected}");
            return Err(Located::field(name, Fault::WrongType { reason }));
        }
        for (record, value) in records.iter_mut().zip(values) {
            record.insert(name.clone(), value);
        }
    }
    Ok((records, others))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_become_rows() {
        let of = |value: Value| records_of_columns(value.as_object().expect("one").clone());
        let (records, others) =
            of(json!({"a": [1, 2], "b": {"0": "x", "1": "y"}, "c": 3})).expect("");
        assert_eq!(json!(records), json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]));
        assert_eq!(others, ["c"]);
        assert_eq!(of(json!({"a": [1], "b": [1, 2]})).expect_err("uneven").field, "b");
    }
}
