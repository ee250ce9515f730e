//! What recipes go by.

use dinolab_data::{Image, Source};

use crate::settings::recipe::ImageFacts;

/// Images that are looked at.
const SAMPLE: usize = 16;

/// The number of images, and their typical size. What cannot be read is left to the run to report.
pub(crate) fn facts(source: &dyn Source) -> ImageFacts {
    let count = source.len();
    let sampled = SAMPLE.min(count);
    let images: Vec<Image> = (0..sampled)
        .filter_map(|place| source.image(place * count / sampled).ok())
        .collect();
    let mut sides: Vec<usize> = images.iter().map(|image| image.size().shortest()).collect();
    sides.sort_unstable();
    let bytes: usize = images.iter().map(|image| image.data.len()).sum();
    ImageFacts {
        count,
        side: sides.get(sides.len() / 2).copied(),
        bytes: (bytes * count / images.len().max(1)) as u64,
    }
}
