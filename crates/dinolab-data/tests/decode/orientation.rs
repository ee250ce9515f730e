//! Segments of JPEGs beside the picture.

use dinolab_data::Image;
use dinolab_data::decode::{decode, dimensions};

use super::LIMIT;

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
