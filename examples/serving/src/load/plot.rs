//! Latencies as distributions, drawn.

use std::time::Duration;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::client::Outcome;

const SIZE: (u32, u32) = (900, 480);
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

/// Draws which share of first tokens, gaps between tokens and whole replies took at most how long.
///
/// # Errors
/// Where the drawing library refuses; nothing is written to a file here.
pub fn svg(title: &str, outcomes: &[Outcome]) -> Result<String> {
    let (mut first, mut gaps, mut total) = (Vec::new(), Vec::new(), Vec::new());
    for outcome in outcomes {
        if let Outcome::Answered(reply) = outcome {
            first.push(reply.first);
            gaps.extend(reply.gaps.iter().copied());
            total.push(reply.total);
        }
    }
    let curves = [
        ("first token", curve(first)),
        ("from token to token", curve(gaps)),
        ("whole reply", curve(total)),
    ];
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(title, &curves, &area).map_err(|error| anyhow!("drawing latencies: {error}"))?;
        area.present().map_err(|error| anyhow!("drawing latencies: {error}"))?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Milliseconds and the percentage that took no longer; at most a few hundred points.
fn curve(times: Vec<Duration>) -> Vec<(f64, f64)> {
    let mut ms: Vec<f64> = times.iter().map(|time| 1e3 * time.as_secs_f64()).collect();
    ms.sort_by(f64::total_cmp);
    let every = ms.len().div_ceil(400).max(1);
    let count = ms.len() as f64;
    let points =
        ms.iter().enumerate().map(|(i, &at)| (at.max(0.01), 100.0 * (i + 1) as f64 / count));
    let last = ms.last().map(|&at| (at.max(0.01), 100.0));
    points.step_by(every).chain(last).collect()
}

fn draw(title: &str, curves: &[(&str, Vec<(f64, f64)>)], area: &Area<'_>) -> Result<()> {
    area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    let times = || curves.iter().flat_map(|(_, points)| points.iter().map(|point| point.0));
    let least = times().fold(f64::INFINITY, f64::min).min(1e3);
    let most = times().fold(least, f64::max).max(1.1 * least);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d((0.9 * least..1.1 * most).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("milliseconds")
        .y_desc("% that took no longer")
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .max_light_lines(0)
        .draw()?;
    for ((name, points), colour) in curves.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 23, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
