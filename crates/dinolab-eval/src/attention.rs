//! Class-token attention against object masks.
//!
//! The attention of the class token to the patches, one map per head, is reduced to the smallest
//! set of patches covering a given share of its mass. That mask is enlarged to the size of the
//! image and compared with the image's objects by the Jaccard index (intersection over union).
//! Each object is scored with its best head.
//!
//! ```
//! use dinolab_data::Size;
//! use dinolab_eval::attention::{REFERENCE_MASS, score_image};
//!
//! // One head over 2 × 2 patches, and an object that fills the left half of 4 × 4 pixels.
//! let attention = [0.45, 0.05, 0.45, 0.05];
//! let labels: Vec<u8> = (0..16).map(|pixel| u8::from(pixel % 4 < 2)).collect();
//! let scores = score_image(&attention, (2, 2), &labels, Size::square(4), REFERENCE_MASS)?;
//! assert_eq!(scores[0].jaccard, 1.0);
//! # Ok::<(), dinolab_eval::Error>(())
//! ```

mod summary;

pub use summary::{ClassScore, JaccardSummary, ObjectHeads, attention_heads};

use dinolab_data::Size;
use dinolab_data::slice::{check_finite, check_length};

use crate::{Error, Result};

/// Label of pixels that are excluded from scores.
pub const VOID: u8 = 255;

/// Share of the attention mass kept by the reference implementation.
pub const REFERENCE_MASS: f64 = 0.6;

/// Returns the patches that hold the share `mass` (above 0, at most 1) of the attention of one
/// head.
///
/// `attention` has one non-negative value per patch and a positive sum. Its values are summed in
/// ascending order, and each patch whose running sum exceeds `1 − mass` is kept. Of equal values,
/// later patches are kept first.
///
/// # Errors
/// [`Error::Slice`] for values that are not finite; [`Error::Invalid`] for negative values, a
/// sum of 0 or `mass` out of range.
pub fn mass_mask(attention: &[f32], mass: f64) -> Result<Vec<bool>> {
    check_finite("attention", attention)?;
    if attention.iter().any(|&a| a < 0.0) {
        return Err(Error::invalid("attention", "has negative values"));
    }
    if !(mass > 0.0 && mass <= 1.0) {
        return Err(Error::invalid(
            "mass",
            format!("must be above 0 and at most 1, is {mass}"),
        ));
    }
    let total: f64 = attention.iter().map(|&a| f64::from(a)).sum();
    if total <= 0.0 {
        return Err(Error::invalid("attention", "sums to 0"));
    }
    let mut order: Vec<usize> = (0..attention.len()).collect();
    order.sort_by(|&a, &b| attention[a].total_cmp(&attention[b]));
    let mut mask = vec![false; attention.len()];
    let mut sum = 0.0;
    for i in order {
        sum += f64::from(attention[i]) / total;
        mask[i] = sum > 1.0 - mass;
    }
    Ok(mask)
}

/// Resizes a mask of a grid (rows, columns) to `size`: each pixel takes the value of the cell it lies
/// in.
///
/// # Errors
/// [`Error::Slice`] if the mask does not match the grid, [`Error::Invalid`] for an empty mask.
pub fn resize_mask(mask: &[bool], grid: (usize, usize), size: Size) -> Result<Vec<bool>> {
    check_length("mask", grid.0 * grid.1, mask.len())?;
    if mask.is_empty() {
        return Err(Error::invalid("mask", "is empty"));
    }
    let mut out = Vec::with_capacity(size.area());
    for y in 0..size.height {
        let row = &mask[y * grid.0 / size.height * grid.1..][..grid.1];
        out.extend((0..size.width).map(|x| row[x * grid.1 / size.width]));
    }
    Ok(out)
}

/// Pixel counts of a Jaccard index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Jaccard {
    /// Pixels in both masks.
    pub intersection: u64,
    /// Pixels in either mask.
    pub union: u64,
}

impl Jaccard {
    /// Compares `predicted` with the pixels of `labels` that equal `object`, ignoring pixels
    /// labelled [`VOID`]; fails for masks of different sizes.
    pub fn of_object(predicted: &[bool], labels: &[u8], object: u8) -> Result<Self> {
        check_length("predicted mask", labels.len(), predicted.len())?;
        let mut counts = Self::default();
        for (&p, &label) in predicted.iter().zip(labels) {
            if label != VOID {
                let inside = label == object;
                counts.intersection += u64::from(p && inside);
                counts.union += u64::from(p || inside);
            }
        }
        Ok(counts)
    }

