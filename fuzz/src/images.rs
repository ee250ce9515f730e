//! Image files and archives of them.

use std::fs;

use dinolab_data::decode::{decode, decode_mask, dimensions};
use dinolab_data::source::{self, SourceOptions};

/// Larger pictures than this are refused: enough for a fuzzer, and quick.
const MAX_PIXELS: u64 = 1 << 20;

/// Any bytes as an image and as a mask. It must return, whatever the bytes are.
pub fn image(data: &[u8]) {
    let size = dimensions("fuzzed", data);
    if let Ok(image) = decode("fuzzed", data, MAX_PIXELS) {
        assert!((image.width * image.height) as u64 <= MAX_PIXELS);
        assert_eq!(
            image.data.len(),
            image.width * image.height * image.channels
        );
        assert_eq!(size.ok(), Some((image.width, image.height)));
    }
    if let Ok(mask) = decode_mask("fuzzed", data, MAX_PIXELS) {
        assert_eq!(mask.data.len(), mask.width * mask.height);
    }
}

/// Any bytes as a tar file: the index, and every image in it.
pub fn tar(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("fuzzed.tar");
    fs::write(&path, data).expect("a file in it");
    let options = SourceOptions {
        max_pixels: MAX_PIXELS,
        ..SourceOptions::default()
    };
    if let Ok(source) = source::open(&path, &options) {
        for index in 0..source.len() {
            let _ = (source.name(index), source.label(index));
            let _ = source.image(index);
        }
    }
}
