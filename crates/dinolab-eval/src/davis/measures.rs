//! J and F of a mask, and their statistics over a sequence.

use dinolab_data::Size;
use dinolab_data::slice::{check_finite, check_length};

use super::boundary::{boundary, dilated};
use crate::{Error, Result};

/// Greatest distance, as a fraction of the image's diagonal, at which a boundary pixel is matched.
pub(crate) const BOUND_TH: f64 = 0.008;

/// An object counts as found in a frame if its score is above this.
const RECALL_ABOVE: f64 = 0.5;

/// Returns the region similarity *J*, 0–1: intersection over union of two masks of one size, 1 if
/// both are empty. Pixels of `void` are ignored.
///
/// # Errors
/// [`Error::Slice`] for masks of different sizes.
pub fn region_similarity(truth: &[bool], predicted: &[bool], void: Option<&[bool]>) -> Result<f64> {
    check_length("predicted mask", truth.len(), predicted.len())?;
    if let Some(void) = void {
        check_length("void mask", truth.len(), void.len())?;
    }
    let (mut intersection, mut union) = (0u64, 0u64);
    for (i, (&t, &p)) in truth.iter().zip(predicted).enumerate() {
        let counts = !void.is_some_and(|void| void[i]);
        intersection += u64::from(t && p && counts);
        union += u64::from((t || p) && counts);
    }
    Ok(match union {
        0 => 1.0,
        _ => intersection as f64 / union as f64,
    })
}

/// Returns the boundary measure *F*, 0–1, of two masks of `size`: the harmonic
/// mean of the fraction of the predicted boundary near the true one (precision) and of the true
/// boundary near the predicted one (recall). "Near" means within 0.008 of the diagonal, rounded up
/// to whole pixels. Pixels of `void` are background in both.
///
/// *F* is 1 if neither mask has a boundary and 0 if only one has.
///
/// # Errors
/// [`Error::Slice`] for masks of other sizes than `size`.
pub fn boundary_measure(
    truth: &[bool],
    predicted: &[bool],
    void: Option<&[bool]>,
    size: Size,
) -> Result<f64> {
    let Size { height, width } = size;
    check_length("true mask", height * width, truth.len())?;
    check_length("predicted mask", height * width, predicted.len())?;
    if let Some(void) = void {
        check_length("void mask", height * width, void.len())?;
    }
    let diagonal = ((height * height + width * width) as f64).sqrt();
    let radius = (BOUND_TH * diagonal).ceil() as usize;
    let boundary_of = |mask: &[bool]| match void {
        None => boundary(mask, height, width),
        Some(void) => {
            let kept: Vec<bool> = mask.iter().zip(void).map(|(&m, &v)| m && !v).collect();
            boundary(&kept, height, width)
        }
    };
    let (truth, predicted) = (boundary_of(truth), boundary_of(predicted));
    let share_near = |pixels: &[bool], others: &[bool]| {
        let near = dilated(others, height, width, radius);
        let all = pixels.iter().filter(|&&p| p).count();
        let found = pixels.iter().zip(&near).filter(|&(&p, &n)| p && n).count();
        (all > 0).then(|| found as f64 / all as f64)
    };
    let precision = share_near(&predicted, &truth);
    let recall = share_near(&truth, &predicted);
    Ok(match (precision, recall) {
        (None, None) => 1.0,
        (Some(p), Some(r)) if p + r > 0.0 => 2.0 * p * r / (p + r),
        _ => 0.0,
    })
}

/// The benchmark's statistics of the scores of one object over the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Statistics {
    /// Mean score, 0–1.
    pub mean: f64,
    /// Fraction of frames with a score above 0.5.
    pub recall: f64,
    /// Mean of the first quarter of the frames minus that of the last; negative if scores rise.
    pub decay: f64,
}

impl Statistics {
    /// Returns the statistics of scores in the order of the frames. Adjacent quarters share the
    /// frame at which they meet, as in the benchmark.
    ///
    /// # Errors
    /// [`Error::Invalid`] without scores, [`Error::Slice`] if a score is not finite.
    pub fn of(scores: &[f64]) -> Result<Self> {
        if scores.is_empty() {
            return Err(Error::invalid("scores", "must not be empty"));
        }
        let narrow: Vec<f32> = scores.iter().map(|&s| s as f32).collect();
        check_finite("scores", &narrow)?;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let last = scores.len() - 1;
        // Where quarter k begins: k · last / 4, halves rounded up.
        let edge = |k: usize| (k * last + 2) / 4;
        let found = scores.iter().filter(|&&s| s > RECALL_ABOVE).count();
        Ok(Self {
            mean: mean(scores),
            recall: found as f64 / scores.len() as f64,
            decay: mean(&scores[..=edge(1)]) - mean(&scores[edge(3)..]),
        })
    }