    /// Returns intersection over union, 0–1; `None` if both masks are empty.
    pub fn value(self) -> Option<f64> {
        (self.union > 0).then(|| self.intersection as f64 / self.union as f64)
    }
}

/// The best head for one object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObjectScore {
    /// The object's label, 1–254.
    pub object: u8,
    /// The best head, the first of equals.
    pub head: usize,
    /// Its Jaccard index, 0–1.
    pub jaccard: f64,
}

impl ObjectScore {
    fn of(object: &ObjectHeads) -> Self {
        let (head, jaccard) = object.best();
        Self {
            object: object.object,
            head,
            jaccard,
        }
    }
}

/// Scores the best head for each object of one image, in ascending order of the labels.
///
/// `attention` is `[heads, h, w]` with `grid` = (h, w), `labels` are the object numbers of the pixels
/// of an image of `size`, with 0 for background and [`VOID`] ignored, and `mass` is the share of
/// attention to keep.
///
/// # Errors
/// As [`mass_mask`] and [`resize_mask`]; [`Error::Invalid`] without heads.
pub fn score_image(
    attention: &[f32],
    grid: (usize, usize),
    labels: &[u8],
    size: Size,
    mass: f64,
) -> Result<Vec<ObjectScore>> {
    let objects = attention_heads(attention, grid, labels, size, mass)?;
    Ok(objects.iter().map(ObjectScore::of).collect())
}

/// The mean Jaccard index over objects, then over images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JaccardMeter {
    sum_of_means: f64,
    images: usize,
    objects: usize,
}

impl JaccardMeter {
    /// Adds an image; images without objects are ignored.
    pub fn add(&mut self, image: &[ObjectScore]) {
        if !image.is_empty() {
            let sum: f64 = image.iter().map(|o| o.jaccard).sum();
            self.sum_of_means += sum / image.len() as f64;
            self.images += 1;
            self.objects += image.len();
        }
    }

    /// Returns the mean over images of the mean over their objects, 0–1; `None` before the first
    /// image.
    pub fn mean(&self) -> Option<f64> {
        (self.images > 0).then(|| self.sum_of_means / self.images as f64)
    }

    /// Returns the number of images with objects.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Returns the number of objects.
    pub fn objects(&self) -> usize {
        self.objects
    }
}

