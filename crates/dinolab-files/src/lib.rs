//! Files that appear complete or not at all; [`pipe`]: text for readers that may be slow.
//!
//! A file is written under a temporary name in its folder, flushed to disk and renamed. If that
//! fails (a full disk, a folder that cannot be created), the temporary file is removed, and so are
//! the folders that were created for it.
//!
//! ```
//! use std::io::Write;
//!
//! let path = std::env::temp_dir().join(format!("dinolab-files-{}.txt", std::process::id()));
//! dinolab_files::write_whole(&path, |out| out.write_all(b"complete"))?;
//! assert_eq!(std::fs::read(&path)?, b"complete");
//! // A failed write leaves the file as it was.
//! let failed = dinolab_files::write_whole(&path, |out| {
//!     out.write_all(b"half")?;
//!     Err(std::io::Error::other("the disk is full"))
//! });
//! assert!(failed.is_err());
//! assert_eq!(std::fs::read(&path)?, b"complete");
//! std::fs::remove_file(&path)?;
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod pipe;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a file's name that its temporary name repeats; file systems allow 255 for the whole.
const NAME_PART: usize = 100;

/// The end of temporary names.
const TEMPORARY: &str = ".tmp";

/// Makes `folder` and its missing parents; returns those that were made, outermost first.
///
/// # Errors
/// If a parent is a file, which the error names, or a folder cannot be created. Nothing is left
/// then.
pub fn make_folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for place in missing(folder)?.into_iter().rev() {
        match fs::create_dir(&place) {
            Ok(()) => made.push(place),
            // Another program created it in the meantime.
            Err(_) if place.is_dir() => {}
            Err(error) => {
                remove_folders(&made);
                return Err(error);
            }
        }
    }
    Ok(made)
}

/// Checks that a file can be at `path`, before the work whose result it will hold.
///
/// # Errors
/// If `path` is a folder, or one of its parents is a file.
pub fn check_place(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        let text = format!("{} is a folder", path.display());
        return Err(io::Error::new(io::ErrorKind::IsADirectory, text));
    }
    path.parent()
        .map_or(Ok(()), |folder| missing(folder).map(|_| ()))
}

/// Returns the missing folders of a path, innermost first.
fn missing(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for place in folder.ancestors().filter(|p| !p.as_os_str().is_empty()) {
        match fs::metadata(place) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => {
                let text = format!("{} is a file, not a folder", place.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
            }
            // Nothing exists below a file either; the file itself is found further out.
            Err(_) => missing.push(place.to_path_buf()),
        }
    }
    Ok(missing)
}

/// Removes those folders that are empty; they are in the order of [`make_folders`].
pub fn remove_folders(made: &[PathBuf]) {
    for folder in made.iter().rev() {
        // Best effort: it may not be empty any more.
        let _ = fs::remove_dir(folder);
    }
}

/// A file under a temporary name, which is removed unless it is kept.
#[derive(Debug)]
pub struct PartFile {
    path: PathBuf,
    temporary: PathBuf,
    /// Folders that were created for it, outermost first.
    folders: Vec<PathBuf>,
    kept: bool,
}

impl PartFile {
    /// Starts the file that will be at `path` and creates missing folders.
    ///
    /// # Errors
    /// If a folder or the file cannot be created.
    pub fn create(path: &Path) -> io::Result<(Self, File)> {
        check_place(path)?;
        let folders = match path.parent() {
            Some(folder) => make_folders(folder)?,
            None => Vec::new(),
        };
        let part = Self {
            path: path.to_path_buf(),
            temporary: temporary_name(path),
            folders,
            kept: false,
        };
        let file = File::create(&part.temporary)?;
        Ok((part, file))
    }

    /// Its path until it is kept.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Gives the file its name and replaces one that is there. The file must have been flushed to
    /// disk.
    ///
    /// # Errors
    /// If the file cannot be renamed.
    pub fn keep(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)?;
        self.kept = true;
        sync_folder(&self.path);
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: the first error is the one to report.
            let _ = fs::remove_file(&self.temporary);
            remove_folders(&self.folders);
        }
    }
}

/// Files that belong together: all are written before the first gets its name.
#[derive(Debug, Default)]
pub struct FileSet {
    written: Vec<PartFile>,
    obsolete: Vec<PathBuf>,
}

impl FileSet {
    /// Writes a file through `fill`, under a temporary name.
    ///
    /// # Errors
    /// If the file cannot be written; files written before are removed with the set.
    pub fn write(
        &mut self,
        path: &Path,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (part, file) = PartFile::create(path)?;
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        self.written.push(part);
        Ok(())
    }

    /// Removes the file at `path`, if there is one, when the others appear.
    pub fn without(&mut self, path: &Path) {
        self.obsolete.push(path.to_path_buf());
    }

