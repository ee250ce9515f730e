//! Patch features as colours: their first three principal components as red, green and blue.
//!
//! Similar patches get similar colours. If several images share the components, their colours can
//! be compared. Optionally the first component separates foreground from background, and the
//! colours are the foreground's own components (as in the DINOv2 paper, Oquab et al. 2023,
//! figure 1).

use dinolab_data::slice::check_length;
use dinolab_eval::pca::Pca;
use dinolab_eval::whitening::CovarianceAccumulator;

use crate::error::Result;

/// Fraction of the values at either end that is clipped.
const TAIL: f64 = 0.01;
/// Bins of the histogram for the threshold between foreground and background.
const BINS: usize = 256;

/// The colours of the patches of one image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PatchColours {
    /// Rows and columns of patches, `(h, w)`.
    pub grid: (usize, usize),
    /// `[h · w, 3]` in 0–1; 0 in the background.
    pub colours: Vec<f32>,
    /// Whether each patch is foreground, `[h · w]`; all are unless separation was requested.
    pub foreground: Vec<bool>,
}

/// Takes the patch features `[h · w, D]` and the grid `(h, w)` of an image.
pub(super) type PatchVisitor<'a> = dyn FnMut(&[f32], (usize, usize)) -> Result<()> + 'a;

/// Patch features of several images, visited repeatedly and always in the same order.
pub(super) trait PatchSource {
    /// Calls `visitor` once per image.
    ///
    /// # Errors
    /// The errors of `visitor`, and of computing features.
    fn visit(&mut self, visitor: &mut PatchVisitor<'_>) -> Result<()>;
}

/// Images whose features are in memory.
impl PatchSource for [(Vec<f32>, (usize, usize))] {
    fn visit(&mut self, visitor: &mut PatchVisitor<'_>) -> Result<()> {
        self.iter()
            .try_for_each(|(rows, grid)| visitor(rows, *grid))
    }
}

/// Returns the colours of all images by components that they share; features have width `dim`.
///
/// Images are visited twice, four times with `foreground`, and only their colours are kept. Each
/// component is scaled so that 98% of the patches lie between 0 and 1.
///
/// With `foreground`, the first component is split by Otsu's threshold, and the part that is rarer
/// along the borders of the images is the foreground.
///
/// # Errors
/// No images; features of the wrong length or that are not finite; what images give.
pub(super) fn patch_colours<P: PatchSource + ?Sized>(
    images: &mut P,
    dim: usize,
    foreground: bool,
) -> Result<Vec<PatchColours>> {
    let mut covariance = CovarianceAccumulator::new(dim);
    images.visit(&mut |rows, grid| {
        check_length("features", grid.0 * grid.1 * dim, rows.len())?;
        Ok(covariance.add(rows)?)
    })?;
    let mut masks: Vec<Vec<bool>> = Vec::new();
    if foreground {
        let first = Pca::of(&covariance, 1)?;
        let mut along: Vec<(Vec<f32>, (usize, usize))> = Vec::new();
        images.visit(&mut |rows, grid| {
            along.push((first.project(rows)?, grid));
            Ok(())
        })?;
        masks = split(&along);
        covariance = CovarianceAccumulator::new(dim);
        let mut number = 0;
        images.visit(&mut |rows, _| {
            let inside = rows.chunks_exact(dim).zip(&masks[number]);
            let kept: Vec<f32> = inside
                .filter(|(_, inside)| **inside)
                .flat_map(|(row, _)| row.iter().copied())
                .collect();
            number += 1;
            Ok(covariance.add(&kept)?)
        })?;
    }
    let pca = Pca::of(&covariance, 3)?;
    let mut out: Vec<PatchColours> = Vec::new();
    images.visit(&mut |rows, grid| {
        let found = pca.variances.len();
        let mut colours = Vec::with_capacity(grid.0 * grid.1 * 3);
        for row in pca.project(rows)?.chunks_exact(found) {
            colours.extend((0..3).map(|channel| row.get(channel).copied().unwrap_or(0.0)));
        }
        let foreground = match foreground {
            true => masks[out.len()].clone(),
            false => vec![true; grid.0 * grid.1],
        };
        out.push(PatchColours {
            grid,
            colours,
            foreground,
        });
        Ok(())
    })?;
    stretch(&mut out);
    Ok(out)
}

/// Scales each channel to 0–1 over all images, and sets the background to 0.
fn stretch(pictures: &mut [PatchColours]) {
    for channel in 0..3 {
        let mut values: Vec<f32> = pictures
            .iter()
            .flat_map(|p| p.colours.chunks_exact(3).zip(&p.foreground))
            .filter(|(_, inside)| **inside)
            .map(|(colour, _)| colour[channel])
            .collect();
        if values.is_empty() {
            continue;
        }
        values.sort_by(f32::total_cmp);
        let last = (values.len() - 1) as f64;
        let at = |share: f64| values[(share * last).round() as usize];
        let (low, high) = (at(TAIL), at(1.0 - TAIL));
        for picture in pictures.iter_mut() {
            for (colour, &inside) in picture.colours.chunks_exact_mut(3).zip(&picture.foreground) {
                colour[channel] = match inside {
                    false => 0.0,
                    true if high > low => ((colour[channel] - low) / (high - low)).clamp(0.0, 1.0),
                    true => 0.5,
                };
            }
        }
    }
}

/// Separates foreground and background of all images by one value per patch.
fn split(pictures: &[(Vec<f32>, (usize, usize))]) -> Vec<Vec<bool>> {
    let all: Vec<f32> = pictures.iter().flat_map(|p| p.0.iter().copied()).collect();
    let threshold = otsu(&all);
    let (mut border, mut above) = (0usize, 0usize);
    for (values, (h, w)) in pictures {
        for (i, &value) in values.iter().enumerate() {
            let (y, x) = (i / w, i % w);
            if y == 0 || x == 0 || y + 1 == *h || x + 1 == *w {
                border += 1;
                above += usize::from(value > threshold);
            }
        }
    }
    // Compare fractions, not counts: the foreground may be large.
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    let total = all.iter().filter(|&&v| v > threshold).count();
    let upper_is_foreground = share(above, total) <= share(border - above, all.len() - total);
    // If all values are equal, everything is foreground.
    let all_alike = total == 0;
    pictures
        .iter()
        .map(|(values, _)| {
            values
                .iter()
                .map(|&v| all_alike || (v > threshold) == upper_is_foreground)
                .collect()
        })
        .collect()
}

/// Returns the threshold that maximises the variance between the two parts (Otsu 1979), to a 256th
/// of the range of values.
fn otsu(values: &[f32]) -> f32 {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most <= least {
        return least;
    }
    let step = (most - least) / BINS as f32;
    let mut bins = [(0usize, 0.0f64); BINS];
    for &value in values {
        let bin = (((value - least) / step) as usize).min(BINS - 1);
        bins[bin].0 += 1;
        bins[bin].1 += f64::from(value);
    }
    let (count, sum) = bins
        .iter()
        .fold((0, 0.0), |(n, s), bin| (n + bin.0, s + bin.1));
    let (mut below, mut below_sum) = (0, 0.0);
    let (mut best, mut threshold) = (f64::NEG_INFINITY, least);
    for (bin, &(n, s)) in bins.iter().enumerate().take(BINS - 1) {
        below += n;
        below_sum += s;
        if below == 0 || below == count {
            continue;
        }
        let (a, b) = (below as f64, (count - below) as f64);
        let between = a * b * ((sum - below_sum) / b - below_sum / a).powi(2);
        if between > best {
            (best, threshold) = (between, least + (bin + 1) as f32 * step);
        }
    }
    threshold
}

#[cfg(test)]
mod tests {
    use dinolab_nn::init::Init;

