//! Brace patterns: many paths in one argument.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// `name-{000..012}.tar` to its thirteen paths; `None` where there is no such pattern,
/// or a file of that very name.
pub(super) fn expand(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    const MOST: u64 = 1_000_000;
    let Some(text) = path.to_str().filter(|_| !path.exists()) else {
        return Ok(None);
    };
    let Some((before, rest)) = text.split_once('{') else {
        return Ok(None);
    };
    let bad = |reason: &str| Error::BadSource {
        path: path.to_path_buf(),
        reason: reason.into(),
    };
    let parts = rest
        .split_once('}')
        .and_then(|(range, after)| Some((range.split_once("..")?, after)));
    let Some(((first, last), after)) = parts else {
        return Err(bad("a pattern must read {first..last}"));
    };
    let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) else {
        return Err(bad("first and last of {first..last} must be numbers"));
    };
    if from > to || to - from >= MOST {
        return Err(bad("first must not be above last in {first..last}"));
    }
    let width = first.len();
    Ok(Some(
        (from..=to)
            .map(|n| PathBuf::from(format!("{before}{n:0width$}{after}")))
            .collect(),
    ))
}
