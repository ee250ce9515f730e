//! Heat maps, overlays, masks, contact sheets and PNG, on 8-bit RGB.

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::OnceLock;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{check_finite, check_length};
use crate::file::write_whole;
use crate::{Error, Result};

/// An RGB picture: `data[(y * width + x) * 3 + c]`.
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
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            data: colour.repeat(width * height),
        }
    }

    /// A picture of given pixels.
    ///
    /// # Errors
    /// A length other than `width × height × 3`.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self> {
        check_length("picture", width * height * 3, data.len())?;
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// The colour at column `x`, row `y`.
    ///
    /// # Panics
    /// Outside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width, "column {x} of {}", self.width);
        let at = (y * self.width + x) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }

    /// Copies `tile` with its upper left corner to column `x`, row `y`; what lies outside is
    /// cut off.
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

/// A scale of colours of evenly rising lightness, so that equal steps of the value look
/// equal and it survives greyscale printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ColourMap {
    /// Near black, violet, red, orange, pale yellow.
    #[default]
    Ember,
    /// Dark violet, blue, green, yellow.
    Tide,
    /// Black to white.
    Grey,
}

impl ColourMap {
    /// The colour of `value`, 0–1; outside it the nearer end, NaN as 0.
    pub fn colour(self, value: f32) -> [u8; 3] {
        static EMBER: OnceLock<Vec<[u8; 3]>> = OnceLock::new();
        static TIDE: OnceLock<Vec<[u8; 3]>> = OnceLock::new();
        // The cast turns NaN into 0.
        let step = (value.clamp(0.0, 1.0) * 255.0).round() as usize;
        match self {
            // Lightness, chroma (in OKLab) and hue in degrees at both ends.
            Self::Ember => EMBER.get_or_init(|| scale((0.13, 0.97), (285.0, 470.0), 0.17))[step],
            Self::Tide => TIDE.get_or_init(|| scale((0.25, 0.93), (305.0, 105.0), 0.1))[step],
            Self::Grey => [step as u8; 3],
        }
    }
}

/// 256 colours of lightness and hue from the first to the second value, of the given chroma
/// in the middle and half of it at the ends, or as much as the screen has.
fn scale(lightness: (f64, f64), hue: (f64, f64), chroma: f64) -> Vec<[u8; 3]> {
    (0..256)
        .map(|i| {
            let t = f64::from(i) / 255.0;
            let l = lightness.0 + t * (lightness.1 - lightness.0);
            let h = (hue.0 + t * (hue.1 - hue.0)).to_radians();
            let wanted = chroma * (0.5 + 0.5 * (std::f64::consts::PI * t).sin());
            let linear = |c: f64| linear_srgb(l, c * h.cos(), c * h.sin());
            let shown = |c: f64| linear(c).iter().all(|v| (0.0..=1.0).contains(v));
            let (mut low, mut high) = (0.0, wanted);
            if shown(wanted) {
                low = wanted;
            } else {
                for _ in 0..30 {
                    let middle = (low + high) / 2.0;
                    *(if shown(middle) { &mut low } else { &mut high }) = middle;
                }
            }
            linear(low).map(gamma_encoded)
        })
        .collect()
}

