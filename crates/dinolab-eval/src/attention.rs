//! Class-token attention against object masks.
//!
//! The attention of the class token to the patches, one map per head, is reduced to the smallest
//! set of patches covering a given share of its mass. That mask is enlarged to the size of the
//! image and compared with the image's objects by the Jaccard index (intersection over union).
//! Each object is scored with its best head.
//!
//! ```
//! use dinolab_data::{Mask, Size};
//! use dinolab_eval::attention::{ObjectHeads, REFERENCE_MASS};
//!
//! // One head over 2 × 2 patches, and an object that fills the left half of 4 × 4 pixels.
//! let attention = [0.45, 0.05, 0.45, 0.05];
//! let labels: Vec<u8> = (0..16).map(|pixel| u8::from(pixel % 4 < 2)).collect();
//! let size = Size::square(4);
//! let objects = ObjectHeads::of_image(&attention, (2, 2), &labels, size, REFERENCE_MASS)?;
//! assert_eq!(objects[0].best(), (0, 1.0));
//! # Ok::<(), dinolab_eval::Error>(())
//! ```

mod summary;

pub use summary::{ClassScore, JaccardSummary, ObjectHeads};

use dinolab_data::slice::{check_finite, check_length};
use dinolab_data::{Mask, Size};

use crate::{Error, Result};

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
    /// labelled [`Mask::VOID`]; fails for masks of different sizes.
    pub fn of_object(predicted: &[bool], labels: &[u8], object: u8) -> Result<Self> {
        check_length("predicted mask", labels.len(), predicted.len())?;
        let mut counts = Self::default();
        for (&p, &label) in predicted.iter().zip(labels) {
            if label != Mask::VOID {
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let labels = [0, 1, 1, 2, Mask::VOID, Mask::VOID];
        let mask = [true, true, false, false, true, false];
        let one = Jaccard::of_object(&mask, &labels, 1).unwrap();
        assert_eq!((one.intersection, one.union), (1, 3));
        let two = Jaccard::of_object(&mask, &labels, 2).unwrap();
        assert_eq!((two.intersection, two.union), (0, 3));
        assert_eq!(Jaccard::default().value(), None);
        assert!(Jaccard::of_object(&mask, &labels[1..], 1).is_err());
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
        let found = ObjectHeads::of_image(&a, (h, w), &labels, Size::new(h, w), 0.6).unwrap();
        assert!((found[0].best().1 - found[0].chance(kept)).abs() < 0.02);
        assert_eq!(found[0].chance(1.0), 0.25);
        let none = ObjectHeads {
            share: 0.0,
            ..found[0].clone()
        };
        assert_eq!(none.chance(0.0), 0.0);
    }
}
