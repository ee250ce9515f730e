//! What is done to a picture to make a copy of it.

use std::fmt;
use std::io::Cursor;

use dinolab_data::augment::resize::{CropBox, Filter};
use dinolab_data::augment::{blur, eval, planes};
use dinolab_data::random::{Purpose, Random};
use dinolab_data::{Image, decode};
use font8x8::legacy::BASIC_LEGACY;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use crate::{Error, Result};

/// Pixels along the side of a letter of the font.
const GLYPH_SIDE: usize = 8;

/// A kind of change; its strength makes it an [`Attack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// None: the original itself.
    Original,
    /// JPEG compression; strength: quality, 1–100.
    Jpeg,
    /// A part cut out; strength: percent of the surface that is lost, 0–99. The place is random.
    Crop,
    /// Gaussian blur; strength: standard deviation in percent of the shorter side, 0–50.
    Blur,
    /// More (above 1) or less contrast about the mean grey; strength: the factor, 0–100.
    Contrast,
    /// A line of random letters across the picture; strength: their height in percent of the
    /// picture's, 1–100. Place and letters are random.
    Text,
    /// Left and right exchanged; no strength.
    Flip,
    /// Turned counter-clockwise about the centre; strength: degrees, −360 to 360. Right angles
    /// are exact; at others the size stays and corners are black.
    Rotate,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Original,
        Self::Jpeg,
        Self::Crop,
        Self::Blur,
        Self::Contrast,
        Self::Text,
        Self::Flip,
        Self::Rotate,
    ];

    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Jpeg => "jpeg",
            Self::Crop => "crop",
            Self::Blur => "blur",
            Self::Contrast => "contrast",
            Self::Text => "text",
            Self::Flip => "flip",
            Self::Rotate => "rotate",
        }
    }

    fn range(self) -> Option<(f64, f64)> {
        Some(match self {
            Self::Original | Self::Flip => return None,
            Self::Jpeg => (1.0, 100.0),
            Self::Crop => (0.0, 99.0),
            Self::Blur => (0.0, 50.0),
            Self::Contrast => (0.0, 100.0),
            Self::Text => (1.0, 100.0),
            Self::Rotate => (-360.0, 360.0),
        })
    }
}

/// A change of a given strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attack {
    family: Family,
    strength: f64,
    /// Share of the surface that is left before compressing.
    jpeg_area: f64,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family.range() {
            None => f.write_str(self.family.name()),
            Some(_) => write!(f, "{}/{}", self.family.name(), self.strength),
        }
    }
}

impl Attack {
    /// The picture as it is.
    pub const ORIGINAL: Self = Self {
        family: Family::Original,
        strength: 0.0,
        jpeg_area: 1.0,
    };

    /// A change of a family; `strength` in the family's unit, of no meaning where it has none.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a strength out of the family's range.
    pub fn new(family: Family, strength: f64) -> Result<Self> {
        if let Some((least, most)) = family.range()
            && !(least..=most).contains(&strength)
        {
            return Err(Error::setting(
                family.name(),
                format!("{strength} is not between {least} and {most}"),
            ));
        }
        if family == Family::Jpeg && strength.fract() != 0.0 {
            return Err(Error::setting("jpeg", "quality is a whole number"));
        }
        Ok(Self {
            family,
            strength,
            jpeg_area: 1.0,
        })
    }

    /// Shrinks the picture to this share of its surface (above 0, at most 1) before it is
    /// compressed as a JPEG; Copydays took 1/16.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a share out of range.
    pub fn with_jpeg_area(mut self, area: f64) -> Result<Self> {
        if !(area > 0.0 && area <= 1.0) {
            return Err(Error::setting("jpeg-area", "must be above 0 and at most 1"));
        }
        self.jpeg_area = area;
        Ok(self)
    }

    /// The family.
    pub fn family(self) -> Family {
        self.family
    }

