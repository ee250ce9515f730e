//! JPEGs, baseline and progressive: libjpeg's pixels to the bit, and nothing taken for whole that is not.

use std::io::Cursor;

use dinolab_jpeg::{Damage, Decoder, Error, Image, Output, Result, Scale};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use proptest::prelude::*;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

/// Random numbers: SplitMix64.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// Decodes to RGB.
fn decode(bytes: &[u8]) -> Result<Image> {
    Decoder::new(bytes)?
        .with_max_pixels(1 << 22)
        .decode(Output::Rgb)
}

/// The pixels of a PNG.
fn png(bytes: &[u8]) -> Image {
    let image = image::load_from_memory(bytes).unwrap().into_rgb8();
    Image {
        width: image.width() as usize,
        height: image.height() as usize,
        channels: 3,
        data: image.into_raw(),
    }
}

/// The files made by `fixtures/make.py`: names, bytes, and their pixels by Pillow.
macro_rules! fixtures {
    ($($name:literal of $pixels:literal),*) => {
        [$((
            $name,
            include_bytes!(concat!("fixtures/", $name, ".jpg")).as_slice(),
            include_bytes!(concat!("fixtures/", $pixels, ".expected.png")).as_slice(),
        )),*]
    };
}

fn baseline() -> [(&'static str, &'static [u8], &'static [u8]); 8] {
    fixtures!(
        "baseline_420" of "baseline_420",
        "restart_422" of "restart_422",
        "grey" of "grey",
        "noise_444" of "noise_444",
        "odd_420" of "odd_420",
        "odd_440" of "odd_440",
        "odd_411" of "odd_411",
        "wide_420" of "wide_420"
    )
}

fn progressive() -> [(&'static str, &'static [u8], &'static [u8]); 5] {
    fixtures!(
        "progressive" of "baseline_420",
        "progressive_444" of "noise_444",
        "progressive_420" of "odd_420",
        "progressive_grey" of "grey",
        "progressive_wide" of "wide_420"
    )
}

fn all() -> Vec<(&'static str, &'static [u8], &'static [u8])> {
    baseline().into_iter().chain(progressive()).collect()
}

/// The pixels by another decoder, which is strict and not exact.
fn by_zune(bytes: &[u8]) -> Option<Vec<u8>> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options)
        .decode()
        .ok()
}

/// Where the entropy-coded data begin.
fn scan(bytes: &[u8]) -> usize {
    let start = bytes.windows(2).position(|pair| pair == [0xFF, 0xDA]);
    let start = start.unwrap();
    start + 2 + usize::from(bytes[start + 3])
}

#[test]
fn pixels_are_those_of_libjpeg() {
    for (name, bytes, expected) in all() {
        let expected = png(expected);
        let found = decode(bytes).unwrap();
        assert_eq!(
            (found.width, found.height),
            (expected.width, expected.height)
        );
        let differing = found.data.iter().zip(&expected.data);
        let differing = differing.filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{name}: of {} values", expected.data.len());
        // The other decoder would have been found out.
        let other = by_zune(bytes).unwrap();
        assert!(name.ends_with("grey") || other != expected.data, "{name}");
    }
}

#[test]
fn what_follows_the_image_does_no_harm() {
    for (name, bytes, expected) in all() {
        let expected = png(expected);
        // Also, codes are looked up two at a time in files of this size.
        let longer = [bytes, &[0x5A; 5_000]].concat();
        let found = decode(&longer).unwrap();
        assert_eq!(found.data, expected.data, "{name}");
    }
}

#[test]
fn fill_bytes_before_markers_do_no_harm() {
    for (name, bytes, expected) in all() {
        let expected = png(expected);
        let start = scan(bytes);
        let mut filled = bytes[..start].to_vec();
        for pair in bytes[start..].windows(2) {
            // Also before restart markers.
            if pair[0] == 0xFF && pair[1] != 0 {
                filled.extend([0xFF; 2]);
            }
            filled.push(pair[0]);
        }
        filled.push(0xD9);
        assert!(filled.len() > bytes.len());
        let found = decode(&filled).unwrap();
        assert_eq!(found.data, expected.data, "{name}");
    }
}