/// From the OKLab colour space to linear sRGB.
fn linear_srgb(l: f64, a: f64, b: f64) -> [f64; 3] {
    let long = (l + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let medium = (l - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let short = (l - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701_0 * short,
    ]
}

fn gamma_encoded(linear: f64) -> u8 {
    let v = linear.clamp(0.0, 1.0);
    let encoded = if v <= 0.003_130_8 {
        12.92 * v
    } else {
        1.055 * v.powf(1.0 / 2.4) - 0.055
    };
    (encoded * 255.0).round() as u8
}

/// How to enlarge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Each pixel takes the cell it lies in: shows the patches.
    Nearest,
    /// Straight lines between the cells' centres; flat beyond the outermost ones.
    Bilinear,
}

/// Enlarges (or reduces) a map of `from` = (height, width) values to `to`.
///
/// # Errors
/// A length that is not `from`'s, a map without cells.
pub fn resize_map(
    values: &[f32],
    from: (usize, usize),
    to: (usize, usize),
    filter: Filter,
) -> Result<Vec<f32>> {
    check_length("map", from.0 * from.1, values.len())?;
    if values.is_empty() {
        return Err(Error::invalid("map", "is empty"));
    }
    let rows = taps(from.0, to.0, filter);
    let columns = taps(from.1, to.1, filter);
    let mut out = Vec::with_capacity(to.0 * to.1);
    for &(y0, y1, v) in &rows {
        for &(x0, x1, u) in &columns {
            let row = |y: usize| {
                let row = &values[y * from.1..][..from.1];
                row[x0] + u * (row[x1] - row[x0])
            };
            let (above, below) = (row(y0), row(y1));
            out.push(above + v * (below - above));
        }
    }
    Ok(out)
}

/// For each target cell the two source cells that it lies between and how far it is from
/// the first towards the second.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<(usize, usize, f32)> {
    (0..to)
        .map(|i| match filter {
            Filter::Nearest => {
                let at = i * from / to;
                (at, at, 0.0)
            }
            Filter::Bilinear => {
                let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
                let at = at.clamp(0.0, (from - 1) as f64);
                let first = at.floor() as usize;
                let second = (first + 1).min(from - 1);
                (first, second, (at - first as f64) as f32)
            }
        })
        .collect()
}

/// Values stretched so that the least becomes 0 and the greatest 1; all 0 where they are
/// equal.
///
/// # Errors
/// Values that are not finite.
pub fn stretch(values: &[f32]) -> Result<Vec<f32>> {
    check_finite("map", values)?;
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let range = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least;
    let scale = if range > 0.0 { 1.0 / range } else { 0.0 };
    Ok(values.iter().map(|v| (v - least) * scale).collect())
}

/// A picture of a map of `size` = (height, width) values of 0–1.
///
/// # Errors
/// A length that is not `size`'s.
pub fn heat_map(values: &[f32], size: (usize, usize), map: ColourMap) -> Result<Rgb> {
    check_length("map", size.0 * size.1, values.len())?;
    let data = values.iter().flat_map(|&v| map.colour(v)).collect();
    Rgb::new(size.1, size.0, data)
}

/// Lays a map of 0–1, one value per pixel of `picture`, over it with opacity `alpha` (0–1).
///
/// # Errors
/// A map of another size than the picture.
pub fn overlay(picture: &Rgb, values: &[f32], map: ColourMap, alpha: f32) -> Result<Rgb> {
    check_length("map", picture.width * picture.height, values.len())?;
    let mut out = picture.clone();
    for (pixel, &value) in out.data.chunks_exact_mut(3).zip(values) {
        mix(pixel, map.colour(value), alpha);
    }
    Ok(out)
}

/// Tints the pixels of `mask` (one per pixel of `picture`) with opacity `alpha` (0–1) and
/// draws their outline, `outline` pixels wide and inside the mask, in full colour.
///
/// # Errors
/// A mask of another size than the picture.
pub fn draw_mask(
    picture: &Rgb,
    mask: &[bool],
    colour: [u8; 3],
    alpha: f32,
    outline: usize,
) -> Result<Rgb> {
    let (w, h) = (picture.width, picture.height);
    check_length("mask", w * h, mask.len())?;
    let mut out = picture.clone();
    let mut inner = mask.to_vec();
    for _ in 0..outline {
        inner = eroded(&inner, w, h);
    }
    for ((pixel, &inside), &inner) in out.data.chunks_exact_mut(3).zip(mask).zip(&inner) {
        if inside {
            mix(pixel, colour, if inner { alpha } else { 1.0 });
        }
    }
    Ok(out)
}

/// The pixels whose four neighbours are all in the mask too. The picture's edge is no
/// border.
fn eroded(mask: &[bool], w: usize, h: usize) -> Vec<bool> {
    let mut out = mask.to_vec();
    for y in 0..h {
        for x in 0..w {
            let i = y * w + x;
            out[i] = mask[i]
                && (x == 0 || mask[i - 1])
                && (x + 1 == w || mask[i + 1])
                && (y == 0 || mask[i - w])
                && (y + 1 == h || mask[i + w]);
        }
    }
    out
}