    use super::*;

    #[test]
    fn like_patches_have_like_colours_across_pictures() {
        let parts = [
            [1.0f32, 0.0, 0.0, 0.0],
            [0.0, 2.0, 0.0, 0.0],
            [0.0, 0.0, 3.0, 0.0],
        ];
        let picture =
            |order: &[usize]| -> Vec<f32> { order.iter().flat_map(|&part| parts[part]).collect() };
        let mut pictures = [
            (picture(&[0, 1, 2, 0, 1, 2]), (2, 3)),
            (picture(&[2, 2, 1, 0]), (4, 1)),
        ];
        let found = patch_colours(&mut pictures[..], 4, false).unwrap();
        let colour = |picture: usize, patch: usize| &found[picture].colours[patch * 3..][..3];
        assert_eq!((found[0].grid, found[1].grid), ((2, 3), (4, 1)));
        assert_eq!(colour(0, 2), colour(1, 0));
        assert_eq!(colour(0, 0), colour(1, 3));
        assert_ne!(colour(0, 0), colour(0, 1));
        assert!(found[0].foreground.iter().all(|&f| f));
        let all = found.iter().flat_map(|p| &p.colours);
        assert!(all.clone().all(|v| (0.0..=1.0).contains(v)));
        assert!(patch_colours(&mut pictures[..0], 4, false).is_err());
        assert!(patch_colours(&mut pictures[..], 3, false).is_err());
        // Nothing to tell apart is grey.
        let mut flat = [(vec![1.0f32; 8], (1, 2))];
        let grey = patch_colours(&mut flat[..], 4, false).unwrap();
        assert_eq!(grey[0].colours, [0.5; 6]);
        let grey = patch_colours(&mut flat[..], 4, true).unwrap();
        assert_eq!(grey[0].foreground, [true; 2]);
    }

    #[test]
    fn the_foreground_keeps_from_the_border() {
        let (h, w, d) = (8, 9, 5);
        let inside = |i: usize| (2..6).contains(&(i / w)) && (3..7).contains(&(i % w));
        let mut rows = Init::new(3).truncated_normal(h * w * d, 0.05);
        for (i, row) in rows.chunks_exact_mut(d).enumerate() {
            row[1] += if inside(i) { -4.0 } else { 4.0 };
        }
        let mut pictures = [(rows, (h, w))];
        let found = patch_colours(&mut pictures[..], d, true).unwrap();
        for i in 0..h * w {
            assert_eq!(found[0].foreground[i], inside(i), "patch {i}");
            let dark = found[0].colours[i * 3..][..3] == [0.0; 3];
            assert!(inside(i) || dark);
        }
    }
}
