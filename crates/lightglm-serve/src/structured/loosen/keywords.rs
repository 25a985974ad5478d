//! What becomes of each keyword.

/// Keywords that no grammar follows.
pub(super) const DROPPED: [&str; 18] = [
    "uniqueItems",
    "if",
    "then",
    "else",
    "not",
    "contains",
    "minContains",
    "maxContains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
];

/// Formats that are followed; any other says something to a reader alone.
pub(super) const FORMATS: [&str; 11] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
    "unknown",
];

/// Keywords that are followed; some within limits, which [`loosen`](super::loosen) knows.
const FOLLOWED: [&str; 28] = [
    "$ref",
    "type",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "nullable",
];

/// What becomes of a keyword of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Replies follow it.
    Followed,
    /// It is dropped where it asks for anything, and the caller is told; refused in strict schemas.
    Dropped,
    /// It says nothing about a value.
    Annotation,
}

/// What becomes of `keyword`.
pub fn treatment(keyword: &str) -> Treatment {
    if FOLLOWED.contains(&keyword) {
        Treatment::Followed
    } else if DROPPED.contains(&keyword) {
        Treatment::Dropped
    } else {
        Treatment::Annotation
    }
}
