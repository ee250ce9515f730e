//! The crate's face: a file's header, and its pixels.

use std::borrow::Cow;

use crate::colour::ColourSpace;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::image::{Image, Info, Output, Scale};
use crate::trim::{is_jpeg, trim};
use crate::{fallback, pixels};

/// The most pixels that are decoded unless [`Decoder::with_max_pixels`] says otherwise.
pub const DEFAULT_MAX_PIXELS: u64 = 1 << 28;

/// A file whose header was read.
#[derive(Clone)]
pub struct Decoder<'a> {
    source: Source<'a>,
    info: Info,
    exif: Option<Cow<'a, [u8]>>,
    max_pixels: u64,
    colour_space: ColourSpace,
}

#[derive(Clone)]
enum Source<'a> {
    /// A file that this crate's own decoder reads, by its header.
    Own {
        bytes: &'a [u8],
        header: Box<Header<'a>>,
    },
    /// A file that needed trimming to be understood, or that another decoder reads.
    Trimmed(Cow<'a, [u8]>),
}

impl<'a> Decoder<'a> {
    /// Reads the header of a file; no pixel is decoded.
    ///
    /// # Errors
    /// As [`Error`] lists them, for what the header shows. Files other than baseline and
    /// progressive ones of 8 bits, and those with stray bytes in front of the image data, are
    /// looked through to their end and must be whole.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if !is_jpeg(bytes) {
            return Err(Error::NotJpeg);
        }
        let (source, info, exif) = match Header::read(bytes) {
            Some(header) => {
                let (info, exif) = (header.info(), header.exif.map(Cow::Borrowed));
                let header = Box::new(header);
                (Source::Own { bytes, header }, info, exif)
            }
            None => {
                let trimmed = trim(bytes)?;
                let (info, exif) = match Header::read(&trimmed) {
                    Some(header) => (header.info(), header.exif.map(<[u8]>::to_vec)),
                    None => fallback::read_header(&trimmed)?,
                };
                (Source::Trimmed(trimmed), info, exif.map(Cow::Owned))
            }
        };
        Ok(Self {
            source,
            info,
            exif,
            max_pixels: DEFAULT_MAX_PIXELS,
            colour_space: ColourSpace::default(),
        })
    }

    /// Sets the most pixels that are decoded, 2²⁸ by default. Memory for a pixel is up to 3 bytes for
    /// the image and, of a progressive file, 6 for its coefficients.
    #[must_use]
    pub fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// Sets how the components become colours, for files within others (TIFF, PDF) that say it.
    #[must_use]
    pub fn with_colour_space(self, colour_space: ColourSpace) -> Self {
        Self {
            colour_space,
            ..self
        }
    }

    /// Returns what the header says.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Returns the file's EXIF block, a TIFF file without pixels that holds the orientation.
    pub fn exif(&self) -> Option<&[u8]> {
        self.exif.as_deref()
    }

    /// Decodes at full size.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub fn decode(&self, output: Output) -> Result<Image> {
        let Info { width, height, .. } = self.info;
        self.check_size(width, height)?;
        if let Source::Own { header, .. } = &self.source
            && let Some(image) = self.own(header, output, Scale::Full)?
        {
            return Ok(image);
        }
        // Its own decoder must also be tried on what trimming alone has made readable.
        let trimmed = match &self.source {
            Source::Own { bytes, .. } => trim(bytes)?,
            Source::Trimmed(trimmed) => Cow::Borrowed(&**trimmed),
        };
        let is_new = match &self.source {
            Source::Own { .. } => matches!(trimmed, Cow::Owned(_)),
            Source::Trimmed(_) => true,
        };
        if is_new
            && let Some(header) = Header::read(&trimmed)
            && let Some(image) = self.own(&header, output, Scale::Full)?
        {
            return Ok(image);
        }
        let check_size = |width, height| self.check_size(width, height);
        fallback::decode(&trimmed, output, self.colour_space, check_size)
    }

    /// Decodes at a fraction of the size.
    ///
    /// Of each block of 8 × 8 pixels only the lowest frequencies are transformed. The result is close
    /// to the full image averaged over squares of pixels; it is not what libjpeg's own scaling gives.
    ///
    /// # Errors
    /// As [`Error`] lists them; [`Error::FullSizeOnly`] for files that this crate's own decoder does
    /// not read, and for chroma of a quarter of luma's samples (4:1:1).
    pub fn decode_scaled(&self, output: Output, scale: Scale) -> Result<Image> {
        if scale == Scale::Full {
            return self.decode(output);
        }
        let Info { width, height, .. } = self.info;
        self.check_size(width, height)?;
        let image = match &self.source {
            Source::Own { header, .. } => self.own(header, output, scale)?,
            Source::Trimmed(trimmed) => match Header::read(trimmed) {
                Some(header) => self.own(&header, output, scale)?,
                None => None,
            },
        };
        image.ok_or(Error::FullSizeOnly)
    }

    /// Decodes by this crate's own decoder; `None` for a file that it does not read.
    fn own(&self, header: &Header, output: Output, scale: Scale) -> Result<Option<Image>> {
        let format = pixels::Format {
            is_rgb: match self.colour_space {
                ColourSpace::FromFile => header.is_rgb,
                ColourSpace::Rgb => true,
                ColourSpace::YCbCr => false,
            },
            channels: match output {
                Output::Stored => header.components.len(),
                Output::Rgb => 3,
            },
        };
        let data = match scale {
            Scale::Full => pixels::full(header, format)?,
            _ => pixels::scaled(header, scale.divisor(), format)?,
        };
        let side = |side: usize| side.div_ceil(scale.divisor());
        Ok(data.map(|data| Image {
            width: side(header.width),
            height: side(header.height),
            channels: format.channels,
            data,
        }))
    }

    fn check_size(&self, width: usize, height: usize) -> Result<()> {
        let limit = self.max_pixels;
        if (width as u64).saturating_mul(height as u64) > limit {
            return Err(Error::TooLarge {
                width,
                height,
                limit,
            });
        }
        Ok(())
    }
}
