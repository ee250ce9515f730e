//! Views for evaluation: no randomness.

use super::multichannel;
use super::resize::{CropBox, Filter, Resizer, check_rgb};
use crate::{Error, Image, Result, Size};

/// How often as many pixels as the centre has an image of numbers may have before the centre is cut
/// out of it. A thread of an image grows without bounds when its short side is enlarged.
const MAX_SHARE: usize = 64;

/// Size of an image after its shorter side is resized to `size`, the aspect ratio kept
/// (the long side cut to whole pixels).
pub fn shortest_side(width: usize, height: usize, size: usize) -> (usize, usize) {
    let long = |long: usize, short: usize| {
        let side = (size as u128 * long as u128)
            .checked_div(short as u128)
            .unwrap_or(0);
        usize::try_from(side).unwrap_or(usize::MAX)
    };
    if width <= height {
        (size, long(height, width))
    } else {
        (long(width, height), size)
    }
}

/// Size of an image after it is made to fit into a square of `size`, the aspect ratio kept;
/// an image that fits already keeps its size. The short side is rounded to whichever whole
/// number distorts least, as Pillow's `thumbnail` does.
pub fn fitted(width: usize, height: usize, size: usize) -> (usize, usize) {
    if width <= size && height <= size {
        return (width, height);
    }
    let aspect = width as f64 / height as f64;
    let round = |exact: f64, error: &dyn Fn(f64) -> f64| {
        let (low, high) = (exact.floor(), exact.ceil());
        let best = if error(high) < error(low) { high } else { low };
        best.max(1.0) as usize
    };
    let side = size as f64;
    if aspect <= 1.0 {
        let error = |n: f64| (aspect - n / side).abs();
        (round(side * aspect, &error), size)
    } else {
        let error = |n: f64| {
            if n == 0.0 {
                0.0
            } else {
                (aspect - side / n).abs()
            }
        };
        (size, round(side / aspect, &error))
    }
}

/// Makes an image fit into a square of `size` (Lanczos); one that fits already is left alone.
pub fn fit(image: &Image, size: usize) -> Result<Image> {
    check_rgb(image)?;
    let (width, height) = fitted(image.width, image.height, size.max(1));
    if (width, height) == (image.width, image.height) {
        return Ok(image.clone());
    }
    resize(image, width, height, Filter::Lanczos)
}

/// The centred box of a size, or `None` where the image is smaller.
pub fn centre_box(width: usize, height: usize, size: impl Into<Size>) -> Option<CropBox> {
    let size = size.into();
    // Half a pixel goes to the even side.
    let start = |side: usize, wanted: usize| {
        let spare = side.checked_sub(wanted)?;
        Some(spare / 2 + usize::from(spare % 4 == 3))
    };
    Some(CropBox {
        top: start(height, size.height)?,
        left: start(width, size.width)?,
        height: size.height,
        width: size.width,
    })
}

/// Resizes to exactly `width × height`; the aspect ratio is not kept.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Image> {
    let size = Size { height, width };
    if !image.is_rgb() {
        return multichannel::resized(image, CropBox::whole(image), size, filter);
    }
    let mut data = Vec::new();
    Resizer::new().resize(image, CropBox::whole(image), size, filter, &mut data)?;
    Ok(Image::rgb(width, height, data))
}

/// Cuts a box out of an image of any kind.
pub fn crop(image: &Image, crop: CropBox) -> Result<Image> {
    check_whole(image)?;
    let CropBox {
        top,
        left,
        height,
        width,
    } = crop;
    let inside =
        |start: usize, len: usize, of: usize| start.checked_add(len).is_some_and(|end| end <= of);
    if !inside(top, height, image.height) || !inside(left, width, image.width) {
        return Err(Error::BadImage {
            name: format!("image of {} × {}", image.width, image.height),
            reason: format!("a crop of {width} × {height} at ({left}, {top}) is not inside it"),
        });
    }
    let pixel = image.channels * image.depth.bytes();
    let mut data = Vec::with_capacity(width * height * pixel);
    for row in image
        .data
        .chunks_exact(image.width * pixel)
        .skip(top)
        .take(height)
    {
        data.extend_from_slice(&row[left * pixel..][..width * pixel]);
    }
    Ok(Image {
        width,
        height,
        channels: image.channels,
        depth: image.depth,
        data,
    })
}

