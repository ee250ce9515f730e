//! Large photographs decoded to fewer pixels: the crops must be those of the full image, within the
//! error that `docs/data.md` states.

use std::f64::consts::PI;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use dinolab_data::augment::scaled::LARGE;
use dinolab_data::augment::{CropBox, Filter, MultiCrop, Resizer, Scratch};
use dinolab_data::decode::{Scaled, decode, decode_scaled};
use dinolab_data::random::{Purpose, Random};
use dinolab_data::source::{self, SourceOptions};
use dinolab_data::{Crops, Image, Loader, LoaderConfig, Pixels, Result, Size};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, Rgb, RgbImage};
use proptest::prelude::*;

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

fn jpeg(image: impl Into<DynamicImage>, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    image.into().write_with_encoder(encoder).unwrap();
    bytes
}

fn full(bytes: &[u8]) -> Image {
    decode("full", bytes, u64::MAX).unwrap()
}

/// Decoded at a scale, whatever the size.
fn at_scale(bytes: &[u8], scale: usize) -> Result<Scaled> {
    decode_scaled(Pixels::Rgb, "scaled", bytes, u64::MAX, &|_| scale)
}

/// With an EXIF segment that holds nothing but the orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif =
        b"\xFF\xE1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

/// A picture with detail at every scale: waves from a few pixels to hundreds long, edges, and noise.
fn photograph(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut random = Random::new(seed, 0, 0, Purpose::Crops);
    let waves: Vec<[f64; 4]> = (0..6)
        .map(|i| {
            let length = 5.0 * 3f64.powi(i) * random.uniform(1.0, 2.0);
            let direction = random.uniform(0.0, PI);
            let wave = 2.0 * PI / length;
            let amplitude = random.uniform(6.0, 12.0) * f64::from(i + 1).sqrt();
            [
                wave * direction.cos(),
                wave * direction.sin(),
                random.uniform(0.0, 6.0),
                amplitude,
            ]
        })
        .collect();
    RgbImage::from_fn(width, height, |x, y| {
        let (fx, fy) = (f64::from(x), f64::from(y));
        let mut value = 120.0;
        for [wx, wy, phase, amplitude] in &waves {
            value += amplitude * (wx * fx + wy * fy + phase).sin();
        }
        if (x / 97 + y / 61) % 3 == 0 {
            value += 50.0;
        }
        let noise =
            (x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77)).wrapping_mul(0xC2B2_AE35);
        value += f64::from(noise >> 28) - 8.0;
        let tint = 30.0 * (fx / 211.0).sin() * (fy / 173.0).cos();
        Rgb([
            (value + tint) as u8,
            value as u8,
            (value * 0.8 - tint) as u8,
        ])
    })
}

/// Photographs side by side.
fn tiled(width: u32, height: u32, seed: u64) -> RgbImage {
    let tile = photograph(800, 600, seed);
    RgbImage::from_fn(width, height, |x, y| *tile.get_pixel(x % 800, y % 600))
}

/// Mean difference, the one that a thousandth exceeds, and the ratio of peak to noise in decibels.
fn compare(a: &[u8], b: &[u8]) -> (f64, u8, f64) {
    assert_eq!(a.len(), b.len());
    let mut counts = [0usize; 256];
    for (a, b) in a.iter().zip(b) {
        counts[usize::from(a.abs_diff(*b))] += 1;
    }
    let n = a.len() as f64;
    let moment = |power: i32| {
        let weighed = counts.iter().enumerate();
        weighed
            .map(|(d, &c)| (d as f64).powi(power) * c as f64)
            .sum::<f64>()
            / n
    };
    let mut above = 0;
    let rare = (0..256)
        .rev()
        .find(|&d| {
            above += counts[d];
            above * 1000 > a.len()
        })
        .unwrap_or(0);
    (
        moment(1),
        rare as u8,
        10.0 * (255.0 * 255.0 / moment(2).max(1e-9)).log10(),
    )
}

/// The size of a width and a height.
fn size_of((width, height): (usize, usize)) -> Size {
    Size { height, width }
}

/// Crops of the full image and of the scaled one.
fn both(image: &Image, scaled: &Scaled, crop: CropBox, size: (usize, usize)) -> [Vec<u8>; 2] {
    let size = size_of(size);
    let (mut resizer, mut a, mut b) = (Resizer::new(), Vec::new(), Vec::new());
    resizer
        .resize_planes(image, crop, size, Filter::Bicubic, false, &mut a)
        .unwrap();
    resizer
        .resize_scaled(scaled, crop, size, Filter::Bicubic, false, &mut b)
        .unwrap();
    [a, b]
}

