//! `--weights W`: a run folder, a checkpoint of one, or a weight file.

use std::path::{Path, PathBuf};

use dinolab_nn::Precision;
use dinolab_nn::position::PositionRule;
use dinolab_nn::weights::Which;
use dinolab_run::values::Numbers;
use dinolab_run::{ModelOptions, Normalisation};

/// Flags of every command that uses trained weights.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A run folder, one of its checkpoints, a .pth or safetensors file, or a model's folder
    #[arg(long, value_name = "W")]
    weights: PathBuf,
    #[command(flatten)]
    flags: ModelFlags,
}

/// Flags of commands that use trained weights unless they are given features.
#[derive(clap::Args)]
pub struct OptionalModelArgs {
    /// A run folder, one of its checkpoints, a .pth or safetensors file, or a model's folder; not
    /// needed for features
    #[arg(long, value_name = "W")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    flags: ModelFlags,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Model")]
struct ModelFlags {
    /// Network of a training checkpoint: teacher or student
    #[arg(long, value_name = "NETWORK", default_value = "teacher", value_parser = role)]
    checkpoint_key: Which,
    /// Attention heads, if the file does not say [default: width / 64]
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// How position embeddings follow other image sizes: dino, ratio or ratio-antialias
    /// [default: from the file, else from its naming scheme]
    #[arg(long, value_name = "RULE")]
    position_rule: Option<PositionRule>,
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N if compiled in
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Activations and matrix products in f32 or bf16
    #[arg(long, default_value_t)]
    precision: Precision,
    #[command(flatten)]
    normalisation: NormalisationArgs,
}

/// How values are normalised, for networks whose file does not say it.
#[derive(clap::Args)]
pub struct NormalisationArgs {
    /// Channel means of pixel values in 0–1, such as 0.5 or 0.485,0.456,0.406 [default: from the
    /// weights, or ImageNet's]
    #[arg(long, value_name = "X,…")]
    mean: Option<Numbers>,
    /// Channel standard deviations of pixel values in 0–1 [default: from the weights, or
    /// ImageNet's]
    #[arg(long, value_name = "X,…")]
    std: Option<Numbers>,
}

impl NormalisationArgs {
    /// In the library's words.
    pub fn options(&self) -> Normalisation {
        Normalisation {
            mean: self.mean.clone(),
            std: self.std.clone(),
        }
    }
}

impl ModelArgs {
    /// `W` as given.
    pub fn weights(&self) -> &Path {
        &self.weights
    }

    /// In the library's words.
    pub fn options(&self) -> ModelOptions {
        self.flags.options()
    }
}

impl OptionalModelArgs {
    /// `W` as given.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// In the library's words.
    pub fn options(&self) -> ModelOptions {
        self.flags.options()
    }
}

impl ModelFlags {
    fn options(&self) -> ModelOptions {
        ModelOptions {
            which: self.checkpoint_key,
            heads: self.heads,
            position_rule: self.position_rule,
            device: self.device.clone(),
            precision: self.precision,
            normalisation: self.normalisation.options(),
        }
    }
}

/// The network of a training checkpoint that `--checkpoint-key` names.
pub fn role(key: &str) -> Result<Which, String> {
    match key {
        "teacher" => Ok(Which::Teacher),
        "student" => Ok(Which::Student),
        _ => Err("one of teacher, student".into()),
    }
}
