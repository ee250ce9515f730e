//! Whatever bytes there are, decoding does not panic.

use dinolab_data::decode::{decode, decode_mask, dimensions};
use image::ImageFormat;
use proptest::prelude::*;

use super::{LIMIT, encode, packed_png, picture};

fn seeds() -> Vec<Vec<u8>> {
    let mut files = vec![
        jpeg_fixture!("baseline_420.jpg").to_vec(),
        jpeg_fixture!("progressive.jpg").to_vec(),
        jpeg_fixture!("restart_422.jpg").to_vec(),
        jpeg_fixture!("cmyk_adobe.jpg").to_vec(),
        jpeg_fixture!("ycck.jpg").to_vec(),
        jpeg_fixture!("grey.jpg").to_vec(),
        fixture!("lossy.webp").to_vec(),
        packed_png(
            9,
            9,
            png::ColorType::Indexed,
            png::BitDepth::Eight,
            &[3; 81],
        ),
    ];
    for format in [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Bmp,
    ] {
        files.push(encode(picture(17, 11), format));
    }
    files
}

/// What every decoded image must hold to, whatever the bytes were.
fn check_any(bytes: &[u8]) {
    if let Ok(image) = decode("x", bytes, LIMIT) {
        assert_eq!(image.data.len(), image.width * image.height * 3);
        assert!(
            image.width >= 2 && image.height >= 2 && (image.width * image.height) as u64 <= LIMIT
        );
        assert_eq!(dimensions("x", bytes).unwrap(), image.size());
    }
    if let Ok(mask) = decode_mask("x", bytes, LIMIT) {
        assert_eq!(mask.data.len(), mask.width * mask.height);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn mutated_files_never_panic(
        seed in 0usize..12,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of((any::<prop::sample::Index>(), 1usize..40)),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some((at, length)) = cut {
            let at = at.index(bytes.len());
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        check_any(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(
        magic in prop::sample::select(vec![b"\xFF\xD8\xFF\xE0".as_slice(), b"\xFF\xD8\xFF\xC0", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 ", b"II*\0\x08\0\0\0", b"BM", b""]),
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        check_any(&[magic, &tail].concat());
    }
}
