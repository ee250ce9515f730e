//! The networks in a file, found by the names of their tensors, and the one that is read.
//!
//! Programs wrap a backbone in modules and dictionaries of their own (`state_dict`, `module.`,
//! `teacher_backbone.vit.`, …). They are not listed here: every network of a kind has one tensor
//! whose name ends alike, and whatever precedes that end is the network's prefix.

mod roles;

use std::path::Path;

use self::roles::Labelled;
use super::hugging_face::{self, MARKS as HUGGING_FACE};
use super::{NetworkRole, bad, convnext, resnet};
use crate::{Error, Result};

/// The ends of names that identify a network: of a vision transformer's patch embedding, or else of its
/// class token, or else of a convolutional network's first block.
const MARKS: [&[&str]; 4] = [
    &["patch_embed.proj.weight", HUGGING_FACE[0], HUGGING_FACE[1]],
    &["cls_token"],
    &[resnet::MARK, hugging_face::resnet::MARK],
    &[
        convnext::MARK,
        convnext::TIMM_MARK,
        hugging_face::convnext::MARK,
        hugging_face::convnext::DINOV3_MARK,
    ],
];
/// Those of Hugging Face's convolutional networks, whose classes precede their names by the kind.
const HUGGING_FACE_CONVOLUTIONAL: [&str; 3] = [
    hugging_face::resnet::MARK,
    hugging_face::convnext::MARK,
    hugging_face::convnext::DINOV3_MARK,
];
/// Modules that wrap a network, or a part of it, without changing it.
const WRAPPERS: [&str; 5] = [
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];
/// How many names an error shows.
const SHOWN: usize = 3;

/// A network's place among the names of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Precedes the names of the backbone and of its head, without wrappers.
    root: String,
    /// Precede the names of other networks, likewise.
    others: Vec<String>,
    /// Its role in a training checkpoint; `None` in a file of one network.
    pub role: Option<NetworkRole>,
}

impl Network {
    /// Finds the network with `role` among the names of a file's tensors, or the only one there
    /// is. Without a role, that is the one that the file's metadata names as `evaluated`, else the
    /// teacher or another moving average, else the only one.
    ///
    /// # Errors
    /// [`Error::BadWeights`] if there is none, or not the evaluated one; [`Error::NoSuchNetwork`]
    /// if there are only networks of other roles; [`Error::SeveralNetworks`] if several may be
    /// meant.
    pub fn find<'a>(
        path: &Path,
        names: impl Iterator<Item = &'a str> + Clone,
        role: Option<NetworkRole>,
        evaluated: Option<&str>,
    ) -> Result<Self> {
        let prefixes = prefixes(names.clone());
        if prefixes.is_empty() {
            return Err(bad(path, none_found(names)));
        }
        let labelled = Labelled::new(&prefixes, evaluated.is_some());
        let (found, known) = match (role, evaluated) {
            (Some(role), _) => labelled
                .with_role(role)
                .ok_or_else(|| Error::NoSuchNetwork {
                    path: path.into(),
                    wanted: role,
                    found: labelled.roles(),
                })?,
            (None, Some(evaluated)) => labelled.below(evaluated).ok_or_else(|| {
                let prefixes = prefixes.join(", ");
                let reason = format!(
                    "its metadata names {evaluated} as the evaluated network, but it has only \
                     {prefixes}"
                );
                bad(path, reason)
            })?,
            (None, None) => labelled.best(),
        };
        let &[prefix] = found.as_slice() else {
            return Err(Error::SeveralNetworks {
                path: path.into(),
                wanted: role,
                prefixes: found.into_iter().map(str::to_owned).collect(),
            });
        };
        let marked = |name: &str| {
            let name = unwrapped(name);
            let mut marks = HUGGING_FACE.iter().chain(&HUGGING_FACE_CONVOLUTIONAL);
            marks.any(|mark| name.strip_suffix(mark) == Some(prefix))
        };
        let hugging_face = names.clone().any(marked);
        let others = prefixes.iter().filter(|&other| {
            // The names of one whose prefix ours extends would include ours.
            other != prefix && !prefix.starts_with(other.as_str())
        });
        Ok(Self {
            root: root(prefix, hugging_face).to_owned(),
            others: others.cloned().collect(),
            role: known,
        })
    }

    /// A tensor's name as in a file that holds only this network; `None` if the tensor belongs to
    /// another one.
    pub fn local(&self, name: &str) -> Option<String> {
        let name = unwrapped(name);
        let rest = name.strip_prefix(&self.root)?;
        let others = self
            .others
            .iter()
            .any(|other| name.starts_with(other.as_str()));
        (!others && !is_of_training(&name)).then(|| rest.to_owned())
    }

    /// Whether names have nothing but wrappers before them.
    pub fn is_bare(&self) -> bool {
        self.root.is_empty()
    }
}

/// The prefix of each network, sorted, each once.
fn prefixes<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let names: Vec<String> = names
        .filter(|name| !is_of_training(name))
        .map(unwrapped)
        .collect();
    for marks in MARKS {
        let ends = |name: &String| {
            let prefix = marks.iter().find_map(|mark| name.strip_suffix(mark))?;
            (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
        };
        let mut found: Vec<String> = names.iter().filter_map(ends).collect();
        found.sort();
        found.dedup();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// What precedes the names of the backbone and of the parts next to it: its head, or a classifier.
fn root(prefix: &str, hugging_face: bool) -> &str {
    let before = prefix.strip_suffix('.').unwrap_or_default();
    let (outer, last) = before
        .rfind('.')
        .map_or(("", before), |at| before.split_at(at + 1));
    if last == "backbone" || hugging_face {
        outer
    } else {
        prefix
    }
}

/// A name without wrappers.
fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = parts(name)
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    parts.join(".")
}

/// Whether a tensor is of no use but to train on, though it may be named after a parameter: it belongs to
/// an optimiser, or to what a run adapts: the network it started from, and changes that its own weights
/// have already.
fn is_of_training(name: &str) -> bool {
    let adapting = |part: &str| part == "lora" || part == "original";
    let first_two: Vec<&str> = parts(name).take(2).collect();
    parts(name).any(|part| part.starts_with("optimi")) || first_two.into_iter().any(adapting)
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('.').filter(|part| !part.is_empty())
}

/// The reason for an error, with the names that there are.
fn none_found<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.filter(|name| !is_of_training(name)).collect();
    names.sort_unstable();
    let what = "holds no vision transformer";
    match names.len() {
        0 => format!("{what}: it has no tensors of floating-point numbers"),
        n if n <= SHOWN => format!(
            "{what}: no cls_token among its tensors ({})",
            names.join(", ")
        ),
        n => format!(
            "{what}: no cls_token among its {n} tensors ({}, …)",
            names[..SHOWN].join(", ")
        ),
    }
}

#[cfg(test)]
mod tests;
