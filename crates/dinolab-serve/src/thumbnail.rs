//! Small pictures of images.

use dinolab_data::Source;
use dinolab_data::augment::eval;
use dinolab_view::{Rgb, encode_png};

use crate::answer::Answer;

/// Largest side that is sent.
const LARGEST: usize = 512;

/// An image of `source` as a PNG file whose longer side is `side` at most.
pub fn png(source: &dyn Source, place: usize, side: usize) -> Answer<Vec<u8>> {
    let image = source.image(place)?;
    let side = side.clamp(8, LARGEST);
    let small = match image.width.max(image.height) > side {
        true => eval::fit(&image, side)?,
        false => image,
    };
    Ok(encode_png(&Rgb::from_image(&small)?)?)
}
