//! Names of results that are made from the names of images.
//!
//! An image's result is called as the image is, without its extension, and with `-` for what
//! separates folders: `cat/1.jpg` gives `cat-1`. Where that is the name of several images of the
//! set, each of them keeps its extension (`a.jpg`, `a.bmp`), and where even that does not tell them
//! apart, the later ones get a number (`cat-1.jpg-2`). Names that differ in case only count as the
//! same, since on many file systems they are. A verb appends what tells its results apart.
//!
//! Names of results have no separators, no characters that some system refuses, do not begin with
//! a dot or, for images with an absolute path, with a dash, which commands take for a flag, and are short enough for a file system with what is appended.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a name at most; file systems allow 255, with what is appended.
const MOST: usize = 180;
/// Bytes of a longer name that are kept, before a checksum of the whole.
const KEPT: usize = 160;

/// A name for each image, in one folder.
pub fn flat(images: &[String]) -> Vec<String> {
    let short: Vec<String> = images.iter().map(|name| part(without_end(name))).collect();
    distinct(
        &short,
        &|i| part(&images[i]),
        &|name| folded(name),
        HashSet::new(),
    )
}

/// A path for each image, in the folders that the images are in, with `extension`.
pub fn nested(images: &[String], extension: &str) -> Vec<PathBuf> {
    let inside = |name: &str| {
        let parts = name.split(['/', '\\']);
        let parts = parts.filter(|part| !matches!(*part, "" | "." | ".."));
        let parts: Vec<String> = parts.map(part).collect();
        match parts.is_empty() {
            true => part(""),
            false => parts.join("/"),
        }
    };
    let key = |name: &str| folded(&format!("{name}.{extension}"));
    let short: Vec<String> = images
        .iter()
        .map(|name| inside(without_end(name)))
        .collect();
    // A file must not be called as a folder is.
    let folders = images
        .iter()
        .map(|name| inside(name))
        .flat_map(|name| {
            let ends = name.match_indices('/').map(|(end, _)| folded(&name[..end]));
            ends.collect::<Vec<_>>()
        })
        .collect();
    distinct(&short, &|i| inside(&images[i]), &key, folders)
        .into_iter()
        .map(|name| PathBuf::from(format!("{name}.{extension}")))
        .collect()
}

/// Names of which no two have the same key, none one that is `taken`: the short ones where they
/// are the only ones of their key, else the long ones, else those with a number.
fn distinct(
    short: &[String],
    long: &dyn Fn(usize) -> String,
    key: &dyn Fn(&str) -> String,
    mut taken: HashSet<String>,
) -> Vec<String> {
    let keys: Vec<String> = short.iter().map(|name| key(name)).collect();
    let mut count: HashMap<&str, usize> = HashMap::new();
    for key in &keys {
        *count.entry(key).or_default() += 1;
    }
    let alone: Vec<bool> = keys
        .iter()
        .map(|key| count[key.as_str()] == 1 && !taken.contains(key))
        .collect();
    let kept = keys.iter().zip(&alone).filter(|(_, alone)| **alone);
    taken.extend(kept.map(|(key, _)| key.clone()));
    let mut tried: HashMap<String, usize> = HashMap::new();
    short
        .iter()
        .enumerate()
        .map(|(i, short)| {
            if alone[i] {
                return short.clone();
            }
            let long = long(i);
            if taken.insert(key(&long)) {
                return long;
            }
            // Where the last of the same name stopped, so that many do not take ever longer.
            let number = tried.entry(key(&long)).or_insert(1);
            loop {
                *number += 1;
                let numbered = format!("{long}-{number}");
                if taken.insert(key(&numbered)) {
                    return numbered;
                }
            }
        })
        .collect()
}

/// Without the extension of the last part of a path.
fn without_end(name: &str) -> &str {
    let file = name.rfind(['/', '\\']).map_or(0, |at| at + 1);
    match name[file..].rfind('.') {
        Some(dot) if dot > 0 => &name[..file + dot],
        _ => name,
    }
}

/// A text that every file system takes as part of a name.
fn part(text: &str) -> String {
    let refused = |c: char| c.is_control() || "/\\:<>\"|?*".contains(c);
    let mut name: String = text
        .trim_start_matches(['/', '\\'])
        .chars()
        .map(|c| if refused(c) { '-' } else { c })
        .collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.is_empty() {
        name.push_str("image");
    }
    if name.len() > MOST {
        let end = (0..=KEPT).rev().find(|&end| name.is_char_boundary(end));
        name.truncate(end.unwrap_or(0));
        name += &format!("-{:08x}", xxh3_64(text.as_bytes()) as u32);
    }
    name
}

