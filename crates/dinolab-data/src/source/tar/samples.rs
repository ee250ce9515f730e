//! Grouping of members into samples: an image and its label.
//!
//! WebDataset takes what is before the first dot of a name for its key. Names of ordinary files have
//! dots too (`Track 2.0 (a).jpg`), so that a label belongs first of all to the image that is called as
//! it is.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::entry::{Left, Place};
use crate::Pixels;
use crate::source::file_kind::{Kind, kind_of};
use crate::source::names::slashed;

/// A path without the last part of its name that begins with a dot, and that part.
fn cut(path: &Path) -> Option<(PathBuf, String)> {
    let part = path.extension()?.to_string_lossy().into_owned();
    Some((path.with_extension(""), part))
}

/// An image's path without the extension of its format.
fn stem(path: &Path) -> PathBuf {
    match kind_of(path, Pixels::Stored { channels: 1 }) {
        Kind::Image => path.with_extension(""),
        _ => path.to_path_buf(),
    }
}

/// Whether a part of a name can say what a picture shows (`seg`, `depth`), which numbers and text in
/// brackets cannot.
fn is_word(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphabetic())
        && part
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Gives images their labels, and leaves pictures out that belong to another image's sample.
///
/// A label belongs to the image of the same name without its extension (or with it: `a.jpg.cls`);
/// where there is none of that name, to all images of which it is the name up to a dot, or to the one
/// of which the label's own name has further parts (`0001.top.cls`).
pub(super) fn pair(images: Vec<Place>, labels: &[(&Path, String)], left: &mut Left) -> Vec<Place> {
    let texts: HashMap<PathBuf, &str> = labels
        .iter()
        .map(|(path, text)| (path.with_extension(""), text.as_str()))
        .collect();
    let stems: HashSet<PathBuf> = images.iter().map(|image| stem(&image.path)).collect();
    let mut used: HashSet<&Path> = HashSet::new();
    let mut kept = Vec::with_capacity(images.len());
    for mut image in images {
        let own = [image.path.clone(), stem(&image.path)];
        if let Some((key, text)) = own.iter().find_map(|name| texts.get_key_value(name)) {
            used.insert(key);
            image.label = Some((*text).to_owned());
        } else if is_secondary(&image.path, &stems) {
            left.secondary.add(slashed(&image.path));
            continue;
        }
        kept.push(image);
    }
    // What no image is called belongs to several, or is a part of what belongs to one.
    let shared: HashMap<&PathBuf, &str> = texts
        .iter()
        .filter(|(key, _)| !used.contains(key.as_path()))
        .map(|(key, text)| (key, *text))
        .collect();
    let mut longer: HashMap<PathBuf, Vec<&PathBuf>> = HashMap::new();
    if !shared.is_empty() {
        for key in shared.keys() {
            let mut name = (*key).clone();
            while let Some((rest, _)) = cut(&name) {
                longer.entry(rest.clone()).or_default().push(key);
                name = rest;
            }
        }
    }
    let mut taken: HashSet<&PathBuf> = HashSet::new();
    if !shared.is_empty() {
        for image in kept.iter_mut().filter(|image| image.label.is_none()) {
            let mut name = stem(&image.path);
            let mut found = match longer.get(&name).map(Vec::as_slice) {
                Some(&[key]) => Some(key),
                _ => None,
            };
            while let Some((rest, _)) = cut(&name) {
                if let Some((key, _)) = shared.get_key_value(&rest) {
                    found = Some(*key);
                    break;
                }
                name = rest;
            }
            if let Some(key) = found {
                taken.insert(key);
                image.label = Some(shared[key].to_owned());
            }
        }
    }
    for (path, _) in labels {
        let key = path.with_extension("");
        if !used.contains(key.as_path()) && !taken.contains(&key) {
            left.stray_labels.add(slashed(path));
        }
    }
    kept
}

/// Whether a picture is a further one of the sample of another image: `0001.seg.png` of `0001.jpg`.
fn is_secondary(path: &Path, stems: &HashSet<PathBuf>) -> bool {
    let mut name = stem(path);
    while let Some((rest, part)) = cut(&name) {
        if !is_word(&part) {
            return false;
        }
        if stems.contains(&rest) {
            return true;
        }
        name = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(images: &[&str], labels: &[(&str, &str)]) -> (Vec<String>, Left) {
        let images = images
            .iter()
            .map(|path| Place {
                path: path.into(),
                offset: 0,
                size: 1,
                label: None,
                problem: None,
            })
            .collect();
        let labels: Vec<(&Path, String)> = labels
            .iter()
            .map(|&(path, text)| (Path::new(path), text.to_owned()))
            .collect();
        let mut left = Left::default();
        let told = pair(images, &labels, &mut left)
            .into_iter()
            .map(|image| {
                let label = image.label.unwrap_or_else(|| "-".into());
                format!("{} {label}", slashed(&image.path))
            })
            .collect();
        (told, left)
    }

    #[test]
    fn dots_are_part_of_the_names_of_ordinary_files() {
        let (told, left) = paired(
            &["v1.2 (a).jpg", "v1.2 (b).png", "v1.jpg", "v1.3 (c).jpg"],
            &[
                ("v1.2 (a).cls", "p"),
                ("v1.2 (b).cls", "q"),
                ("v1.cls", "r"),
            ],
        );
        // The last one has no label of its own, and is no part of `v1`.
        assert_eq!(
            told,
            [
                "v1.2 (a).jpg p",
                "v1.2 (b).png q",
                "v1.jpg r",
                "v1.3 (c).jpg -"
            ]
        );
        assert_eq!(left, Left::default());
    }

    #[test]
    fn further_pictures_of_a_sample_are_left_out() {
        let (told, left) = paired(
            &["d/7.jpg", "d/7.seg.png", "d/7.depth.vis.png", "7.seg.png"],
            &[("d/7.cls", "2")],
        );
        assert_eq!(told, ["d/7.jpg 2", "7.seg.png -"]);
        assert_eq!(left.secondary.first, ["d/7.seg.png", "d/7.depth.vis.png"]);
        // A label of its own makes it an image of its own.
        let (told, _) = paired(
            &["a.jpg", "a.crop.jpg"],
            &[("a.cls", "1"), ("a.crop.cls", "2")],
        );
        assert_eq!(told, ["a.jpg 1", "a.crop.jpg 2"]);
    }

    #[test]
    fn one_label_may_serve_all_pictures_of_a_sample() {
        let (told, left) = paired(
            &["3.left.jpg", "3.0.jpg", "4.left.jpg"],
            &[("3.cls", "5"), ("5.cls", "0")],
        );
        assert_eq!(told, ["3.left.jpg 5", "3.0.jpg 5", "4.left.jpg -"]);
        assert_eq!(left.stray_labels.first, ["5.cls"]);
        let (told, _) = paired(
            &["9.jpg", "x.jpg"],
            &[("9.top.cls", "a"), ("x.jpg.cls", "b")],
        );
        assert_eq!(told, ["9.jpg a", "x.jpg b"]);
        // Two that could be meant are none.
        let (told, left) = paired(&["9.jpg"], &[("9.top.cls", "a"), ("9.sub.cls", "b")]);
        assert_eq!((told, left.stray_labels.count), (vec!["9.jpg -".into()], 2));
    }
}
