//! A folder of results that stays only where all of them could be written.

use std::path::{Path, PathBuf};

use dinolab_files::{check_place, make_folders, remove_folders};

use crate::error::{Context, Error, Result};

/// Checks that the file `out` can be written, before the work that it is to hold.
///
/// # Errors
/// A place that cannot be written.
pub fn check_out(path: &Path) -> Result<()> {
    check_place(path).of_setting("out", path.display())
}

/// A folder that results are written into.
///
/// Where a file cannot be written, all that came into the folder before goes again: half of the
/// results is not left behind on a full disk.
pub struct ResultFolder {
    folder: PathBuf,
    /// Files that were not there before.
    files: Vec<PathBuf>,
    /// Folders that were made, outermost first.
    folders: Vec<PathBuf>,
    failed: bool,
}

impl ResultFolder {
    /// The folder, made where it is missing.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(folder: &Path) -> Result<Self> {
        let folders = make_folders(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self {
            folder: folder.into(),
            files: Vec::new(),
            folders,
            failed: false,
        })
    }

    /// Writes a file by `write`, which gets its whole path; missing folders are made.
    ///
    /// # Errors
    /// That of `write`; everything that came into the folder before is removed again then.
    pub fn write<E: Into<Error>>(
        &mut self,
        name: impl AsRef<Path>,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<()> {
        let path = self.folder.join(name);
        let new = path.symlink_metadata().is_err();
        let folder = path.parent().unwrap_or(&self.folder);
        let written = make_folders(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
            .and_then(|made| {
                self.folders.extend(made);
                write(&path).map_err(Into::into)
            });
        match written {
            Ok(()) => self.files.extend(new.then_some(path)),
            Err(error) => {
                self.failed = true;
                return Err(match self.files.is_empty() {
                    true => error,
                    false => Error::In {
                        what: format!(
                            "the results written to {} are removed again",
                            self.folder.display()
                        ),
                        source: Box::new(error),
                    },
                });
            }
        }
        Ok(())
    }
}

impl Drop for ResultFolder {
    fn drop(&mut self) {
        if self.failed {
            for file in &self.files {
                // Best effort: the error that led here is told.
                let _ = std::fs::remove_file(file);
            }
        }
        // None but empty ones go: there was an error, or nothing to write.
        remove_folders(&self.folders);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_failure_takes_the_rest_along() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("new/out");
        let put = |path: &Path| fs::write(path, "x");
        let mut folder = ResultFolder::open(&out).unwrap();
        folder.write("a.txt", put).unwrap();
        folder.write("deep/b.txt", put).unwrap();
        let full = |_: &Path| Err::<(), _>(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let error = folder.write("c.txt", full).unwrap_err();
        assert!(error.to_string().contains("removed again"), "{error}");
        drop(folder);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_there_before_stays() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &Path| fs::write(path, "new");
        fs::write(root.path().join("old.txt"), "old").unwrap();
        let mut folder = ResultFolder::open(root.path()).unwrap();
        folder.write("old.txt", put).unwrap();
        let full = |_: &Path| Err::<(), _>(std::io::Error::from(std::io::ErrorKind::StorageFull));
        folder.write("c.txt", full).unwrap_err();
        drop(folder);
        assert!(root.path().join("old.txt").exists());

        let mut folder = ResultFolder::open(&root.path().join("kept")).unwrap();
        folder.write("a.txt", put).unwrap();
        drop(folder);
        assert!(root.path().join("kept/a.txt").exists());
        // Without a result the folder has no use.
        drop(ResultFolder::open(&root.path().join("bare")).unwrap());
        assert!(!root.path().join("bare").exists());
    }
}