/// The lowest frequencies of each block of 8 × 8, transformed back to fewer pixels: by the formula.
fn by_formula(image: &Image, scale: usize) -> Vec<f64> {
    let n = 8 / scale;
    let (width, height) = (image.width / scale, image.height / scale);
    let size = |u: usize| if u == 0 { 0.5f64.sqrt() } else { 1.0 };
    let mut out = vec![0.0; width * height * 3];
    for (top, left, c) in (0..image.height / 8)
        .flat_map(|y| (0..image.width / 8).map(move |x| (y, x)))
        .flat_map(|(y, x)| (0..3).map(move |c| (y, x, c)))
    {
        let mut block = [[0.0; 8]; 8];
        for (v, row) in block.iter_mut().enumerate().take(n) {
            for (u, coefficient) in row.iter_mut().enumerate().take(n) {
                for y in 0..8 {
                    for x in 0..8 {
                        let at = (top * 8 + y) * image.width + left * 8 + x;
                        *coefficient += 0.25
                            * size(u)
                            * size(v)
                            * f64::from(image.data[at * 3 + c])
                            * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos()
                            * ((2 * y + 1) as f64 * v as f64 * PI / 16.0).cos();
                    }
                }
            }
        }
        for y in 0..n {
            for x in 0..n {
                let mut sum = 0.0;
                for (v, row) in block.iter().enumerate().take(n) {
                    for (u, coefficient) in row.iter().enumerate().take(n) {
                        sum += 0.25
                            * size(u)
                            * size(v)
                            * coefficient
                            * ((2 * x + 1) as f64 * u as f64 * PI / (2 * n) as f64).cos()
                            * ((2 * y + 1) as f64 * v as f64 * PI / (2 * n) as f64).cos();
                    }
                }
                out[((top * n + y) * width + left * n + x) * 3 + c] = sum.clamp(0.0, 255.0);
            }
        }
    }
    out
}

#[test]
fn blocks_are_their_lowest_frequencies() {
    let colour = jpeg(photograph(128, 96, 1), 95);
    for (name, bytes, most) in [
        ("colour", &colour[..], 3.0),
        ("grey", jpeg_fixture!("grey.jpg"), 1.6),
    ] {
        let image = full(bytes);
        for scale in [2, 4] {
            let scaled = at_scale(bytes, scale).unwrap();
            assert_eq!(scaled.scale, scale);
            assert_eq!(scaled.full, image.size());
            let expected = by_formula(&image, scale);
            assert_eq!(scaled.image.data.len(), expected.len());
            let worst = scaled
                .image
                .data
                .iter()
                .zip(&expected)
                .map(|(&is, should)| (f64::from(is) - should).abs())
                .fold(0.0, f64::max);
            // Both decoders round, the full one at every pixel.
            assert!(worst <= most, "{name} at 1/{scale}: {worst}");
        }
    }
}

#[test]
fn chroma_of_fewer_samples_lies_where_it_belongs() {
    for (name, bytes) in [
        ("baseline_420.jpg", jpeg_fixture!("baseline_420.jpg")),
        ("restart_422.jpg", jpeg_fixture!("restart_422.jpg")),
    ] {
        let image = full(bytes);
        for scale in [2, 4] {
            let scaled = at_scale(bytes, scale).unwrap();
            assert_eq!(scaled.scale, scale, "{name}");
            let [a, b] = both(&image, &scaled, CropBox::whole(&image), (7, 5));
            let (mean, ..) = compare(&a, &b);
            assert!(mean < 1.2, "{name} at 1/{scale}: {mean}");
            // Mirrored, the picture is another: so much for the tolerance.
            let mirrored: Vec<u8> = b
                .chunks(7)
                .flat_map(|row| row.iter().rev().copied())
                .collect();
            assert!(compare(&a, &mirrored).0 > 12.0);
        }
    }
}

