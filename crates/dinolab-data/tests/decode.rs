//! Decoding: every format, every way a file can be wrong.

use std::io::Cursor;

use dinolab_data::decode::{Format, decode, decode_mask, dimensions, sniff};
use dinolab_data::{Error, Image};
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use proptest::prelude::*;
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::{RGB8, RGB16};

const LIMIT: u64 = 1_000_000;

/// The files made by `fixtures/decode/make.py`.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/decode/", $name)).as_slice()
    };
}

/// JPEGs, and their pixels by Pillow.
macro_rules! jpeg_fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../dinolab-jpeg/tests/fixtures/", $name)).as_slice()
    };
}

/// A picture whose pixels all differ, so that any mix-up shows.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 9) as u8, (y * 11) as u8, (x * 5 + y * 3) as u8])
    })
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let (image, mut bytes) = (image.into(), Cursor::new(Vec::new()));
    if format == ImageFormat::Tiff {
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        let (width, height) = (image.width(), image.height());
        match &image {
            DynamicImage::ImageRgb8(b) => encoder.write_image::<RGB8>(width, height, b),
            DynamicImage::ImageRgb16(b) => encoder.write_image::<RGB16>(width, height, b),
            other => panic!("{other:?}"),
        }
        .unwrap();
    } else {
        image.write_to(&mut bytes, format).unwrap();
    }
    bytes.into_inner()
}

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

fn assert_near(name: &str, found: &Image, expected: &Image, tolerance: u8) {
    let difference = |(a, b): (&u8, &u8)| a.abs_diff(*b);
    let differences = || found.data.iter().zip(&expected.data).map(difference);
    let mean = differences().map(f64::from).sum::<f64>() / found.data.len() as f64;
    let worst = differences().max().unwrap();
    assert!(
        worst <= tolerance && mean < 0.5,
        "{name}: differs by up to {worst}, {mean} on average"
    );
}

#[test]
fn lossless_formats_give_the_exact_pixels() {
    let original = picture(19, 13);
    for (format, told) in [
        (ImageFormat::Png, Format::Png),
        (ImageFormat::WebP, Format::WebP),
        (ImageFormat::Tiff, Format::Tiff),
        (ImageFormat::Bmp, Format::Bmp),
    ] {
        let bytes = encode(original.clone(), format);
        assert_eq!(sniff(&bytes[..16]), Some(told));
        let image = decode("a name without extension", &bytes, LIMIT).unwrap();
        assert_eq!(
            (image.width, image.height, image.channels),
            (19, 13, 3),
            "{format:?}"
        );
        assert_eq!(image.data, *original.as_raw(), "{format:?}");
        assert_eq!(dimensions("x", &bytes).unwrap(), image.size());
    }
}

#[test]
fn jpeg_and_webp_agree_with_the_reference_decoders() {
    for (name, bytes, expected, tolerance) in [
        (
            "baseline_420.jpg",
            jpeg_fixture!("baseline_420.jpg"),
            jpeg_fixture!("baseline_420.expected.png"),
            4,
        ),
        (
            "progressive.jpg",
            jpeg_fixture!("progressive.jpg"),
            jpeg_fixture!("baseline_420.expected.png"),
            4,
        ),
        (
            "restart_422.jpg",
            jpeg_fixture!("restart_422.jpg"),
            jpeg_fixture!("restart_422.expected.png"),
            4,
        ),
        (
            "grey.jpg",
            jpeg_fixture!("grey.jpg"),
            jpeg_fixture!("grey.expected.png"),
            2,
        ),
        (
            "cmyk_adobe.jpg",
            jpeg_fixture!("cmyk_adobe.jpg"),
            jpeg_fixture!("cmyk_adobe.expected.png"),
            4,
        ),
        (
            "ycck.jpg",
            jpeg_fixture!("ycck.jpg"),
            jpeg_fixture!("ycck.expected.png"),
            4,
        ),
        (
            "lossy.webp",
            fixture!("lossy.webp"),
            fixture!("lossy.expected.png"),
            4,
        ),
    ] {
        let expected = decode("expected", expected, LIMIT).unwrap();
        let found = decode("found", bytes, LIMIT).unwrap();
        assert_eq!((found.width, found.height, found.channels), (56, 40, 3));
        assert_near(name, &found, &expected, tolerance);
    }
}

#[test]
fn sixteen_bits_are_scaled_not_cut() {
    let rgb = ImageBuffer::<Rgb<u16>, _>::from_fn(4, 2, |x, y| {
        Rgb([0, 32_896, if x + y == 0 { 65_535 } else { 200 }])
    });
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let image = decode("x", &encode(rgb.clone(), format), LIMIT).unwrap();
        assert_eq!(image.data[..6], [0, 128, 255, 0, 128, 1], "{format:?}");
    }
    let grey = ImageBuffer::<Luma<u16>, _>::from_pixel(3, 3, Luma([25_700]));
    assert_eq!(
        decode("x", &encode(grey, ImageFormat::Png), LIMIT)
            .unwrap()
            .data,
        [100; 27]
    );
}

