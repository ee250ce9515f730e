//! Assembly of an image from strips and tiles.

use std::borrow::Cow;

use super::directory::{Directory, Tag, slice};
use super::layout::{Compression, Layout, Photometric};
use super::{fax, jpeg, predictor, refused, unpack, ycbcr};
use crate::Image;
use crate::decode::Reason;
use crate::image::Depth;

/// Pixels in a page's strips and tiles that are always allowed, edges included.
const FEW_PIXELS: u64 = 1 << 22;
/// Bytes of all of them, for each pixel that is allowed: small files may name the same part many times.
const BYTES_PER_PIXEL: u64 = 128;
/// Bytes of one of them that are always allowed.
const FEW_BYTES: u64 = 1 << 26;

/// Decodes some channels, given in ascending order. Samples of fewer than 8 bits, and of 9 to 15, are
/// scaled to 8 and 16, but for a palette's numbers. YCbCr comes out as RGB.
pub(super) fn decode(
    directory: &Directory,
    layout: &Layout,
    channels: &[usize],
    max_pixels: u64,
) -> Result<Image, Reason> {
    let parts = Parts::read(directory, layout, max_pixels)?;
    let (width, height) = (layout.size.width, layout.size.height);
    let mut image = Image {
        depth: layout.depth(),
        data: vec![0; width * height * channels.len() * layout.depth().bytes()],
        width,
        height,
        channels: channels.len(),
    };
    let (across, down) = layout.chunks();
    for plane in 0..if layout.planar { layout.samples } else { 1 } {
        // Pairs of a sample of the part and a channel of the image.
        let picks: Vec<(usize, usize)> = match layout.planar {
            true => channels
                .iter()
                .position(|&channel| channel == plane)
                .map(|to| (0, to))
                .into_iter()
                .collect(),
            false => channels.iter().copied().zip(0..).collect(),
        };
        if picks.is_empty() {
            continue;
        }
        for i in 0..across * down {
            let part = Part {
                number: plane * across * down + i,
                left: i % across * layout.chunk.0,
                top: i / across * layout.chunk.1,
            };
            let rows = layout.chunk.1.min(height - part.top);
            let unpacked = parts.unpack(&part, rows)?;
            let columns = layout.chunk.0.min(width - part.left);
            for (y, row) in unpacked
                .rows
                .chunks_exact(unpacked.stride)
                .take(rows)
                .enumerate()
            {
                let pixel = image.channels * image.depth.bytes();
                let at = ((part.top + y) * width + part.left) * pixel;
                put(
                    layout,
                    row,
                    &picks,
                    &mut image.data[at..at + columns * pixel],
                    image.channels,
                );
            }
        }
    }
    if layout.photometric == Photometric::YCbCr
        && (layout.compression != Compression::Jpeg || layout.planar)
    {
        ycbcr::to_rgb(directory, &mut image.data)?;
    }
    Ok(image)
}

/// A strip or tile, and where its upper left corner is in the page.
struct Part {
    number: usize,
    left: usize,
    top: usize,
}

/// Rows of samples.
struct Rows {
    rows: Vec<u8>,
    /// Bytes of a row.
    stride: usize,
}

