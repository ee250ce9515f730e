//! Heat maps of patches and their overlay on a picture.

use dinolab_data::Size;
use dinolab_data::slice::{check_finite, check_length};

use crate::colour_map::ColourMap;
use crate::picture::{Rgb, blend};
use crate::{Error, Result};

/// Interpolation between the cells of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Each pixel takes the value of its cell, so that patches are visible as squares.
    Nearest,
    /// Bilinear between the centres of cells; constant beyond the outermost ones.
    Bilinear,
}

/// Resizes a map of a grid (rows, columns) of values to `size`.
///
/// # Errors
/// [`Error::Slice`] unless there are `rows × columns` values; [`Error::Invalid`] for an empty
/// map.
pub fn resize_map(
    values: &[f32],
    grid: (usize, usize),
    size: Size,
    filter: Filter,
) -> Result<Vec<f32>> {
    check_length("map", grid.0 * grid.1, values.len())?;
    if values.is_empty() {
        return Err(Error::invalid("map", "is empty"));
    }
    let rows = taps(grid.0, size.height, filter);
    let columns = taps(grid.1, size.width, filter);
    let mut out = Vec::with_capacity(size.area());
    for &(y0, y1, v) in &rows {
        for &(x0, x1, u) in &columns {
            let row = |y: usize| {
                let row = &values[y * grid.1..][..grid.1];
                row[x0] + u * (row[x1] - row[x0])
            };
            let (above, below) = (row(y0), row(y1));
            out.push(above + v * (below - above));
        }
    }
    Ok(out)
}

/// Returns for each target cell the two source cells it lies between and the weight of the
/// second.
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

/// Scales values linearly so that the least becomes 0 and the greatest 1; equal values all become
/// 0.
///
/// # Errors
/// [`Error::Slice`] if a value is NaN or infinite.
pub fn stretch(values: &[f32]) -> Result<Vec<f32>> {
    check_finite("map", values)?;
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let range = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least;
    let scale = if range > 0.0 { 1.0 / range } else { 0.0 };
    Ok(values.iter().map(|v| (v - least) * scale).collect())
}

/// Draws a map of `size` with values of 0–1, one pixel per value.
///
/// # Errors
/// [`Error::Slice`] unless there are `height × width` values.
pub fn heat_map(values: &[f32], size: Size, map: ColourMap) -> Result<Rgb> {
    check_length("map", size.area(), values.len())?;
    let data = values.iter().flat_map(|&v| map.colour(v)).collect();
    Rgb::new(size.width, size.height, data)
}

/// Overlays a map of 0–1, one value per pixel of `picture`, with opacity `alpha` (0–1).
///
/// # Errors
/// [`Error::Slice`] for a map of another size than the picture.
pub fn overlay(picture: &Rgb, values: &[f32], map: ColourMap, alpha: f32) -> Result<Rgb> {
    check_length("map", picture.width * picture.height, values.len())?;
    let mut out = picture.clone();
    for (pixel, &value) in out.data.chunks_exact_mut(3).zip(values) {
        blend(pixel, map.colour(value), alpha);
    }
    Ok(out)
}

/// Scales a map of `grid` = (rows, columns) of patches to 0–1 and enlarges it bilinearly to
/// `size`, for [`heat_map`] and [`overlay`].
///
/// # Errors
/// As [`stretch`] and [`resize_map`].
pub fn enlarge_map(map: &[f32], grid: (usize, usize), size: Size) -> Result<Vec<f32>> {
    resize_map(&stretch(map)?, grid, size, Filter::Bilinear)
}

/// Draws patches in their own colours, enlarged to `size`.
///
/// `colours` is `[h · w, 3]` in 0–1 for `grid` = (h, w), patches row by row.
///
/// # Errors
/// As [`resize_map`].
pub fn patch_colour_map(
    colours: &[f32],
    grid: (usize, usize),
    size: Size,
    filter: Filter,
) -> Result<Rgb> {
    let mut data = vec![0; size.area() * 3];
    for channel in 0..3 {
        let map: Vec<f32> = colours.iter().skip(channel).step_by(3).copied().collect();
        let large = resize_map(&map, grid, size, filter)?;
        for (to, value) in data[channel..].iter_mut().step_by(3).zip(large) {
            *to = (value * 255.0).round() as u8;
        }
    }
    Rgb::new(size.width, size.height, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarges() {
        let v = [0.0, 1.0, 2.0, 3.0];
        let near = resize_map(&v, (2, 2), Size::square(4), Filter::Nearest).unwrap();
        assert_eq!(near[..4], [0.0, 0.0, 1.0, 1.0]);
        let smooth = resize_map(&v, (2, 2), Size::square(4), Filter::Bilinear).unwrap();
        assert_eq!(smooth[..4], [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(smooth[4..8], [0.5, 0.75, 1.25, 1.5]);
        assert_eq!(smooth[15], 3.0);
        for filter in [Filter::Nearest, Filter::Bilinear] {
            assert_eq!(resize_map(&v, (2, 2), Size::square(2), filter).unwrap(), v);
            assert_eq!(
                resize_map(&v[..1], (1, 1), Size::new(2, 1), filter).unwrap(),
                [0.0; 2]
            );
            assert!(resize_map(&[], (0, 0), Size::new(2, 1), filter).is_err());
            assert!(resize_map(&v, (2, 1), Size::new(2, 1), filter).is_err());
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
        let heat = heat_map(&[0.0, 1.0], Size::new(1, 2), ColourMap::Grey).unwrap();
        assert_eq!(heat.data, [0, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn patches_keep_their_colours() {
        let colours = [1.0, 0.0, 0.0, 0.0, 0.5, 1.0];
        let drawn = patch_colour_map(&colours, (1, 2), Size::new(2, 4), Filter::Nearest).unwrap();
        assert_eq!(
            (drawn.pixel(0, 0), drawn.pixel(1, 1)),
            ([255, 0, 0], [255, 0, 0])
        );
        assert_eq!(
            (drawn.pixel(2, 0), drawn.pixel(3, 1)),
            ([0, 128, 255], [0, 128, 255])
        );
        assert!(patch_colour_map(&colours, (2, 2), Size::new(2, 4), Filter::Nearest).is_err());
    }
}
