//! Patch tokens of many images, written to a file as they are computed, because all of them would
//! not fit in memory.
//!
//! If all images have the same grid, the file holds one array `[images, rows, columns, D]`,
//! otherwise one array `[rows, columns, D]` per image, by its name.

mod file;
mod growing;

use std::path::Path;

use dinolab_data::Source;
use dinolab_features::{BlockFeatures, FeatureExtractor, Preprocess, Rows, View};
use dinolab_files::FileSet;
use dinolab_nn::backbone::last_tokens;
use dinolab_nn::{Backbone, Feature, Tensor};

use self::file::{Npy, Safetensors, Tokens};
use crate::error::{Context, Result};
use crate::feature_set::{FileFormat, file_format, names_and_labels, unwritten, write_companions};

/// Name of the array in a safetensors file that holds one.
const TENSOR: &str = "patch_tokens";

/// An image that could not be used, and the reason.
type Skipped = (usize, String);

/// The patch tokens of the last blocks, each after the *final* norm, concatenated along `D`,
/// earliest block first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchTokens {
    /// Number of last blocks, from 1 to the network's depth.
    pub n_last_blocks: usize,
}

/// The layout of images in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One array for all images, which have the same size.
    Joint,
    /// One array per image, in a safetensors file.
    PerImage,
}

/// The content of the written file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The source's indices of the images, in the order of the file.
    pub indices: Vec<usize>,
    /// Width of a token, `D`.
    pub dim: usize,
    /// Rows and columns of patches, if the same for all images.
    pub grid: Option<(usize, usize)>,
    /// Whether a file of labels was written.
    pub labelled: bool,
    /// Images that could not be used: index and reason.
    pub skipped: Vec<(usize, String)>,
}

impl PatchTokens {
    /// Returns the width of a token of `backbone`, `D`.
    pub fn dim(&self, backbone: &dyn Backbone) -> usize {
        backbone.width() * self.n_last_blocks
    }

    /// Computes patch tokens `[B, h · w · D]` of images `[B, C, H, W]`, patches row by row.
    fn of(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2> {
        let [b, _, height, width] = images.dims();
        let patch = backbone.stride();
        let patches = (height / patch) * (width / patch);
        let blocks = last_tokens(backbone, images, self.n_last_blocks);
        let blocks = blocks.expect("checked to be there");
        let tokens = blocks.into_iter().map(|tokens| {
            let count = tokens.dims()[1];
            tokens.narrow(1, count - patches, patches)
        });
        Tensor::cat(tokens.collect(), 2).reshape([b, patches * self.dim(backbone)])
    }

    /// What is taken of a network: the last blocks.
    pub(crate) fn blocks(&self) -> BlockFeatures {
        BlockFeatures {
            n_last_blocks: self.n_last_blocks,
            ..Feature::Class.into()
        }
    }

    /// Gives the tokens of the source's images `indices` to `each`, a batch at a time. Returns the images that could
    /// be used, and the others with the reasons.
    ///
    /// # Errors
    /// As [`FeatureExtractor::each`]; errors of `each`.
    #[allow(
        clippy::too_many_arguments,
        reason = "what is seen, how, and where it goes"
    )]
    pub(crate) fn each(
        &self,
        backbone: &dyn Backbone,
        source: &dyn Source,
        indices: &[usize],
        (view, preprocess): (&View, &Preprocess),
        batch_size: usize,
        each: &mut dyn FnMut(Rows) -> Result<()>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Vec<usize>, Vec<Skipped>)> {
        FeatureExtractor {
            backbone,
            view,
            feature: &|images| self.of(backbone, images),
            dim: self.dim(backbone),
            normaliser: &preprocess.normaliser()?,
            batch_size,
        }
        .each(source, indices, each, progress)
    }

    /// Writes the tokens of the source's images `indices` to `path`, a `.npy` or `.safetensors`
    /// file, and their names and labels next to it as
    /// [`FeatureSet`](crate::feature_set::FeatureSet) does. `view` makes the input of the network;
    /// only the channel means and deviations of `preprocess` are used. `batch_size` images are in
    /// memory at a time. The file appears once it is complete.
    ///
    /// # Errors
    /// More blocks than the network has; separate arrays in a `.npy` file; no image that can be used;
    /// a file that cannot be written; otherwise as [`FeatureExtractor::each`].
    #[allow(
        clippy::too_many_arguments,
        reason = "what is seen, how, and where it goes"
    )]
    pub fn write(
        &self,
        backbone: &dyn Backbone,
        source: &dyn Source,
        indices: &[usize],
        (view, preprocess): (&View, &Preprocess),
        batch_size: usize,
        (path, layout): (&Path, Layout),
        progress: &mut dyn FnMut(usize),
    ) -> Result<Written> {
        self.blocks().check(backbone)?;
        let dim = self.dim(backbone);
        let mut file: Box<dyn Tokens> = match (file_format(path), layout) {
            (Some(FileFormat::Npy), Layout::Joint) => Box::new(Npy::create(path, dim)?),
            (Some(FileFormat::Safetensors), Layout::Joint) => {
                Box::new(Safetensors::create(path, dim, None)?)
            }
            (Some(FileFormat::Safetensors), Layout::PerImage) => {
                let names = indices.iter().map(|&index| source.name(index)).collect();
                Box::new(Safetensors::create(path, dim, Some(names))?)
            }
            (Some(FileFormat::Npy), Layout::PerImage) => {
                bail!("patch tokens: images of different sizes go to a .safetensors file");
            }
            (None, _) => {
                bail!(
                    "{}: patch tokens go to .npy or .safetensors",
                    path.display()
                );
            }
        };
        let mut grid: Option<(usize, usize)> = None;
        let mut same = true;
        let mut each = |rows: Rows| {
            same &= grid.is_none_or(|grid| grid == rows.grid);
            grid.get_or_insert(rows.grid);
            let names: Vec<String> = rows.indices.iter().map(|&i| source.name(i)).collect();
            file.add(&names, rows.grid, &rows.data)
        };
        let (used, skipped) = self.each(
            backbone,
            source,
            indices,
            (view, preprocess),
            batch_size,
            &mut each,
            progress,
        )?;
        if used.is_empty() {
            let first = skipped.first().map(|(_, why)| why.as_str());
            let first = first.unwrap_or("no images given");
            bail!("images: none is usable; the first: {first}");
        }
        let (names, labels) = names_and_labels(&used, source);
        let mut companions = FileSet::default();
        write_companions(&mut companions, path, Some(&names), labels.as_deref())?;
        file.finish()?;
        companions.keep().with_context(|| unwritten(path))?;
        Ok(Written {
            indices: used,
            dim,
            grid: grid.filter(|_| same),
            labelled: labels.is_some(),
            skipped,
        })
    }
}

#[cfg(test)]
mod tests;
