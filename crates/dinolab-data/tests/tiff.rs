//! TIFFs of every kind: libtiff's pixels, or a word on what they are and what to do.

mod tiffs;

use dinolab_data::decode::{Pixels, decode, decode_to, dimensions, stored_kind};
use dinolab_data::{Error, Image, Size};
use tiffs::{
    BLACK, LONG, PALETTE, Page, RGB, SHORT, WHITE, YCBCR, deflated, differences, levels, lzw, tiles,
};

const LIMIT: u64 = 1 << 20;

fn rgb(file: &[u8]) -> Image {
    let image = decode("a.tif", file, LIMIT).unwrap();
    assert_eq!(dimensions("a.tif", file).unwrap(), image.size());
    image
}

fn stored(channels: usize, file: &[u8]) -> Image {
    let kind = stored_kind(file).unwrap();
    assert_eq!(kind.channels, channels);
    decode_to(Pixels::Stored { channels }, "a.tif", file, LIMIT).unwrap()
}

fn refused(file: &[u8]) -> String {
    match decode("a.tif", file, LIMIT) {
        Err(Error::BadImage { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn both(samples: &[u16], big: bool) -> Vec<u8> {
    let bytes = |v: &u16| {
        if big {
            v.to_be_bytes()
        } else {
            v.to_le_bytes()
        }
    };
    samples.iter().flat_map(bytes).collect()
}

/// As a level of 8 bits, rounded.
fn level(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

#[test]
fn lzw_tiles_without_an_end_code_in_any_order() {
    let size = (101, 93);
    let samples: Vec<u16> = (0..101 * 93 * 3)
        .map(|i| (i * 977 % 65_521) as u16)
        .collect();
    for big in [false, true] {
        for predicted in [false, true] {
            let data = both(&samples, big);
            let mut parts = tiles(&data, size, 6, (48, 80));
            assert_eq!(parts.len(), 6);
            for part in &mut parts {
                if predicted {
                    differences(part, 48 * 6, 3, 2, big);
                }
                *part = lzw(part);
            }
            let page = Page {
                big_endian: big,
                ..Page::new(size, RGB, 3, 16, &[])
            };
            let page = page
                .with(259, SHORT, &[5])
                .with(317, SHORT, &[1 + u64::from(predicted)]);
            for big_tiff in [false, true] {
                let file = Page {
                    big: big_tiff,
                    ..page.clone().tiled((48, 80), parts.clone())
                }
                .file();
                assert_eq!(stored(3, &file), Image::sixteen(101, 93, 3, &samples));
                let levels: Vec<u8> = samples.iter().map(|&v| level(v)).collect();
                assert_eq!(rgb(&file).data, levels, "{big} {predicted} {big_tiff}");
            }
        }
    }
}

#[test]
fn planes_with_lzw_and_differences() {
    let (width, height) = (37, 29);
    let data = levels(width * height * 3);
    let mut parts = Vec::new();
    for channel in 0..3 {
        let plane: Vec<u8> = data.iter().skip(channel).step_by(3).copied().collect();
        for strip in plane.chunks(width * 10) {
            let mut strip = strip.to_vec();
            differences(&mut strip, width, 1, 1, false);
            parts.push(lzw(&strip));
        }
    }
    let page = Page::new((width, height), RGB, 3, 8, &[]).with(284, SHORT, &[2]);
    let page = page
        .with(259, SHORT, &[5])
        .with(317, SHORT, &[2])
        .with(278, SHORT, &[10]);
    assert_eq!(rgb(&page.in_parts(parts).file()).data, data);
}

#[test]
fn floats_with_differences_of_bytes() {
    let (width, height, big) = (21, 9, true);
    let numbers: Vec<f32> = (0..width * height)
        .map(|i| (i % 50) as f32 / 49.0)
        .collect();
    let mut parts = Vec::new();
    for row in numbers.chunks(width) {
        // The highest bytes of all numbers first, then the next ones.
        let bytes: Vec<[u8; 4]> = row.iter().map(|v| v.to_be_bytes()).collect();
        let mut planes: Vec<u8> = (0..4)
            .flat_map(|k| bytes.iter().map(move |b| b[k]))
            .collect();
        differences(&mut planes, width * 4, 1, 1, big);
        parts.push(deflated(&planes));
    }
    for big_endian in [false, true] {
        let page = Page::new((width, height), BLACK, 1, 32, &[]).with(339, SHORT, &[3]);
        let page = page
            .with(259, SHORT, &[8])
            .with(317, SHORT, &[3])
            .with(278, SHORT, &[1]);
        let page = page.in_parts(parts.clone());
        let file = Page { big_endian, ..page }.file();
        assert_eq!(stored(1, &file), Image::float(width, height, 1, &numbers));
        let level = |v: &f32| [(v * 255.0).round() as u8; 3];
        let levels: Vec<u8> = numbers.iter().flat_map(level).collect();
        assert_eq!(rgb(&file).data, levels);
    }
}

/// Packs samples of some bits, highest first; rows begin at bytes.
fn packed(samples: &[u16], width: usize, bits: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for row in samples.chunks(width) {
        let all = row
            .iter()
            .flat_map(|v| (0..bits).rev().map(move |bit| (v >> bit & 1) as u8));
        let all: Vec<u8> = all.collect();
        out.extend(all.chunks(8).map(|eight| {
            eight
                .iter()
                .enumerate()
                .fold(0, |byte, (i, bit)| byte | bit << (7 - i))
        }));
    }
    out
}

#[test]
fn samples_of_any_bits_fill_8_or_16() {
    let (width, height) = (23, 5);
    for bits in 1..16 {
        let most = (1u32 << bits) - 1;
        let samples: Vec<u16> = (0..width * height)
            .map(|i| (i as u32 * 37 % (most + 1)) as u16)
            .collect();
        let data = packed(&samples, width, bits);
        for photometric in [WHITE, BLACK] {
            let file = Page::new((width, height), photometric, 1, bits, &data).file();
            let scaled = |range: u32| {
                let value = move |v: &u16| ((u32::from(*v) * range + most / 2) / most) as u16;
                let turned = move |v: u16| {
                    if photometric == WHITE {
                        range as u16 - v
                    } else {
                        v
                    }
                };
                samples.iter().map(value).map(turned).collect::<Vec<u16>>()
            };
            let image = stored(1, &file);
            if bits <= 8 {
                let expected: Vec<u8> = scaled(255).iter().map(|&v| v as u8).collect();
                assert_eq!(image.data, expected, "{bits}");
            } else {
                assert_eq!(
                    image,
                    Image::sixteen(width, height, 1, &scaled(65_535)),
                    "{bits}"
                );
            }
        }
    }
}

#[test]
fn palettes_are_looked_up() {
    let (width, height) = (13, 6);
    for bits in [1, 2, 4, 8] {
        let colours = 1usize << bits;
        let indices: Vec<u16> = (0..width * height)
            .map(|i| (i * 7 % colours) as u16)
            .collect();
        let data = packed(&indices, width, bits);
        let map: Vec<u64> = (0..3 * colours as u64)
            .map(|i| i * 20_011 % 65_536)
            .collect();
        let page = Page::new((width, height), PALETTE, 1, bits, &data);
        let colour = |shift: u32| -> Vec<u8> {
            let of =
                |i: &u16| [0, 1, 2].map(|c| (map[c * colours + usize::from(*i)] >> shift) as u8);
            indices.iter().flat_map(of).collect()
        };
        let file = page.clone().with(320, SHORT, &map).file();
        assert_eq!(rgb(&file).data, colour(8), "{bits}");
        assert_eq!(stored(3, &file).data, colour(8), "{bits}");
        // Of 8 bits, as some programs write it.
        let small: Vec<u64> = map.iter().map(|level| level >> 8).collect();
        let file = page.clone().with(320, SHORT, &small).file();
        assert_eq!(rgb(&file).data, colour(8), "{bits}");
        assert!(refused(&page.with(320, SHORT, &map[1..]).file()).contains("palette"));
    }
}

/// Files that libtiff's own tools wrote, and their pixels by libtiff.
macro_rules! fixtures {
    ($($name:literal of $pixels:literal),*) => {
        [$((
            $name,
            include_bytes!(concat!("fixtures/decode/", $name, ".tif")).as_slice(),
            include_bytes!(concat!("fixtures/decode/", $pixels, ".expected.png")).as_slice(),
        )),*]
    };
}

#[test]
fn pixels_are_those_of_libtiff() {
    for (name, file, expected) in fixtures!(
        "jpeg_tiles" of "jpeg_tiles",
        "jpeg_strips" of "jpeg_strips",
        "ycbcr_420" of "ycbcr_420",
        "ycbcr_41" of "ycbcr_41",
        "g4" of "bilevel",
        "g4_tiles" of "bilevel",
        "g3_1d" of "bilevel",
        "g3_2d" of "bilevel",
        "rle" of "bilevel"
    ) {
        let expected = decode("expected", expected, LIMIT).unwrap();
        assert_eq!(rgb(file), expected, "{name}");
        if stored_kind(file).unwrap().channels == 3 {
            assert_eq!(stored(3, file), expected, "{name}");
        }
    }
}

#[test]
fn jpegs_of_contradictory_colours() {
    let jpeg = include_bytes!("../../dinolab-jpeg/tests/fixtures/baseline_420.jpg");
    let plain = decode("a.jpg", jpeg, LIMIT).unwrap();
    let page = Page::new((plain.width, plain.height), YCBCR, 3, 8, jpeg).with(259, SHORT, &[7]);
    // The file's own subsampling counts, whatever the tag says.
    for told in [[1, 1], [2, 2]] {
        assert_eq!(rgb(&page.clone().with(530, SHORT, &told).file()), plain);
    }
    // RGB with fewer samples of two colours cannot be.
    assert_eq!(rgb(&page.clone().with(262, SHORT, &[RGB]).file()), plain);
    // RGB as it is, although the JPEG says otherwise.
    let full = include_bytes!("../../dinolab-jpeg/tests/fixtures/noise_444.jpg");
    let converted = decode("a.jpg", full, LIMIT).unwrap();
    let page = |photometric| {
        let size = (converted.width, converted.height);
        Page::new(size, photometric, 3, 8, full)
            .with(259, SHORT, &[7])
            .file()
    };
    assert_eq!(rgb(&page(YCBCR)), converted);
    let unconverted = rgb(&page(RGB));
    assert_ne!(unconverted, converted);
    let grey = include_bytes!("../../dinolab-jpeg/tests/fixtures/grey.jpg");
    let page = Page::new((56, 40), BLACK, 1, 8, grey).with(259, SHORT, &[7]);
    assert_eq!(rgb(&page.file()), decode("grey.jpg", grey, LIMIT).unwrap());
    assert!(
        refused(&page.with(277, SHORT, &[3]).with(262, SHORT, &[RGB]).file()).contains("channel")
    );
}

#[test]
fn what_tags_leave_out_is_what_libtiff_takes_it_for() {
    let data = levels(24 * 18 * 3);
    let size = (24, 18);
    let page = Page::new(size, RGB, 3, 8, &data);
    let strips: Vec<Vec<u8>> = data.chunks(24 * 3 * 5).map(lzw).collect();
    let zeros = vec![0; strips.len()];
    let packed = page
        .clone()
        .with(259, SHORT, &[5])
        .with(278, SHORT, &[5])
        .in_parts(strips);
    for (what, page) in [
        ("no photometric", page.clone().without(262)),
        ("no compression", page.clone().without(259)),
        ("the bits once", page.clone().with(258, SHORT, &[8])),
        (
            "rows without limit",
            page.clone().with(278, LONG, &[0xFFFF_FFFF]),
        ),
        ("lengths of 0", packed.with(279, LONG, &zeros)),
        (
            "a wrong length of the only strip",
            page.clone().with(279, LONG, &[17]),
        ),
        ("a void format", page.clone().with(339, SHORT, &[4; 3])),
        (
            "a senseless orientation",
            page.clone().with(274, SHORT, &[77]),
        ),
    ] {
        assert_eq!(rgb(&page.file()).data, data, "{what}");
    }
    let grey = Page::new(size, BLACK, 1, 8, &data[..24 * 18]);
    let expected: Vec<u8> = data[..24 * 18].iter().flat_map(|&v| [v; 3]).collect();
    assert_eq!(rgb(&grey.without(262).file()).data, expected);
}

#[test]
fn bits_may_stand_in_the_reverse_order() {
    let data = levels(24 * 18 * 3);
    let page = Page::new((24, 18), RGB, 3, 8, &data).with(266, SHORT, &[2]);
    let turned = |bytes: &[u8]| bytes.iter().map(|b| b.reverse_bits()).collect::<Vec<u8>>();
    assert_eq!(
        rgb(&page.clone().in_parts(vec![turned(&data)]).file()).data,
        data
    );
    let packed = page
        .with(259, SHORT, &[5])
        .in_parts(vec![turned(&lzw(&data))]);
    assert_eq!(rgb(&packed.file()).data, data);
}

#[test]
fn channels_behind_the_colours_are_what_the_file_says() {
    let size = (4, 2);
    let pixels = [200, 100, 50, 51].repeat(8);
    let page = Page::new(size, RGB, 4, 8, &pixels);
    let pixel = |page: &Page| rgb(&page.file()).data[..3].to_vec();
    // Infrared, say.
    assert_eq!(pixel(&page.clone().with(338, SHORT, &[0])), [200, 100, 50]);
    // Multiplied already: over black they are what they are.
    assert_eq!(pixel(&page.clone().with(338, SHORT, &[1])), [200, 100, 50]);
    assert_eq!(pixel(&page.clone().with(338, SHORT, &[2])), [40, 20, 10]);
    assert_eq!(pixel(&page), [40, 20, 10]);
    let five = Page::new(size, RGB, 5, 8, &[200, 100, 50, 9, 51].repeat(8));
    assert_eq!(pixel(&five.clone().with(338, SHORT, &[0, 2])), [40, 20, 10]);
    assert_eq!(
        pixel(&five.clone().with(338, SHORT, &[0, 0])),
        [200, 100, 50]
    );
    assert_eq!(stored(5, &five.file()).data[..5], [200, 100, 50, 9, 51]);
    let grey = Page::new(size, BLACK, 2, 8, &[200, 51].repeat(8));
    assert_eq!(pixel(&grey.clone().with(338, SHORT, &[2])), [40; 3]);
    assert_eq!(pixel(&grey.with(338, SHORT, &[0])), [200; 3]);
    let ink = Page::new(size, 5, 4, 8, &[0, 255, 51, 0].repeat(8));
    assert_eq!(pixel(&ink), [255, 0, 204]);
}

#[test]
fn orientations_are_applied() {
    let samples: Vec<u16> = (0..12).map(|i| i * 5_000).collect();
    let page = Page::new((4, 3), BLACK, 1, 16, &both(&samples, false)).with(274, SHORT, &[6]);
    let image = stored(1, &page.file());
    let turned = [8, 4, 0, 9, 5, 1, 10, 6, 2, 11, 7, 3].map(|i| samples[i]);
    assert_eq!(image, Image::sixteen(3, 4, 1, &turned));
    let size = Size {
        height: 4,
        width: 3,
    };
    assert_eq!(dimensions("a.tif", &page.file()).unwrap(), size);
    let levels: Vec<u8> = turned.iter().flat_map(|&v| [level(v); 3]).collect();
    assert_eq!(rgb(&page.file()).data, levels);
}

#[test]
fn what_is_not_read_is_named_with_what_to_do() {
    let size = (24, 18);
    let data = levels(24 * 18 * 8);
    let page = Page::new(size, RGB, 3, 8, &data);
    let grey = |bits| Page::new(size, BLACK, 1, bits, &data);
    let mut jpeg = include_bytes!("../../dinolab-jpeg/tests/fixtures/grey.jpg").to_vec();
    let frame = jpeg.windows(2).position(|m| m == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 1] = 0xC3;
    let lossless = Page::new((56, 40), BLACK, 1, 8, &jpeg).with(259, SHORT, &[7]);
    for (page, what, instead) in [
        (
            page.clone().with(259, SHORT, &[50_000]),
            "Zstandard",
            "tiffcp",
        ),
        (page.clone().with(259, SHORT, &[34_925]), "LZMA", "tiffcp"),
        (page.clone().with(259, SHORT, &[50_001]), "WebP", "tiffcp"),
        (page.clone().with(259, SHORT, &[34_887]), "LERC", "tiffcp"),
        (
            page.clone().with(259, SHORT, &[50_002]),
            "JPEG XL",
            "tifffile",
        ),
        (
            page.clone().with(259, SHORT, &[33_005]),
            "JPEG 2000",
            "tifffile",
        ),
        (
            page.clone().with(259, SHORT, &[6]),
            "old-style JPEG",
            "magick",
        ),
        (page.clone().with(259, SHORT, &[65_000]), "65000", "magick"),
        (page.clone().with(262, SHORT, &[8]), "CIELab", "magick"),
        (
            page.clone().with(262, SHORT, &[32_803]),
            "raw camera data",
            "darktable",
        ),
        (
            page.clone().with(258, SHORT, &[8, 8, 16]),
            "different bits",
            "magick",
        ),
        (
            page.clone().with(259, SHORT, &[5]).with(317, SHORT, &[9]),
            "predictor 9",
            "tiffcp",
        ),
        (
            grey(8).with(339, SHORT, &[2]),
            "signed 8-bit",
            "gdal_translate",
        ),
        (
            grey(16).with(339, SHORT, &[2]),
            "signed 16-bit",
            "gdal_translate",
        ),
        (grey(32), "32-bit numbers", "gdal_translate"),
        (
            grey(32).with(339, SHORT, &[2]),
            "signed 32-bit",
            "gdal_translate",
        ),
        (grey(64).with(339, SHORT, &[6]), "complex", "gdal_translate"),
        (grey(12).with(259, SHORT, &[7]), "12 bits", "tifffile"),
        (lossless, "lossless", "tifffile"),
        (
            grey(8).with(273, LONG, &[0]),
            "not stored",
            "gdal_translate",
        ),
        (
            Page::new(size, PALETTE, 2, 8, &data).with(320, SHORT, &[9; 768]),
            "palette and more channels",
            "magick",
        ),
        (
            Page::new(size, BLACK, 5, 8, &data),
            "5 channels",
            "as stored, with 5 channels",
        ),
    ] {
        let why = refused(&page.file());
        assert!(why.starts_with("not read by dinolab"), "{why}");
        assert!(why.contains(what) && why.contains(instead), "{why}");
        assert!(
            !why.contains("damaged") && !why.contains('\n') && !why.contains("  "),
            "{why}"
        );
    }
    // The advice on channels can be followed.
    let bands = Page::new(size, BLACK, 5, 8, &data[..24 * 18 * 5]).file();
    assert_eq!(stored(5, &bands).data, data[..24 * 18 * 5]);
    let wrong: Vec<u8> = [0.5f32, 40.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let floats = Page::new((2, 2), BLACK, 1, 32, &wrong.repeat(2)).with(339, SHORT, &[3]);
    let why = refused(&floats.file());
    assert!(
        why.contains("40") && why.contains("0–1") && why.contains("not read"),
        "{why}"
    );
}

#[test]
fn hostile_files_are_refused_without_their_memory() {
    let data = levels(24 * 18 * 3);
    let page = Page::new((24, 18), RGB, 3, 8, &data);
    let packed = page
        .clone()
        .with(259, SHORT, &[5])
        .in_parts(vec![lzw(&data)]);
    let strips = page.clone().with(278, SHORT, &[5]);
    for (page, what) in [
        (page.clone().with(256, LONG, &[0xFFFF_FFFF]), "limit"),
        (page.clone().with(257, LONG, &[0]), "no ImageLength"),
        (page.clone().without(256), "no ImageWidth"),
        (page.clone().with(273, LONG, &[0xFFFF_FFF0]), "truncated"),
        (page.clone().with(273, LONG, &[9; 0]), "does not say where"),
        (strips.clone(), "does not say where"),
        (
            strips.with(273, LONG, &[8; 4]).with(279, LONG, &[7; 4]),
            "fewer data",
        ),
        (packed.clone().with(257, LONG, &[19]), "fewer data"),
        (packed.clone().with(279, LONG, &[40]), "fewer data"),
        (
            packed.clone().with(279, LONG, &[u64::from(u32::MAX)]),
            "truncated",
        ),
        (page.clone().with(277, SHORT, &[0]), "no samples"),
        (page.clone().with(277, SHORT, &[65_535]), "truncated"),
        (page.clone().with(258, SHORT, &[0]), "no bits"),
        (page.clone().with(277, SHORT, &[2]), "colours"),
        (page.clone().with(278, LONG, &[0]), "no size"),
        (
            page.clone().with(322, LONG, &[0]).with(323, LONG, &[16]),
            "no size",
        ),
        (
            page.clone()
                .with(322, LONG, &[0xFFFF_FFF0])
                .with(323, LONG, &[0xFFFF_FFF0]),
            "tiles of",
        ),
        (
            page.clone()
                .with(322, LONG, &[1 << 20])
                .with(323, LONG, &[16]),
            "tiles of",
        ),
        (
            page.clone().with(259, SHORT, &[7]),
            "does not begin like one",
        ),
        (
            page.clone()
                .with(262, SHORT, &[YCBCR])
                .with(530, SHORT, &[3, 0]),
            "chroma",
        ),
        (page.clone().with(259, SHORT, &[4]), "colours"),
        (
            page.clone()
                .with(259, SHORT, &[4])
                .with(258, SHORT, &[1])
                .with(277, SHORT, &[1]),
            "colours",
        ),
    ] {
        let why = refused(&page.file());
        assert!(why.contains(what), "{why} instead of {what}");
    }
    // Codes that make no sense, and those of a fax that end too soon.
    let fax = Page::new((24, 18), WHITE, 1, 1, &data).with(259, SHORT, &[4]);
    assert!(refused(&fax.file()).contains("CCITT"));
    for compression in [2, 3, 4, 32_771] {
        let short = fax
            .clone()
            .with(259, SHORT, &[compression])
            .in_parts(vec![vec![0x35; 3]]);
        assert!(refused(&short.file()).contains("CCITT"), "{compression}");
    }
    // A directory that claims to hold more than the file.
    let mut file = page.file();
    let directory = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
    file[directory] = 255;
    assert!(refused(&file).contains("directory"));
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    for seed in tiffs::seeds() {
        assert!(
            decode("whole", &seed, LIMIT).is_ok(),
            "{:?}",
            decode("whole", &seed, LIMIT)
        );
        for end in (0..seed.len()).step_by(1 + seed.len() / 300) {
            assert!(
                decode("cut", &seed[..end], LIMIT).is_err(),
                "{end} of {}",
                seed.len()
            );
        }
    }
}
