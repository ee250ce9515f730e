//! From pixels of any kind to normalised planes.

use crate::decode::Pixels;
use crate::{Error, Image, Result};

use super::super::normalise::Normaliser;

/// Turns images of one kind into the planes `[C, H, W]` that a network sees: each channel's mean
/// is taken away, and what is left divided by its standard deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelNormaliser {
    pixels: Pixels,
    mean: Vec<f32>,
    std: Vec<f32>,
    /// For 8-bit RGB.
    tables: Option<Box<Normaliser>>,
}

impl ChannelNormaliser {
    /// For images of `pixels`, with a mean and a standard deviation for each channel, of values in
    /// 0–1.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for another number of them, or numbers that cannot be used.
    pub fn new(pixels: Pixels, mean: &[f32], std: &[f32]) -> Result<Self> {
        check(pixels, mean, std)?;
        let three = |values: &[f32]| <[f32; 3]>::try_from(values).ok();
        let tables = match (pixels, three(mean), three(std)) {
            (Pixels::Rgb, Some(mean), Some(std)) => Some(Box::new(Normaliser::new(mean, std)?)),
            _ => None,
        };
        Ok(Self {
            pixels,
            mean: mean.to_vec(),
            std: std.to_vec(),
            tables,
        })
    }

    /// The kind of images it takes.
    pub fn pixels(&self) -> Pixels {
        self.pixels
    }

    /// Planes `[C, H, W]` of an image, normalised.
    ///
    /// # Errors
    /// [`Error::BadImage`] for an image of another kind.
    pub fn planes(&self, image: &Image) -> Result<Vec<f32>> {
        if let Some(tables) = &self.tables {
            self.pixels.check(image)?;
            let mut planes = vec![0.0; image.data.len()];
            tables.apply(&image.data, &mut planes);
            return Ok(planes);
        }
        self.pixels.check(image)?;
        let mut planes = Vec::with_capacity(image.width * image.height * image.channels);
        for channel in 0..image.channels {
            planes.extend(image.plane(channel));
        }
        self.apply(&mut planes);
        Ok(planes)
    }

    /// Normalises planes `[C, H, W]` of numbers in 0–1 in place.
    pub fn apply(&self, planes: &mut [f32]) {
        let plane = (planes.len() / self.mean.len()).max(1);
        let statistics = self.mean.iter().zip(&self.std);
        for (plane, (mean, std)) in planes.chunks_exact_mut(plane).zip(statistics) {
            for value in plane {
                *value = (*value - mean) / std;
            }
        }
    }
}

/// Checks the numbers of [`ChannelNormaliser::new`].
pub(in crate::augment) fn check(pixels: Pixels, mean: &[f32], std: &[f32]) -> Result<()> {
    let channels = pixels.channels();
    for (field, values) in [("mean", mean), ("std", std)] {
        let reason = if values.len() != channels {
            format!("{} numbers for {channels} channels", values.len())
        } else if !values.iter().all(|value| value.is_finite()) {
            format!("must be finite numbers, not {values:?}")
        } else if field == "std" && !values.iter().all(|value| *value > 0.0) {
            format!("must be numbers above 0, not {values:?}")
        } else {
            continue;
        };
        return Err(Error::BadSetting { field, reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Pixels = Pixels::Stored { channels: 2 };

    #[test]
    fn by_channel() {
        let image = Image::sixteen(2, 1, 2, &[0, 65535, 65535, 0]);
        let normaliser = ChannelNormaliser::new(STORED, &[0.0, 0.5], &[0.5, 0.25]).unwrap();
        assert_eq!(normaliser.planes(&image).unwrap(), [0.0, 2.0, 2.0, -2.0]);
        assert!(normaliser.planes(&Image::new(2, 1, 3)).is_err());
    }

    #[test]
    fn rgb_goes_by_the_tables() {
        let image = Image::rgb(2, 1, vec![1, 2, 3, 250, 100, 7]);
        let (mean, std) = ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]);
        let mut expected = vec![0.0; 6];
        Normaliser::new(mean, std)
            .unwrap()
            .apply(&image.data, &mut expected);
        let normaliser = ChannelNormaliser::new(Pixels::Rgb, &mean, &std).unwrap();
        assert_eq!(normaliser.planes(&image).unwrap(), expected);
        let deep = Image::sixteen(2, 1, 3, &[0; 6]);
        assert!(normaliser.planes(&deep).is_err());
    }

    #[test]
    fn wrong_numbers_are_named() {
        for (mean, std, field) in [
            (&[0.0][..], &[1.0, 1.0][..], "mean"),
            (&[0.0, f32::NAN], &[1.0, 1.0], "mean"),
            (&[0.0, 0.0], &[1.0, 0.0], "std"),
            (&[0.0, 0.0], &[1.0, f32::INFINITY], "std"),
        ] {
            let error = ChannelNormaliser::new(STORED, mean, std).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }
}
