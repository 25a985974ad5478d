//! Where chat templates are kept on disk.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::TextError;

/// The templates of a model directory, by name, and the special tokens templates ask for.
#[derive(Debug, Default)]
pub(crate) struct TemplateFiles {
    pub(crate) sources: BTreeMap<String, String>,
    pub(crate) special_tokens: BTreeMap<String, String>,
}

/// Reads `chat_template.jinja`, `additional_chat_templates/` and `tokenizer_config.json`.
pub(crate) fn read_directory(directory: &Path) -> Result<TemplateFiles, TextError> {
    let config_path = directory.join("tokenizer_config.json");
    let config = match read_if_present(&config_path)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| malformed(&config_path, "(root)", &error.to_string()))?,
        None => Value::Null,
    };
    let mut sources = BTreeMap::new();
    if let Some(source) = read_if_present(&directory.join("chat_template.jinja"))? {
        sources.insert("default".to_owned(), source);
        sources.extend(additional_templates(&directory.join("additional_chat_templates"))?);
    } else {
        match &config["chat_template"] {
            Value::Null => {}
            Value::String(source) => {
                sources.insert("default".to_owned(), source.clone());
            }
            Value::Array(list) => sources = named_templates(list, &config_path)?,
            _ => return Err(malformed(&config_path, "chat_template", "neither text nor list")),
        }
    }
    if sources.is_empty() {
        return Err(TextError::NoChatTemplate { origin: directory.display().to_string() });
    }
    Ok(TemplateFiles { sources, special_tokens: special_tokens(&config) })
}

pub(crate) fn malformed(path: &Path, field: &str, reason: &str) -> TextError {
    TextError::Malformed {
        origin: path.display().to_string(),
        field: field.to_owned(),
        reason: reason.to_owned(),
    }
}

pub(crate) fn read_if_present(path: &Path) -> Result<Option<String>, TextError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read { path: path.to_owned(), source }),
    }
}

fn additional_templates(directory: &Path) -> Result<BTreeMap<String, String>, TextError> {
    let mut sources = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(sources) };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "jinja")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            && let Some(source) = read_if_present(&path)?
        {
            sources.insert(name.to_owned(), source);
        }
    }
    Ok(sources)
}

fn named_templates(list: &[Value], path: &Path) -> Result<BTreeMap<String, String>, TextError> {
    list.iter()
        .enumerate()
        .map(|(index, entry)| match (&entry["name"], &entry["template"]) {
            (Value::String(name), Value::String(source)) => Ok((name.clone(), source.clone())),
            _ => {
                let field = format!("chat_template[{index}]");
                Err(malformed(path, &field, "not a name and a template"))
            }
        })
        .collect()
}

/// `bos_token` and the like: a text, or an object whose `content` is the text.
pub(crate) fn special_tokens(config: &Value) -> BTreeMap<String, String> {
    let fields = config.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, value)| {
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            Some((name.clone(), text.to_owned()))
        })
        .collect()
}

/// The source with `{% generation %}`, which only marks spans for training, turned into a block
/// that every Jinja knows.
pub(crate) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag[2..].find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match word {
            "generation" => out.push_str(&tag[..end].replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag[..end].replacen("endgeneration", "endif", 1)),
            _ => out.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_plain_blocks() {
        let source = "a{%- generation -%}{{ x }}{% endgeneration %}{% if y %}z{% endif %}{% open";
        let expected = "a{%- if true -%}{{ x }}{% endif %}{% if y %}z{% endif %}{% open";
        assert_eq!(without_generation_tags(source), expected);
    }

    /// Found by fuzzing: the end was looked for inside of the begin.
    #[test]
    fn a_tag_does_not_end_in_its_own_begin() {
        for source in ["{%}", "{%}{% generation %}", "a{%}b%}c"] {
            assert_eq!(without_generation_tags(source), source);
        }
    }
}
