//! Intersection over union, pooled over images.

use dinolab_data::Mask;
use dinolab_data::slice::check_length;

use crate::{Error, Result};

/// Pixel counts by true and predicted class, pooled over images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IouMeter {
    classes: usize,
    /// `[K, K]`, by true class first.
    counts: Vec<u64>,
}

impl IouMeter {
    /// Starts without pixels.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Counts the pixels of an image, ignoring those whose true class is [`Mask::VOID`].
    ///
    /// # Errors
    /// [`Error::Slice`] for masks of different lengths, [`Error::Invalid`] for a class out of
    /// range.
    pub fn add(&mut self, truth: &[u8], predicted: &[u8]) -> Result<()> {
        check_length("predicted mask", truth.len(), predicted.len())?;
        let pairs = || {
            truth
                .iter()
                .zip(predicted)
                .filter(|(t, _)| **t != Mask::VOID)
        };
        let beyond = pairs().find(|(t, p)| usize::from(**t.max(p)) >= self.classes);
        if let Some((t, p)) = beyond {
            let reason = format!("class {} of {}", t.max(p), self.classes);
            return Err(Error::invalid("mask", reason));
        }
        for (&t, &p) in pairs() {
            self.counts[usize::from(t) * self.classes + usize::from(p)] += 1;
        }
        Ok(())
    }

    /// Adds the counts of another meter.
    ///
    /// # Panics
    /// If it has another number of classes.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.classes, other.classes, "meters of the same classes");
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Returns the intersection over union of each class, 0–1; `None` for a class that occurs
    /// neither in the truth nor in the predictions.
    pub fn iou(&self) -> Vec<Option<f64>> {
        let k = self.classes;
        (0..k)
            .map(|class| {
                let hit = self.counts[class * k + class];
                let shown: u64 = self.counts[class * k..][..k].iter().sum();
                let predicted: u64 = self.counts[class..].iter().step_by(k).sum();
                let union = shown + predicted - hit;
                (union > 0).then(|| hit as f64 / union as f64)
            })
            .collect()
    }

    /// Returns the mean over the classes that have an [`iou`](Self::iou); `None` without pixels.
    pub fn mean(&self) -> Option<f64> {
        let known: Vec<f64> = self.iou().into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Returns the pixel accuracy, 0–1; `None` without pixels.
    pub fn pixel_accuracy(&self) -> Option<f64> {
        let total: u64 = self.counts.iter().sum();
        let right: u64 = self.counts.iter().step_by(self.classes + 1).sum();
        (total > 0).then(|| right as f64 / total as f64)
    }
}
