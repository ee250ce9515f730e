//! Images in tar files, read in place.
//!
//! Opening a shard walks its headers once and keeps where each image lies; an image is
//! then one read. Labels follow the WebDataset naming (`key.jpg`, `key.cls`) or the
//! folders inside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::entry::{Contents, Left};
use super::files::{LocalFile, OpenFiles, ReadRange};
use super::note::{Note, Tally, notes};
use crate::source::dataset::read_image;
use crate::source::files::io_error;
use crate::source::labels::Labels;
use crate::source::names::{readable, slashed};
use crate::source::options::{Decoding, SourceOptions};
use crate::{Error, Image, Result, Source};

pub(super) mod contents;
pub(super) mod entry;
#[cfg(test)]
mod io_tests;
mod links;
mod samples;

#[derive(Debug)]
pub(super) struct Tar {
    shards: Vec<Box<dyn ReadRange>>,
    members: Vec<Member>,
    labels: Labels,
    notes: Vec<Note>,
    decoding: Decoding,
}

/// Where an image lies.
#[derive(Debug)]
struct Member {
    shard: u32,
    offset: u64,
    size: u64,
    path: PathBuf,
    /// Why it has no position.
    problem: Option<Box<str>>,
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
                Ok((Box::new(file) as Box<dyn ReadRange>, contents))
            })
            .collect::<Result<Vec<_>>>()?;
        Self::new(source, shards, options)
    }

    /// Shards whose contents are known.
    pub(super) fn new(
        source: &Path,
        shards: Vec<(Box<dyn ReadRange>, Contents)>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let several = shards.len() > 1;
        let mut members = Vec::new();
        let mut written = Vec::new();
        let mut classes: Option<(PathBuf, Vec<String>)> = None;
        let mut files = Vec::with_capacity(shards.len());
        let mut left = AllLeft::default();
        for (number, (file, contents)) in shards.into_iter().enumerate() {
            let shard = number as u32;
            for image in contents.images {
                members.push(Member {
                    shard,
                    offset: image.offset,
                    size: image.size,
                    path: image.path,
                    problem: image.problem.map(Into::into),
                });
                written.push(image.label);
            }
            left.join(contents.left, file.path(), several);
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
            let reason = match files.len() {
                1 => "a tar file without an image".to_owned(),
                n => format!("{n} tar files without an image"),
            };
            let path = source.to_path_buf();
            let reason = left
                .notes()
                .iter()
                .fold(reason, |reason, note| format!("{reason}; {note}"));
            return Err(Error::NoImages { path, reason });
        }
        let mut notes = left.notes();
        let (labels, of_labels) = labels(&files, &members, &written, classes)?;
        notes.extend(of_labels);
        Ok(Self {
            shards: files,
            members,
            labels,
            notes,
            decoding: options.decoding(),
        })
    }

    /// What is wrong with an image without a position.
    fn check(&self, index: usize) -> Result<()> {
        match &self.members[index].problem {
            None => Ok(()),
            Some(reason) => Err(Error::BadImage {
                name: self.name(index),
                reason: reason.to_string(),
            }),
        }
    }
}

/// What all shards hold beside images and their labels.
#[derive(Default)]
struct AllLeft {
    left: Left,
    behind_end: Tally,
}

impl AllLeft {
    fn join(&mut self, part: Left, shard: &Path, several: bool) {
        let file = readable(shard.file_name().unwrap_or_default());
        let whole = |name: String| match several {
            true => format!("{file}/{name}"),
            false => name,
        };
        let all = &mut self.left;
        for (all, part) in [
            (&mut all.secondary, part.secondary),
            (&mut all.stray_labels, part.stray_labels),
            (&mut all.unreadable_labels, part.unreadable_labels),
            (&mut all.replaced, part.replaced),
            (&mut all.links, part.links),
        ] {
            all.join(part, whole);
        }
        for (extension, count) in part.others {
            *all.others.entry(extension).or_default() += count;
        }
        if part.behind_end {
            self.behind_end.add(file);
        }
    }

