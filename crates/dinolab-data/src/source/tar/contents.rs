//! Indexing of a shard in one pass over its headers.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::super::files::{Cursor, ReadRange};
use super::super::{compressed, text};
use super::entry::{Contents, Place};
use super::links::{Body, Links, Target};
use super::samples;
use crate::decode::{Pixels, sniff};
use crate::source::file_kind::{Kind, extension, is_hidden, kind_of};
use crate::source::names::slashed;
use crate::{Error, Result};

/// The member that names the classes, one a line, in the order of the numbers in `.cls` members.
/// Readers of WebDataset pass over members in folders of such a name.
pub const CLASSES: &str = "__meta__/classes.txt";

/// Far more than any label needs; keeps a mislabelled file from being read in whole.
const LONGEST_LABEL: u64 = 4096;
const LONGEST_CLASSES: u64 = 64 << 20;
/// A tar file is a row of such blocks.
const BLOCK: u64 = 512;
/// How far behind an archive's end another one is looked for: the largest blocks that archives are
/// filled up to.
const FILLING: u64 = 1 << 20;

/// What a member is, by its name and its first bytes.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Image,
    /// Its text, or why that cannot be read. Of a link, nothing yet.
    Label(Option<Result<String, String>>),
    Classes(Vec<String>),
    Other,
}

struct Member {
    path: PathBuf,
    body: Body,
    what: What,
}

/// A member's path as programs unpack it: without roots and steps up.
fn inside(path: &Path) -> PathBuf {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => {
                inside.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    inside
}

fn is_label(path: &Path) -> bool {
    extension(path) == "cls"
}

/// A label as its file holds it.
fn label(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() as u64 > LONGEST_LABEL {
        return Err(format!("longer than {LONGEST_LABEL} bytes"));
    }
    match text::utf8(bytes)?.trim() {
        "" => Err("empty".into()),
        label => Ok(label.to_owned()),
    }
}

/// A walk over the members of a tar file.
struct Walk<'a> {
    file: &'a dyn ReadRange,
    pixels: Pixels,
    members: Vec<Member>,
    /// The last member of each name.
    latest: HashMap<PathBuf, usize>,
    /// Where the last member ends.
    end: u64,
}

impl Contents {
    /// Walks over a tar file, reading `block` bytes at a time where there is something to read.
    /// What counts as an image depends on the `pixels` that are wanted.
    pub(in crate::source) fn of(
        file: &dyn ReadRange,
        block: usize,
        pixels: Pixels,
    ) -> Result<Self> {
        let mut walk = Walk {
            file,
            pixels,
            members: Vec::new(),
            latest: HashMap::new(),
            end: 0,
        };
        let mut cursor = Cursor::new(file, block);
        let damaged = |error| damaged_by(file, &error);
        let mut head = Vec::with_capacity(compressed::HEAD);
        (&mut cursor)
            .take(compressed::HEAD as u64)
            .read_to_end(&mut head)
            .map_err(damaged)?;
        if let Some(reason) = compressed::reason(&head, file.path()) {
            let path = file.path().to_path_buf();
            return Err(Error::BadSource { path, reason });
        }
        let mut start = Some(0);
        let mut behind_end = false;
        while let Some(at) = start {
            cursor.seek(SeekFrom::Start(at)).map_err(damaged)?;
            cursor = walk.archive(cursor, at)?;
            // Archives that were put one behind the other, or added to what is no archive.
            (start, behind_end) = next_archive(&mut cursor, walk.end, file.len())
                .map_err(|error| damaged_by(file, &error))?;
        }
        let mut contents = walk.sorted()?;
        contents.left.behind_end = behind_end;
        Ok(contents)
    }
}

fn damaged_by(file: &dyn ReadRange, error: &std::io::Error) -> Error {
    Error::BadSource {
        path: file.path().to_path_buf(),
        reason: format!("damaged or not a tar file: {error}"),
    }
}

/// Where another archive begins after `end`, and whether something else follows.
fn next_archive(
    cursor: &mut Cursor<'_>,
    end: u64,
    length: u64,
) -> std::io::Result<(Option<u64>, bool)> {
    let mut block = [0; BLOCK as usize];
    let mut at = end;
    while at.saturating_add(BLOCK) <= length && at - end <= FILLING {
        cursor.seek(SeekFrom::Start(at))?;
        cursor.read_exact(&mut block)?;
        if block.iter().any(|&byte| byte != 0) {
            let header = ::tar::Header::from_byte_slice(&block);
            let sum: u32 = block[..148]
                .iter()
                .chain(&block[156..])
                .map(|&byte| u32::from(byte))
                .sum();
            let is_header = header.cksum().is_ok_and(|told| told == sum + 8 * 32);
            return Ok(if is_header {
                (Some(at), false)
            } else {
                (None, true)
            });
        }
        at += BLOCK;
    }
    Ok((None, false))
}

