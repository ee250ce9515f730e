//! Rotary position embeddings of patches by their place in the image (DINOv3, arXiv 2508.10104).

use dinolab_kernels::Rotation;

use crate::{Error, Result};

/// The base of the frequencies that DINOv3 has.
pub const ROPE_THETA: f64 = 100.0;

/// Axial rotary position embeddings in place of learned ones.
///
/// A patch has coordinates from −1 to 1 along each axis, whatever the image's size. A quarter of each
/// head's angles, of falling frequency `1 / theta^(4i / w)`, belongs to the row's coordinate, another to
/// the column's. While a network learns, the coordinates are moved at random.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rope {
    /// Base of the frequencies, above 1.
    pub theta: f64,
    /// Coordinates of an axis are shifted by up to this, either way; 0 for none.
    #[serde(default)]
    pub shift: f64,
    /// Those of an axis are multiplied by between `1 / jitter` and `jitter`; 1 for none.
    #[serde(default = "one")]
    pub jitter: f64,
    /// Those of both axes are multiplied by between `1 / rescale` and `rescale`; 1 for none.
    #[serde(default = "one")]
    pub rescale: f64,
}

fn one() -> f64 {
    1.0
}

/// Frequencies of DINOv3, whose coordinates are not moved.
impl Default for Rope {
    fn default() -> Self {
        Self {
            theta: ROPE_THETA,
            shift: 0.0,
            jitter: 1.0,
            rescale: 1.0,
        }
    }
}

/// A change of the coordinates of an image's patches: `scale · (coordinate + shift)` of rows and of
/// columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoordinateChange {
    /// Added first.
    pub shift: [f64; 2],
    /// Multiplies the sum.
    pub scale: [f64; 2],
}

impl Rope {
    /// Checks the ranges, for heads of width `head_width`.
    ///
    /// # Errors
    /// [`Error::BadSetting`].
    pub(crate) fn check(&self, head_width: usize) -> Result<()> {
        let bad = |field, reason: String| Err(Error::BadSetting { field, reason });
        if !head_width.is_multiple_of(4) {
            let reason =
                format!("rotary positions need heads of a width that 4 divides, not {head_width}");
            return bad("heads", reason);
        }
        if !(self.theta > 1.0 && self.theta.is_finite()) {
            return bad("rope-theta", format!("{} is not above 1", self.theta));
        }
        if !(self.shift >= 0.0 && self.shift.is_finite()) {
            return bad("rope-shift", format!("{} is below 0", self.shift));
        }
        for (field, value) in [("rope-jitter", self.jitter), ("rope-rescale", self.rescale)] {
            if !(value >= 1.0 && value.is_finite()) {
                return bad(field, format!("{value} is below 1"));
            }
        }
        Ok(())
    }

    /// The change of coordinates made of five numbers of 0–1: a shift of rows and of columns, a factor
    /// of each and one of both; `None` for a network whose coordinates are not moved.
    pub fn change(&self, mut uniform: impl FnMut() -> f64) -> Option<CoordinateChange> {
        if self.shift == 0.0 && self.jitter == 1.0 && self.rescale == 1.0 {
            return None;
        }
        let mut either = || 2.0 * uniform() - 1.0;
        let shift = [(); 2].map(|()| either() * self.shift);
        let jitter = [(); 2].map(|()| (either() * self.jitter.ln()).exp());
        let rescale = (either() * self.rescale.ln()).exp();
        Some(CoordinateChange {
            shift,
            scale: jitter.map(|jitter| jitter * rescale),
        })
    }

    /// The frequencies of a head of width `head_width`, `head_width / 4` of them, in turns per unit of a
    /// coordinate.
    pub(crate) fn frequencies(&self, head_width: usize) -> Vec<f64> {
        let count = head_width / 4;
        let exponents = (0..count).map(|i| i as f64 / count as f64);
        exponents.map(|e| self.theta.powf(-e)).collect()
    }

    /// Cosines and sines `[h·w, head_width]` of the patches of an image, row by row, as
    /// [`Rotation::new`] takes them.
    pub(crate) fn table(
        &self,
        head_width: usize,
        h: usize,
        w: usize,
        change: Option<CoordinateChange>,
    ) -> Vec<f32> {
        let frequencies = self.frequencies(head_width);
        let angles = |axis: usize, count: usize| -> Vec<Vec<f64>> {
            let coordinates = (0..count).map(|i| {
                let plain = (2 * i + 1) as f64 / count as f64 - 1.0;
                match change {
                    None => plain,
                    Some(change) => change.scale[axis] * (plain + change.shift[axis]),
                }
            });
            let turn = 2.0 * std::f64::consts::PI;
            coordinates
                .map(|c| frequencies.iter().map(|f| turn * c * f).collect())
                .collect()
        };
        let (rows, columns) = (angles(0, h), angles(1, w));
        let mut table = Vec::with_capacity(h * w * head_width);
        for row in &rows {
            for column in &columns {
                let both = || row.iter().chain(column);
                table.extend(both().map(|angle| angle.cos() as f32));
                table.extend(both().map(|angle| angle.sin() as f32));
            }
        }
        table
    }
}

/// Gathers the rotation of images of several sizes, one after the other.
#[derive(Debug, Default)]
pub(crate) struct RotationBuilder {
    table: Vec<f32>,
    places: Vec<u32>,
}

impl RotationBuilder {
    /// Adds `images` images: `prefix` tokens without a place, then the patches of `table`, or those that
    /// are `kept` of them, `[images · M]`.
    pub(crate) fn add(
        &mut self,
        head_width: usize,
        table: Vec<f32>,
        images: usize,
        prefix: usize,
        kept: Option<&[usize]>,
    ) {
        let first = self.table.len() / head_width;
        let all: Vec<usize> = match kept {
            Some(_) => Vec::new(),
            None => (0..table.len() / head_width).collect(),
        };
        self.table.extend(table);
        for image in 0..images {
            let places = match kept {
                None => &all,
                Some(kept) => &kept[image * kept.len() / images..][..kept.len() / images],
            };
            self.places
                .extend(std::iter::repeat_n(Rotation::NOWHERE, prefix));
            self.places
                .extend(places.iter().map(|place| (first + place) as u32));
        }
    }

    /// The rotation of all.
    pub(crate) fn finish(self, head_width: usize) -> Rotation {
        Rotation::new(head_width, self.table, self.places)
    }
}
