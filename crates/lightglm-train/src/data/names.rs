//! `with_known_names`: fields under the names that the formats know them by.

use serde_json::{Map, Value};

use super::record::Located;

/// What formats call a field, and what else files call it: in Chinese tables, in other tools.
const ALIASES: [(&str, &[&str]); 17] = [
    (
        "question",
        &[
            "问题",
            "提问",
            "问",
            "问句",
            "用户问题",
            "用户提问",
            "客户问题",
            "标准问题",
            "标准问",
            "问题内容",
            "提问内容",
            "用户输入",
            "用户",
            "user",
            "human",
        ],
    ),
    (
        "answer",
        &[
            "答案",
            "回答",
            "回复",
            "答",
            "答复",
            "标准答案",
            "参考答案",
            "标准回答",
            "答案内容",
            "回答内容",
            "回复内容",
            "客服回复",
            "助手",
            "reply",
            "assistant",
        ],
    ),
    ("instruction", &["指令", "指示"]),
    ("input", &["输入", "输入内容"]),
    ("output", &["输出", "输出内容"]),
    ("context", &["上下文", "背景"]),
    ("system", &["系统", "系统提示", "系统提示词", "system_prompt"]),
    ("history", &["历史", "历史对话", "对话历史"]),
    ("prompt", &["提示", "提示词"]),
    ("response", &["响应", "应答"]),
    ("messages", &["消息"]),
    ("conversations", &["conversation", "dialogue", "dialog", "对话"]),
    ("text", &["文本"]),
    ("content", &["内容", "正文"]),
    ("summary", &["摘要", "总结"]),
    ("label", &["标签", "标注"]),
    ("category", &["类别", "分类", "意图", "intent"]),
];

/// Names of fields that hold a list in each row.
pub(super) const LISTS: [&str; 9] =
    ["tools", "functions", "images", "image", "audios", "audio", "videos", "video", "expect"];

/// Names that are known as they are.
const OTHERS: [&str; 13] = [
    "query",
    "completion",
    "target",
    "solution",
    "problem",
    "chosen",
    "rejected",
    "rejected_response",
    "rejected_messages",
    "kto_tag",
    "document",
    "reasoning_content",
    "objects",
];

/// The name that formats know the field `name` by, whatever its case.
fn known_name(name: &str) -> Option<&'static str> {
    let name = name.trim().trim_matches('\u{feff}').to_lowercase();
    let other = OTHERS.into_iter().chain(LISTS).find(|other| *other == name);
    let alias = |(known, aliases): &(&'static str, &[&str])| {
        (*known == name || aliases.contains(&name.as_str())).then_some(*known)
    };
    other.or_else(|| ALIASES.iter().find_map(alias))
}

/// Whether a row's field may be called `name`.
pub(super) fn is_known_name(name: &str) -> bool {
    known_name(name).is_some()
}

/// A record's fields under the names that formats know, and what the file calls those that were
/// renamed.
pub(super) struct KnownNames {
    pub(super) fields: Map<String, Value>,
    renamed: Vec<(&'static str, String)>,
}

/// Renames the fields that files call otherwise. Of two fields of one meaning the one under the known
/// name, or else the first, gets it; the other keeps its own, as those do whose names are `given`.
pub(super) fn with_known_names(fields: Map<String, Value>, given: &[&str]) -> KnownNames {
    let new_name = |fields: &Map<String, Value>, name: &str| {
        let known = known_name(name).filter(|_| !given.contains(&name));
        known.filter(|known| *known != name && !fields.contains_key(*known))
    };
    if fields.keys().all(|name| new_name(&fields, name).is_none()) {
        return KnownNames { fields, renamed: Vec::new() };
    }
    let mut renamed: Vec<(&'static str, String)> = Vec::new();
    let mut names = Vec::with_capacity(fields.len());
    for name in fields.keys() {
        let new = new_name(&fields, name);
        match new.filter(|new| renamed.iter().all(|(taken, _)| taken != new)) {
            Some(new) => {
                renamed.push((new, name.clone()));
                names.push(new.to_owned());
            }
            None => names.push(name.clone()),
        }
    }
    let fields = names.into_iter().zip(fields.into_iter().map(|(_, value)| value)).collect();
    KnownNames { fields, renamed }
}

/// The columns of a table under the names that formats know.
pub(super) fn known_columns(columns: &[String]) -> Vec<String> {
    let fields = columns.iter().map(|name| (name.clone(), Value::Null)).collect();
    with_known_names(fields, &[]).fields.into_iter().map(|(name, _)| name).collect()
}

/// What a file calls its fields.
pub(super) struct OriginalNames(Vec<(&'static str, String)>);

impl KnownNames {
    pub(super) fn into_parts(self) -> (Map<String, Value>, OriginalNames) {
        (self.fields, OriginalNames(self.renamed))
    }
}

impl OriginalNames {
    /// The fault with its field under the name that the file has for it.
    pub(super) fn in_place_of_known(&self, located: Located) -> Located {
        Located { field: self.of(located.field), ..located }
    }

    /// A field, or a place in it (`messages[2].content`), under the name that the file has for it.
    pub(super) fn of(&self, mut field: String) -> String {
        let end = field.find(['[', '.']).unwrap_or(field.len());
        let original = self.0.iter().find(|(known, _)| *known == &field[..end]);
        if let Some((_, original)) = original {
            field.replace_range(..end, original);
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_get_the_names_that_formats_know() {
        let columns = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            known_columns(&names)
        };
        assert_eq!(columns(&["问题", "答案", "编号"]), ["question", "answer", "编号"]);
        assert_eq!(columns(&["Question", " ANSWER "]), ["question", "answer"]);
        // Two of one meaning.
        assert_eq!(columns(&["提问", "问题", "回答"]), ["question", "问题", "answer"]);
        assert_eq!(columns(&["问题", "question", "answer"]), ["问题", "question", "answer"]);
    }
}
