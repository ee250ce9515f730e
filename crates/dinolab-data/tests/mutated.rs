//! A thousand altered files: each is read or refused, quickly, and without a panic.

mod tiffs;
#[cfg(feature = "parquet")]
mod written;

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use dinolab_data::Pixels;
use dinolab_data::decode::{decode, decode_mask, decode_to, dimensions, stored_kind};
use dinolab_data::random::{Purpose, Random};
use dinolab_data::source::{self, SourceOptions};
use image::{DynamicImage, ImageFormat, RgbImage};

const ROUNDS: u64 = 1_000;
const MAX_PIXELS: u64 = 1 << 20;

/// Whole files of every format that is read.
fn seeds() -> Vec<Vec<u8>> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seeds: Vec<Vec<u8>> = [
        "dinolab-jpeg/tests/fixtures/baseline_420.jpg",
        "dinolab-jpeg/tests/fixtures/progressive.jpg",
        "dinolab-jpeg/tests/fixtures/restart_422.jpg",
        "dinolab-jpeg/tests/fixtures/cmyk_adobe.jpg",
        "dinolab-jpeg/tests/fixtures/grey.jpg",
        "dinolab-data/tests/fixtures/decode/lossy.webp",
    ]
    .iter()
    .map(|name| fs::read(crates.join(name)).unwrap())
    .collect();
    let picture = RgbImage::from_fn(19, 13, |x, y| {
        image::Rgb([(x * 13) as u8, (y * 19) as u8, (x * y * 7) as u8])
    });
    let picture = DynamicImage::ImageRgb8(picture);
    for picture in [
        DynamicImage::ImageLuma8(picture.to_luma8()),
        DynamicImage::ImageRgba8(picture.to_rgba8()),
        DynamicImage::ImageRgb16(picture.to_rgb16()),
        picture,
    ] {
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            let mut file = Cursor::new(Vec::new());
            // Not every format has every kind of pixel.
            if picture.write_to(&mut file, format).is_ok() {
                seeds.push(file.into_inner());
            }
        }
    }
    assert!(seeds.len() >= 14);
    seeds.extend(tiffs::seeds());
    seeds
}

fn archive(files: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (number, file) in files.iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.len() as u64);
        header.set_mode(0o644);
        let long = "folder/".repeat(1 + 20 * (number % 2));
        archive
            .append_data(&mut header, format!("{long}{number}.png"), &file[..])
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// With labels, links and further pictures of a sample, one archive behind the other.
fn linked(file: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    };
    add("a/1.png", file);
    add("a/1.cls", b"3");
    add("a/1.seg.png", file);
    add("a/1.json", b"{}");
    for (kind, name, target) in [
        (tar::EntryType::Link, "b/2.png", "a/1.png"),
        (tar::EntryType::Symlink, "b/2.cls", "../a/1.cls"),
        (tar::EntryType::Symlink, "c.png", "b/2.png"),
        (tar::EntryType::Symlink, "d.png", "d.png"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive.append_link(&mut header, name, target).unwrap();
    }
    let one = archive.into_inner().unwrap();
    [&one[..], &one].concat()
}

/// NumPy arrays of every kind that is read.
fn arrays() -> Vec<Vec<u8>> {
    let mut arrays = Vec::new();
    for (kind, size) in [("|u1", 1), ("<u2", 2), (">u2", 2), ("<f4", 4), (">f4", 4)] {
        for (shape, count) in [("(5, 4)", 20), ("(3, 4, 2)", 24), ("(2, 3, 16)", 96)] {
            let header =
                format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
            let mut array = b"\x93NUMPY\x01\0".to_vec();
            array.extend((header.len() as u16).to_le_bytes());
            array.extend(header.as_bytes());
            // Zeros are numbers in 0–1 in every order of bytes.
            array.resize(array.len() + count * size, 0);
            arrays.push(array);
        }
    }
    arrays
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            return;
        }
        // Half of the changes in the first part, where sizes and kinds are.
        let reach = if random.bool(0.5) { 64 } else { bytes.len() };
        let at = random.below(reach.min(bytes.len()) as u64) as usize;
        match random.below(5) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(16) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + 4).min(bytes.len());
                let value = [0, 1, 0x7FFF_FFFF, u32::MAX][random.below(4) as usize].to_le_bytes();
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
        }
    }
}

/// Runs `read` on altered files, and says which one took too long.
fn on_altered(seeds: &[Vec<u8>], rounds: u64, mut read: impl FnMut(&[u8])) {
    for round in 0..rounds {
        let mut random = Random::new(1, round, 0, Purpose::Crops);
        let mut bytes = seeds[random.below(seeds.len() as u64) as usize].clone();
        mutate(&mut bytes, &mut random);
        let began = Instant::now();
        read(&bytes);
        // Far more than any of them needs, on a busy machine too.
        assert!(began.elapsed() < Duration::from_secs(10), "round {round}");
    }
}

