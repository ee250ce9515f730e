//! A text file that names one image per line.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[cfg(feature = "remote")]
use super::remote::UriResolver;
use super::text;
use crate::decode::{ScaleOf, Scaled};
use crate::file::read as read_file;
use crate::source::dataset::read_image;
use crate::source::file_kind::extension;
use crate::source::files::io_error;
use crate::source::labels::Labels;
use crate::source::options::{Decoding, SourceOptions};
use crate::{Error, Image, Result, Source};

#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    /// Line number (from 1) and path as written.
    lines: Vec<(usize, String)>,
    labels: Labels,
    decoding: Decoding,
    reach: UriResolver,
}

/// Without other machines, every line is a local path.
#[cfg(not(feature = "remote"))]
#[derive(Debug)]
pub(super) struct UriResolver;

#[cfg(not(feature = "remote"))]
impl UriResolver {
    fn new(_: &super::RemoteOptions) -> Self {
        Self
    }

    fn check(&self, line: &str) -> Option<Result<()>> {
        let reason = super::remote::not_built(super::remote::scheme(line)?);
        let path = line.into();
        Some(Err(Error::BadSource { path, reason }))
    }

    fn read(&self, _: &str) -> Option<Result<Vec<u8>>> {
        None
    }

    fn location(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

impl List {
    pub(super) fn open(path: &Path, options: &SourceOptions) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| io_error(path, source))?;
        Self::of(path, &bytes, UriResolver::new(&options.remote), options)
    }

    /// A list that was read. What its lines name is found by `reach` or, where that knows of no
    /// other machine, beside `path`.
    pub(super) fn of(
        path: &Path,
        bytes: &[u8],
        reach: UriResolver,
        options: &SourceOptions,
    ) -> Result<Self> {
        let bad = |line: usize, what: &str| Error::BadSource {
            path: path.to_path_buf(),
            reason: format!("line {line}: {what}"),
        };
        let text = text::utf8(bytes).map_err(|reason| Error::BadSource {
            path: path.to_path_buf(),
            reason,
        })?;
        let mut lines = Vec::new();
        let mut labels = Vec::new();
        for (number, line) in text::lines(text) {
            if line.trim().is_empty() {
                continue;
            }
            let mut fields = line.split('\t');
            let name = fields.next().unwrap_or_default().trim();
            let label = fields.next().map(str::trim);
            if name.is_empty() {
                return Err(bad(number, "no path before the tab"));
            }
            if let Some(Err(error)) = reach.check(name) {
                let what = match error {
                    Error::BadSource { reason, .. } => reason,
                    other => other.to_string(),
                };
                return Err(bad(number, &what));
            }
            if fields.next().is_some() {
                return Err(bad(number, "more than a path and a label"));
            }
            if label == Some("") {
                return Err(bad(number, "no label after the tab"));
            }
            if !lines.is_empty() && label.is_some() == labels.is_empty() {
                let what = if label.is_some() {
                    "has a label, the lines before have none"
                } else {
                    "has no label, the lines before have one"
                };
                return Err(bad(number, what));
            }
            lines.push((number, name.to_owned()));
            labels.extend(label.map(|label| Some(label.to_owned())));
        }
        if lines.is_empty() {
            return Err(Error::NoImages {
                path: path.to_path_buf(),
                reason: "the list is empty".into(),
            });
        }
        let labels = Labels::from_written(&labels);
        Ok(Self {
            path: path.to_path_buf(),
            lines,
            labels,
            decoding: options.decoding(),
            reach,
        })
    }
}

impl List {
    /// A local path as a line has it: relative to the list.
    fn beside(&self, line: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(line)
    }

    /// An image's error, with the line that names it.
    fn at_line(&self, index: usize, error: Error) -> Error {
        let (line, name) = &self.lines[index];
        let reason = match error {
            Error::Io { source, .. } => match likely(name, source.kind()) {
                Some(cause) => format!("{source}; {cause}"),
                None => source.to_string(),
            },
            Error::BadImage { reason, .. } => reason,
            other => return other,
        };
        Error::BadImage {
            name: name.clone(),
            reason: format!("{reason} (line {line} of {})", self.path.display()),
        }
    }
}

/// Why no file has this name, as far as the name shows.
fn likely(name: &str, kind: ErrorKind) -> Option<&'static str> {
    let quoted = |mark: char| name.len() > 1 && name.starts_with(mark) && name.ends_with(mark);
    let extension = extension(Path::new(name));
    if kind != ErrorKind::NotFound {
        None
    } else if quoted('"') || quoted('\'') {
        Some("write names without quotation marks")
    } else if name.contains('\\') && !cfg!(windows) {
        Some("write / between folders, not \\")
    } else if extension.contains([',', ';', ' ']) {
        Some("a label is separated from the name by a tab")
    } else {
        None
    }
}

impl Source for List {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn name(&self, index: usize) -> String {
        self.lines[index].1.clone()
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.label(index)
    }

    fn classes(&self) -> &[String] {
        &self.labels.classes
    }

    fn image(&self, index: usize) -> Result<Image> {
        read_image(self, index)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let line = &self.lines[index].1;
        self.reach
            .read(line)
            .unwrap_or_else(|| read_file(&self.beside(line)))
            .map(Some)
            .map_err(|error| self.at_line(index, error))
    }

    fn decode(&self, index: usize, bytes: &[u8]) -> Result<Image> {
        self.decoding
            .decode(&self.lines[index].1, bytes)
            .map_err(|error| self.at_line(index, error))
    }

    fn decode_scaled(&self, index: usize, bytes: &[u8], scale_of: ScaleOf) -> Result<Scaled> {
        self.decoding
            .decode_scaled(&self.lines[index].1, bytes, scale_of)
            .map_err(|error| self.at_line(index, error))
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        let line = &self.lines[index].1;
        Some(
            self.reach
                .location(line)
                .unwrap_or_else(|| self.beside(line)),
        )
    }
}
