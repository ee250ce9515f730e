//! A Pascal VOC tree: `JPEGImages`, `ImageSets`, `SegmentationClass`, `SegmentationObject`.

use std::fs;
use std::path::{Path, PathBuf};

use super::text;
use crate::file::read as read_file;
use crate::source::dataset::read_image;
use crate::source::files::io_error;
use crate::source::mask::read_mask;
use crate::source::options::{Decoding, MaskKind, SourceOptions};
use crate::{Error, Image, Mask, Result, Source};

/// The classes of Pascal VOC by their number in class masks; 0 is the background.
pub const VOC_CLASSES: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

#[derive(Debug)]
pub(super) struct Voc {
    root: PathBuf,
    ids: Vec<String>,
    /// The folder of masks, where there is one.
    masks: Option<PathBuf>,
    decoding: Decoding,
}

impl Voc {
    pub(super) fn open(root: &Path, options: &SourceOptions) -> Result<Self> {
        let sets = ["Segmentation", "Main"].map(|kind| root.join("ImageSets").join(kind));
        let Some(sets) = sets.into_iter().find(|folder| folder.is_dir()) else {
            let reason = "a VOC tree without ImageSets/Segmentation or ImageSets/Main".into();
            return Err(Error::BadSource {
                path: root.to_path_buf(),
                reason,
            });
        };
        let list = sets.join(format!("{}.txt", options.split));
        if !list.is_file() {
            let reason = format!("no split of that name; there is: {}", splits(&sets)?);
            return Err(Error::BadSource { path: list, reason });
        }
        let bytes = read_file(&list)?;
        let text = text::utf8(&bytes).map_err(|reason| Error::BadSource {
            path: list.clone(),
            reason,
        })?;
        // Lists of ImageSets/Main may carry a second column, which is not ours.
        let mut ids: Vec<String> = text::lines(text)
            .filter_map(|(_, line)| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return Err(Error::NoImages {
                path: list,
                reason: "the split is empty".into(),
            });
        }
        let folders: &[&str] = match options.masks {
            MaskKind::Objects => &["SegmentationObject", "SegmentationClass"],
            MaskKind::Classes => &["SegmentationClass"],
        };
        let masks = folders
            .iter()
            .map(|name| root.join(name))
            .find(|folder| folder.is_dir());
        Ok(Self {
            root: root.to_path_buf(),
            ids,
            masks,
            decoding: options.decoding(),
        })
    }

    fn image_path(&self, index: usize) -> PathBuf {
        self.root
            .join("JPEGImages")
            .join(format!("{}.jpg", self.ids[index]))
    }
}

fn splits(sets: &Path) -> Result<String> {
    let mut names: Vec<String> = fs::read_dir(sets)
        .map_err(|source| io_error(sets, source))?
        .filter_map(|entry| {
            Some(
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_suffix(".txt")?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    Ok(if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    })
}

impl Source for Voc {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn name(&self, index: usize) -> String {
        format!("JPEGImages/{}.jpg", self.ids[index])
    }

    fn label(&self, index: usize) -> Option<usize> {
        // An image of this set shows several classes; its labels are its masks.
        assert!(index < self.ids.len());
        None
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn image(&self, index: usize) -> Result<Image> {
        read_image(self, index)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        read_file(&self.image_path(index)).map(Some)
    }

    fn decoding(&self) -> Option<Decoding> {
        Some(self.decoding)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.image_path(index))
    }

    fn mask(&self, index: usize) -> Result<Option<Mask>> {
        let Some(folder) = &self.masks else {
            return Ok(None);
        };
        let mask = folder.join(format!("{}.png", self.ids[index]));
        // A link that leads nowhere is no missing mask.
        if mask.symlink_metadata().is_err() {
            return Ok(None);
        }
        read_mask(
            &self.image_path(index),
            &mask,
            &self.name(index),
            self.decoding.max_pixels,
        )
        .map(Some)
    }
}
