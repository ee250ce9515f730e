//! Predicted masks on the disk (`SEQUENCE/00000.png`) and the scores of a set of sequences.

use std::fs;
use std::io;
use std::path::Path;

use dinolab_data::Mask;
use dinolab_data::decode::decode_mask;
use rayon::prelude::*;

use super::measures::{Statistics, boundary_measure, region_similarity};
use super::palette::palette;
use super::tree::{Sequence, Tree, Year};
use crate::error::check_length;
use crate::file::write_whole;
use crate::{Error, Result};

/// Pixels that a mask may have at most.
const MAX_PIXELS: u64 = 1 << 28;

/// Scores of one object over a sequence.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ObjectScore {
    /// The sequence.
    pub sequence: String,
    /// The object's number, from 1.
    pub object: usize,
    /// Region similarity.
    pub j: Statistics,
    /// Boundary measure.
    pub f: Statistics,
}

/// Scores of a set of sequences.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Half the sum of both means, 0–1.
    pub j_and_f: f64,
    /// Region similarity, the mean over objects.
    pub j: Statistics,
    /// Boundary measure, the mean over objects.
    pub f: Statistics,
    /// Each object.
    pub objects: Vec<ObjectScore>,
}

impl Summary {
    /// Means over all objects, each of the same weight; `None` without any.
    pub fn of(objects: Vec<ObjectScore>) -> Option<Self> {
        let j = Statistics::mean_of(objects.iter().map(|object| &object.j))?;
        let f = Statistics::mean_of(objects.iter().map(|object| &object.f))?;
        Some(Self {
            j_and_f: (j.mean + f.mean) / 2.0,
            j,
            f,
            objects,
        })
    }
}

/// Scores the frames of one sequence, in order; the first and the last frame are not to be
/// given, as the benchmark leaves them out.
#[derive(Clone, Debug)]
pub struct SequenceMeter {
    objects: usize,
    /// J and F, per object and frame.
    scores: Vec<Vec<(f64, f64)>>,
}

impl SequenceMeter {
    /// A meter for the objects `1..=objects`, those of the first frame.
    pub fn new(objects: usize) -> Self {
        Self {
            objects,
            scores: vec![Vec::new(); objects],
        }
    }

    /// Adds a frame of `size` = (height, width): true and predicted object numbers.
    ///
    /// # Errors
    /// Masks of other sizes; a predicted object that there is not.
    pub fn add(&mut self, truth: &[u8], predicted: &[u8], size: (usize, usize)) -> Result<()> {
        let frame = score_frame(self.objects, truth, predicted, size)?;
        self.push(frame);
        Ok(())
    }

    fn push(&mut self, frame: Vec<(f64, f64)>) {
        for (scores, score) in self.scores.iter_mut().zip(frame) {
            scores.push(score);
        }
    }

    /// The scores of all objects.
    ///
    /// # Errors
    /// No frame has been added.
    pub fn finish(&self, sequence: &str) -> Result<Vec<ObjectScore>> {
        self.scores
            .iter()
            .enumerate()
            .map(|(index, scores)| {
                let (j, f): (Vec<f64>, Vec<f64>) = scores.iter().copied().unzip();
                Ok(ObjectScore {
                    sequence: sequence.to_owned(),
                    object: index + 1,
                    j: Statistics::of(&j)?,
                    f: Statistics::of(&f)?,
                })
            })
            .collect()
    }
}

/// J and F of each object in one frame.
fn score_frame(
    objects: usize,
    truth: &[u8],
    predicted: &[u8],
    size: (usize, usize),
) -> Result<Vec<(f64, f64)>> {
    check_length("predicted mask", truth.len(), predicted.len())?;
    if let Some(&label) = predicted
        .iter()
        .find(|&&label| usize::from(label) > objects)
    {
        return Err(Error::invalid(
            "predicted mask",
            format!("has an object {label}, the sequence has {objects}"),
        ));
    }
    (1..=objects)
        .map(|object| {
            let of = |labels: &[u8]| -> Vec<bool> {
                labels.iter().map(|&l| usize::from(l) == object).collect()
            };
            let (truth, predicted) = (of(truth), of(predicted));
            Ok((
                region_similarity(&truth, &predicted, None)?,
                boundary_measure(&truth, &predicted, None, size)?,
            ))
        })
        .collect()
}