impl<'a> Walk<'a> {
    fn bad(&self, reason: String) -> Error {
        Error::BadSource {
            path: self.file.path().to_path_buf(),
            reason,
        }
    }

    /// Takes the members of the archive that begins at `start`, where `cursor` stands.
    fn archive(&mut self, cursor: Cursor<'a>, start: u64) -> Result<Cursor<'a>> {
        let file = self.file;
        let damaged = |error| damaged_by(file, &error);
        let mut archive = ::tar::Archive::new(Part { cursor, start });
        let mut found = Vec::new();
        // Of an archive without members, a block is used up all the same.
        let mut end = start + BLOCK;
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let kind = entry.header().entry_type();
            let (offset, size) = (start + entry.raw_file_position(), entry.size());
            // Of a sparse member, the size is that of what it unpacks to.
            let stored = match kind.is_gnu_sparse() {
                true => entry.header().entry_size().map_err(damaged)?,
                false => size,
            };
            end = offset
                .saturating_add(stored)
                .checked_next_multiple_of(BLOCK)
                .unwrap_or(u64::MAX);
            let name = entry.path().map_err(damaged)?.into_owned();
            // Archives of old mark folders so.
            if kind.is_dir() || entry.path_bytes().last() == Some(&b'/') {
                continue;
            }
            let mut path = inside(&name);
            let sparse = entry
                .pax_extensions()
                .map_err(damaged)?
                .and_then(sparse_name);
            if let Some(name) = sparse.as_ref().filter(|name| !name.is_empty()) {
                path = inside(Path::new(name));
            }
            if path.as_os_str().is_empty() || path.iter().any(is_hidden) {
                continue;
            }
            let body = if sparse.is_some() || kind.is_gnu_sparse() {
                Body::Problem(
                    "a sparse file, which is not read; pack it with tar's sparse option off".into(),
                )
            } else if kind.is_file() || kind.is_contiguous() {
                if offset.saturating_add(size) > self.file.len() {
                    let path = path.display();
                    return Err(self.bad(format!("truncated: {path} goes beyond its end")));
                }
                Body::File { offset, size }
            } else if kind.is_hard_link() {
                let target = entry.link_name().map_err(damaged)?;
                Body::Hard(target.map(|target| inside(&target)))
            } else if kind.is_symlink() {
                let target = entry.link_name().map_err(damaged)?;
                Body::Symbolic(target.map(|target| target.into_owned()))
            } else {
                Body::Problem(match kind.as_byte() {
                    b'3' | b'4' | b'6' => "a device or a pipe, not a file".into(),
                    other => format!(
                        "a member of the kind {:?}, which is not read",
                        char::from(other)
                    ),
                })
            };
            let is_file = matches!(body, Body::File { .. });
            let what = match kind_of(&path, self.pixels) {
                Kind::Image => What::Image,
                Kind::Other if path == Path::new(CLASSES) && is_file => {
                    let mut bytes = Vec::new();
                    entry
                        .take(LONGEST_CLASSES)
                        .read_to_end(&mut bytes)
                        .map_err(damaged)?;
                    let text = text::utf8(&bytes);
                    let text = text.map_err(|why| self.bad(format!("{CLASSES}: {why}")))?;
                    What::Classes(text.lines().map(str::to_owned).collect())
                }
                Kind::Other if is_label(&path) && is_file => {
                    let mut bytes = Vec::new();
                    entry
                        .take(LONGEST_LABEL + 1)
                        .read_to_end(&mut bytes)
                        .map_err(damaged)?;
                    What::Label(Some(label(&bytes)))
                }
                Kind::Other if is_label(&path) => What::Label(None),
                Kind::Other => What::Other,
                Kind::Unknown if is_file => {
                    let mut head = Vec::with_capacity(16);
                    entry.take(16).read_to_end(&mut head).map_err(damaged)?;
                    match sniff(&head) {
                        Some(_) => What::Image,
                        None => What::Other,
                    }
                }
                Kind::Unknown => What::Other,
            };
            found.push(Member { path, body, what });
        }
        self.end = end;
        for member in found {
            self.add(member);
        }
        Ok(archive.into_inner().cursor)
    }

