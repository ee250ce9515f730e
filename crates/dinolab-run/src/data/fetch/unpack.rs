//! Archives to folders, whatever the archive says.
//!
//! Only plain files and folders are written, and only below the folder that is given: a member with
//! `..`, with an absolute path, or that is a link or a device is an error. So is an archive that
//! grows out of proportion. Permissions, owners and times of members are not taken over.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use tar::EntryType;
use zip::ZipArchive;

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::Progress;

/// Times its own length that an archive may grow. Photographs do not grow at all, raw pixels hardly.
const GROWTH: u64 = 4;

/// What any archive may grow to, however short.
const SLACK: u64 = 1 << 20;

/// Members of an archive.
const MEMBERS: u64 = 1_000_000;

/// Unpacks a `.tar`, `.tar.gz`, `.tgz` or `.zip` file (by its content) into the folder `into`, which
/// exists and is empty.
///
/// # Errors
///
/// Anything that is not as above; damaged archives. What was unpacked until then stays.
pub fn unpack(env: &Environment<'_>, archive: &Path, into: &Path) -> Result<()> {
    unpack_kinds(env, archive, into).with_context(|| format!("cannot unpack {}", archive.display()))
}

fn unpack_kinds(env: &Environment<'_>, archive: &Path, into: &Path) -> Result<()> {
    let mut file = File::open(archive)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    (&mut file).take(4).read_to_end(&mut head)?;
    let mut target = Target {
        into,
        left: length.saturating_mul(GROWTH).saturating_add(SLACK),
        members: 0,
        files: 0,
        progress: Progress::resumed(env.events, "unpacked", None, 0),
    };
    // Opened again, and so read from its beginning.
    let file = BufReader::with_capacity(1 << 18, File::open(archive)?);
    let result = match head.as_slice() {
        b"PK\x03\x04" | b"PK\x05\x06" => unpack_zip(file, &mut target),
        [0x1f, 0x8b, ..] => unpack_tar(MultiGzDecoder::new(file), &mut target),
        _ => unpack_tar(file, &mut target),
    };
    let files = target.files;
    drop(target);
    result?;
    ensure!(files > 0, "it contains no files");
    Ok(())
}

/// Where members go, and how much more of them is allowed.
struct Target<'a> {
    into: &'a Path,
    left: u64,
    members: u64,
    files: u64,
    progress: Progress<'a>,
}

impl Target<'_> {
    /// Counts a member and says where it may lie.
    fn place(&mut self, name: &str) -> Result<PathBuf> {
        self.members += 1;
        ensure!(
            self.members <= MEMBERS,
            "it holds more than {MEMBERS} members"
        );
        self.progress.set(self.members as usize, name);
        Ok(self.into.join(inside(name)?))
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        let path = self.place(name)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))
    }

    /// Writes a member of a length that the archive tells.
    fn file(&mut self, name: &str, length: u64, from: impl Read) -> Result<()> {
        let path = self.place(name)?;
        ensure!(path != self.into, "{name:?}: a file without a name");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        let mut from = from.take(self.left.saturating_add(1));
        let written = io::copy(&mut from, &mut file).with_context(|| format!("{name:?}"))?;
        ensure!(written <= self.left, "{}", too_large());
        self.left -= written;
        self.files += 1;
        ensure!(
            written == length,
            "{name:?}: ends after {written} of {length} bytes"
        );
        file.flush()
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn too_large() -> String {
    format!("it unpacks to more than {GROWTH} times its own size, which no image dataset does")
}

/// A member's path below the folder, or an error for one that leaves it.
fn inside(name: &str) -> Result<PathBuf> {
    ensure!(
        !name.starts_with('/'),
        "{name:?}: an absolute path; nothing outside the folder is written"
    );
    let mut path = PathBuf::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => bail!("{name:?}: a path that leaves the folder"),
            part if part.contains(['\\', '\0']) || (cfg!(windows) && part.contains(':')) => {
                bail!("{name:?}: not a portable path")
            }
            part => path.push(part),
        }
    }
    Ok(path)
}

fn unpack_tar(stream: impl Read, target: &mut Target<'_>) -> Result<()> {
    // Headers count too: the library keeps the long ones in memory.
    let stream = Limited {
        stream,
        left: target.left,
    };
    let mut archive = tar::Archive::new(stream);
    for member in archive.entries()? {
        let member = member?;
        let kind = member.header().entry_type();
        let name = String::from_utf8(member.path_bytes().into_owned()).map_err(|error| {
            Error::Invalid(format!("{:?}: a name that is not text", error.to_string()))
        })?;
        match kind {
            EntryType::Regular | EntryType::Continuous => {
                let length = member.size();
                target.file(&name, length, member)?;
            }
            EntryType::Directory => target.folder(&name)?,
            // A comment on all members.
            EntryType::XGlobalHeader => {}
            EntryType::Symlink | EntryType::Link => {
                bail!("{name:?}: a link; links are not unpacked")
            }
            other => bail!("{name:?}: neither a file nor a folder ({other:?})"),
        }
    }
    // To the end, where the checksum of a compressed file is.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

fn unpack_zip(file: BufReader<File>, target: &mut Target<'_>) -> Result<()> {
    let mut archive = ZipArchive::new(file)?;
    for index in 0..archive.len() {
        let member = archive.by_index(index)?;
        let name = member.name()?.into_owned();
        let kind = member.unix_mode().map_or(0, |mode| mode & 0o170_000);
        if member.is_symlink() {
            bail!("{name:?}: a link; links are not unpacked");
        } else if member.is_dir() {
            target.folder(&name)?;
        } else if kind == 0 || kind == 0o100_000 {
            let length = member.size();
            target.file(&name, length, member)?;
        } else {
            bail!("{name:?}: neither a file nor a folder");
        }
    }
    Ok(())
}

/// A stream that ends with an error when more comes than is allowed.
struct Limited<R> {
    stream: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(too_large()))?;
        Ok(read)
    }
}

/// The folder that holds everything in `root`, however deep; `root` where there is none.
pub fn only_folder(root: &Path) -> io::Result<PathBuf> {
    let mut folder = root.to_path_buf();
    loop {
        let mut entries = fs::read_dir(&folder)?;
        let Some(first) = entries.next().transpose()? else {
            return Ok(folder);
        };
        if entries.next().is_some() || !first.file_type()?.is_dir() {
            return Ok(folder);
        }
        folder = first.path();
    }
}