/// Returns the expected Jaccard index of a mask that covers the share `kept` of the pixels
/// independently of an object that covers the share `object`: `pq / (p + q − pq)`. `kept` = 1 gives
/// the baseline of the whole image.
pub fn chance_jaccard(kept: f64, object: f64) -> f64 {
    let both = kept * object;
    let either = kept + object - both;
    if either > 0.0 { both / either } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::summary::object_heads;
    use super::*;

    fn best_heads(heads: &[Vec<bool>], labels: &[u8]) -> Result<Vec<ObjectScore>> {
        let objects = object_heads(heads, labels)?;
        Ok(objects.iter().map(ObjectScore::of).collect())
    }

    /// Attention `[heads, patches]` of independent values, uniform in 0–1.
    fn random_attention(heads: usize, patches: usize, seed: u64) -> Vec<f32> {
        (0..(heads * patches) as u64)
            .map(|i| {
                // A counter pushed through a 64-bit finaliser; the top 24 bits make a float.
                let mut z = seed
                    .wrapping_mul(0xd6e8_feb8_6659_fd93)
                    .wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^= z >> 31;
                (z >> 40) as f32 / (1u64 << 24) as f32
            })
            .collect()
    }

    #[test]
    fn keeps_the_mass() {
        // Sorted: .1 .2 .3 .4, running .1 .3 .6 1.0; above 0.4: the last two.
        let a = [0.4, 0.1, 0.3, 0.2];
        assert_eq!(mass_mask(&a, 0.6).unwrap(), [true, false, true, false]);
        // The scale does not matter, nor does a class token that takes part of the mass.
        let b = a.map(|v| v * 0.01);
        assert_eq!(mass_mask(&b, 0.6).unwrap(), [true, false, true, false]);
        assert_eq!(mass_mask(&a, 1.0).unwrap(), [true; 4]);
        assert_eq!(mass_mask(&a, 0.1).unwrap(), [true, false, false, false]);
        assert_eq!(
            mass_mask(&[1.0; 4], 0.5).unwrap(),
            [false, false, true, true]
        );
        assert_eq!(mass_mask(&[0.0, 1.0], 0.6).unwrap(), [false, true]);
    }

    #[test]
    fn refuses_bad_attention() {
        assert!(mass_mask(&[0.0, 0.0], 0.6).is_err());
        assert!(mass_mask(&[], 0.6).is_err());
        assert!(mass_mask(&[1.0, -0.1], 0.6).is_err());
        assert!(mass_mask(&[f32::NAN], 0.6).is_err());
        assert!(mass_mask(&[1.0], 0.0).is_err());
        assert!(mass_mask(&[1.0], f64::NAN).is_err());
    }

    #[test]
    fn resizes_to_the_nearest() {
        let m = [true, false, false, true];
        let t = true;
        let f = false;
        assert_eq!(
            resize_mask(&m, (2, 2), Size::square(4)).unwrap(),
            [t, t, f, f, t, t, f, f, f, f, t, t, f, f, t, t]
        );
        assert_eq!(resize_mask(&m, (2, 2), Size::new(1, 3)).unwrap(), [t, t, f]);
        assert!(resize_mask(&m, (2, 3), Size::square(4)).is_err());
        assert!(resize_mask(&[], (0, 0), Size::square(4)).is_err());
    }

    #[test]
    fn jaccard_by_hand() {
        let labels = [0, 1, 1, 2, VOID, VOID];
        let mask = [true, true, false, false, true, false];
        let one = Jaccard::of_object(&mask, &labels, 1).unwrap();
        assert_eq!((one.intersection, one.union), (1, 3));
        let two = Jaccard::of_object(&mask, &labels, 2).unwrap();
        assert_eq!((two.intersection, two.union), (0, 3));
        assert_eq!(Jaccard::default().value(), None);
        assert!(Jaccard::of_object(&mask, &labels[1..], 1).is_err());
    }

    #[test]
    fn best_head_per_object() {
        let labels = [1, 1, 2, 0, VOID];
        let heads = vec![
            vec![true, false, false, false, true],
            vec![false, false, true, true, true],
            vec![true, true, false, true, false],
        ];
        let scores = best_heads(&heads, &labels).unwrap();
        assert_eq!(scores.len(), 2);
        assert_eq!((scores[0].object, scores[0].head), (1, 2));
        assert_eq!(scores[0].jaccard, 2.0 / 3.0);
        assert_eq!((scores[1].object, scores[1].head), (2, 1));
        assert_eq!(scores[1].jaccard, 0.5);

        let mut meter = JaccardMeter::default();
        assert_eq!(meter.mean(), None);
        meter.add(&scores);
        meter.add(&best_heads(&heads, &[0, 0, 0, VOID, VOID]).unwrap());
        meter.add(&[ObjectScore {
            object: 7,
            head: 0,
            jaccard: 1.0,
        }]);
        let first = (2.0 / 3.0 + 0.5) / 2.0;
        assert!((meter.mean().unwrap() - (first + 1.0) / 2.0).abs() < 1e-12);
        assert_eq!((meter.images(), meter.objects()), (2, 3));
        assert!(best_heads(&[], &labels).is_err());
    }

    #[test]
    fn random_attention_scores_as_chance() {
        let (h, w) = (64, 64);
        let a = random_attention(1, h * w, 3);
        assert!(a.iter().all(|v| (0.0..1.0).contains(v)));
        let mean: f32 = a.iter().sum::<f32>() / a.len() as f32;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert_eq!(a, random_attention(1, h * w, 3));
        assert_ne!(a, random_attention(1, h * w, 4));
        // An object in the left quarter.
        let labels: Vec<u8> = (0..h * w).map(|i| u8::from(i % w < w / 4)).collect();
        let mask = mass_mask(&a, 0.6).unwrap();
        let kept = mask.iter().filter(|&&m| m).count() as f64 / mask.len() as f64;
        let score = score_image(&a, (h, w), &labels, Size::new(h, w), 0.6).unwrap();
        assert!((score[0].jaccard - chance_jaccard(kept, 0.25)).abs() < 0.02);
        assert_eq!(chance_jaccard(1.0, 0.25), 0.25);
        assert_eq!(chance_jaccard(0.0, 0.0), 0.0);
    }
}
