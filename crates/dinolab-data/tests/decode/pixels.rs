//! The pixels of each format.

use dinolab_data::Image;
use dinolab_data::decode::{Format, decode, dimensions, sniff};
use image::{ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};

use super::{LIMIT, encode, packed_png, picture};

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