    fn add(&mut self, mut member: Member) {
        let before = self.latest.get(&member.path).copied();
        match &member.body {
            // A file that was packed twice is a link to itself the second time.
            Body::Hard(Some(target)) if *target == member.path && before.is_some() => return,
            // Links of this kind are to what has that name by now, whatever gets it later.
            Body::Hard(Some(target)) => {
                member.body = match self.latest.get(target) {
                    Some(&of) => Body::Same(of),
                    None => Body::Hard(Some(target.clone())),
                };
            }
            _ => {}
        }
        self.latest.insert(member.path.clone(), self.members.len());
        self.members.push(member);
    }

    /// What the members are to each other.
    fn sorted(self) -> Result<Contents> {
        let mut contents = Contents::default();
        let links = Links {
            bodies: self.members.iter().map(|member| &member.body).collect(),
            paths: self
                .members
                .iter()
                .map(|member| member.path.as_path())
                .collect(),
            latest: &self.latest,
        };
        let left = &mut contents.left;
        let mut images = Vec::new();
        let mut labels = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            let path = &member.path;
            if self.latest.get(path) != Some(&number) {
                if member.what != What::Other {
                    left.replaced.add(slashed(path));
                }
                continue;
            }
            let target = links.follow(number);
            // A name that says nothing is what the file is that it links to.
            let what = match (&member.what, &target) {
                (What::Other, Target::File { number, .. })
                    if kind_of(path, self.pixels) == Kind::Unknown =>
                {
                    match self.members[*number].what {
                        What::Image => &What::Image,
                        _ => &What::Other,
                    }
                }
                (what, _) => what,
            };
            match (what, target) {
                (What::Image, Target::File { offset, size, .. }) => images.push(Place {
                    path: path.clone(),
                    offset,
                    size,
                    label: None,
                    problem: None,
                }),
                (What::Image, Target::Problem(problem)) => images.push(Place {
                    path: path.clone(),
                    offset: 0,
                    size: 0,
                    label: None,
                    problem: Some(problem),
                }),
                (What::Label(told), target) => {
                    let told = match (told, target) {
                        (Some(told), _) => told.clone(),
                        (None, Target::File { offset, size, .. }) => {
                            self.linked_label(offset, size)?
                        }
                        (None, Target::Problem(problem)) => Err(problem),
                    };
                    match told {
                        Ok(text) => labels.push((path.as_path(), text)),
                        Err(why) => left
                            .unreadable_labels
                            .add(format!("{} ({why})", slashed(path))),
                    }
                }
                (What::Classes(names), _) => contents.classes = Some(names.clone()),
                (What::Other, Target::File { .. }) => {
                    *left.others.entry(extension(path)).or_default() += 1;
                }
                (What::Other, Target::Problem(_)) => {
                    if kind_of(path, self.pixels) == Kind::Unknown {
                        left.links.add(slashed(path));
                    }
                }
            }
        }
        contents.images = samples::pair(images, &labels, left);
        Ok(contents)
    }

    /// The text of a file that a label links to.
    fn linked_label(&self, offset: u64, size: u64) -> Result<Result<String, String>> {
        let mut bytes = vec![0; size.min(LONGEST_LABEL + 1) as usize];
        self.file
            .read(offset, &mut bytes)
            .map_err(|error| damaged_by(self.file, &error))?;
        Ok(label(&bytes))
    }
}

/// The name of a sparse file, which is said beside a made-up one.
fn sparse_name(extensions: ::tar::PaxExtensions<'_>) -> Option<String> {
    let mut name = None;
    for extension in extensions.flatten() {
        match extension.key() {
            Ok("GNU.sparse.name") => return extension.value().ok().map(str::to_owned),
            Ok("GNU.sparse.major" | "GNU.sparse.map" | "GNU.sparse.numblocks") => {
                name.get_or_insert_with(String::new);
            }
            _ => {}
        }
    }
    name
}

/// A file from `start` on.
struct Part<'a> {
    cursor: Cursor<'a>,
    start: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.cursor.read(bytes)
    }
}

impl Seek for Part<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at.saturating_add(self.start)),
            other => other,
        };
        Ok(self.cursor.seek(to)?.saturating_sub(self.start))
    }
}
