//! The contents of a shard: positions of its images, and what else it holds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::source::note::Tally;

/// The images and labels of a shard, in its order.
#[derive(Debug, Default, PartialEq)]
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::source) struct Contents {
    pub(in crate::source) images: Vec<Place>,
    /// The lines of [`CLASSES`](super::contents::CLASSES).
    pub(in crate::source) classes: Option<Vec<String>>,
    pub(in crate::source) left: Left,
}

/// Where an image lies.
#[derive(Debug, PartialEq)]
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::source) struct Place {
    pub(in crate::source) path: PathBuf,
    pub(in crate::source) offset: u64,
    pub(in crate::source) size: u64,
    /// The content of its `.cls` member.
    pub(in crate::source) label: Option<String>,
    /// Why it cannot be read; it then has no position.
    pub(in crate::source) problem: Option<String>,
}

/// What a shard holds beside images and their labels.
#[derive(Debug, Default, PartialEq)]
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::source) struct Left {
    pub(in crate::source) secondary: Tally,
    pub(in crate::source) stray_labels: Tally,
    pub(in crate::source) unreadable_labels: Tally,
    pub(in crate::source) replaced: Tally,
    pub(in crate::source) links: Tally,
    /// By extension.
    pub(in crate::source) others: BTreeMap<String, usize>,
    pub(in crate::source) behind_end: bool,
}
