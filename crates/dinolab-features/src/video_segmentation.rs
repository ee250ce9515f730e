//! Video object segmentation by label propagation with a network's features.

use std::path::Path;

use dinolab_data::augment::bilinear::taps;
use dinolab_data::decode::decode;
use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Mask, Size};
use dinolab_nn::{Backbone, check_patches};

use crate::Embedder;
use crate::{Error, Result};
use dinolab_eval::davis::{
    Propagation, Propagator, Sequence, Year, labels_of_mask, mask_of_labels, object_count,
};

/// The longer side of a frame is rounded down to a multiple of this.
const LONG_SIDE_STEP: usize = 64;

/// Returns the height and width of the network's input: the short side is `side`, the long side
/// keeps the aspect ratio and is rounded down to a multiple of 64, as in the reference
/// implementation (the width of a square counts as its long side). If patches do not divide 64,
/// both are rounded down to whole patches.
fn frame_size(height: usize, width: usize, side: usize, patch: usize) -> (usize, usize) {
    let long = |long: usize, short: usize| {
        let exact = side * long / short.max(1);
        match LONG_SIDE_STEP.is_multiple_of(patch) {
            true => exact / LONG_SIDE_STEP * LONG_SIDE_STEP,
            false => exact / patch * patch,
        }
    };
    let short = side / patch * patch;
    if height > width {
        (long(height, width), short)
    } else {
        (short, long(width, height))
    }
}

/// Resizes bilinearly without antialiasing, as the reference implementation does with OpenCV.
fn resize_linear(image: &Image, height: usize, width: usize) -> Image {
    let channels = image.channels;
    let columns = taps(image.width, width);
    let mut out = Image::new(width, height, channels);
    for (row, (y0, y1, v)) in out
        .data
        .chunks_exact_mut(width * channels)
        .zip(taps(image.height, height))
    {
        let line = |y: usize| &image.data[y * image.width * channels..][..image.width * channels];
        let (above, below) = (line(y0), line(y1));
        for (pixel, &(x0, x1, u)) in row.chunks_exact_mut(channels).zip(&columns) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let across = |line: &[u8]| {
                    let (a, b) = (line[x0 * channels + channel], line[x1 * channels + channel]);
                    f32::from(a) + u * (f32::from(b) - f32::from(a))
                };
                let (a, b) = (across(above), across(below));
                *value = (a + v * (b - a)).round() as u8;
            }
        }
    }
    out
}

/// Video object segmentation by label propagation with a network's features.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct VideoSegmentation {
    /// Size of the shorter side of frames, in pixels.
    pub side: usize,
    /// Label propagation from frame to frame.
    pub propagation: Propagation,
}

impl Default for VideoSegmentation {
    fn default() -> Self {
        Self {
            side: Self::REFERENCE_SIDE,
            propagation: Propagation::default(),
        }
    }
}

impl VideoSegmentation {
    /// Size of the shorter side of a frame in the reference implementation.
    pub const REFERENCE_SIDE: usize = 480;

    /// Propagates the objects of the first frame through a sequence. `each` gets the number of each
    /// frame and its mask of object numbers at the size of the frame, including the given mask of
    /// the first frame.
    ///
    /// Features are the patch tokens of the last block after the final norm.
    ///
    /// # Errors
    /// Frames or masks that cannot be read or are smaller than a patch; the errors of `each`.
    pub fn propagate(
        &self,
        embedder: &Embedder,
        sequence: &Sequence,
        year: Year,
        each: &mut dyn FnMut(usize, Mask) -> Result<()>,
    ) -> Result<()> {
        let patch = embedder.backbone().stride();
        let wrong = |path: &Path, reason: String| Error::Format {
            path: path.to_path_buf(),
            reason,
        };
        let Some(first_path) = sequence.images.first() else {
            return Err(wrong(Path::new(&sequence.name), "has no images".into()));
        };
        let mask = year.read_mask(&sequence.annotations[0])?;
        let image = read_image(first_path)?;
        let size = (image.height, image.width);
        if size != (mask.height, mask.width) {
            let found = format!("{} × {} pixels", mask.width, mask.height);
            return Err(wrong(
                &sequence.annotations[0],
                format!("has {found}, its frame {} × {}", size.1, size.0),
            ));
        }
        let (height, width) = frame_size(size.0, size.1, self.side, patch);
        if height < patch || width < patch {
            return Err(wrong(
                first_path,
                format!("at a short side of {} is smaller than a patch", self.side),
            ));
        }
        check_patches(height, width, patch).map_err(|error| {
            wrong(
                first_path,
                format!("a short side of {}: {error}", self.side),
            )
        })?;
        let features = |image: &Image| -> Result<(Vec<f32>, (usize, usize))> {
            let tokens = embedder.tokens(&resize_linear(image, height, width), None)?;
            Ok((tokens.patches, tokens.grid))
        };
        let (first, grid) = features(&image)?;
        let labels = labels_of_mask(&mask.data, mask.size(), grid, 1 + object_count(&mask))?;
        let mut propagator = Propagator::new(
            self.propagation,
            grid,
            embedder.backbone().width(),
            first,
            labels,
        )?;
        each(0, mask)?;
        for (frame, path) in sequence.images.iter().enumerate().skip(1) {
            let image = read_image(path)?;
            if (image.height, image.width) != size {
                return Err(wrong(
                    path,
                    "is of another size than the first frame".into(),
                ));
            }
            let labels = propagator.next(features(&image)?.0)?;
            let data = mask_of_labels(&labels, grid, patch, Size::new(size.0, size.1))?;
            let (height, width) = size;
            let mask = Mask {
                width,
                height,
                data,
            };
            each(frame, mask)?;
        }
        Ok(())
    }
}

fn read_image(path: &Path) -> Result<Image> {
    let bytes = dinolab_data::file::read(path)?;
    let max_pixels = SourceOptions::default().max_pixels;
    Ok(decode(&path.to_string_lossy(), &bytes, max_pixels)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_reference() {
        assert_eq!(frame_size(480, 854, 480, 8), (480, 832));
        assert_eq!(frame_size(854, 480, 480, 16), (832, 480));
        assert_eq!(frame_size(480, 910, 480, 16), (480, 896));
        assert_eq!(frame_size(480, 480, 480, 16), (480, 448));
        assert_eq!(frame_size(1080, 1920, 480, 8), (480, 832));
        // Patches of 14 pixels, which the reference does not know.
        assert_eq!(frame_size(480, 854, 480, 14), (476, 854 / 14 * 14));
    }

    #[test]
    fn resizes_without_smoothing() {
        let image = Image {
            data: vec![0, 100, 200, 40],
            ..Image::new(4, 1, 1)
        };
        // Middles at 0.5 and 2.5: the mean of the two pixels around each.
        assert_eq!(resize_linear(&image, 1, 2).data, [50, 120]);
        // At 1/6, 1.5, 17/6 for three.
        assert_eq!(resize_linear(&image, 1, 3).data, [17, 150, 67]);
        assert_eq!(resize_linear(&image, 1, 4), image);
        assert_eq!(
            resize_linear(&image, 2, 8).data[..8],
            [0, 25, 75, 125, 175, 160, 80, 40]
        );
    }
}
