//! One process at a time writes into a run folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::environment::Environment;
use crate::error::RunError;
use crate::error::{Context, Result};

/// The file that is locked. It stays, since another process may be about to lock it, and is empty
/// where none holds it.
pub const NAME: &str = "lock";

/// A run folder's lock, held until it is dropped. The system lets go of it when the process ends,
/// however it ends.
pub struct Lock {
    file: Option<File>,
}

impl Lock {
    /// Takes the lock of a folder, which is made where there is none.
    ///
    /// # Errors
    /// Where another process holds it, which is named.
    pub fn take(env: &Environment<'_>, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the run folder {}", folder.display()))?;
        let path = folder.join(NAME);
        let mut file = open(&path)?;
        loop {
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => break,
                // A run that could not begin has removed it in between.
                Ok(()) => {
                    let _ = fs::create_dir_all(folder);
                    file = open(&path)?;
                }
                Err(TryLockError::WouldBlock) => {
                    let (run, holder) = (folder.into(), holder(&mut file));
                    return Err(RunError::InUse { run, holder }.into());
                }
                Err(TryLockError::Error(error)) => {
                    env.warn(&format!(
                        "{} cannot be locked ({error}): take care that no other process trains in it",
                        folder.display()
                    ));
                    return Ok(Self { file: None });
                }
            }
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let words = format!("{} {} {}\n", std::process::id(), since.as_secs(), host());
        // For people: a disk too full for it will tell soon enough.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = file.write_all(words.as_bytes());
        Ok(Self { file: Some(file) })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// Whether the file is still the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |found: &fs::Metadata| (found.dev(), found.ino());
    matches!((file.metadata(), path.metadata()), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// Where a file that is open cannot be removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// The process that holds a lock, in words.
fn holder(file: &mut File) -> String {
    // It may have locked the file just now, and be about to write.
    for _ in 0..10 {
        let mut words = String::new();
        let _ = file.rewind();
        let _ = file.read_to_string(&mut words);
        let mut words = words.split_whitespace();
        let (id, since) = (words.next(), words.next().and_then(|s| s.parse().ok()));
        if let (Some(id), Some(since)) = (id, since) {
            let there = words.next().unwrap_or_default();
            let place = match there == host() {
                true => String::new(),
                false => format!(" on {there}"),
            };
            let since = UNIX_EPOCH + Duration::from_secs(since);
            let age = since.elapsed().unwrap_or_default();
            return format!("process {id}{place}, for {}", in_words(age));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    "another process".into()
}

/// A duration by its largest unit.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7199 => (seconds / 60, "minute"),
        7200..=172_799 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// The name of this machine, where it is known.
fn host() -> String {
    let told = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let told = told.or_else(|| std::env::var("HOSTNAME").ok());
    let told = told.or_else(|| std::env::var("COMPUTERNAME").ok());
    told.unwrap_or_default().trim().to_owned()
}
