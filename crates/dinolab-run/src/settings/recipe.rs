//! Recipes: values for what settings leave open, each tried for a purpose.
//!
//! | recipe | for | evidence |
//! |---|---|---|
//! | `paper` | GPUs and large datasets | the reference |
//! | `resnet50` | the same, with a residual network | the reference |
//! | `small` | a few thousand images on a CPU | `docs/small-sets.md` |
//! | `shapes` | the built-in set, in minutes | `docs/benchmarks.md` |

mod resnet50;
mod shapes;
mod small;

use dinolab_nn::{BackboneConfig, VitConfig};

use super::Settings;
use crate::error::{Error, Result};
use crate::values::{FfnKind, PositionKind, RecipeKind};

/// What a recipe goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    /// Images to train on.
    pub count: usize,
    /// Their typical shorter side in pixels; `None` where no image could be read.
    pub side: Option<usize>,
    /// Bytes that all of them take in memory.
    pub bytes: u64,
}

impl ImageFacts {
    /// For `count` images, of which nothing else is known.
    pub(crate) fn count(count: usize) -> Self {
        Self {
            count,
            side: None,
            bytes: 0,
        }
    }
}

/// A network of a recipe, and how often it has to see the images to be worth its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Width of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Images seen, in all epochs together, from which on it is taken instead of the smaller ones: an
    /// estimate from runs of ten to thirty minutes.
    pub worth_from: f64,
}

impl RecipeKind {
    /// The recipe of a run that does not name one.
    pub(crate) fn default_of(settings: &Settings) -> Self {
        let images = settings.images.as_ref();
        let device = settings.device.as_deref().unwrap_or("cpu");
        match images.is_none_or(|path| path.as_os_str().is_empty()) {
            true => Self::Shapes,
            false if device == "cpu" => Self::Small,
            false => Self::Paper,
        }
    }

    /// The networks to choose from by time, the smallest first; none where there is one only.
    pub(crate) fn scales(self) -> &'static [Scale] {
        match self {
            Self::Small => &small::SCALES,
            Self::Paper | Self::ResNet50 | Self::Shapes => &[],
        }
    }
}

impl Settings {
    /// These settings, and for what they leave open those of a recipe; its network in the given scale,
    /// or its own. A network that is asked for by its name keeps its sizes.
    pub(crate) fn over_recipe(
        self,
        recipe: RecipeKind,
        images: ImageFacts,
        scale: Option<Scale>,
    ) -> Self {
        let settings = Self {
            recipe: Some(recipe),
            ..self
        };
        match recipe {
            RecipeKind::Paper => settings,
            RecipeKind::ResNet50 => settings.over_resnet50(),
            RecipeKind::Small => settings.over_small(images, scale.unwrap_or(small::DEFAULT)),
            RecipeKind::Shapes => settings.over_shapes(),
        }
    }

    /// The settings of a run from before there were recipes, with what it followed. Such a
    /// configuration is complete, and so it has a learning rate.
    pub(crate) fn with_recipe_of_before(mut self) -> Self {
        if self.lr.is_some() && self.epochs.is_some() && self.arch.is_some() {
            let images = self.images.as_ref();
            let shapes = images.is_none_or(|path| path.as_os_str().is_empty());
            self.recipe.get_or_insert(match shapes {
                true => RecipeKind::Shapes,
                false => RecipeKind::Paper,
            });
        }
        self
    }

    /// Whether anything is said of the network's sizes.
    pub(crate) fn names_sizes(&self) -> bool {
        let sizes = [self.width, self.depth, self.heads, self.patch_size];
        self.arch.is_some() || sizes.iter().any(Option::is_some)
    }

    /// The settings of a network apart from its sizes.
    pub(crate) fn of_variant(vit: &VitConfig) -> Self {
        let usual = vit.width * VitConfig::default().mlp_ratio;
        let usual_width = vit.mlp_hidden() == usual && !vit.gated_mlp;
        Self {
            registers: Some(vit.registers),
            layer_scale: Some(vit.layer_scale),
            ffn: Some(match vit.gated_mlp {
                true => FfnKind::SwiGlu,
                false => FfnKind::Mlp,
            }),
            ffn_width: Some(if usual_width { 0 } else { vit.mlp_hidden() }),
            positions: Some(match vit.rope {
                Some(_) => PositionKind::Rope,
                None => PositionKind::Learned,
            }),
            position_rule: Some(vit.position_rule),
            rope_theta: vit.rope.map(|rope| rope.theta),
            rope_shift: vit.rope.map(|rope| rope.shift),
            rope_jitter: vit.rope.map(|rope| rope.jitter),
            rope_rescale: vit.rope.map(|rope| rope.rescale),
            layer_norm_eps: Some(vit.layer_norm_eps),
            ..Self::default()
        }
    }

    /// The settings of a network.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a convolutional network of other blocks than the published ones.
    pub(crate) fn of_network(backbone: &BackboneConfig) -> Result<Self> {
        let BackboneConfig::Vit(vit) = backbone else {
            return Self::of_convolutional(backbone);
        };
        Ok(Self {
            arch: Some("custom".into()),
            width: Some(vit.width),
            depth: Some(vit.depth),
            heads: Some(vit.heads),
            patch_size: Some(vit.patch_size),
            image_size: Some(vit.image_size),
            ..Self::of_variant(vit)
        })
    }

    fn of_convolutional(network: &BackboneConfig) -> Result<Self> {
        let arch = network.convolutional_family().ok_or_else(|| {
            let names: Vec<_> = BackboneConfig::convolutional_names().collect();
            let other = format!(
                "{} of other blocks than {}",
                network.kind(),
                names.join(", ")
            );
            Error::setting("weights", "", other)
        })?;
        Ok(Self {
            arch: Some(arch.to_owned()),
            width: Some(network.width()),
            ..Self::default()
        })
    }

    /// The settings of the network alone.
    pub(crate) fn network(&self) -> Self {
        Self {
            arch: self.arch.clone(),
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            patch_size: self.patch_size,
            image_size: self.image_size,
            ..self.variant()
        }
    }

    /// Those apart from its sizes.
    pub(crate) fn variant(&self) -> Self {
        Self {
            registers: self.registers,
            layer_scale: self.layer_scale,
            ffn: self.ffn,
            ffn_width: self.ffn_width,
            positions: self.positions,
            position_rule: self.position_rule,
            rope_theta: self.rope_theta,
            rope_shift: self.rope_shift,
            rope_jitter: self.rope_jitter,
            rope_rescale: self.rope_rescale,
            layer_norm_eps: self.layer_norm_eps,
            ..Self::default()
        }
    }

    /// Whether a convolutional network is asked for.
    pub(crate) fn is_convolutional(&self) -> bool {
        let arch = self.arch.as_deref();
        arch.is_some_and(|arch| BackboneConfig::convolutional(arch, 3).is_some())
    }

    /// Whether the network is asked for by its name, which has its sizes.
    fn names_network(&self) -> bool {
        self.arch.as_deref().is_some_and(|arch| arch != "custom")
    }
}
