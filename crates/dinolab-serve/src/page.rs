//! The page's files, compiled in.

use axum::response::Response;

use crate::answer::{Answer, Failure, bytes};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("page/", $name)))),*]
    };
}

/// Name, type and content of each file.
const FILES: &[(&str, &str, &str)] = files![
    "index.html": HTML,
    "style.css": STYLE,
    "icon.svg": ICON,
    "app.js": SCRIPT,
    "dom.js": SCRIPT,
    "chart.js": SCRIPT,
    "curves.js": SCRIPT,
    "heat.js": SCRIPT,
    "attention.js": SCRIPT,
    "gallery.js": SCRIPT,
    "map.js": SCRIPT,
    "scatter.js": SCRIPT,
    "detail.js": SCRIPT,
    "groups.js": SCRIPT,
    "settings.js": SCRIPT,
];

/// The file called `name`.
pub fn file(name: &str) -> Answer<Response> {
    FILES
        .iter()
        .find(|(file, ..)| *file == name)
        .map(|(_, kind, content)| bytes(kind, *content, false))
        .ok_or_else(|| Failure::missing("no such file"))
}