/// The positions of the strips or tiles in the file.
struct Parts<'a> {
    file: &'a [u8],
    layout: &'a Layout,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    tables: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(
        directory: &Directory<'a>,
        layout: &'a Layout,
        max_pixels: u64,
    ) -> Result<Self, Reason> {
        let (across, down) = layout.chunks();
        let planes = if layout.planar { layout.samples } else { 1 };
        let all = (across as u64 * down as u64).saturating_mul(planes as u64);
        // What is at the edges has to be unpacked as well, and must not be the most of it.
        let (width, height) = (layout.chunk.0 as u64, layout.chunk.1 as u64);
        let pixels = width
            .saturating_mul(across as u64)
            .saturating_mul(height.saturating_mul(down as u64));
        let rows = layout.chunk.1.min(layout.size.height) as u64;
        let bits = (layout.bits * layout.chunk_samples()) as u64;
        let bytes = width.saturating_mul(rows).saturating_mul(bits) / 8;
        let all_bits = (layout.bits * layout.samples) as u64;
        let all_bytes = pixels.saturating_mul(all_bits) / 8;
        let limit = max_pixels.max(FEW_PIXELS);
        if pixels > limit.saturating_mul(4)
            || bytes > max_pixels.saturating_mul(32).max(FEW_BYTES)
            || all_bytes > limit.saturating_mul(BYTES_PER_PIXEL)
        {
            return Err(format!(
                "damaged TIFF: strips or tiles of {width}×{height} pixels in a page of {}×{}",
                layout.size.width, layout.size.height
            ));
        }
        let (offsets, lengths) = match layout.is_tiled {
            true => (Tag::TileOffsets, Tag::TileByteCounts),
            false => (Tag::StripOffsets, Tag::StripByteCounts),
        };
        let most = usize::try_from(all).unwrap_or(usize::MAX);
        let missing = || format!("damaged TIFF: it does not say where its {all} parts are");
        // Some programs write the tags of strips where they have tiles.
        let places = match directory.numbers(offsets, most)? {
            Some(places) => places,
            None => directory
                .numbers(Tag::StripOffsets, most)?
                .ok_or_else(missing)?,
        };
        if (places.len() as u64) < all {
            return Err(missing());
        }
        let mut counts = match directory.numbers(lengths, most)? {
            Some(counts) => counts,
            None => directory
                .numbers(Tag::StripByteCounts, most)?
                .unwrap_or_default(),
        };
        // What is missing counts as unknown.
        counts.resize(places.len(), 0);
        if layout.compression != Compression::None && counts.contains(&0) {
            fill_in(&places, &mut counts, directory.bytes.len() as u64);
        }
        Ok(Self {
            file: directory.bytes,
            layout,
            offsets: places,
            lengths: counts,
            tables: match layout.compression {
                Compression::Jpeg => directory.raw(Tag::JpegTables)?,
                _ => None,
            },
        })
    }

    /// The samples of the first `rows` rows of a part.
    fn unpack(&self, part: &Part, rows: usize) -> Result<Rows, Reason> {
        let layout = self.layout;
        let width = layout.chunk.0;
        let subsampled = layout.is_subsampled();
        let stride = (width * layout.chunk_samples() * layout.bits).div_ceil(8);
        let size = match subsampled {
            true => ycbcr::bytes(layout, width, rows),
            false => stride.checked_mul(rows),
        };
        let size = size.ok_or("damaged TIFF: its parts have no size")?;
        let data = self.packed(part.number, size)?;
        if layout.compression == Compression::Jpeg {
            let least = (width.min(layout.size.width - part.left), rows);
            let most = (width * layout.chunk.1) as u64 * 2 + (1 << 16);
            let samples = jpeg::decode(layout, self.tables, &data, least, most)?;
            return Ok(Rows {
                stride: samples.width * layout.chunk_samples(),
                rows: samples.data,
            });
        }
        let mut out = match layout.compression {
            Compression::None => data.into_owned(),
            Compression::FaxLines(_) | Compression::FaxG3 { .. } | Compression::FaxG4 => {
                fax::decode(&data, layout.compression, (width, rows))?
            }
            packed => {
                let mut out = vec![0; size];
                let found = match packed {
                    Compression::Lzw => unpack::lzw(&data, &mut out),
                    Compression::Deflate => unpack::deflate(&data, &mut out),
                    _ => unpack::pack_bits(&data, &mut out),
                };
                if found < size {
                    return Err("damaged TIFF: a strip or tile has fewer data than pixels".into());
                }
                out
            }
        };
        if subsampled {
            return Ok(Rows {
                rows: ycbcr::spread(layout, &out, width, rows),
                stride: 3 * width,
            });
        }
        predictor::undo(layout, &mut out, stride);
        Ok(Rows { rows: out, stride })
    }

    /// The data of a part as they are in the file; of uncompressed ones, `size` bytes.
    fn packed(&self, number: usize, size: usize) -> Result<Cow<'a, [u8]>, Reason> {
        let (at, mut length) = (self.offsets[number], self.lengths[number]);
        if at == 0 {
            return Err(refused::sparse());
        }
        if self.layout.compression == Compression::None {
            // libtiff does not believe the length of a single strip either.
            if length == 0 || self.offsets.len() == 1 {
                length = size as u64;
            }
            if length < size as u64 {
                return Err("damaged TIFF: a strip or tile has fewer data than pixels".into());
            }
            length = size as u64;
        }
        let data =
            slice(self.file, at, length).ok_or("truncated TIFF: it ends before the image does")?;
        Ok(
            match self.layout.reversed && self.layout.compression != Compression::Jpeg {
                true => data.iter().map(|byte| byte.reverse_bits()).collect(),
                false => Cow::Borrowed(data),
            },
        )
    }
}

