//! Public sets of images, downloaded, verified and unpacked.

mod cifar;
mod datasets;
mod download;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use datasets::{DATASETS, Dataset, Layout};
use download::Patience;

/// Tells in a folder that is complete which set it holds. Readers of images pass over hidden files.
const MARK: &str = ".dinolab-fetch";

/// Keeps other calls away from a folder of a download, and tells that it is one.
const LOCK: &str = "lock";

/// Downloads a public set of images and unpacks it
///
/// Example: dinolab data fetch voc2012 voc
///
/// A download that broke off goes on with the same command. Size and SHA-256 of the archive are verified
/// before it is unpacked, and DIR appears only when it is complete. What is underway lies in DIR.download.
/// Sets at https addresses need a build with `--features https`, or a file that was downloaded otherwise:
///
/// dinolab data fetch imagenette160 imagenette --from imagenette2-160.tgz
#[derive(clap::Args)]
pub struct Args {
    /// Which set; --list names them
    #[arg(value_name = "NAME", value_parser = datasets::by_name, required_unless_present = "list")]
    dataset: Option<&'static Dataset>,
    /// Folder to make
    #[arg(value_name = "DIR", required_unless_present = "list")]
    dir: Option<PathBuf>,
    /// Take the archive from this file, or from another server at this address
    #[arg(long, value_name = "FILE_OR_URL")]
    from: Option<String>,
    /// Name the sets with their sizes, checksums and addresses
    #[arg(long, conflicts_with_all = ["dataset", "dir", "from"])]
    list: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let (Some(dataset), Some(dir)) = (args.dataset, &args.dir) else {
        for dataset in DATASETS {
            outln!("{}", dataset.line());
        }
        return Ok(());
    };
    let from = args.from.as_deref();
    match fetch(dataset, dir, from, &Patience::default())? {
        Fetched::Now => outln!("{} is in {}", dataset.name, dir.display()),
        Fetched::Before => outln!(
            "{} is in {} already, complete; nothing to do",
            dataset.name,
            dir.display()
        ),
    }
    let images = match dataset.images {
        "" => dir.clone(),
        images => dir.join(images),
    };
    outln!("images: {}", images.display());
    Ok(())
}

/// What was found or done.
#[derive(Debug, PartialEq, Eq)]
enum Fetched {
    /// Downloaded and unpacked.
    Now,
    /// There already.
    Before,
}

/// Makes `dir` from the archive of `dataset`, which is at `from` (a file or an address) or else at its
/// own address.
fn fetch(
    dataset: &Dataset,
    dir: &Path,
    from: Option<&str>,
    patience: &Patience,
) -> Result<Fetched> {
    if is_complete(dataset, dir)? {
        return Ok(Fetched::Before);
    }
    let from = from.unwrap_or(dataset.url);
    let is_address = ["http://", "https://"]
        .iter()
        .any(|scheme| from.starts_with(scheme));
    if is_address {
        let next = format!(
            "dinolab data fetch {} {} --from {}",
            dataset.name,
            dir.display(),
            dataset.archive()
        );
        download::check_transport(from, dataset.archive(), &next)?;
    } else {
        ensure!(Path::new(from).is_file(), "--from {from}: no such file");
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
            download::download(from, &part, dataset.bytes, patience)?;
            fs::rename(&part, &archive)
                .with_context(|| format!("cannot rename {}", part.display()))?;
        }
        archive
    } else {
        PathBuf::from(from)
    };
    let sum = verify(dataset, &archive).with_context(|| match is_address {
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
    unpack::unpack(&archive, &unpacked)?;
    let top = unpack::only_folder(&unpacked)
        .with_context(|| format!("cannot read {}", unpacked.display()))?;
    let ready = match dataset.layout {
        Layout::WholeTree => unpacked,
        Layout::Tree => top,
        Layout::Cifar10 => {
            cifar::convert(&top, &made)?;
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
        Some(name) => bail!("{} holds {name}; choose another folder", dir.display()),
        None if entries.next().is_none() => Ok(false),
        None => bail!(
            "{} is there and holds something else; choose another folder",
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
            bail!("{}: another call is at work there", folder.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The archive's SHA-256, which is the one that it has to be.
fn verify(dataset: &Dataset, archive: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", archive.display());
    let mut file = File::open(archive).with_context(cannot)?;
    let length = file.metadata().with_context(cannot)?.len();
    if let Some(bytes) = dataset.bytes {
        ensure!(
            length == bytes,
            "{} has {length} bytes, the archive of {} has {bytes}",
            archive.display(),
            dataset.name
        );
    }
    let mut digest = Sha256::new();
    let mut progress = Progress::new("verified MB", length / 1_000_000, 0);
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer).with_context(cannot)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        done += read as u64;
        progress.set(done / 1_000_000, "");
    }
    progress.finish();
    let sum: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    match dataset.sha256 {
        Some(wanted) => ensure!(
            sum == wanted,
            "{} has SHA-256 {sum}, the archive of {} has {wanted}",
            archive.display(),
            dataset.name
        ),
        None => errln!(
            "the checksum of {} is not known, so the archive is not verified; its SHA-256 is {sum}",
            dataset.name
        ),
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
