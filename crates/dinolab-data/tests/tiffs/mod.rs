//! Writes TIFFs tag by tag, also such as no encoder writes, and a file of every kind that is read.

use std::io::Write;

/// Tags of whole numbers, in the order in which they are given.
#[derive(Clone)]
pub struct Page {
    pub big_endian: bool,
    /// Whether offsets have 8 bytes.
    pub big: bool,
    /// Tag, type, values.
    pub tags: Vec<(u16, u16, Vec<u64>)>,
    pub parts: Vec<Vec<u8>>,
}

pub const SHORT: u16 = 3;
pub const LONG: u16 = 4;

/// Photometric interpretations.
pub const WHITE: u64 = 0;
pub const BLACK: u64 = 1;
pub const RGB: u64 = 2;
pub const PALETTE: u64 = 3;
pub const YCBCR: u64 = 6;

impl Page {
    /// An uncompressed page of one strip.
    pub fn new(
        (width, height): (usize, usize),
        photometric: u64,
        samples: usize,
        bits: usize,
        data: &[u8],
    ) -> Self {
        Self {
            big_endian: false,
            big: false,
            tags: vec![
                (256, LONG, vec![width as u64]),
                (257, LONG, vec![height as u64]),
                (258, SHORT, vec![bits as u64; samples]),
                (259, SHORT, vec![1]),
                (262, SHORT, vec![photometric]),
                (277, SHORT, vec![samples as u64]),
            ],
            parts: vec![data.to_vec()],
        }
    }

    /// With a tag, in place of another value where it has one.
    pub fn with(mut self, tag: u16, kind: u16, values: &[u64]) -> Self {
        self = self.without(tag);
        self.tags.push((tag, kind, values.to_vec()));
        self
    }

    pub fn without(mut self, tag: u16) -> Self {
        self.tags.retain(|of| of.0 != tag);
        self
    }

    pub fn in_parts(mut self, parts: Vec<Vec<u8>>) -> Self {
        self.parts = parts;
        self
    }

    /// In tiles of a size, compressed in some way.
    pub fn tiled(self, (width, height): (usize, usize), parts: Vec<Vec<u8>>) -> Self {
        self.with(322, LONG, &[width as u64])
            .with(323, LONG, &[height as u64])
            .in_parts(parts)
    }

    pub fn big_endian(self) -> Self {
        Self {
            big_endian: true,
            ..self
        }
    }

    /// The file; with places and lengths of the parts unless tags give them.
    pub fn file(&self) -> Vec<u8> {
        let number = |value: u64, bytes: usize| -> Vec<u8> {
            match self.big_endian {
                true => value.to_be_bytes()[8 - bytes..].to_vec(),
                false => value.to_le_bytes()[..bytes].to_vec(),
            }
        };
        let word = if self.big { 8 } else { 4 };
        let mut file = if self.big_endian { b"MM" } else { b"II" }.to_vec();
        if self.big {
            file.extend([number(43, 2), number(8, 2), number(0, 2)].concat());
        } else {
            file.extend(number(42, 2));
        }
        let place = file.len();
        file.extend(vec![0; word]);
        let mut offsets = Vec::new();
        for part in &self.parts {
            offsets.push(file.len() as u64);
            file.extend(part);
        }
        let mut tags = self.tags.clone();
        let is_tiled = tags.iter().any(|of| of.0 == 322);
        let lengths = self.parts.iter().map(|part| part.len() as u64).collect();
        for (tag, values) in [
            (if is_tiled { 324 } else { 273 }, offsets),
            (if is_tiled { 325 } else { 279 }, lengths),
        ] {
            if tags.iter().all(|of| of.0 != tag) {
                tags.push((tag, LONG, values));
            }
        }
        tags.sort_by_key(|of| of.0);
        let mut directory = number(tags.len() as u64, if self.big { 8 } else { 2 });
        for (tag, kind, values) in &tags {
            let size = match kind {
                1 | 7 => 1,
                3 => 2,
                4 => 4,
                _ => 8,
            };
            let mut bytes: Vec<u8> = values.iter().flat_map(|&v| number(v, size)).collect();
            if bytes.len() > word {
                let at = number(file.len() as u64, word);
                file.extend(std::mem::replace(&mut bytes, at));
            }
            bytes.resize(word, 0);
            let entry = [
                number(u64::from(*tag), 2),
                number(u64::from(*kind), 2),
                number(values.len() as u64, word),
                bytes,
            ];
            directory.extend(entry.concat());
        }
        let at = number(file.len() as u64, word);
        file[place..place + word].copy_from_slice(&at);
        file.extend(directory);
        file.extend(vec![0; word]);
        file
    }
}

/// Cuts rows of pixels of `pixel` bytes into tiles, what is beyond the edge filled with a value.
pub fn tiles(
    data: &[u8],
    (width, height): (usize, usize),
    pixel: usize,
    (across, down): (usize, usize),
) -> Vec<Vec<u8>> {
    let mut tiles = Vec::new();
    for top in (0..height).step_by(down) {
        for left in (0..width).step_by(across) {
            let mut tile = vec![0x5A; across * down * pixel];
            for y in top..height.min(top + down) {
                let columns = across.min(width - left) * pixel;
                let to = (y - top) * across * pixel;
                tile[to..to + columns]
                    .copy_from_slice(&data[(y * width + left) * pixel..][..columns]);
            }
            tiles.push(tile);
        }
    }
    tiles
}