    /// The changed picture. What is random depends on `seed`, on `index` – the picture's number –
    /// and on the family alone.
    ///
    /// # Errors
    /// [`Error::Data`] for a picture that is not RGB or too small for the change.
    pub fn apply(self, picture: &Image, seed: u64, index: u64) -> Result<Image> {
        let mut random = Random::new(seed, self.family as u64, index, Purpose::Validation);
        match self.family {
            Family::Original => Ok(picture.clone()),
            Family::Jpeg => self.compressed(picture),
            Family::Crop => cropped(picture, self.strength, &mut random),
            Family::Blur => Ok(blurred(picture, self.strength)),
            Family::Contrast => Ok(with_contrast(picture, self.strength)),
            Family::Text => Ok(written_on(picture, self.strength, &mut random)),
            Family::Flip => Ok(moved(picture, (picture.width, picture.height), |x, y| {
                (picture.width - 1 - x, y)
            })),
            Family::Rotate => Ok(rotated(picture, self.strength)),
        }
    }

    fn compressed(self, picture: &Image) -> Result<Image> {
        let side =
            |length: usize| ((length as f64 * self.jpeg_area.sqrt()).round() as usize).max(2);
        let small = match self.jpeg_area {
            1.0 => picture.clone(),
            _ => eval::resize(
                picture,
                side(picture.width),
                side(picture.height),
                Filter::Bicubic,
            )?,
        };
        let length = |side: usize| {
            u32::try_from(side).map_err(|_| Error::setting("jpeg", "the picture is too large"))
        };
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(Cursor::new(&mut bytes), self.strength as u8).encode(
            &small.data,
            length(small.width)?,
            length(small.height)?,
            ExtendedColorType::Rgb8,
        )?;
        Ok(decode::decode("jpeg copy", &bytes, u64::MAX)?)
    }
}

