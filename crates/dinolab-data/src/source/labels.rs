//! Class names and the labels of images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use super::note::{Note, Tally};
use crate::source::names::{readable, slashed};

/// Class names and the label of each image.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Labels {
    pub(super) classes: Vec<String>,
    /// Empty where there are no labels; [`NONE`] for an image without one.
    of: Vec<u32>,
}

/// No label.
const NONE: u32 = u32::MAX;

/// Names of folders that hold parts of a set rather than a class.
const PARTS: [&str; 8] = [
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "test",
    "testing",
    "holdout",
];

impl Labels {
    /// Labels that are numbers already.
    pub(super) fn new(classes: Vec<String>, of: impl IntoIterator<Item = Option<u32>>) -> Self {
        Self {
            classes,
            of: of.into_iter().map(|label| label.unwrap_or(NONE)).collect(),
        }
    }

    /// Labels by folder, and what there is to say of them.
    ///
    /// The folders of the first level are the classes where every image lies in one, or where there
    /// are two of them or more with more images than lie beside them; the latter then have no label.
    /// With `below`, folders that (nearly) all images lie in are passed through first, as archives
    /// are often packed with the folder around them.
    pub(super) fn from_folders(paths: &[&Path], below: bool) -> (Self, Vec<Note>) {
        let mut notes = Vec::new();
        let mut within: Vec<usize> = (0..paths.len()).collect();
        let mut strays = Vec::new();
        let mut depth = 0;
        loop {
            let (inside, beside): (Vec<usize>, Vec<usize>) = within
                .into_iter()
                .partition(|&index| folder(paths[index], depth).is_some());
            if inside.is_empty() {
                return (Self::default(), notes);
            }
            let folders: BTreeSet<String> = inside
                .iter()
                .filter_map(|&index| folder(paths[index], depth))
                .collect();
            let majority = beside.len() < inside.len();
            if below && folders.len() == 1 && majority {
                strays.extend(beside);
                within = inside;
                depth += 1;
                continue;
            }
            if !beside.is_empty() && (folders.len() < 2 || !majority) {
                notes.push(Note::NotClasses {
                    within: inside.len(),
                    folders: folders.len(),
                    beside: beside.len(),
                });
                return (Self::default(), notes);
            }
            strays.extend(beside);
            strays.sort_unstable();
            if !strays.is_empty() {
                let mut tally = Tally::default();
                strays
                    .iter()
                    .for_each(|&index| tally.add(slashed(paths[index])));
                notes.push(Note::Strays(tally));
            }
            notes.extend(parts(paths, &inside, depth, &folders));
            let classes: Vec<String> = folders.into_iter().collect();
            let mut of = vec![None; paths.len()];
            for index in inside {
                let class = folder(paths[index], depth).and_then(|name| place(&classes, &name));
                of[index] = class;
            }
            return (Self::new(classes, of), notes);
        }
    }

    /// Labels by name, numbered in the names' sorted order.
    fn from_names(names: &[Option<String>]) -> Self {
        let classes: BTreeSet<&String> = names.iter().flatten().collect();
        let classes: Vec<String> = classes.into_iter().cloned().collect();
        let of: Vec<Option<u32>> = names
            .iter()
            .map(|name| place(&classes, name.as_ref()?))
            .collect();
        Self::new(classes, of)
    }

    /// Labels as written in a file. Where all of them are numbers they are taken as they
    /// are, so that the lists of a training and of a validation set agree even where one
    /// lacks a class.
    pub(super) fn from_written(names: &[Option<String>]) -> Self {
        const MOST: u32 = 1_000_000;
        if names.iter().all(Option::is_none) {
            return Self::default();
        }
        let numbers: Option<Vec<Option<u32>>> = names
            .iter()
            .map(|name| match name {
                None => Some(None),
                Some(name) => name.parse().ok().filter(|&n| n < MOST).map(Some),
            })
            .collect();
        match numbers {
            Some(of) => {
                let count = of.iter().flatten().max().map_or(0, |&most| most + 1);
                Self::new((0..count).map(|n| n.to_string()).collect(), of)
            }
            None => Self::from_names(names),
        }
    }

    pub(super) fn label(&self, index: usize) -> Option<usize> {
        let label = self.of.get(index).filter(|&&label| label != NONE);
        label.map(|&label| label as usize)
    }
}

fn place(classes: &[String], name: &String) -> Option<u32> {
    classes.binary_search(name).ok().map(|place| place as u32)
}

/// The folder of a path at a depth; `None` where that is the file itself.
fn folder(path: &Path, depth: usize) -> Option<String> {
    let mut parts = path
        .components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .skip(depth);
    let name = readable(parts.next()?.as_os_str());
    parts.next().map(|_| name)
}

