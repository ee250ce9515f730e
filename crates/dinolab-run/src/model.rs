//! A trained network, ready to use: weights, how images are prepared, where it computes.

use std::collections::BTreeMap;
use std::path::Path;

use dinolab_data::{Pixels, Size};
use dinolab_features::Preprocess;
use dinolab_nn::position::PositionRule;
use dinolab_nn::weights::{self, LoadOptions, NetworkRole, Weights};
use dinolab_nn::{AnyBackbone, BackboneConfig, Feature, Parameters, Precision, device, init::Init};
use dinolab_train::checkpoint;

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::hub;
use crate::settings::Config;
use crate::values::Numbers;
use crate::weights::read;

/// How a network is made of weights.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "clap", command(next_help_heading = "Model"))]
pub struct ModelOptions {
    /// Which network of a training checkpoint to use: teacher, student, average or network
    /// [default: the one that the run evaluates]
    #[cfg_attr(feature = "clap", arg(long = "checkpoint-key", value_name = "ROLE"))]
    pub role: Option<NetworkRole>,
    /// Number of attention heads, if the file does not record it [default: width / 64]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub heads: Option<usize>,
    /// How to resample position embeddings for other image sizes: dino, ratio or ratio-antialias
    /// [default: from the file, else from its naming scheme]
    #[cfg_attr(feature = "clap", arg(long, value_name = "RULE"))]
    pub position_rule: Option<PositionRule>,
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N if compiled in
    #[cfg_attr(feature = "clap", arg(long, default_value = "cpu"))]
    pub device: String,
    /// Precision of activations and matrix multiplications: f32 or bf16
    #[cfg_attr(feature = "clap", arg(long, value_name = "TYPE", default_value_t))]
    pub precision: Precision,
    /// How values are normalised, for files that do not say it.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub normalisation: Normalisation,
}

/// How values are normalised, in place of what the weights say.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Normalisation {
    /// Channel means of pixel values in 0–1, such as 0.5 or 0.485,0.456,0.406 [default: from the
    /// weights, or ImageNet's]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X,…"))]
    pub mean: Option<Numbers>,
    /// Channel standard deviations of pixel values in 0–1 [default: from the weights, or
    /// ImageNet's]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X,…"))]
    pub std: Option<Numbers>,
}

impl Normalisation {
    /// How images are prepared for a network of `channels`: as the metadata of its file says, with
    /// these in its place. `None` if neither says it.
    ///
    /// # Errors
    /// Other numbers of values than channels; means without deviations.
    pub fn of(
        &self,
        metadata: &BTreeMap<String, String>,
        channels: usize,
    ) -> Result<Option<Preprocess>> {
        for (setting, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            let given = numbers.as_ref().map_or(channels, |numbers| numbers.0.len());
            if given != channels {
                let what = format!("{given} numbers for a network of {}", count(channels));
                return Err(Error::Invalid(what)).of_setting(setting, "");
            }
        }
        let known = preprocess_of(metadata).filter(|known| known.mean.len() == channels);
        let mut preprocess = match (known, &self.mean, &self.std) {
            (Some(known), ..) => known,
            (None, None, None) => return Ok(None),
            (None, Some(_), Some(_)) => Preprocess {
                stored: channels != 3,
                ..Preprocess::default()
            },
            (None, ..) if channels == 3 => Preprocess::default(),
            (None, Some(_), None) => {
                let what = "needs `std` too, the standard deviations".to_owned();
                return Err(Error::Invalid(what)).of_setting("mean", "");
            }
            (None, None, Some(_)) => {
                let what = "needs `mean` too, the channel means".to_owned();
                return Err(Error::Invalid(what)).of_setting("std", "");
            }
        };
        if let Some(mean) = &self.mean {
            preprocess.mean.clone_from(&mean.0);
        }
        if let Some(std) = &self.std {
            preprocess.std.clone_from(&std.0);
        }
        preprocess.normaliser().context("`mean`, `std`")?;
        Ok(Some(preprocess))
    }
}

/// A backbone ready to use.
pub struct Model {
    /// The network.
    pub backbone: AnyBackbone,
    /// The feature that it was trained on: the class token if the weights do not say it.
    pub feature: Feature,
    /// How the run that trained it prepared images; the reference's way if that is unknown.
    pub preprocess: Preprocess,
    /// Side of attention pictures in the run that trained it.
    pub attention_size: Option<Size>,
}

