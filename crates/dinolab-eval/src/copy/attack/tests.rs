use dinolab_data::augment::resize::CropBox;

use super::*;

fn picture(width: usize, height: usize) -> Image {
    let mut image = Image::new(width, height, 3);
    for (i, value) in image.data.iter_mut().enumerate() {
        let (x, y) = (i / 3 % width, i / 3 / width);
        *value = (40 + x * 3 + y * 2 + i % 3 * 20) as u8;
    }
    image
}

fn attacked(family: Family, strength: f64) -> Image {
    let attack = Attack::new(family, strength).unwrap();
    attack.apply(&picture(40, 30), 1, 2).unwrap()
}

fn difference(image: &Image) -> f64 {
    let original = picture(40, 30);
    assert_eq!((image.width, image.height), (40, 30));
    let pairs = original.data.iter().zip(&image.data);
    let sum: f64 = pairs.map(|(&a, &b)| f64::from(a.abs_diff(b))).sum();
    sum / original.data.len() as f64
}

#[test]
fn the_same_seed_the_same_copy() {
    for family in Family::ALL {
        let strength = if family == Family::Rotate { 20.0 } else { 30.0 };
        assert_eq!(attacked(family, strength), attacked(family, strength));
    }
    let crop = Attack::new(Family::Crop, 50.0).unwrap();
    let text = Attack::new(Family::Text, 30.0).unwrap();
    for attack in [crop, text] {
        let of = |seed, index| attack.apply(&picture(40, 30), seed, index).unwrap();
        assert_ne!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
    }
}

#[test]
fn jpeg_damages_more_at_lower_quality() {
    let damage = |quality| difference(&attacked(Family::Jpeg, quality));
    assert!(damage(3.0) > damage(30.0) && damage(30.0) > damage(95.0));
    assert!(damage(95.0) < 3.0);
    let small = Attack::new(Family::Jpeg, 75.0).unwrap();
    let small = small.with_jpeg_area(1.0 / 16.0).unwrap();
    let small = small.apply(&picture(40, 30), 0, 0).unwrap();
    assert_eq!((small.width, small.height), (10, 8));
}

#[test]
fn crops_lose_what_they_should() {
    let original = picture(40, 30);
    for percent in [10.0, 50.0, 80.0] {
        let crop = attacked(Family::Crop, percent);
        let kept = (crop.width * crop.height) as f64 / 1200.0;
        assert!(
            (kept - (1.0 - percent / 100.0)).abs() < 0.05,
            "{percent}: {kept}"
        );
        // It is a part of the original.
        let found = (0..=30 - crop.height).any(|top| {
            (0..=40 - crop.width).any(|left| {
                let place = CropBox {
                    top,
                    left,
                    height: crop.height,
                    width: crop.width,
                };
                eval::crop(&original, place).unwrap() == crop
            })
        });
        assert!(found, "{percent}");
    }
    assert_eq!(attacked(Family::Crop, 0.0), original);
}

#[test]
fn contrast_blur_and_text() {
    assert_eq!(attacked(Family::Contrast, 1.0), picture(40, 30));
    let flat = attacked(Family::Contrast, 0.0);
    assert!(flat.data.iter().all(|&v| v == flat.data[0]));
    assert_eq!(attacked(Family::Blur, 0.0), picture(40, 30));
    assert!(difference(&attacked(Family::Blur, 10.0)) > 0.5);
    let orange = Image {
        data: [250, 130, 5].repeat(40 * 30),
        ..picture(40, 30)
    };
    let blur = Attack::new(Family::Blur, 10.0).unwrap();
    assert_eq!(blur.apply(&orange, 0, 0).unwrap(), orange, "colours mixed");
    let text = attacked(Family::Text, 27.0);
    let white = text.data.chunks(3).filter(|p| p == &[255; 3]).count();
    let black = text.data.chunks(3).filter(|p| p == &[0; 3]).count();
    assert!(white > 50 && black > 50, "{white} {black}");
    assert!(difference(&text) < 100.0);
}

#[test]
fn flips_and_turns() {
    let original = picture(40, 30);
    let twice = |attack: Attack| {
        let once = attack.apply(&original, 0, 0).unwrap();
        attack.apply(&once, 0, 0).unwrap()
    };
    assert_eq!(twice(Attack::new(Family::Flip, 0.0).unwrap()), original);
    let turn = |degrees| Attack::new(Family::Rotate, degrees).unwrap();
    assert_eq!(twice(turn(180.0)), original);
    let quarter = attacked(Family::Rotate, 90.0);
    assert_eq!((quarter.width, quarter.height), (30, 40));
    // Counter-clockwise: the upper right corner goes to the upper left.
    assert_eq!(quarter.data[..3], original.data[39 * 3..40 * 3]);
    assert_eq!(turn(-90.0).apply(&quarter, 0, 0).unwrap(), original);
    // Nearly a quarter looks like one.
    let square = picture(31, 31);
    let exact = turn(90.0).apply(&square, 0, 0).unwrap();
    let near = turn(90.001).apply(&square, 0, 0).unwrap();
    let centre = (15 * 31 + 15) * 3;
    for at in [centre, centre - 30, centre + 31 * 3 * 5] {
        assert!(exact.data[at].abs_diff(near.data[at]) <= 1);
    }
}

#[test]
fn names_and_ranges() {
    assert_eq!(Attack::ORIGINAL.to_string(), "original");
    assert_eq!(
        Attack::new(Family::Jpeg, 3.0).unwrap().to_string(),
        "jpeg/3"
    );
    assert_eq!(
        Attack::new(Family::Blur, 1.5).unwrap().to_string(),
        "blur/1.5"
    );
    for (family, strength) in [
        (Family::Jpeg, 0.0),
        (Family::Jpeg, 2.5),
        (Family::Crop, 100.0),
        (Family::Blur, f64::NAN),
        (Family::Text, 0.0),
    ] {
        assert!(
            Attack::new(family, strength).is_err(),
            "{family:?} {strength}"
        );
    }
    assert!(Attack::ORIGINAL.with_jpeg_area(0.0).is_err());
}
