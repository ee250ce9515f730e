//! CIFAR-10's binary batches as folders of PNG files.
//!
//! A batch is a sequence of records of one byte for the class and 32 x 32 bytes each for red, green and
//! blue, row by row (<https://www.cs.toronto.edu/~kriz/cifar.html>).

use std::fs;
use std::path::Path;

use image::RgbImage;
use rayon::prelude::*;

use crate::environment::Environment;
use crate::error::{Context, Result};

const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const TRAIN: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
const TEST: [&str; 1] = ["test_batch.bin"];

/// Writes the batches in `from` as `train/CLASS/NNNNN.png` and `test/CLASS/NNNNN.png` below `to`. The
/// numbers count the images of each part in the batches' order.
///
/// # Errors
///
/// A missing file, a batch that is no whole number of records, a class without a name.
pub fn convert(env: &Environment<'_>, from: &Path, to: &Path) -> Result<()> {
    let names = from.join("batches.meta.txt");
    let classes: Vec<String> = fs::read_to_string(&names)
        .with_context(|| format!("cannot read {}", names.display()))?
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    for class in &classes {
        ensure!(
            class
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{}: {class:?} is not a class name",
            names.display()
        );
    }
    for (part, batches) in [("train", &TRAIN[..]), ("test", &TEST[..])] {
        for class in &classes {
            let folder = to.join(part).join(class);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut first = 0;
        let progress = env.progress("batch", batches.len());
        for (done, batch) in batches.iter().enumerate() {
            let path = from.join(batch);
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                !bytes.is_empty() && bytes.len() % RECORD == 0,
                "{}: {} bytes are not a whole number of records of {RECORD}",
                path.display(),
                bytes.len()
            );
            bytes
                .par_chunks_exact(RECORD)
                .enumerate()
                .try_for_each(|(index, record)| {
                    let class = classes.get(usize::from(record[0])).with_context(|| {
                        format!(
                            "{}: record {index} is of class {}, of {}",
                            path.display(),
                            record[0],
                            classes.len()
                        )
                    })?;
                    let name = format!("{:05}.png", first + index);
                    let path = to.join(part).join(class).join(name);
                    picture(&record[1..])
                        .save(&path)
                        .with_context(|| format!("cannot write {}", path.display()))
                })?;
            first += bytes.len() / RECORD;
            progress.set(done + 1, "");
        }
        progress.finish();
    }
    Ok(())
}

/// From planes to pixels.
fn picture(planes: &[u8]) -> RgbImage {
    RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
        let at = y as usize * SIDE + x as usize;
        image::Rgb([0, 1, 2].map(|channel| planes[channel * SIDE * SIDE + at]))
    })
}
