//! Label propagation from frame to frame by the similarity of patches.
//!
//! The protocol of the DINO paper (section 4.2.2), after Jabri et al., "Space-Time
//! Correspondence as a Contrastive Random Walk": each patch of a frame takes the mean label of its
//! most similar patches in the first frame and the preceding frames, within a neighbourhood of its
//! own position, weighted by exp(similarity / temperature). Nothing is trained.
//!
//! Features are `[N, D]` with the patches of a grid `h × w` row by row (`N = h · w`), labels
//! `[N, C]`: the share of each class in a patch.

use std::collections::VecDeque;

use dinolab_data::Size;
use dinolab_data::augment::bilinear::enlarge;
use dinolab_data::slice::{check_finite, check_length};
use rayon::prelude::*;

use crate::rows::products;
use crate::{Error, Result};

/// Adjacent patches compared together.
const TILE: usize = 16;

/// The settings of label propagation. The defaults are those of the reference implementation.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Propagation {
    /// Number of preceding context frames, in addition to the first.
    pub n_last_frames: usize,
    /// Radius of the neighbourhood in patches; 0 allows any position.
    pub size_mask_neighborhood: usize,
    /// Number of nearest patches that labels are propagated from; ties with the last are included.
    pub topk: usize,
    /// Divides the cosine similarity in the exponent; above 0.
    pub temperature: f64,
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            n_last_frames: 7,
            size_mask_neighborhood: 12,
            topk: 5,
            temperature: 0.1,
        }
    }
}

impl Propagation {
    fn validate(&self) -> Result<()> {
        if self.topk == 0 {
            return Err(Error::setting("topk", "must be at least 1"));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Error::setting(
                "temperature",
                format!("must be above 0, is {}", self.temperature),
            ));
        }
        Ok(())
    }
}

/// A frame whose labels are known.
#[derive(Clone, Debug)]
struct LabelledFrame {
    /// `[N, D]`, L2-normalised.
    features: Vec<f32>,
    /// `[N, C]`.
    labels: Vec<f32>,
}

/// Propagates labels from frame to frame. Holds the first frame and the last `n_last_frames`.
#[derive(Clone, Debug)]
pub struct Propagator {
    settings: Propagation,
    grid: (usize, usize),
    dim: usize,
    classes: usize,
    first: LabelledFrame,
    recent: VecDeque<LabelledFrame>,
}

impl Propagator {
    /// Starts with the features `[N, D]` and labels `[N, C]` of the first frame.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for settings out of range, [`Error::Slice`] for lengths that do not
    /// match the grid or features that are not finite.
    pub fn new(
        settings: Propagation,
        grid: (usize, usize),
        dim: usize,
        features: Vec<f32>,
        labels: Vec<f32>,
    ) -> Result<Self> {
        settings.validate()?;
        let patches = grid.0 * grid.1;
        if patches == 0 || dim == 0 {
            return Err(Error::invalid("features", "must not be empty"));
        }
        let classes = labels.len() / patches;
        check_length("labels", classes.max(1) * patches, labels.len())?;
        check_length("features", patches * dim, features.len())?;
        let features = normalised(features, dim)?;
        Ok(Self {
            settings,
            grid,
            dim,
            classes,
            first: LabelledFrame { features, labels },
            recent: VecDeque::new(),
        })
    }

    /// Returns the labels `[N, C]` of the next frame, given its features `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Slice`] for features of another length or that are not
    /// finite.
    pub fn next(&mut self, features: Vec<f32>) -> Result<Vec<f32>> {
        check_length("features", self.first.features.len(), features.len())?;
        let features = normalised(features, self.dim)?;
        let known: Vec<&LabelledFrame> = std::iter::once(&self.first).chain(&self.recent).collect();
        let mut labels = vec![0.0; self.first.labels.len()];
        labels
            .par_chunks_exact_mut(self.grid.1 * self.classes)
            .enumerate()
            .for_each(|(row, labels)| self.propagate_row(row, &features, &known, labels));
        if self.recent.len() == self.settings.n_last_frames {
            self.recent.pop_front();
        }
        if self.settings.n_last_frames > 0 {
            self.recent.push_back(LabelledFrame {
                features,
                labels: labels.clone(),
            });
        }
        Ok(labels)
    }