    /// Returns the mean of several objects' statistics; `None` if there are none.
    pub fn mean_of<'a>(all: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let (mut sum, mut count) = (Self::default(), 0u32);
        for one in all {
            sum.mean += one.mean;
            sum.recall += one.recall;
            sum.decay += one.decay;
            count += 1;
        }
        (count > 0).then(|| Self {
            mean: sum.mean / f64::from(count),
            recall: sum.recall / f64::from(count),
            decay: sum.decay / f64::from(count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rectangle(size: Size, top: usize, left: usize, h: usize, w: usize) -> Vec<bool> {
        let inside = |i: usize| {
            let (y, x) = (i / size.width, i % size.width);
            (top..top + h).contains(&y) && (left..left + w).contains(&x)
        };
        (0..size.area()).map(inside).collect()
    }

    #[test]
    fn region_by_hand() {
        let a = [true, true, false, false];
        let b = [false, true, true, false];
        assert_eq!(region_similarity(&a, &b, None).unwrap(), 1.0 / 3.0);
        let void = [true, false, false, false];
        assert_eq!(region_similarity(&a, &b, Some(&void)).unwrap(), 0.5);
        let none = [false; 4];
        assert_eq!(region_similarity(&none, &none, None).unwrap(), 1.0);
        assert_eq!(region_similarity(&a, &none, None).unwrap(), 0.0);
        assert!(region_similarity(&a, &none[..3], None).is_err());
        assert!(region_similarity(&a, &b, Some(&void[..3])).is_err());
    }

    #[test]
    fn boundary_by_hand() {
        // The diagonal of 20 × 20 is 28.3: boundaries may be one pixel off.
        let size = Size::square(20);
        let truth = rectangle(size, 5, 5, 6, 6);
        let score = |p: &[bool]| boundary_measure(&truth, p, None, size).unwrap();
        assert_eq!(score(&truth), 1.0);
        assert_eq!(score(&rectangle(size, 6, 5, 6, 6)), 1.0);
        // Two rows lower, the boundary of 24 pixels (a ring from (4, 4) to (10, 10)) shares
        // the columns' rows 6–10 (and 5, 11 next to them) and nothing of the two edges, but
        // for their ends, which are next to the other's columns.
        let p = 14.0 / 24.0;
        assert!((score(&rectangle(size, 7, 5, 6, 6)) - p).abs() < 1e-12);
        assert_eq!(score(&[false; 400]), 0.0);
        assert_eq!(score(&rectangle(size, 0, 0, 20, 20)), 0.0);
        let none = [false; 400];
        assert_eq!(boundary_measure(&none, &none, None, size).unwrap(), 1.0);
        let void = rectangle(size, 4, 4, 9, 9);
        assert_eq!(
            boundary_measure(&truth, &none, Some(&void), size).unwrap(),
            1.0
        );
        assert!(boundary_measure(&none, &none, None, Size::new(20, 19)).is_err());
    }

    #[test]
    fn statistics_by_hand() {
        let s = Statistics::of(&[0.9, 0.8, 0.7, 0.4, 0.5]).unwrap();
        assert!((s.mean - 0.66).abs() < 1e-12);
        assert_eq!(s.recall, 0.6);
        // Edges at 0, 1, 2, 3, 4: the first and last quarter hold two frames each.
        assert!((s.decay - (0.85 - 0.45)).abs() < 1e-12);
        // Three scores: edges at 0, 0.5 → 1, 1, 1.5 → 2, 2.
        let s = Statistics::of(&[0.9, 0.6, 0.1]).unwrap();
        assert!((s.decay - (0.75 - 0.1)).abs() < 1e-12);
        let s = Statistics::of(&[0.3]).unwrap();
        assert_eq!((s.mean, s.recall, s.decay), (0.3, 0.0, 0.0));
        assert!(Statistics::of(&[]).is_err());
        assert!(Statistics::of(&[f64::NAN]).is_err());
        let two = [Statistics::of(&[1.0]).unwrap(), s];
        assert_eq!(Statistics::mean_of(&two).unwrap().mean, 0.65);
        assert_eq!(Statistics::mean_of([]), None);
    }

    proptest! {
        #[test]
        fn measures_are_symmetric_shares(bits in proptest::collection::vec(0u8..4, 63)) {
            let a: Vec<bool> = bits.iter().map(|b| b & 1 > 0).collect();
            let b: Vec<bool> = bits.iter().map(|b| b & 2 > 0).collect();
            for measure in [
                |a: &[bool], b: &[bool]| region_similarity(a, b, None).unwrap(),
                |a: &[bool], b: &[bool]| boundary_measure(a, b, None, Size::new(7, 9)).unwrap(),
            ] {
                let forth = measure(&a, &b);
                prop_assert!((0.0..=1.0).contains(&forth));
                prop_assert_eq!(forth, measure(&b, &a));
                prop_assert_eq!(measure(&a, &a), 1.0);
            }
        }
    }
}
