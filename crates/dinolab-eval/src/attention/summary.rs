//! Scores of every head for every object, and their means.

use std::collections::BTreeMap;

use dinolab_data::slice::check_length;
use dinolab_data::{Mask, Size};

use super::{Jaccard, mass_mask, resize_mask};
use crate::{Error, Result};

/// One object and its Jaccard index with each head.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectHeads {
    /// The object's label, 1–254.
    pub object: u8,
    /// Jaccard index of each head, 0–1.
    pub heads: Vec<f64>,
    /// Share of the image's pixels, void excluded, that it covers, 0–1.
    pub share: f64,
}

impl ObjectHeads {
    /// Scores each head for each object of an image, in ascending order of the labels.
    ///
    /// `attention` is `[heads, h, w]` with `grid` = (h, w), `labels` are the object numbers of the
    /// pixels of an image of `size`, with 0 for background and [`Mask::VOID`] ignored, and `mass` is
    /// the share of attention to keep.
    ///
    /// # Errors
    /// As [`mass_mask`] and [`resize_mask`]; [`Error::Invalid`] without heads.
    pub fn of_image(
        attention: &[f32],
        grid: (usize, usize),
        labels: &[u8],
        size: Size,
        mass: f64,
    ) -> Result<Vec<Self>> {
        check_length("labels", size.area(), labels.len())?;
        let patches = grid.0 * grid.1;
        if patches == 0 {
            return Err(Error::invalid("attention", "the grid is empty"));
        }
        let whole = attention.len() / patches * patches;
        check_length("attention", whole, attention.len())?;
        let heads = attention
            .chunks_exact(patches)
            .map(|head| resize_mask(&mass_mask(head, mass)?, grid, size))
            .collect::<Result<Vec<_>>>()?;
        object_heads(&heads, labels)
    }

    /// Returns the expected Jaccard index of a mask that covers the share `kept` of the pixels
    /// independently of the object, which covers the share *q*: `pq / (p + q − pq)`. `kept` = 1 gives
    /// the baseline of the whole image.
    pub fn chance(&self, kept: f64) -> f64 {
        let both = kept * self.share;
        let either = kept + self.share - both;
        if either > 0.0 { both / either } else { 0.0 }
    }

    /// Returns the number and Jaccard index of the best head, the first of equals.
    pub fn best(&self) -> (usize, f64) {
        let mut best = (0, self.heads.first().copied().unwrap_or(0.0));
        for (head, &jaccard) in self.heads.iter().enumerate() {
            if jaccard > best.1 {
                best = (head, jaccard);
            }
        }
        best
    }
}

/// Returns each head's Jaccard index with each object of an image, in ascending order of the
/// labels: one mask per head and the objects' labels, all of the same size. Fails without heads and
/// for masks of different sizes.
pub(super) fn object_heads(heads: &[Vec<bool>], labels: &[u8]) -> Result<Vec<ObjectHeads>> {
    if heads.is_empty() {
        return Err(Error::invalid("heads", "must not be empty"));
    }
    let mut pixels = [0u64; 256];
    for &label in labels {
        pixels[usize::from(label)] += 1;
    }
    let seen: u64 = pixels[..usize::from(Mask::VOID)].iter().sum();
    (1..Mask::VOID)
        .filter(|&object| pixels[usize::from(object)] > 0)
        .map(|object| {
            let scores = heads
                .iter()
                .map(|mask| {
                    Ok(Jaccard::of_object(mask, labels, object)?
                        .value()
                        .unwrap_or(0.0))
                })
                .collect::<Result<Vec<_>>>()?;
            Ok(ObjectHeads {
                object,
                heads: scores,
                share: pixels[usize::from(object)] as f64 / seen as f64,
            })
        })
        .collect()
}

/// The score of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassScore {
    /// Number of objects of the class.
    pub objects: usize,
    /// Mean Jaccard index of the best head for each, 0–1.
    pub jaccard: f64,
}

/// The scores of all objects of many images.
#[derive(Clone, Debug, Default)]
pub struct JaccardSummary {
    /// Per image with objects: class and heads of each object.
    images: Vec<Vec<(usize, ObjectHeads)>>,
}

impl JaccardSummary {
    /// Adds an image; `class` maps an object's label to its class. Images without objects are
    /// ignored.
    pub fn add(&mut self, objects: Vec<ObjectHeads>, class: impl Fn(u8) -> usize) {
        if !objects.is_empty() {
            let classed = objects.into_iter().map(|o| (class(o.object), o)).collect();
            self.images.push(classed);
        }
    }

