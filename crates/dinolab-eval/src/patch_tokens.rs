//! Patch tokens of many images to a file, which is written as they come: all of them would not fit
//! into memory.
//!
//! Where all images make the same grid, the file holds one array `[images, rows, columns, D]`; where
//! they do not, one array `[rows, columns, D]` per image, by its name.

mod file;

use std::path::Path;

use burn::tensor::Tensor;
use dinolab_data::Source;
use dinolab_files::FileSet;
use dinolab_nn::Vit;

use crate::block_features::BlockFeatures;
use crate::feature_set::{Kind, kind, names_and_labels, write_companions};
use crate::features::{Pass, Preprocess, Rows, View};
use crate::file::unwritten;
use crate::{Error, Result};

use self::file::{Npy, Safetensors, Tokens};

/// Name of the array in a safetensors file that holds one.
const TENSOR: &str = "patch_tokens";

/// Which tokens are written: those of the last blocks, each after the *final* norm, concatenated
/// along `D`, earliest block first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchTokens {
    /// Blocks whose tokens are taken, from 1 to the network's depth.
    pub n_last_blocks: usize,
}

/// How images are laid out in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One array of all; views are all of one size.
    Joint,
    /// An array per image, in a safetensors file.
    PerImage,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The source's indices of the images, in the order of the file.
    pub indices: Vec<usize>,
    /// Width of a token, `D`.
    pub dim: usize,
    /// Rows and columns of patches, where they are the same for all.
    pub grid: Option<(usize, usize)>,
    /// Whether there are labels, and thus a file of them.
    pub labelled: bool,
    /// Images that could not be used: index and reason.
    pub skipped: Vec<(usize, String)>,
}

impl PatchTokens {
    /// Width of a token of `vit`, `D`.
    pub fn dim(&self, vit: &Vit) -> usize {
        vit.config().width * self.n_last_blocks
    }

    /// Images `[B, C, H, W]` to patch tokens `[B, h · w · D]`, patches row by row.
    fn of(&self, vit: &Vit, images: Tensor<4>) -> Tensor<2> {
        let [b, _, height, width] = images.dims();
        let patch = vit.config().patch_size;
        let patches = (height / patch) * (width / patch);
        let blocks = vit.intermediate(images, self.n_last_blocks);
        let tokens = blocks.into_iter().map(|tokens| {
            let count = tokens.dims()[1];
            tokens.narrow(1, count - patches, patches)
        });
        Tensor::cat(tokens.collect(), 2).reshape([b, patches * self.dim(vit)])
    }

    /// Writes the tokens of the source's images number `indices`, seen as `view` says, to `path`, a
    /// `.npy` or `.safetensors` file, and beside it their names and labels as
    /// [`FeatureSet`](crate::feature_set::FeatureSet) does. Of `preprocess`, channel means and
    /// deviations are used. Only `batch_size` images are in memory at a time. The file appears once
    /// it is whole.
    ///
    /// # Errors
    /// [`Error::Invalid`] for blocks that the network has not, for separate arrays in a `.npy`, and
    /// where no image can be used; otherwise as [`Pass::each`], and where files cannot be written.
    #[allow(
        clippy::too_many_arguments,
        reason = "what is seen, how, and where it goes"
    )]
    pub fn write(
        &self,
        vit: &Vit,
        source: &dyn Source,
        indices: &[usize],
        (view, preprocess): (&View, &Preprocess),
        batch_size: usize,
        (path, layout): (&Path, Layout),
        progress: &mut dyn FnMut(usize),
    ) -> Result<Written> {
        let blocks = BlockFeatures {
            n_last_blocks: self.n_last_blocks,
            avgpool_patchtokens: false,
        };
        blocks.check(vit)?;
        let dim = self.dim(vit);
        let mut file: Box<dyn Tokens> = match (kind(path), layout) {
            (Some(Kind::Npy), Layout::Joint) => Box::new(Npy::create(path, dim)?),
            (Some(Kind::Safetensors), Layout::Joint) => {
                Box::new(Safetensors::create(path, dim, None)?)
            }
            (Some(Kind::Safetensors), Layout::PerImage) => {
                let names = indices.iter().map(|&index| source.name(index)).collect();
                Box::new(Safetensors::create(path, dim, Some(names))?)
            }
            (Some(Kind::Npy), Layout::PerImage) => {
                let reason = "images of different sizes go to a .safetensors file";
                return Err(Error::invalid("patch tokens", reason));
            }
            (None, _) => {
                return Err(Error::Format {
                    path: path.into(),
                    reason: "patch tokens go to .npy or .safetensors".into(),
                });
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
        let (used, skipped) = Pass {
            vit,
            view,
            feature: &|images| self.of(vit, images),
            dim,
            normaliser: &preprocess.normaliser()?,
            batch_size,
        }
        .each(source, indices, &mut each, progress)?;
        if used.is_empty() {
            let first = skipped.first().map(|(_, why)| why.as_str());
            let reason = format!(
                "none can be used; the first: {}",
                first.unwrap_or("there are none")
            );
            return Err(Error::invalid("images", reason));
        }
        let (names, labels) = names_and_labels(&used, source);
        let mut companions = FileSet::default();
        write_companions(&mut companions, path, Some(&names), labels.as_deref())?;
        file.finish()?;
        companions.keep().map_err(unwritten(path))?;
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
