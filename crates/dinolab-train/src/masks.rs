//! Which patches the student does not see: block masks of a step (iBOT, Zhou et al., arXiv 2111.07832; BEiT,
//! Bao et al., arXiv 2106.08254, algorithm 1; DINOv2).
//!
//! They follow from seed, step, view and place in the step's batch, so they do not depend on threads,
//! micro-batches, processes or resuming.

use std::ops::Range;

use dinolab_data::random::{Purpose, Random};

use crate::Result;
use crate::dropout::key;
use crate::method::check;

/// Least patches of a block, as long as so many are to be masked.
const SMALLEST: f64 = 4.0;
/// ln(1/0.3): blocks have an aspect ratio of 0.3–1/0.3.
const LOG_ASPECT: f64 = 1.203_972_804_325_936;
/// Blocks that are tried before single patches fill up what is left.
const TRIES: usize = 10;

/// How much is masked.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MaskConfig {
    /// Share of the global views that are masked, above 0 and up to 1.
    pub probability: f64,
    /// Least and greatest share of the patches of such a view that are masked, in 0–1.
    pub ratio: (f64, f64),
}

/// DINOv2's.
impl Default for MaskConfig {
    fn default() -> Self {
        Self {
            probability: 0.5,
            ratio: (0.1, 0.5),
        }
    }
}

impl MaskConfig {
    pub(crate) fn check(&self) -> Result<()> {
        let (least, most) = self.ratio;
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            let reason = "must be above 0 and at most 1";
            return Err(check::bad("mask-sample-probability", reason));
        }
        if !(0.0 <= least && least <= most && most <= 1.0) {
            let reason = "must be between 0 and 1, the smaller number first";
            return Err(check::bad("mask-ratio", reason));
        }
        Ok(())
    }
}

/// The masked patches of the global views of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMasks {
    /// Images of the step, `B`.
    batch: usize,
    /// Masked places in the grid of each view, ascending; view-major `[2·B]`.
    views: Vec<Vec<usize>>,
}

impl StepMasks {
    /// Masks that are given: the masked places in the grid of each view, ascending, view-major for `batch`
    /// images.
    ///
    /// # Panics
    /// If those are not two views of each image.
    pub fn new(batch: usize, views: Vec<Vec<usize>>) -> Self {
        assert_eq!(views.len(), 2 * batch, "two views of each image");
        Self { batch, views }
    }

    /// No patch of `batch` images is masked.
    pub fn none(batch: usize) -> Self {
        Self::new(batch, vec![Vec::new(); 2 * batch])
    }

    /// The masks of a step of `batch` images, over `grid` rows and columns of patches.
    ///
    /// Of the views, the nearest number to their share is masked, at least one, chosen at random. Their
    /// ratios are spread evenly: the range is cut into as many parts as there are masked views, and each
    /// of them draws from its own (as DINOv2 does). A masked view has at least one masked patch.
    pub fn draw(
        config: &MaskConfig,
        seed: u64,
        step: u64,
        batch: usize,
        grid: (usize, usize),
    ) -> Self {
        let mut order: Vec<usize> = (0..2 * batch).collect();
        Random::new(seed, step, 0, Purpose::Masks).shuffle(&mut order);
        let masked = (config.probability * order.len() as f64).round() as usize;
        order.truncate(masked.max(1));
        let parts = order.len() as f64;
        let (least, most) = config.ratio;
        let bound = |part: usize| least + (most - least) * part as f64 / parts;
        let mut views = vec![Vec::new(); 2 * batch];
        for (part, view) in order.into_iter().enumerate() {
            let sample = key(view / batch, view % batch);
            let mut random = Random::new(seed, step, sample, Purpose::Masks).stream(1);
            let ratio = random.uniform(bound(part), bound(part + 1));
            let patches = grid.0 * grid.1;
            let count = (ratio * patches as f64) as usize;
            views[view] = blocks(&mut random, grid, count.clamp(1, patches));
        }
        Self { batch, views }
    }

