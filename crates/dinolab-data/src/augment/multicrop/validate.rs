//! Ranges of the settings.

use super::MultiCrop;
use crate::augment::multichannel;
use crate::size::MAX_SIDE;
use crate::{Error, Result};

const MAX_VIEWS: usize = 1 << 10;
const MAX_CHANGE: f64 = 10.0;
const MAX_BLUR: f64 = 100.0;

impl MultiCrop {
    /// Checks every setting's range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(Error::BadSetting { field, reason });
        for (field, size, used) in [
            ("global-crops-size", self.global_size, true),
            ("local-crops-size", self.local_size, self.local_views > 0),
        ] {
            if used && !size.is_usable() {
                return bad(
                    field,
                    format!("must be between 1 and {MAX_SIDE}, not {size}"),
                );
            }
        }
        if self.local_views > MAX_VIEWS {
            let reason = format!("must be at most {MAX_VIEWS}, not {}", self.local_views);
            return bad("local-crops-number", reason);
        }
        for (field, (low, high)) in [
            ("global-crops-scale", self.global_scale),
            ("local-crops-scale", self.local_scale),
        ] {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                return bad(
                    field,
                    format!("must be two numbers with 0 < low <= high <= 1, not {low},{high}"),
                );
            }
        }
        let probabilities = [
            ("flip-probability", &[self.flip_probability][..]),
            ("jitter-probability", &[self.jitter_probability]),
            ("greyscale-probability", &[self.greyscale_probability]),
            ("blur-probability", &self.blur_probability),
            ("solarise-probability", &self.solarise_probability),
        ];
        for (field, values) in probabilities {
            if let Some(p) = values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
                return bad(field, format!("must be between 0 and 1, not {p}"));
            }
        }
        for (field, value, most) in [
            ("brightness", self.brightness, MAX_CHANGE),
            ("contrast", self.contrast, MAX_CHANGE),
            ("saturation", self.saturation, MAX_CHANGE),
            ("hue", self.hue, 0.5),
        ] {
            if !(0.0..=most).contains(&value) {
                return bad(field, format!("must be between 0 and {most}, not {value}"));
            }
        }
        let (low, high) = self.blur_radius;
        if !(low >= 0.0 && low <= high && high <= MAX_BLUR) {
            let reason = format!(
                "must be two numbers with 0 <= low <= high <= {MAX_BLUR}, not {low},{high}"
            );
            return bad("blur-radius", reason);
        }
        if self
            .blur_side
            .is_some_and(|side| !(side >= 1.0 && side.is_finite()))
        {
            let reason = format!("must be at least 1, not {:?}", self.blur_side);
            return bad("blur-crop-size", reason);
        }
        multichannel::normalise::check(self.pixels, &self.mean, &self.std)
    }

    /// Checks settings and the buffers that shall hold all views.
    pub(in crate::augment) fn check_buffers(&self, global: &[f32], local: &[f32]) -> Result<()> {
        self.validate()?;
        for (field, is, expected) in [
            ("global", global.len(), self.global_len()),
            ("local", local.len(), self.local_len()),
        ] {
            if is != expected {
                let reason = format!("the buffer must hold {expected} values, not {is}");
                return Err(Error::BadSetting { field, reason });
            }
        }
        Ok(())
    }
}
