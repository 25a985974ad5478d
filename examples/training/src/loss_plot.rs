//! Loss curves, as an SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A run's curves: step and value.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Loss of each step's batch.
    pub train: Vec<(f64, f64)>,
    /// Loss of the validation examples.
    pub validation: Vec<(f64, f64)>,
    /// Learning rate.
    pub learning_rate: Vec<(f64, f64)>,
}

/// Width and height in pixels.
const SIZE: (u32, u32) = (900, 480);

/// Share of the old mean in the smooth line.
const SMOOTHING: f64 = 0.95;

/// Blue, orange and green as readers who see few colours tell them apart (Okabe and Ito).
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

/// Draws losses (left axis) and learning rate (right axis) over steps.
///
/// # Errors
/// Where the drawing library refuses; nothing is written to a file here.
pub fn svg(title: &str, curves: &Curves) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(title, curves, &root).map_err(|error| anyhow!("drawing the loss curves: {error}"))?;
        root.present().map_err(|error| anyhow!("drawing the loss curves: {error}"))?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(title: &str, curves: &Curves, area: &Area<'_>) -> Result<()> {
    area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    let Curves { train, validation, learning_rate } = curves;
    let all = || train.iter().chain(validation);
    let first = all().map(|point| point.0).fold(f64::INFINITY, f64::min).min(1.0);
    let last = all().map(|point| point.0).fold(1.0, f64::max);
    let finite = || all().map(|point| point.1).filter(|loss| loss.is_finite());
    let highest = finite().fold(f64::MIN_POSITIVE, f64::max);
    let fastest = learning_rate.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .right_y_label_area_size(72)
        .build_cartesian_2d(first..last.max(first + 1.0), 0.0..1.05 * highest)?
        .set_secondary_coord(first..last.max(first + 1.0), 0.0..1.05 * fastest);
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss of a token (nats)")
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .max_light_lines(0)
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_desc("learning rate")
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .y_label_formatter(&|y| format!("{y:.1e}"))
        .draw()?;
    let [blue, red, green] = COLOURS;
    chart
        .draw_secondary_series(LineSeries::new(learning_rate.iter().copied(), green.mix(0.6)))?
        .label("learning rate")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 23, y)], green.mix(0.6)));
    chart.draw_series(LineSeries::new(train.iter().copied(), blue.mix(0.25)))?;
    chart
        .draw_series(LineSeries::new(smooth(train), blue.stroke_width(2)))?
        .label("training, smoothed")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 23, y)], blue.stroke_width(2)));
    if !validation.is_empty() {
        chart
            .draw_series(LineSeries::new(validation.iter().copied(), red.stroke_width(2)))?
            .label("validation")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 23, y)], red.stroke_width(2)));
        chart.draw_series(validation.iter().map(|&at| Circle::new(at, 3, red.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// The running mean, corrected for its start.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (mut mean, mut weight) = (0.0, 0.0);
    points
        .iter()
        .map(|&(step, loss)| {
            mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss;
            weight = SMOOTHING * weight + (1.0 - SMOOTHING);
            (step, mean / weight)
        })
        .collect()
}