#[test]
fn data_that_end_too_soon_are_no_image() {
    for (_, bytes, _) in baseline() {
        let (start, end) = (scan(bytes), bytes.len() - 2);
        for lost in 1..=(end - start).min(200) {
            // The marker of the end is in its place.
            let shorter = [&bytes[..end - lost], &bytes[end..]].concat();
            let error = decode(&shorter).unwrap_err();
            assert_eq!(error, Error::Damaged(Damage::Incomplete));
        }
    }
    for (name, bytes, _) in progressive() {
        let (start, end) = (scan(bytes), bytes.len() - 2);
        for cut in start..end {
            let shorter = [&bytes[..cut], &bytes[end..]].concat();
            assert!(decode(&shorter).is_err(), "{name} at {cut} of {end}");
        }
    }
    // Restart markers out of turn, missing, or where the header tells of none.
    for name in ["restart_422", "odd_420", "progressive_420"] {
        let (_, bytes, _) = all().into_iter().find(|of| of.0 == name).unwrap();
        let second = bytes.windows(2).position(|pair| pair == [0xFF, 0xD1]);
        let at = second.unwrap();
        let turned = [&bytes[..at], &[0xFF, 0xD2], &bytes[at + 2..]].concat();
        let missing = [&bytes[..at], &bytes[at + 2..]].concat();
        for bytes in [turned, missing] {
            assert!(decode(&bytes).is_err(), "{name}");
        }
    }
}

#[test]
fn filled_up_data_are_whole_and_others_are_not() {
    for (name, bytes, expected) in baseline() {
        let expected = png(expected);
        let end = bytes.len() - 2;
        for (more, is_filler) in [
            (&[0; 40][..], true),
            (&[0xFF, 0, 0xFF, 0, 0xFF, 0], true),
            (&[[0; 17], [1; 17]].concat(), false),
        ] {
            let longer = [&bytes[..end], more, &bytes[end..]].concat();
            match decode(&longer) {
                Ok(found) => assert!(is_filler && found.data == expected.data, "{name} {more:?}"),
                Err(error) => {
                    assert!(!is_filler, "{name} {more:?}");
                    assert_eq!(error, Error::Damaged(Damage::Surplus));
                }
            }
        }
    }
}

#[test]
fn a_few_stray_bytes_before_the_end_do_no_harm() {
    // Also in a file that the other decoder reads.
    let cmyk = include_bytes!("fixtures/cmyk_adobe.jpg");
    let cmyk = ("cmyk_adobe", &cmyk[..], &[][..]);
    for (name, bytes, _) in all().into_iter().chain([cmyk]) {
        let whole = decode(bytes).unwrap();
        let end = bytes.len() - 2;
        for stray in [&[0x12, 0x34, 0x56][..], &[0], &[1; 15], b"Camera"] {
            let longer = [&bytes[..end], stray, &bytes[end..]].concat();
            assert_eq!(decode(&longer).unwrap(), whole, "{name} {stray:?}");
        }
        if name.starts_with("restart") {
            // Data that go on before a restart are none.
            let restart = bytes
                .windows(2)
                .position(|pair| pair == [0xFF, 0xD0])
                .unwrap();
            let longer = [&bytes[..restart], &[0x12, 0x34, 0x56], &bytes[restart..]].concat();
            assert!(decode(&longer).is_err());
        }
    }
}

/// A JPEG without the segments of applications, and with another one in front.
fn marked(bytes: &[u8], marks: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    out.extend(marks.concat());
    let mut at = 2;
    while bytes[at + 1] != 0xDA {
        let length = 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if !(0xE0..=0xEF).contains(&bytes[at + 1]) {
            out.extend(&bytes[at..at + length]);
        }
        at += length;
    }
    [out, bytes[at..].to_vec()].concat()
}

/// The numbers of components, in the frame and the scans.
fn numbered(mut bytes: Vec<u8>, ids: [u8; 3]) -> Vec<u8> {
    let mut at = 2;
    while at + 4 < bytes.len() {
        let (marker, segment) = (bytes[at + 1], at + 4);
        at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        let (first, step) = match marker {
            0xC0 | 0xC2 => (segment + 6, 3),
            0xDA => (segment + 1, 2),
            _ => continue,
        };
        for i in 0..usize::from(bytes[first - 1]) {
            let id = &mut bytes[first + i * step];
            *id = ids[usize::from(*id) - 1];
        }
        while marker == 0xDA && at + 1 < bytes.len() && (bytes[at] != 0xFF || bytes[at + 1] == 0) {
            at += 1;
        }
    }
    bytes
}

