//! 8-bit RGB pictures.

use dinolab_data::Image;
use dinolab_data::slice::check_length;

use crate::Result;

/// An 8-bit RGB picture: `data[(y * width + x) * 3 + c]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height × width × 3` values, 0–255 (sRGB).
    pub data: Vec<u8>,
}

impl Rgb {
    /// Returns a picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            data: colour.repeat(width * height),
        }
    }

    /// Wraps the given pixels.
    ///
    /// # Errors
    /// [`Error::Slice`](crate::Error::Slice) unless there are `width × height × 3` values.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self> {
        check_length("picture", width * height * 3, data.len())?;
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// Converts an image. One that is not 8-bit RGB is shown in false colours: its first three
    /// channels as red, green and blue (the first as grey if there are fewer than three), each
    /// stretched from its 2nd to its 98th percentile.
    ///
    /// # Errors
    /// [`Error::Slice`](crate::Error::Slice) for an image whose data does not match its size.
    pub fn from_image(image: &Image) -> Result<Self> {
        let data = match image.is_rgb() {
            true => image.data.clone(),
            false => false_colours(image),
        };
        Self::new(image.width, image.height, data)
    }

    /// Returns the colour at column `x`, row `y`.
    ///
    /// # Panics
    /// Outside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width, "column {x} of {}", self.width);
        let at = (y * self.width + x) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }

    /// Copies `tile` to column `x`, row `y` (its upper left corner), clipped to the picture.
    pub fn paste(&mut self, tile: &Rgb, x: usize, y: usize) {
        let columns = tile.width.min(self.width.saturating_sub(x));
        if columns == 0 {
            return;
        }
        for row in 0..tile.height.min(self.height.saturating_sub(y)) {
            let to = ((y + row) * self.width + x) * 3;
            let from = row * tile.width * 3;
            self.data[to..to + columns * 3].copy_from_slice(&tile.data[from..from + columns * 3]);
        }
    }
}

fn false_colours(image: &Image) -> Vec<u8> {
    let shown = [0, 1, 2].map(|c| if image.channels < 3 { 0 } else { c });
    let planes = shown.map(|channel| {
        let plane = image.plane(channel);
        let mut sorted = plane.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |share: usize| sorted[(sorted.len() - 1) * share / 100];
        let (low, high) = (at(2), at(98));
        let scale = 255.0 / (high - low).max(f32::MIN_POSITIVE);
        plane
            .iter()
            .map(|v| ((v - low) * scale).clamp(0.0, 255.0).round() as u8)
            .collect::<Vec<u8>>()
    });
    let [red, green, blue] = &planes;
    let pixels = red.iter().zip(green).zip(blue);
    pixels.flat_map(|((r, g), b)| [*r, *g, *b]).collect()
}

/// Blends `colour` into an RGB pixel with opacity `alpha` (0–1).
pub(crate) fn blend(pixel: &mut [u8], colour: [u8; 3], alpha: f32) {
    let alpha = alpha.clamp(0.0, 1.0);
    for (p, c) in pixel.iter_mut().zip(colour) {
        let old = f32::from(*p);
        *p = (old + alpha * (f32::from(c) - old)).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paste_clips_to_the_picture() {
        let tile = Rgb::filled(2, 2, [1; 3]);
        let mut small = Rgb::filled(2, 2, [0; 3]);
        small.paste(&tile, 1, 1);
        assert_eq!((small.pixel(1, 1), small.pixel(0, 1)), ([1; 3], [0; 3]));
        small.paste(&tile, 5, 5);
        assert!(Rgb::new(2, 2, vec![0; 11]).is_err());
    }

    #[test]
    fn other_images_are_shown_in_false_colours() {
        let rgb = Image::rgb(2, 1, vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(Rgb::from_image(&rgb).unwrap().data, rgb.data);
        let grey = Image {
            data: (0..101).collect(),
            ..Image::new(101, 1, 1)
        };
        let shown = Rgb::from_image(&grey).unwrap();
        // The 2nd and the 98th percentile become black and white.
        assert_eq!((shown.pixel(2, 0), shown.pixel(98, 0)), ([0; 3], [255; 3]));
        assert_eq!((shown.pixel(0, 0), shown.pixel(100, 0)), ([0; 3], [255; 3]));
        assert_eq!(shown.pixel(50, 0), [128; 3]);
    }
}
