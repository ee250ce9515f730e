//! The layout of a page's pixels, from its tags.

use ::image::metadata::Orientation;

use super::directory::{Directory, Order, Tag};
use super::refused::{self, not_read};
use crate::decode::Reason;
use crate::image::Depth;

/// How the parts of a page are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    /// CCITT codes, a line for itself; lines begin at multiples of that many bits.
    FaxLines(usize),
    /// CCITT group 3; whether lines may refer to the one before.
    FaxG3 {
        two: bool,
    },
    FaxG4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

/// What a difference to the sample before was taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    Whole,
    Float,
}

/// What samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Photometric {
    MinIsWhite,
    MinIsBlack,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
}

/// A page of pixels that can be read.
pub(super) struct Layout {
    pub(super) size: StoredSize,
    pub(super) order: Order,
    /// Samples per pixel.
    pub(super) samples: usize,
    /// Bits of a sample.
    pub(super) bits: usize,
    pub(super) is_float: bool,
    pub(super) photometric: Photometric,
    /// What the samples behind the colours are, where that is told: 1 transparency that colours
    /// are multiplied with already, 2 transparency, 0 anything.
    pub(super) extra: Option<Vec<u64>>,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    /// Whether the bits of bytes stand in the reverse order.
    pub(super) reversed: bool,
    /// Whether every channel is a plane of its own.
    pub(super) planar: bool,
    /// Width and height of a strip or tile.
    pub(super) chunk: (usize, usize),
    pub(super) is_tiled: bool,
    /// Pixels across and down that share a sample of chroma.
    pub(super) subsampling: (usize, usize),
}

/// Width, height and orientation.
#[derive(Clone, Copy)]
pub(super) struct StoredSize {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) orientation: Orientation,
}

impl StoredSize {
    pub(super) fn read(directory: &Directory) -> Result<Self, Reason> {
        let side = |tag| match directory.number(tag)? {
            Some(side @ 1..=0xFFFF_FFFF) => Ok(side as usize),
            _ => Err(format!("damaged TIFF: it has no {tag:?}")),
        };
        let orientation = directory.number(Tag::Orientation).ok().flatten();
        let orientation = orientation
            .and_then(|number| Orientation::from_exif(u8::try_from(number).ok()?))
            .unwrap_or(Orientation::NoTransforms);
        Ok(Self {
            width: side(Tag::ImageWidth)?,
            height: side(Tag::ImageLength)?,
            orientation,
        })
    }
}

/// Samples per pixel.
pub(super) fn samples(directory: &Directory) -> Result<usize, Reason> {
    match directory.number(Tag::SamplesPerPixel)? {
        None => Ok(1),
        Some(samples @ 1..=0xFFFF) => Ok(samples as usize),
        Some(_) => Err("damaged TIFF: it says that pixels have no samples".into()),
    }
}

/// The bits of a sample, and the bits of the samples of other channels where these differ.
pub(super) fn bits(directory: &Directory, samples: usize) -> Result<(usize, bool), Reason> {
    let all = directory.numbers(Tag::BitsPerSample, samples)?;
    let all = all.unwrap_or_else(|| vec![1]);
    match all.first() {
        Some(&first @ 1..=64) => Ok((first as usize, all.iter().any(|&bits| bits != first))),
        _ => Err("damaged TIFF: it says that samples have no bits".into()),
    }
}

/// The meaning of samples, guessed as by libtiff if the file does not record it.
pub(super) fn photometric(directory: &Directory, samples: usize) -> Result<Photometric, Reason> {
    Ok(match directory.number(Tag::Photometric)? {
        Some(0) => Photometric::MinIsWhite,
        Some(1) => Photometric::MinIsBlack,
        Some(2) => Photometric::Rgb,
        Some(3) => Photometric::Palette,
        Some(5) => Photometric::Cmyk,
        Some(6) => Photometric::YCbCr,
        Some(other) => return Err(refused::photometric(other)),
        None => {
            let extra = directory.numbers(Tag::ExtraSamples, samples)?;
            let fax = matches!(directory.number(Tag::Compression)?, Some(2..=4 | 32_771));
            match samples.saturating_sub(extra.map_or(0, |extra| extra.len())) {
                3 => Photometric::Rgb,
                _ if fax => Photometric::MinIsWhite,
                _ => Photometric::MinIsBlack,
            }
        }
    })
}

impl Layout {
    pub(super) fn read(directory: &Directory) -> Result<Self, Reason> {
        let size = StoredSize::read(directory)?;
        let samples = samples(directory)?;
        let photometric = photometric(directory, samples)?;
        let (bits, differ) = bits(directory, samples)?;
        if differ {
            return Err(not_read(
                "TIFF with channels of different bits",
                "give them all the same, for example with: magick in.tif -depth 16 out.png",
            ));
        }
        let format = directory.number(Tag::SampleFormat)?.unwrap_or(1);
        let is_float = match (format, bits) {
            (3, 16 | 32 | 64) => true,
            (1 | 4, 1..=16) => false,
            _ => return Err(refused::samples(format, bits)),
        };
        let planar = directory.number(Tag::PlanarConfiguration)? == Some(2) && samples > 1;
        let compression = compression(directory)?;
        let (chunk, is_tiled) = chunk(directory, size)?;
        let subsampling = subsampling(directory, photometric)?;
        let layout = Self {
            size,
            order: directory.order,
            samples,
            bits,
            is_float,
            photometric,
            extra: directory.numbers(Tag::ExtraSamples, samples)?,
            compression,
            predictor: predictor(directory, compression)?,
            reversed: directory.number(Tag::FillOrder)? == Some(2),
            planar,
            chunk,
            is_tiled,
            subsampling,
        };
        layout.check()?;
        Ok(layout)
    }