#[test]
fn grey_becomes_three_equal_channels() {
    let grey = ImageBuffer::<Luma<u8>, _>::from_fn(5, 4, |x, y| Luma([(x * 40 + y) as u8]));
    let image = decode("x", &encode(grey.clone(), ImageFormat::Png), LIMIT).unwrap();
    let expected: Vec<u8> = grey.as_raw().iter().flat_map(|&v| [v, v, v]).collect();
    assert_eq!(image.data, expected);
}

#[test]
fn transparency_lies_over_black() {
    let clear = ImageBuffer::<Rgba<u8>, _>::from_fn(4, 2, |x, _| {
        Rgba([200, 100, 50, [0, 128, 255, 51][x as usize]])
    });
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let image = decode("x", &encode(clear.clone(), format), LIMIT).unwrap();
        assert_eq!(
            image.data[..12],
            [0, 0, 0, 100, 50, 25, 200, 100, 50, 40, 20, 10],
            "{format:?}"
        );
    }
    let grey = ImageBuffer::<LumaA<u8>, _>::from_pixel(2, 2, LumaA([200, 51]));
    assert_eq!(
        decode("x", &encode(grey, ImageFormat::Png), LIMIT)
            .unwrap()
            .data,
        [40; 12]
    );
}

/// A PNG of any colour type and depth from packed rows.
fn packed_png(
    width: u32,
    height: u32,
    kind: png::ColorType,
    depth: png::BitDepth,
    rows: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(kind);
    encoder.set_depth(depth);
    if kind == png::ColorType::Indexed {
        encoder.set_palette(
            (0..=255u8)
                .flat_map(|i| [i, 255 - i, 7])
                .collect::<Vec<u8>>(),
        );
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(rows).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn palettes_and_single_bits_are_expanded() {
    let palette = packed_png(
        2,
        2,
        png::ColorType::Indexed,
        png::BitDepth::Eight,
        &[0, 1, 2, 255],
    );
    let image = decode("x", &palette, LIMIT).unwrap();
    assert_eq!(image.data, [0, 255, 7, 1, 254, 7, 2, 253, 7, 255, 0, 7]);

    let bits = packed_png(
        3,
        2,
        png::ColorType::Grayscale,
        png::BitDepth::One,
        &[0b1010_0000, 0b0100_0000],
    );
    let image = decode("x", &bits, LIMIT).unwrap();
    let values: Vec<u8> = image.data.chunks(3).map(|p| p[0]).collect();
    assert_eq!(values, [255, 0, 255, 0, 255, 0]);
}

/// Puts an EXIF segment that holds nothing but the orientation behind a JPEG's start.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() + 2) as u16;
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xFF, 0xE1]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&jpeg[2..]);
    bytes
}

#[test]
fn exif_orientation_is_applied() {
    let stored = decode("x", jpeg_fixture!("baseline_420.jpg"), LIMIT).unwrap();
    let (w, h) = (stored.width, stored.height);
    // Where a pixel of the upright picture lies in the stored one, by the EXIF standard's
    // account of what the first row and the first column of the file show.
    type From = fn(usize, usize, usize, usize) -> (usize, usize);
    let from: [From; 8] = [
        |x, y, _, _| (x, y),
        |x, y, w, _| (w - 1 - x, y),
        |x, y, w, h| (w - 1 - x, h - 1 - y),
        |x, y, _, h| (x, h - 1 - y),
        |x, y, _, _| (y, x),
        |x, y, _, h| (y, h - 1 - x),
        |x, y, w, h| (w - 1 - y, h - 1 - x),
        |x, y, w, _| (w - 1 - y, x),
    ];
    for (number, from) in (1..).zip(from) {
        let bytes = with_orientation(jpeg_fixture!("baseline_420.jpg"), number);
        let upright = decode("x", &bytes, LIMIT).unwrap();
        let size = if number > 4 { (h, w) } else { (w, h) };
        assert_eq!(
            (upright.width, upright.height),
            size,
            "orientation {number}"
        );
        assert_eq!(dimensions("x", &bytes).unwrap(), upright.size());
        for y in 0..upright.height {
            for x in 0..upright.width {
                let (sx, sy) = from(x, y, w, h);
                let at = |image: &Image, x: usize, y: usize| {
                    image.data[(y * image.width + x) * 3..][..3].to_vec()
                };
                assert_eq!(
                    at(&upright, x, y),
                    at(&stored, sx, sy),
                    "orientation {number} at {x}, {y}"
                );
            }
        }
    }
}

