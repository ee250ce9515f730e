//! Images of any channels and depth: what is stored is what is cropped.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use dinolab_data::augment::{CropBox, Filter, MultiCrop, Scratch, multichannel};
use dinolab_data::decode::{Pixels, decode_to};
use dinolab_data::random::{Purpose, Random};
use dinolab_data::source::{self, SourceOptions};
use dinolab_data::{Depth, Error, Image, Loader, LoaderConfig, Size, statistics};
use tiff::encoder::{TiffEncoder, colortype};
use tiff::tags::{PhotometricInterpretation, PlanarConfiguration, Tag};

const MOST: u64 = 1 << 20;

fn stored(channels: usize) -> Pixels {
    Pixels::Stored { channels }
}

/// Samples that differ from each other, in the upper half of the range.
fn samples(count: usize, seed: u64) -> Vec<u16> {
    let mut random = Random::new(seed, 0, 0, Purpose::Validation);
    (0..count)
        .map(|_| 30_000 + random.below(9_000) as u16)
        .collect()
}

/// A TIFF of one strip, written tag by tag, since the encoder knows colours only.
fn tiff(
    (width, height, channels): (usize, usize, usize),
    samples: &[u16],
    photometric: PhotometricInterpretation,
    planar: bool,
) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut directory = encoder.image_directory().unwrap();
    let planes = if planar { channels } else { 1 };
    let strips: Vec<u32> = samples
        .chunks(samples.len() / planes)
        .map(|strip| directory.write_data(strip).unwrap() as u32)
        .collect();
    let size = (samples.len() / planes * 2) as u32;
    let colours = match photometric {
        PhotometricInterpretation::RGB => 3,
        _ => 1,
    };
    directory.write_tag(Tag::ImageWidth, width as u32).unwrap();
    directory
        .write_tag(Tag::ImageLength, height as u32)
        .unwrap();
    directory
        .write_tag(Tag::BitsPerSample, &vec![16u16; channels][..])
        .unwrap();
    directory.write_tag(Tag::Compression, 1u16).unwrap();
    directory
        .write_tag(Tag::PhotometricInterpretation, photometric.to_u16())
        .unwrap();
    directory.write_tag(Tag::StripOffsets, &strips[..]).unwrap();
    directory
        .write_tag(Tag::SamplesPerPixel, channels as u16)
        .unwrap();
    directory
        .write_tag(Tag::RowsPerStrip, height as u32)
        .unwrap();
    directory
        .write_tag(Tag::StripByteCounts, &vec![size; planes][..])
        .unwrap();
    if planar {
        directory
            .write_tag(
                Tag::PlanarConfiguration,
                PlanarConfiguration::Planar.to_u16(),
            )
            .unwrap();
    }
    if channels > colours {
        directory
            .write_tag(Tag::ExtraSamples, &vec![0u16; channels - colours][..])
            .unwrap();
    }
    directory.finish().unwrap();
    file.into_inner()
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(values);
    file
}

