//! `--weights W`: a run folder, a checkpoint of one, or a weight file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use dinolab_data::{Pixels, Size};
use dinolab_eval::features::Preprocess;
use dinolab_nn::position::PositionRule;
use dinolab_nn::weights::{self, LoadOptions, NetworkRole, Weights};
use dinolab_nn::{Parameters, Precision, Vit, device, init::Init};
use dinolab_train::checkpoint::{self, Checkpoint};

use crate::settings::Config;
use crate::values::Numbers;

/// Flags of every verb that uses trained weights.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A run folder, one of its checkpoints, a .pth or safetensors file, or a model's folder
    #[arg(long, value_name = "W")]
    weights: PathBuf,
    #[command(flatten)]
    flags: ModelFlags,
}

/// Flags of verbs that use trained weights unless they are given features.
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
struct ModelFlags {
    /// Network of a training checkpoint: teacher, student, average or network
    /// [default: the one that the run evaluates]
    #[arg(long, value_name = "ROLE")]
    checkpoint_key: Option<NetworkRole>,
    /// Attention heads, where the file does not say [default: width / 64]
    #[arg(long)]
    heads: Option<usize>,
    /// How position embeddings follow other image sizes: dino, ratio or ratio-antialias
    /// [default: as the file says, or as networks with its tensors' names do]
    #[arg(long)]
    position_rule: Option<PositionRule>,
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N where built with them
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Activations and matrix products in f32 or bf16
    #[arg(long, default_value_t)]
    precision: Precision,
    #[command(flatten)]
    normalisation: Normalisation,
}

/// How values are normalised, for networks whose file does not say it.
#[derive(clap::Args)]
pub struct Normalisation {
    /// Channel means of pixel values in 0–1, such as 0.5 or 0.485,0.456,0.406 [default: from the
    /// weights, or ImageNet's]
    #[arg(long, value_name = "X,…")]
    mean: Option<Numbers>,
    /// Channel standard deviations of pixel values in 0–1 [default: from the weights, or
    /// ImageNet's]
    #[arg(long, value_name = "X,…")]
    std: Option<Numbers>,
}

impl Normalisation {
    /// How images are prepared for a network of `channels`: as `facts` say it, and by the flags.
    /// `None` where neither says it.
    pub fn of(
        &self,
        facts: &BTreeMap<String, String>,
        channels: usize,
    ) -> Result<Option<Preprocess>> {
        for (flag, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            let given = numbers.as_ref().map_or(channels, |numbers| numbers.0.len());
            ensure!(
                given == channels,
                "--{flag}: {given} numbers for a network of {}",
                count(channels)
            );
        }
        let known = preprocess_of(facts).filter(|known| known.mean.len() == channels);
        let mut preprocess = match (known, &self.mean, &self.std) {
            (Some(known), ..) => known,
            (None, None, None) => return Ok(None),
            (None, Some(_), Some(_)) => Preprocess {
                stored: channels != 3,
                ..Preprocess::default()
            },
            (None, ..) if channels == 3 => Preprocess::default(),
            (None, Some(_), None) => bail!("--mean: needs --std too, the standard deviations"),
            (None, None, Some(_)) => bail!("--std: needs --mean too, the channel means"),
        };
        if let Some(mean) = &self.mean {
            preprocess.mean.clone_from(&mean.0);
        }
        if let Some(std) = &self.std {
            preprocess.std.clone_from(&std.0);
        }
        preprocess.normaliser().context("--mean, --std")?;
        Ok(Some(preprocess))
    }
}

/// A backbone ready to use.
pub struct Model {
    /// The network.
    pub vit: Vit,
    /// How the run that trained it prepared images; the reference's way where unknown.
    pub preprocess: Preprocess,
    /// Side of attention pictures in the run that trained it.
    pub attend_size: Option<Size>,
}

impl Model {
    /// The kind of images that it was trained on.
    pub fn pixels(&self) -> Pixels {
        self.preprocess.pixels()
    }

    fn rgb(self) -> Result<Self> {
        match self.pixels() {
            Pixels::Rgb => Ok(self),
            Pixels::Stored { channels } => bail!(
                "this verb takes networks for 8-bit RGB; this one was trained on {channels} \
                 channels as stored (embed, attend, pca, neighbours, eval knn and retrieval by \
                 labels take it)"
            ),
        }
    }
}

impl ModelArgs {
    /// Reads the weights of a network for 8-bit RGB and says what was loaded.
    pub fn load(&self) -> Result<Model> {
        self.load_any()?.rgb()
    }

