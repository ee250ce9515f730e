//! PNG files.

use std::io::{Cursor, Write};
use std::path::Path;

use dinolab_data::slice::check_length;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::write_whole;
use crate::picture::Rgb;
use crate::{Error, Result};

/// Encodes a picture as a PNG file.
///
/// # Errors
/// [`Error::Invalid`] for a picture without pixels, [`Error::Slice`] if its data does not match
/// its size.
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

/// Writes a picture as a PNG file, complete or not at all.
///
/// # Errors
/// As [`encode_png`]; [`Error::Write`] if the file cannot be written.
pub fn write_png(path: impl AsRef<Path>, picture: &Rgb) -> Result<()> {
    let bytes = encode_png(picture)?;
    write_whole(path.as_ref(), |out| out.write_all(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
