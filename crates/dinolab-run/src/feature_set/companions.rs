//! The names and labels of features, in text files next to them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dinolab_data::Source;
use dinolab_files::FileSet;

use super::unwritten;
use crate::error::{Context, Result};

/// Returns the labels if there are any.
pub(super) fn some(labels: Vec<Option<String>>) -> Option<Vec<Option<String>>> {
    labels.iter().any(Option::is_some).then_some(labels)
}

/// Returns the names of a source's images `indices`, and their classes if there are any.
pub(crate) fn names_and_labels(
    indices: &[usize],
    source: &dyn Source,
) -> (Vec<String>, Option<Vec<Option<String>>>) {
    let names = indices.iter().map(|&i| source.name(i)).collect();
    let class = |&i: &usize| source.classes().get(source.label(i)?).cloned();
    (names, some(indices.iter().map(class).collect()))
}

/// Writes the companions of the features in `path`, and removes companions of an earlier set that
/// this one lacks.
pub(crate) fn write_companions(
    files: &mut FileSet,
    path: &Path,
    names: Option<&[String]>,
    labels: Option<&[Option<String>]>,
) -> Result<()> {
    let labels = labels.map(|labels| {
        let lines = labels.iter().map(|label| label.clone().unwrap_or_default());
        lines.collect::<Vec<_>>()
    });
    for (companion, lines) in [
        (names_file(path), names),
        (labels_file(path), labels.as_deref()),
    ] {
        match lines {
            Some(lines) => files
                .write(&companion, |out| write_lines(out, lines))
                .with_context(|| unwritten(&companion))?,
            None => files.without(&companion),
        }
    }
    Ok(())
}

/// Returns the path of the names of the features in `path`.
pub fn names_file(path: &Path) -> PathBuf {
    path.with_extension("paths.txt")
}

/// Returns the path of the labels of the features in `path`.
pub fn labels_file(path: &Path) -> PathBuf {
    path.with_extension("labels.txt")
}

fn write_lines(out: &mut impl Write, lines: &[String]) -> io::Result<()> {
    // A line break in a name would shift all names after it.
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{}", line.replace(['\n', '\r'], " ")))
}

pub(super) fn read_lines(path: &Path, rows: usize) -> Result<Option<Vec<String>>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    // Some editors write a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() != rows {
        let (path, count) = (path.display(), lines.len());
        bail!("{path}: has {count} lines for {rows} features");
    }
    Ok(Some(lines))
}
