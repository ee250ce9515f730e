//! What is read of a header, the outputs, the scales, and what is refused.

use std::borrow::Cow;

use dinolab_jpeg::{ColourSpace, Damage, Decoder, Error, Image, Output, Scale, Unsupported, trim};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name, ".jpg")).as_slice()
    };
}

fn decode(bytes: &[u8], output: Output) -> Image {
    Decoder::new(bytes).unwrap().decode(output).unwrap()
}

fn place_of(bytes: &[u8], marker: u8) -> usize {
    let place = bytes.windows(2).position(|pair| pair == [0xFF, marker]);
    place.unwrap()
}

/// A file with a segment behind its first bytes.
fn with_segment(bytes: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&bytes[..2], &[0xFF, marker], &length, content, &bytes[2..]].concat()
}

#[test]
fn headers_say_size_and_components() {
    for (bytes, size, components, is_subsampled) in [
        (fixture!("baseline_420"), (56, 40), 3, true),
        (fixture!("progressive_444"), (37, 23), 3, false),
        (fixture!("grey"), (56, 40), 1, false),
        (fixture!("cmyk_adobe"), (56, 40), 4, false),
        (fixture!("separate_scans"), (37, 23), 3, false),
        (fixture!("odd_411"), (45, 19), 3, true),
    ] {
        let decoder = Decoder::new(bytes).unwrap();
        let info = decoder.info();
        assert_eq!((info.width, info.height), size);
        assert_eq!(info.components, components);
        assert_eq!(info.is_subsampled, is_subsampled);
        assert_eq!(decoder.exif(), None);
    }
    // No pixel is needed.
    let bytes = fixture!("baseline_420");
    let header = Decoder::new(&bytes[..place_of(bytes, 0xDA) + 20]).unwrap();
    assert_eq!(header.info().width, 56);
    assert_eq!(header.decode(Output::Rgb), Err(Error::Truncated));
}

#[test]
fn the_exif_block_is_given_as_it_is() {
    for name in [fixture!("baseline_420"), fixture!("cmyk_adobe")] {
        let bytes = with_segment(name, 0xE1, b"Exif\0\0MM\0*and so on");
        let decoder = Decoder::new(&bytes).unwrap();
        assert_eq!(decoder.exif(), Some(&b"MM\0*and so on"[..]));
    }
}

#[test]
fn samples_as_stored_are_those_of_rgb() {
    for bytes in [fixture!("grey"), fixture!("progressive_grey")] {
        let (grey, rgb) = (decode(bytes, Output::Stored), decode(bytes, Output::Rgb));
        assert_eq!((grey.channels, rgb.channels), (1, 3));
        let repeated: Vec<u8> = grey.data.iter().flat_map(|&level| [level; 3]).collect();
        assert_eq!(repeated, rgb.data);
        let decoder = Decoder::new(bytes).unwrap();
        for scale in [Scale::Half, Scale::Quarter, Scale::Eighth] {
            let grey = decoder.decode_scaled(Output::Stored, scale).unwrap();
            let rgb = decoder.decode_scaled(Output::Rgb, scale).unwrap();
            let repeated: Vec<u8> = grey.data.iter().flat_map(|&level| [level; 3]).collect();
            assert_eq!(repeated, rgb.data);
        }
    }
    let colour = fixture!("baseline_420");
    assert_eq!(decode(colour, Output::Stored), decode(colour, Output::Rgb));
    // By Adobe's convention 0 is full ink.
    for bytes in [fixture!("cmyk_adobe"), fixture!("ycck")] {
        let (cmyk, rgb) = (decode(bytes, Output::Stored), decode(bytes, Output::Rgb));
        assert_eq!((cmyk.width, cmyk.height, cmyk.channels), (56, 40, 4));
        let pixels = cmyk.data.as_chunks::<4>().0.iter();
        for (&[c, m, y, k], found) in pixels.zip(rgb.data.as_chunks::<3>().0) {
            let expected = [c, m, y].map(|ink| u32::from(ink) * u32::from(k) / 255);
            for (expected, &found) in expected.into_iter().zip(found) {
                assert!(expected.abs_diff(u32::from(found)) <= 1);
            }
        }
    }
}

#[test]
fn an_eighth_is_the_mean_of_each_block() {
    for bytes in [
        fixture!("grey"),
        fixture!("noise_444"),
        fixture!("baseline_420"),
    ] {
        let full = decode(bytes, Output::Rgb);
        let decoder = Decoder::new(bytes).unwrap();
        let eighth = decoder.decode_scaled(Output::Rgb, Scale::Eighth).unwrap();
        let (width, height) = (full.width.div_ceil(8), full.height.div_ceil(8));
        assert_eq!((eighth.width, eighth.height), (width, height));
        // Blocks beyond the edge have pixels that the full image has not.
        let (mut worst, mut sum) = (0.0f64, 0.0);
        for y in 0..full.height / 8 {
            for x in 0..full.width / 8 {
                for channel in 0..3 {
                    let at = |i: usize| {
                        let (row, column) = (y * 8 + i / 8, x * 8 + i % 8);
                        f64::from(full.data[(row * full.width + column) * 3 + channel])
                    };
                    let mean = (0..64).map(at).sum::<f64>() / 64.0;
                    let found = f64::from(eighth.data[(y * width + x) * 3 + channel]);
                    worst = worst.max((found - mean).abs());
                    sum += (found - mean).abs();
                }
            }
        }
        // Levels out of range are cut before the mean is taken and behind it; chroma of fewer
        // samples is interpolated across the edges of blocks.
        let count = (full.width / 8 * (full.height / 8) * 3) as f64;
        assert!(
            worst < 26.0 && sum / count < 4.0,
            "{worst}, {}",
            sum / count
        );
    }
}

