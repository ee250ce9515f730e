//! `images.tsv`: what a run is trained and evaluated on, so that a changed set is noticed, and the
//! same set by another path is not taken for another one.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use dinolab_data::Source;
use dinolab_train::checkpoint::write_atomically;
use rayon::prelude::*;

use crate::error::{Context, Result};
use crate::sources::Sources;

/// Names that a message lists at most.
const NAMED: usize = 3;

/// The images of a run in their order, a line each: use, size in bytes, class, name.
///
/// Order counts, since random draws are keyed by it.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    lines: Vec<String>,
}

impl Contents {
    /// What `sources` hold. Looks at every file's size, and reads none.
    pub fn of(sources: &Sources) -> Self {
        let mut lines = lines("train", &*sources.train);
        if let Some(val) = &sources.val {
            lines.extend(self::lines("val", &**val));
        }
        Self { lines }
    }

    /// What was recorded; `None` if nothing was.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(Self::of_text(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// How many images are trained on.
    pub fn trained_on(&self) -> usize {
        let of_training = |line: &&String| line.starts_with("train\t");
        self.lines.iter().filter(of_training).count()
    }

    /// It as text.
    pub fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }

    /// It from [`Contents::text`].
    pub fn of_text(text: &str) -> Self {
        Self {
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// Records it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(write_atomically(path, self.text().as_bytes())?)
    }

    /// How `now` differs from this, in words; `None` where it does not.
    pub fn difference(&self, now: &Self) -> Option<String> {
        if self == now {
            return None;
        }
        let (before, after) = (self.by_name(), now.by_name());
        let missing = |from: &[String], map: &HashMap<_, _>| -> Vec<String> {
            let keys = from.iter().map(|line| Parts::of(line));
            keys.filter(|parts| !map.contains_key(&parts.key()))
                .map(|parts| parts.name.to_owned())
                .collect()
        };
        let gone = missing(&self.lines, &after);
        let new = missing(&now.lines, &before);
        let altered = |differs: fn(&Parts, &Parts) -> bool| -> Vec<String> {
            let kept = now.lines.iter().map(|line| Parts::of(line));
            kept.filter(|parts| {
                let then = before.get(&parts.key());
                then.is_some_and(|then| differs(then, parts))
            })
            .map(|parts| parts.name.to_owned())
            .collect()
        };
        let resized = altered(|a, b| a.size != b.size);
        let relabelled = altered(|a, b| a.size == b.size && a.class != b.class);
        let words: Vec<String> = [
            (gone, "gone"),
            (new, "new"),
            (resized, "of another size"),
            (relabelled, "of another class"),
        ]
        .into_iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, what)| format!("{} {what} ({})", names.len(), listed(&names)))
        .collect();
        Some(match words.is_empty() {
            true => "the same in another order, or some of them twice".into(),
            false => words.join(", "),
        })
    }

    fn by_name(&self) -> HashMap<(&str, &str), Parts<'_>> {
        let parts = self.lines.iter().map(|line| Parts::of(line));
        parts.map(|parts| (parts.key(), parts)).collect()
    }
}

/// A line.
struct Parts<'a> {
    usage: &'a str,
    size: &'a str,
    class: &'a str,
    name: &'a str,
}

impl<'a> Parts<'a> {
    fn of(line: &'a str) -> Self {
        let mut parts = line.splitn(4, '\t');
        let mut next = || parts.next().unwrap_or_default();
        Self {
            usage: next(),
            size: next(),
            class: next(),
            name: next(),
        }
    }

    fn key(&self) -> (&'a str, &'a str) {
        (self.usage, self.name)
    }
}

fn lines(usage: &str, source: &dyn Source) -> Vec<String> {
    // Sizes of files on a network take a moment each.
    (0..source.len())
        .into_par_iter()
        .map(|index| {
            let size = source.size(index).map(|size| size.to_string());
            let class = source
                .label(index)
                .and_then(|label| source.classes().get(label));
            format!(
                "{usage}\t{}\t{}\t{}",
                size.unwrap_or_default(),
                in_one_field(class.map_or("", String::as_str)),
                in_one_field(&source.name(index)),
            )
        })
        .collect()
}

/// A name without tabs and line breaks.
pub(crate) fn in_one_field(name: &str) -> String {
    if !name.contains(['\t', '\n', '\r', '\\']) {
        return name.to_owned();
    }
    name.replace('\\', r"\\")
        .replace('\t', r"\t")
        .replace('\n', r"\n")
        .replace('\r', r"\r")
}

fn listed(names: &[String]) -> String {
    let mut words = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        words.push_str(", …");
    }
    words
}