fn mix(pixel: &mut [u8], colour: [u8; 3], alpha: f32) {
    let alpha = alpha.clamp(0.0, 1.0);
    for (p, c) in pixel.iter_mut().zip(colour) {
        let old = f32::from(*p);
        *p = (old + alpha * (f32::from(c) - old)).round() as u8;
    }
}

/// Lays tiles out in rows of `columns`, in reading order, with `padding` pixels between and
/// around them. Cells are as large as the largest tile; smaller ones sit in the middle.
///
/// # Errors
/// No tiles or no columns.
pub fn contact_sheet(
    tiles: &[Rgb],
    columns: usize,
    padding: usize,
    background: [u8; 3],
) -> Result<Rgb> {
    if tiles.is_empty() || columns == 0 {
        return Err(Error::invalid("contact sheet", "no tiles or no columns"));
    }
    let columns = columns.min(tiles.len());
    let rows = tiles.len().div_ceil(columns);
    let cell_w = tiles.iter().map(|t| t.width).max().unwrap_or(0);
    let cell_h = tiles.iter().map(|t| t.height).max().unwrap_or(0);
    let mut sheet = Rgb::filled(
        columns * (cell_w + padding) + padding,
        rows * (cell_h + padding) + padding,
        background,
    );
    for (i, tile) in tiles.iter().enumerate() {
        let x = padding + i % columns * (cell_w + padding) + (cell_w - tile.width) / 2;
        let y = padding + i / columns * (cell_h + padding) + (cell_h - tile.height) / 2;
        sheet.paste(tile, x, y);
    }
    Ok(sheet)
}

/// The picture as the bytes of a PNG file.
///
/// # Errors
/// A picture without pixels, or whose data does not fit its size.
pub fn encode_png(picture: &Rgb) -> Result<Vec<u8>> {
    let (w, h) = (picture.width, picture.height);
    check_length("picture", w * h * 3, picture.data.len())?;
    let side = |n: usize| {
        u32::try_from(n).map_err(|_| Error::invalid("picture", format!("{n} pixels a side")))
    };
    if w == 0 || h == 0 {
        return Err(Error::invalid("picture", "has no pixels"));
    }
    let mut bytes = Cursor::new(Vec::new());
    PngEncoder::new(&mut bytes).write_image(
        &picture.data,
        side(w)?,
        side(h)?,
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes.into_inner())
}

