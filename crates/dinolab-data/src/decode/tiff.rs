//! TIFF files: the first page, to the pixels of libtiff.
//!
//! Read here rather than by the `tiff` crate, which refuses much of what scanners, microscopes and
//! libtiff write (streams of LZW without an end, JPEGs and chroma of fewer samples, palettes), and
//! gives samples without saying what they mean. Codecs are those of other crates, and of
//! [`super::jpeg`].

use ::image::metadata::Orientation;

use self::directory::{Directory, Tag};
use self::layout::{Layout, Photometric, StoredSize};
use super::channels::{Check, in_range};
use super::orientation::upright;
use super::other::over_black;
use super::pixels::StoredKind;
use super::refused::{Reason, check_size};
use crate::Image;
use crate::image::Depth;

mod directory;
mod fax;
mod jpeg;
mod layout;
mod pixels;
mod predictor;
mod refused;
mod unpack;
mod ycbcr;

/// Width, height and orientation.
pub(super) fn header(bytes: &[u8]) -> Result<(usize, usize, Orientation), Reason> {
    let size = StoredSize::read(&Directory::read(bytes)?)?;
    Ok((size.width, size.height, size.orientation))
}

/// The channels that [`stored`] gives, and the bits of their samples.
pub(super) fn kind(bytes: &[u8]) -> Result<StoredKind, Reason> {
    let directory = Directory::read(bytes)?;
    StoredSize::read(&directory)?;
    let samples = layout::samples(&directory)?;
    let (bits, _) = layout::bits(&directory, samples)?;
    Ok(match layout::photometric(&directory, samples) {
        Ok(Photometric::Palette) => StoredKind {
            channels: 3,
            bits: 8,
        },
        _ => StoredKind {
            channels: samples,
            bits,
        },
    })
}

/// Decodes to 8-bit RGB.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Image, Reason> {
    let directory = Directory::read(bytes)?;
    let size = StoredSize::read(&directory)?;
    check_size(size.width as u64, size.height as u64, max_pixels)?;
    let layout = Layout::read(&directory)?;
    let (colours, alpha) = colours(&directory, &layout)?;
    let channels: Vec<usize> = (0..colours).chain(alpha).collect();
    let image = pixels::decode(&directory, &layout, &channels, max_pixels)?;
    let image = in_range(meaning(&directory, &layout, image)?)?;
    let data = rgb(image, alpha.is_some());
    upright(size.width, size.height, data, size.orientation)
}

/// Decodes to the channels that are stored, not upright yet. Palettes and YCbCr become RGB.
pub(super) fn stored(
    bytes: &[u8],
    check: Check<'_>,
    max_pixels: u64,
) -> Result<(Image, Orientation), Reason> {
    let directory = Directory::read(bytes)?;
    let size = StoredSize::read(&directory)?;
    check_size(size.width as u64, size.height as u64, max_pixels)?;
    check(kind(bytes)?.channels)?;
    let layout = Layout::read(&directory)?;
    let channels: Vec<usize> = match layout.photometric {
        Photometric::Palette => vec![0],
        _ => (0..layout.samples).collect(),
    };
    let image = pixels::decode(&directory, &layout, &channels, max_pixels)?;
    Ok((meaning(&directory, &layout, image)?, size.orientation))
}

/// How many channels are colours, and the one of transparency that they are not multiplied with yet.
fn colours(directory: &Directory, layout: &Layout) -> Result<(usize, Option<usize>), Reason> {
    let colours = match layout.photometric {
        Photometric::MinIsWhite | Photometric::MinIsBlack | Photometric::Palette => 1,
        Photometric::Rgb | Photometric::YCbCr => 3,
        Photometric::Cmyk => 4,
    };
    let more = layout.samples - colours;
    let other_inks = colours == 4 && directory.number(Tag::InkSet)? == Some(2);
    if colours == 1 && more > 1 || other_inks {
        return Err(refused::bands(layout.samples));
    }
    let alpha = match &layout.extra {
        _ if colours == 4 => None,
        Some(kinds) => {
            let first = kinds
                .iter()
                .take(more)
                .position(|kind| [1, 2].contains(kind));
            first.filter(|&at| kinds[at] == 2)
        }
        // Untold, a single one is what programs take it for.
        None => (more == 1).then_some(0),
    };
    Ok((colours, alpha.map(|at| colours + at)))
}

/// Looks palettes up, and turns round what is white at 0.
fn meaning(directory: &Directory, layout: &Layout, mut image: Image) -> Result<Image, Reason> {
    match layout.photometric {
        Photometric::Palette => return looked_up(directory, layout, &image),
        Photometric::MinIsWhite => {}
        _ => return Ok(image),
    }
    let pixel = image.channels * image.depth.bytes();
    for pixel in image.data.chunks_exact_mut(pixel) {
        match image.depth {
            Depth::Eight => pixel[0] = !pixel[0],
            Depth::Sixteen => (pixel[0], pixel[1]) = (!pixel[0], !pixel[1]),
            Depth::Float => {
                let value = f32::from_ne_bytes([pixel[0], pixel[1], pixel[2], pixel[3]]);
                pixel[..4].copy_from_slice(&(1.0 - value).to_ne_bytes());
            }
        }
    }
    Ok(image)
}

fn looked_up(directory: &Directory, layout: &Layout, image: &Image) -> Result<Image, Reason> {
    let colours = 1usize << layout.bits;
    let map = directory.numbers(Tag::ColorMap, 3 * colours)?;
    let map = map.filter(|map| map.len() == 3 * colours);
    let map = map.ok_or("damaged TIFF: its palette is missing, or cut off")?;
    // As libtiff: a map without a number above 255 was written in 8 bits.
    let shift = if map.iter().any(|&level| level > 255) {
        8
    } else {
        0
    };
    let colour = |index: usize| -> [u8; 3] {
        [0, 1, 2].map(|channel| (map[channel * colours + index] >> shift) as u8)
    };
    let data = match image.depth {
        Depth::Sixteen => {
            let (indices, _) = image.data.as_chunks::<2>();
            let index = |bytes: &[u8; 2]| usize::from(u16::from_ne_bytes(*bytes));
            indices.iter().flat_map(|i| colour(index(i))).collect()
        }
        _ => image
            .data
            .iter()
            .flat_map(|&i| colour(usize::from(i)))
            .collect(),
    };
    Ok(Image::rgb(image.width, image.height, data))
}

/// Grey, RGB or CMYK, with transparency that is to be multiplied, to 8-bit RGB.
fn rgb(image: Image, multiply: bool) -> Vec<u8> {
    let (channels, sample) = (image.channels, image.depth.bytes());
    if image.is_rgb() {
        return image.data;
    }
    let level = |bytes: &[u8]| match image.depth {
        Depth::Eight => bytes[0],
        Depth::Sixteen => ((u32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) + 128) / 257) as u8,
        Depth::Float => {
            let value = f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            (value * 255.0).round() as u8
        }
    };
    let mut data = Vec::with_capacity(image.width * image.height * 3);
    for pixel in image.data.chunks_exact(channels * sample) {
        let at = |channel: usize| level(&pixel[channel * sample..][..sample]);
        let mut colour = match channels {
            1 | 2 => [at(0); 3],
            4 if !multiply => {
                // Pillow's.
                let left = 255 - at(3);
                [0, 1, 2].map(|ink| left - over_black(at(ink), left))
            }
            _ => [at(0), at(1), at(2)],
        };
        if multiply {
            colour = colour.map(|value| over_black(value, at(channels - 1)));
        }
        data.extend_from_slice(&colour);
    }
    data
}