    /// Renames all files to their names.
    ///
    /// # Errors
    /// If a file cannot be renamed or removed.
    pub fn keep(self) -> io::Result<()> {
        for part in self.written {
            part.keep()?;
        }
        for path in self.obsolete {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes the file at `path` through `fill`, completely or not at all; missing folders are made.
///
/// # Errors
/// If the file cannot be written; then nothing is left of it.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut one = FileSet::default();
    one.write(path, fill)?;
    one.keep()
}

/// Replaces the content of the file at `path` with `bytes`: after a crash or a power cut it has the
/// old content or all of the new. Missing folders are made.
///
/// # Errors
/// A file that cannot be written: it then has its old content.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, |out| out.write_all(bytes))
}

/// Writes the file at `path` unless there is one, whole or not at all: of several writers, also on other machines,
/// one does. Returns whether it was this one. Missing folders are made.
///
/// # Errors
/// A file that cannot be written: nothing is left of it.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let (part, mut file) = PartFile::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // A rename would replace a file that appeared in the meantime.
    match fs::hard_link(part.temporary(), path) {
        Ok(()) => {
            sync_folder(path);
            Ok(true)
        }
        Err(_) if path.exists() => Ok(false),
        // Not every file system has links.
        Err(_) => part.keep().map(|()| true),
    }
}

/// Removes the temporary files that a killed process left in `folder`. Only for a folder that no
/// other process writes into.
pub fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // The second is how earlier versions named them.
        if name.starts_with('.') && name.ends_with(TEMPORARY) || name.ends_with(".part") {
            // Best effort: they are only in the way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A rename survives a power cut only once its folder is flushed, which not every system allows.
fn sync_folder(path: &Path) {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// An unused name in the folder of `path`.
fn temporary_name(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = (0..=NAME_PART.min(name.len()))
        .rev()
        .find(|&end| name.is_char_boundary(end))
        .unwrap_or(0);
    let mut temporary = OsString::from(".");
    temporary.push(&name[..end]);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{count}{TEMPORARY}", std::process::id()));
    path.with_file_name(temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn full(_: &mut BufWriter<File>) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    #[test]
    fn a_failed_file_leaves_neither_itself_nor_its_folders() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c.bin");
        let error = write_whole(&path, full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(entries(root.path()).is_empty());
        write_whole(&path, |out| out.write_all(b"old")).unwrap();
        write_whole(&path, full).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(entries(path.parent().unwrap()), ["c.bin"]);
    }

    #[test]
    fn files_are_replaced_and_remains_removed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state.bin");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A process that is killed removes nothing.
        let (part, mut file) = PartFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        std::mem::forget(part);
        for name in ["state.part", ".hidden", "a.tmp"] {
            fs::write(root.path().join(name), "x").unwrap();
        }
        assert_eq!(entries(root.path()).len(), 5);
        remove_unfinished(root.path());
        assert_eq!(entries(root.path()), [".hidden", "a.tmp", "state.bin"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        remove_unfinished(&root.path().join("absent"));
    }

    #[test]
    fn of_several_writers_one_writes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/only.bin");
        let written: Vec<bool> = std::thread::scope(|scope| {
            let write = |number: u8| {
                let path = &path;
                scope.spawn(move || write_new(path, &[number; 1000]).unwrap())
            };
            let writers: Vec<_> = (0..8).map(write).collect();
            writers.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(written.iter().filter(|&&written| written).count(), 1);
        let winner = written.iter().position(|&written| written).unwrap() as u8;
        assert_eq!(fs::read(&path).unwrap(), [winner; 1000]);
        assert_eq!(entries(path.parent().unwrap()), ["only.bin"]);
        assert!(!write_new(&path, b"late").unwrap());
        // Below a file there can be none.
        assert!(write_new(&path.join("below"), b"x").is_err());
    }

    #[test]
    fn a_set_appears_together() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("stale.txt"), "stale").unwrap();
        fs::write(at("one.txt"), "before").unwrap();
        let mut set = FileSet::default();
        set.write(&at("one.txt"), |out| out.write_all(b"1"))
            .unwrap();
        set.write(&at("deep/two.txt"), full).unwrap_err();
        set.without(&at("stale.txt"));
        drop(set);
        assert_eq!(entries(root.path()), ["one.txt", "stale.txt"]);
        assert_eq!(fs::read(at("one.txt")).unwrap(), b"before");

        let mut set = FileSet::default();
        set.write(&at("one.txt"), |out| out.write_all(b"1"))
            .unwrap();
        set.write(&at("deep/two.txt"), |out| out.write_all(b"2"))
            .unwrap();
        set.without(&at("stale.txt"));
        assert!(!at("deep/two.txt").exists());
        set.keep().unwrap();
        assert_eq!(entries(root.path()), ["deep", "one.txt"]);
        assert_eq!(entries(&at("deep")), ["two.txt"]);
    }

    #[test]
    fn names_of_every_length_can_be_written() {
        let root = tempfile::tempdir().unwrap();
        for name in ["é".repeat(127), "x".repeat(255), "y".into()] {
            write_whole(&root.path().join(&name), |out| out.write_all(b"z")).unwrap();
        }
        assert_eq!(entries(root.path()).len(), 3);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("taken");
        fs::write(&file, "x").unwrap();
        let error = write_whole(&file.join("deeper/a.txt"), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("taken is a file"), "{error}");
        let error = write_whole(root.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().ends_with("is a folder"), "{error}");
        assert_eq!(entries(root.path()), ["taken"]);
    }
}