#[test]
fn progressive_files_have_the_pixels_of_baseline_ones() {
    for (baseline, progressive) in [
        (
            jpeg_fixture!("baseline_420.jpg"),
            jpeg_fixture!("progressive.jpg"),
        ),
        (
            jpeg_fixture!("noise_444.jpg"),
            jpeg_fixture!("progressive_444.jpg"),
        ),
        (
            jpeg_fixture!("odd_420.jpg"),
            jpeg_fixture!("progressive_420.jpg"),
        ),
        (
            jpeg_fixture!("grey.jpg"),
            jpeg_fixture!("progressive_grey.jpg"),
        ),
    ] {
        for scale in [2, 4] {
            let found = at_scale(progressive, scale).unwrap();
            assert_eq!(found.scale, scale);
            assert_eq!(found, at_scale(baseline, scale).unwrap());
        }
    }
}

/// Waves that are long enough to survive any scale, and so steep that a pixel shows.
fn waves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |at: f64, length: f64| (128.0 + 100.0 * (2.0 * PI * at / length).sin()) as u8;
        let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        Rgb([wave(x, 64.0), wave(y, 64.0), wave(x + y, 90.0)])
    })
}

#[test]
fn boxes_lie_to_the_pixel_however_the_picture_is_turned() {
    // Sides that are multiples of nothing: what rounding adds ends up on every side in turn.
    let file = jpeg(waves(331, 237), 98);
    for orientation in 1..=8 {
        let bytes = with_orientation(&file, orientation);
        let image = full(&bytes);
        for scale in [2, 4] {
            let scaled = at_scale(&bytes, scale).unwrap();
            assert_eq!((scaled.scale, scaled.full), (scale, image.size()));
            let crop = |left: usize, top: usize| CropBox {
                left,
                top,
                width: 201,
                height: 187,
            };
            for (left, top) in [
                (3, 2),
                (0, 0),
                (image.width - 201, image.height - 187),
                (17, 5),
                (14, 23),
            ] {
                let [a, b] = both(&image, &scaled, crop(left, top), (24, 22));
                let (mean, ..) = compare(&a, &b);
                assert!(
                    mean < 0.8,
                    "orientation {orientation}, 1/{scale}, {left}, {top}: {mean}"
                );
            }
            // A pixel of the full image to either side is another picture.
            let [a, _] = both(&image, &scaled, crop(13, 14), (24, 22));
            for (left, top) in [(12, 14), (14, 14), (13, 13), (13, 15)] {
                let [_, b] = both(&image, &scaled, crop(left, top), (24, 22));
                let (mean, ..) = compare(&a, &b);
                assert!(mean > 2.0, "orientation {orientation}, 1/{scale}: {mean}");
            }
        }
    }
}

#[test]
fn what_cannot_be_scaled_is_decoded_in_full() {
    for (name, bytes) in [
        ("cmyk", jpeg_fixture!("cmyk_adobe.jpg")),
        ("ycck", jpeg_fixture!("ycck.jpg")),
        ("webp", fixture!("lossy.webp")),
    ] {
        for scale in [2, 4] {
            let found = at_scale(bytes, scale).unwrap();
            assert_eq!(found, Scaled::full(full(bytes)), "{name}");
        }
    }
    // Also where nothing but full size is wanted, or pixels are taken as stored.
    let bytes = jpeg_fixture!("baseline_420.jpg");
    assert_eq!(at_scale(bytes, 1).unwrap(), Scaled::full(full(bytes)));
    let stored = Pixels::Stored { channels: 3 };
    let found = decode_scaled(stored, "x", bytes, u64::MAX, &|_| 4).unwrap();
    assert_eq!((found.scale, found.image.width), (1, 56));
}

#[test]
fn damaged_files_get_the_full_decode_s_verdict() {
    for bytes in [
        jpeg_fixture!("baseline_420.jpg"),
        jpeg_fixture!("restart_422.jpg"),
        jpeg_fixture!("grey.jpg"),
    ] {
        for end in 0..bytes.len() {
            assert!(
                at_scale(&bytes[..end], 2).is_err(),
                "{end} of {}",
                bytes.len()
            );
        }
        // Data lost in the middle, with the end in place: no half-grey image.
        let scan = bytes
            .windows(2)
            .position(|pair| pair == [0xFF, 0xDA])
            .unwrap()
            + 14;
        for cut in scan..bytes.len() - 2 {
            let lost = [&bytes[..cut], &bytes[bytes.len() - 2..]].concat();
            let (scaled, full) = (at_scale(&lost, 2), decode("full", &lost, u64::MAX));
            assert_eq!(scaled.is_err(), full.is_err(), "cut at {cut}");
            if let (Ok(scaled), Ok(full)) = (scaled, full) {
                let at_most = bytes.len() - cut;
                assert!(scaled.scale == 1 || at_most < 12, "cut at {cut}");
                assert_eq!(full.size(), scaled.full);
            }
        }
    }
    let small = decode_scaled(Pixels::Rgb, "x", jpeg_fixture!("grey.jpg"), 100, &|_| 4);
    assert!(small.unwrap_err().to_string().contains("over the limit"));
}

