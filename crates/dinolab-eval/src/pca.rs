//! Patch features as colours: their first three principal components are red, green and blue.
//!
//! Patches of like features get like colours. Over several pictures at once the colours can be
//! compared between them. Optionally the first component parts the foreground from the
//! background, and the colours are those of the foreground's own components (as in the
//! DINOv2 paper, Oquab et al. 2023, figure 1).

use nalgebra::SymmetricEigen;

use crate::error::check_length;
use crate::moments::Moments;
use crate::{Error, Result};

/// Share of the values at either end that the stretch to 0–255 leaves out.
const TAIL: f64 = 0.01;
/// Steps of the threshold between foreground and background.
const BINS: usize = 256;

/// Principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// `[D]`.
    pub mean: Vec<f64>,
    /// `[K, D]`, each of length 1, of falling variance.
    pub components: Vec<f64>,
    /// Variance along each component, `[K]`.
    pub variances: Vec<f64>,
}

impl Pca {
    /// The first `k` principal components of what was summed (fewer where rows are narrower).
    ///
    /// # Errors
    /// No rows.
    pub fn of(moments: &Moments, k: usize) -> Result<Self> {
        if moments.count() == 0 {
            return Err(Error::invalid("features", "there are none"));
        }
        let eigen = SymmetricEigen::new(moments.covariance());
        let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let mut components = Vec::new();
        let mut variances = Vec::new();
        for &index in order.iter().take(k) {
            let column = eigen.eigenvectors.column(index);
            // An eigenvector has no sign of its own: its greatest entry is to be positive.
            let greatest = column
                .iter()
                .copied()
                .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            components.extend(column.iter().map(|v| v * greatest.signum()));
            variances.push(eigen.eigenvalues[index].max(0.0));
        }
        Ok(Self {
            mean: moments.mean(),
            components,
            variances,
        })
    }

    /// Rows `[N, D]` along the components: `[N, K]`.
    ///
    /// # Errors
    /// A length that is no multiple of `D`.
    pub fn project(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let dim = self.mean.len();
        check_length("features", rows.len() / dim * dim, rows.len())?;
        let mut out = Vec::with_capacity(rows.len() / dim * self.variances.len());
        for row in rows.chunks_exact(dim) {
            out.extend(self.components.chunks_exact(dim).map(|component| {
                let along = row.iter().zip(&self.mean).zip(component);
                along
                    .map(|((&v, m), c)| (f64::from(v) - m) * c)
                    .sum::<f64>() as f32
            }));
        }
        Ok(out)
    }
}

/// The patches of one picture in colour.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchColours {
    /// Rows and columns of patches, `(h, w)`.
    pub grid: (usize, usize),
    /// `[h · w, 3]`, 0–1; 0 in the background.
    pub colours: Vec<f32>,
    /// Which patches are foreground, `[h · w]`; all where that was not asked for.
    pub foreground: Vec<bool>,
}

/// Takes the patch features `[h · w, D]` and the grid `(h, w)` of a picture.
pub type Each<'a> = dyn FnMut(&[f32], (usize, usize)) -> Result<()> + 'a;