    fn notes(&self) -> Vec<Note> {
        let left = &self.left;
        let mut notes = notes([
            (Note::Secondary, left.secondary.clone()),
            (Note::UnreadableLabels, left.unreadable_labels.clone()),
            (Note::StrayLabels, left.stray_labels.clone()),
            (Note::Replaced, left.replaced.clone()),
            (Note::Links, left.links.clone()),
            (Note::BehindEnd, self.behind_end.clone()),
        ]);
        if !left.others.is_empty() {
            notes.push(Note::NotRead(most(&left.others)));
        }
        notes
    }
}

/// The commonest extensions, and how many members have them.
fn most(others: &BTreeMap<String, usize>) -> Vec<(String, usize)> {
    const NAMED: usize = 5;
    let mut most: Vec<(String, usize)> = others.iter().map(|(e, &n)| (e.clone(), n)).collect();
    most.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    most.truncate(NAMED);
    most
}

fn labels(
    shards: &[Box<dyn ReadRange>],
    members: &[Member],
    written: &[Option<String>],
    classes: Option<(PathBuf, Vec<String>)>,
) -> Result<(Labels, Vec<Note>)> {
    let several = shards.len() > 1;
    if written.iter().all(Option::is_none) {
        // Named classes, but none of them: images that have no labels, whatever their folders.
        if classes.as_ref().is_some_and(|(_, names)| names.is_empty()) {
            return Ok(Default::default());
        }
        let paths: Vec<&Path> = members.iter().map(|member| member.path.as_path()).collect();
        return Ok(Labels::from_folders(&paths, true));
    }
    let mut without = Tally::default();
    for (member, label) in members.iter().zip(written) {
        if label.is_none() {
            without.add(name(shards, member, several));
        }
    }
    let notes = notes([(Note::Unlabelled as fn(Tally) -> Note, without)]);
    let Some((path, classes)) = classes else {
        return Ok((Labels::from_written(written), notes));
    };
    let number = |label: &String| {
        let number = label.parse().ok();
        number
            .filter(|&number: &u32| (number as usize) < classes.len())
            .ok_or_else(|| Error::BadSource {
                path: path.clone(),
                reason: format!(
                    "the label {label:?} is not a number below the {} classes of {}",
                    classes.len(),
                    contents::CLASSES
                ),
            })
    };
    let of = written
        .iter()
        .map(|label| label.as_ref().map(number).transpose())
        .collect::<Result<Vec<_>>>()?;
    Ok((Labels::new(classes, of), notes))
}

fn name(shards: &[Box<dyn ReadRange>], member: &Member, several: bool) -> String {
    let path = slashed(&member.path);
    match (several, shards[member.shard as usize].path().file_name()) {
        (true, Some(shard)) => format!("{}/{path}", readable(shard)),
        _ => path,
    }
}

impl Source for Tar {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn name(&self, index: usize) -> String {
        name(&self.shards, &self.members[index], self.shards.len() > 1)
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.label(index)
    }

    fn classes(&self) -> &[String] {
        &self.labels.classes
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn image(&self, index: usize) -> Result<Image> {
        read_image(self, index)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.check(index)?;
        let member = &self.members[index];
        let shard = &self.shards[member.shard as usize];
        let mut bytes = vec![0; member.size as usize];
        shard
            .read(member.offset, &mut bytes)
            .map_err(|source| io_error(shard.path(), source))?;
        Ok(Some(bytes))
    }

    fn read_contiguous(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
        let Some(&first) = indices.first() else {
            return Ok(Vec::new());
        };
        self.check(first)?;
        let first = &self.members[first];
        let together = indices[..self.contiguous_len(indices, most)].iter();
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

    fn contiguous_len(&self, indices: &[usize], most: u64) -> usize {
        let Some(&first) = indices.first() else {
            return 0;
        };
        let first = &self.members[first];
        let mut end = first.offset + first.size;
        let rest = indices[1..].iter().take_while(|&&index| {
            let member = &self.members[index];
            // A link lies where its file does.
            let behind = member.shard == first.shard && member.offset >= end;
            let behind = behind && member.problem.is_none();
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
