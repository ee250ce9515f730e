//! The recipe of ResNet-50: the reference's settings for convolutional networks.

use crate::settings::Settings;
use crate::values::{MethodKind, Pair};
use dinolab_train::OptimiserKind;

impl Settings {
    /// These settings over those that the reference gives for ResNet-50. Of another method than DINO,
    /// the network and the crops alone: the optimiser is for its loss.
    pub(super) fn over_resnet50(self) -> Self {
        let optimiser = match self.method.unwrap_or(MethodKind::Dino) {
            MethodKind::Dino => Self {
                optimizer: Some(OptimiserKind::Sgd),
                lr: Some(0.03),
                weight_decay: Some(1e-4),
                weight_decay_end: Some(1e-4),
                ..Self::default()
            },
            _ => Self::default(),
        };
        self.over(optimiser).over(Self {
            arch: Some("resnet50".into()),
            global_crops_scale: Some(Pair(0.14, 1.0)),
            local_crops_scale: Some(Pair(0.05, 0.14)),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::recipe::ImageFacts;
    use crate::values::RecipeKind;
    use dinolab_nn::BackboneConfig;

    #[test]
    fn settings_that_are_given_stay() {
        let resolved = |given: Settings| {
            let images = ImageFacts::count(100_000);
            let settings = given.over_recipe(RecipeKind::ResNet50, images, None);
            settings.resolve(100_000).unwrap().0
        };
        let config = resolved(Settings::default());
        assert_eq!(config.arch, "resnet50");
        assert_eq!((config.width, config.patch_size), (2048, 32));
        assert_eq!(config.optimizer, OptimiserKind::Sgd);
        assert_eq!((config.lr, config.weight_decay), (0.03, 1e-4));
        let smaller = resolved(Settings {
            arch: Some("resnet18".into()),
            lr: Some(0.1),
            ..Settings::default()
        });
        assert_eq!((smaller.arch.as_str(), smaller.width), ("resnet18", 512));
        assert_eq!(smaller.lr, 0.1);
        let narrow = |width| Settings {
            arch: Some("resnet18".into()),
            width: Some(width),
            ..Settings::default()
        };
        let config = resolved(narrow(64));
        let BackboneConfig::ResNet(sizes) = config.backbone() else {
            panic!("of another kind");
        };
        assert_eq!((config.width, sizes.width, sizes.features()), (64, 8, 64));
        let mut by_hand = config;
        by_hand.width = 100;
        assert_eq!(by_hand.backbone().width(), 512);
        let error = narrow(100).resolve(1000).unwrap_err().to_string();
        assert!(error.contains("a multiple of 8"), "{error}");
    }

    #[test]
    fn weights_of_any_width_are_a_network_to_train() {
        for (arch, width) in [
            ("resnet50", 1024),
            ("convnext_femto", 384),
            ("convnext_nano", 64),
        ] {
            let network = BackboneConfig::convolutional(arch, 3).unwrap();
            let network = network.of_width(width).unwrap();
            let settings = Settings::of_network(&network).unwrap();
            let (config, _) = settings.resolve(1000).unwrap();
            assert_eq!(config.backbone(), network);
            assert_eq!((config.arch.as_str(), config.width), (arch, width));
        }
    }
}