#[test]
fn altered_files_are_read_or_refused() {
    let seeds = [
        jpeg_fixture!("baseline_420.jpg"),
        jpeg_fixture!("restart_422.jpg"),
        jpeg_fixture!("grey.jpg"),
    ];
    let mut random = Random::new(3, 0, 0, Purpose::Crops);
    let (mut scaled, mut more) = (0, 0);
    for round in 0..3_000 {
        let mut bytes = seeds[round % 3].to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        let found = decode_scaled(Pixels::Rgb, "x", &bytes, 1 << 22, &|_| 4);
        if let Ok(found) = found {
            assert!(found.image.is_whole());
            assert_eq!(found.image.width, found.full.width.div_ceil(found.scale));
            scaled += usize::from(found.scale == 4);
            more += usize::from(decode("x", &bytes, 1 << 22).is_err());
        }
    }
    // Hardly any is taken that the full decode refuses.
    assert!(scaled > 300 && more <= 3, "{scaled}, {more}");
}

#[test]
fn large_photographs_give_the_crops_of_the_full_decode() {
    let bytes = jpeg(tiled(4000, 3000, 2), 92);
    let crops = MultiCrop::default();
    let image = full(&bytes);
    let scaled = decode_scaled(Pixels::Rgb, "x", &bytes, u64::MAX, &|size| {
        crops.scale_of(size)
    })
    .unwrap();
    assert_eq!((scaled.scale, scaled.image.width), (4, 1000));
    let mut scratch = Scratch::default();
    for key in 0..2 {
        for view in 0..crops.views() {
            let plan = crops.plan(size_of((4000, 3000)), (key, 0, 0), view);
            let size = crops.view_size(view);
            let [a, b] = both(&image, &scaled, plan.crop, (size.width, size.height));
            let (mean, rare, peak) = compare(&a, &b);
            assert!(
                mean <= 1.0 && rare <= 12 && peak >= 44.0,
                "view {view}: {mean}, {rare}, {peak}"
            );
            // What is drawn is the same, and all that follows it.
            let plain = crops
                .view(&image, (key, 0, 0), view, &mut scratch)
                .unwrap()
                .to_vec();
            let found = crops
                .view_scaled(&scaled, (key, 0, 0), view, &mut scratch)
                .unwrap();
            let (mean, ..) = compare(&plain, found);
            assert!(mean <= 2.0, "view {view}, with colours: {mean}");
        }
    }
}

#[test]
fn the_scale_leaves_the_smallest_crop_its_pixels() {
    let default = MultiCrop::default();
    let with = |change: fn(&mut MultiCrop)| {
        let mut crops = MultiCrop::default();
        change(&mut crops);
        crops
    };
    let few = with(|crops| crops.local_views = 0);
    let tiny_boxes = with(|crops| crops.local_scale = (0.002, 0.4));
    let wide = with(|crops| {
        crops.local_size = Size {
            height: 96,
            width: 320,
        };
    });
    for (crops, size, scale) in [
        (&default, (4000, 2999), 1),
        (&default, (4000, 3000), 4),
        (&default, (3000, 4000), 4),
        (&default, (500, 375), 1),
        (&few, (4000, 3000), 4),
        (&tiny_boxes, (4000, 3000), 1),
        (&tiny_boxes, (12_000, 9000), 2),
        (&wide, (4000, 3000), 1),
        (&wide, (8000, 6000), 2),
        // Nothing that is drawn fits: the box is as high as the image.
        (&default, (120_000, 100), 1),
    ] {
        assert_eq!(crops.scale_of(size_of(size)), scale, "{size:?}");
    }
    assert_eq!(MultiCrop::identity(96).scale_of(size_of((4000, 3000))), 4);
    assert_eq!(MultiCrop::identity(1000).scale_of(size_of((4000, 3000))), 2);
}

