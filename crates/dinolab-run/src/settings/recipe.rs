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

use dinolab_data::Size;
use dinolab_nn::{BackboneConfig, VitConfig};

use super::{AutoSetting, Config, Settings};
use crate::error::{Error, Result};
use crate::values::{FfnKind, PositionKind, RecipeKind, StemKind};

/// What a recipe goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    /// Images to train on.
    pub count: usize,
    /// Their typical shorter side in pixels; `None` where no image could be read.
    pub side: Option<usize>,
    /// Whether there are masks of objects, with which attention is compared.
    pub masks: bool,
    /// Bytes that all of them take in memory.
    pub bytes: u64,
}

impl ImageFacts {
    /// For `count` images, of which nothing else is known.
    pub(crate) fn count(count: usize) -> Self {
        Self {
            count,
            side: None,
            masks: false,
            bytes: 0,
        }
    }
}

/// The sizes of a network of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// A transformer.
    Vit {
        /// Width of a token.
        width: usize,
        /// Number of blocks.
        depth: usize,
        /// Number of attention heads.
        heads: usize,
    },
    /// A `resnet18`.
    ResNet18 {
        /// Width of the features.
        width: usize,
    },
}

/// A network of a recipe, and how often it has to see the images to be worth its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub sizes: Sizes,
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

    /// The networks to choose from by time, the smallest first; none where there is one only, the
    /// recipe's or that of the `settings`.
    pub(crate) fn scales(self, settings: &Settings, images: ImageFacts) -> &'static [Scale] {
        match self {
            Self::Small if !settings.names_sizes() => settings.small_scales(images),
            Self::Small | Self::Paper | Self::ResNet50 | Self::Shapes => &[],
        }
    }
}

impl Config {
    /// That the network, which was not asked for, is one without attention, and why.
    pub(crate) fn without_attention(&self) -> Option<AutoSetting> {
        let convolutional = self.backbone().convolutional_family().is_some();
        let chosen = convolutional && self.recipe == RecipeKind::Small;
        chosen.then(|| AutoSetting {
            setting: "arch",
            value: self.arch.clone(),
            instead_of: None,
            because: Some(
                "which learns more from few images in the same time than a transformer; --arch custom \
                 trains one, for attention maps",
            ),
        })
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
            RecipeKind::Small => settings.over_small(images, scale),
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
            stem: Some(match vit.conv_stem {
                true => StemKind::Conv,
                false => StemKind::Patchify,
            }),
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
            stem: self.stem,
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

    /// Whether something is asked for that only transformers have, or sizes that residual networks do not take.
    fn needs_transformer(&self) -> bool {
        let sizes = [
            self.global_crops_size,
            self.local_crops_size,
            self.eval_crop,
            self.attention_size,
        ];
        let whole = |side: usize| side.is_multiple_of(small::STRIDE);
        let fits = |size: &Size| {
            let rectangle = !size.is_square();
            size.shortest() >= small::STRIDE
                && (!rectangle || whole(size.height) && whole(size.width))
        };
        let class_alone = self.feature.is_none_or(|feature| feature.is_class());
        let share = |rate: Option<f64>| rate.is_some_and(|rate| rate > 0.0);
        self.variant() != Self::default()
            || !class_alone
            || share(self.patch_drop_rate)
            || !sizes.iter().flatten().all(fits)
            || self.lora_rank.is_some_and(|rank| rank > 0)
    }
}
