//! Jinja's filters of lists and dicts.
//!
//! Source: jinja2's filters.py.

use std::cmp::Ordering;

use super::args::{Args, Bound};
use super::attributes;
use super::error::TemplateError;
use super::filters;
use super::is_tests;
use super::operators;
use super::spell::str_of;
use super::text::{Text, TextBuilder};
use super::text_methods::lower;
use super::value::Value;

type Outcome = Result<Value, TemplateError>;

/// The filters, and the names of their parameters.
const FILTERS: &[(&str, &[&str])] = &[
    ("batch", &["linecount", "fill_with"]),
    ("dictsort", &["case_sensitive", "by", "reverse"]),
    ("first", &[]),
    ("groupby", &["attribute", "default", "case_sensitive"]),
    ("items", &[]),
    ("join", &["d", "attribute"]),
    ("last", &[]),
    ("list", &[]),
    ("max", &["case_sensitive", "attribute"]),
    ("min", &["case_sensitive", "attribute"]),
    ("reverse", &[]),
    ("slice", &["slices", "fill_with"]),
    ("sort", &["reverse", "case_sensitive", "attribute"]),
    ("sum", &["attribute", "start"]),
    ("unique", &["case_sensitive", "attribute"]),
];

/// The filters whose arguments are another filter or a test.
const OF_OTHERS: [&str; 5] = ["map", "select", "reject", "selectattr", "rejectattr"];

pub(crate) fn exists(name: &str) -> bool {
    OF_OTHERS.contains(&name) || FILTERS.iter().any(|(known, _)| *known == name)
}

/// `value | name(args)`.
///
/// # Errors
/// [`TemplateError`] where Jinja raises an exception.
pub(crate) fn call(name: &str, value: &Value, args: Args) -> Outcome {
    if name == "map" {
        return map(value, args);
    }
    if OF_OTHERS.contains(&name) {
        return choose(name, value, args);
    }
    let parameters = FILTERS.iter().find(|(known, _)| *known == name).map_or(&[][..], |f| f.1);
    let args = args.bind(name, parameters)?;
    match name {
        "first" => Ok(value.items()?.first().cloned().unwrap_or_else(|| Value::undefined("first"))),
        "last" => Ok(value.items()?.last().cloned().unwrap_or_else(|| Value::undefined("last"))),
        "list" => Ok(Value::list(value.items()?.to_vec())),
        "items" => items(value),
        "join" => join(value, &args),
        "reverse" => reverse(value),
        "sum" => {
            let mut sum = args.value(1).cloned().unwrap_or(Value::Int(0));
            for item in keyed(value, args.present(0), None)? {
                sum = operators::add(&sum, &item.0)?;
            }
            Ok(sum)
        }
        "sort" => sort(value, &args),
        "min" | "max" => extreme(name, value, &args),
        "unique" => unique(value, &args),
        "groupby" => group_by(value, &args),
        "dictsort" => dict_sort(value, &args),
        "batch" => batch(value, &args),
        _ => slices(value, &args),
    }
}

fn items(value: &Value) -> Outcome {
    match value {
        Value::Undefined(_) => Ok(Value::list(Vec::new())),
        Value::Dict(dict) => {
            let pairs = dict.entries().iter();
            let pairs = pairs.map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()]));
            Ok(Value::list(pairs.collect()))
        }
        _ => Err(TemplateError::operation("items of something that is no mapping")),
    }
}

fn join(value: &Value, args: &Bound) -> Outcome {
    let separator = args.value(0).map_or_else(|| Ok(Text::default()), str_of)?;
    let mut out = TextBuilder::default();
    for (index, (key, _)) in keyed(value, args.present(1), None)?.into_iter().enumerate() {
        if index > 0 {
            out.text(&separator);
        }
        out.text(&str_of(&key)?);
    }
    out.finish().map(Value::Text)
}

fn reverse(value: &Value) -> Outcome {
    match value {
        Value::Text(_) => operators::slice(value, [None, None, Some(-1)]),
        other => Ok(Value::list(other.items()?.iter().rev().cloned().collect())),
    }
}

/// The items with what `attribute` finds in them.
fn keyed(
    value: &Value,
    attribute: Option<&Value>,
    default: Option<&Value>,
) -> Result<Vec<(Value, Value)>, TemplateError> {
    let items = value.items()?;
    let keyed = items.iter().map(|item| {
        let key = match attribute {
            None => item.clone(),
            Some(attribute) => attributes::path(item, attribute, default)?,
        };
        Ok((key, item.clone()))
    });
    keyed.collect()
}

/// The items with what they are compared by.
fn comparable(
    value: &Value,
    attribute: Option<&Value>,
    case_sensitive: bool,
) -> Result<Vec<(Value, Value)>, TemplateError> {
    let mut keyed = keyed(value, attribute, None)?;
    if !case_sensitive {
        for (key, _) in &mut keyed {
            if let Value::Text(text) = key {
                *key = Value::Text(lower(text));
            }
        }
    }
    Ok(keyed)
}

fn sort_by_key(pairs: &mut [(Value, Value)], reverse: bool) -> Result<(), TemplateError> {
    let mut failure = None;
    pairs.sort_by(|(a, _), (b, _)| {
        let ordering = a.compare(b).unwrap_or_else(|error| {
            failure = Some(error);
            Ordering::Equal
        });
        if reverse { ordering.reverse() } else { ordering }
    });
    failure.map_or(Ok(()), Err)
}

fn second(pairs: Vec<(Value, Value)>) -> Vec<Value> {
    pairs.into_iter().map(|(_, item)| item).collect()
}

