//! `--weights W`: a run folder, a checkpoint of one, a weight file, or a model of the Hugging Face Hub.

use std::path::{Path, PathBuf};

use dinolab_run::ModelOptions;
use dinolab_run::feature_input::{FeatureChoice, FeatureOptions, PreprocessOptions};

/// Flags of every command that uses trained weights.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// Run folder, one of its checkpoints, weight file (.pth or .safetensors), model folder or hf:OWNER/NAME
    #[arg(long, value_name = "W")]
    weights: PathBuf,
    #[command(flatten)]
    options: ModelOptions,
}

/// Flags of commands that use trained weights unless they are given features.
#[derive(clap::Args)]
pub struct OptionalModelArgs {
    /// Run folder, one of its checkpoints, weight file (.pth or .safetensors), model folder or
    /// hf:OWNER/NAME; not needed for saved features (eval video: with --results)
    #[arg(long, value_name = "W")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
}

impl ModelArgs {
    /// `W` as given.
    pub fn weights(&self) -> &Path {
        &self.weights
    }

    /// How its network is made.
    pub fn options(&self) -> ModelOptions {
        self.options.clone()
    }
}

impl OptionalModelArgs {
    /// `W` as given.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// How its network is made.
    pub fn options(&self) -> ModelOptions {
        self.options.clone()
    }

    /// How features are made of images that are prepared in this way.
    pub fn features(
        &self,
        choice: FeatureChoice,
        preprocess: PreprocessOptions,
    ) -> FeatureOptions<'_> {
        FeatureOptions {
            weights: self.weights(),
            model: self.options(),
            choice,
            preprocess,
        }
    }
}
