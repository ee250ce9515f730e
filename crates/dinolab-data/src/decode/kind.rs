//! The stored channels and depth of a file, from its header alone.

use ::image::ImageDecoder;

use super::format::{Format, format_of};
use super::pixels::StoredKind;
use super::refused::{Reason, caught};
use super::{jpeg, npy, other, tiff};

/// Reads what an image file (or a NumPy array) holds from its header; `None` where that is
/// damaged or of a format that is not read. No pixel is decoded.
pub fn stored_kind(bytes: &[u8]) -> Option<StoredKind> {
    caught(|| kind(bytes)).ok()
}

fn kind(bytes: &[u8]) -> Result<StoredKind, Reason> {
    if npy::is_array(bytes) {
        let layout = npy::layout(bytes)?;
        return Ok(StoredKind {
            channels: layout.channels,
            bits: 8 * layout.depth.bytes(),
        });
    }
    match format_of(bytes)? {
        Format::Tiff => tiff::kind(bytes),
        Format::Jpeg => Ok(StoredKind {
            channels: jpeg::channels(bytes)?,
            bits: 8,
        }),
        format => {
            let colours = other::open(bytes, format)?.color_type();
            let channels = usize::from(colours.channel_count());
            Ok(StoredKind {
                channels,
                bits: usize::from(colours.bits_per_pixel()) / channels,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{DynamicImage, ImageFormat};
    use ::tiff::encoder::TiffEncoder;
    use ::tiff::encoder::colortype::RGBA16;
    use std::io::Cursor;

    #[test]
    fn of_every_format_and_of_damaged_headers() {
        let grey = DynamicImage::new_luma8(5, 4);
        let colour = DynamicImage::new_rgb8(5, 4);
        let deep = DynamicImage::new_rgba16(5, 4);
        let cases = [
            (&grey, ImageFormat::Jpeg, (1, 8)),
            (&colour, ImageFormat::Jpeg, (3, 8)),
            (&grey, ImageFormat::Png, (1, 8)),
            (&deep, ImageFormat::Png, (4, 16)),
            (&colour, ImageFormat::Bmp, (3, 8)),
            (&colour, ImageFormat::WebP, (3, 8)),
        ];
        for (image, format, (channels, bits)) in cases {
            let mut file = Cursor::new(Vec::new());
            image.write_to(&mut file, format).unwrap();
            let file = file.into_inner();
            let expected = Some(StoredKind { channels, bits });
            assert_eq!(stored_kind(&file), expected, "{format:?}");
            assert_eq!(stored_kind(&file[..12]), None, "{format:?}");
        }
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        encoder.write_image::<RGBA16>(5, 4, &[7; 80]).unwrap();
        let file = file.into_inner();
        let expected = StoredKind {
            channels: 4,
            bits: 16,
        };
        assert_eq!(stored_kind(&file), Some(expected));
        assert_eq!(stored_kind(&file[..12]), None);
        assert_eq!(stored_kind(b"no image at all"), None);
    }
}
