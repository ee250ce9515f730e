//! Detection of the file format.

use super::refused::Reason;

/// A file format, detected from the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG.
    Png,
    /// WebP, lossy or lossless.
    WebP,
    /// TIFF, either byte order.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// An image in a format that is recognised and not supported.
    Unsupported(&'static str),
}

/// Detects the format from the first bytes of a file (16 are enough); `None` for anything but an
/// image of a known format.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    let at =
        |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|b| b.starts_with(magic));
    Some(if at(0, &[0xFF, 0xD8, 0xFF]) {
        Format::Jpeg
    } else if at(0, b"\x89PNG\r\n\x1a\n") {
        Format::Png
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        Format::WebP
    } else if at(0, b"II*\0") || at(0, b"MM\0*") || at(0, b"II+\0") || at(0, b"MM\0+") {
        Format::Tiff
    } else if is_bitmap(bytes) {
        Format::Bmp
    } else if at(0, b"GIF8") {
        Format::Unsupported("GIF")
    } else if at(4, b"ftypavif") || at(4, b"ftypavis") {
        Format::Unsupported("AVIF")
    } else if at(4, b"ftyphei") || at(4, b"ftypmif1") {
        Format::Unsupported("HEIC")
    } else if at(0, b"\0\0\0\x0cjP  ") || at(0, &[0xFF, 0x4F, 0xFF, 0x51]) {
        Format::Unsupported("JPEG 2000")
    } else if at(0, &[0xFF, 0x0A]) || at(0, b"\0\0\0\x0cJXL ") {
        Format::Unsupported("JPEG XL")
    } else {
        return None;
    })
}

/// Whether bytes begin a bitmap, rather than a text that begins with "BM". Some programs write something
/// into the two reserved fields; then the offset of the pixels and the size of the second header decide.
fn is_bitmap(bytes: &[u8]) -> bool {
    let little = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b));
    let number = |at: usize| bytes.get(at..at + 4).map(little);
    if !bytes.starts_with(b"BM") {
        return false;
    }
    let Some(reserved) = number(6) else {
        return true;
    };
    // The lower half of the header's size is enough.
    let size = bytes.get(14..16).map(little);
    let is_header = |size| matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124);
    reserved == 0
        || size
            .zip(number(10))
            .is_some_and(|(size, pixels)| is_header(size) && (14 + size..1 << 16).contains(&pixels))
}

pub(super) fn format_of(bytes: &[u8]) -> Result<Format, Reason> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    match sniff(bytes) {
        Some(Format::Unsupported(what)) => Err(format!(
            "{what} images are not supported; convert it to JPEG or PNG"
        )),
        Some(format) => Ok(format),
        None => Err("not an image of a known format".into()),
    }
}
