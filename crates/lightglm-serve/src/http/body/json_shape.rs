//! `check_shape`: how deep and how large a JSON text is, before it is parsed.

use crate::http::error::ApiError;

/// Counts levels and values of a text without parsing it, so that parsing cannot take much memory.
///
/// # Errors
/// Where it is deeper than `depth` or has more than `values` values. Text that is no JSON passes: the
/// parser says what is wrong with it.
pub(in crate::http) fn check_shape(
    text: &str,
    depth: usize,
    values: usize,
) -> Result<(), ApiError> {
    let (mut level, mut count) = (0usize, 1usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
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
            b'[' | b'{' => {
                level += 1;
                count += 1;
            }
            b']' | b'}' => level = level.saturating_sub(1),
            b',' => count += 1,
            _ => {}
        }
        if level > depth {
            return Err(ApiError::json(format!("it is nested deeper than {depth} levels")));
        }
        if count > values {
            return Err(ApiError::json(format!("it has more than {values} values")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_values_are_counted_outside_of_strings() {
        let check = |text: &str| check_shape(text, 2, 6).is_ok();
        assert!(check(r#"{"a":[1,2,3]}"#));
        assert!(check(r#"["[[[[,,,,,,,,\"[[["]"#));
        assert!(!check("[[[1]]]"));
        assert!(!check("[1,2,3,4,5,6,7]"));
        assert!(check("]]]]"));
    }
}
