//! PCA whitening of features: fitted to a set, or read from a file that was.

use std::path::PathBuf;

use dinolab_eval::knn::l2_normalise;
use dinolab_eval::whitening::Whitening;

use crate::error::{Context, Error, Result};

/// Whether features are whitened, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct WhiteningOptions {
    /// Whiten features (PCA: centre them and scale each principal component to unit variance),
    /// fitted to the images embedded or searched, or to --train
    #[cfg_attr(feature = "clap", arg(long, conflicts_with = "whitening"))]
    pub whiten: bool,
    /// Whiten features with a transform that `embed --whiten` wrote, NAME.whitening.safetensors
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub whitening: Option<PathBuf>,
}

impl WhiteningOptions {
    /// Whether features are whitened at all.
    pub fn is_on(&self) -> bool {
        self.whiten || self.whitening.is_some()
    }

    /// The transform for rows `[N, dim]` of unit length, fitted to them or read; `None` if there is to
    /// be none.
    ///
    /// # Errors
    /// Features that do not differ; a file that cannot be read, or is of features of another width.
    pub fn of(&self, rows: &[f32], dim: usize) -> Result<Option<Whitening>> {
        let Some(path) = &self.whitening else {
            let fitted = self.whiten.then(|| Whitening::fit_rows(rows, dim));
            return fitted.transpose().of_setting("whiten", "");
        };
        let read = Whitening::read(path).of_setting("whitening", "")?;
        if read.dim() != dim {
            let reason = format!(
                "is of features of width {}, and these have {dim}",
                read.dim()
            );
            return Err(Error::setting("whitening", path.display(), reason));
        }
        Ok(Some(read))
    }
}

/// L2-normalises rows `[N, dim]` and whitens them by the transform that `whitening` gives for the
/// first set, each set normalised again. Without a transform, the sets are L2-normalised.
///
/// # Errors
/// As of [`WhiteningOptions::of`].
pub(crate) fn unit_rows<const N: usize>(
    sets: [&mut Vec<f32>; N],
    dim: usize,
    options: &WhiteningOptions,
) -> Result<Option<Whitening>> {
    let mut whitening = None;
    for (place, rows) in sets.into_iter().enumerate() {
        l2_normalise(rows, dim)?;
        if place == 0 {
            whitening = options.of(rows, dim)?;
        }
        if let Some(whitening) = &whitening {
            whitening.apply(rows)?;
            l2_normalise(rows, dim)?;
        }
    }
    Ok(whitening)
}
