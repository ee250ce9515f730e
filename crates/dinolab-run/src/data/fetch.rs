//! Public sets of images, downloaded, verified and unpacked.

mod cifar;
mod datasets;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sha2::Sha256;

pub use self::datasets::{DATASETS, Dataset, Layout, by_name};
use crate::checksum;
use crate::download;
pub use crate::download::RetryPolicy;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::Event;

/// Tells in a folder that is complete which set it holds. Readers of images pass over hidden files.
const MARK: &str = ".dinolab-fetch";

/// Keeps other calls away from a folder of a download, and tells that it is one.
const LOCK: &str = "lock";

/// What was found or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Downloaded and unpacked.
    Now,
    /// There already.
    Before,
}

/// Makes `dir` from the archive of `dataset`, which is at `from` (a file or an address) or else at its
/// own address. Size and SHA-256 of the archive are verified before it is unpacked, and `dir` appears
/// only when it is complete.
///
/// # Errors
/// An archive that cannot be downloaded, is another one, or cannot be unpacked; a folder that holds
/// something else.
pub fn fetch(
    env: &Environment<'_>,
    dataset: &Dataset,
    dir: &Path,
    from: Option<&str>,
    retry: &RetryPolicy,
) -> Result<Fetched> {
    if is_complete(dataset, dir)? {
        return Ok(Fetched::Before);
    }
    let from = from.unwrap_or(dataset.url);
    let is_address = ["http://", "https://"]
        .iter()
        .any(|scheme| from.starts_with(scheme));
    if is_address {
        download::check_transport(from)?;
    } else {
        if !Path::new(from).is_file() {
            return Err(Error::Invalid("no such file".into())).of_setting("from", from);
        }
    }
    let mut name = dir
        .file_name()
        .with_context(|| format!("{}: give a folder with a name", dir.display()))?
        .to_owned();
    name.push(".download");
    let underway = dir.with_file_name(name);
    let lock = lock(&underway)?;
    let archive = if is_address {
        let archive = underway.join(dataset.archive());
        if !archive.is_file() {
            let mut part = archive.clone().into_os_string();
            part.push(".part");
            let part = PathBuf::from(part);
            let request = download::Request {
                url: from,
                authorization: None,
                part: &part,
                bytes: dataset.bytes,
            };
            download::download(env, &request, retry)?;
            fs::rename(&part, &archive)
                .with_context(|| format!("cannot rename {}", part.display()))?;
        }
        archive
    } else {
        PathBuf::from(from)
    };
    let sum = verify(env, dataset, &archive).with_context(|| match is_address {
        true => format!(
            "not unpacked; remove {} to download it again",
            archive.display()
        ),
        false => "not unpacked".to_owned(),
    })?;
    let unpacked = underway.join("unpacked");
    let made = underway.join("made");
    for folder in [&unpacked, &made] {
        remove(folder)?;
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    unpack::unpack(env, &archive, &unpacked)?;
    let top = unpack::only_folder(&unpacked)
        .with_context(|| format!("cannot read {}", unpacked.display()))?;
    let ready = match dataset.layout {
        Layout::WholeTree => unpacked,
        Layout::Tree => top,
        Layout::Cifar10 => {
            cifar::convert(env, &top, &made)?;
            made
        }
    };
    ensure!(
        ready.join(dataset.images).is_dir(),
        "{} holds no folder {}: it is another archive than that of {}",
        archive.display(),
        dataset.images,
        dataset.name
    );
    appear(dataset, dir, &ready, &sum)?;
    // Nothing but what was made here: a file of the user's may lie there too.
    remove(&underway.join("unpacked"))?;
    remove(&underway.join("made"))?;
    if is_address {
        fs::remove_file(&archive)
            .with_context(|| format!("cannot remove {}", archive.display()))?;
    }
    drop(lock);
    // What cannot be removed is left, and does no harm.
    let _ = fs::remove_file(underway.join(LOCK));
    let _ = fs::remove_dir(&underway);
    Ok(Fetched::Now)
}

/// Whether `dir` is there and complete; an error where it holds something else.
fn is_complete(dataset: &Dataset, dir: &Path) -> Result<bool> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the folder {}", dir.display()));
        }
    };
    let mark = fs::read_to_string(dir.join(MARK)).unwrap_or_default();
    match mark.lines().next() {
        Some(name) if name == dataset.name => Ok(true),
        Some(name) => bail!("{} contains {name}; choose another folder", dir.display()),
        None if entries.next().is_none() => Ok(false),
        None => bail!(
            "{} exists and contains something else; choose another folder",
            dir.display()
        ),
    }
}

/// Makes the folder of a download, or takes an earlier one over, and keeps other calls away from it
/// until the file is dropped.
fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(LOCK);
    let is_empty = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
        .next()
        .is_none();
    ensure!(
        is_empty || path.is_file(),
        "{} is there and holds something else; move it, or choose another DIR",
        folder.display()
    );
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("{}: in use by another process", folder.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The archive's SHA-256, which is the one that it has to be.
fn verify(env: &Environment<'_>, dataset: &Dataset, archive: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", archive.display());
    let file = File::open(archive).with_context(cannot)?;
    let length = file.metadata().with_context(cannot)?.len();
    if let Some(bytes) = dataset.bytes {
        ensure!(
            length == bytes,
            "{} has {length} bytes, the archive of {} has {bytes}",
            archive.display(),
            dataset.name
        );
    }
    drop(file);
    let sum = checksum::of_file::<Sha256>(env, archive, &[])?;
    match dataset.sha256 {
        Some(wanted) => ensure!(
            sum == wanted,
            "{} has SHA-256 {sum}, the archive of {} has {wanted}",
            archive.display(),
            dataset.name
        ),
        None => env.events.hear(Event::Unverified {
            dataset: dataset.name,
            sha256: &sum,
        }),
    }
    Ok(sum)
}

/// Marks the folder `ready` as complete and makes it `dir`.
fn appear(dataset: &Dataset, dir: &Path, ready: &Path, sum: &str) -> Result<()> {
    let mark = ready.join(MARK);
    fs::write(&mark, format!("{}\n{sum}\n", dataset.name))
        .with_context(|| format!("cannot write {}", mark.display()))?;
    // An empty folder is in the way of a rename on some systems.
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", dir.display()));
        }
        _ => {}
    }
    fs::rename(ready, dir)
        .with_context(|| format!("cannot rename {} to {}", ready.display(), dir.display()))
}

/// Removes a folder of our own, if it is there.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
