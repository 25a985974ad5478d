//! `Report`: results as a Markdown table and as one JSON object.

use serde_json::{Map, Value, json};

use crate::metrics::{Interval, IntervalMethod, Metric, MetricValue};

/// What was measured, of what, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The task (`squad2`).
    pub task: String,
    /// What the number depends on besides the metrics (model, data, shots, seed ...), in order.
    pub settings: Vec<(String, Value)>,
    /// The numbers.
    pub metrics: Vec<Metric>,
    /// Whether the run was stopped, so that the numbers are over a part only.
    pub interrupted: bool,
}

impl Report {
    /// `{"task", "metrics": {name: value}, "intervals": {name: {low, high, method, ..}},
    /// "settings", "interrupted"}`.
    pub fn to_json(&self) -> Value {
        let mut values = Map::new();
        let mut intervals = Map::new();
        for metric in &self.metrics {
            let value = match metric.value {
                MetricValue::Count(count) => json!(count),
                MetricValue::Number(number) => json!(number),
            };
            values.insert(metric.name.clone(), value);
            if let Some(interval) = metric.interval {
                intervals.insert(metric.name.clone(), interval_json(&interval));
            }
        }
        let settings: Map<String, Value> = self.settings.iter().cloned().collect();
        json!({
            "task": self.task,
            "metrics": values,
            "intervals": intervals,
            "settings": settings,
            "interrupted": self.interrupted,
        })
    }

    /// A table of the metrics with their intervals, and a list of the settings.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.task);
        if self.interrupted {
            text += "**Interrupted: over what was scored by then.**\n\n";
        }
        text += "| metric | value | 95 % interval | method |\n|---|---:|---:|---|\n";
        for metric in &self.metrics {
            let value = match metric.value {
                MetricValue::Count(count) => count.to_string(),
                MetricValue::Number(number) => shown(number),
            };
            let (interval, method) = match metric.interval {
                Some(Interval { low, high, method }) => {
                    (format!("{} to {}", shown(low), shown(high)), method.to_string())
                }
                None => (String::new(), String::new()),
            };
            text += &format!("| {} | {value} | {interval} | {method} |\n", cell(&metric.name));
        }
        text += "\n";
        for (name, value) in &self.settings {
            let value = match value {
                Value::String(value) => value.clone(),
                other => other.to_string(),
            };
            text += &format!("- {name}: {value}\n");
        }
        text
    }
}

impl std::fmt::Display for IntervalMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wilson => f.write_str("Wilson"),
            Self::Bootstrap { resamples, seed } => {
                write!(f, "bootstrap, {resamples} resamples, seed {seed}")
            }
            Self::Normal => f.write_str("normal"),
        }
    }
}

fn interval_json(interval: &Interval) -> Value {
    let (name, resamples, seed) = match interval.method {
        IntervalMethod::Wilson => ("wilson", None, None),
        IntervalMethod::Bootstrap { resamples, seed } => ("bootstrap", Some(resamples), Some(seed)),
        IntervalMethod::Normal => ("normal", None, None),
    };
    let mut object = Map::new();
    object.insert("low".into(), json!(interval.low));
    object.insert("high".into(), json!(interval.high));
    object.insert("level".into(), json!(0.95));
    object.insert("method".into(), json!(name));
    object.extend(resamples.map(|n| ("resamples".to_owned(), json!(n))));
    object.extend(seed.map(|n| ("seed".to_owned(), json!(n))));
    Value::Object(object)
}

/// Percentages with two digits behind the point; what is small, such as a divergence, with five
/// significant ones.
fn shown(number: f64) -> String {
    if number != 0.0 && number.abs() < 1.0 {
        let digits = (4 - number.abs().log10().floor() as i32).clamp(2, 12) as usize;
        return format!("{number:.digits$}");
    }
    format!("{number:.2}")
}

/// A table cell: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
