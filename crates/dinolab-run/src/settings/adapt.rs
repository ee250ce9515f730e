//! Defaults of a run that adapts weights that there are.

use dinolab_nn::{Feature, HeadConfig};
use dinolab_train::OptimiserKind;

use super::Settings;
use super::resolve::AutoSetting;
use crate::values::MethodKind;

/// What a run's own rate is multiplied by.
const RATE: f64 = 0.25;
/// The rate of each block against that of the block above it.
const LAYER_DECAY: f64 = 0.8;
/// `--preserve`, where neither is lowered.
const PRESERVE: f64 = 1.0;
/// The share of a run in which a fresh head learns alone, and the longest such time in epochs.
const FREEZE: (f64, f64) = (0.1, 2.0);

/// What the weights of a new run decide, beyond the sizes of its network.
#[derive(Clone, Debug)]
pub(crate) struct GivenWeights {
    /// Whether they have a head of DINO, which DINO and DINOv2 start from.
    pub has_head: bool,
}

/// Settings of adapting that a run leaves open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adapting {
    /// What the weights are; `None` without any, and for a run that has begun.
    given: Option<GivenWeights>,
    /// Whether the learning rate is open, which a recipe may name.
    rate: bool,
}

impl Adapting {
    /// To be asked before a recipe has filled in its own settings.
    pub fn of(settings: &Settings, given: Option<GivenWeights>) -> Self {
        Self {
            given,
            rate: settings.lr.is_none(),
        }
    }

    /// Decides them for weights that are given, and says why.
    pub fn decide(&self, settings: &mut Settings) -> Vec<AutoSetting> {
        let Some(GivenWeights { has_head }) = &self.given else {
            return Vec::new();
        };
        let mut choices = Vec::new();
        let mut choose = |setting, value: f64, because| {
            choices.push(AutoSetting {
                setting,
                value: crate::values::plain_number(value),
                instead_of: None,
                because: Some(because),
            });
        };
        let method = settings.method.unwrap_or(MethodKind::Dino);
        let muon = settings.optimizer == Some(OptimiserKind::Muon);
        // By the tables of `docs/adapt.md`.
        let at_full_rate = muon && method.is_joint_embedding();
        let low_rank = settings.lora_rank.is_some_and(|rank| rank > 0);
        if at_full_rate && settings.preserve.is_none() && !low_rank {
            settings.preserve = Some(PRESERVE);
            let because = "so that what the weights know of other images is not lost";
            choose("preserve", PRESERVE, because);
        }
        if self.rate && !at_full_rate {
            let usual = settings.clone().with_defaults().lr.unwrap_or_default();
            let lr = usual * RATE;
            settings.lr = Some(lr);
            let because = "a quarter of the usual rate: the weights are good already";
            choose("lr", lr, because);
        }
        if settings.layer_decay.is_none() && !at_full_rate {
            settings.layer_decay = Some(LAYER_DECAY);
            let because = "since the first layers of trained weights need the least change";
            choose("layer-decay", LAYER_DECAY, because);
        }
        let warm = *has_head && method.has_prototypes();
        if settings.freeze_backbone_epochs.is_none() && !warm {
            let epochs = settings.clone().with_defaults().epochs.unwrap_or_default();
            let (share, most) = FREEZE;
            // In whole hundredths, which read well.
            let freeze = (epochs * share * 100.0).round() / 100.0;
            let freeze = freeze.min(most);
            settings.freeze_backbone_epochs = Some(freeze);
            let because = "so that the random head does not spoil the backbone";
            choose("freeze-backbone-epochs", freeze, because);
        }
        choices
    }
}

impl Settings {
    /// The settings of adapting of a run that has begun. One from before they existed did not adapt.
    pub(crate) fn adapting(&self) -> Self {
        Self {
            optimizer: self.optimizer,
            lr: self.lr,
            layer_decay: self.layer_decay.or(Some(1.0)),
            preserve: self.preserve.or(Some(0.0)),
            freeze_backbone_epochs: self.freeze_backbone_epochs.or(Some(0.0)),
            out_dim: self.out_dim,
            head_hidden_dim: self.head_hidden_dim,
            head_bottleneck_dim: self.head_bottleneck_dim,
            head_layers: self.head_layers,
            use_bn_in_head: self.use_bn_in_head,
            norm_last_layer: self.norm_last_layer,
            ..self.evaluating()
        }
    }

    /// The sizes of a head that is taken over.
    pub(crate) fn of_head(head: &HeadConfig) -> Self {
        Self {
            out_dim: Some(head.out_dim),
            head_hidden_dim: Some(head.hidden_dim),
            head_bottleneck_dim: Some(head.bottleneck_dim),
            head_layers: Some(head.layers),
            use_bn_in_head: Some(head.use_bn),
            norm_last_layer: Some(head.norm_last_layer),
            ..Self::default()
        }
    }

    /// Whether nothing that is given speaks against a head.
    pub(crate) fn may_have(&self, head: &HeadConfig) -> bool {
        let differs = |given: Option<usize>, own| given.is_some_and(|given| given != own);
        let sizes = [
            (self.out_dim, head.out_dim),
            (self.head_hidden_dim, head.hidden_dim),
            (self.head_bottleneck_dim, head.bottleneck_dim),
            (self.head_layers, head.layers),
        ];
        !sizes.into_iter().any(|(given, own)| differs(given, own))
            && self.use_bn_in_head.is_none_or(|given| given == head.use_bn)
    }