/// A note where the classes are likely to be the folders inside those that were taken for them.
fn parts(
    paths: &[&Path],
    inside: &[usize],
    depth: usize,
    folders: &BTreeSet<String>,
) -> Option<Note> {
    let is_part = |name: &String| PARTS.contains(&name.to_lowercase().as_str());
    if folders.len() > 1 && !folders.iter().all(is_part) {
        return None;
    }
    let mut deeper: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for &index in inside {
        let (Some(outer), Some(inner)) =
            (folder(paths[index], depth), folder(paths[index], depth + 1))
        else {
            // Images that lie directly in it are of its own.
            return None;
        };
        deeper.entry(outer).or_default().insert(inner);
    }
    if deeper.values().any(|inner| inner.len() < 2) {
        return None;
    }
    let mut tally = Tally::default();
    folders.iter().for_each(|name| tally.add(name.as_str()));
    Some(Note::ClassesOfParts(tally))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_folder(paths: &[&str], below: bool) -> (Vec<String>, Vec<Option<usize>>, Vec<String>) {
        let paths: Vec<&Path> = paths.iter().map(Path::new).collect();
        let (labels, notes) = Labels::from_folders(&paths, below);
        let of = (0..paths.len()).map(|index| labels.label(index)).collect();
        (
            labels.classes,
            of,
            notes.iter().map(Note::to_string).collect(),
        )
    }

    #[test]
    fn few_images_beside_class_folders_have_no_label() {
        let paths = ["ape/1", "ape/2", "cover", "emu/1", "emu/x/2", "index"];
        let (classes, of, notes) = by_folder(&paths, false);
        assert_eq!(classes, ["ape", "emu"]);
        assert_eq!(of, [Some(0), Some(0), None, Some(1), Some(1), None]);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("2 images") && notes[0].contains("cover, index"));
    }

    #[test]
    fn folders_beside_as_many_images_are_no_classes() {
        for paths in [
            &["a", "b", "c", "d", "old/1", "raw/1"][..],
            // Half is no majority, and one folder tells nothing apart.
            &["a", "b", "old/1", "raw/1"],
            &["a", "old/1", "old/2", "old/3"],
        ] {
            let (classes, of, notes) = by_folder(paths, false);
            assert!(classes.is_empty() && of.iter().all(Option::is_none));
            assert!(
                notes.len() == 1 && notes[0].contains("no image has a label"),
                "{notes:?}"
            );
        }
        let (classes, _, notes) = by_folder(&["a", "b", "c"], false);
        assert!(classes.is_empty() && notes.is_empty());
    }

    #[test]
    fn the_folder_around_an_archive_is_passed_through() {
        let paths = ["set/cover", "set/x/ape/1", "set/x/emu/1", "set/x/emu/2"];
        let (classes, of, notes) = by_folder(&paths, true);
        assert_eq!(classes, ["ape", "emu"]);
        assert_eq!(of, [None, Some(0), Some(1), Some(1)]);
        assert!(
            notes.len() == 1 && notes[0].contains("set/cover"),
            "{notes:?}"
        );
        // Flat, with the folder around it.
        let (classes, _, notes) = by_folder(&["readme", "set/1", "set/2"], true);
        assert!(classes.is_empty() && notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn classes_that_are_parts_of_a_set_are_pointed_out() {
        let paths = ["train/a/1", "train/b/1", "val/a/2", "val/b/2"];
        let (classes, _, notes) = by_folder(&paths, false);
        assert_eq!(classes, ["train", "val"]);
        assert!(
            notes.len() == 1 && notes[0].contains("train, val"),
            "{notes:?}"
        );
        let (_, _, notes) = by_folder(&["birds/a/1", "birds/b/1"], false);
        assert!(
            notes.len() == 1 && notes[0].contains("that folder"),
            "{notes:?}"
        );
        // Folders within classes are usual.
        let (_, _, notes) = by_folder(&["ape/x/1", "ape/y/1", "emu/x/1", "emu/y/2"], false);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn written_labels_may_be_missing() {
        let written = [Some("7"), None, Some("2")].map(|label| label.map(str::to_owned));
        let labels = Labels::from_written(&written);
        assert_eq!(labels.classes.len(), 8);
        assert_eq!([0, 1, 2].map(|i| labels.label(i)), [Some(7), None, Some(2)]);
        let written = [Some("b"), None, Some("a")].map(|label| label.map(str::to_owned));
        let labels = Labels::from_written(&written);
        assert_eq!([0, 1, 2].map(|i| labels.label(i)), [Some(1), None, Some(0)]);
        assert_eq!(Labels::from_written(&[None, None]), Labels::default());
    }
}
