//! Images in tar files, read in place.
//!
//! Opening a shard walks its headers once and keeps where each image lies; an image is
//! then one read. Labels follow the WebDataset naming (`key.jpg`, `key.cls`) or the
//! folders inside.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::contents::Contents;
use super::files::{LocalFile, OpenFiles, RangeFile};
use super::{Decoding, Labels, SourceOptions, io_error, read_image, slashed};
use crate::{Error, Image, Result, Source};

pub(super) mod contents;
#[cfg(test)]
mod reads;

#[derive(Debug)]
pub(super) struct Tar {
    shards: Vec<Box<dyn RangeFile>>,
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
        let open = Arc::new(OpenFiles::default());
        let shards = shards
            .iter()
            .map(|path| {
                let file = LocalFile::new(path, &open).map_err(|source| io_error(path, source))?;
                // Headers are small and far apart.
                let contents = Contents::of(&file, 4096, options.pixels)?;
                Ok((Box::new(file) as Box<dyn RangeFile>, contents))
            })
            .collect::<Result<Vec<_>>>()?;
        Self::new(source, shards, options)
    }

    /// Shards whose contents are known.
    pub(super) fn new(
        source: &Path,
        shards: Vec<(Box<dyn RangeFile>, Contents)>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let mut members = Vec::new();
        let mut written = HashMap::new();
        let mut classes: Option<(PathBuf, Vec<String>)> = None;
        let mut files = Vec::with_capacity(shards.len());
        for (number, (file, contents)) in shards.into_iter().enumerate() {
            let shard = number as u32;
            members.extend(contents.images.into_iter().map(|image| Member {
                shard,
                offset: image.offset,
                size: image.size,
                path: image.path,
            }));
            written.extend(
                contents
                    .labels
                    .into_iter()
                    .map(|(key, label)| ((shard, key), label)),
            );
            if let Some(names) = contents.classes {
                match &classes {
                    Some((other, known)) if *known != names => {
                        return Err(Error::BadSource {
                            path: file.path().to_path_buf(),
                            reason: format!("its classes are not those of {}", other.display()),
                        });
                    }
                    Some(_) => {}
                    None => classes = Some((file.path().to_path_buf(), names)),
                }
            }
            files.push(file);
        }
        if members.is_empty() {
            let reason = format!("{} tar file(s) without an image", files.len());
            return Err(Error::NoImages {
                path: source.to_path_buf(),
                reason,
            });
        }
        let labels = labels(&files, &members, &written, classes)?;
        Ok(Self {
            shards: files,
            members,
            labels,
            decoding: options.decoding(),
        })
    }
}

fn labels(
    shards: &[Box<dyn RangeFile>],
    members: &[Member],
    written: &HashMap<(u32, PathBuf), String>,
    classes: Option<(PathBuf, Vec<String>)>,
) -> Result<Labels> {
    // Named classes, but none of them: images that have no labels, whatever their folders.
    if written.is_empty() && classes.as_ref().is_some_and(|(_, names)| names.is_empty()) {
        return Ok(Labels::default());
    }
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
                .get(&(member.shard, contents::key(&member.path)))
                .cloned()
                .ok_or_else(|| Error::BadSource {
                    path: shards[member.shard as usize].path().to_path_buf(),
                    reason: format!(
                        "{} has no label (.cls), others have one",
                        member.path.display()
                    ),
                })
        })
        .collect::<Result<_>>()?;
    let Some((path, classes)) = classes else {
        return Ok(Labels::from_written(&of));
    };
    let numbers = of.iter().map(|label| {
        let number = label.parse().ok();
        number
            .filter(|&number: &u32| (number as usize) < classes.len())
            .ok_or_else(|| Error::BadSource {
                path: path.clone(),
                reason: format!(
                    "the label {label:?} is no number below the {} classes of {}",
                    classes.len(),
                    contents::CLASSES
                ),
            })
    });
    Ok(Labels {
        of: numbers.collect::<Result<_>>()?,
        classes,
    })
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
        let shard = self.shards[member.shard as usize].path();
        match (self.shards.len(), shard.file_name()) {
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
        read_image(self, index)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let member = &self.members[index];
        let shard = &self.shards[member.shard as usize];
        let mut bytes = vec![0; member.size as usize];
        shard
            .read(member.offset, &mut bytes)
            .map_err(|source| io_error(shard.path(), source))?;
        Ok(Some(bytes))
    }

    fn encoded_run(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
        let Some(&first) = indices.first() else {
            return Ok(Vec::new());
        };
        let first = &self.members[first];
        let together = indices[..self.run_length(indices, most)].iter();
        let together: Vec<&Member> = together.map(|&index| &self.members[index]).collect();
        let end = together
            .last()
            .map_or(first.offset, |last| last.offset + last.size);
        let shard = &self.shards[first.shard as usize];
        let mut bytes = vec![0; (end - first.offset) as usize];
        shard
            .read(first.offset, &mut bytes)
            .map_err(|source| io_error(shard.path(), source))?;
        let part = |member: &Member| {
            let start = (member.offset - first.offset) as usize;
            bytes[start..start + member.size as usize].to_vec()
        };
        Ok(together.into_iter().map(part).collect())
    }

    fn run_length(&self, indices: &[usize], most: u64) -> usize {
        let Some(&first) = indices.first() else {
            return 0;
        };
        let first = &self.members[first];
        let mut end = first.offset + first.size;
        let rest = indices[1..].iter().take_while(|&&index| {
            let member = &self.members[index];
            let behind = member.shard == first.shard && member.offset >= end;
            end = member.offset + member.size;
            behind && end <= first.offset.saturating_add(most)
        });
        1 + rest.count()
    }

    fn decoding(&self) -> Option<Decoding> {
        Some(self.decoding)
    }

    fn shard(&self, index: usize) -> Option<usize> {
        Some(self.members[index].shard as usize)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        let shard = &self.shards[self.members[index].shard as usize];
        Some(shard.path().to_path_buf())
    }

    fn size(&self, index: usize) -> Option<u64> {
        Some(self.members[index].size)
    }

    fn stamp(&self, index: usize) -> Option<(u64, i64)> {
        self.shards[self.members[index].shard as usize].stamp()
    }
}