    /// What evaluates the weights as they evaluate themselves, so that the first figure is theirs.
    fn evaluating(&self) -> Self {
        Self {
            feature: self.feature,
            eval_resize: self.eval_resize,
            eval_crop: self.eval_crop,
            ..Self::default()
        }
    }

    /// The feature that weights were trained for, and the sizes at which they are evaluated.
    pub(crate) fn of_weights(
        feature: Feature,
        preprocess: Option<&dinolab_features::Preprocess>,
    ) -> Self {
        Self {
            feature: Some(feature),
            eval_resize: preprocess.map(|preprocess| preprocess.resize),
            eval_crop: preprocess.map(|preprocess| preprocess.crop),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::recipe::ImageFacts;
    use crate::values::RecipeKind;

    /// The settings and the choices of a run over 4,000 images.
    fn decided(given: Settings, has_head: Option<bool>) -> (Settings, Vec<String>) {
        let weights = has_head.map(|has_head| GivenWeights { has_head });
        let adapting = Adapting::of(&given, weights);
        let given = Settings {
            weights: has_head.map(|_| "weights.pth".into()),
            ..given
        };
        let mut settings = given.over_recipe(RecipeKind::Small, ImageFacts::count(4_000), None);
        let choices = adapting.decide(&mut settings);
        let words = choices
            .iter()
            .map(|choice| choice.in_words(4_000))
            .collect();
        (settings, words)
    }

    /// The settings with AdamW.
    fn by_adamw() -> Settings {
        Settings {
            optimizer: Some(OptimiserKind::AdamW),
            ..Settings::default()
        }
    }

    #[test]
    fn by_muon_weights_are_adapted_at_the_usual_rate_and_preserved() {
        let (settings, words) = decided(Settings::default(), Some(false));
        let usual =
            Settings::default().over_recipe(RecipeKind::Small, ImageFacts::count(4_000), None);
        assert_eq!((settings.lr, settings.layer_decay), (usual.lr, None));
        assert_eq!(settings.preserve, Some(1.0));
        assert_eq!(settings.freeze_backbone_epochs, Some(2.0));
        assert!(words[0].starts_with("preserve 1, so that"), "{words:?}");
        assert_eq!(words.len(), 2);
        // A change of low rank forgets little by itself.
        let low_rank = Settings {
            lora_rank: Some(8),
            ..Settings::default()
        };
        let (settings, words) = decided(low_rank, Some(false));
        assert_eq!((settings.lr, settings.preserve), (usual.lr, None));
        assert_eq!(words.len(), 1);
        // By DINO that has not been tried.
        for (optimizer, lr) in [(None, 0.0005), (Some(OptimiserKind::Muon), 0.001)] {
            let dino = Settings {
                method: Some(MethodKind::Dino),
                optimizer,
                ..Settings::default()
            };
            let (settings, _) = decided(dino, Some(true));
            assert_eq!((settings.lr, settings.preserve), (Some(lr), None));
        }
    }

    #[test]
    fn given_weights_get_low_rates_and_a_warm_head_with_reasons() {
        let (settings, words) = decided(by_adamw(), Some(false));
        assert_eq!(settings.lr, Some(0.001));
        assert_eq!(settings.layer_decay, Some(0.8));
        assert_eq!(settings.freeze_backbone_epochs, Some(2.0));
        assert_eq!(words.len(), 3);
        assert!(words[0].starts_with("lr 0.001, a quarter"), "{words:?}");
        assert!(words[2].contains("random head"), "{words:?}");
        // A tenth of 14 is 1.4000000000000001 in doubles.
        for (epochs, freeze) in [(5.0, 0.5), (14.0, 1.4)] {
            let short = Settings {
                epochs: Some(epochs),
                ..by_adamw()
            };
            let (short, _) = decided(short, Some(false));
            assert_eq!(short.freeze_backbone_epochs, Some(freeze));
        }
    }

    #[test]
    fn what_is_given_stays_and_a_head_that_is_there_needs_no_warming() {
        let given = Settings {
            lr: Some(0.5),
            layer_decay: Some(1.0),
            freeze_backbone_epochs: Some(0.0),
            preserve: Some(0.0),
            ..Settings::default()
        };
        let (settings, words) = decided(given, Some(false));
        assert_eq!((settings.lr, settings.preserve), (Some(0.5), Some(0.0)));
        assert!(words.is_empty(), "{words:?}");
        let dino = Settings {
            method: Some(MethodKind::Dino),
            ..Settings::default()
        };
        let (settings, words) = decided(dino, Some(true));
        assert_eq!((settings.freeze_backbone_epochs, words.len()), (None, 2));
        // LeJEPA takes no head.
        let (settings, _) = decided(Settings::default(), Some(true));
        assert_eq!(settings.freeze_backbone_epochs, Some(2.0));
    }

    #[test]
    fn runs_without_weights_and_runs_from_before_are_as_they_were() {
        let (settings, words) = decided(Settings::default(), None);
        let images = ImageFacts::count(4_000);
        let recipe = Settings::default().over_recipe(RecipeKind::Small, images, None);
        assert_eq!((settings.lr, words.len()), (recipe.lr, 0));
        assert_eq!(settings.layer_decay, None);
        let before = Settings {
            lr: Some(0.004),
            ..by_adamw()
        };
        let again = before.adapting();
        assert_eq!((again.lr, again.layer_decay), (Some(0.004), Some(1.0)));
        assert_eq!(again.optimizer, Some(OptimiserKind::AdamW));
        assert_eq!(again.preserve, Some(0.0));
        assert_eq!(again.freeze_backbone_epochs, Some(0.0));
    }
}
