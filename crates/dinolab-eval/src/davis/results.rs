//! Predicted masks on disk (`SEQUENCE/00000.png`) and the scores of sequences.

use std::fs;
use std::io;
use std::path::Path;

use dinolab_data::decode::decode_mask;
use dinolab_data::slice::check_length;
use dinolab_data::{Mask, Size};
use rayon::prelude::*;

use super::measures::{Statistics, boundary_measure, region_similarity};
use super::palette::palette;
use super::tree::{Sequence, Tree, Year};
use crate::file::write_whole;
use crate::{Error, Result};

/// Most pixels of a mask.
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
pub struct DavisSummary {
    /// The mean of J and F, 0–1.
    pub j_and_f: f64,
    /// Region similarity, mean over objects.
    pub j: Statistics,
    /// Boundary measure, mean over objects.
    pub f: Statistics,
    /// The scores of each object.
    pub objects: Vec<ObjectScore>,
}

impl DavisSummary {
    /// Averages over all objects with equal weight; `None` if there are none.
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

/// Returns the statistics of each object from J and F per frame and object. Fails without frames.
fn object_scores(
    sequence: &str,
    objects: usize,
    frames: &[Vec<(f64, f64)>],
) -> Result<Vec<ObjectScore>> {
    (0..objects)
        .map(|index| {
            let (j, f): (Vec<f64>, Vec<f64>) = frames.iter().map(|frame| frame[index]).unzip();
            Ok(ObjectScore {
                sequence: sequence.to_owned(),
                object: index + 1,
                j: Statistics::of(&j)?,
                f: Statistics::of(&f)?,
            })
        })
        .collect()
}

/// Returns J and F of each object in one frame of `size`.
fn score_frame(
    objects: usize,
    truth: &[u8],
    predicted: &[u8],
    size: Size,
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

/// Returns the number of objects of a sequence, the greatest label in its first mask.
pub fn object_count(first: &Mask) -> usize {
    first.data.iter().copied().max().map_or(0, usize::from)
}

impl Year {
    /// Reads a mask file as object numbers.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Data`] if the file cannot be read or is not a palette or greyscale
    /// PNG.
    pub fn read_mask(self, path: &Path) -> Result<Mask> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let mut mask = decode_mask(&path.to_string_lossy(), &bytes, MAX_PIXELS)?;
        self.objects(&mut mask.data);
        Ok(mask)
    }

    /// Writes object numbers as a PNG of palette indices, complete or not at all. In 2016 the object
    /// is index 255 and white, as in that edition's annotations.
    ///
    /// # Errors
    /// [`Error::Slice`] if the data does not match the mask's size, [`Error::Write`] if the file
    /// cannot be written.
    pub fn write_mask(self, path: &Path, mask: &Mask) -> Result<()> {
        check_length("mask", mask.width * mask.height, mask.data.len())?;
        let mut colours = palette();
        let mut data = mask.data.clone();
        if self == Self::Single {
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
}

impl Sequence {
    /// Scores the masks of a self. `predicted` returns the mask of a frame by its number and is
    /// called from several threads, for all frames except the first and last.
    ///
    /// # Errors
    /// [`Error::Format`] for a sequence that is not fully annotated, has no object in its first frame
    /// or fewer than three frames, and for a mask of another size; the errors of `predicted` and of
    /// reading annotations.
    pub fn score(
        &self,
        year: Year,
        predicted: impl Fn(usize) -> Result<Mask> + Sync,
    ) -> Result<Vec<ObjectScore>> {
        let frames = self.frames.len();
        let wrong = |reason: &str| Error::Format {
            path: self.name.clone().into(),
            reason: reason.to_owned(),
        };
        if !self.is_annotated() {
            return Err(wrong(
                "only its first frame is annotated; it cannot be scored",
            ));
        }
        if frames < 3 {
            return Err(wrong(
                "the first and last frame are not scored; it has no others",
            ));
        }
        let objects = object_count(&year.read_mask(&self.annotations[0])?);
        if objects == 0 {
            return Err(wrong("its first mask has no object"));
        }
        let scored = (1..frames - 1)
            .into_par_iter()
            .map(|frame| {
                let truth = year.read_mask(&self.annotations[frame])?;
                let mask = predicted(frame)?;
                let at = |reason: String| Error::Format {
                    path: format!("{}/{}", self.name, self.frames[frame]).into(),
                    reason,
                };
                if mask.size() != truth.size() {
                    return Err(at(format!(
                        "the mask has {} × {} pixels, the annotation {} × {}",
                        mask.width, mask.height, truth.width, truth.height
                    )));
                }
                score_frame(objects, &truth.data, &mask.data, truth.size())
                    .map_err(|e| at(e.to_string()))
            })
            .collect::<Result<Vec<_>>>()?;
        object_scores(&self.name, objects, &scored)
    }

    /// Scores a static copy of the first mask, the baseline of standing still.
    ///
    /// # Errors
    /// As [`Sequence::score`].
    pub fn score_first_mask(&self, year: Year) -> Result<Vec<ObjectScore>> {
        let first = year.read_mask(&self.annotations[0])?;
        self.score(year, |_| Ok(first.clone()))
    }
}

impl Tree {
    /// Scores the masks `results/SEQUENCE/FRAME.png` of all sequences of a self. `progress` is called
    /// with the number of sequences done.
    ///
    /// # Errors
    /// Names the first mask that is missing, damaged or of the wrong size.
    pub fn score_folder(
        &self,
        results: &Path,
        progress: &mut dyn FnMut(usize),
    ) -> Result<DavisSummary> {
        let mut objects = Vec::new();
        for (done, sequence) in self.sequences.iter().enumerate() {
            let folder = results.join(&sequence.name);
            objects.extend(sequence.score(self.year, |frame| {
                let name = format!("{}.png", sequence.frames[frame]);
                self.year.read_mask(&folder.join(name))
            })?);
            progress(done + 1);
        }
        DavisSummary::of(objects).ok_or_else(|| Error::invalid("tree", "has no sequences"))
    }
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
        Year::Multiple.write_mask(&path, &mask).unwrap();
        assert_eq!(Year::Multiple.read_mask(&path).unwrap(), mask);
        let shown = image::open(&path).unwrap().into_rgb8();
        assert_eq!(shown.get_pixel(1, 0).0, [128, 0, 0]);
        Year::Single.write_mask(&path, &mask).unwrap();
        let single = Year::Single.read_mask(&path).unwrap();
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
        assert!(Year::Single.write_mask(&path, &short).is_err());
    }

    #[test]
    fn unknown_objects_are_refused() {
        let truth = [0, 1, 2, 0];
        let error = score_frame(2, &truth, &[0, 1, 3, 0], Size::square(2)).unwrap_err();
        assert!(error.to_string().contains("object 3"), "{error}");
        assert!(object_scores("none", 2, &[]).is_err());
        // An object that is not predicted at all counts as missed.
        let frame = score_frame(2, &truth, &[0, 1, 0, 0], Size::square(2)).unwrap();
        let scores = object_scores("swan", 2, &[frame]).unwrap();
        assert_eq!((scores[0].j.mean, scores[1].j.mean), (1.0, 0.0));
        assert_eq!(DavisSummary::of(scores).unwrap().j.mean, 0.5);
        assert_eq!(DavisSummary::of(Vec::new()), None);
    }
}
