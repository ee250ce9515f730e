//! Images in tar files, read in place.
//!
//! Opening a shard walks its headers once and keeps where each image lies; an image is
//! then read by one seek. Labels follow the WebDataset naming (`key.jpg`, `key.cls`)
//! or the folders inside.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::{Decoding, Kind, Labels, SourceOptions, io_error, is_hidden, kind_of, slashed};
use crate::decode::{Pixels, sniff};
use crate::{Error, Image, Mask, Result, Source};

#[derive(Debug)]
pub(super) struct Tar {
    shards: Vec<PathBuf>,
    members: Vec<Member>,
    labels: Labels,
    decoding: Decoding,
}

/// Where an image lies.
#[derive(Debug)]
struct Member {
    shard: u32,
    offset: u64,
    size: u64,
    path: PathBuf,
}

impl Tar {
    /// `source` is what the user named, for errors.
    pub(super) fn open(
        source: &Path,
        shards: Vec<PathBuf>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let mut members = Vec::new();
        let mut written = HashMap::new();
        for (number, shard) in shards.iter().enumerate() {
            let seen = (&mut members, &mut written);
            index(shard, number as u32, options.pixels, seen)?;
        }
        if members.is_empty() {
            let reason = format!("{} tar file(s) without an image", shards.len());
            return Err(Error::NoImages {
                path: source.to_path_buf(),
                reason,
            });
        }
        let labels = labels(&shards, &members, &written)?;
        Ok(Self {
            shards,
            members,
            labels,
            decoding: options.decoding(),
        })
    }
}

/// The part of a member's path that an image shares with its label.
fn key(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    path.with_file_name(name.split('.').next().unwrap_or_default())
}

fn index(
    shard: &Path,
    number: u32,
    pixels: Pixels,
    (members, written): (&mut Vec<Member>, &mut HashMap<(u32, PathBuf), String>),
) -> Result<()> {
    let bad = |reason: String| Error::BadSource {
        path: shard.to_path_buf(),
        reason,
    };
    let damaged = |error: std::io::Error| bad(format!("damaged or not a tar file: {error}"));
    let file = File::open(shard).map_err(|source| io_error(shard, source))?;
    let length = file
        .metadata()
        .map_err(|source| io_error(shard, source))?
        .len();
    let mut archive = ::tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path: PathBuf = entry
            .path()
            .map_err(damaged)?
            .components()
            .filter(|c| *c != Component::CurDir)
            .collect();
        if path.iter().any(is_hidden) {
            continue;
        }
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.saturating_add(size) > length {
            return Err(bad(format!(
                "truncated: {} goes beyond its end",
                path.display()
            )));
        }
        let is_image = match kind_of(&path, pixels) {
            Kind::Image => true,
            Kind::Other => {
                if path.extension().is_some_and(|e| e == "cls") {
                    // Far more than any label needs; keeps a mislabelled file from being read in whole.
                    let mut text = String::new();
                    let name = path.display().to_string();
                    entry
                        .take(4096)
                        .read_to_string(&mut text)
                        .map_err(|e| bad(format!("{name}: {e}")))?;
                    written.insert((number, key(&path)), text.trim().to_owned());
                }
                false
            }
            Kind::Unknown => {
                let mut head = Vec::with_capacity(16);
                entry.take(16).read_to_end(&mut head).map_err(damaged)?;
                sniff(&head).is_some()
            }
        };
        if is_image {
            members.push(Member {
                shard: number,
                offset,
                size,
                path,
            });
        }
    }
    Ok(())
}

fn labels(
    shards: &[PathBuf],
    members: &[Member],
    written: &HashMap<(u32, PathBuf), String>,
) -> Result<Labels> {
    if written.is_empty() {
        // Archives are often packed with the folder around them: look below what all share.
        let mut shared = folders(&members[0].path);
        for member in &members[1..] {
            let same = shared
                .iter()
                .zip(folders(&member.path))
                .take_while(|(a, b)| *a == b)
                .count();
            shared.truncate(same);
        }
        let depth = shared.len();
        let below: Vec<PathBuf> = members
            .iter()
            .map(|m| m.path.iter().skip(depth).collect())
            .collect();
        return Ok(Labels::from_folders(below.iter().map(PathBuf::as_path)));
    }
    let of: Vec<String> = members
        .iter()
        .map(|member| {
            written
                .get(&(member.shard, key(&member.path)))
                .cloned()
                .ok_or_else(|| Error::BadSource {
                    path: shards[member.shard as usize].clone(),
                    reason: format!(
                        "{} has no label (.cls), others have one",
                        member.path.display()
                    ),
                })
        })
        .collect::<Result<_>>()?;
    Ok(Labels::from_written(&of))
}

/// The folders that a path lies in.
fn folders(path: &Path) -> Vec<std::ffi::OsString> {
    path.parent()
        .map(|folder| folder.iter().map(Into::into).collect())
        .unwrap_or_default()
}

impl Source for Tar {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn name(&self, index: usize) -> String {
        let member = &self.members[index];
        let path = slashed(&member.path);
        match (
            self.shards.len(),
            self.shards[member.shard as usize].file_name(),
        ) {
            (2.., Some(shard)) => format!("{}/{path}", shard.to_string_lossy()),
            _ => path,
        }
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.label(index)
    }

    fn classes(&self) -> &[String] {
        &self.labels.classes
    }

    fn image(&self, index: usize) -> Result<Image> {
        let member = &self.members[index];
        let shard = &self.shards[member.shard as usize];
        let read = || {
            // A handle of its own, so that threads do not move each other's position.
            let mut file = File::open(shard)?;
            file.seek(SeekFrom::Start(member.offset))?;
            let mut bytes = vec![0; member.size as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| io_error(shard, source))?;
        self.decoding.decode(&self.name(index), &bytes)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.shards[self.members[index].shard as usize].clone())
    }

    fn mask(&self, _index: usize) -> Result<Option<Mask>> {
        Ok(None)
    }
}

/// `name-{000..012}.tar` to its thirteen paths; `None` where there is no such pattern,
/// or a file of that very name.
pub(super) fn expand_braces(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    const MOST: u64 = 1_000_000;
    let Some(text) = path.to_str().filter(|_| !path.exists()) else {
        return Ok(None);
    };
    let Some((before, rest)) = text.split_once('{') else {
        return Ok(None);
    };
    let bad = |reason: &str| Error::BadSource {
        path: path.to_path_buf(),
        reason: reason.into(),
    };
    let parts = rest
        .split_once('}')
        .and_then(|(range, after)| Some((range.split_once("..")?, after)));
    let Some(((first, last), after)) = parts else {
        return Err(bad("a pattern must read {first..last}"));
    };
    let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) else {
        return Err(bad("first and last of {first..last} must be numbers"));
    };
    if from > to || to - from >= MOST {
        return Err(bad("first must not be above last in {first..last}"));
    }
    let width = first.len();
    Ok(Some(
        (from..=to)
            .map(|n| PathBuf::from(format!("{before}{n:0width$}{after}")))
            .collect(),
    ))
}