#[allow(
    dead_code,
    reason = "not every test that writes TIFFs has a use for it"
)]
/// Differences between the samples of rows, as libtiff makes them.
pub fn differences(rows: &mut [u8], stride: usize, samples: usize, bytes: usize, big: bool) {
    let get = |number: &[u8]| match (bytes, big) {
        (1, _) => u32::from(number[0]),
        (2, true) => u32::from(u16::from_be_bytes([number[0], number[1]])),
        (2, false) => u32::from(u16::from_le_bytes([number[0], number[1]])),
        (_, true) => u32::from_be_bytes([number[0], number[1], number[2], number[3]]),
        (_, false) => u32::from_le_bytes([number[0], number[1], number[2], number[3]]),
    };
    for row in rows.chunks_exact_mut(stride) {
        let before = row.to_vec();
        let step = samples * bytes;
        for at in (step..stride).step_by(bytes) {
            let difference = get(&before[at..]).wrapping_sub(get(&before[at - step..]));
            match big {
                true => row[at..at + bytes].copy_from_slice(&difference.to_be_bytes()[4 - bytes..]),
                false => row[at..at + bytes].copy_from_slice(&difference.to_le_bytes()[..bytes]),
            }
        }
    }
}

/// LZW as libtiff's readers take it: without a code for the end.
pub fn lzw(data: &[u8]) -> Vec<u8> {
    let mut encoder = weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let mut coded = encoder.encode(data).unwrap();
    // The last code has 9 to 12 bits: of it there is at least a byte that holds nothing else.
    coded.pop();
    coded
}

pub fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Values from 0 to 255 that all parts of a picture differ in.
pub fn levels(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * i / 5 + 11 * i) as u8).collect()
}

/// Small files of every kind that the reader has a way for.
#[allow(dead_code, reason = "not every test that writes TIFFs alters them")]
pub fn seeds() -> Vec<Vec<u8>> {
    let size = (19, 13);
    let rgb = levels(19 * 13 * 3);
    let plain = Page::new(size, RGB, 3, 8, &rgb);
    let parts = tiles(&rgb, size, 3, (16, 16));
    let packed: Vec<Vec<u8>> = parts.iter().map(|tile| lzw(tile)).collect();
    let strips: Vec<Vec<u8>> = rgb.chunks(19 * 3 * 4).map(deflated).collect();
    let coloured: Vec<u64> = (0..48).map(|i| i * 1365).collect();
    let mut files = vec![
        plain.file(),
        plain.clone().big_endian().file(),
        Page {
            big: true,
            ..plain.clone()
        }
        .file(),
        plain
            .clone()
            .with(259, SHORT, &[5])
            .with(317, SHORT, &[2])
            .tiled((16, 16), packed)
            .file(),
        plain
            .clone()
            .with(259, SHORT, &[8])
            .with(278, SHORT, &[4])
            .in_parts(strips)
            .file(),
        plain
            .clone()
            .with(284, SHORT, &[2])
            .in_parts(rgb.chunks(19 * 13).map(<[u8]>::to_vec).collect())
            .file(),
        Page::new(size, PALETTE, 1, 4, &levels(10 * 13))
            .with(320, SHORT, &coloured)
            .file(),
        Page::new(size, WHITE, 1, 16, &levels(19 * 13 * 2)).file(),
        Page::new(size, BLACK, 1, 12, &levels(29 * 13)).file(),
        Page::new(size, BLACK, 1, 32, &[0; 19 * 13 * 4])
            .with(339, SHORT, &[3])
            .file(),
        Page::new(size, BLACK, 2, 8, &levels(19 * 13 * 2))
            .with(338, SHORT, &[2])
            .file(),
        Page::new(size, YCBCR, 3, 8, &levels(10 * 7 * 6))
            .with(530, SHORT, &[2, 2])
            .file(),
        Page::new(size, 5, 4, 8, &levels(19 * 13 * 4)).file(),
        Page::new(size, BLACK, 1, 8, &[0x81, 7].repeat(19 * 13 / 64))
            .with(259, SHORT, &[32_773])
            .file(),
    ];
    let floats = Page::new(size, BLACK, 1, 32, &deflated(&[0; 19 * 13 * 4]));
    files.push(
        floats
            .with(339, SHORT, &[3])
            .with(259, SHORT, &[8])
            .with(317, SHORT, &[3])
            .file(),
    );
    let jpeg = include_bytes!("../../../dinolab-jpeg/tests/fixtures/baseline_420.jpg");
    let jpegs = Page::new((56, 40), YCBCR, 3, 8, jpeg).with(259, SHORT, &[7]);
    files.push(jpegs.file());
    for name in ["g4", "g3_2d", "rle", "jpeg_tiles", "ycbcr_420"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decode");
        files.push(std::fs::read(format!("{folder}/{name}.tif")).unwrap());
    }
    files
}
