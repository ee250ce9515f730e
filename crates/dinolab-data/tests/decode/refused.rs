//! Files that are refused, with the reason.

use dinolab_data::decode::{Format, decode, dimensions, sniff};
use dinolab_data::{Error, Image};
use image::ImageFormat;

use super::{LIMIT, encode, picture};

fn reason(result: Result<Image, Error>) -> String {
    match result {
        Err(Error::BadImage { name, reason }) => {
            assert_eq!(name, "some/file");
            reason
        }
        other => panic!("not a bad image: {other:?}"),
    }
}

fn refused(bytes: &[u8]) -> String {
    reason(decode("some/file", bytes, LIMIT))
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let png = encode(picture(40, 30), ImageFormat::Png);
    let lossless = encode(picture(40, 30), ImageFormat::WebP);
    let tiff = encode(picture(40, 30), ImageFormat::Tiff);
    let bmp = encode(picture(40, 30), ImageFormat::Bmp);
    let files: [(&str, &[u8]); 9] = [
        ("baseline", jpeg_fixture!("baseline_420.jpg")),
        ("progressive", jpeg_fixture!("progressive.jpg")),
        ("restart", jpeg_fixture!("restart_422.jpg")),
        ("cmyk", jpeg_fixture!("cmyk_adobe.jpg")),
        ("png", &png),
        ("webp lossy", fixture!("lossy.webp")),
        ("webp lossless", &lossless),
        ("tiff", &tiff),
        ("bmp", &bmp),
    ];
    for (name, bytes) in files {
        assert!(decode(name, bytes, LIMIT).is_ok(), "{name}");
        for end in 0..bytes.len() {
            let cut = decode("some/file", &bytes[..end], LIMIT);
            assert!(
                cut.is_err(),
                "{name} accepted with {end} of {} bytes",
                bytes.len()
            );
            assert!(!reason(cut).is_empty());
        }
    }
    assert!(refused(&jpeg_fixture!("baseline_420.jpg")[..900]).contains("truncated"));
    assert!(refused(&png[..png.len() - 20]).contains("truncated"));
    assert!(refused(&fixture!("lossy.webp")[..300]).contains("truncated"));
}

#[test]
fn a_download_filled_up_with_zeros_is_refused() {
    let mut bytes = jpeg_fixture!("baseline_420.jpg").to_vec();
    bytes[800..].fill(0);
    assert!(refused(&bytes).contains("truncated"));
}

#[test]
fn files_that_are_no_image_say_so() {
    assert_eq!(refused(b""), "the file is empty");
    for text in [
        b"x".as_slice(),
        b"hello, I am a text",
        b"BMW is a car maker",
        &[0; 4096],
    ] {
        assert_eq!(refused(text), "not an image of a known format");
    }
    assert!(refused(b"GIF89a and so on").contains("GIF"));
}

#[test]
fn bitmaps_are_told_from_texts_whatever_their_reserved_fields_hold() {
    let mut bmp = encode(picture(9, 7), ImageFormat::Bmp);
    let plain = decode("x", &bmp, LIMIT).unwrap();
    for reserved in [[1, 0, 0, 0], [0xFF; 4], *b"Tool"] {
        bmp[6..10].copy_from_slice(&reserved);
        assert_eq!(sniff(&bmp[..16]), Some(Format::Bmp));
        assert_eq!(decode("x", &bmp, LIMIT).unwrap(), plain);
    }
    for text in [
        "BM: an abbreviation of benchmark",
        "BM25 is a ranking function",
    ] {
        assert_eq!(refused(text.as_bytes()), "not an image of a known format");
    }
    // Pixels that begin within the header.
    bmp[10] = 20;
    assert_eq!(sniff(&bmp), None);
}

#[test]
fn jpegs_of_other_codings_are_named_with_what_to_do() {
    let jpeg = jpeg_fixture!("baseline_420.jpg");
    let frame = jpeg.windows(2).position(|m| m == [0xFF, 0xC0]).unwrap();
    for (marker, bits, what, instead) in [
        (0xC1, 12, "JPEG of 12 bits", "imagecodecs"),
        (0xC2, 12, "JPEG of 12 bits", "imagecodecs"),
        (0xC3, 8, "lossless JPEG", "imagecodecs"),
        (0xC9, 8, "arithmetic coding", "jpegtran"),
        (0xCA, 8, "arithmetic coding", "jpegtran"),
        (0xC5, 8, "rare kind", "PNG"),
        (0xCB, 8, "rare kind", "PNG"),
    ] {
        let mut other = jpeg.to_vec();
        (other[frame + 1], other[frame + 4]) = (marker, bits);
        let why = refused(&other);
        assert!(why.starts_with("not read by dinolab: "), "{why}");
        assert!(why.contains(what) && why.contains(instead), "{why}");
        assert!(!why.contains("  ") && !why.contains("damaged"), "{why}");
        assert!(dimensions("x", &other).is_err());
    }
}

#[test]
fn a_frame_without_room_for_its_components_is_no_panic() {
    // Before the first scan, and before the second one, where others have looked already.
    let jpeg = jpeg_fixture!("separate_scans.jpg");
    let scan = jpeg.windows(2).position(|m| m == [0xFF, 0xDA]).unwrap();
    let next = jpeg[scan + 2..]
        .windows(2)
        .position(|m| m == [0xFF, 0xDA])
        .unwrap()
        + scan
        + 2;
    let with = |at: usize| [&jpeg[..at], &[0xFF, 0xC0, 0, 4, 8, 0], &jpeg[at..]].concat();
    assert!(refused(&with(scan)).contains("no frame header"));
    if let Err(error) = decode("some/file", &with(next), LIMIT) {
        assert!(!error.to_string().contains("panic"), "{error}");
    }
}

#[test]
fn tiny_images_are_refused() {
    for (width, height) in [(1, 1), (1, 9), (9, 1)] {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp] {
            let why = refused(&encode(picture(width, height), format));
            assert!(why.starts_with(&format!("{width}×{height}")), "{why}");
        }
    }
    assert!(decode("x", &encode(picture(2, 2), ImageFormat::Jpeg), LIMIT).is_ok());
}

#[test]
fn the_pixel_limit_is_exact() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Bmp,
    ] {
        let bytes = encode(picture(30, 20), format);
        assert!(decode("x", &bytes, 600).is_ok(), "{format:?}");
        let why = reason(decode("some/file", &bytes, 599));
        assert!(why.contains("30×20") && why.contains("599"), "{why}");
    }
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    // A PNG of a few dozen bytes that promises 10 gigapixels.
    let mut png = encode(picture(2, 2), ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 1, 0x86, 0xA0, 0, 1, 0x86, 0xA0]);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(refused(&png).contains("100000×100000"), "{}", refused(&png));

    let mut jpeg = jpeg_fixture!("grey.jpg").to_vec();
    let frame = jpeg.windows(2).position(|m| m == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xFF);
    assert!(refused(&jpeg).contains("65535×65535"), "{}", refused(&jpeg));
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
