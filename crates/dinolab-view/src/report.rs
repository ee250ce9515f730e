//! One self-contained HTML page about a run: figures, warnings, charts, tables, pictures.
//!
//! It has no scripts and loads nothing: charts are inline SVG, pictures are data URIs. Light or
//! dark mode follows the reader's system.
//!
//! ```
//! use dinolab_view::report::{Chart, Report};
//!
//! let loss = Chart {
//!     title: "Loss".into(),
//!     note: "It should fall.".into(),
//!     x_label: "step".into(),
//!     y_label: "nats".into(),
//!     lines: vec![("train".into(), vec![(0.0, 5.0), (1.0, 4.5), (2.0, 4.2)])],
//! };
//! let page = Report {
//!     title: "A run".into(),
//!     charts: vec![loss],
//!     ..Report::default()
//! };
//! assert!(page.to_html().contains("<svg"));
//! ```

mod chart;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Result;
use crate::error::write_whole;
use crate::html::escape;

/// A named line of (x, y) points in ascending order of x. A point that is not finite breaks the
/// line.
pub type Line = (String, Vec<(f64, f64)>);

/// A line chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Its heading.
    pub title: String,
    /// What values are good, in a sentence below its heading; may be empty.
    pub note: String,
    /// Label of the vertical axis.
    pub y_label: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// The lines. Of one with more than 2,000 points, neighbouring points are averaged.
    pub lines: Vec<Line>,
}

impl Chart {
    /// Returns its lines with at most `most` points each; neighbouring points are averaged.
    pub fn thinned(&self, most: usize) -> Vec<Line> {
        let thin = |(name, points): &Line| (name.clone(), chart::thinned(points, most));
        self.lines.iter().map(thin).collect()
    }
}

/// A table; rows may be shorter than the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// What it says, in a sentence below its heading; may be empty.
    pub note: String,
    /// Column names.
    pub header: Vec<String>,
    /// Cells by row.
    pub rows: Vec<Vec<String>>,
}

/// The source of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PictureSource {
    /// A PNG, JPEG, WebP or GIF file. If it cannot be read, the page says so in its place.
    File(PathBuf),
    /// The bytes of such a file.
    Bytes(Vec<u8>),
}

/// The content of the page. Empty parts are left out; text may contain any character.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Names and values at the top of the page.
    pub summary: Vec<(String, String)>,
    /// Warnings, shown above everything else.
    pub warnings: Vec<String>,
    /// Charts, two columns of them on wide screens.
    pub charts: Vec<Chart>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Pictures with their captions.
    pub pictures: Vec<(String, PictureSource)>,
}

impl Report {
    /// Writes the page, complete or not at all.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write) if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let page = self.to_html();
        write_whole(path.as_ref(), |out| out.write_all(page.as_bytes()))
    }

    /// Returns the page as text.
    pub fn to_html(&self) -> String {
        let title = escape(&self.title);
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n"
        );
        self.put_warnings(&mut page);
        self.put_summary(&mut page);
        if !self.charts.is_empty() {
            page.push_str("<section class=\"charts\">\n");
            for c in &self.charts {
                chart::put(&mut page, c);
            }
            page.push_str("</section>\n");
        }
        for table in &self.tables {
            put_table(&mut page, table);
        }
        self.put_pictures(&mut page);
        page.push_str("</main>\n</body>\n</html>\n");
        page
    }

    fn put_warnings(&self, page: &mut String) {
        if self.warnings.is_empty() {
            return;
        }
        page.push_str("<section class=\"warnings\">\n<h2>Warnings</h2>\n<ul>\n");
        for warning in &self.warnings {
            put(page, format_args!("<li>{}</li>\n", escape(warning)));
        }
        page.push_str("</ul>\n</section>\n");
    }

    fn put_summary(&self, page: &mut String) {
        if self.summary.is_empty() {
            return;
        }
        page.push_str("<dl>\n");
        for (name, value) in &self.summary {
            let (name, value) = (escape(name), escape(value));
            put(
                page,
                format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"),
            );
        }
        page.push_str("</dl>\n");
    }

    fn put_pictures(&self, page: &mut String) {
        if self.pictures.is_empty() {
            return;
        }
        page.push_str("<section class=\"pictures\">\n<h2>Pictures</h2>\n");
        for (caption, source) in &self.pictures {
            let caption = escape(caption);
            let shown = match data_uri(source) {
                Ok(uri) => format!("<img src=\"{uri}\" alt=\"{caption}\">"),
                Err(reason) => format!("<p class=\"missing\">{}</p>", escape(&reason)),
            };
            put(
                page,
                format_args!("<figure>{shown}<figcaption>{caption}</figcaption></figure>\n"),
            );
        }
        page.push_str("</section>\n");
    }
}