    /// Returns the number of images with objects.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Returns the number of objects.
    pub fn objects(&self) -> usize {
        self.images.iter().map(Vec::len).sum()
    }

    /// Returns the mean over images of the mean of `value` over their objects; `None` before the
    /// first image.
    pub fn mean(&self, value: impl Fn(&ObjectHeads) -> f64) -> Option<f64> {
        let means = self.images.iter().map(|objects| {
            let sum: f64 = objects.iter().map(|(_, object)| value(object)).sum();
            sum / objects.len() as f64
        });
        (!self.images.is_empty()).then(|| means.sum::<f64>() / self.images.len() as f64)
    }

    /// Returns the mean with the best head of each object, as published.
    pub fn best_head_of_each(&self) -> Option<f64> {
        self.mean(|object| object.best().1)
    }

    /// Returns the number and mean of the single head that is best over all objects, the first of
    /// equals.
    pub fn best_single_head(&self) -> Option<(usize, f64)> {
        let heads = self.images.first()?.first()?.1.heads.len();
        let mut best: Option<(usize, f64)> = None;
        for head in 0..heads {
            let mean = self.mean(|object| object.heads.get(head).copied().unwrap_or(0.0))?;
            if best.is_none_or(|(_, so_far)| mean > so_far) {
                best = Some((head, mean));
            }
        }
        best
    }

    /// Returns the scores of the classes that have objects, with equal weight per object.
    pub fn per_class(&self) -> BTreeMap<usize, ClassScore> {
        let mut classes: BTreeMap<usize, ClassScore> = BTreeMap::new();
        for (class, object) in self.images.iter().flatten() {
            let score = classes.entry(*class).or_default();
            score.objects += 1;
            score.jaccard += object.best().1;
        }
        for score in classes.values_mut() {
            score.jaccard /= score.objects as f64;
        }
        classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks() -> Vec<Vec<bool>> {
        vec![
            vec![true, false, false, false, true],
            vec![false, false, true, true, true],
            vec![true, true, false, true, false],
        ]
    }

    #[test]
    fn every_head_on_every_object() {
        let labels = [1, 1, 2, 0, Mask::VOID];
        let found = object_heads(&masks(), &labels).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].heads, [0.5, 0.0, 2.0 / 3.0]);
        assert_eq!((found[0].object, found[0].share), (1, 0.5));
        assert_eq!(found[0].best(), (2, 2.0 / 3.0));
        assert_eq!(found[1].heads, [0.0, 0.5, 0.0]);
        assert_eq!((found[1].object, found[1].share), (2, 0.25));
        assert!(object_heads(&[], &labels).is_err());
        assert!(object_heads(&masks(), &labels[1..]).is_err());
    }

    #[test]
    fn means_by_hand() {
        let mut summary = JaccardSummary::default();
        assert_eq!(summary.best_head_of_each(), None);
        assert_eq!(summary.best_single_head(), None);
        let class = |object: u8| usize::from(object) + 10;
        summary.add(
            object_heads(&masks(), &[1, 1, 2, 0, Mask::VOID]).unwrap(),
            class,
        );
        // Object 2 alone: heads reach 1/4, 1/5 and all of it.
        summary.add(object_heads(&masks(), &[2, 2, 0, 2, 0]).unwrap(), class);
        summary.add(
            object_heads(&masks(), &[0, 0, 0, Mask::VOID, Mask::VOID]).unwrap(),
            class,
        );
        assert_eq!((summary.images(), summary.objects()), (2, 3));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(
            summary.best_head_of_each().unwrap(),
            ((2.0 / 3.0 + 0.5) / 2.0 + 1.0) / 2.0,
        );
        // Head 2 covers object 2 of the second image wholly: it is best for all.
        let (head, mean) = summary.best_single_head().unwrap();
        assert_eq!(head, 2);
        close(mean, ((2.0 / 3.0 + 0.0) / 2.0 + 1.0) / 2.0);
        let classes = summary.per_class();
        assert_eq!(classes.keys().copied().collect::<Vec<_>>(), [11, 12]);
        assert_eq!(classes[&12].objects, 2);
        close(classes[&12].jaccard, (0.5 + 1.0) / 2.0);
    }
}