    /// Computes the labels `[w, C]` of one row of patches.
    fn propagate_row(
        &self,
        row: usize,
        queries: &[f32],
        known: &[&LabelledFrame],
        labels: &mut [f32],
    ) {
        let ((h, w), d) = (self.grid, self.dim);
        let reach = match self.settings.size_mask_neighborhood {
            0 => h.max(w),
            reach => reach,
        };
        let rows = row.saturating_sub(reach)..(row + reach + 1).min(h);
        let (mut transposed, mut similar) = (Vec::new(), Vec::new());
        for left in (0..w).step_by(TILE) {
            let right = (left + TILE).min(w);
            let q = right - left;
            transposed.resize(q * d, 0.0);
            for (i, query) in queries[(row * w + left) * d..]
                .chunks_exact(d)
                .take(q)
                .enumerate()
            {
                for (to, &value) in transposed[i..].iter_mut().step_by(q).zip(query) {
                    *to = value;
                }
            }
            let columns = left.saturating_sub(reach)..(right + reach).min(w);
            let mut best = vec![NearestPatches::new(self.settings.topk); q];
            for (frame, known) in known.iter().enumerate() {
                for y in rows.clone() {
                    let start = y * w + columns.start;
                    let keys = &known.features[start * d..][..columns.len() * d];
                    similar.resize(columns.len() * q, 0.0);
                    products(keys, &transposed, d, &mut similar);
                    for (x, similar) in columns.clone().zip(similar.chunks_exact(q)) {
                        for (i, (best, &similarity)) in best.iter_mut().zip(similar).enumerate() {
                            if x.abs_diff(left + i) <= reach {
                                best.offer(similarity, frame, y * w + x);
                            }
                        }
                    }
                }
            }
            for (i, best) in best.iter().enumerate() {
                let labels = &mut labels[(left + i) * self.classes..][..self.classes];
                best.mix(known, self.settings.temperature, labels);
            }
        }
    }
}

/// The `k` most similar patches in descending order, and all that tie with the last.
#[derive(Clone, Debug)]
struct NearestPatches {
    k: usize,
    /// Similarity, frame, patch.
    entries: Vec<(f32, usize, usize)>,
}

impl NearestPatches {
    fn new(k: usize) -> Self {
        Self {
            k,
            entries: Vec::with_capacity(k + 1),
        }
    }

    fn offer(&mut self, similarity: f32, frame: usize, patch: usize) {
        if self.entries.len() >= self.k && similarity < self.entries[self.k - 1].0 {
            return;
        }
        let at = self.entries.partition_point(|entry| entry.0 >= similarity);
        self.entries.insert(at, (similarity, frame, patch));
        if self.entries.len() > self.k {
            let least = self.entries[self.k - 1].0;
            let end = self.entries.partition_point(|entry| entry.0 >= least);
            self.entries.truncate(end);
        }
    }

    /// Adds the weighted mean of the patches' labels to `labels`.
    fn mix(&self, known: &[&LabelledFrame], temperature: f64, labels: &mut [f32]) {
        let greatest = self.entries[0].0;
        let weight = |similarity: f32| (f64::from(similarity - greatest) / temperature).exp();
        let sum: f64 = self.entries.iter().map(|entry| weight(entry.0)).sum();
        for &(similarity, frame, patch) in &self.entries {
            let share = (weight(similarity) / sum) as f32;
            let from = &known[frame].labels[patch * labels.len()..];
            for (label, &from) in labels.iter_mut().zip(from) {
                *label += share * from;
            }
        }
    }
}

/// Divides each row by its L2 norm; rows of zeros are unchanged.
fn normalised(mut features: Vec<f32>, dim: usize) -> Result<Vec<f32>> {
    check_finite("features", &features)?;
    features.par_chunks_exact_mut(dim).for_each(|row| {
        let square: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let scale = 1.0 / square.sqrt().max(1e-12);
        row.iter_mut()
            .for_each(|v| *v = (f64::from(*v) * scale) as f32);
    });
    Ok(features)
}

