//! `skipped.tsv`: the images that cannot be used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dinolab_data::augment::MultiCrop;
use dinolab_data::loader::UnusableImage;
use dinolab_data::source::Subset;
use dinolab_data::{Loader, LoaderConfig, Source};
use dinolab_train::checkpoint::write_atomically;

use crate::environment::Environment;
use crate::error::Result;
use crate::event::Event;

use super::contents::in_one_field;
use super::{RunFolder, remove};

impl RunFolder {
    /// Drops the images from `skipped.tsv` that can be used by now, as after a folder was away for
    /// a while: what the loader would pass over, and nothing else, stays listed.
    ///
    /// # Errors
    /// Settings of the loader out of their range; a file that cannot be written.
    pub fn recheck_skipped(
        &self,
        env: &Environment<'_>,
        source: &Arc<dyn Source>,
        crops: &MultiCrop,
        config: &LoaderConfig,
    ) -> Result<()> {
        let path = self.join("skipped.tsv");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let names: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once('\t')?.0))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let listed = |&index: &usize| names.contains(in_one_field(&source.name(index)).as_str());
        let indices: Vec<usize> = (0..source.len()).filter(listed).collect();
        let bad = if indices.is_empty() {
            Vec::new()
        } else {
            let alone = LoaderConfig {
                batch_size: 1,
                max_unusable: 1.0,
                cache_bytes: 0,
                shuffle_buffer: 0,
                ..config.clone()
            };
            let subset = Subset::new(Arc::clone(source), indices)?;
            let loader = Loader::new(Arc::new(subset), crops.clone(), alone)?;
            for crops in loader.epoch(0, 0) {
                match crops {
                    Ok(crops) => loader.recycle(crops),
                    // Nothing is known of them today.
                    Err(error) if error.is_unreachable() => return Ok(()),
                    // None of them can be used.
                    Err(_) => break,
                }
            }
            loader.unusable_images()
        };
        let again = names.len() - bad.len().min(names.len());
        if again > 0 {
            env.events.hear(Event::UsableAgain {
                count: again,
                listed: names.len(),
            });
        }
        remove(&path, |path| fs::remove_file(path))?;
        if bad.is_empty() {
            return Ok(());
        }
        self.write_skipped(&bad)
    }

    /// Images that are recorded as skipped.
    pub fn skipped(&self) -> usize {
        let text = fs::read_to_string(self.skipped_file()).unwrap_or_default();
        text.lines().count()
    }

    /// Where skipped images are recorded, if there are any.
    pub fn skipped_file(&self) -> PathBuf {
        self.join("skipped.tsv")
    }

    /// Records the images that were skipped, in addition to those recorded before a run was resumed.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_skipped(&self, images: &[UnusableImage]) -> Result<()> {
        let path = self.join("skipped.tsv");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let mut reasons: BTreeMap<String, String> = before
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, reason)| (name.to_owned(), reason.to_owned()))
            .collect();
        reasons.extend(
            images
                .iter()
                .map(|bad| (in_one_field(&bad.name), in_one_field(&bad.reason))),
        );
        let lines: String = reasons
            .iter()
            .map(|(name, reason)| format!("{name}\t{reason}\n"))
            .collect();
        Ok(write_atomically(&path, lines.as_bytes())?)
    }
}
