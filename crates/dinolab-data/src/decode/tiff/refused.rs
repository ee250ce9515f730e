//! TIFFs that are sound and not supported, with advice.

use crate::decode::Reason;

pub(super) use crate::decode::refused::not_read;

/// A convertible kind of file: what it is, and the command.
fn converted(what: &str, command: &str) -> Reason {
    not_read(what, &format!("convert it, for example with: {command}"))
}

/// What needs the decoders of Python's imagecodecs.
const PYTHON: &str = "python -c \"import tifffile as t; t.imwrite('out.tif', t.imread('in.tif'), \
                      photometric=t.TiffFile('in.tif').pages[0].photometric)\" \
                      (pip install tifffile imagecodecs)";

/// JPEGs that are not baseline or progressive ones of 8 bits.
pub(super) fn jpeg() -> Reason {
    converted(
        "TIFF of JPEGs that are lossless, arithmetic-coded or of 12 bits",
        PYTHON,
    )
}

/// A compression by its number.
pub(super) fn compression(number: u64) -> Reason {
    // What libtiff reads where it is built with it, and its own tool converts without loss.
    const LIBTIFF: &str = "tiffcp -c lzw in.tif out.tif";
    const MAGICK: &str = "magick in.tif out.png";
    let (name, command) = match number {
        6 => ("old-style JPEG", MAGICK),
        34_887 => ("LERC", LIBTIFF),
        34_925 => ("LZMA", LIBTIFF),
        50_000 | 34_926 => ("Zstandard", LIBTIFF),
        50_001 | 34_927 => ("WebP", LIBTIFF),
        33_003..=33_005 | 34_712 => ("JPEG 2000", PYTHON),
        22_610 | 34_934 => ("JPEG XR", PYTHON),
        50_002 | 52_546 => ("JPEG XL", PYTHON),
        34_892 => ("lossy JPEG of raw camera data", MAGICK),
        other => return converted(&format!("TIFF with compression number {other}"), MAGICK),
    };
    converted(&format!("TIFF with {name} compression"), command)
}

/// A kind of colours by its number.
pub(super) fn photometric(number: u64) -> Reason {
    let name = match number {
        4 => {
            return not_read(
                "TIFF whose first page is a transparency mask",
                "remove it, or convert the page wanted, for example with: tiffcp in.tif,1 out.tif",
            );
        }
        8..=10 => "TIFF in CIELab colours",
        32_803 | 34_892 => {
            return not_read(
                "raw camera data",
                "develop it to JPEG or TIFF, for example with: darktable-cli in.dng out.jpg",
            );
        }
        32_844 | 32_845 => "TIFF in LogLuv colours",
        other => {
            return converted(
                &format!("TIFF with colours of number {other}"),
                "magick in.tif -colorspace sRGB out.png",
            );
        }
    };
    converted(name, "magick in.tif -colorspace sRGB out.png")
}

/// Samples of a format, by its number, with this many bits.
pub(super) fn samples(format: u64, bits: usize) -> Reason {
    let name = match format {
        2 => format!("TIFF of signed {bits}-bit numbers"),
        3 => format!("TIFF of {bits}-bit floats"),
        5 | 6 => "TIFF of complex numbers".into(),
        _ => format!("TIFF of {bits}-bit numbers"),
    };
    not_read(
        &name,
        "bring the numbers to unsigned 16 bits, for example with: \
         gdal_translate -ot UInt16 -scale MIN MAX 0 65535 in.tif out.tif",
    )
}

/// Parts of a fax without codes.
pub(super) fn fax_uncompressed() -> Reason {
    converted(
        "TIFF with CCITT compression in its uncompressed mode",
        "tiffcp -c lzw in.tif out.tif",
    )
}

/// Parts of a page that are not in the file.
pub(super) fn sparse() -> Reason {
    not_read(
        "TIFF of which some tiles are not stored (sparse, or never written to its end)",
        "write it again or, if it is meant to be sparse, fill it with zeros: \
         gdal_translate in.tif out.tif",
    )
}

/// Channels that are no colours, where RGB is wanted.
pub(super) fn bands(channels: usize) -> Reason {
    format!(
        "not read by dinolab as RGB: TIFF of {channels} channels that it does not call colours; \
         read them as stored, with {channels} channels"
    )
}