    /// What one tag says must suit the others.
    fn check(&self) -> Result<(), Reason> {
        let whole = !self.is_float;
        let fax = matches!(
            self.compression,
            Compression::FaxLines(_) | Compression::FaxG3 { .. } | Compression::FaxG4
        );
        let per_chunk = if self.planar { 1 } else { self.samples };
        let is_faxed = self.bits == 1 && per_chunk == 1 && whole;
        let fits = match self.photometric {
            _ if fax && !is_faxed => false,
            Photometric::Rgb | Photometric::YCbCr => self.samples >= 3,
            Photometric::Cmyk => self.samples >= 4,
            Photometric::Palette => whole && self.compression != Compression::Jpeg,
            Photometric::MinIsWhite | Photometric::MinIsBlack => true,
        };
        if !fits {
            return Err("damaged TIFF: its channels are not those of its colours".into());
        }
        let other = |what: &str| {
            Err(not_read(
                &format!("TIFF with {what}"),
                "convert it, for example with: magick in.tif out.png",
            ))
        };
        if self.compression == Compression::Jpeg && (self.bits != 8 || self.is_float) {
            return Err(refused::jpeg());
        }
        if self.photometric == Photometric::Palette && self.samples > 1 {
            return other("a palette and more channels");
        }
        let subsampled = self.is_subsampled();
        if self.photometric == Photometric::YCbCr
            && (self.bits != 8
                || self.samples != 3
                || subsampled && (self.planar || self.predictor != Predictor::None))
        {
            return other("YCbCr of this kind");
        }
        match self.predictor {
            Predictor::None => {}
            Predictor::Whole if matches!(self.bits, 8 | 16 | 32 | 64) => {}
            Predictor::Float if self.is_float => {}
            _ => return other(&format!("differences of {} bits", self.bits)),
        }
        Ok(())
    }

    /// Whether chroma has fewer samples than luma, in data that are not JPEG's own.
    pub(super) fn is_subsampled(&self) -> bool {
        self.photometric == Photometric::YCbCr
            && self.compression != Compression::Jpeg
            && self.subsampling != (1, 1)
    }

    /// The depth that samples are brought to.
    pub(super) fn depth(&self) -> Depth {
        match self.bits {
            _ if self.is_float => Depth::Float,
            1..=8 => Depth::Eight,
            _ => Depth::Sixteen,
        }
    }

    /// Samples of a pixel of a strip or tile.
    pub(super) fn chunk_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Strips or tiles side by side, and one below the other.
    pub(super) fn chunks(&self) -> (usize, usize) {
        (
            self.size.width.div_ceil(self.chunk.0),
            self.size.height.div_ceil(self.chunk.1),
        )
    }
}

fn compression(directory: &Directory) -> Result<Compression, Reason> {
    Ok(match directory.number(Tag::Compression)?.unwrap_or(1) {
        1 => Compression::None,
        2 => Compression::FaxLines(8),
        32_771 => Compression::FaxLines(16),
        3 => {
            let options = directory.number(Tag::T4Options)?.unwrap_or(0);
            if options & 2 != 0 {
                return Err(refused::fax_uncompressed());
            }
            Compression::FaxG3 {
                two: options & 1 != 0,
            }
        }
        4 => Compression::FaxG4,
        5 => Compression::Lzw,
        7 => Compression::Jpeg,
        8 | 32_946 => Compression::Deflate,
        32_773 => Compression::PackBits,
        other => return Err(refused::compression(other)),
    })
}

/// Only LZW and Deflate have one; libtiff passes over the tag where there is another compression.
fn predictor(directory: &Directory, compression: Compression) -> Result<Predictor, Reason> {
    if !matches!(compression, Compression::Lzw | Compression::Deflate) {
        return Ok(Predictor::None);
    }
    Ok(match directory.number(Tag::Predictor)?.unwrap_or(1) {
        0 | 1 => Predictor::None,
        2 => Predictor::Whole,
        3 => Predictor::Float,
        other => {
            return Err(not_read(
                &format!("TIFF with the predictor {other}"),
                "compress it otherwise, for example with: tiffcp -c lzw in.tif out.tif",
            ));
        }
    })
}

/// The size of a strip or tile.
fn chunk(directory: &Directory, size: StoredSize) -> Result<((usize, usize), bool), Reason> {
    let side = |tag| directory.number(tag);
    let (chunk, is_tiled) = match (side(Tag::TileWidth)?, side(Tag::TileLength)?) {
        (Some(width), Some(height)) => ((width, height), true),
        _ => {
            let rows = side(Tag::RowsPerStrip)?.unwrap_or(u64::MAX);
            ((size.width as u64, rows.min(size.height as u64)), false)
        }
    };
    match chunk {
        (width @ 1..=0xFFFF_FFFF, height @ 1..=0xFFFF_FFFF) => {
            Ok(((width as usize, height as usize), is_tiled))
        }
        _ => Err("damaged TIFF: its strips or tiles have no size".into()),
    }
}

fn subsampling(directory: &Directory, photometric: Photometric) -> Result<(usize, usize), Reason> {
    if photometric != Photometric::YCbCr {
        return Ok((1, 1));
    }
    match directory.numbers(Tag::YCbCrSubSampling, 2)?.as_deref() {
        None => Ok((2, 2)),
        Some([across @ (1 | 2 | 4), down @ (1 | 2 | 4)]) => Ok((*across as usize, *down as usize)),
        _ => Err("damaged TIFF: impossible chroma subsampling".into()),
    }
}
