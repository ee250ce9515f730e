//! A remote folder of images, equivalent to a local folder of the same files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::client::{Client, Version};
use super::location::{Location, below};
use super::parallel::concurrently;
use crate::decode::sniff;
use crate::source::dataset::read_image;
use crate::source::file_kind::{Kind, extension, is_hidden, kind_of};
use crate::source::labels::Labels;
use crate::source::names::{readable, slashed};
use crate::source::note::{Note, Tally, notes};
use crate::source::options::{Decoding, SourceOptions};
use crate::source::run_folder;
use crate::{Error, Image, Result, Source};

/// What a folder of a store holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Images, relative to the folder, in the order in which a local folder has them.
    pub(super) images: Vec<(PathBuf, Version)>,
    /// `.tar` objects directly in the folder, in the order of their names.
    pub(super) tars: Vec<(Location, Version)>,
    /// Likewise `.parquet` objects.
    pub(super) parquets: Vec<(Location, Version)>,
    /// Others.
    pub(super) others: usize,
    runs: Tally,
}

/// Looks through a folder. Names that begin with a dot, what lies in such folders, and folders of
/// training runs are passed over.
pub(super) fn scan(client: &Client, folder: &Location, options: &SourceOptions) -> Result<Found> {
    let mut objects = Vec::new();
    for (key, version) in client.list(folder)? {
        let Some(name) = relative(&key, folder) else {
            continue;
        };
        let path: PathBuf = name.split('/').collect();
        if !path.iter().any(is_hidden) {
            objects.push((path, version));
        }
    }
    objects.sort_by(|a, b| a.0.cmp(&b.0));
    objects.dedup_by(|a, b| a.0 == b.0);
    let holds = |name: &str| objects.iter().any(|(path, _)| path.starts_with(name));
    if holds("JPEGImages") && holds("ImageSets") {
        return Err(Error::BadSource {
            path: folder.path(),
            reason:
                "a Pascal VOC tree, which is read from a local folder only; copy it to one, or \
                     pack its images into tar shards (dinolab data pack)"
                    .into(),
        });
    }
    let runs = pass_over_runs(client, folder, &mut objects)?;
    let is_image = concurrently(&objects, |(path, version)| {
        match kind_of(path, options.pixels) {
            Kind::Image => Ok(true),
            Kind::Other => Ok(false),
            // Also what some programs put in place of a folder.
            Kind::Unknown if version.size == 0 => Ok(false),
            Kind::Unknown => {
                let location = folder.below(&slashed(path))?;
                let head = client.part(&location, version, 0..version.size.min(16))?;
                Ok(sniff(&head).is_some())
            }
        }
    })?;
    let mut found = Found {
        runs,
        ..Found::default()
    };
    for ((path, version), is_image) in objects.into_iter().zip(is_image) {
        if is_image {
            found.images.push((path, version));
        } else if path.iter().count() == 1 && extension(&path) == "tar" {
            found.tars.push((folder.below(&slashed(&path))?, version));
        } else if path.iter().count() == 1 && extension(&path) == "parquet" {
            found
                .parquets
                .push((folder.below(&slashed(&path))?, version));
        } else {
            found.others += 1;
        }
    }
    Ok(found)
}

/// Takes the objects of training runs out.
fn pass_over_runs(
    client: &Client,
    folder: &Location,
    objects: &mut Vec<(PathBuf, Version)>,
) -> Result<Tally> {
    let settings: Vec<(PathBuf, Version)> = objects
        .iter()
        .filter(|(path, version)| {
            path.ends_with(run_folder::SETTINGS)
                && path.iter().count() > 1
                && (1..=run_folder::LONGEST).contains(&version.size)
        })
        .cloned()
        .collect();
    let are_settings = concurrently(&settings, |(path, version)| {
        let text = client.whole(&folder.below(&slashed(path))?, version)?;
        Ok(run_folder::are_settings(&text))
    })?;
    let mut runs = Tally::default();
    for ((path, _), is_run) in settings.iter().zip(are_settings) {
        let run = path.parent().filter(|_| is_run);
        if let Some(run) = run.filter(|run| objects.iter().any(|(path, _)| path.starts_with(run))) {
            runs.add(slashed(run));
            objects.retain(|(path, _)| !path.starts_with(run));
        }
    }
    Ok(runs)
}

/// The name of an object below a folder.
fn relative<'a>(key: &'a str, folder: &Location) -> Option<&'a str> {
    let prefix = folder.key.as_ref();
    if prefix.is_empty() {
        return Some(key);
    }
    key.strip_prefix(prefix)?.strip_prefix('/')
}

#[derive(Debug)]
pub(super) struct Folder {
    client: Arc<Client>,
    /// As the user wrote it.
    root: Location,
    images: Vec<(PathBuf, Version)>,
    labels: Labels,
    notes: Vec<Note>,
    decoding: Decoding,
}

impl Folder {
    pub(super) fn new(
        client: Arc<Client>,
        root: Location,
        found: Found,
        options: &SourceOptions,
    ) -> Self {
        let mut archives = Tally::default();
        for (archive, _) in found.tars.iter().chain(&found.parquets) {
            archives.add(readable(archive.name().file_name().unwrap_or_default()));
        }
        let mut notes = notes([
            (Note::RunFolders as fn(Tally) -> Note, found.runs),
            (Note::Archives, archives),
        ]);
        let images = found.images;
        let paths: Vec<&Path> = images.iter().map(|(path, _)| path.as_path()).collect();
        let (labels, of_labels) = Labels::from_folders(&paths, false);
        notes.extend(of_labels);
        Self {
            labels,
            notes,
            client,
            root,
            images,
            decoding: options.decoding(),
        }
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        slashed(&self.images[index].0)
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
        let location = self.root.below(&self.name(index))?;
        self.client
            .whole(&location, &self.images[index].1)
            .map(Some)
    }

    fn decoding(&self) -> Option<Decoding> {
        Some(self.decoding)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        let location = below(self.root.text(), &self.name(index));
        Some(Path::new(&location).to_path_buf())
    }

    fn stamp(&self, index: usize) -> Option<(u64, i64)> {
        Some(self.images[index].1.stamp())
    }
}
