//! Detection of run folders, whose pictures must not be trained on.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The file that holds a run's settings.
pub(super) const SETTINGS: &str = "config.toml";

/// Settings that every run has and hardly any other program's file.
const TELLING: [&str; 2] = ["momentum-teacher", "out-dim"];

/// Longer than any run's settings.
pub(super) const LONGEST: u64 = 64 << 10;

/// Whether a folder holds a training run, whole or just begun: it is known by its settings.
pub(super) fn is(folder: &Path) -> bool {
    let path = folder.join(SETTINGS);
    // A pipe of that name would keep whoever opens it waiting.
    if !fs::metadata(&path).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut text))
        .is_ok_and(|_| are_settings(&text))
}

/// Whether a file holds the settings of a run.
pub(super) fn are_settings(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .collect();
    TELLING.iter().all(|key| keys.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_by_its_settings() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is(root.path()));
        let path = root.path().join(SETTINGS);
        fs::write(&path, "title = \"a site\"\n# out-dim = momentum-teacher\n").unwrap();
        assert!(!is(root.path()));
        fs::write(
            &path,
            "arch = \"x\"\nout-dim = 64\nmomentum-teacher = 0.9\n",
        )
        .unwrap();
        assert!(is(root.path()));
    }
}