fn sort(value: &Value, args: &Bound) -> Outcome {
    let mut pairs = comparable(value, args.present(2), args.flag(1))?;
    sort_by_key(&mut pairs, args.flag(0))?;
    Ok(Value::list(second(pairs)))
}

fn extreme(name: &str, value: &Value, args: &Bound) -> Outcome {
    let mut best: Option<(Value, Value)> = None;
    for pair in comparable(value, args.present(1), args.flag(0))? {
        let is_better = match &best {
            None => true,
            Some((key, _)) => {
                let ordering = pair.0.compare(key)?;
                if name == "min" { ordering.is_lt() } else { ordering.is_gt() }
            }
        };
        if is_better {
            best = Some(pair);
        }
    }
    Ok(best.map_or_else(|| Value::undefined(name), |(_, item)| item))
}

fn unique(value: &Value, args: &Bound) -> Outcome {
    let mut seen: Vec<Value> = Vec::new();
    let mut kept = Vec::new();
    for (key, item) in comparable(value, args.present(1), args.flag(0))? {
        if !seen.iter().any(|one| one.equals(&key)) {
            seen.push(key);
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

fn group_by(value: &Value, args: &Bound) -> Outcome {
    let attribute = args.required(0)?;
    let originals = keyed(value, Some(attribute), args.value(1))?;
    let mut pairs: Vec<(Value, (Value, Value))> = Vec::new();
    for (key, item) in originals {
        let compared = match &key {
            Value::Text(text) if !args.flag(2) => Value::Text(lower(text)),
            other => other.clone(),
        };
        pairs.push((compared, (key, item)));
    }
    let mut order: Vec<(Value, Value)> = pairs
        .iter()
        .enumerate()
        .map(|(index, (key, _))| (key.clone(), Value::count(index)))
        .collect();
    sort_by_key(&mut order, false)?;
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (compared, index) in order {
        let index = index.as_int().and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let (_, (key, item)) = &pairs[index];
        match groups.last_mut() {
            Some((last, _, group)) if last.equals(&compared) => group.push(item.clone()),
            _ => groups.push((compared, key.clone(), vec![item.clone()])),
        }
    }
    let groups = groups.into_iter();
    Ok(Value::list(
        groups.map(|(_, key, group)| Value::tuple(vec![key, Value::list(group)])).collect(),
    ))
}

fn dict_sort(value: &Value, args: &Bound) -> Outcome {
    let position = match args.optional_text(1)? {
        Some(by) if by.is("value") => 1,
        _ => 0,
    };
    let position = Value::count(position);
    let mut pairs = comparable(&items(value)?, Some(&position), args.flag(0))?;
    sort_by_key(&mut pairs, args.flag(2))?;
    Ok(Value::list(second(pairs)))
}

fn batch(value: &Value, args: &Bound) -> Outcome {
    let count = args.count(0, 0)?;
    if count == 0 {
        return Err(TemplateError::operation("batch: linecount has to be above zero"));
    }
    let items = value.items()?;
    let rows = items.chunks(count).map(|row| {
        let mut row = row.to_vec();
        if let Some(fill) = args.present(1)
            && row.len() < count.min(items.len().max(1 << 16))
        {
            row.resize(count, fill.clone());
        }
        Value::list(row)
    });
    Ok(Value::list(rows.collect()))
}

fn slices(value: &Value, args: &Bound) -> Outcome {
    let items = value.items()?;
    let count = args.count(0, 0)?;
    if count == 0 || count > items.len().max(1 << 16) {
        return Err(TemplateError::operation(
            "slice: slices has to be above zero, and no more than there are items",
        ));
    }
    let (each, more) = (items.len() / count, items.len() % count);
    let mut start = 0;
    let columns = (0..count).map(|index| {
        let end = start + each + usize::from(index < more);
        let mut column = items[start..end].to_vec();
        start = end;
        column.extend(args.present(1).filter(|_| index >= more && more > 0).cloned());
        Value::list(column)
    });
    Ok(Value::list(columns.collect()))
}

fn map(value: &Value, mut args: Args) -> Outcome {
    let items = value.items()?;
    if args.positional.is_empty() {
        let bound = args.bind("map", &["attribute", "default"])?;
        let attribute = bound.required(0)?;
        let mapped = items.iter().map(|item| attributes::path(item, attribute, bound.value(1)));
        return Ok(Value::list(mapped.collect::<Result<_, _>>()?));
    }
    let name = name_of(args.positional.remove(0))?;
    let mapped = items.iter().map(|item| filters::call(&name, item, args.clone()));
    Ok(Value::list(mapped.collect::<Result<_, _>>()?))
}

fn name_of(value: Value) -> Result<String, TemplateError> {
    match value {
        Value::Text(text) => Ok(text.plain()),
        other => {
            let reason = format!("the name of a filter or test is {}", other.type_name());
            Err(TemplateError::operation(reason))
        }
    }
}

fn choose(name: &str, value: &Value, mut args: Args) -> Outcome {
    let attribute = match name.ends_with("attr") {
        true if args.positional.is_empty() => {
            return Err(TemplateError::operation(format!("{name}: no attribute is named")));
        }
        true => Some(args.positional.remove(0)),
        false => None,
    };
    let test = match args.positional.is_empty() {
        true => None,
        false => Some(name_of(args.positional.remove(0))?),
    };
    let wanted = name.starts_with("select");
    let mut kept = Vec::new();
    for (key, item) in keyed(value, attribute.as_ref(), None)? {
        let holds = match &test {
            None => key.is_true(),
            Some(test) => is_tests::call(test, &key, args.clone())?,
        };
        if holds == wanted {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}