/// The same for names that differ in case only. By way of capitals, which some small letters
/// (ß, ſ) share with others.
fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use dinolab_data::random::{Purpose, Random};

    use super::*;

    fn flat_of(names: &[&str]) -> Vec<String> {
        flat(&names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_of_its_own_stays_short() {
        let names = [
            "cat.jpg",
            "x/dog.png",
            "JPEGImages/000.jpg",
            "/photos/cat.jpg",
            "v1.5.tif",
            "none",
        ];
        let wanted = [
            "cat",
            "x-dog",
            "JPEGImages-000",
            "photos-cat",
            "v1.5",
            "none",
        ];
        assert_eq!(flat_of(&names), wanted);
    }

    #[test]
    fn names_that_collide_are_told_apart() {
        for (names, wanted) in [
            (
                &["a.jpg", "a.bmp", "b.jpg"][..],
                &["a.jpg", "a.bmp", "b"][..],
            ),
            (&["x/b.jpg", "x-b.jpg"], &["x-b.jpg", "x-b.jpg-2"]),
            (&["x/b.jpg", "x_b.jpg"], &["x-b", "x_b"]),
            (&["A.jpg", "a.jpg", "a.png"], &["A.jpg", "a.jpg-2", "a.png"]),
            // The long name of one is the short name of another, which keeps it.
            (
                &["a.jpg", "a.bmp", "a.jpg.png"],
                &["a.jpg-2", "a.bmp", "a.jpg"],
            ),
            // Bytes that are no text look the same.
            (
                &["\u{fffd}.jpg", "\u{fffd}.jpg"],
                &["\u{fffd}.jpg", "\u{fffd}.jpg-2"],
            ),
            (
                &["straße.jpg", "STRASSE.jpg"],
                &["straße.jpg", "STRASSE.jpg-2"],
            ),
        ] {
            assert_eq!(flat_of(names), wanted, "{names:?}");
        }
    }

    #[test]
    fn names_stay_in_their_folder_and_can_be_written() {
        let long = "é".repeat(126);
        let names = [
            "../../up.jpg",
            "/etc/passwd",
            "C:\\x.jpg",
            "..",
            "a\nb?.jpg",
            &long,
        ];
        for name in flat_of(&names) {
            assert!(
                !name.starts_with(['.', '-']) && name.len() <= MOST,
                "{name}"
            );
            assert!(!name.contains(|c: char| c.is_control() || "/\\:?".contains(c)));
        }
        let names = names.map(str::to_owned);
        for path in nested(&names, "png") {
            assert!(path.is_relative(), "{}", path.display());
            let normal = |part| matches!(part, std::path::Component::Normal(_));
            assert!(path.components().all(normal), "{}", path.display());
        }
    }

    #[test]
    fn folders_are_kept_where_wanted() {
        let names = ["x/b.jpg", "x-b.jpg", "x/b.png", "y.jpg", "y.png/z.jpg"].map(str::to_owned);
        let wanted = [
            "x/b.jpg.png",
            "x-b.png",
            "x/b.png.png",
            "y.jpg.png",
            "y.png/z.png",
        ];
        assert_eq!(nested(&names, "png"), wanted.map(PathBuf::from));
    }

    /// Few letters, so that names collide in all ways.
    #[test]
    fn no_two_results_are_the_same() {
        let pieces = [
            "a",
            "A",
            "b",
            "ß",
            "ss",
            "SS",
            "-",
            "_",
            ".",
            "..",
            "/",
            "\\",
            ":",
            ".jpg",
            ".JPG",
            ".png",
            "-2",
            "-head0",
            "-mean",
            "\u{fffd}",
            " ",
            "x".repeat(90).leak(),
        ];
        for seed in 0..300 {
            let mut random = Random::new(seed, 0, 0, Purpose::Crops);
            let mut pick = |n: usize| (random.uniform(0.0, 1.0) * n as f64) as usize % n;
            let names: Vec<String> = (0..40)
                .map(|_| {
                    let count = 1 + pick(5);
                    (0..count).map(|_| pieces[pick(pieces.len())]).collect()
                })
                .collect();
            let found = flat(&names);
            assert_eq!(found, flat(&names));
            let mut seen = HashSet::new();
            for (name, result) in names.iter().zip(&found) {
                assert!(
                    seen.insert(result.to_lowercase()),
                    "{name} is {result} again"
                );
                assert!(result.len() <= MOST + 5, "{result}");
                assert!(!result.contains(['/', '\\', ':']) && !result.starts_with('.'));
            }
            let mut seen = HashSet::new();
            let found = nested(&names, "png");
            let text = |path: &PathBuf| path.to_str().unwrap().to_lowercase();
            for path in &found {
                assert!(seen.insert(text(path)), "{} again", path.display());
            }
            for path in &found {
                let inside = text(path) + "/";
                let above = found.iter().any(|other| text(other).starts_with(&inside));
                assert!(!above, "{} is a folder too", path.display());
            }
        }
    }
}