fn put_table(page: &mut String, table: &Table) {
    page.push_str("<section class=\"table\">\n");
    if !table.title.is_empty() {
        put(page, format_args!("<h2>{}</h2>\n", escape(&table.title)));
    }
    if !table.note.is_empty() {
        put(page, format_args!("<p>{}</p>\n", escape(&table.note)));
    }
    page.push_str("<table>\n<thead><tr>");
    for name in &table.header {
        put(page, format_args!("<th>{}</th>", escape(name)));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        page.push_str("<tr>");
        for cell in row {
            put(page, format_args!("<td>{}</td>", escape(cell)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
}

fn data_uri(source: &PictureSource) -> std::result::Result<String, String> {
    let read;
    let (bytes, name) = match source {
        PictureSource::Bytes(bytes) => (bytes, "picture".to_string()),
        PictureSource::File(path) => {
            let name = path.display().to_string();
            read = std::fs::read(path).map_err(|e| format!("{name}: {e}"))?;
            (&read, name)
        }
    };
    let kind = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        [b'G', b'I', b'F', b'8', ..] => "gif",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "webp",
        _ => return Err(format!("{name}: not a PNG, JPEG, WebP or GIF picture")),
    };
    Ok(format!(
        "data:image/{kind};base64,{}",
        STANDARD.encode(bytes)
    ))
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = page.write_fmt(text);
}

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1d1f24;--soft:#626873;--line:#dcdfe5;--card:#f7f8fa;
--warn-bg:#fff4e0;--warn:#8a4b00;
--c0:#1f6fd0;--c1:#c8501e;--c2:#1d8a5a;--c3:#9a3fb5;--c4:#a37a00;--c5:#c22f5e;--c6:#0f8793;--c7:#6b6f7a}
@media (prefers-color-scheme:dark){:root{--bg:#15171b;--fg:#e7e9ee;--soft:#9aa1ad;--line:#343841;
--card:#1d2026;--warn-bg:#3a2a10;--warn:#ffc56e;
--c0:#6aaeff;--c1:#ff9361;--c2:#5ccf9a;--c3:#d58bec;--c4:#e0b93c;--c5:#ff7fa6;--c6:#4fc9d6;--c7:#a9aeb9}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
main{max-width:1280px;margin:0 auto;padding:24px}
h1{font-size:26px;margin:0 0 16px;overflow-wrap:anywhere}h2{font-size:17px;margin:0 0 8px}
section{margin:24px 0}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:10px;margin:16px 0}
dl div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 12px}
dt{color:var(--soft);font-size:12px}dd{margin:0;font-size:17px;overflow-wrap:anywhere}
.warnings{background:var(--warn-bg);border-radius:8px;padding:14px 18px}
.warnings h2{color:var(--warn)}.warnings ul{margin:0;padding-left:18px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:16px}
figure{margin:0}
.chart{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px}
.chart figcaption{font-weight:600;margin-bottom:4px}.chart p{margin:0 0 4px;color:var(--soft);font-size:13px}
.chart svg{display:block;width:100%;height:auto}
.chart text{fill:var(--soft);font-size:12px}.chart .grid{stroke:var(--line)}
.chart .axis{stroke:var(--soft)}.chart .line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;list-style:none;margin:6px 0 0;padding:0;font-size:13px}
.legend svg{display:inline-block;width:26px;height:10px;margin-right:6px}
.legend b{font-weight:600}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}
.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}
.table{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}
.pictures figure{display:inline-block;vertical-align:top;margin:0 16px 16px 0;max-width:100%}
.pictures img{display:block;max-width:100%;border-radius:6px}
.pictures figcaption{color:var(--soft);font-size:13px;margin-top:4px}
.missing{color:var(--warn)}
@media print{.charts{grid-template-columns:1fr 1fr}.chart{break-inside:avoid}}
";

#[cfg(test)]
mod tests;