#[test]
fn altered_images_are_read_or_refused() {
    let (mut whole, mut refused) = (0, 0);
    on_altered(&seeds(), ROUNDS, |bytes| {
        let size = dimensions("altered", bytes);
        match decode("altered", bytes, MAX_PIXELS) {
            Ok(image) => {
                whole += 1;
                assert_eq!(size.unwrap(), image.size());
                assert_eq!(
                    image.data.len(),
                    image.width * image.height * image.channels
                );
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().starts_with("altered: "), "{error}");
            }
        }
        let _ = decode_mask("altered", bytes, MAX_PIXELS);
    });
    assert!(
        whole > 50 && refused > 50,
        "{whole} read, {refused} refused"
    );
}

#[test]
fn altered_tiffs_are_read_or_refused() {
    let (mut whole, mut refused) = (0, 0);
    on_altered(&tiffs::seeds(), 2 * ROUNDS, |bytes| {
        let size = dimensions("altered", bytes);
        let channels = stored_kind(bytes).map_or(3, |kind| kind.channels.clamp(1, 16));
        for pixels in [Pixels::Rgb, Pixels::Stored { channels }] {
            match decode_to(pixels, "altered", bytes, MAX_PIXELS) {
                Ok(image) => {
                    whole += 1;
                    assert_eq!(size.as_ref().unwrap(), &image.size());
                    pixels.check(&image).unwrap();
                }
                Err(error) => {
                    refused += 1;
                    let error = error.to_string();
                    assert!(
                        error.starts_with("altered: ") && !error.contains("panic"),
                        "{error}"
                    );
                }
            }
        }
    });
    assert!(
        whole > 200 && refused > 200,
        "{whole} read, {refused} refused"
    );
}

#[test]
fn altered_arrays_and_deep_images_are_read_or_refused() {
    let seeds = [arrays(), seeds()].concat();
    let (mut whole, mut refused) = (0, 0);
    on_altered(&seeds, ROUNDS / 2, |bytes| {
        let told = stored_kind(bytes).map_or(3, |kind| kind.channels.clamp(1, 16));
        for channels in [told, 4] {
            let pixels = Pixels::Stored { channels };
            match decode_to(pixels, "altered", bytes, MAX_PIXELS) {
                Ok(image) => {
                    whole += 1;
                    pixels.check(&image).unwrap();
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().starts_with("altered: "), "{error}");
                }
            }
        }
    });
    assert!(
        whole > 50 && refused > 50,
        "{whole} read, {refused} refused"
    );
}

/// Opens each altered file, and reads every image of those that open.
fn on_altered_sources(extension: &str, seeds: &[Vec<u8>]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("altered").with_extension(extension);
    let (mut opened, mut refused) = (0, 0);
    on_altered(seeds, ROUNDS / 2, |bytes| {
        fs::write(&path, bytes).unwrap();
        let Ok(source) = source::open(&path, &SourceOptions::default()) else {
            refused += 1;
            return;
        };
        opened += 1;
        for index in 0..source.len() {
            let _ = (source.name(index), source.label(index), source.image(index));
        }
        assert!(
            source
                .notes()
                .iter()
                .all(|note| !note.to_string().is_empty())
        );
        let all: Vec<usize> = (0..source.len()).collect();
        let _ = source.read_contiguous(&all, 1 << 20);
    });
    assert!(
        opened > 20 && refused > 20,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn altered_archives_are_read_or_refused() {
    let files = seeds();
    let small = files.iter().min_by_key(|file| file.len()).unwrap();
    let archives = [archive(&files[6..9]), archive(&files[..4]), linked(small)];
    on_altered_sources("tar", &archives);
}

#[cfg(feature = "parquet")]
#[test]
fn altered_parquet_files_are_read_or_refused() {
    use parquet::basic::Compression;
    use parquet::file::properties::WriterVersion;
    use written::{How, Row};

    let rows: Vec<Row> = seeds()
        .into_iter()
        .skip(6)
        .zip(0..)
        .map(|(file, number)| Row {
            bytes: (number != 4).then_some(file),
            path: Some(format!("{number}.png")),
            label: Some(number % 3),
        })
        .collect();
    let mut files = Vec::new();
    for (compression, version) in [
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_2_0),
        (Compression::SNAPPY, WriterVersion::PARQUET_1_0),
        (
            Compression::GZIP(Default::default()),
            WriterVersion::PARQUET_1_0,
        ),
        (Compression::LZ4_RAW, WriterVersion::PARQUET_2_0),
    ] {
        for both in [false, true] {
            let how = How {
                compression,
                version,
                dictionary: both,
                index: both,
                group_rows: 5,
                page_rows: 2,
                ..How::default()
            };
            files.push(written::parquet(&rows, &how));
        }
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    for name in ["zstd.parquet", "brotli.parquet"] {
        files.push(fs::read(fixtures.join(name)).unwrap());
    }
    on_altered_sources("parquet", &files);
}
