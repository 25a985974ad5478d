//! Typed access to one JSON object, with errors that name the file and the key.

use std::path::Path;

use lightglm_core::python_json;
use serde_json::{Map, Value};

use super::ConfigError;

/// The JSON of a file, with Python's `NaN` and the like.
pub(super) fn read_json(file: &Path) -> Result<Value, ConfigError> {
    let bytes =
        std::fs::read(file).map_err(|source| ConfigError::Io { file: file.into(), source })?;
    python_json(&bytes).map_err(|source| ConfigError::Json { file: file.into(), source })
}

/// One JSON object of a configuration file.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    file: &'a Path,
    /// Keys from the outermost object to this one, at most two; empty ones are passed over.
    prefix: [&'a str; 2],
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The outermost object of `value`.
    pub(super) fn root(file: &'a Path, value: &'a Value) -> Result<Self, ConfigError> {
        Self::of(file, ["", ""], "(the file)", value)
    }

    fn of(
        file: &'a Path,
        prefix: [&'a str; 2],
        key: &str,
        value: &'a Value,
    ) -> Result<Self, ConfigError> {
        match value {
            Value::Object(map) => Ok(Self { file, prefix, map }),
            other => Err(ConfigError::WrongType {
                file: file.into(),
                key: key.into(),
                expected: "an object",
                actual: describe(other),
            }),
        }
    }

    /// The object under `key`; `None` where it is absent or null.
    pub(super) fn object(&self, key: &'a str) -> Result<Option<Fields<'a>>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => {
                let prefix = [self.prefix[1], key];
                Self::of(self.file, prefix, &self.path(key), value).map(Some)
            }
        }
    }

    /// The file the object stands in.
    pub(super) fn file(&self) -> &'a Path {
        self.file
    }

    /// Whether the object has no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// `key` as errors spell it.
    pub(super) fn path(&self, key: &str) -> String {
        let keys = self.prefix.into_iter().filter(|prefix| !prefix.is_empty());
        keys.chain([key]).collect::<Vec<_>>().join(".")
    }

    /// The value under `key`; `None` where it is absent or null.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is there, but null.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// A non-negative integer; `None` where it is absent or null.
    pub(super) fn integer(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        self.value(key).map(|value| self.parse_integer(key, value)).transpose()
    }

    /// A non-negative integer, `default` where it is absent. Null is refused: no default of
    /// transformers stands for it.
    pub(super) fn size(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        if self.is_null(key) {
            return Err(self.wrong_type(key, "a positive integer", &Value::Null));
        }
        let Some(value) = self.integer(key)? else { return Ok(default) };
        usize::try_from(value).map_err(|_| {
            ConfigError::impossible(self.file, self.path(key), value, "too large for this machine")
        })
    }

    /// A finite number; `None` where it is absent or null.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if value.is_number() && number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong_type(key, "a finite number", value)),
        }
    }

    /// A boolean; `None` where it is absent.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong_type(key, "true or false", other)),
        }
    }

    /// A string; `None` where it is absent or null.
    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong_type(key, "a string", other)),
        }
    }

    /// One token id; `None` where it is absent or null.
    pub(super) fn token_id(&self, key: &str) -> Result<Option<u32>, ConfigError> {
        self.value(key).map(|value| self.parse_token_id(key, value)).transpose()
    }

    /// One token id; `None` where it is absent, null, or -1, as older tools write it.
    pub(super) fn token_id_or_none(&self, key: &str) -> Result<Option<u32>, ConfigError> {
        match self.value(key).and_then(Value::as_i64) {
            Some(-1) => Ok(None),
            _ => self.token_id(key),
        }
    }

    /// One token id or a list of them; `None` where it is absent or null.
    pub(super) fn token_ids(&self, key: &str) -> Result<Option<Vec<u32>>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| self.parse_token_id(key, item))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(one) => Ok(Some(vec![self.parse_token_id(key, one)?])),
        }
    }

    /// One string or a list of them; `None` where it is absent or null.
    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let one = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong_type(key, "strings", other)),
        };
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(items)) => items.iter().map(one).collect::<Result<_, _>>().map(Some),
            Some(value) => Ok(Some(vec![one(value)?])),
        }
    }

    fn parse_integer(&self, key: &str, value: &Value) -> Result<u64, ConfigError> {
        if let Some(integer) = value.as_u64() {
            return Ok(integer);
        }
        if let Some(negative) = value.as_i64() {
            let key = self.path(key);
            return Err(ConfigError::impossible(self.file, key, negative, "must not be negative"));
        }
        Err(self.wrong_type(key, "a non-negative integer", value))
    }

    fn parse_token_id(&self, key: &str, value: &Value) -> Result<u32, ConfigError> {
        let id = self.parse_integer(key, value)?;
        u32::try_from(id).map_err(|_| {
            ConfigError::impossible(self.file, self.path(key), id, "token ids have 32 bits")
        })
    }

    pub(super) fn wrong_type(
        &self,
        key: &str,
        expected: &'static str,
        actual: &Value,
    ) -> ConfigError {
        ConfigError::WrongType {
            file: self.file.into(),
            key: self.path(key),
            expected,
            actual: describe(actual),
        }
    }
}

/// A JSON value in a few words; values may be long and hostile, so they are cut.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(value) => {
            format!("the string {:?}", value.chars().take(40).collect::<String>())
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(map) => format!("an object of {} keys", map.len()),
    }
}