    /// The masked places of each view, view-major `[2·B]`.
    pub fn views(&self) -> &[Vec<usize>] {
        &self.views
    }

    /// Number of masked patches of all views.
    pub fn total(&self) -> usize {
        self.views.iter().map(Vec::len).sum()
    }

    /// Number of masked patches of both views of images number `images` of the step.
    pub(crate) fn count(&self, images: Range<usize>) -> usize {
        self.of(images).map(<[usize]>::len).sum()
    }

    /// Rows of the masked patches among those of all global views of images number `images`, of which each
    /// has `patches`: `view · patches + place`, ascending.
    pub(crate) fn rows(&self, images: Range<usize>, patches: usize) -> Vec<usize> {
        let views = self.of(images).enumerate();
        let rows =
            views.flat_map(|(view, places)| places.iter().map(move |place| view * patches + place));
        rows.collect()
    }

    /// The weight of each of these rows in a mean over all views of the step of means over a view's masked
    /// patches.
    pub(crate) fn weights(&self, images: Range<usize>) -> Vec<f32> {
        let views = self.views.len() as f64;
        let weight = |masked: usize| (1.0 / (masked as f64 * views)) as f32;
        let weights = self
            .of(images)
            .flat_map(|places| std::iter::repeat_n(weight(places.len()), places.len()));
        weights.collect()
    }

    /// The masked places of the views of some images, view-major.
    fn of(&self, images: Range<usize>) -> impl Iterator<Item = &[usize]> {
        let first = &self.views[images.clone()];
        let second = &self.views[self.batch + images.start..self.batch + images.end];
        first.iter().chain(second).map(Vec::as_slice)
    }
}

/// `count` places in a grid, ascending: blocks of random sizes and aspect ratios, which may overlap, and single
/// patches where no block fits any more.
fn blocks(random: &mut Random, grid: (usize, usize), count: usize) -> Vec<usize> {
    let mut masked = vec![false; grid.0 * grid.1];
    let mut left = count;
    while left > 0 {
        let found = (0..TRIES).find_map(|_| block(random, grid, &masked, left));
        let Some(places) = found else { break };
        left -= places.len();
        places.into_iter().for_each(|place| masked[place] = true);
    }
    let with = |wanted: bool, masked: &[bool]| -> Vec<usize> {
        let places = masked.iter().enumerate();
        places
            .filter(|(_, masked)| **masked == wanted)
            .map(|(place, _)| place)
            .collect()
    };
    let mut free = with(false, &masked);
    random.shuffle(&mut free);
    free.truncate(left);
    free.into_iter().for_each(|place| masked[place] = true);
    with(true, &masked)
}

