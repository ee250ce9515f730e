//! Links between the members of a tar file.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// What a member consists of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    File {
        offset: u64,
        size: u64,
    },
    /// Another name of an earlier member.
    Same(usize),
    /// The same, of one that is not there.
    Hard(Option<PathBuf>),
    /// A path, relative to the folder that the link is in.
    Symbolic(Option<PathBuf>),
    /// Why it cannot be read.
    Problem(String),
}

/// What a member leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    /// The member that holds it, and where it lies.
    File {
        number: usize,
        offset: u64,
        size: u64,
    },
    /// Why it leads to no file.
    Problem(String),
}

/// All members of a tar file.
pub(super) struct Links<'a> {
    pub(super) bodies: Vec<&'a Body>,
    pub(super) paths: Vec<&'a Path>,
    /// The last member of each name.
    pub(super) latest: &'a HashMap<PathBuf, usize>,
}

impl Links<'_> {
    /// Follows links from a member to a file.
    pub(super) fn follow(&self, mut number: usize) -> Target {
        /// As many as systems follow.
        const MOST: usize = 40;
        let absent = |path: &Path| {
            Target::Problem(format!(
                "a link to {}, which is not a file of the archive",
                path.display()
            ))
        };
        for _ in 0..MOST {
            number = match self.bodies[number] {
                &Body::File { offset, size } => {
                    return Target::File {
                        number,
                        offset,
                        size,
                    };
                }
                Body::Problem(problem) => return Target::Problem(problem.clone()),
                &Body::Same(of) => of,
                Body::Hard(Some(target)) => return absent(target),
                Body::Symbolic(Some(target)) => {
                    let found = beside(self.paths[number], target)
                        .and_then(|path| self.latest.get(&path).copied());
                    match found {
                        Some(of) => of,
                        None => return absent(target),
                    }
                }
                Body::Hard(None) | Body::Symbolic(None) => {
                    return Target::Problem("a link that names no file".into());
                }
            };
        }
        Target::Problem("a link that leads back to itself".into())
    }
}

/// The path inside the archive that a symbolic link at `link` stands for; `None` where it leaves it.
fn beside(link: &Path, target: &Path) -> Option<PathBuf> {
    let mut path = link.parent()?.to_path_buf();
    for part in target.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_archive() {
        let file = Body::File { offset: 9, size: 4 };
        let to = |target: &str| Body::Symbolic(Some(target.into()));
        let all = [
            ("a/1", file),
            ("b/2", to("../a/1")),
            ("b/3", to("2")),
            ("c", to("c")),
            ("d", to("../../a/1")),
            ("e", to("/a/1")),
            ("f", Body::Same(2)),
        ];
        let latest: HashMap<PathBuf, usize> = all
            .iter()
            .enumerate()
            .map(|(number, (path, _))| (PathBuf::from(path), number))
            .collect();
        let links = Links {
            bodies: all.iter().map(|(_, body)| body).collect(),
            paths: all.iter().map(|(path, _)| Path::new(path)).collect(),
            latest: &latest,
        };
        for number in [0, 1, 2, 6] {
            let found = links.follow(number);
            assert_eq!(
                found,
                Target::File {
                    number: 0,
                    offset: 9,
                    size: 4
                }
            );
        }
        for (number, why) in [(3, "itself"), (4, "../../a/1"), (5, "/a/1")] {
            match links.follow(number) {
                Target::Problem(problem) => assert!(problem.contains(why), "{problem}"),
                found => panic!("{found:?}"),
            }
        }
    }
}
