//! YCbCr outside of JPEGs to RGB, as libtiff converts it.

use super::directory::{Directory, Tag};
use super::layout::Layout;
use crate::decode::Reason;

/// Units of luma samples that share chroma, to rows of three samples a pixel: `rows` of `width`.
pub(super) fn spread(layout: &Layout, data: &[u8], width: usize, rows: usize) -> Vec<u8> {
    let (across, down) = layout.subsampling;
    let unit = across * down + 2;
    let units = width.div_ceil(across);
    let mut out = vec![0; width * rows * 3];
    for (i, unit) in data.chunks_exact(unit).enumerate() {
        let (left, top) = (i % units * across, i / units * down);
        let (lumas, chroma) = unit.split_at(across * down);
        for (k, &luma) in lumas.iter().enumerate() {
            let (x, y) = (left + k % across, top + k / across);
            if x < width && y < rows {
                out[(y * width + x) * 3..][..3].copy_from_slice(&[luma, chroma[0], chroma[1]]);
            }
        }
    }
    out
}

/// Bytes of the units of this many rows.
pub(super) fn bytes(layout: &Layout, width: usize, rows: usize) -> Option<usize> {
    let (across, down) = layout.subsampling;
    let units = width.div_ceil(across).checked_mul(rows.div_ceil(down))?;
    units.checked_mul(across * down + 2)
}

/// Converts pixels of three samples in place.
pub(super) fn to_rgb(directory: &Directory, pixels: &mut [u8]) -> Result<(), Reason> {
    let tables = Tables::read(directory)?;
    for pixel in pixels.as_chunks_mut::<3>().0 {
        *pixel = tables.rgb(*pixel);
    }
    Ok(())
}

/// Bits behind the point.
const POINT: u32 = 16;

/// What a level of each channel adds, computed as libtiff does: with whole numbers, of the
/// coefficients and the levels of black and white that the file gives.
struct Tables {
    luma: [i32; 256],
    red: [i32; 256],
    blue: [i32; 256],
    /// What red-difference and blue-difference add to green, with the point.
    green: [[i32; 256]; 2],
}

impl Tables {
    fn read(directory: &Directory) -> Result<Self, Reason> {
        let luma = directory.fractions(Tag::YCbCrCoefficients, 3)?;
        let luma = luma.filter(|luma| luma.len() == 3 && luma[1] != 0.0);
        let luma = luma.unwrap_or_else(|| vec![0.299, 0.587, 0.114]);
        let levels = directory.fractions(Tag::ReferenceBlackWhite, 6)?;
        let levels = levels.filter(|levels| levels.len() == 6);
        let levels = levels.unwrap_or_else(|| vec![0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        let fixed = |factor: f64| (factor.clamp(0.0, 2.0) * f64::from(1 << POINT) + 0.5) as i32;
        let (to_red, to_blue) = (2.0 - 2.0 * luma[0], 2.0 - 2.0 * luma[2]);
        let red_factor = fixed(to_red);
        let red_green = -fixed(luma[0] * to_red / luma[1]);
        let blue_factor = fixed(to_blue);
        let blue_green = -fixed(luma[2] * to_blue / luma[1]);
        let level = |code: i32, black: f64, white: f64, range: f64, bounds: f64| {
            let span = if white == black { 1.0 } else { white - black };
            let value = (f64::from(code) - black.trunc()) * range / span;
            value.clamp(-bounds, bounds) as i32
        };
        let mut tables = Self {
            luma: [0; 256],
            red: [0; 256],
            blue: [0; 256],
            green: [[0; 256]; 2],
        };
        const HALF: i32 = 1 << (POINT - 1);
        for code in 0..256usize {
            let chroma = |at: usize| {
                let (black, white) = (levels[at] - 128.0, levels[at + 1] - 128.0);
                level(code as i32 - 128, black, white, 127.0, 4096.0)
            };
            let (blue, red) = (chroma(2), chroma(4));
            tables.red[code] = (red_factor * red + HALF) >> POINT;
            tables.blue[code] = (blue_factor * blue + HALF) >> POINT;
            tables.green[0][code] = red_green * red;
            tables.green[1][code] = blue_green * blue + HALF;
            tables.luma[code] = level(code as i32, levels[0], levels[1], 255.0, 8192.0);
        }
        Ok(tables)
    }

    fn rgb(&self, [luma, blue, red]: [u8; 3]) -> [u8; 3] {
        let luma = self.luma[usize::from(luma)];
        let (blue, red) = (usize::from(blue), usize::from(red));
        let green = (self.green[0][red] + self.green[1][blue]) >> POINT;
        [luma + self.red[red], luma + green, luma + self.blue[blue]]
            .map(|value| value.clamp(0, 255) as u8)
    }
}