/// The places that a random block masks in addition; `None` if it does not fit into the grid, or masks nothing
/// or more than `left`.
fn block(
    random: &mut Random,
    (rows, columns): (usize, usize),
    masked: &[bool],
    left: usize,
) -> Option<Vec<usize>> {
    let area = random.uniform(SMALLEST.min(left as f64), left as f64);
    let aspect = random.aspect(LOG_ASPECT);
    let side = |square: f64| square.sqrt().round_ties_even() as usize;
    let (height, width) = (side(area * aspect), side(area / aspect));
    if !(1..=rows).contains(&height) || !(1..=columns).contains(&width) {
        return None;
    }
    let top = random.below((rows - height + 1) as u64) as usize;
    let left_column = random.below((columns - width + 1) as u64) as usize;
    let places = (top..top + height).flat_map(|row| {
        (left_column..left_column + width).map(move |column| row * columns + column)
    });
    let places: Vec<usize> = places.filter(|&place| !masked[place]).collect();
    (1..=left).contains(&places.len()).then_some(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn aspect_ratios_are_those_of_the_papers() {
        assert!((LOG_ASPECT - (1.0f64 / 0.3).ln()).abs() < 1e-15);
    }

    #[test]
    fn half_of_the_views_lose_a_tenth_to_a_half_of_their_patches_in_blocks() {
        let (batch, grid) = (64, (14, 14));
        let masks = StepMasks::draw(&MaskConfig::default(), 3, 8, batch, grid);
        let masked: Vec<_> = masks
            .views()
            .iter()
            .filter(|view| !view.is_empty())
            .collect();
        assert_eq!(masked.len(), batch);
        let mean = masks.total() as f64 / (batch * 196) as f64;
        assert!((mean - 0.3).abs() < 0.01, "{mean}");
        // Of the neighbours to the right of masked patches, far more are masked than by chance.
        let (mut beside, mut pairs) = (0, 0);
        for view in masked {
            let inner = view.iter().filter(|&&place| place % grid.1 + 1 < grid.1);
            for place in inner {
                pairs += 1;
                beside += usize::from(view.contains(&(place + 1)));
            }
        }
        assert!(
            f64::from(beside as u32) > 0.7 * f64::from(pairs),
            "{beside} of {pairs}"
        );
    }

    #[test]
    fn steps_and_seeds_differ_and_repeat() {
        let draw = |seed, step| StepMasks::draw(&MaskConfig::default(), seed, step, 4, (6, 6));
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn settings_out_of_their_range_are_refused_by_name() {
        let named = |probability, ratio| {
            let config = MaskConfig { probability, ratio };
            config.check().unwrap_err().to_string()
        };
        assert!(MaskConfig::default().check().is_ok());
        assert!(named(0.0, (0.1, 0.5)).contains("mask-sample-probability"));
        assert!(named(f64::NAN, (0.1, 0.5)).contains("mask-sample-probability"));
        assert!(named(0.5, (0.5, 0.1)).contains("mask-ratio"));
        assert!(named(0.5, (0.5, 1.1)).contains("mask-ratio"));
    }

    proptest! {
        #[test]
        fn any_grid_and_batch(
            seed in 0u64..1000,
            step in 0u64..1000,
            batch in 1usize..9,
            rows in 1usize..12,
            columns in 1usize..12,
            probability in 0.01f64..1.0,
            least in 0.0f64..1.0,
            range in 0.0f64..1.0,
        ) {
            let ratio = (least, least + (1.0 - least) * range);
            let config = MaskConfig { probability, ratio };
            let masks = StepMasks::draw(&config, seed, step, batch, (rows, columns));
            let patches = rows * columns;
            let masked = masks.views().iter().filter(|view| !view.is_empty()).count();
            let share = (probability * (2 * batch) as f64).round() as usize;
            prop_assert_eq!(masked, share.max(1));
            for view in masks.views().iter().filter(|view| !view.is_empty()) {
                prop_assert!(view.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(*view.last().unwrap() < patches);
                let least = ((ratio.0 * patches as f64) as usize).max(1);
                let most = ((ratio.1 * patches as f64) as usize).max(1);
                prop_assert!((least..=most).contains(&view.len()), "{} of {}", view.len(), patches);
            }
            // However the images are divided, the rows are those of the whole, and weights sum to the
            // share of masked views.
            let cut = batch / 2;
            let parts = [0..cut, cut..batch];
            prop_assert_eq!(
                parts.iter().map(|part| masks.count(part.clone())).sum::<usize>(),
                masks.total()
            );
            let mut weight = 0.0;
            for part in parts {
                let rows = masks.rows(part.clone(), patches);
                prop_assert_eq!(rows.len(), masks.count(part.clone()));
                prop_assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
                for row in rows {
                    let (view, place) = (row / patches, row % patches);
                    let images = part.len();
                    let of = (view / images) * batch + part.start + view % images;
                    prop_assert!(masks.views()[of].contains(&place));
                }
                weight += masks.weights(part).iter().map(|w| f64::from(*w)).sum::<f64>();
            }
            prop_assert!((weight - masked as f64 / (2 * batch) as f64).abs() < 1e-5);
        }
    }
}
