//! Strips and tiles that are JPEGs.

use dinolab_jpeg::{ColourSpace, Damage, Decoder, Error, Image, Output, Unsupported};

use super::layout::{Layout, Photometric};
use super::refused;
use crate::decode::jpeg::reason;
use crate::decode::refused::{Reason, not_read};

/// Decodes one: samples of the strip or tile, interleaved, with its width. `tables` come from the
/// page, `least` is the size that the picture needs, `most` the most pixels there may be.
pub(super) fn decode(
    layout: &Layout,
    tables: Option<&[u8]>,
    data: &[u8],
    least: (usize, usize),
    most: u64,
) -> Result<Image, Reason> {
    let merged = merged(tables, data)?;
    let whole = dinolab_jpeg::trim(&merged).map_err(|_| refused::jpeg())?;
    let decoder = Decoder::new(&whole).map_err(|error| match error {
        Error::Damaged(Damage::Other(_)) => reason(error),
        _ => refused::jpeg(),
    })?;
    let (components, info) = (layout.chunk_samples(), *decoder.info());
    if info.components != components {
        return Err(format!(
            "damaged: holds a JPEG of {} channels instead of {components}",
            info.components
        ));
    }
    let colours = match layout.photometric {
        Photometric::YCbCr if components == 3 => ColourSpace::YCbCr,
        // RGB by its own word cannot have fewer samples of two colours, although some programs say
        // so of plain JPEGs. Then it is what libjpeg makes of it.
        Photometric::Rgb if components == 3 && info.is_subsampled => ColourSpace::FromFile,
        _ => ColourSpace::Rgb,
    };
    let image = decoder
        .with_colour_space(colours)
        .with_max_pixels(most)
        .decode(Output::Stored)
        .map_err(|error| match error {
            Error::TooLarge { width, height, .. } => {
                format!("damaged: holds a JPEG of {width}×{height} pixels")
            }
            Error::Unsupported(Unsupported::Components(channels)) => not_read(
                &format!("JPEG of {channels} channels within another file"),
                "convert it, for example with: tiffcp -c lzw in.tif out.tif",
            ),
            error => reason(error),
        })?;
    if image.width < least.0 || image.height < least.1 {
        return Err("damaged TIFF: a JPEG in it is smaller than its place".into());
    }
    Ok(image)
}

/// A JPEG with the tables that all of a page share.
fn merged(tables: Option<&[u8]>, data: &[u8]) -> Result<Vec<u8>, Reason> {
    let Some(own) = data.strip_prefix(&[0xFF, 0xD8]) else {
        return Err("damaged TIFF: a JPEG in it does not begin like one".into());
    };
    let tables = tables.and_then(|tables| tables.strip_prefix(&[0xFF, 0xD8]));
    let tables = tables.map_or(&[][..], |tables| {
        let end = tables.windows(2).rposition(|pair| pair == [0xFF, 0xD9]);
        &tables[..end.unwrap_or(tables.len())]
    });
    Ok([&[0xFF, 0xD8], tables, own].concat())
}
