//! A folder of features that is read part by part, or a few rows at a time.

use std::path::Path;

use dinolab_data::source::RemoteOptions;

use super::pages::for_features;
use super::{Manifest, PartFolder, file};
use crate::error::{Context, Result};
use crate::feature_set::FeatureSet;

/// Rows that are given at a time; a multiple of the rows that sums are made of at a time, so that sums are those of
/// all rows at once.
const BLOCK: usize = 8192;

/// A folder of features.
#[derive(Debug)]
pub(crate) struct Stored {
    pub folder: PartFolder,
    pub manifest: Manifest,
    /// What its parts are known by.
    pub identity: String,
}

impl Stored {
    /// The folder at a path or location.
    ///
    /// # Errors
    /// A folder without a manifest, or one of patch tokens; one that cannot be read.
    pub fn open(folder: &Path, remote: &RemoteOptions) -> Result<Self> {
        let folder = PartFolder::open(folder, remote)?;
        let (manifest, identity) = Manifest::read(&folder)?;
        ensure!(
            manifest.patch_tokens.is_none(),
            "{folder}: holds patch tokens, not one feature of each image"
        );
        Ok(Self {
            folder,
            manifest,
            identity,
        })
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.manifest.parts()
    }

    /// Gives the features of a part to `each`, some rows and their width at a time. The part's checksum is not
    /// compared: `embed --verify` does that.
    ///
    /// # Errors
    /// A part that is missing, damaged or of another folder; errors of `each`.
    pub fn for_features(
        &self,
        part: usize,
        each: impl FnMut(&[f32], usize) -> Result<()>,
    ) -> Result<()> {
        let read = for_features(&self.folder, &self.identity, part, each);
        read.with_context(|| self.path_of(part))
    }

    /// Gives all features to `each`, [`BLOCK`] rows at a time but for the last ones, and their width.
    ///
    /// # Errors
    /// As [`for_features`](Self::for_features); features that differ in width.
    pub fn for_blocks(&self, mut each: impl FnMut(&mut [f32], usize) -> Result<()>) -> Result<()> {
        let (mut block, mut width) = (Vec::new(), 0);
        for part in 0..self.parts() {
            self.for_features(part, |rows, dim| {
                ensure!(
                    width == 0 || width == dim,
                    "has features of width {dim}, others of {width}"
                );
                width = dim;
                for row in rows.chunks_exact(dim) {
                    block.extend_from_slice(row);
                    if block.len() == BLOCK * dim {
                        each(&mut block, dim)?;
                        block.clear();
                    }
                }
                Ok(())
            })?;
        }
        match block.is_empty() {
            true => Ok(()),
            false => each(&mut block, width),
        }
    }

    /// The names of a part's images.
    ///
    /// # Errors
    /// A part that is missing, damaged or of another folder.
    pub fn names(&self, part: usize) -> Result<Vec<String>> {
        let texts = file::texts(&self.folder, &self.identity, part, "path");
        let names = texts.and_then(|texts| {
            let names = texts.and_then(|texts| texts.into_iter().collect());
            names.context("has an image without a path")
        });
        names.with_context(|| self.path_of(part))
    }

    /// The classes of a part's images; `None` where no image of the set has one.
    ///
    /// # Errors
    /// A part that is missing, damaged or of another folder.
    pub fn labels(&self, part: usize) -> Result<Option<Vec<Option<String>>>> {
        let texts = file::texts(&self.folder, &self.identity, part, "label");
        texts.with_context(|| self.path_of(part))
    }

    /// All of a part, whose checksum is compared.
    ///
    /// # Errors
    /// A part that is missing, damaged or of another folder.
    pub fn read(&self, part: usize) -> Result<FeatureSet> {
        let reader = self.folder.part(part)?.context("is missing");
        let read = reader.and_then(file::read).and_then(|(set, footer)| {
            match footer.identity == self.identity && footer.number == part {
                true => Ok(set),
                false => bail!("is a part of another folder"),
            }
        });
        read.with_context(|| self.path_of(part))
    }

    fn path_of(&self, part: usize) -> String {
        self.folder.path_of(part).display().to_string()
    }
}

/// Makes a folder of `parts` parts of `size` rows of width `dim`, of ten classes; every eleventh row has none.
#[cfg(test)]
pub(crate) fn made(
    root: &Path,
    (parts, size, dim): (usize, usize, usize),
    kind: super::FeatureType,
) {
    use rayon::prelude::*;

    let manifest = Manifest {
        images: parts * size,
        part_size: size,
        kind,
        ..Manifest::default()
    };
    let root = PartFolder::open(root, &RemoteOptions::default()).unwrap();
    let identity = manifest.claim(&root).unwrap();
    (0..parts).into_par_iter().for_each(|part| {
        let value = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 500_001.5 - 1.0;
        let names: Vec<String> = (0..size).map(|row| format!("{part}/{row}.jpg")).collect();
        let class =
            |row: usize| (!row.is_multiple_of(11)).then(|| format!("class {}", (part + row) % 10));
        let first = part * size * dim;
        let set = FeatureSet {
            dim,
            data: (first..first + size * dim).map(value).collect(),
            names: Some(names.clone()),
            labels: Some((0..size).map(class).collect()),
        };
        let part = super::Part::new(&identity, part, kind, &names, set, true);
        part.write(&root).unwrap();
    });
}