/// Calls a function with the patch features `[h · w, D]` and the grid `(h, w)` of each picture,
/// always in the same order.
pub trait Pictures {
    /// One pass over all pictures.
    ///
    /// # Errors
    /// What `each` gives, and what hinders a picture.
    fn pass(&mut self, each: &mut Each<'_>) -> Result<()>;
}

/// Pictures whose features are in memory.
impl Pictures for [(Vec<f32>, (usize, usize))] {
    fn pass(&mut self, each: &mut Each<'_>) -> Result<()> {
        self.iter().try_for_each(|(rows, grid)| each(rows, *grid))
    }
}

/// Colours of all `pictures` of features of width `dim`, by components that they share.
///
/// Pictures are passed over two times, four with `foreground`, and only their colours are kept.
/// Each component is stretched so that 98 % of the patches lie between 0 and 1.
///
/// With `foreground`, the first component is cut in two where the halves differ most (Otsu's
/// threshold), and the half that is rarer along the borders of the pictures is the foreground.
///
/// # Errors
/// No pictures; features that do not fit or are not finite.
pub fn patch_colours<P: Pictures + ?Sized>(
    pictures: &mut P,
    dim: usize,
    foreground: bool,
) -> Result<Vec<PatchColours>> {
    let mut moments = Moments::new(dim);
    pictures.pass(&mut |rows, grid| {
        check_length("features", grid.0 * grid.1 * dim, rows.len())?;
        moments.add(rows)
    })?;
    let mut masks: Vec<Vec<bool>> = Vec::new();
    if foreground {
        let first = Pca::of(&moments, 1)?;
        let mut along: Vec<(Vec<f32>, (usize, usize))> = Vec::new();
        pictures.pass(&mut |rows, grid| {
            along.push((first.project(rows)?, grid));
            Ok(())
        })?;
        masks = split(&along);
        moments = Moments::new(dim);
        let mut number = 0;
        pictures.pass(&mut |rows, _| {
            let inside = rows.chunks_exact(dim).zip(&masks[number]);
            let kept: Vec<f32> = inside
                .filter(|(_, inside)| **inside)
                .flat_map(|(row, _)| row.iter().copied())
                .collect();
            number += 1;
            moments.add(&kept)
        })?;
    }
    let pca = Pca::of(&moments, 3)?;
    let mut out: Vec<PatchColours> = Vec::new();
    pictures.pass(&mut |rows, grid| {
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

/// Brings each channel to 0–1 over all pictures, and the background to 0.
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

/// Foreground of all pictures by one value per patch.
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
    // Compare shares, not numbers: the foreground may be large.
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    let total = all.iter().filter(|&&v| v > threshold).count();
    let upper_is_foreground = share(above, total) <= share(border - above, all.len() - total);
    // Values that are all the same have no foreground: then all is.
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

/// The threshold that parts values so that the two means are as far apart as can be for the
/// sizes of the parts (Otsu 1979), to a 256th of their range.
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
    use super::*;

    /// Values without a pattern, −0.5 to 0.5.
    fn noise(count: usize, mut state: u64) -> Vec<f32> {
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    #[test]
    fn components_by_hand() {
        // Points on the line through (1000, 2) along (3, 4) / 5.
        let rows: Vec<f32> = [-2.0f32, -1.0, 0.0, 1.0, 2.0]
            .iter()
            .flat_map(|t| [1000.0 + 3.0 * t, 2.0 + 4.0 * t])
            .collect();
        let mut moments = Moments::new(2);
        moments.add(&rows[..4]).unwrap();
        moments.add(&rows[4..]).unwrap();
        let pca = Pca::of(&moments, 3).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(pca.mean[0], 1000.0);
        near(pca.mean[1], 2.0);
        near(pca.components[0], 0.6);
        near(pca.components[1], 0.8);
        near(pca.variances[0], 50.0);
        near(pca.variances[1], 0.0);
        let along = pca.project(&rows).unwrap();
        near(f64::from(along[0]), -10.0);
        near(f64::from(along[8]), 10.0);
        assert!(Pca::of(&Moments::new(2), 1).is_err());
        assert!(moments.add(&rows[..3]).is_err());
        assert!(moments.add(&[f32::NAN, 0.0]).is_err());
    }

    #[test]
    fn components_are_orthonormal_and_decorrelate() {
        let (n, d) = (700, 9);
        let mut rows = noise(n * d, 7);
        for row in rows.chunks_exact_mut(d) {
            row[0] = 3.0 * row[0] + row[1];
            row[2] = 2.0 * row[2] + 5.0;
        }
        let mut moments = Moments::new(d);
        moments.add(&rows).unwrap();
        let pca = Pca::of(&moments, 3).unwrap();
        for (i, a) in pca.components.chunks(d).enumerate() {
            for (j, b) in pca.components.chunks(d).enumerate() {
                let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
        let along = pca.project(&rows).unwrap();
        for i in 0..3 {
            for j in 0..3 {
                let pairs = along.chunks(3).map(|r| f64::from(r[i]) * f64::from(r[j]));
                let expected = if i == j { pca.variances[i] } else { 0.0 };
                assert!((pairs.sum::<f64>() / n as f64 - expected).abs() < 1e-4);
            }
        }
        assert!(pca.variances.windows(2).all(|w| w[0] >= w[1]));
    }

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
        let mut rows = noise(h * w * d, 3);
        for (i, row) in rows.chunks_exact_mut(d).enumerate() {
            row.iter_mut().for_each(|v| *v *= 0.2);
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