/// Returns the labels `[N, C]` of a mask of class numbers: each patch of `grid` has the class of
/// the pixel at its centre.
///
/// # Errors
/// [`Error::Slice`] for a mask that is not of `size`, [`Error::Invalid`] for a
/// class of `classes` or above.
pub fn labels_of_mask(
    mask: &[u8],
    size: Size,
    grid: (usize, usize),
    classes: usize,
) -> Result<Vec<f32>> {
    let small = resize_nearest(mask, (size.height, size.width), grid)?;
    let mut labels = vec![0.0; small.len() * classes];
    for (labels, &class) in labels.chunks_exact_mut(classes.max(1)).zip(&small) {
        match labels.get_mut(usize::from(class)) {
            Some(label) => *label = 1.0,
            None => {
                return Err(Error::invalid(
                    "mask",
                    format!("has a class {class}, there are {classes}"),
                ));
            }
        }
    }
    Ok(labels)
}

/// Converts the labels `[N, C]` of a grid to a mask of `size`.
///
/// The map of each class is enlarged bilinearly by `patch` and scaled to 0–1 unless it is 0
/// everywhere. Each pixel takes the class with the greatest value, the first of equals. The mask is
/// then resized to `size` by nearest neighbour.
///
/// # Errors
/// [`Error::Slice`] for labels that do not match the grid, [`Error::Invalid`] for more than 256
/// classes.
pub fn mask_of_labels(
    labels: &[f32],
    grid: (usize, usize),
    patch: usize,
    size: Size,
) -> Result<Vec<u8>> {
    let patches = grid.0 * grid.1;
    let classes = labels.len() / patches.max(1);
    check_length("labels", classes * patches, labels.len())?;
    if classes == 0 || classes > 256 {
        return Err(Error::invalid(
            "labels",
            format!("of {classes} classes; must be of 1–256"),
        ));
    }
    let large = (grid.0 * patch, grid.1 * patch);
    let maps = (0..classes).map(|class| {
        let map: Vec<f32> = labels
            .iter()
            .skip(class)
            .step_by(classes)
            .copied()
            .collect();
        stretched(enlarge(&map, grid, large))
    });
    let mut best = vec![f32::NEG_INFINITY; large.0 * large.1];
    let mut mask = vec![0u8; best.len()];
    for (class, map) in maps.enumerate() {
        for ((mask, best), value) in mask.iter_mut().zip(&mut best).zip(map) {
            if value > *best {
                (*best, *mask) = (value, class as u8);
            }
        }
    }
    resize_nearest(&mask, large, (size.height, size.width))
}

/// Scales a map so that its least value is 0 and its greatest 1, unless no value is above 0. Equal
/// values become 0.
fn stretched(mut map: Vec<f32>) -> Vec<f32> {
    let least = map.iter().copied().fold(f32::INFINITY, f32::min);
    let most = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most > 0.0 {
        let range = if most > least { most - least } else { 1.0 };
        map.iter_mut().for_each(|v| *v = (*v - least) / range);
    }
    map
}

/// Resizes by nearest neighbour: each target pixel takes the source pixel that its centre lies in,
/// as in Pillow.
fn resize_nearest(mask: &[u8], from: (usize, usize), to: (usize, usize)) -> Result<Vec<u8>> {
    check_length("mask", from.0 * from.1, mask.len())?;
    if mask.is_empty() {
        return Err(Error::invalid("mask", "is empty"));
    }
    let place = |i: usize, from: usize, to: usize| (2 * i + 1) * from / (2 * to);
    let mut out = Vec::with_capacity(to.0 * to.1);
    for y in 0..to.0 {
        let row = &mask[place(y, from.0, to.0) * from.1..][..from.1];
        out.extend((0..to.1).map(|x| row[place(x, from.1, to.1)]));
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
