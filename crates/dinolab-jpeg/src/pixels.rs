//! From a header to pixels: all steps put together.

use crate::block::BLOCK;
use crate::error::Damage;
use crate::header::{Component, Header};
use crate::strips::{Coded, Strips};
use crate::{colour, upsample};

/// What pixels become.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Whether three components are RGB as they are.
    pub(crate) is_rgb: bool,
    /// 3 for RGB, 1 for a file of one component to stay as it is.
    pub(crate) channels: usize,
}

/// Decodes in full: `[height, width, channels]`; `None` for files of another kind, and for chroma of samples that
/// are not interpolated here.
///
/// # Errors
/// [`Damage`].
pub(crate) fn full(header: &Header, format: Format) -> Result<Option<Vec<u8>>, Damage> {
    let (across, down) = header.unit();
    let is_chroma = |c: &Component| (c.across, c.down) == (1, 1);
    let samples = (header.width.div_ceil(across), header.height.div_ceil(down));
    let chroma = &header.components[1..];
    if !chroma.iter().all(is_chroma) {
        return Ok(None);
    }
    // Rows between two strips need two rows of chroma of the one before.
    const KEPT: usize = 2;
    let Some(coded) = Coded::read(header)? else {
        return Ok(None);
    };
    let source = coded.source(header)?;
    let Some(mut strips) = Strips::new(header, source, |_| (BLOCK, BLOCK), |c| KEPT * c.down)
    else {
        return Ok(None);
    };
    let (width, height) = (header.width, header.height);
    let mut out = Vec::with_capacity(width * height * format.channels);
    let mut line = vec![0; width * format.channels];
    let mut sums = vec![0; samples.0 + 2];
    let mut rows = [vec![0; samples.0 * across], vec![0; samples.0 * across]];
    let mut next = 0;
    for strip in 0..samples.1.div_ceil(BLOCK) {
        strips.next()?;
        // The row behind the last one of chroma may be in the next strip.
        let end = (strip + 1) * BLOCK;
        let end = if end < samples.1 { end - 1 } else { samples.1 };
        for y in next..end {
            // Rows of the planes' buffers.
            let row = |y: usize| KEPT + y - strip * BLOCK;
            let (above, below) = (y.saturating_sub(1), (y + 1).min(samples.1 - 1));
            for lower in 0..down {
                if y * down + lower == height {
                    break;
                }
                let luma = strips.planes[0].row(row(y) * down + lower);
                if chroma.is_empty() {
                    match format.channels {
                        1 => line.copy_from_slice(&luma[..width]),
                        _ => colour::grey(luma, &mut line),
                    }
                    out.extend_from_slice(&line);
                    continue;
                }
                let far = if lower == 1 { below } else { above };
                for (plane, out) in strips.planes[1..].iter().zip(&mut rows) {
                    let rows = upsample::Rows {
                        near: &plane.row(row(y))[..samples.0],
                        far: &plane.row(row(far))[..samples.0],
                        lower: lower == 1,
                    };
                    upsample::row(rows, (across, down), &mut sums, out);
                }
                match format.is_rgb {
                    true => colour::plain([luma, &rows[0], &rows[1]], &mut line),
                    false => colour::rgb(luma, &rows[0], &rows[1], &mut line),
                }
                out.extend_from_slice(&line);
            }
        }
        next = end;
    }
    strips.finish()?;
    Ok(Some(out))
}

/// Decodes to a `scale`-th (2, 4 or 8) of the size, rounded up; `[height, width, channels]`.
///
/// Chroma with half the samples in a direction is transformed to twice as many pixels of a block
/// there, so that all components have the same pixels.
///
/// # Errors
/// [`Damage`].
pub(crate) fn scaled(
    header: &Header,
    scale: usize,
    format: Format,
) -> Result<Option<Vec<u8>>, Damage> {
    let base = BLOCK / scale;
    let (across, down) = header.unit();
    if across > 2 {
        return Ok(None);
    }
    let size = |c: &Component| (base * across / c.across, base * down / c.down);
    let Some(coded) = Coded::read(header)? else {
        return Ok(None);
    };
    let Some(mut strips) = Strips::new(header, coded.source(header)?, size, |_| 0) else {
        return Ok(None);
    };
    let (width, height) = (header.width.div_ceil(scale), header.height.div_ceil(scale));
    let pitch = width * format.channels;
    let mut out = vec![0; pitch * height];
    for strip in out.chunks_mut(pitch * base * down) {
        strips.next()?;
        for (y, line) in strip.chunks_exact_mut(pitch).enumerate() {
            match &strips.planes[..] {
                [luma] if format.channels == 1 => line.copy_from_slice(&luma.row(y)[..width]),
                [luma] => colour::grey(luma.row(y), line),
                [red, green, blue] if format.is_rgb => {
                    colour::plain([red.row(y), green.row(y), blue.row(y)], line);
                }
                [luma, blue, red] => {
                    colour::rgb(luma.row(y), blue.row(y), red.row(y), line);
                }
                _ => return Ok(None),
            }
        }
    }
    strips.finish()?;
    Ok(Some(out))
}