#[test]
fn limits_are_checked_on_the_header() {
    let bytes = fixture!("baseline_420");
    let decoder = |limit| Decoder::new(bytes).unwrap().with_max_pixels(limit);
    let expected = Error::TooLarge {
        width: 56,
        height: 40,
        limit: 2239,
    };
    assert_eq!(decoder(2239).decode(Output::Rgb), Err(expected.clone()));
    let scaled = decoder(2239).decode_scaled(Output::Rgb, Scale::Half);
    assert_eq!(scaled, Err(expected));
    assert!(decoder(2240).decode(Output::Rgb).is_ok());
    let cmyk = Decoder::new(fixture!("cmyk_adobe")).unwrap();
    let found = cmyk.with_max_pixels(9).decode(Output::Stored);
    assert!(matches!(found, Err(Error::TooLarge { limit: 9, .. })));
}

#[test]
fn other_codings_are_named() {
    let jpeg = fixture!("baseline_420");
    let frame = place_of(jpeg, 0xC0);
    for (marker, bits, kind) in [
        (0xC1, 12, Unsupported::TwelveBits),
        (0xC2, 12, Unsupported::TwelveBits),
        (0xC3, 8, Unsupported::Lossless),
        (0xC9, 8, Unsupported::Arithmetic),
        (0xCA, 8, Unsupported::Arithmetic),
        (0xC5, 8, Unsupported::Rare),
        (0xCB, 8, Unsupported::Rare),
    ] {
        let mut other = jpeg.to_vec();
        (other[frame + 1], other[frame + 4]) = (marker, bits);
        let error = Decoder::new(&other).err().unwrap();
        assert_eq!(error, Error::Unsupported(kind));
        assert!(error.to_string().contains("JPEG") && error.to_string().ends_with("not supported"));
    }
    let mut other = jpeg.to_vec();
    other[frame + 4] = 7;
    let error = Decoder::new(&other).err();
    assert_eq!(error, Some(Error::Damaged(Damage::Precision)));
}

#[test]
fn what_cannot_be_scaled_says_so() {
    for bytes in [
        fixture!("cmyk_adobe"),
        fixture!("separate_scans"),
        fixture!("odd_411"),
    ] {
        let decoder = Decoder::new(bytes).unwrap();
        let scaled = decoder.decode_scaled(Output::Rgb, Scale::Half);
        assert_eq!(scaled, Err(Error::FullSizeOnly));
        let full = decoder.decode_scaled(Output::Rgb, Scale::Full).unwrap();
        assert_eq!(full, decoder.decode(Output::Rgb).unwrap());
    }
}

#[test]
fn colours_are_taken_as_the_caller_says() {
    for bytes in [fixture!("noise_444"), fixture!("separate_scans")] {
        let as_is = |colours| {
            let decoder = Decoder::new(bytes).unwrap().with_colour_space(colours);
            decoder.decode(Output::Rgb).unwrap()
        };
        assert_eq!(as_is(ColourSpace::YCbCr), as_is(ColourSpace::FromFile));
        assert_ne!(as_is(ColourSpace::Rgb), as_is(ColourSpace::FromFile));
    }
}

#[test]
fn files_are_trimmed_to_the_image() {
    let jpeg = fixture!("baseline_420");
    assert!(matches!(trim(jpeg), Ok(Cow::Borrowed(whole)) if whole == jpeg));
    let followed = [jpeg, b"whatever a camera appends"].concat();
    assert!(matches!(trim(&followed), Ok(Cow::Borrowed(whole)) if whole == jpeg));
    let first = 4 + usize::from(u16::from_be_bytes([jpeg[4], jpeg[5]]));
    let separated = [&jpeg[..first], &[0; 9], &jpeg[first..]].concat();
    assert_eq!(trim(&separated).unwrap(), jpeg);
    assert_eq!(decode(&separated, Output::Rgb), decode(jpeg, Output::Rgb));
    for end in 2..jpeg.len() {
        assert_eq!(trim(&jpeg[..end]), Err(Error::Truncated));
    }
    assert_eq!(trim(b"GIF89a"), Err(Error::NotJpeg));
    assert_eq!(Decoder::new(b"").err(), Some(Error::NotJpeg));
    let empty = [0xFF, 0xD8, 0xFF, 0xD9];
    assert_eq!(trim(&empty), Err(Error::Damaged(Damage::NoScan)));
    let wrong = [0xFF, 0xD8, 0xFF, 0xE0, 0, 1, 0xFF, 0xD9];
    assert_eq!(trim(&wrong), Err(Error::Damaged(Damage::Segment)));
}
