//! A line chart as inline SVG.

use super::{Chart, put as put_text};
use crate::html::escape;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// Number of colours in the style sheet; further lines repeat them with dashes.
const COLOURS: usize = 8;
const DASHES: [&str; 4] = ["", "6 4", "2 3", "10 3 2 3"];

/// Most points drawn per line.
pub(super) const MAX_POINTS: usize = 2000;

/// Appends a chart to the page.
pub(super) fn put(page: &mut String, chart: &Chart) {
    let title = escape(&chart.title);
    put_text(
        page,
        format_args!("<figure class=\"chart\"><figcaption>{title}</figcaption>\n"),
    );
    if !chart.note.is_empty() {
        put_text(page, format_args!("<p>{}</p>\n", escape(&chart.note)));
    }
    let lines: Vec<Vec<(f64, f64)>> = chart
        .lines
        .iter()
        .map(|(_, points)| thinned(points, MAX_POINTS))
        .collect();
    let finite = || lines.iter().flatten().filter(|p| is_finite(p));
    let across = Axis::over(finite().map(|p| p.0));
    let up = Axis::over(finite().map(|p| p.1));
    let (Some(across), Some(up)) = (across, up) else {
        page.push_str("<p>No data yet.</p></figure>\n");
        return;
    };
    put_text(
        page,
        format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n"
        ),
    );
    let x_of = |x: f64| LEFT + across.share(x) * (WIDTH - LEFT - RIGHT);
    let y_of = |y: f64| HEIGHT - BOTTOM - up.share(y) * (HEIGHT - TOP - BOTTOM);
    put_axes(page, chart, &across, &up, &x_of, &y_of);
    for (i, ((name, _), points)) in chart.lines.iter().zip(&lines).enumerate() {
        put_text(page, format_args!("<g><title>{}</title>", escape(name)));
        for run in points.split(|p| !is_finite(p)) {
            match run {
                [] => {}
                [(x, y)] => put_text(
                    page,
                    format_args!(
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" {} fill=\"none\"/>",
                        x_of(*x),
                        y_of(*y),
                        look(i)
                    ),
                ),
                _ => {
                    put_text(page, format_args!("<polyline {} points=\"", look(i)));
                    for (x, y) in run {
                        put_text(page, format_args!("{:.1},{:.1} ", x_of(*x), y_of(*y)));
                    }
                    page.push_str("\"/>");
                }
            }
        }
        page.push_str("</g>\n");
    }
    page.push_str("</svg>\n");
    put_legend(page, chart);
    page.push_str("</figure>\n");
}

fn put_axes(
    page: &mut String,
    chart: &Chart,
    across: &Axis,
    up: &Axis,
    x_of: &dyn Fn(f64) -> f64,
    y_of: &dyn Fn(f64) -> f64,
) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in up.ticks() {
        let (y, label) = (y_of(tick), up.label(tick));
        put_text(
            page,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
                LEFT - 7.0,
                y + 4.0
            ),
        );
    }
    for tick in across.ticks() {
        let (x, label) = (x_of(tick), across.label(tick));
        put_text(
            page,
            format_args!(
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\n",
                bottom + 4.0,
                bottom + 17.0
            ),
        );
    }
    let middle = TOP + (bottom - TOP) / 2.0;
    put_text(
        page,
        format_args!(
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"14\" y=\"{middle:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 14 {middle:.1})\">{}</text>\n",
            LEFT + (right - LEFT) / 2.0,
            HEIGHT - 8.0,
            escape(&chart.x_label),
            escape(&chart.y_label)
        ),
    );
}

/// Appends the name, last value and number of non-finite points of each line.
fn put_legend(page: &mut String, chart: &Chart) {
    page.push_str("<ul class=\"legend\">");
    for (i, (name, points)) in chart.lines.iter().enumerate() {
        put_text(
            page,
            format_args!(
                "<li><svg viewBox=\"0 0 26 10\"><path d=\"M0 5H26\" {}/></svg>{}",
                look(i),
                escape(name)
            ),
        );
        match points.iter().rev().find(|p| is_finite(p)) {
            Some((_, y)) => put_text(page, format_args!(" <b>{}</b>", number(*y))),
            None => page.push_str(" (no data)"),
        }
        let gaps = points.iter().filter(|p| !is_finite(p)).count();
        if gaps > 0 {
            put_text(page, format_args!(" ({gaps} not finite)"));
        }
        page.push_str("</li>");
    }
    page.push_str("</ul>\n");
}

fn look(line: usize) -> String {
    let colour = line % COLOURS;
    match DASHES[line / COLOURS % DASHES.len()] {
        "" => format!("class=\"line s{colour}\""),
        dash => format!("class=\"line s{colour}\" stroke-dasharray=\"{dash}\""),
    }
}

fn is_finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

/// Averages groups of neighbouring points so that at most `most` remain. Non-finite
/// points are ignored; a group that has no other stays a gap.
pub(super) fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(most.max(1)).max(1);
    if size == 1 {
        return points.to_vec();
    }
    points
        .chunks(size)
        .map(|bucket| {
            let good: Vec<_> = bucket.iter().filter(|p| is_finite(p)).collect();
            let n = good.len() as f64;
            (
                good.iter().map(|p| p.0 / n).sum::<f64>(),
                good.iter().map(|p| p.1 / n).sum::<f64>(),
            )
        })
        .zip(points.chunks(size))
        .map(|(mean, bucket)| {
            if bucket.iter().any(is_finite) {
                mean
            } else {
                (f64::NAN, f64::NAN)
            }
        })
        .collect()
}

/// A range with round ticks.
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Returns the axis over some finite values; `None` if there are none.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut low, mut high) = values.fold(None, |range: Option<(f64, f64)>, v| {
            Some(range.map_or((v, v), |(l, h)| (l.min(v), h.max(v))))
        })?;
        // Keeps differences finite and a flat line in the middle.
        low = low.max(-1e300);
        high = high.min(1e300);
        let least = low.abs().max(high.abs()).max(1e-300) * 1e-9;
        if high - low <= least {
            let room = if high == 0.0 { 1.0 } else { high.abs() * 0.1 };
            low -= room;
            high += room;
        }
        let rough = (high - low) / 5.0;
        let unit = 10f64.powf(rough.log10().floor());
        let step = match rough / unit {
            r if r <= 1.0 => unit,
            r if r <= 2.0 => 2.0 * unit,
            r if r <= 5.0 => 5.0 * unit,
            _ => 10.0 * unit,
        };
        let pad = (high - low) * 0.02;
        Some(Self {
            low: low - pad,
            high: high + pad,
            step,
        })
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    pub(super) fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step).ceil();
        (0..20)
            .map(|i| (first + f64::from(i)) * self.step)
            .take_while(|&t| t <= self.high)
            .collect()
    }

    /// Formats a tick with enough decimals to distinguish it from its neighbours.
    pub(super) fn label(&self, tick: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        if !(1e-3..1e6).contains(&largest) {
            let digits = (largest.log10().floor() - self.step.log10().floor()).clamp(0.0, 8.0);
            let digits = digits as usize;
            return if tick == 0.0 {
                "0".into()
            } else {
                format!("{tick:.digits$e}")
            };
        }
        let decimals = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        let text = format!("{tick:.decimals$}");
        if tick == 0.0 { "0".into() } else { text }
    }
}

/// Formats a value with four significant digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if (1e-3..1e6).contains(&size) {
        let decimals = (3.0 - size.log10().floor()).max(0.0) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.3e}")
    }
}