    /// Reads the weights of a network for images of any kind and says what was loaded.
    pub fn load_any(&self) -> Result<Model> {
        self.flags.load(&self.weights)
    }

    /// `W` as given.
    pub fn weights(&self) -> &Path {
        &self.weights
    }

    /// What the features depend on beside the weights' values.
    pub fn precision(&self) -> Precision {
        self.flags.precision
    }
}

impl OptionalModelArgs {
    /// Reads the weights of a network for 8-bit RGB and says what was loaded.
    pub fn load(&self) -> Result<Model> {
        self.load_any()?.rgb()
    }

    /// Reads the weights of a network for images of any kind and says what was loaded.
    pub fn load_any(&self) -> Result<Model> {
        match &self.weights {
            Some(weights) => self.flags.load(weights),
            None => bail!("--weights W is needed to make features"),
        }
    }
}

impl ModelFlags {
    fn load(&self, weights: &Path) -> Result<Model> {
        let (path, weights) = read_weights(weights, self.checkpoint_key)?;
        let mut config = weights.vit_config(self.heads)?;
        config.position_rule = self.position_rule.unwrap_or(config.position_rule);
        let device = device::by_name(&self.device)?;
        self.precision
            .check(&device)
            .with_context(|| format!("--device {}", self.device))?;
        let mut vit = Vit::new(&config, &mut Init::new(0), &device)?;
        vit.set_precision(self.precision);
        let report = weights::load(&mut vit, "backbone", &weights, LoadOptions::default())
            .with_context(|| format!("{}", path.display()))?;
        errln!("{report}");
        let said = |fact: &str| weights.metadata.contains_key(fact);
        if self.heads.is_none() && !said("vit") && !said("num_heads") {
            errln!(
                "{} heads, by the width of {} (--heads for another number)",
                config.heads,
                config.width
            );
        }
        let preprocess = match self.normalisation.of(&weights.metadata, config.channels)? {
            Some(preprocess) => preprocess,
            None if config.channels == 3 => Preprocess::default(),
            None => bail!(
                "{}: a network of {}, and the file does not say how its images were \
                 normalised; give the channels' means and standard deviations, as in --mean {} \
                 --std {}",
                path.display(),
                count(config.channels),
                each(0.5, config.channels),
                each(0.25, config.channels),
            ),
        };
        Ok(Model {
            vit,
            preprocess,
            attend_size: run_config(&weights.metadata).map(|run| run.attend_size),
        })
    }
}

/// An error of reading or loading weights, with the flag that helps.
pub fn advised(error: dinolab_nn::Error) -> anyhow::Error {
    match &error {
        dinolab_nn::Error::NoSuchNetwork { found, .. } => {
            let keys: Vec<_> = found.iter().map(|role| role.key()).collect();
            anyhow!("{error}; choose by --checkpoint-key {}", keys.join(" or "))
        }
        _ => error.into(),
    }
}

/// A number of channels in words.
pub fn count(channels: usize) -> String {
    match channels {
        1 => "1 channel".into(),
        n => format!("{n} channels"),
    }
}

/// An example of a flag with the same number for each channel.
fn each(value: f32, channels: usize) -> Numbers {
    Numbers(vec![value; channels])
}

/// The file behind `W`, and what it holds.
fn read_weights(path: &Path, role: Option<NetworkRole>) -> Result<(PathBuf, Weights)> {
    let mut tries = 3;
    loop {
        let file = weight_file(path)?;
        tries -= 1;
        match weights::read(&file, role) {
            Ok(weights) => return Ok((file, weights)),
            // A run that goes on has removed it since, after it wrote a newer one.
            Err(_) if tries > 0 && path.is_dir() && !file.exists() => {}
            Err(error) => return Err(advised(error)),
        }
    }
}

/// The file behind `W`: of a run folder the newest checkpoint that is whole.
pub fn weight_file(path: &Path) -> Result<PathBuf> {
    let folder = path.join("checkpoints");
    match Checkpoint::latest(&folder)? {
        Some((checkpoint, _)) => Ok(folder.join(checkpoint::file_name(checkpoint.position.step))),
        None => Ok(weights::locate(path)?),
    }
}

/// How images are prepared, where the file says it, or the configuration of the run in it.
pub fn preprocess_of(facts: &BTreeMap<String, String>) -> Option<Preprocess> {
    Preprocess::of_facts(facts).or_else(|| Some(run_config(facts)?.preprocess()))
}

/// The configuration in a checkpoint of a run.
fn run_config(facts: &BTreeMap<String, String>) -> Option<Config> {
    let position: checkpoint::Position = serde_json::from_str(facts.get("position")?).ok()?;
    toml::from_str(&position.config).ok()
}
