//! Label maps.

use std::io::Cursor;

use super::format::{Format, format_of};
use super::other;
use super::refused::{Reason, check_size};
use crate::Mask;

pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Mask, Reason> {
    if format_of(bytes)? != Format::Png {
        return Err("a mask must be a palette or greyscale PNG".into());
    }
    other::check_png(bytes)?;
    let fail = |e: png::DecodingError| format!("damaged PNG: {e}");
    let limits = png::Limits {
        bytes: usize::try_from(max_pixels.saturating_mul(8))
            .unwrap_or(usize::MAX)
            .max(1 << 20),
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(fail)?;
    let (width, height) = (reader.info().width, reader.info().height);
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    let (width, height) = (width as usize, height as usize);
    let (kind, depth) = reader.output_color_type();
    if !matches!(kind, png::ColorType::Indexed | png::ColorType::Grayscale) {
        return Err("a mask must be a palette or greyscale PNG; this one holds colours".into());
    }
    let size = reader.output_buffer_size().ok_or("the mask is too large")?;
    let mut raw = vec![0; size];
    let frame = reader.next_frame(&mut raw).map_err(fail)?;
    let bits = match depth {
        png::BitDepth::One => 1,
        png::BitDepth::Two => 2,
        png::BitDepth::Four => 4,
        png::BitDepth::Eight => 8,
        png::BitDepth::Sixteen => {
            return Err("a mask must have at most 8 bits per pixel; this one has 16".into());
        }
    };
    let mut data = Vec::with_capacity(width * height);
    for row in raw.chunks_exact(frame.line_size).take(height) {
        data.extend((0..width).map(|x| {
            let bit = x * bits;
            (row[bit / 8] >> (8 - bits - bit % 8)) & (0xFF >> (8 - bits))
        }));
    }
    Ok(Mask {
        width,
        height,
        data,
    })
}
