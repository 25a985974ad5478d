//! `Exposition`: how metrics are written, by what a scraper accepts.

use std::fmt::Write;

use axum::http::{HeaderMap, header};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Exposition {
    /// OpenMetrics 1.0, where nothing else is asked for.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which everything reads.
    Prometheus,
}

impl Exposition {
    /// The one that the `Accept` header prefers.
    pub(in crate::http) fn asked_for(headers: &HeaderMap) -> Self {
        let accepts =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut open, mut plain) = (0.0, 0.0);
        for range in accepts.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality: f32 = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            match media.as_str() {
                "application/openmetrics-text" => open = quality.max(open),
                "text/plain" | "text/*" => plain = quality.max(plain),
                _ => {}
            }
        }
        if plain > open { Self::Prometheus } else { Self::OpenMetrics }
    }

    pub(in crate::http) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// OpenMetrics' text as Prometheus' older format: there a family has the name of its samples, `_total` and
/// `_info` included, and nothing marks the end.
pub(in crate::http) fn as_prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // A family's help comes before its type, which decides its name.
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, words)) = help.take() {
                let _ = writeln!(text, "# HELP {name}{suffix} {words}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_prefer() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        let cases = [
            (None, Exposition::OpenMetrics),
            (Some("*/*"), Exposition::OpenMetrics),
            (Some(prometheus), Exposition::OpenMetrics),
            (Some("text/plain"), Exposition::Prometheus),
            (Some("TEXT/PLAIN; version=0.0.4"), Exposition::Prometheus),
            (Some("text/plain, application/openmetrics-text;q=0.9"), Exposition::Prometheus),
            (Some("text/plain;q=0.1, application/openmetrics-text"), Exposition::OpenMetrics),
            (Some("text/plain;q=x"), Exposition::OpenMetrics),
        ];
        for (accept, exposition) in cases {
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|accept| (header::ACCEPT, accept.parse().unwrap())));
            assert_eq!(Exposition::asked_for(&headers), exposition, "{accept:?}");
        }
    }

    #[test]
    fn families_have_the_names_of_their_samples() {
        let open = "# HELP a Words .\n# TYPE a counter\na_total{x=\"# y\"} 1\n# HELP b B.\n# TYPE b info\n\
                    b_info{v=\"1\"} 1\n# HELP c_seconds C.\n# TYPE c_seconds histogram\n# UNIT c_seconds \
                    seconds\nc_seconds_sum 1.0\n# EOF\n";
        let plain = "# HELP a_total Words .\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n# HELP b_info B.\n\
                     # TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c_seconds C.\n# TYPE c_seconds histogram\n\
                     c_seconds_sum 1.0\n";
        assert_eq!(as_prometheus_text(open), plain);
    }
}
