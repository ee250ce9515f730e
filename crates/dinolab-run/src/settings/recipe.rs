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

use super::Settings;
use crate::values::RecipeKind;

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

/// A transformer of a recipe, and how often it has to see the images to be worth its time.
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

    /// The networks to choose from by time, the smallest first; none where there is one only, the
    /// recipe's or that of the `settings`.
    pub(crate) fn scales(self, settings: &Settings) -> &'static [Scale] {
        match self {
            Self::Small if !settings.names_sizes() => &small::SCALES,
            Self::Small | Self::Paper | Self::ResNet50 | Self::Shapes => &[],
        }
    }
}

impl Settings {
    /// The settings of a run from before some of them existed, with what it did, which the recipe `small` no longer
    /// does. Such a configuration is complete.
    pub(crate) fn with_settings_of_before(mut self) -> Self {
        let of_run = self.lr.is_some()
            && self.epochs.is_some()
            && self.arch.is_some()
            && self.local_crops_scale.is_some()
            && self.log_every.is_some();
        if of_run {
            self.blur_crop_size.get_or_insert(0);
            self.stem.get_or_insert_default();
        }
        self
    }

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

    /// Whether the network is asked for by its name, which has its sizes.
    fn names_network(&self) -> bool {
        self.arch.as_deref().is_some_and(|arch| arch != "custom")
    }
}