proptest! {
    #[test]
    fn no_box_is_left_with_too_few_pixels(
        width in 200usize..20_000, share in 0.0f64..1.0, low in 0.01f64..0.9,
        size in (16usize..300, 16usize..300), seed: u64,
    ) {
        let height = (LARGE as usize).div_ceil(width) + (share * 3000.0) as usize;
        let crops = MultiCrop {
            local_scale: (low, 1.0),
            local_size: Size { height: size.0, width: size.1 },
            ..MultiCrop::default()
        };
        let scale = crops.scale_of(size_of((width, height)));
        for view in 0..crops.views() {
            let plan = crops.plan(size_of((width, height)), (seed, 0, 0), view);
            let size = crops.view_size(view);
            for (side, of) in [(plan.crop.width, size.width), (plan.crop.height, size.height)] {
                // Boxes are rounded to whole pixels.
                prop_assert!(scale == 1 || (side + 1) as f64 >= 1.5 * (scale * of) as f64);
            }
        }
    }
}

fn config(workers: usize, read_ahead: usize, cache_bytes: u64) -> LoaderConfig {
    LoaderConfig {
        batch_size: 1,
        workers,
        read_ahead,
        cache_bytes,
        max_unusable: 0.5,
        scaled_decoding: true,
        ..LoaderConfig::default()
    }
}

fn batches(path: &Path, config: LoaderConfig, first: usize) -> Vec<Crops> {
    let source = source::open(path, &SourceOptions::default()).unwrap();
    let loader = Loader::new(Arc::from(source), MultiCrop::default(), config).unwrap();
    loader.epoch(1, first).collect::<Result<_>>().unwrap()
}

#[test]
fn crops_do_not_depend_on_threads_shards_cache_or_resuming() {
    let folder = tempfile::tempdir().unwrap();
    let (photographs, shards) = (
        folder.path().join("photographs"),
        folder.path().join("a.tar"),
    );
    let turned = with_orientation(&jpeg(tiled(4001, 3003, 5), 90), 6);
    let files = [
        turned.clone(),
        jpeg(tiled(4100, 3000, 6), 90),
        jpeg(tiled(400, 300, 7), 90),
        turned[..turned.len() / 2].to_vec(),
    ];
    let mut archive = tar::Builder::new(fs::File::create(&shards).unwrap());
    fs::create_dir_all(&photographs).unwrap();
    for (number, file) in files.iter().enumerate() {
        let path = photographs.join(format!("{number}.jpg"));
        fs::write(&path, file).unwrap();
        archive
            .append_path_with_name(&path, format!("{number}.jpg"))
            .unwrap();
    }
    archive.finish().unwrap();

    let expected = batches(&photographs, config(1, 0, 0), 0);
    assert_eq!(expected.len(), 4);
    assert!(expected.iter().all(|batch| batch.indices() != [3]));
    for (path, config) in [
        (&photographs, config(2, 4, 0)),
        (&photographs, config(2, 0, 1 << 30)),
        (&shards, config(2, 4, 0)),
    ] {
        assert!(batches(path, config, 0) == expected, "{}", path.display());
    }
    assert!(batches(&photographs, config(1, 4, 0), 2) == expected[2..]);
}

#[test]
fn without_the_flag_and_for_smaller_images_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        jpeg(tiled(4000, 3000, 6), 90),
        jpeg(tiled(4000, 2999, 7), 90),
    ];
    for (number, file) in files.iter().enumerate() {
        fs::write(folder.path().join(format!("{number}.jpg")), file).unwrap();
    }
    let scaled = batches(folder.path(), config(2, 4, 0), 0);
    let off = LoaderConfig {
        scaled_decoding: false,
        ..config(2, 4, 0)
    };
    let crops = MultiCrop::default();
    let mut global = vec![0.0; crops.global_len()];
    let mut local = vec![0.0; crops.local_len()];
    for (plain, scaled) in batches(folder.path(), off, 0).iter().zip(&scaled) {
        let index = plain.indices()[0];
        assert_eq!(scaled.indices(), [index]);
        assert_eq!(plain == scaled, index == 1, "image {index}");
        let image = full(&files[index]);
        let mut scratch = Scratch::default();
        crops
            .apply(
                &image,
                0,
                1,
                index as u64,
                &mut scratch,
                &mut global,
                &mut local,
            )
            .unwrap();
        assert!(plain.images[0].global == global && plain.images[0].local == local);
    }
}
