//! Animated GIF.

use std::io::{BufRead, Seek};

use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, ImageDecoder, Limits};

use super::{Frame, Video, bad_frame};
use crate::{Error, Image, Result};

/// Browsers show frames of 10 ms and less for this long.
const LEAST_SECONDS: f64 = 0.1;

pub(super) fn open(
    name: String,
    file: impl BufRead + Seek + 'static,
    max_pixels: u64,
) -> Result<Video> {
    let bad = |reason: String| Error::BadImage {
        name: name.clone(),
        reason,
    };
    let mut decoder = GifDecoder::new(file).map_err(|e| bad(format!("damaged GIF: {e}")))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > max_pixels {
        return Err(bad(format!(
            "{width}×{height} pixels; there must be 1 to {max_pixels}"
        )));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_pixels.saturating_mul(32).max(1 << 20));
    decoder.set_limits(limits).map_err(|e| bad(e.to_string()))?;
    let frames = decoder
        .into_frames()
        .enumerate()
        .map(move |(number, frame)| {
            let frame = frame.map_err(|e| bad_frame(&name, number, format!("damaged GIF: {e}")))?;
            let (numerator, denominator) = frame.delay().numer_denom_ms();
            let seconds = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
            let picture = frame.into_buffer();
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            let over_black =
                |value: u8, alpha: u8| (u16::from(value) * u16::from(alpha) / 255) as u8;
            let data = picture
                .as_raw()
                .chunks_exact(4)
                .flat_map(|p| [0, 1, 2].map(|c| over_black(p[c], p[3])))
                .collect();
            Ok(Frame {
                image: Image::rgb(width, height, data),
                seconds: if seconds > 0.0105 {
                    seconds
                } else {
                    LEAST_SECONDS
                },
            })
        });
    Ok(Video::new(frames))
}
