//! How images are brought to the network's size.

use dinolab_data::Size;
use dinolab_run::feature_input::{FeatureOptions, PreprocessOptions};

use super::OptionalModelArgs;

/// Flags of commands that make features.
#[derive(clap::Args)]
pub struct PreprocessArgs {
    /// Resize the shorter side to this, or resize to cover HEIGHTxWIDTH [default: the run's, or 256]
    #[arg(long, value_name = "PX")]
    resize: Option<Size>,
    /// Centre-crop to this size, or to HEIGHTxWIDTH [default: the run's, or 224]
    #[arg(long, value_name = "PX")]
    crop: Option<Size>,
    /// Batch size for inference
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
}

impl PreprocessArgs {
    /// In the library's words.
    pub fn options(&self) -> PreprocessOptions {
        PreprocessOptions {
            resize: self.resize,
            crop: self.crop,
            batch_size: self.batch_size,
        }
    }
}

/// How features are made, by the flags of a network and of images.
pub fn features<'a>(
    model: &'a OptionalModelArgs,
    preprocess: &PreprocessArgs,
) -> FeatureOptions<'a> {
    FeatureOptions {
        weights: model.weights(),
        model: model.options(),
        preprocess: preprocess.options(),
    }
}
