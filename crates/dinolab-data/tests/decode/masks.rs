//! Masks.

use dinolab_data::Error;
use dinolab_data::decode::decode_mask;
use image::ImageFormat;

use super::{LIMIT, encode, packed_png, picture};

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
