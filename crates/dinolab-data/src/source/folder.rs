//! A folder of images, flat or nested.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::note::{Note, Tally, notes};
use super::{compressed, run_folder};
use crate::decode::{Pixels, sniff};
use crate::file::read as read_file;
use crate::source::dataset::read_image;
use crate::source::file_kind::{Kind, extension, is_hidden, kind_of};
use crate::source::files::io_error;
use crate::source::labels::Labels;
use crate::source::names::{readable, slashed};
use crate::source::options::{Decoding, SourceOptions};
use crate::{Error, Image, Result, Source};

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    images: Vec<PathBuf>,
    labels: Labels,
    notes: Vec<Note>,
    decoding: Decoding,
}

/// The contents of a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Images, relative to the folder, sorted. Whether they can be read shows when they are.
    pub(super) images: Vec<PathBuf>,
    /// `.tar` files directly in the folder, with the folder, sorted.
    pub(super) tars: Vec<PathBuf>,
    /// `.parquet` files directly in the folder, with the folder, sorted.
    pub(super) parquets: Vec<PathBuf>,
    /// Other files.
    others: usize,
    /// How many of them are NumPy arrays.
    arrays: usize,
    /// How many of them are compressed archives.
    compressed: usize,
    unreadable: Tally,
    unopened: Tally,
    runs: Tally,
}

/// Looks through a folder. Links are followed; hidden files and folders, folders of the system, and
/// folders of training runs are skipped. No entry can end it but the folder itself.
pub(super) fn scan(root: &Path, pixels: Pixels) -> Result<Found> {
    let mut found = Found::default();
    // In the order of the paths, so that sorting those is one comparison for each.
    let walk = WalkDir::new(root).follow_links(true).sort_by_file_name();
    let mut walk = walk.into_iter();
    // The last folder that was entered: it is listed only after that.
    let mut folder = root.to_path_buf();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // A link back to a folder above: everything there is found anyway.
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => {
                let path = error.path().unwrap_or(root).to_path_buf();
                let is_folder = path == folder;
                let error = io::Error::from(error);
                if path == root {
                    return Err(io_error(root, error));
                }
                found.failed(root, &path, is_folder, pixels, &error);
                continue;
            }
        };
        let is_folder = entry.file_type().is_dir();
        if entry.depth() > 0 && is_hidden(entry.file_name()) {
            if is_folder {
                walk.skip_current_dir();
            }
            continue;
        }
        let path = entry.path();
        if is_folder {
            folder = path.to_path_buf();
            if entry.depth() > 0 && run_folder::is(path) {
                found.runs.add(slashed(below(root, path)));
                walk.skip_current_dir();
            }
            continue;
        }
        let is_file = entry.file_type().is_file();
        let is_image = match kind_of(path, pixels) {
            Kind::Image => true,
            Kind::Unknown if is_file => match begins_like_image(path) {
                Ok(is_image) => is_image,
                Err(error) => {
                    found.cannot_open(root, path, &error);
                    false
                }
            },
            Kind::Other | Kind::Unknown => false,
        };
        // Pipes and devices are what their names say, which cannot be used.
        let is_archive = ["tar", "parquet"].contains(&extension(path).as_str());
        if is_image || is_archive || is_file {
            found.put(root, path, is_image);
        }
    }
    found.images.sort();
    found.tars.sort();
    found.parquets.sort();
    Ok(found)
}

fn below<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

impl Found {
    fn put(&mut self, root: &Path, path: &Path, is_image: bool) {
        let relative = below(root, path);
        if is_image {
            self.images.push(relative.to_path_buf());
            return;
        }
        let is_direct = relative.components().count() == 1;
        let extension = extension(path);
        if is_direct && extension == "tar" {
            self.tars.push(path.to_path_buf());
        } else if is_direct && extension == "parquet" {
            self.parquets.push(path.to_path_buf());
        } else {
            self.others += 1;
            self.arrays += usize::from(extension == "npy");
            self.compressed += usize::from(compressed::is_extension(&extension));
        }
    }