fn cropped(picture: &Image, percent: f64, random: &mut Random) -> Result<Image> {
    let kept = (1.0 - percent / 100.0).sqrt();
    let side = |length: usize| ((length as f64 * kept).round() as usize).clamp(1, length.max(1));
    let (width, height) = (side(picture.width), side(picture.height));
    // The same place, in shares of the room there is, whatever the strength.
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

/// Blurred by a deviation of `percent` of the shorter side; channel by channel.
fn blurred(picture: &Image, percent: f64) -> Image {
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

fn with_contrast(picture: &Image, factor: f64) -> Image {
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

/// White letters with a black edge, readable on anything.
fn written_on(picture: &Image, percent: f64, random: &mut Random) -> Image {
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

/// A picture of `size` whose pixel `(x, y)` is the one at `from(x, y)`.
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

fn rotated(picture: &Image, degrees: f64) -> Image {
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
        // Where the pixel came from; rows count downwards.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Image {
        let mut image = Image::new(width, height, 3);
        for (i, value) in image.data.iter_mut().enumerate() {
            let (x, y) = (i / 3 % width, i / 3 / width);
            *value = (40 + x * 3 + y * 2 + i % 3 * 20) as u8;
        }
        image
    }

    fn attacked(family: Family, strength: f64) -> Image {
        let attack = Attack::new(family, strength).unwrap();
        attack.apply(&picture(40, 30), 1, 2).unwrap()
    }

    fn difference(image: &Image) -> f64 {
        let original = picture(40, 30);
        assert_eq!((image.width, image.height), (40, 30));
        let pairs = original.data.iter().zip(&image.data);
        let sum: f64 = pairs.map(|(&a, &b)| f64::from(a.abs_diff(b))).sum();
        sum / original.data.len() as f64
    }

    #[test]
    fn the_same_seed_the_same_copy() {
        for family in Family::ALL {
            let strength = if family == Family::Rotate { 20.0 } else { 30.0 };
            assert_eq!(attacked(family, strength), attacked(family, strength));
        }
        let crop = Attack::new(Family::Crop, 50.0).unwrap();
        let text = Attack::new(Family::Text, 30.0).unwrap();
        for attack in [crop, text] {
            let of = |seed, index| attack.apply(&picture(40, 30), seed, index).unwrap();
            assert_ne!(of(1, 2), of(1, 3));
            assert_ne!(of(1, 2), of(2, 2));
        }
    }

    #[test]
    fn jpeg_damages_more_at_lower_quality() {
        let damage = |quality| difference(&attacked(Family::Jpeg, quality));
        assert!(damage(3.0) > damage(30.0) && damage(30.0) > damage(95.0));
        assert!(damage(95.0) < 3.0);
        let small = Attack::new(Family::Jpeg, 75.0).unwrap();
        let small = small.with_jpeg_area(1.0 / 16.0).unwrap();
        let small = small.apply(&picture(40, 30), 0, 0).unwrap();
        assert_eq!((small.width, small.height), (10, 8));
    }

    #[test]
    fn crops_lose_what_they_should() {
        let original = picture(40, 30);
        for percent in [10.0, 50.0, 80.0] {
            let crop = attacked(Family::Crop, percent);
            let kept = (crop.width * crop.height) as f64 / 1200.0;
            assert!(
                (kept - (1.0 - percent / 100.0)).abs() < 0.05,
                "{percent}: {kept}"
            );
            // It is a part of the original.
            let found = (0..=30 - crop.height).any(|top| {
                (0..=40 - crop.width).any(|left| {
                    let place = CropBox {
                        top,
                        left,
                        height: crop.height,
                        width: crop.width,
                    };
                    eval::crop(&original, place).unwrap() == crop
                })
            });
            assert!(found, "{percent}");
        }
        assert_eq!(attacked(Family::Crop, 0.0), original);
    }

    #[test]
    fn contrast_blur_and_text() {
        assert_eq!(attacked(Family::Contrast, 1.0), picture(40, 30));
        let flat = attacked(Family::Contrast, 0.0);
        assert!(flat.data.iter().all(|&v| v == flat.data[0]));
        assert_eq!(attacked(Family::Blur, 0.0), picture(40, 30));
        assert!(difference(&attacked(Family::Blur, 10.0)) > 0.5);
        let orange = Image {
            data: [250, 130, 5].repeat(40 * 30),
            ..picture(40, 30)
        };
        let blur = Attack::new(Family::Blur, 10.0).unwrap();
        assert_eq!(blur.apply(&orange, 0, 0).unwrap(), orange, "colours mixed");
        let text = attacked(Family::Text, 27.0);
        let white = text.data.chunks(3).filter(|p| p == &[255; 3]).count();
        let black = text.data.chunks(3).filter(|p| p == &[0; 3]).count();
        assert!(white > 50 && black > 50, "{white} {black}");
        assert!(difference(&text) < 100.0);
    }

    #[test]
    fn flips_and_turns() {
        let original = picture(40, 30);
        let twice = |attack: Attack| {
            let once = attack.apply(&original, 0, 0).unwrap();
            attack.apply(&once, 0, 0).unwrap()
        };
        assert_eq!(twice(Attack::new(Family::Flip, 0.0).unwrap()), original);
        let turn = |degrees| Attack::new(Family::Rotate, degrees).unwrap();
        assert_eq!(twice(turn(180.0)), original);
        let quarter = attacked(Family::Rotate, 90.0);
        assert_eq!((quarter.width, quarter.height), (30, 40));
        // Counter-clockwise: the upper right corner goes to the upper left.
        assert_eq!(quarter.data[..3], original.data[39 * 3..40 * 3]);
        assert_eq!(turn(-90.0).apply(&quarter, 0, 0).unwrap(), original);
        // Nearly a quarter looks like one.
        let square = picture(31, 31);
        let exact = turn(90.0).apply(&square, 0, 0).unwrap();
        let near = turn(90.001).apply(&square, 0, 0).unwrap();
        let centre = (15 * 31 + 15) * 3;
        for at in [centre, centre - 30, centre + 31 * 3 * 5] {
            assert!(exact.data[at].abs_diff(near.data[at]) <= 1);
        }
    }

    #[test]
    fn names_and_ranges() {
        assert_eq!(Attack::ORIGINAL.to_string(), "original");
        assert_eq!(
            Attack::new(Family::Jpeg, 3.0).unwrap().to_string(),
            "jpeg/3"
        );
        assert_eq!(
            Attack::new(Family::Blur, 1.5).unwrap().to_string(),
            "blur/1.5"
        );
        for (family, strength) in [
            (Family::Jpeg, 0.0),
            (Family::Jpeg, 2.5),
            (Family::Crop, 100.0),
            (Family::Blur, f64::NAN),
            (Family::Text, 0.0),
        ] {
            assert!(
                Attack::new(family, strength).is_err(),
                "{family:?} {strength}"
            );
        }
        assert!(Attack::ORIGINAL.with_jpeg_area(0.0).is_err());
    }
}
