//! Image files and archives of them.

use std::fs;
use std::sync::LazyLock;
#[cfg(feature = "parquet")]
use std::sync::Once;

use dinolab_data::Pixels;
use dinolab_data::decode::{
    Format, MAX_CHANNELS, decode, decode_mask, decode_scaled, decode_to, dimensions, sniff,
    stored_kind,
};
use dinolab_data::source::{self, SourceOptions};
use dinolab_jpeg::{Decoder, Output, Scale};

/// Larger pictures than this are refused: enough for a fuzzer, and quick.
const MAX_PIXELS: u64 = 1 << 20;

/// The same inside archives, where the archive is what is fuzzed.
const MAX_PIXELS_WITHIN: u64 = 1 << 12;

/// Any bytes as an image and as a mask. It must return, whatever the bytes are.
pub fn image(data: &[u8]) {
    let size = dimensions("fuzzed", data);
    if let Ok(image) = decode("fuzzed", data, MAX_PIXELS) {
        assert!((image.width * image.height) as u64 <= MAX_PIXELS);
        assert_eq!(
            image.data.len(),
            image.width * image.height * image.channels
        );
        assert_eq!(size.ok(), Some(image.size()));
        for scale in [2, 4] {
            let scaled = decode_scaled(Pixels::Rgb, "fuzzed", data, MAX_PIXELS, &|_| scale);
            let scaled = scaled.expect("what is decoded in full is decoded at a scale");
            assert_eq!(scaled.full, image.size());
            assert!(scaled.image.is_whole());
        }
    } else {
        // Must return, too.
        let _ = decode_scaled(Pixels::Rgb, "fuzzed", data, MAX_PIXELS, &|_| 4);
    }
    if let Ok(mask) = decode_mask("fuzzed", data, MAX_PIXELS) {
        assert_eq!(mask.data.len(), mask.width * mask.height);
    }
    stored(data);
}

/// Any bytes behind the first ones of a JPEG, in every way that its decoder offers.
pub fn jpeg(data: &[u8]) {
    const MAGIC: &[u8] = b"\xFF\xD8";
    let whole = match data.starts_with(MAGIC) {
        true => data.to_vec(),
        false => [MAGIC, data].concat(),
    };
    let Ok(decoder) = Decoder::new(&whole) else {
        return;
    };
    let decoder = decoder.with_max_pixels(MAX_PIXELS);
    for scale in [Scale::Full, Scale::Half, Scale::Quarter, Scale::Eighth] {
        for output in [Output::Rgb, Output::Stored] {
            if let Ok(image) = decoder.decode_scaled(output, scale) {
                assert_eq!(image.width, decoder.info().width.div_ceil(scale.divisor()));
                let expected = image.width * image.height * image.channels;
                assert_eq!(image.data.len(), expected);
            }
        }
    }
}

/// Any bytes behind the first ones of a TIFF, as an image.
pub fn tiff(data: &[u8]) {
    match sniff(data) {
        Some(Format::Tiff) => image(data),
        _ => image(&[b"II*\0", data].concat()),
    }
}

/// Any bytes behind the first ones of a NumPy array, as an image.
pub fn npy(data: &[u8]) {
    const MAGIC: &[u8] = b"\x93NUMPY";
    match data.starts_with(MAGIC) {
        true => stored(data),
        false => stored(&[MAGIC, data].concat()),
    }
}

/// An image of the channels that it says it has, and of another number of them.
fn stored(data: &[u8]) {
    let told = stored_kind(data).map(|kind| kind.channels);
    for channels in [told.unwrap_or(3).clamp(1, MAX_CHANNELS), 4] {
        let pixels = Pixels::Stored { channels };
        if let Ok(image) = decode_to(pixels, "fuzzed", data, MAX_PIXELS) {
            assert!((image.width * image.height) as u64 <= MAX_PIXELS);
            pixels.check(&image).expect("what was asked for");
        }
    }
}

/// Any bytes as a tar file: the index, and every image in it.
pub fn tar(data: &[u8]) {
    opened(data, "tar");
}

/// Any bytes as a Parquet file: its footer, its names and labels, and every image in it.
#[cfg(feature = "parquet")]
pub fn parquet(data: &[u8]) {
    // The fuzzer ends at any panic, also at one of the `parquet` crate that is caught and made an
    // error of. Without its hook it ends at those that nobody catches.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    opened(data, "parquet");
}

/// Any bytes as a file of that extension: what it holds, and every image in it.
fn opened(data: &[u8], extension: &str) {
    // One folder for all inputs: making and removing one takes longer than reading most of them.
    static FOLDER: LazyLock<tempfile::TempDir> =
        LazyLock::new(|| tempfile::tempdir().expect("a folder for temporary files"));
    let path = FOLDER.path().join("fuzzed").with_extension(extension);
    fs::write(&path, data).expect("a file in it");
    let options = SourceOptions {
        max_pixels: MAX_PIXELS_WITHIN,
        ..SourceOptions::default()
    };
    if let Ok(source) = source::open(&path, &options) {
        for index in 0..source.len() {
            let _ = (source.name(index), source.label(index));
            let _ = source.image(index);
        }
        let all: Vec<usize> = (0..source.len()).collect();
        let _ = source.read_contiguous(&all, 1 << 20);
    }
}
