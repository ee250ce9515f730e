//! Options of the built-in set: the difficulty of its images.

use crate::{Error, Result};

/// How hard the images are.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapesOptions {
    /// Side of the images in pixels, 16–4096.
    pub size: usize,
    /// Least and greatest length of the object's longer side, as shares of the image's side, 0.1–1.
    pub object: (f64, f64),
    /// Greatest tilt of the object to either side, in degrees, 0–180.
    pub rotation: f64,
    /// Mean number of clutter fragments, 0–64.
    pub clutter: f64,
    /// Probability that something covers part of the object, 0–1.
    pub occlusion: f64,
    /// How far the two tones of the object's coat lie apart, 0–1; at 1 one of them is near the
    /// ground's.
    pub texture: f64,
    /// How strongly the ground's texture varies, 0–1.
    pub background: f64,
    /// Probability that the object wears the pattern of its kind rather than any, 0–1.
    pub coat: f64,
    /// Probability that the ground has a regular pattern rather than irregular grain, 0–1.
    pub patterned: f64,
    /// Strength of the colours, 0 (grey) to 1; their hues drift across each image.
    pub colour: f64,
    /// Range of the grounds' mean luminance around middle grey, 0–0.5.
    pub light: f64,
    /// Standard deviation of the pixel noise, in grey levels of 255, 0–64.
    pub noise: f64,
    /// Least difference in mean luminance between object and ground, 0.05–0.45 of the full range.
    pub contrast: f64,
}

impl Default for ShapesOptions {
    fn default() -> Self {
        Self {
            size: 64,
            object: (0.5, 0.9),
            rotation: 20.0,
            clutter: 2.0,
            occlusion: 0.1,
            texture: 1.0,
            background: 0.5,
            coat: 1.0,
            patterned: 0.0,
            colour: 0.25,
            light: 0.04,
            noise: 5.0,
            contrast: 0.25,
        }
    }
}

impl ShapesOptions {
    pub(super) fn check(&self) -> Result<()> {
        let in_range = |field: &'static str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::BadSetting {
                field,
                reason: format!("must lie between {low} and {high}, not {value}"),
            })
        };
        in_range("shapes size", self.size as f64, 16.0, 4096.0)?;
        in_range("shapes object", self.object.0, 0.1, 1.0)?;
        in_range("shapes object", self.object.1, self.object.0, 1.0)?;
        in_range("shapes rotation", self.rotation, 0.0, 180.0)?;
        in_range("shapes clutter", self.clutter, 0.0, 64.0)?;
        in_range("shapes occlusion", self.occlusion, 0.0, 1.0)?;
        in_range("shapes texture", self.texture, 0.0, 1.0)?;
        in_range("shapes background", self.background, 0.0, 1.0)?;
        in_range("shapes coat", self.coat, 0.0, 1.0)?;
        in_range("shapes patterned", self.patterned, 0.0, 1.0)?;
        in_range("shapes colour", self.colour, 0.0, 1.0)?;
        in_range("shapes light", self.light, 0.0, 0.5)?;
        in_range("shapes noise", self.noise, 0.0, 64.0)?;
        in_range("shapes contrast", self.contrast, 0.05, 0.45)
    }
}
