//! How images are seen for patch tokens.

use dinolab_data::augment::{Filter, eval};
use dinolab_data::{Image, Size};
use dinolab_features::{Preprocess, at_once, whole_patches};
use dinolab_nn::{Backbone, check_patches};

use super::EmbedRequest;
use crate::error::{Context, Result};
#[cfg(feature = "parquet")]
use crate::feature_set::parts::Grid;
use crate::model::Model;

/// What the network sees of each image.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenViews {
    /// What whole images are resized to, aspect ratio not kept.
    size: Option<Size>,
    /// Whether images are not cropped.
    whole: bool,
    resize: Size,
    crop: Size,
    /// Side of a patch.
    patch: usize,
}

impl TokenViews {
    /// As is asked for.
    ///
    /// # Errors
    /// A size that is not one of whole patches, or of too many.
    pub fn of(request: &EmbedRequest<'_>, model: &Model, preprocess: &Preprocess) -> Result<Self> {
        let views = Self {
            size: request.options.size,
            whole: request.options.whole,
            resize: preprocess.resize,
            crop: preprocess.crop,
            patch: model.backbone.stride(),
        };
        let setting = match (views.whole, views.size) {
            (true, _) => "resize",
            (false, Some(_)) => "size",
            (false, None) => "crop",
        };
        let (height, width) = views.seen();
        check_patches(height, width, views.patch).of_setting(setting, "")?;
        Ok(views)
    }

    /// Height and width of what is seen; whole images are as large as their aspect ratio makes them, but at least
    /// this.
    fn seen(&self) -> (usize, usize) {
        let seen = match self.size {
            Some(size) => size,
            None if self.whole => self.resize,
            None => self.crop,
        };
        (seen.height, seen.width)
    }

    /// Rows and columns of patches; `None` for whole images, which differ.
    #[cfg(feature = "parquet")]
    pub fn grid(&self) -> Option<Grid> {
        let (height, width) = self.seen();
        (!self.whole).then(|| Grid {
            rows: height / self.patch,
            columns: width / self.patch,
        })
    }

    /// Images that go through the network at a time, of those asked for.
    pub fn at_once(&self, batch_size: usize) -> usize {
        at_once(batch_size, self.seen(), self.patch)
    }

    /// What is seen of an image.
    ///
    /// # Errors
    /// An image that cannot be resized, or is of too many patches.
    pub fn view(&self, image: &Image) -> dinolab_features::Result<Image> {
        if self.whole {
            let (width, height) = eval::covering(image.width, image.height, self.resize);
            check_patches(height, width, self.patch).map_err(|error| {
                dinolab_features::Error::Invalid {
                    what: "image",
                    reason: format!(
                        "{error}; `size` HEIGHTxWIDTH instead of `whole` makes them equal"
                    ),
                }
            })?;
            let resized = eval::resize(image, width, height, Filter::Bicubic)?;
            return whole_patches(&resized, None, self.patch);
        }
        Ok(match self.size {
            Some(Size { height, width }) => eval::resize(image, width, height, Filter::Bicubic)?,
            None => eval::features(image, self.resize, self.crop)?,
        })
    }
}