#[test]
fn a_senseless_orientation_is_ignored() {
    let plain = decode("x", jpeg_fixture!("grey.jpg"), LIMIT).unwrap();
    assert_eq!(
        decode("x", &with_orientation(jpeg_fixture!("grey.jpg"), 9), LIMIT).unwrap(),
        plain
    );
}

#[test]
fn what_follows_or_separates_jpeg_segments_does_no_harm() {
    let jpeg = jpeg_fixture!("baseline_420.jpg");
    let plain = decode("x", jpeg, LIMIT).unwrap();
    let followed = [jpeg, b"whatever a camera appends"].concat();
    assert_eq!(decode("x", &followed, LIMIT).unwrap(), plain);
    let first = 4 + usize::from(u16::from_be_bytes([jpeg[4], jpeg[5]]));
    let separated = [&jpeg[..first], &[0; 9], &jpeg[first..]].concat();
    assert_eq!(decode("x", &separated, LIMIT).unwrap(), plain);
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

/// A bitmap of 32 bits with a mask for transparency.
fn transparent_bitmap(alpha: u8) -> Vec<u8> {
    let mut file = b"BM".to_vec();
    let pixels = [30, 20, 10, alpha].repeat(4);
    file.extend([0; 8]);
    file.extend(122u32.to_le_bytes());
    for value in [108u32, 2, 2] {
        file.extend(value.to_le_bytes());
    }
    file.extend([1, 0, 32, 0]);
    for value in [
        3u32,
        16,
        2835,
        2835,
        0,
        0,
        0xFF_0000,
        0xFF00,
        0xFF,
        0xFF00_0000,
    ] {
        file.extend(value.to_le_bytes());
    }
    file.resize(122, 0);
    [file, pixels].concat()
}

#[test]
fn transparency_that_no_program_filled_hides_nothing() {
    for (alpha, expected) in [(0, [10, 20, 30]), (255, [10, 20, 30]), (51, [2, 4, 6])] {
        let image = decode("x", &transparent_bitmap(alpha), LIMIT).unwrap();
        assert_eq!(image.data[..3], expected, "{alpha}");
    }
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

#[test]
fn masks_are_indices_not_colours() {
    let rows = [0, 1, 15, 255, 7, 0];
    for kind in [png::ColorType::Indexed, png::ColorType::Grayscale] {
        let mask = decode_mask(
            "x",
            &packed_png(3, 2, kind, png::BitDepth::Eight, &rows),
            LIMIT,
        )
        .unwrap();
        assert_eq!((mask.width, mask.height), (3, 2));
        assert_eq!(mask.data, rows);
    }
    // 4, 2 and 1 bit, with rows that end within a byte.
    let four = packed_png(
        3,
        2,
        png::ColorType::Indexed,
        png::BitDepth::Four,
        &[0x1F, 0x70, 0x02, 0x30],
    );
    assert_eq!(
        decode_mask("x", &four, LIMIT).unwrap().data,
        [1, 15, 7, 0, 2, 3]
    );
    let two = packed_png(
        3,
        2,
        png::ColorType::Indexed,
        png::BitDepth::Two,
        &[0b0111_1000, 0b0001_1100],
    );
    assert_eq!(
        decode_mask("x", &two, LIMIT).unwrap().data,
        [1, 3, 2, 0, 1, 3]
    );
    let one = packed_png(
        3,
        2,
        png::ColorType::Grayscale,
        png::BitDepth::One,
        &[0b1010_0000, 0b0110_0000],
    );
    assert_eq!(
        decode_mask("x", &one, LIMIT).unwrap().data,
        [1, 0, 1, 0, 1, 1]
    );
}

#[test]
fn what_cannot_be_a_mask_is_refused() {
    let why = |bytes: &[u8]| match decode_mask("m.png", bytes, LIMIT) {
        Err(Error::BadImage { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(why(&encode(picture(4, 4), ImageFormat::Png)).contains("colours"));
    assert!(why(jpeg_fixture!("grey.jpg")).contains("PNG"));
    let deep = packed_png(
        2,
        2,
        png::ColorType::Grayscale,
        png::BitDepth::Sixteen,
        &[0; 8],
    );
    assert!(why(&deep).contains("16"));
    let good = packed_png(
        9,
        9,
        png::ColorType::Indexed,
        png::BitDepth::Eight,
        &[3; 81],
    );
    assert!(why(&good[..good.len() - 14]).contains("truncated"));
    assert!(decode_mask("x", &good, 80).is_err());
}

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
