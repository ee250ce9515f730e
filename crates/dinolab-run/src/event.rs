//! Events, for callers that display or record them.
//!
//! Typed, and not log lines of `tracing`: callers take figures from events, show progress by them, and add
//! what to do in their own words.

mod panel;
mod text;

use std::path::Path;

use dinolab_nn::weights::LoadReport;

use crate::error::Error;
use crate::evaluation::Evaluation;
use crate::health::{Health, Warning};
use crate::values::Numbers;

/// Hears of everything that happens. Nothing is printed here.
pub trait Listener: Sync {
    /// Called with each event as it happens, from the thread that works.
    fn hear(&self, event: Event<'_>);
}

/// For callers that want results only.
impl Listener for () {
    fn hear(&self, _: Event<'_>) {}
}

/// How much an event matters to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Progress of the work.
    Progress,
    /// Worth knowing.
    Note,
    /// Something may be wrong.
    Warning,
}

/// Something that happened; in words by [`Display`](std::fmt::Display).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Work begins that can be counted.
    Began {
        /// What is counted: `image`, `step`, …
        unit: &'static str,
        /// How many there will be; `None` if that is not known.
        total: Option<u64>,
        /// How many are done already.
        done: u64,
    },
    /// The work that began last has come this far.
    Advanced {
        /// How many are done.
        done: u64,
        /// How it goes, in words; may be empty.
        detail: &'a str,
    },
    /// The work that began last has ended.
    Ended,
    /// An image is left out, since it cannot be used.
    Skipped {
        /// Its name.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// How many images a piece of work left out, where there are any.
    SkippedInAll(usize),
    /// What a source of images left out, or decided about labels.
    Note {
        /// The source.
        source: &'a Path,
        /// The note.
        note: &'a str,
    },
    /// Some images of a set have no label and are left out.
    Unlabelled {
        /// The setting or argument that names the set; may be empty.
        setting: &'static str,
        /// The set.
        set: &'a Path,
        /// How many have none.
        without: usize,
        /// Of how many.
        all: usize,
    },
    /// Weights were loaded into a network.
    Loaded(&'a LoadReport),
    /// The weights do not say how many attention heads they are of.
    HeadsAssumed {
        /// The number that was taken, one per 64 of the width.
        heads: usize,
        /// The width.
        width: usize,
    },
    /// An image is left out of pictures, since it or what the network makes of it cannot be used.
    NotShown {
        /// Its name.
        name: &'a str,
        /// Why.
        error: &'a dinolab_features::Error,
    },
    /// An image cannot be decoded, and is packed as it is.
    PackedAsIs {
        /// Its name.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// An image cannot be read, and is packed as an empty file.
    PackedEmpty {
        /// Its name.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// A download is resumed.
    DownloadResumed {
        /// The file of what is there.
        part: &'a Path,
        /// How much that is.
        bytes: u64,
    },
    /// An attempt at a download failed; there will be another one.
    DownloadRetried {
        /// Why it failed.
        error: &'a Error,
    },
    /// A server cannot resume a download, which begins again.
    DownloadRestarted,
    /// The checksum of an archive is not known, so it is not verified.
    Unverified {
        /// The set of images.
        dataset: &'a str,
        /// The archive's SHA-256.
        sha256: &'a str,
    },
    /// A run is resumed from an earlier checkpoint, since the newest is not sound.
    WentBack {
        /// Steps done at the earlier one.
        to: u64,
        /// Steps done at the newest one.
        from: u64,
        /// What is wrong with it.
        doubt: &'a str,
    },
    /// A run from before images were recorded has a record now.
    ImagesRecorded,
    /// Images of `skipped.tsv` can be used again.
    UsableAgain {
        /// How many.
        count: usize,
        /// How many were listed.
        listed: usize,
    },
    /// How fast this machine trains is measured, for some seconds.
    MeasuringSpeed,
    /// Mean and standard deviation of the channels were measured.
    ChannelsMeasured {
        /// The number of images.
        images: usize,
    },
    /// Images are taken with their channels as stored, normalised by these.
    StoredChannels {
        /// How many.
        channels: usize,
        /// Channel means.
        mean: &'a Numbers,
        /// Channel standard deviations.
        std: &'a Numbers,
    },
    /// Something that may be wrong.
    Warning(&'a str),
    /// A file of features could not be kept.
    IndexNotKept(&'a crate::Error),
    /// Training has done a step.
    Stepped {
        /// Steps done.
        done: u64,
        /// The share of the run's work that they are, 0–1: steps with smaller crops are less of it.
        share: f64,
        /// Of the step.
        loss: f64,
        /// The learning rate.
        lr: f64,
        /// Throughput since the last logged step.
        images_per_second: f64,
    },
    /// Training has done an epoch.
    EpochEnded {
        /// The epoch's figures.
        health: &'a Health,
        /// What is wrong with them.
        warnings: &'a [Warning],
        /// Wall-clock time.
        seconds: f64,
        /// The fraction of the steps' time that was spent waiting for data.
        data_wait: f64,
    },
    /// The network in training was evaluated.
    Evaluated {
        /// Epochs done.
        epochs: u64,
        /// The figures.
        figures: Evaluation,
    },
}

/// Reports the progress of work that is counted, from [`Event::Began`] to [`Event::Ended`].
pub struct Progress<'a> {
    events: &'a dyn Listener,
    ended: bool,
}

impl<'a> Progress<'a> {
    /// Work on `total` of `unit` begins.
    pub fn new(events: &'a dyn Listener, unit: &'static str, total: usize) -> Self {
        Self::resumed(events, unit, Some(total as u64), 0)
    }

    /// Work begins of which `done` are done already; `total` is `None` if it is not known.
    pub fn resumed(
        events: &'a dyn Listener,
        unit: &'static str,
        total: Option<u64>,
        done: u64,
    ) -> Self {
        events.hear(Event::Began { unit, total, done });
        Self {
            events,
            ended: false,
        }
    }

    /// `done` are done.
    pub fn set(&self, done: usize, detail: &str) {
        let done = done as u64;
        self.events.hear(Event::Advanced { done, detail });
    }

    /// The work has ended; also said by dropping this.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.events.hear(Event::Ended);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