fn little(samples: &[u16]) -> Vec<u8> {
    samples.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn a_tiff_keeps_all_its_samples() {
    use PhotometricInterpretation::{BlackIsZero, RGB};
    let (width, height) = (5, 3);
    for (channels, photometric) in [
        (1, BlackIsZero),
        (2, BlackIsZero),
        (4, BlackIsZero),
        (3, RGB),
        (4, RGB),
        (7, RGB),
        (16, BlackIsZero),
    ] {
        let samples = samples(width * height * channels, channels as u64);
        let expected = Image::sixteen(width, height, channels, &samples);
        let file = tiff((width, height, channels), &samples, photometric, false);
        let image = decode_to(stored(channels), "a.tif", &file, MOST).unwrap();
        assert_eq!(image, expected, "{channels} channels, {photometric:?}");
        // The same as planes.
        let planes: Vec<u16> = (0..channels)
            .flat_map(|c| samples.iter().skip(c).step_by(channels).copied())
            .collect();
        let file = tiff(
            (width, height, channels),
            &planes,
            photometric,
            channels > 1,
        );
        let image = decode_to(stored(channels), "a.tif", &file, MOST).unwrap();
        assert_eq!(image, expected, "{channels} planes, {photometric:?}");
    }
}

#[test]
fn a_tiff_of_the_encoders_own() {
    let samples = samples(6 * 4 * 4, 1);
    let mut file = Cursor::new(Vec::new());
    TiffEncoder::new(&mut file)
        .unwrap()
        .write_image::<colortype::RGBA16>(6, 4, &samples)
        .unwrap();
    let image = decode_to(stored(4), "a.tif", file.get_ref(), MOST).unwrap();
    assert_eq!(image, Image::sixteen(6, 4, 4, &samples));
    let mut file = Cursor::new(Vec::new());
    let numbers: Vec<f32> = (0..24).map(|i| i as f32 / 23.0).collect();
    TiffEncoder::new(&mut file)
        .unwrap()
        .write_image::<colortype::Gray32Float>(6, 4, &numbers)
        .unwrap();
    let image = decode_to(stored(1), "a.tif", file.get_ref(), MOST).unwrap();
    assert_eq!(image, Image::float(6, 4, 1, &numbers));
}

#[test]
fn arrays_of_every_kind() {
    let samples = samples(4 * 3 * 2, 2);
    let expected = Image::sixteen(3, 4, 2, &samples);
    let read = |channels, file: &[u8]| decode_to(stored(channels), "a.npy", file, MOST);
    assert_eq!(
        read(2, &npy("<u2", "(4, 3, 2)", &little(&samples))).unwrap(),
        expected
    );
    let big: Vec<u8> = samples.iter().flat_map(|v| v.to_be_bytes()).collect();
    assert_eq!(read(2, &npy(">u2", "(4, 3, 2)", &big)).unwrap(), expected);
    let grey = read(1, &npy("|u1", "(2, 3)", &[0, 50, 100, 150, 200, 250])).unwrap();
    assert_eq!((grey.height, grey.width, grey.channels), (2, 3, 1));
    assert_eq!(
        (grey.depth, &grey.data[..]),
        (Depth::Eight, &[0, 50, 100, 150, 200, 250][..])
    );
    let numbers: Vec<u8> = [0.0f32, 0.25, 1.0, 0.5]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let float = read(1, &npy("<f4", "(2, 2)", &numbers)).unwrap();
    assert_eq!(float.plane(0), [0.0, 0.25, 1.0, 0.5]);
    for (file, told) in [
        (npy("<u2", "(4, 3, 2)", &little(&samples)[1..]), "values"),
        (npy("<f8", "(2, 2, 2)", &[0; 64]), "<f8"),
        (npy("<u2", "(2, 2, 2, 2)", &[0; 32]), "dimensions"),
        (
            npy("|u1", "(2, 3, 3)", &[0; 18]),
            "has 3 channels instead of 2",
        ),
        (npy("|u1", "(99999, 99999, 2)", &[0; 18]), "limit"),
        (npy("|u1", "(2, 3, 3)", &[0; 18])[..30].to_vec(), "cut off"),
    ] {
        let error = read(2, &file).unwrap_err().to_string();
        assert!(
            error.starts_with("a.npy: ") && error.contains(told),
            "{error}"
        );
    }
}

#[test]
fn pngs_of_16_bits() {
    let grey = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(4, 2, samples(8, 3)).unwrap();
    let mut file = Cursor::new(Vec::new());
    grey.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let image = decode_to(stored(1), "a.png", file.get_ref(), MOST).unwrap();
    assert_eq!(image, Image::sixteen(4, 2, 1, grey.as_raw()));
    let error = decode_to(stored(4), "a.png", file.get_ref(), MOST).unwrap_err();
    assert_eq!(error.to_string(), "a.png: has 1 channel instead of 4");
    // Where RGB is wanted, it is still that.
    assert!(
        decode_to(Pixels::Rgb, "a.png", file.get_ref(), MOST)
            .unwrap()
            .is_rgb()
    );
}

/// Pillow's way, in double precision: a kernel as wide as the step, what lies beyond the edge left
/// out, weights brought to a sum of 1.
fn reference(plane: &[f32], from: Size, to: Size) -> Vec<f64> {
    let cubic = |x: f64| {
        let x = x.abs();
        match x {
            _ if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            _ if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            _ => 0.0,
        }
    };
    let axis = |from: usize, to: usize| -> Vec<Vec<f64>> {
        let step = from as f64 / to as f64;
        let wide = step.max(1.0);
        (0..to)
            .map(|o| {
                let centre = (o as f64 + 0.5) * step;
                let weights: Vec<f64> = (0..from)
                    .map(|i| cubic((i as f64 + 0.5 - centre) / wide))
                    .collect();
                let sum: f64 = weights.iter().sum();
                weights.iter().map(|w| w / sum).collect()
            })
            .collect()
    };
    let (rows, columns) = (axis(from.height, to.height), axis(from.width, to.width));
    let mut out = Vec::new();
    for row in &rows {
        for column in &columns {
            let mut sum = 0.0;
            for (y, wy) in row.iter().enumerate() {
                for (x, wx) in column.iter().enumerate() {
                    sum += wy * wx * f64::from(plane[y * from.width + x]);
                }
            }
            out.push(sum);
        }
    }
    out
}

#[test]
fn resizes_as_a_naive_reference_in_double_precision() {
    for (from, to) in [
        ((17, 23), (5, 7)),
        ((9, 31), (13, 11)),
        ((7, 5), (19, 33)),
        ((12, 12), (12, 12)),
        ((3, 41), (1, 9)),
    ] {
        let size = |(height, width)| Size { height, width };
        let (from, to) = (size(from), size(to));
        let samples = samples(from.area() * 3, from.area() as u64);
        let image = Image::sixteen(from.width, from.height, 3, &samples);
        let mut planes = Vec::new();
        let whole = CropBox::whole(&image);
        let scratch = &mut multichannel::Scratch::default();
        multichannel::resize(&image, whole, to, Filter::Bicubic, scratch, &mut planes).unwrap();
        for (channel, plane) in planes.chunks_exact(to.area()).enumerate() {
            let exact = reference(&image.plane(channel), from, to);
            for (value, exact) in plane.iter().zip(exact) {
                // A hundredth of a level of 16 bits.
                assert!(
                    (f64::from(*value) - exact).abs() < 1.5e-7,
                    "{from} to {to}: {value} {exact}"
                );
            }
        }
    }
}

fn crops(channels: usize) -> MultiCrop {
    MultiCrop {
        pixels: stored(channels),
        global_size: Size {
            height: 12,
            width: 20,
        },
        local_size: Size {
            height: 8,
            width: 4,
        },
        local_views: 2,
        mean: vec![0.5; channels],
        std: vec![0.25; channels],
        ..MultiCrop::default()
    }
}

fn views(crops: &MultiCrop, image: &Image) -> (Vec<f32>, Vec<f32>) {
    let mut global = vec![0.0; crops.global_len()];
    let mut local = vec![0.0; crops.local_len()];
    let scratch = &mut Scratch::default();
    crops
        .apply(image, 1, 2, 3, scratch, &mut global, &mut local)
        .unwrap();
    (global, local)
}

#[test]
fn what_differs_below_8_bits_gives_other_crops() {
    let first = samples(40 * 30 * 4, 5);
    // The same upper bytes.
    let second: Vec<u16> = first.iter().map(|v| v ^ 0x55).collect();
    assert!(first.iter().zip(&second).all(|(a, b)| a >> 8 == b >> 8));
    let image = |samples: &[u16]| Image::sixteen(40, 30, 4, samples);
    let (a, b) = (
        views(&crops(4), &image(&first)),
        views(&crops(4), &image(&second)),
    );
    assert_eq!(a.0.len(), 2 * 4 * 12 * 20);
    assert_eq!(a.1.len(), 2 * 4 * 8 * 4);
    assert_ne!(a.0, b.0);
    assert_ne!(a.1, b.1);
    assert_eq!(a, views(&crops(4), &image(&first)), "the same crops again");
}

#[test]
fn boxes_and_flips_are_those_of_rgb() {
    let bytes: Vec<u8> = (0..40 * 30 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let image = Image::rgb(40, 30, bytes);
    let plain = MultiCrop {
        jitter_probability: 0.0,
        greyscale_probability: 0.0,
        // A level of rounding decides what is inverted.
        solarise_probability: [0.0; 3],
        ..crops(3)
    };
    let rgb = MultiCrop {
        pixels: Pixels::Rgb,
        ..plain.clone()
    };
    let ((global, local), (deep_global, deep_local)) = (views(&rgb, &image), views(&plain, &image));
    for (eight, deep) in [(global, deep_global), (local, deep_local)] {
        for (eight, deep) in eight.iter().zip(deep) {
            // 8-bit rounding of the resize and of each pass of the blur; the deviation is 1/4.
            assert!((eight - deep).abs() < 4.5 * 4.0 / 255.0);
        }
    }
}

#[test]
fn statistics_are_exact_and_the_same_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let images = [
        [0u16, 65535, 0, 65535, 0, 65535, 0, 65535],
        [13107, 13107, 13107, 13107, 26214, 39321, 26214, 39321],
    ];
    for (i, samples) in images.iter().enumerate() {
        let file = npy("<u2", "(2, 2, 2)", &little(samples));
        std::fs::write(folder.path().join(format!("{i}.npy")), file).unwrap();
    }
    std::fs::write(folder.path().join("x.npy"), npy("|u1", "(2, 2)", &[0; 4])).unwrap();
    let source = open(folder.path(), 2);
    let found = statistics::measure(&*source, 100, 0, 3, &|_| {}).unwrap();
    assert_eq!((found.images, found.skipped.len()), (2, 1));
    // In fifths of the range: 0 0 0 0 1 1 2 2, and 5 5 5 5 1 1 3 3.
    let exact = |values: [f64; 8]| {
        let mean = values.iter().sum::<f64>() / 8.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 8.0;
        (mean / 5.0, variance.sqrt() / 5.0)
    };
    let channels = [
        exact([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0]),
        exact([5.0, 5.0, 5.0, 5.0, 1.0, 1.0, 3.0, 3.0]),
    ];
    for (channel, (mean, std)) in channels.into_iter().enumerate() {
        assert!((found.mean[channel] - mean).abs() < 1e-15);
        assert!((found.std[channel] - std).abs() < 1e-15);
    }
    assert_eq!(
        found,
        statistics::measure(&*source, 100, 0, 1, &|_| {}).unwrap()
    );
    let one = statistics::measure(&*source, 1, 7, 2, &|_| {});
    assert_eq!(
        one.is_ok(),
        statistics::measure(&*source, 1, 7, 1, &|_| {}).is_ok()
    );
    let none = statistics::measure(&*open(folder.path(), 9), 100, 0, 2, &|_| {}).unwrap_err();
    assert!(
        none.to_string()
            .contains("0.npy: has 2 channels instead of 9"),
        "{none}"
    );
}

fn open(path: &Path, channels: usize) -> Box<dyn dinolab_data::Source> {
    let options = SourceOptions {
        pixels: stored(channels),
        ..SourceOptions::default()
    };
    source::open(path, &options).unwrap()
}

#[test]
fn the_loader_lists_files_of_other_channels() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..6 {
        let file = npy("<u2", "(30, 40, 4)", &little(&samples(40 * 30 * 4, i)));
        std::fs::write(folder.path().join(format!("{i}.npy")), file).unwrap();
    }
    let wrong = npy("|u1", "(30, 40, 3)", &[9; 3600]);
    std::fs::write(folder.path().join("wrong.npy"), wrong).unwrap();
    let batches = |workers| {
        let config = LoaderConfig {
            batch_size: 3,
            workers,
            max_unusable: 0.5,
            ..LoaderConfig::default()
        };
        let source = Arc::from(open(folder.path(), 4));
        let loader = Loader::new(source, crops(4), config).unwrap();
        let batches: Vec<_> = loader.epoch(0, 0).map(|batch| batch.unwrap()).collect();
        (batches, loader.unusable_images())
    };
    let (one, bad) = batches(1);
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].name, "wrong.npy");
    assert_eq!(bad[0].reason, "has 3 channels instead of 4");
    assert_eq!(
        (one[0].channels, one[0].global().len()),
        (4, 2 * 3 * 4 * 12 * 20)
    );
    assert_eq!(one[0].view(3, 2).len(), 4 * 8 * 4);
    assert_eq!(one, batches(2).0);
    let config = LoaderConfig {
        batch_size: 3,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(Arc::from(open(folder.path(), 5)), crops(5), config).unwrap();
    let error = loader.epoch(0, 0).find_map(Result::err).unwrap();
    assert!(matches!(
        error,
        Error::TooManyUnusable { .. } | Error::NoImages { .. }
    ));
    assert!(
        error.to_string().contains("channels instead of 5"),
        "{error}"
    );
}