/// Refuses an image that is empty or shorter than it says.
fn check_whole(image: &Image) -> Result<()> {
    match image.is_whole() {
        true => Ok(()),
        false => Err(Error::BadImage {
            name: format!("image of {} × {}", image.width, image.height),
            reason: "is empty, or shorter than it says".into(),
        }),
    }
}

/// Size of an image after it is made to cover `size`, no larger than that takes, the aspect ratio
/// kept. For a square that is [`shortest_side`].
pub fn covering(width: usize, height: usize, size: Size) -> (usize, usize) {
    if size.is_square() {
        return shortest_side(width, height, size.height);
    }
    let scaled = |side: usize, to: usize, of: usize| {
        let side = (side as u128 * to as u128)
            .checked_div(of as u128)
            .unwrap_or(0);
        usize::try_from(side).unwrap_or(usize::MAX)
    };
    // Which side decides, without rounding.
    if width as u128 * size.height as u128 <= height as u128 * size.width as u128 {
        (size.width, scaled(height, size.width, width))
    } else {
        (scaled(width, size.height, height), size.height)
    }
}

/// The view that features are taken from: made to cover `resize_to` (bicubic; for a square, the
/// shorter side is resized to it), then the centre of the size `crop_to`. The reference uses 256
/// and 224.
pub fn features(
    image: &Image,
    resize_to: impl Into<Size>,
    crop_to: impl Into<Size>,
) -> Result<Image> {
    let (resize_to, crop_to) = (resize_to.into(), crop_to.into());
    check_whole(image)?;
    if crop_to.shortest() == 0
        || crop_to.height > resize_to.height
        || crop_to.width > resize_to.width
    {
        return Err(Error::BadSetting {
            field: "crop-size",
            reason: format!("must be between 1 and the resized side of {resize_to}, not {crop_to}"),
        });
    }
    let (width, height) = covering(image.width, image.height, resize_to);
    let whole = CropBox {
        top: 0,
        left: 0,
        height,
        width,
    };
    // Nothing but the centre is computed.
    let centre = centre_box(width, height, crop_to).unwrap_or(whole);
    let size = Size { height, width };
    if image.is_rgb() {
        let mut data = Vec::new();
        Resizer::new().resize_window(image, size, centre, Filter::Bicubic, &mut data)?;
        return Ok(Image::rgb(centre.width, centre.height, data));
    }
    if width.saturating_mul(height) / MAX_SHARE > crop_to.area() {
        return multichannel::window(image, size, centre, Filter::Bicubic);
    }
    crop(
        &multichannel::resized(image, CropBox::whole(image), size, Filter::Bicubic)?,
        centre,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_of_the_reference() {
        assert_eq!(shortest_side(500, 375, 256), (341, 256));
        assert_eq!(shortest_side(375, 500, 256), (256, 341));
        let start = |side| centre_box(side, side, 224).map(|crop| crop.left);
        // (341 − 224) / 2 = 58.5 goes down, (343 − 224) / 2 = 59.5 up.
        assert_eq!(start(341), Some(58));
        assert_eq!(start(343), Some(60));
        assert_eq!(start(342), Some(59));
        assert_eq!(start(223), None);
    }

    #[test]
    fn fits_as_pillow_does() {
        // Sizes that Pillow 11 gives for `thumbnail((size, size))`.
        for (from, size, to) in [
            ((1024, 768), 224, (224, 168)),
            ((768, 1024), 224, (168, 224)),
            ((1023, 767), 224, (224, 168)),
            ((1000, 333), 100, (100, 33)),
            ((1000, 336), 100, (100, 34)),
            ((5000, 3), 64, (64, 1)),
            ((3, 5000), 64, (1, 64)),
            ((100, 80), 224, (100, 80)),
            ((224, 300), 224, (167, 224)),
        ] {
            assert_eq!(fitted(from.0, from.1, size), to, "{from:?} into {size}");
        }
        let image = Image::new(40, 30, 3);
        assert_eq!(fit(&image, 64).unwrap(), image);
        let small = fit(&image, 20).unwrap();
        assert_eq!((small.width, small.height), (20, 15));
    }

    #[test]
    fn covers_a_size_that_is_no_square() {
        let size = Size {
            height: 256,
            width: 366,
        };
        // Wider than the size: the height decides; narrower: the width.
        assert_eq!(covering(512, 256, size), (512, 256));
        assert_eq!(covering(500, 375, size), (366, 274));
        assert_eq!(covering(375, 500, size), (366, 488));
        assert_eq!(covering(366, 256, size), (366, 256));
        let crop = Size {
            height: 5,
            width: 9,
        };
        let view = features(&Image::new(31, 17, 3), crop.map(|side| side + 2), crop).unwrap();
        assert_eq!((view.width, view.height), (9, 5));
    }

    #[test]
    fn bad_requests_are_errors() {
        let image = Image::new(8, 6, 3);
        assert!(matches!(
            features(&image, 4, 5),
            Err(Error::BadSetting { .. })
        ));
        assert!(matches!(
            features(&image, 4, 0),
            Err(Error::BadSetting { .. })
        ));
        assert!(features(&Image::new(0, 0, 3), 4, 4).is_err());
        assert!(resize(&image, 0, 3, Filter::Bilinear).is_err());
        let outside = CropBox {
            top: 1,
            left: 0,
            height: 6,
            width: 8,
        };
        assert!(crop(&image, outside).is_err());
    }

    fn noise(width: usize, height: usize) -> Image {
        let mut image = Image::new(width, height, 3);
        for (i, value) in image.data.iter_mut().enumerate() {
            *value = (i * i % 241) as u8;
        }
        image
    }

    #[test]
    fn the_centre_of_a_strip_is_all_that_is_computed() {
        for (width, height) in [(9000, 2), (2, 9000), (1, 60_000), (70_000, 3)] {
            let image = noise(width, height);
            let view = features(&image, 256, 224).unwrap();
            assert_eq!((view.width, view.height), (224, 224));
            // Only the pixels around the centre count.
            let mut other = image.clone();
            for (i, pixel) in other.data.chunks_exact_mut(3).enumerate() {
                let along = if width > height { i % width } else { i / width };
                if along.abs_diff(width.max(height) / 2) > 12 {
                    pixel.fill(9);
                }
            }
            assert_ne!(other, image);
            assert_eq!(features(&other, 256, 224).unwrap(), view);
        }
        // The same of numbers, up to rounding.
        let wide = noise(4000, 4);
        let samples: Vec<f32> = wide.data.iter().map(|&v| f32::from(v) / 255.0).collect();
        let numbers = Image::float(4000, 4, 3, &samples);
        let part = features(&numbers, 20, 12).unwrap();
        let (width, height) = shortest_side(4000, 4, 20);
        let whole = resize(&numbers, width, height, Filter::Bicubic).unwrap();
        let cut = crop(&whole, centre_box(width, height, 12).unwrap()).unwrap();
        let values = |image: &Image| -> Vec<f32> {
            image
                .data
                .as_chunks()
                .0
                .iter()
                .map(|v| f32::from_ne_bytes(*v))
                .collect()
        };
        let (part, cut) = (values(&part), values(&cut));
        assert_eq!(part.len(), cut.len());
        for (a, b) in part.iter().zip(&cut) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn strips_are_not_made_into_more_than_images_are() {
        let strip = noise(1, 80_000);
        let told = resize(&strip, 4000, 300, Filter::Bilinear)
            .unwrap_err()
            .to_string();
        assert!(told.contains("elongated"), "{told}");
        assert!(resize(&strip, 40, 30, Filter::Bilinear).is_ok());
    }

    proptest! {
        #[test]
        fn the_centre_alone_is_the_centre_of_the_whole(
            width in 1usize..90, height in 1usize..90, size in 1usize..70, cut in 0usize..69
        ) {
            let target = size.saturating_sub(cut).max(1);
            let image = noise(width, height);
            let (w, h) = shortest_side(width, height, size);
            let whole = resize(&image, w, h, Filter::Bicubic).unwrap();
            let centre = crop(&whole, centre_box(w, h, target).unwrap()).unwrap();
            prop_assert_eq!(features(&image, size, target).unwrap(), centre);
        }

        #[test]
        fn sizes_hold_for_any_image(
            width in 1usize..60, height in 1usize..60, size in 1usize..40, cut in 0usize..39
        ) {
            let target = size.saturating_sub(cut).max(1);
            let (w, h) = shortest_side(width, height, size);
            prop_assert_eq!(w.min(h), size);
            prop_assert!((w as f64 / h as f64 / (width as f64 / height as f64) - 1.0).abs() <= 1.0 / size as f64);
            let view = features(&Image::new(width, height, 3), size, target).unwrap();
            prop_assert_eq!((view.width, view.height), (target, target));
            prop_assert_eq!(view.data.len(), target * target * 3);
        }
    }
}
