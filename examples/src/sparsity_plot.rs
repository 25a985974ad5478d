//! Sparsity against perplexity, KL divergence and speed, as an SVG.

use anyhow::{Result, anyhow};
use lightglm::sparse::{Comparison, SparseQuality};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

/// One line of a panel.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its colour; 0 is the first.
    pub colour: usize,
    /// Dashed instead of solid.
    pub dashed: bool,
    /// Sparsity (0 to 1) and value, by rising sparsity.
    pub points: Vec<(f64, f64)>,
}

/// One of the plots that stand side by side.
pub struct Panel {
    /// The vertical axis.
    pub title: String,
    /// Whether the axis starts at 0, or near the least value.
    pub from_zero: bool,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// Width and height of a panel in pixels.
const PANEL: (u32, u32) = (440, 400);

/// A dash, in pixels, longer than any line.
const SOLID: i32 = 1_000_000;

/// Labels of the vertical axis.
const LABELS: usize = 7;

/// Blue, orange, green, red: told apart by readers who see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(0, 158, 115), RGBColor(213, 94, 0)];

type OfRow = fn(&Comparison) -> &SparseQuality;

/// Draws perplexity, divergence and speed of `rows`, which are called by how their sparsity was found;
/// every line starts at the dense model.
///
/// # Errors
/// Where the drawing library refuses; nothing is written to a file here.
pub fn plot(title: &str, rows: &[(&str, &Comparison)]) -> Result<String> {
    let mut allocations: Vec<&str> = Vec::new();
    for (allocation, _) in rows {
        if !allocations.contains(allocation) {
            allocations.push(allocation);
        }
    }
    let line = |colour: usize, protocol: &str, dense: f64, value: &dyn Fn(&Comparison) -> f64| {
        let allocation = allocations[colour];
        let rows = rows.iter().filter(|(name, _)| *name == allocation);
        let mut points: Vec<(f64, f64)> =
            rows.map(|(_, row)| (row.sparsity_counted, value(row))).collect();
        points.push((0.0, dense));
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let name = format!("{allocation}{protocol}");
        Line { name, colour, dashed: protocol.ends_with("half"), points }
    };
    // A shared machine changes its speed from line to line; the two models of a line took turns.
    let mut speeds: Vec<f64> = rows.iter().map(|(_, row)| row.dense_decode_tokens_per_s).collect();
    speeds.sort_by(f64::total_cmp);
    let dense_speed = speeds.get(speeds.len() / 2).copied().unwrap_or_default();
    let scaled =
        |row: &Comparison| dense_speed * row.decode_tokens_per_s / row.dense_decode_tokens_per_s;
    let (mut perplexity, mut divergence, mut speed) = (Vec::new(), Vec::new(), Vec::new());
    for (colour, &allocation) in allocations.iter().enumerate() {
        let Some((_, row)) = rows.iter().find(|(name, _)| *name == allocation) else { continue };
        let protocols: [(&str, OfRow); 2] =
            [(", all tokens", |row| &row.all_tokens), (", second half", |row| &row.second_half)];
        for (protocol, of) in protocols {
            let dense = of(row).dense_perplexity;
            perplexity.push(line(colour, protocol, dense, &|row| of(row).perplexity));
            divergence.push(line(colour, protocol, 0.0, &|row| of(row).kl_divergence));
        }
        speed.push(line(colour, "", dense_speed, &scaled));
    }
    let panel = |title: &str, from_zero, lines| Panel { title: title.to_owned(), from_zero, lines };
    let panels = [
        panel("perplexity", false, perplexity),
        panel("KL divergence from the dense model (nats)", true, divergence),
        panel("decode speed (tokens/s)", true, speed),
    ];
    svg(title, &panels)
}

/// Draws `panels` side by side, over a title.
///
/// # Errors
/// Where the drawing library refuses; nothing is written to a file here.
pub fn svg(title: &str, panels: &[Panel]) -> Result<String> {
    let mut text = String::new();
    {
        let size = (PANEL.0 * panels.len().max(1) as u32, PANEL.1 + 40);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = root
            .fill(&WHITE)
            .and_then(|()| root.titled(title, ("sans-serif", 20)))
            .map_err(|error| anyhow!("drawing the plot: {error}"))?;
        for (panel, area) in panels.iter().zip(drawn.split_evenly((1, panels.len().max(1)))) {
            draw(panel, &area).map_err(|error| anyhow!("drawing {}: {error}", panel.title))?;
        }
        root.present().map_err(|error| anyhow!("drawing the plot: {error}"))?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(panel: &Panel, area: &Area<'_>) -> Result<()> {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let most_sparse = points().map(|point| point.0).fold(0.1, f64::max);
    let most = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    let least = points().map(|point| point.1).fold(most, f64::min);
    let margin = 0.08 * (most - least).max(0.05 * most);
    let low = if panel.from_zero { 0.0 } else { least - margin };
    // Room for the legend above the lines.
    let high = most + margin + 0.07 * (most - low) * panel.lines.len() as f64;
    let digits = digits((high - low) / LABELS as f64);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..100.0 * most_sparse * 1.05, low..high)?;
    chart
        .configure_mesh()
        .x_desc("sparsity of the blocks, counted (%)")
        .y_desc(&panel.title)
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.digits$}"))
        .x_labels(6)
        .y_labels(LABELS)
        .max_light_lines(0)
        .draw()?;
    for line in &panel.lines {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let places: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (100.0 * x, *y)).collect();
        let style = colour.stroke_width(2);
        let dash = if line.dashed { 5 } else { SOLID };
        chart
            .draw_series(DashedLineSeries::new(places.iter().copied(), dash, 4, style))?
            .label(&line.name)
            .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 23, y)], dash, 4, style));
        chart.draw_series(places.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// As many digits behind the point as tell labels apart that lie `step` apart.
fn digits(step: f64) -> usize {
    (0..6).find(|&digits| step * 10f64.powi(digits) > 0.9).unwrap_or(6) as usize
}
