//! Settings of the runs on the page; of several runs, those that differ.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// Settings by name, a value for each run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsTable {
    /// Names of the runs.
    pub runs: Vec<String>,
    /// How many settings have the same value in all runs and are left out.
    pub same: usize,
    /// A setting's name and its values; `None` in runs that do not have it.
    pub rows: Vec<(String, Vec<Option<String>>)>,
}

/// The table of the runs in `roots`.
pub fn table(runs: &[(&str, &Path)]) -> SettingsTable {
    let read = |root: &Path| -> toml::Table {
        let text = fs::read_to_string(root.join("config.toml")).unwrap_or_default();
        text.parse().unwrap_or_default()
    };
    let all: Vec<toml::Table> = runs.iter().map(|(_, root)| read(root)).collect();
    let keys: BTreeSet<&String> = all.iter().flat_map(toml::Table::keys).collect();
    let value = |table: &toml::Table, key: &str| table.get(key).map(ToString::to_string);
    let mut rows: Vec<(String, Vec<Option<String>>)> = keys
        .into_iter()
        .map(|key| (key.clone(), all.iter().map(|t| value(t, key)).collect()))
        .collect();
    let before = rows.len();
    if runs.len() > 1 {
        rows.retain(|(_, values)| values.iter().any(|value| *value != values[0]));
    }
    SettingsTable {
        runs: runs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        same: before - rows.len(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_runs_only_differences_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, text: &str| {
            let root = folder.path().join(name);
            fs::create_dir(&root).unwrap();
            fs::write(root.join("config.toml"), text).unwrap();
            root
        };
        let a = run("a", "lr = 0.1\nseed = 1\nscale = [1, 2]\n");
        let b = run("b", "lr = 0.2\nseed = 1\n");
        let one = table(&[("a", &a)]);
        assert_eq!((one.rows.len(), one.same), (3, 0));
        let both = table(&[("a", &a), ("b", &b)]);
        assert_eq!(both.same, 1);
        let row = |name: &str, a: Option<&str>, b: Option<&str>| {
            (name.to_owned(), vec![a.map(Into::into), b.map(Into::into)])
        };
        let expected = [
            row("lr", Some("0.1"), Some("0.2")),
            row("scale", Some("[1, 2]"), None),
        ];
        assert_eq!(both.rows, expected);
        let gone = table(&[("a", &a), ("c", &folder.path().join("c"))]);
        assert_eq!(gone.rows.len(), 3);
    }
}