#[test]
fn contradictory_marks_of_colours_are_taken_as_by_libjpeg() {
    const JFIF: &[u8] = b"\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
    const ADOBE: [&[u8]; 3] = [
        b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\0",
        b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\x01",
        b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\x02",
    ];
    // The last is read by the other decoder, in scans of one component each.
    let separate = include_bytes!("fixtures/separate_scans.jpg").as_slice();
    for (name, bytes) in [
        (
            "noise_444",
            include_bytes!("fixtures/noise_444.jpg").as_slice(),
        ),
        (
            "progressive_444",
            include_bytes!("fixtures/progressive_444.jpg"),
        ),
        ("separate_scans", separate),
    ] {
        let read = |marks: &[&[u8]], ids| {
            let file = numbered(marked(bytes, marks), ids);
            decode(&file).unwrap()
        };
        let (usual, rgb) = ([1, 2, 3], *b"RGB");
        let converted = read(&[JFIF], usual);
        let plain = read(&[], rgb);
        assert_ne!(converted, plain, "{name}");
        for (marks, ids, expected) in [
            (&[][..], usual, &converted),
            (&[], [0, 1, 2], &converted),
            (&[JFIF], rgb, &converted),
            (&[ADOBE[1]], rgb, &converted),
            (&[ADOBE[2]], usual, &converted),
            (&[JFIF, ADOBE[0]], usual, &converted),
            (&[ADOBE[0], JFIF], usual, &converted),
            (&[ADOBE[0]], usual, &plain),
            (&[ADOBE[0]], rgb, &plain),
        ] {
            assert_eq!(&read(marks, ids), expected, "{name} {marks:?} {ids:?}");
        }
        // At a scale, too, where the file has one.
        let half = |marks: &[&[u8]]| {
            let file = marked(bytes, marks);
            let decoder = Decoder::new(&file).unwrap();
            match decoder.decode_scaled(Output::Rgb, Scale::Half) {
                Err(Error::FullSizeOnly) => decode(&file).unwrap(),
                scaled => scaled.unwrap(),
            }
        };
        assert_eq!(half(&[JFIF, ADOBE[0]]), half(&[JFIF]));
        assert_ne!(half(&[ADOBE[0]]), half(&[JFIF]));
    }
}

#[test]
fn of_altered_files_none_is_taken_that_a_strict_decoder_refuses() {
    let mut random = Random::new(5);
    let (mut taken, mut more) = (0, 0);
    let seeds = all();
    for round in 0..4_000 {
        let mut bytes = seeds[round % seeds.len()].1.to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        if decode(&bytes).is_ok() {
            taken += 1;
            let strict = std::panic::catch_unwind(|| by_zune(&bytes).is_some());
            more += usize::from(!strict.unwrap_or(false));
        }
    }
    // A few, whose last data are as many bytes too long as cameras write: libjpeg takes all of them.
    assert!(taken > 800 && 200 * more < taken, "{more} of {taken}");
}

#[test]
fn altered_files_are_decoded_or_refused_at_every_scale() {
    let mut random = Random::new(9);
    let cmyk = include_bytes!("fixtures/cmyk_adobe.jpg").as_slice();
    let seeds: Vec<&[u8]> = all().iter().map(|seed| seed.1).chain([cmyk]).collect();
    let (mut decoded, mut refused) = (0, 0);
    for round in 0..1_500 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        let Ok(decoder) = Decoder::new(&bytes) else {
            refused += 1;
            continue;
        };
        let decoder = decoder.with_max_pixels(1 << 20);
        for scale in [Scale::Full, Scale::Half, Scale::Quarter, Scale::Eighth] {
            for output in [Output::Rgb, Output::Stored] {
                match decoder.decode_scaled(output, scale) {
                    Ok(image) => {
                        decoded += 1;
                        let side = |side: usize| side.div_ceil(scale.divisor());
                        assert_eq!(image.width, side(decoder.info().width));
                        assert_eq!(image.height, side(decoder.info().height));
                        let expected = image.width * image.height * image.channels;
                        assert_eq!(image.data.len(), expected);
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(decoded > 1_000 && refused > 1_000, "{decoded}, {refused}");
}

proptest! {
    #[test]
    fn another_decoder_is_near_at_any_size(
        width in 2u32..150, height in 2u32..60, quality in 1u8..=100, seed: u64, coarse in 1u32..9,
    ) {
        let mut random = Random::new(seed);
        let mut level = |_: u32| random.below(256) as u8;
        let tiles: Vec<[u8; 3]> = (0..150 * 60).map(|i| [level(i), level(i), level(i)]).collect();
        let picture = RgbImage::from_fn(width, height, |x, y| {
            Rgb(tiles[(y / coarse * 150 + x / coarse) as usize])
        });
        let mut bytes = Cursor::new(Vec::new());
        let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
        picture.write_with_encoder(encoder).unwrap();
        let bytes = bytes.into_inner();
        let found = decode(&bytes).unwrap();
        prop_assert_eq!((found.width, found.height), (width as usize, height as usize));
        let other = by_zune(&bytes).unwrap();
        let differences = found.data.iter().zip(&other).map(|(a, b)| a.abs_diff(*b));
        let worst = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / other.len() as f64;
        prop_assert!(worst <= 8 && mean < 1.0, "{} {}", worst, mean);
    }
}