/// Parts of unknown length reach to the next one, or to the end of the file.
fn fill_in(offsets: &[u64], lengths: &mut [u64], end: u64) {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    for (&at, length) in offsets.iter().zip(lengths) {
        if *length == 0 {
            let next = sorted.partition_point(|&other| other <= at);
            let next = sorted.get(next).copied().unwrap_or(end).min(end);
            *length = next.saturating_sub(at);
        }
    }
}

/// Writes the samples of a row that are picked to their channels.
fn put(layout: &Layout, row: &[u8], picks: &[(usize, usize)], out: &mut [u8], channels: usize) {
    let samples = match layout.is_subsampled() {
        true => 3,
        false => layout.chunk_samples(),
    };
    let (bits, order) = (layout.bits, layout.order);
    let scaled = layout.photometric != Photometric::Palette;
    let packed = |i: usize| {
        let at = i * bits;
        let mut value = 0u32;
        for &byte in &row[at / 8..(at + bits).div_ceil(8)] {
            value = value << 8 | u32::from(byte);
        }
        value >> ((8 - (at + bits) % 8) % 8) & ((1 << bits) - 1)
    };
    let most = (1u32 << bits.min(16)) - 1;
    let number = |i: usize| order.number(&row[i * bits / 8..(i + 1) * bits / 8]);
    let size = (samples, channels);
    match (layout.depth(), bits) {
        (Depth::Eight, 8) if samples == channels && picks.len() == channels => {
            out.copy_from_slice(&row[..out.len()]);
        }
        (Depth::Eight, 8) => each(out, size, picks, |i| [row[i]]),
        (Depth::Eight, _) if scaled => each(out, size, picks, |i| {
            [((packed(i) * 255 + most / 2) / most) as u8]
        }),
        (Depth::Eight, _) => each(out, size, picks, |i| [packed(i) as u8]),
        (Depth::Sixteen, 16) => each(out, size, picks, |i| (number(i) as u16).to_ne_bytes()),
        (Depth::Sixteen, _) if scaled => each(out, size, picks, |i| {
            (((packed(i) * 65_535 + most / 2) / most) as u16).to_ne_bytes()
        }),
        (Depth::Sixteen, _) => each(out, size, picks, |i| (packed(i) as u16).to_ne_bytes()),
        (Depth::Float, 16) => each(out, size, picks, |i| half(number(i) as u16).to_ne_bytes()),
        (Depth::Float, 32) => each(out, size, picks, |i| {
            f32::from_bits(number(i) as u32).to_ne_bytes()
        }),
        (Depth::Float, _) => each(out, size, picks, |i| {
            (f64::from_bits(number(i)) as f32).to_ne_bytes()
        }),
    }
}

/// Writes samples of `N` bytes, given by their place in the row.
#[inline(always)]
fn each<const N: usize>(
    out: &mut [u8],
    (samples, channels): (usize, usize),
    picks: &[(usize, usize)],
    sample: impl Fn(usize) -> [u8; N],
) {
    for (x, pixel) in out.chunks_exact_mut(channels * N).enumerate() {
        for &(from, to) in picks {
            pixel[to * N..(to + 1) * N].copy_from_slice(&sample(x * samples + from));
        }
    }
}

/// A float of half precision.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, f32::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    };
    if sign == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_floats() {
        let cases = [
            (0x3C00, 1.0),
            (0x3800, 0.5),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0xC000, -2.0),
            (0x7C00, f32::INFINITY),
            (0x0000, 0.0),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits), value, "{bits:x}");
        }
        assert!(half(0x7E00).is_nan());
    }

    #[test]
    fn unknown_lengths_reach_to_what_is_next() {
        let mut lengths = [0, 5, 0, 0];
        fill_in(&[100, 8, 50, 300], &mut lengths, 250);
        assert_eq!(lengths, [150, 5, 50, 0]);
    }
}