    /// An entry that could not be looked at, or a folder that could not be listed.
    fn failed(
        &mut self,
        root: &Path,
        path: &Path,
        is_folder: bool,
        pixels: Pixels,
        error: &io::Error,
    ) {
        let relative = below(root, path);
        if relative.iter().any(is_hidden) {
            return;
        }
        if is_folder {
            self.unreadable
                .add(format!("{} ({})", slashed(relative), reason(error)));
            return;
        }
        match kind_of(path, pixels) {
            // Met again, and counted, when it is read.
            Kind::Image => self.put(root, path, true),
            Kind::Other => self.put(root, path, false),
            Kind::Unknown => {
                self.cannot_open(root, path, error);
                self.put(root, path, false);
            }
        }
    }

    /// An entry that only its content could have identified.
    fn cannot_open(&mut self, root: &Path, path: &Path, error: &io::Error) {
        // What went away since the folder was listed is not missed; a link that leads nowhere is.
        if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() {
            return;
        }
        self.unopened.add(format!(
            "{} ({})",
            slashed(below(root, path)),
            reason(error)
        ));
    }

    /// Why there is no image.
    fn nothing(&self) -> String {
        let mut reason = match self.others {
            0 => "the folder contains no files".to_owned(),
            1 => "the folder contains 1 file, which is not an image".to_owned(),
            n => format!("the folder contains {n} files, none of them an image"),
        };
        if self.compressed > 0 {
            let few = match self.compressed {
                1 => "1 is a compressed archive; unpack it first".to_owned(),
                n => format!("{n} are compressed archives; unpack them first"),
            };
            reason = format!("{reason}; {few}");
        }
        for note in self.notes() {
            reason = format!("{reason}; {note}");
        }
        reason
    }

    /// What was left out.
    fn notes(&self) -> Vec<Note> {
        notes([
            (Note::UnreadableFolders, self.unreadable.clone()),
            (Note::Unopened, self.unopened.clone()),
            (Note::RunFolders, self.runs.clone()),
        ])
    }
}

/// The operating system's message, without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    // `walkdir` says which path it was about, which is said already.
    let text = match error.get_ref() {
        Some(inner) => std::error::Error::source(inner).map_or(text, ToString::to_string),
        None => text,
    };
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

fn begins_like_image(path: &Path) -> io::Result<bool> {
    let mut head = Vec::with_capacity(16);
    File::open(path)?.take(16).read_to_end(&mut head)?;
    Ok(sniff(&head).is_some())
}

impl Folder {
    pub(super) fn new(root: &Path, found: Found, options: &SourceOptions) -> Result<Self> {
        if found.images.is_empty() {
            let path = root.to_path_buf();
            if found.arrays > 0 {
                let arrays = found.arrays;
                return Err(Error::OnlyArrays { path, arrays });
            }
            let reason = found.nothing();
            return Err(Error::NoImages { path, reason });
        }
        let mut notes = found.notes();
        let mut archives = Tally::default();
        for archive in found.tars.iter().chain(&found.parquets) {
            archives.add(readable(archive.file_name().unwrap_or_default()));
        }
        if archives.count > 0 {
            notes.push(Note::Archives(archives));
        }
        let paths: Vec<&Path> = found.images.iter().map(PathBuf::as_path).collect();
        let (labels, of_labels) = Labels::from_folders(&paths, false);
        notes.extend(of_labels);
        Ok(Self {
            root: root.to_path_buf(),
            images: found.images,
            labels,
            notes,
            decoding: options.decoding(),
        })
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        slashed(&self.images[index])
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
        read_file(&self.root.join(&self.images[index])).map(Some)
    }

    fn decoding(&self) -> Option<Decoding> {
        Some(self.decoding)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.root.join(&self.images[index]))
    }
}
