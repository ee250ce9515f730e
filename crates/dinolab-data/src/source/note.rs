//! What a source left out, or decided about labels: to be reported to the user once.

use std::fmt::{self, Display};

/// How many there are of something, and what the first few are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
pub struct Tally {
    /// All of them.
    pub count: usize,
    /// Names of the first ones.
    pub first: Vec<String>,
}

impl Tally {
    const NAMED: usize = 3;

    pub(super) fn add(&mut self, name: impl Into<String>) {
        self.count += 1;
        if self.first.len() < Self::NAMED {
            self.first.push(name.into());
        }
    }

    /// Adds those of a part, whose names are completed by `whole`.
    pub(super) fn join(&mut self, part: Self, whole: impl Fn(String) -> String) {
        self.count += part.count;
        let room = Self::NAMED - self.first.len().min(Self::NAMED);
        self.first
            .extend(part.first.into_iter().take(room).map(whole));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// `1 image` or `5 images`.
    fn of(&self, one: &str, more: &str) -> String {
        counted(self.count, one, more)
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first.join(", "))?;
        match self.count - self.first.len().min(self.count) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Something that a source left out, or decided about labels. As text it is one line, without the
/// name of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Folders that could not be listed, with the reasons.
    UnreadableFolders(Tally),
    /// Entries that cannot be opened and may be images or folders of images, with the reasons.
    Unopened(Tally),
    /// Folders that hold a training run.
    RunFolders(Tally),
    /// Archives beside images.
    Archives(Tally),
    /// Images next to the class folders.
    Strays(Tally),
    /// Folders that were not taken for classes, because as many images or more lie beside them, or
    /// there is only one.
    NotClasses {
        /// Images in the folders.
        within: usize,
        /// The folders.
        folders: usize,
        /// Images beside them.
        beside: usize,
    },
    /// Classes that look like parts of a set, each with classes of its own: `train`, `val`.
    ClassesOfParts(Tally),
    /// Images without a label where others have one.
    Unlabelled(Tally),
    /// Labels that cannot be read, with the reasons.
    UnreadableLabels(Tally),
    /// Labels that belong to no image.
    StrayLabels(Tally),
    /// Pictures that belong to the sample of another image, such as `0001.seg.png` to `0001.jpg`.
    Secondary(Tally),
    /// Members of an archive that later ones of the same name replace.
    Replaced(Tally),
    /// Links to nothing in the archive, or to a folder; images and labels are not among them.
    Links(Tally),
    /// Members of an archive that are not read: extension and number.
    NotRead(Vec<(String, usize)>),
    /// Archives with something other than a further archive behind their end.
    BehindEnd(Tally),
}

impl Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnreadableFolders(all) => write!(
                f,
                "{} cannot be read, and the contents of {} are missing: {all}",
                all.of("folder", "folders"),
                if all.count == 1 { "it" } else { "them" },
            ),
            Self::Unopened(all) => write!(
                f,
                "{} cannot be opened and may have been images or folders of images: {all}",
                all.of("entry", "entries"),
            ),
            Self::RunFolders(all) => write!(
                f,
                "{} of a training run {} skipped: {all}",
                all.of("folder", "folders"),
                if all.count == 1 { "is" } else { "are" },
            ),
            Self::Archives(all) => write!(
                f,
                "{} next to the images {} not read: {all}",
                all.of("archive", "archives"),
                if all.count == 1 { "is" } else { "are" },
            ),
            Self::Strays(all) => write!(
                f,
                "{} outside the class folders {} no label: {all}",
                all.of("image", "images"),
                if all.count == 1 { "has" } else { "have" },
            ),
            Self::NotClasses {
                within,
                folders,
                beside,
            } => write!(
                f,
                "{} in {} and {} outside {}; these folders are not treated as classes, and no image \
                 has a label",
                counted(*within, "image is", "images are"),
                counted(*folders, "folder", "folders"),
                counted(*beside, "image", "images"),
                if *folders == 1 { "it" } else { "them" },
            ),
            Self::ClassesOfParts(all) => write!(
                f,
                "the classes are the folders {all}, which contain folders themselves; if those are \
                 the classes, open {} instead",
                if all.count == 1 {
                    "that folder"
                } else {
                    "one of these"
                },
            ),
            Self::Unlabelled(all) => write!(
                f,
                "{} no label (.cls), while others have one: {all}",
                all.of("image has", "images have"),
            ),
            Self::UnreadableLabels(all) => write!(
                f,
                "{} cannot be read: {all}",
                all.of("label (.cls)", "labels (.cls)")
            ),
            Self::StrayLabels(all) => write!(
                f,
                "{} to no image: {all}",
                all.of("label (.cls) belongs", "labels (.cls) belong")
            ),
            Self::Secondary(all) => write!(
                f,
                "{} to the sample of another image and {} left out: {all}",
                all.of("image belongs", "images belong"),
                if all.count == 1 { "is" } else { "are" },
            ),
            Self::Replaced(all) => write!(
                f,
                "{} replaced by a later one of the same name: {all}",
                all.of("member is", "members are")
            ),
            Self::Links(all) => write!(
                f,
                "{} to no file of the archive: {all}",
                all.of("link leads", "links lead")
            ),
            Self::NotRead(kinds) => {
                let kinds: Vec<String> = kinds
                    .iter()
                    .map(|(extension, count)| match extension.as_str() {
                        "" => format!("{count} without an extension"),
                        extension => format!("{count} .{extension}"),
                    })
                    .collect();
                write!(
                    f,
                    "members that are neither images nor labels (.cls) are not read: {}",
                    kinds.join(", ")
                )
            }
            Self::BehindEnd(all) => write!(
                f,
                "data after the end of {} are not an archive and are not read: {all}",
                all.of("archive", "archives"),
            ),
        }
    }
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// A note in the making.
type Tallied = (fn(Tally) -> Note, Tally);

/// The notes whose tallies are not empty.
pub(super) fn notes<const N: usize>(all: [Tallied; N]) -> Vec<Note> {
    all.into_iter()
        .filter(|(_, tally)| !tally.is_empty())
        .map(|(note, tally)| note(tally))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(names: &[&str]) -> Tally {
        let mut tally = Tally::default();
        names.iter().for_each(|&name| tally.add(name));
        tally
    }

    #[test]
    fn notes_count_and_name_the_first() {
        assert_eq!(
            Note::Strays(tally(&["a.jpg"])).to_string(),
            "1 image outside the class folders has no label: a.jpg"
        );
        assert_eq!(
            Note::Strays(tally(&["a", "b", "c", "d", "e"])).to_string(),
            "5 images outside the class folders have no label: a, b, c and 2 more"
        );
        let kinds = vec![("json".into(), 2), (String::new(), 1)];
        assert!(
            Note::NotRead(kinds)
                .to_string()
                .ends_with("2 .json, 1 without an extension")
        );
    }

    #[test]
    fn tallies_of_parts_are_joined() {
        let mut all = tally(&["x", "y"]);
        all.join(tally(&["1", "2", "3", "4"]), |name| format!("s/{name}"));
        assert_eq!(all.to_string(), "x, y, s/1 and 3 more");
    }
}
