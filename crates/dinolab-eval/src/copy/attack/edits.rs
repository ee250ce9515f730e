//! The alterations of RGB images.

use dinolab_data::Image;
use dinolab_data::augment::resize::CropBox;
use dinolab_data::augment::{blur, eval, planes};
use dinolab_data::random::Random;
use font8x8::legacy::BASIC_LEGACY;

use crate::Result;

/// Pixels along the side of a letter of the font.
const GLYPH_SIDE: usize = 8;

/// Crops an image at a random position, losing `percent` of its area.
pub(super) fn cropped(picture: &Image, percent: f64, random: &mut Random) -> Result<Image> {
    let kept = (1.0 - percent / 100.0).sqrt();
    let side = |length: usize| ((length as f64 * kept).round() as usize).clamp(1, length.max(1));
    let (width, height) = (side(picture.width), side(picture.height));
    // The same relative position whatever the strength.
    let start = |room: usize, share: f64| ((room + 1) as f64 * share) as usize;
    let (across, down) = (random.unit(), random.unit());
    let place = CropBox {
        left: start(picture.width - width, across),
        top: start(picture.height - height, down),
        width,
        height,
    };
    Ok(eval::crop(picture, place)?)
}

/// Blurs each channel with a standard deviation of `percent` of the shorter side.
pub(super) fn blurred(picture: &Image, percent: f64) -> Image {
    let deviation = picture.width.min(picture.height) as f64 * percent / 100.0;
    let mut channels = Vec::new();
    planes::split(&picture.data, picture.width, false, &mut channels);
    let scratch = &mut blur::Scratch::default();
    blur::gaussian(&mut channels, picture.width, deviation, scratch);
    Image {
        data: planes::join(&channels),
        ..*picture
    }
}

/// Scales the contrast about the mean grey.
pub(super) fn with_contrast(picture: &Image, factor: f64) -> Image {
    let luminance =
        |p: &[u8]| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
    let pixels = picture.data.chunks_exact(3);
    let count = pixels.len().max(1) as f64;
    let mean = (pixels.map(luminance).sum::<f64>() / count).round();
    let table: Vec<u8> = (0..256)
        .map(|v| (mean + factor * (f64::from(v) - mean)).round() as u8)
        .collect();
    let mut out = picture.clone();
    for value in &mut out.data {
        *value = table[usize::from(*value)];
    }
    out
}

/// Draws a line of white letters with a black edge, legible on any background.
pub(super) fn with_text(picture: &Image, percent: f64, random: &mut Random) -> Image {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let wanted = picture.height as f64 * percent / 100.0 / GLYPH_SIDE as f64;
    let scale = (wanted.round() as usize).max(1);
    let side = GLYPH_SIDE * scale;
    let count = (picture.width / side).max(1);
    let text: Vec<u8> = (0..count)
        .map(|_| LETTERS[random.below(LETTERS.len() as u64) as usize])
        .collect();
    let room = picture.height.saturating_sub(side);
    let top = random.below(room as u64 + 1) as isize;
    let left = picture.width.saturating_sub(count * side) as isize / 2;
    let edge = scale.div_ceil(3) as isize;
    // Whether a letter covers the pixel at column `x`, row `y`.
    let covered = |x: isize, y: isize| {
        let (Ok(x), Ok(y)) = (usize::try_from(x - left), usize::try_from(y - top)) else {
            return false;
        };
        let glyph = text.get(x / side).filter(|_| y < side);
        let rows = glyph.map(|&letter| BASIC_LEGACY[usize::from(letter)]);
        rows.is_some_and(|rows| rows[y / scale] >> (x % side / scale) & 1 == 1)
    };
    let mut out = picture.clone();
    for (place, pixel) in out.data.chunks_exact_mut(3).enumerate() {
        let x = (place % picture.width) as isize;
        let y = (place / picture.width) as isize;
        if y < top - edge || y >= top + side as isize + edge {
            continue;
        }
        let near = || [-edge, 0, edge].into_iter();
        if covered(x, y) {
            pixel.fill(255);
        } else if near().any(|dy| near().any(|dx| covered(x + dx, y + dy))) {
            pixel.fill(0);
        }
    }
    out
}

/// Mirrors an image horizontally.
pub(super) fn flipped(picture: &Image) -> Image {
    moved(picture, (picture.width, picture.height), |x, y| {
        (picture.width - 1 - x, y)
    })
}

/// Returns an image of the given size whose pixel `(x, y)` is the one at `from(x, y)`.
fn moved(
    picture: &Image,
    (width, height): (usize, usize),
    from: impl Fn(usize, usize) -> (usize, usize),
) -> Image {
    let mut out = Image::new(width, height, 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = from(x, y);
            let (to, at) = ((y * width + x) * 3, (v * picture.width + u) * 3);
            out.data[to..to + 3].copy_from_slice(&picture.data[at..at + 3]);
        }
    }
    out
}

/// Rotates an image counter-clockwise.
pub(super) fn rotated(picture: &Image, degrees: f64) -> Image {
    let (w, h) = (picture.width, picture.height);
    let turned = degrees.rem_euclid(360.0);
    if turned == 0.0 {
        return picture.clone();
    } else if turned == 90.0 {
        return moved(picture, (h, w), |x, y| (w - 1 - y, x));
    } else if turned == 180.0 {
        return moved(picture, (w, h), |x, y| (w - 1 - x, h - 1 - y));
    } else if turned == 270.0 {
        return moved(picture, (h, w), |x, y| (y, h - 1 - x));
    }
    let (sin, cos) = turned.to_radians().sin_cos();
    let (middle_x, middle_y) = ((w as f64 - 1.0) / 2.0, (h as f64 - 1.0) / 2.0);
    let mut out = Image::new(w, h, 3);
    let at = |x: isize, y: isize, c: usize| -> f64 {
        let inside = (0..w as isize).contains(&x) && (0..h as isize).contains(&y);
        if inside {
            f64::from(picture.data[(y as usize * w + x as usize) * 3 + c])
        } else {
            0.0
        }
    };
    for (place, pixel) in out.data.chunks_exact_mut(3).enumerate() {
        let (dx, dy) = ((place % w) as f64 - middle_x, (place / w) as f64 - middle_y);
        // The position in the original; rows count downwards.
        let x = middle_x + cos * dx - sin * dy;
        let y = middle_y + sin * dx + cos * dy;
        let (left, top) = (x.floor(), y.floor());
        let (u, v) = (x - left, y - top);
        let (left, top) = (left as isize, top as isize);
        for (c, value) in pixel.iter_mut().enumerate() {
            let above = (1.0 - u) * at(left, top, c) + u * at(left + 1, top, c);
            let below = (1.0 - u) * at(left, top + 1, c) + u * at(left + 1, top + 1, c);
            *value = ((1.0 - v) * above + v * below).round() as u8;
        }
    }
    out
}
