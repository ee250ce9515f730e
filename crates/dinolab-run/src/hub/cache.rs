//! The cache that the hub's programs share. A model is a folder:
//!
//! ```text
//! models--OWNER--NAME/
//!     blobs/ETAG                      a file's content, under its checksum
//!     refs/REVISION                   the commit of a branch or tag
//!     snapshots/COMMIT/FILE           a link to ../../blobs/ETAG
//!     .no_exist/COMMIT/FILE           empty: the model has no such file
//! .locks/models--OWNER--NAME/ETAG.lock
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use dinolab_files::{make_folders, write_atomically};
use serde_json::Value;

use super::address::{Address, is_commit};
use super::{CONFIG, PICKLED, PREPROCESSOR, SHARDED, WHOLE};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Event;

/// Larger configurations are not looked at.
const MAX_CONFIG: u64 = 1 << 20;

/// How much of a commit is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// No weights, or not all of their files.
    Absent,
    /// The weights; whether the model has these other files is not known.
    Weights {
        /// Their names.
        unknown: Vec<&'static str>,
    },
    /// All that is used of it.
    Whole,
}

/// A model's folder in the cache.
#[derive(Clone, Debug)]
pub(super) struct Repo {
    root: PathBuf,
    locks: PathBuf,
}

impl Repo {
    /// The folder of a model, which need not exist.
    pub fn of(cache: &Path, address: &Address) -> Self {
        let name = format!("models--{}--{}", address.owner(), address.name());
        Self {
            root: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The commit of an address, if the cache knows it.
    pub fn commit_of(&self, address: &Address) -> Option<String> {
        let revision = address.revision();
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Whether a file of a commit is there.
    pub fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Whether a file of a commit is there, or known not to exist.
    pub fn knows(&self, commit: &str, file: &str) -> bool {
        self.has(commit, file) || self.absence(commit, file).is_file()
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }

    /// Records that a commit has no such file. Best effort: it only saves a request.
    pub fn note_absent(&self, commit: &str, file: &str) {
        let _ = write_atomically(&self.absence(commit, file), b"");
    }

    /// The file of the weights of a commit, if it and all that it names are there.
    pub fn weights(&self, commit: &str) -> Option<&'static str> {
        let whole = |name: &str| match name {
            SHARDED => dinolab_nn::weights::shards(&self.snapshot(commit).join(SHARDED))
                .is_ok_and(|shards| shards.iter().all(|shard| self.has(commit, shard))),
            name => self.has(commit, name),
        };
        [WHOLE, SHARDED, PICKLED]
            .into_iter()
            .find(|name| whole(name))
    }

    /// How much of a commit is there.
    pub fn presence(&self, commit: &str) -> Presence {
        if self.weights(commit).is_none() {
            return Presence::Absent;
        }
        let mut unknown = vec![CONFIG];
        // timm's configuration says how images are prepared.
        if !self.is_of_timm(commit) {
            unknown.push(PREPROCESSOR);
        }
        unknown.retain(|file| !self.knows(commit, file));
        match unknown.is_empty() {
            true => Presence::Whole,
            false => Presence::Weights { unknown },
        }
    }

    fn is_of_timm(&self, commit: &str) -> bool {
        let path = self.snapshot(commit).join(CONFIG);
        let small = fs::metadata(&path).is_ok_and(|found| found.len() <= MAX_CONFIG);
        let config = small.then(|| fs::read(&path).ok()).flatten();
        let config = config.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        config.is_some_and(|config| config.get("architecture").is_some_and(Value::is_string))
    }

    /// The file of a content.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Records the commit of an address's branch or tag.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn write_ref(&self, address: &Address, commit: &str) -> Result<()> {
        let known = self.commit_of(address);
        if known.as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(address.revision());
        write_atomically(&path, commit.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes a file of a commit from a content that is there.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(file);
        let cannot = || format!("cannot write {}", path.display());
        make_folders(&self.snapshot(commit)).with_context(cannot)?;
        let name = format!(".{file}.{}.tmp", std::process::id());
        let temporary = path.with_file_name(name);
        let _ = fs::remove_file(&temporary);
        link(etag, &self.blob(etag), &temporary).with_context(cannot)?;
        fs::rename(&temporary, &path).with_context(cannot)
    }

    /// Keeps other processes away from a content, until the file is dropped; waits for one that downloads
    /// it. The hub's own programs take the same lock.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn lock(&self, env: &Environment<'_>, etag: &str) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        let cannot = || format!("cannot write {}", path.display());
        make_folders(&self.locks).with_context(cannot)?;
        make_folders(&self.root.join("blobs")).with_context(cannot)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(&path).with_context(cannot)?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                env.events.hear(Event::Note {
                    source: &self.root,
                    note: "waiting for another process that downloads it",
                });
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match locked {
            // Some network file systems have no locks. Files appear whole all the same.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            locked => locked.with_context(cannot).map(|()| file),
        }
    }
}

/// A link to a content that holds wherever the cache is mounted.
#[cfg(unix)]
fn link(etag: &str, _: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), at)
}

/// Other systems have links for some users only.
#[cfg(not(unix))]
fn link(_: &str, blob: &Path, at: &Path) -> io::Result<()> {
    fs::hard_link(blob, at).or_else(|_| fs::copy(blob, at).map(drop))
}