/// Reads a mask file as object numbers.
///
/// # Errors
/// A file that cannot be read or is no palette or greyscale PNG.
pub fn read_mask(path: &Path, year: Year) -> Result<Mask> {
    let bytes = fs::read(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let mut mask = decode_mask(&path.to_string_lossy(), &bytes, MAX_PIXELS)?;
    year.objects(&mut mask.data);
    Ok(mask)
}

/// Writes object numbers as a PNG of palette indices, whole or not at all. In 2016 the object
/// is index 255 and white, as in that edition's annotations.
///
/// # Errors
/// A mask whose length is not its size's; a file that cannot be written.
pub fn write_mask(path: &Path, mask: &Mask, year: Year) -> Result<()> {
    check_length("mask", mask.width * mask.height, mask.data.len())?;
    let mut colours = palette();
    let mut data = mask.data.clone();
    if year == Year::Single {
        colours[255] = [255; 3];
        for label in &mut data {
            *label = if *label > 0 { 255 } else { 0 };
        }
    }
    let side = |side: usize| {
        u32::try_from(side).map_err(|_| Error::invalid("mask", format!("{side} pixels a side")))
    };
    let (width, height) = (side(mask.width)?, side(mask.height)?);
    write_whole(path, |out| {
        let mut encoder = png::Encoder::new(out, width, height);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(colours.concat());
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        writer.write_image_data(&data).map_err(io::Error::other)?;
        writer.finish().map_err(io::Error::other)
    })
}

/// The objects of a sequence: the greatest number in its first mask.
pub fn object_count(first: &Mask) -> usize {
    first.data.iter().copied().max().map_or(0, usize::from)
}

/// Scores of masks given by number of the frame; `predicted` is called from several threads,
/// for all frames but the first and the last.
///
/// # Errors
/// A sequence that is not annotated throughout, has no object in its first frame or less than
/// three frames; whatever `predicted` and the annotations give; masks of other sizes.
pub fn score_sequence(
    sequence: &Sequence,
    year: Year,
    predicted: impl Fn(usize) -> Result<Mask> + Sync,
) -> Result<Vec<ObjectScore>> {
    let frames = sequence.frames.len();
    let wrong = |reason: &str| Error::Format {
        path: sequence.name.clone().into(),
        reason: reason.to_owned(),
    };
    if !sequence.is_annotated() {
        return Err(wrong(
            "only its first frame is annotated; it cannot be scored",
        ));
    }
    if frames < 3 {
        return Err(wrong(
            "the first and last frame are not scored; it has no others",
        ));
    }
    let objects = object_count(&read_mask(&sequence.annotations[0], year)?);
    if objects == 0 {
        return Err(wrong("there is no object in its first mask"));
    }
    let scored = (1..frames - 1)
        .into_par_iter()
        .map(|frame| {
            let truth = read_mask(&sequence.annotations[frame], year)?;
            let mask = predicted(frame)?;
            let at = |reason: String| Error::Format {
                path: format!("{}/{}", sequence.name, sequence.frames[frame]).into(),
                reason,
            };
            if (mask.height, mask.width) != (truth.height, truth.width) {
                return Err(at(format!(
                    "the mask has {} × {} pixels, the annotation {} × {}",
                    mask.width, mask.height, truth.width, truth.height
                )));
            }
            let size = (truth.height, truth.width);
            score_frame(objects, &truth.data, &mask.data, size).map_err(|e| at(e.to_string()))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut meter = SequenceMeter::new(objects);
    for frame in scored {
        meter.push(frame);
    }
    meter.finish(&sequence.name)
}

/// Scores the masks `results/SEQUENCE/FRAME.png` of all sequences of a tree. `progress` hears
/// how many sequences are done.
///
/// # Errors
/// Names the first mask that is missing, damaged or does not fit.
pub fn score_folder(
    tree: &Tree,
    results: &Path,
    progress: &mut dyn FnMut(usize),
) -> Result<Summary> {
    let mut objects = Vec::new();
    for (done, sequence) in tree.sequences.iter().enumerate() {
        let folder = results.join(&sequence.name);
        objects.extend(score_sequence(sequence, tree.year, |frame| {
            read_mask(
                &folder.join(format!("{}.png", sequence.frames[frame])),
                tree.year,
            )
        })?);
        progress(done + 1);
    }
    Summary::of(objects).ok_or_else(|| Error::invalid("tree", "has no sequences"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swan/00000.png");
        let mask = Mask {
            width: 5,
            height: 3,
            data: vec![0, 1, 2, 3, 0, 0, 0, 7, 0, 0, 1, 1, 0, 0, 254],
        };
        write_mask(&path, &mask, Year::Multiple).unwrap();
        assert_eq!(read_mask(&path, Year::Multiple).unwrap(), mask);
        let shown = image::open(&path).unwrap().into_rgb8();
        assert_eq!(shown.get_pixel(1, 0).0, [128, 0, 0]);
        write_mask(&path, &mask, Year::Single).unwrap();
        let single = read_mask(&path, Year::Single).unwrap();
        assert!(
            single
                .data
                .iter()
                .zip(&mask.data)
                .all(|(&s, &m)| s == u8::from(m > 0))
        );
        let shown = image::open(&path).unwrap().into_rgb8();
        assert_eq!(shown.get_pixel(1, 0).0, [255; 3]);
        let short = Mask { width: 6, ..mask };
        assert!(write_mask(&path, &short, Year::Single).is_err());
    }

    #[test]
    fn unknown_objects_are_refused() {
        let mut meter = SequenceMeter::new(2);
        let truth = [0, 1, 2, 0];
        let error = meter.add(&truth, &[0, 1, 3, 0], (2, 2)).unwrap_err();
        assert!(error.to_string().contains("object 3"), "{error}");
        assert!(meter.finish("none").is_err());
        // An object that is not predicted at all counts as missed.
        meter.add(&truth, &[0, 1, 0, 0], (2, 2)).unwrap();
        let scores = meter.finish("swan").unwrap();
        assert_eq!((scores[0].j.mean, scores[1].j.mean), (1.0, 0.0));
        assert_eq!(Summary::of(scores).unwrap().j.mean, 0.5);
        assert_eq!(Summary::of(Vec::new()), None);
    }
}
