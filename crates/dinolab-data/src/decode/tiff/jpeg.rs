//! Strips and tiles that are JPEGs.

use super::layout::{Layout, Photometric};
use super::refused;
use crate::decode::Reason;
use crate::decode::jpeg::{self, Colours, Samples};

/// Decodes one: samples of the strip or tile, interleaved, with its width. `tables` come from the
/// page, `least` is the size that the picture needs, `most` the most pixels there may be.
pub(super) fn decode(
    layout: &Layout,
    tables: Option<&[u8]>,
    data: &[u8],
    least: (usize, usize),
    most: u64,
) -> Result<Samples, Reason> {
    let whole = merged(tables, data)?;
    let components = layout.chunk_samples();
    let is_colour = components == 3;
    let colours = match layout.photometric {
        Photometric::YCbCr if is_colour => Colours::YCbCr,
        // RGB by its own word cannot have fewer samples of two colours, although some programs say
        // so of plain JPEGs. Then it is what libjpeg makes of it.
        Photometric::Rgb if is_colour && jpeg::is_subsampled(&whole) => Colours::Told,
        _ => Colours::Plain,
    };
    if !jpeg::is_usual(&whole) {
        return Err(refused::jpeg());
    }
    let samples = jpeg::samples(&whole, components, colours, most)?;
    if samples.width < least.0 || samples.height < least.1 {
        return Err("damaged TIFF: a JPEG in it is smaller than its place".into());
    }
    Ok(samples)
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