impl Model {
    /// Reads the weights `w` and makes their network, for images of any kind. Weights of the hub
    /// ([`hub`](crate::hub)) are downloaded unless they are in the cache.
    ///
    /// # Errors
    /// Weights that cannot be read or do not fit, a device that is not there, and networks of other
    /// than three channels whose images nobody says how to normalise.
    pub fn load(env: &Environment<'_>, w: &Path, options: &ModelOptions) -> Result<Self> {
        let w = &*hub::local(env, w)?;
        ensure!(
            w.exists(),
            "cannot read `weights` {}: no such file or folder; give a run folder, one of its \
             checkpoints, a weight file, a model folder or hf:OWNER/NAME",
            w.display()
        );
        let weights = read(w, options.role)?;
        let mut config = weights.backbone_config(options.heads)?;
        if let (BackboneConfig::Vit(vit), Some(rule)) = (&mut config, options.position_rule) {
            vit.position_rule = rule;
        }
        let name = match options.device.as_str() {
            "" => "cpu",
            name => name,
        };
        let device = device::by_name(name)?;
        options
            .precision
            .check(&device)
            .of_setting("device", name)?;
        let mut backbone = AnyBackbone::new(&config, &mut Init::new(0), &device)?;
        backbone.set_precision(options.precision);
        let place = || weights.path.display().to_string();
        let report = weights::load(&mut backbone, "backbone", &weights, LoadOptions::default())
            .with_context(place)?;
        env.events.hear(Event::Loaded(&report));
        let said = |fact: &str| weights.metadata.contains_key(fact);
        if let BackboneConfig::Vit(vit) = &config
            && options.heads.is_none()
            && !said("vit")
            && !said("num_heads")
        {
            let (heads, width) = (vit.heads, vit.width);
            env.events.hear(Event::HeadsAssumed { heads, width });
        }
        let channels = config.channels();
        let preprocess = match options.normalisation.of(&weights.metadata, channels)? {
            Some(preprocess) => preprocess,
            None if channels == 3 => Preprocess::default(),
            None => bail!(
                "{}: a network of {}, and the file does not say how its images were normalised; \
                 give the channels' means and standard deviations, as in `mean` {} `std` {}",
                weights.path.display(),
                count(channels),
                Numbers(vec![0.5; channels]),
                Numbers(vec![0.25; channels]),
            ),
        };
        Ok(Self {
            backbone,
            feature: weights.feature()?,
            preprocess,
            attention_size: run_config(&weights).map(|run| run.attention_size),
        })
    }

    /// [`Model::load`] for work that takes 8-bit RGB only.
    ///
    /// # Errors
    /// Likewise, and networks for other images.
    pub fn load_rgb(env: &Environment<'_>, w: &Path, options: &ModelOptions) -> Result<Self> {
        let model = Self::load(env, w, options)?;
        match model.pixels() {
            Pixels::Rgb => Ok(model),
            Pixels::Stored { channels } => bail!(
                "this command takes networks for 8-bit RGB; this one was trained on {channels} \
                 channels as stored (embed, attend, pca, neighbours, eval knn and retrieval by \
                 labels take it)"
            ),
        }
    }

    /// The kind of images that it was trained on.
    pub fn pixels(&self) -> Pixels {
        self.preprocess.pixels()
    }
}

/// A number of channels in words.
pub(crate) fn count(channels: usize) -> String {
    match channels {
        1 => "1 channel".into(),
        n => format!("{n} channels"),
    }
}

/// How images are prepared, if the file says it, or the configuration of the run in it.
pub(crate) fn preprocess_of(metadata: &BTreeMap<String, String>) -> Option<Preprocess> {
    Preprocess::from_metadata(metadata).or_else(|| Some(config_of(metadata)?.preprocess()))
}

/// The configuration of the run whose checkpoint these weights are from.
fn run_config(weights: &Weights) -> Option<Config> {
    config_of(&weights.metadata)
}

fn config_of(metadata: &BTreeMap<String, String>) -> Option<Config> {
    let position: checkpoint::TrainState = serde_json::from_str(metadata.get("position")?).ok()?;
    toml::from_str(&position.config).ok()
}