/// Writes the picture as a PNG file, whole or not at all.
///
/// # Errors
/// As [`encode_png`]; a file that cannot be written.
pub fn write_png(path: impl AsRef<Path>, picture: &Rgb) -> Result<()> {
    let bytes = encode_png(picture)?;
    write_whole(path.as_ref(), |out| out.write_all(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_rises_evenly() {
        for map in [ColourMap::Ember, ColourMap::Tide, ColourMap::Grey] {
            let luma: Vec<f64> = (0..=255)
                .map(|i| {
                    let [r, g, b] = map.colour(i as f32 / 255.0).map(f64::from);
                    0.2126 * r + 0.7152 * g + 0.0722 * b
                })
                .collect();
            let falls = luma.windows(2).filter(|w| w[1] < w[0] - 1.0).count();
            assert_eq!(falls, 0, "{map:?}");
            assert!(luma[255] - luma[0] > 140.0, "{map:?}");
            assert_eq!(map.colour(f32::NAN), map.colour(0.0));
            assert_eq!(map.colour(-5.0), map.colour(0.0));
            assert_eq!(map.colour(5.0), map.colour(1.0));
        }
    }

    #[test]
    fn enlarges() {
        let v = [0.0, 1.0, 2.0, 3.0];
        let near = resize_map(&v, (2, 2), (4, 4), Filter::Nearest).unwrap();
        assert_eq!(near[..4], [0.0, 0.0, 1.0, 1.0]);
        let smooth = resize_map(&v, (2, 2), (4, 4), Filter::Bilinear).unwrap();
        assert_eq!(smooth[..4], [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(smooth[4..8], [0.5, 0.75, 1.25, 1.5]);
        assert_eq!(smooth[15], 3.0);
        for filter in [Filter::Nearest, Filter::Bilinear] {
            assert_eq!(resize_map(&v, (2, 2), (2, 2), filter).unwrap(), v);
            assert_eq!(
                resize_map(&v[..1], (1, 1), (2, 1), filter).unwrap(),
                [0.0; 2]
            );
            assert!(resize_map(&[], (0, 0), (2, 1), filter).is_err());
            assert!(resize_map(&v, (2, 1), (2, 1), filter).is_err());
        }
        assert_eq!(stretch(&[2.0, 4.0, 3.0]).unwrap(), [0.0, 1.0, 0.5]);
        assert_eq!(stretch(&[2.0, 2.0]).unwrap(), [0.0, 0.0]);
        assert!(stretch(&[f32::NAN]).is_err());
    }

    #[test]
    fn lays_over() {
        let black = Rgb::filled(2, 1, [0; 3]);
        let out = overlay(&black, &[0.0, 1.0], ColourMap::Grey, 0.5).unwrap();
        assert_eq!(out.data, [0, 0, 0, 128, 128, 128]);
        assert!(overlay(&black, &[0.0], ColourMap::Grey, 0.5).is_err());
        let heat = heat_map(&[0.0, 1.0], (1, 2), ColourMap::Grey).unwrap();
        assert_eq!(heat.data, [0, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn masks_have_an_outline_inside() {
        // A 3 × 3 block in 5 × 5: its middle is tinted, its rim full.
        let mask: Vec<bool> = (0..25)
            .map(|i| (1..4).contains(&(i % 5)) && (1..4).contains(&(i / 5)))
            .collect();
        let black = Rgb::filled(5, 5, [0; 3]);
        let out = draw_mask(&black, &mask, [200, 100, 0], 0.5, 1).unwrap();
        assert_eq!(out.pixel(0, 0), [0, 0, 0]);
        assert_eq!(out.pixel(1, 1), [200, 100, 0]);
        assert_eq!(out.pixel(2, 1), [200, 100, 0]);
        assert_eq!(out.pixel(2, 2), [100, 50, 0]);
        let plain = draw_mask(&black, &mask, [200, 100, 0], 0.5, 0).unwrap();
        assert_eq!(plain.pixel(1, 1), [100, 50, 0]);
    }

    #[test]
    fn sheet() {
        let tiles = [
            Rgb::filled(2, 2, [1; 3]),
            Rgb::filled(2, 2, [2; 3]),
            Rgb::filled(1, 1, [3; 3]),
        ];
        let sheet = contact_sheet(&tiles, 2, 1, [9; 3]).unwrap();
        assert_eq!((sheet.width, sheet.height), (7, 7));
        assert_eq!(sheet.pixel(0, 0), [9; 3]);
        assert_eq!(sheet.pixel(1, 1), [1; 3]);
        assert_eq!(sheet.pixel(3, 1), [9; 3]);
        assert_eq!(sheet.pixel(4, 2), [2; 3]);
        assert_eq!(sheet.pixel(1, 4), [3; 3]);
        assert_eq!(sheet.pixel(2, 4), [9; 3]);
        assert!(contact_sheet(&[], 2, 1, [9; 3]).is_err());
        let mut small = Rgb::filled(2, 2, [0; 3]);
        small.paste(&tiles[0], 1, 1);
        assert_eq!((small.pixel(1, 1), small.pixel(0, 1)), ([1; 3], [0; 3]));
        small.paste(&tiles[0], 5, 5);
    }

    #[test]
    fn png_reads_back() {
        let data = (0..3 * 5 * 4).map(|i| (i * 4) as u8).collect();
        let picture = Rgb::new(5, 4, data).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        write_png(&path, &picture).unwrap();
        let back = image::open(&path).unwrap().into_rgb8();
        assert_eq!(back.dimensions(), (5, 4));
        assert_eq!(back.into_raw(), picture.data);
        assert!(encode_png(&Rgb::filled(0, 4, [0; 3])).is_err());
        assert!(Rgb::new(2, 2, vec![0; 11]).is_err());
    }
}
