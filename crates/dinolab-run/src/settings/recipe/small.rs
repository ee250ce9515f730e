//! The recipe for a few thousand images on a CPU, by the tables of `docs/small-sets.md`.

use dinolab_data::Size;
use dinolab_nn::VitConfig;
use dinolab_train::OptimiserKind;

use super::{ImageFacts, Scale};
use crate::settings::Settings;
use crate::values::{MethodKind, Pair, StemKind};

/// The networks, the smallest first, of which the second and third are worth their time from so many images seen on.
const fn networks([second, third]: [f64; 2]) -> [Scale; 3] {
    [
        Scale {
            width: 128,
            depth: 6,
            heads: 4,
            worth_from: 0.0,
        },
        Scale {
            width: 192,
            depth: 6,
            heads: 6,
            worth_from: second,
        },
        Scale {
            width: 256,
            depth: 8,
            heads: 8,
            worth_from: third,
        },
    ]
}

/// Those with a convolutional stem, by joint embeddings.
const STEMMED: [Scale; 3] = networks([80_000.0, 400_000.0]);

/// Those without, by other methods.
const PLAIN: [Scale; 3] = networks([250_000.0, 800_000.0]);

/// Which of them is trained where no time is given.
const DEFAULT: usize = 1;

/// The method where none is given.
const METHOD: MethodKind = MethodKind::LeJepa;

/// Images seen in all epochs together where no time is given.
const SEEN: f64 = 400_000.0;

/// The same with convolutions, which learn more from each image and take longer.
const SEEN_CONVOLUTIONAL: f64 = 200_000.0;

/// Features of a `resnet18` whose width is not given: half of the published channels. In the same time it sees the
/// images more often, and learns more.
const RESNET18_WIDTH: usize = 256;

/// `--lr` with Muon, between the best two of four that were tried.
const MUON_RATE: f64 = 0.012;

/// Pixels along one side of the crops that the paper blurs. As much blur in smaller crops leaves little to learn from.
const BLUR_CROP: usize = 224;

/// Pixels along one side at which features are extracted, to those of global crops, in which things look larger than in
/// the image (Touvron et al., "Fixing the train-test resolution discrepancy", arXiv 1906.06423).
const EVAL_SCALE: (usize, usize) = (4, 3);

/// Runs of at least this many epochs begin with small crops.
const CURRICULUM_FROM: f64 = 4.0;

/// Images seen between checkpoints: about a minute.
const CHECKPOINT_IMAGES: u64 = 8_000;

/// Images of which the shorter side is smaller than this are cropped to half the size, in patches
/// half as large: as many tokens, and no pixels made up.
const SMALL_SIDE: usize = 80;

impl ImageFacts {
    fn tiny(&self) -> bool {
        self.side.is_some_and(|side| side < SMALL_SIDE)
    }
}

impl Settings {
    /// Whether images are embedded jointly, by which convolutional stems and Muon have been compared with what was before.
    fn is_joint_embedding(&self) -> bool {
        let method = self.method.unwrap_or(METHOD);
        matches!(method, MethodKind::LeJepa | MethodKind::VisReg)
    }

    /// The networks for these settings, which name no sizes.
    pub(super) fn small_scales(&self) -> &'static [Scale] {
        match self.is_joint_embedding() {
            true => &STEMMED,
            false => &PLAIN,
        }
    }

    /// The network: as it is named, with the transformer's sizes that are given, or in a scale.
    fn small_network(&self, scale: Option<Scale>) -> Self {
        if self.names_network() {
            let narrow = self.arch.as_deref() == Some("resnet18");
            return Self {
                width: narrow.then_some(RESNET18_WIDTH),
                ..Self::default()
            };
        }
        let Scale {
            width,
            depth,
            heads,
            ..
        } = scale.unwrap_or(self.small_scales()[DEFAULT]);
        Self {
            arch: Some("custom".into()),
            width: Some(width),
            depth: Some(depth),
            // They follow a width that is given.
            heads: Some(heads).filter(|_| self.width.is_none()),
            ..Self::default()
        }
    }

    /// What makes tokens of patches of `patch_size` px: convolutions, where they have been tried and fit.
    fn small_stem(&self, patch_size: usize) -> StemKind {
        let patches = VitConfig {
            conv_stem: true,
            patch_size: self.patch_size.unwrap_or(patch_size),
            width: self.width.unwrap_or_default(),
            ..VitConfig::default()
        };
        let own = self.arch.as_deref() == Some("custom");
        match own && self.is_joint_embedding() && patches.check_stem().is_ok() {
            true => StemKind::Conv,
            false => StemKind::Patchify,
        }
    }

    /// The side at which features are extracted, if that is left open: where it has been tried, the scale's, in whole
    /// patches.
    fn small_eval_size(&self, crop: Size, patch_size: usize) -> Option<Size> {
        let open = self.eval_resize.is_none() && self.eval_crop.is_none();
        let patch = self.patch_size.unwrap_or(patch_size).max(1);
        let (more, than) = EVAL_SCALE;
        let scaled = |side: usize| (side * more).div_ceil(than).next_multiple_of(patch);
        (open && self.is_joint_embedding())
            .then(|| self.global_crops_size.unwrap_or(crop).map(scaled))
    }

    /// These settings over the recipe for a few thousand images.
    pub(super) fn over_small(self, images: ImageFacts, scale: Option<Scale>) -> Self {
        let pixels = |side: usize| if images.tiny() { side / 2 } else { side };
        let network = self.small_network(scale);
        let settings = self.over(network);
        let transformer = !settings.is_convolutional();
        let stem = transformer.then(|| settings.small_stem(pixels(16)));
        let settings = settings.over(Self {
            stem,
            ..Self::default()
        });
        let method = settings.method.unwrap_or(METHOD);
        // Adapting has been tried with AdamW.
        let muon = settings.weights.is_none();
        let optimizer = (settings.optimizer).or(muon.then_some(OptimiserKind::Muon));
        let of_method = match method {
            MethodKind::LeJepa | MethodKind::VisReg => Self {
                lr: Some(match optimizer {
                    Some(OptimiserKind::Muon) => MUON_RATE,
                    _ => 0.004,
                }),
                optimizer,
                patch_drop_rate: transformer.then_some(0.5),
                ..Self::default()
            },
            MethodKind::Dino | MethodKind::DinoV2 => Self {
                lr: Some(0.002),
                head_hidden_dim: Some(512),
                ..Self::default()
            },
            MethodKind::Distill => Self {
                lr: Some(0.004),
                drop_path_rate: Some(0.0),
                local_crops_number: Some(0),
                ..Self::default()
            },
            MethodKind::SimDino => Self {
                lr: Some(0.002),
                weight_decay_end: Some(0.04),
                head_hidden_dim: Some(512),
                ..Self::default()
            },
        };
        let convolutions = !transformer || settings.stem == Some(StemKind::Conv);
        let seen = match convolutions {
            true => SEEN_CONVOLUTIONAL,
            false => SEEN,
        };
        let epochs = (seen / images.count.max(1) as f64)
            .round()
            .clamp(10.0, 400.0);
        let length = settings.epochs.unwrap_or(epochs);
        let early = match length < CURRICULUM_FROM {
            true => 0,
            false => (length / 2.0) as u64,
        };
        let crop = Size::square(pixels(96));
        let eval_size = settings.small_eval_size(crop, pixels(16));
        settings.over(of_method).over(Self {
            method: Some(method),
            patch_size: Some(pixels(16)),
            eval_resize: eval_size,
            eval_crop: eval_size,
            drop_path_rate: Some(0.05),
            epochs: Some(epochs),
            low_resolution_epochs: Some(early),
            // An epoch of few images is too short for a checkpoint of its own, and nobody looks at
            // hundreds of them.
            checkpoint_every: Some((CHECKPOINT_IMAGES / images.count.max(1) as u64).max(1)),
            saveckp_freq: Some(0),
            global_crops_size: Some(crop),
            global_crops_scale: Some(Pair(0.5, 1.0)),
            local_crops_size: Some(Size::square(pixels(48))),
            local_crops_number: Some(4),
            local_crops_scale: Some(Pair(0.15, 0.5)),
            blur_crop_size: Some(BLUR_CROP),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{PerView, RecipeKind};

    fn facts(count: usize, side: usize) -> ImageFacts {
        ImageFacts {
            side: Some(side),
            ..ImageFacts::count(count)
        }
    }

    #[test]
    fn few_images_are_seen_more_often_and_small_ones_are_not_enlarged() {
        let small = |count, side| {
            let settings = Settings::default();
            let settings = settings.over_recipe(RecipeKind::Small, facts(count, side), None);
            settings.resolve(count).unwrap().0
        };
        let (few, many) = (small(4_000, 128), small(40_000, 128));
        assert_eq!((few.epochs, many.epochs), (50.0, 10.0));
        assert_eq!(
            (few.method, few.recipe),
            (MethodKind::LeJepa, RecipeKind::Small)
        );
        assert_eq!(small(100, 500).epochs, 400.0);
        let tiny = small(4_000, 32);
        let sides = |config: &crate::Config| config.global_crops_size.width;
        assert_eq!(sides(&tiny) * 2, sides(&few));
        assert_eq!((tiny.patch_size, tiny.epochs), (8, 50.0));
        let vit = Settings {
            arch: Some("custom".into()),
            ..Settings::default()
        };
        let vit = vit.over_recipe(RecipeKind::Small, facts(4_000, 128), None);
        let vit = vit.resolve(4_000).unwrap().0;
        assert_eq!(tiny.patch_size * 2, vit.patch_size);
        let tokens = |config: &crate::Config| config.global_crops_size.width / config.patch_size;
        assert_eq!(tokens(&tiny), tokens(&vit));
    }

    #[test]
    fn runs_long_enough_begin_with_small_crops() {
        let early = |epochs| {
            let given = Settings {
                epochs: Some(epochs),
                ..Settings::default()
            };
            let settings = given.over_recipe(RecipeKind::Small, facts(4_000, 128), None);
            settings.resolve(4_000).unwrap().0.low_resolution_epochs
        };
        let found = [3.99, 4.0, 7.6, 9.0, 20.0].map(early);
        assert_eq!(found, [0, 2, 3, 4, 10]);
    }

    #[test]
    fn features_are_extracted_from_larger_crops_where_that_was_tried() {
        let sizes = |given: Settings, side| {
            let settings = given.over_recipe(RecipeKind::Small, facts(4_000, side), None);
            let config = settings.resolve(4_000).unwrap().0;
            [config.eval_resize, config.eval_crop].map(|size| (size.height, size.width))
        };
        let open = Settings::default;
        assert_eq!(sizes(open(), 128), [(128, 128); 2]);
        assert_eq!(sizes(open(), 32), [(64, 64); 2]);
        let given = |crop| Settings {
            global_crops_size: Some(crop),
            ..open()
        };
        // In whole patches.
        assert_eq!(sizes(given(Size::square(112)), 128), [(160, 160); 2]);
        assert_eq!(sizes(given(Size::new(48, 96)), 128), [(64, 128); 2]);
        let dino = Settings {
            method: Some(MethodKind::Dino),
            ..open()
        };
        assert_eq!(sizes(dino, 128), [(110, 110), (96, 96)]);
        // One that is given alone.
        let crop = Settings {
            eval_crop: Some(Size::square(80)),
            ..open()
        };
        assert_eq!(sizes(crop, 128), [(92, 92), (80, 80)]);
        let resize = Settings {
            eval_resize: Some(Size::square(100)),
            ..open()
        };
        assert_eq!(sizes(resize, 128), [(100, 100), (96, 96)]);
    }

    #[test]
    fn crops_are_augmented_as_the_settings_say() {
        let crops = |settings: Settings, recipe| {
            let settings = settings.over_recipe(recipe, facts(4_000, 128), None);
            let (config, _) = settings.resolve(4_000).unwrap();
            let plan = config.train_config().unwrap();
            (plan.crops, plan.early_crops.map(|(_, crops)| crops))
        };
        let (crops_of, early) = crops(Settings::default(), RecipeKind::Small);
        let early = early.unwrap();
        assert_eq!(
            (crops_of.blur_side, early.blur_side),
            (Some(224.0), Some(224.0))
        );
        assert!(early.global_size.width < crops_of.global_size.width);
        // The reference's, unless something is given.
        let (paper, _) = crops(Settings::default(), RecipeKind::Paper);
        let reference = dinolab_data::augment::MultiCrop::default();
        assert_eq!(paper, reference);
        let given = Settings {
            flip_probability: Some(0.1),
            jitter_probability: Some(0.2),
            brightness: Some(0.3),
            contrast: Some(0.35),
            saturation: Some(0.45),
            hue: Some(0.05),
            greyscale_probability: Some(0.6),
            blur_probability: Some(PerView(0.7, 0.8, 0.9)),
            blur_radius: Some(Pair(1.0, 3.0)),
            blur_crop_size: Some(96),
            solarise_probability: Some(PerView(0.15, 0.25, 0.55)),
            ..Settings::default()
        };
        let (given, _) = crops(given, RecipeKind::Paper);
        let expected = dinolab_data::augment::MultiCrop {
            flip_probability: 0.1,
            jitter_probability: 0.2,
            brightness: 0.3,
            contrast: 0.35,
            saturation: 0.45,
            hue: 0.05,
            greyscale_probability: 0.6,
            blur_probability: [0.7, 0.8, 0.9],
            blur_radius: (1.0, 3.0),
            blur_side: Some(96.0),
            solarise_probability: [0.15, 0.25, 0.55],
            ..reference
        };
        assert_eq!(given, expected);
    }

    #[test]
    fn a_run_from_before_is_resumed_with_the_blur_and_the_patches_it_had() {
        let again = |settings: Settings| {
            let settings = settings.with_settings_of_before();
            let settings = settings.over_recipe(RecipeKind::Small, facts(4_000, 128), None);
            let config = settings.resolve(4_000).unwrap().0;
            (config.blur_crop_size, config.stem)
        };
        let now = (BLUR_CROP, StemKind::Conv);
        let settings = Settings::default().over_recipe(RecipeKind::Small, facts(4_000, 128), None);
        let run: Settings = settings.resolve(4_000).unwrap().0.into();
        assert_eq!(again(run.clone()), now);
        let before = Settings {
            blur_crop_size: None,
            stem: None,
            ..run
        };
        assert_eq!(again(before), (0, StemKind::Patchify));
        // What a user wrote follows the recipe.
        let lr = Settings {
            lr: Some(0.001),
            ..Settings::default()
        };
        assert_eq!(again(lr), now);
    }

    #[test]
    fn stems_and_muon_are_used_where_they_have_been_tried() {
        let config = |settings: Settings, images: ImageFacts| {
            let settings = settings.over_recipe(RecipeKind::Small, images, None);
            settings.resolve(4_000).unwrap().0
        };
        let of = |settings, images| {
            let config = config(settings, images);
            (config.arch, config.stem, config.optimizer)
        };
        let custom = |stem, optimizer| ("custom".to_owned(), stem, optimizer);
        let tried = custom(StemKind::Conv, OptimiserKind::Muon);
        let plain = custom(StemKind::Patchify, OptimiserKind::AdamW);
        let (nothing, images) = (Settings::default, facts(4_000, 128));
        assert_eq!(of(nothing(), images), tried);
        assert_eq!(of(nothing(), facts(4_000, 64)), tried);
        let method = |method| Settings {
            method: Some(method),
            ..nothing()
        };
        assert_eq!(of(method(MethodKind::VisReg), images), tried);
        assert_eq!(of(method(MethodKind::Dino), images), plain);
        // A stem has to fit, and a network that is named keeps what its name says.
        let patches = |patch_size| Settings {
            patch_size: Some(patch_size),
            ..nothing()
        };
        assert_eq!(of(patches(32), images), tried);
        let without = custom(StemKind::Patchify, OptimiserKind::Muon);
        assert_eq!(of(patches(14), images), without);
        let width = Settings {
            width: Some(66),
            heads: Some(6),
            ..nothing()
        };
        assert_eq!(of(width, images), without);
        let arch = |arch: &str| Settings {
            arch: Some(arch.into()),
            ..nothing()
        };
        assert_eq!(of(arch("custom"), images), tried);
        assert_eq!(of(arch("vit_tiny"), images).1, StemKind::Patchify);
        let resnet = of(arch("resnet18"), images);
        assert_eq!(
            (resnet.1, resnet.2),
            (StemKind::Patchify, OptimiserKind::Muon)
        );
        // The rate is the optimiser's.
        let adamw = Settings {
            optimizer: Some(OptimiserKind::AdamW),
            ..nothing()
        };
        let rates = [nothing(), adamw].map(|settings| config(settings, images).lr);
        assert_eq!(rates, [MUON_RATE, 0.004]);
        // Weights are adapted by what adapting has been tried with.
        let adapted = Settings {
            weights: Some("weights.pth".into()),
            stem: Some(StemKind::Patchify),
            ..nothing()
        };
        assert_eq!(of(adapted, images), plain);
    }

    #[test]
    fn what_is_given_stays_for_every_method() {
        for method in [
            MethodKind::Dino,
            MethodKind::SimDino,
            MethodKind::LeJepa,
            MethodKind::VisReg,
            MethodKind::DinoV2,
            MethodKind::Distill,
        ] {
            let given = Settings {
                method: Some(method),
                arch: Some("vit_tiny".into()),
                lr: Some(0.5),
                ..Settings::default()
            };
            let settings = given.over_recipe(RecipeKind::Small, facts(4_000, 128), None);
            let (config, _) = settings.resolve(4_000).unwrap();
            assert_eq!((config.method, config.width, config.lr), (method, 192, 0.5));
            assert_eq!(config.depth, 12);
        }
    }

    #[test]
    fn a_width_alone_makes_a_network() {
        let given = Settings {
            width: Some(64),
            ..Settings::default()
        };
        let settings = given.over_recipe(RecipeKind::Small, facts(4_000, 128), None);
        let (config, _) = settings.resolve(4_000).unwrap();
        assert_eq!((config.width, config.heads), (64, 1));
    }

    #[test]
    fn a_residual_network_is_narrow_unless_its_width_is_given() {
        let of = |arch: &str, width| {
            let given = Settings {
                arch: Some(arch.into()),
                width,
                ..Settings::default()
            };
            let settings = given.over_recipe(RecipeKind::Small, facts(4_000, 128), None);
            settings.resolve(4_000).unwrap().0
        };
        let narrow = of("resnet18", None);
        assert_eq!((narrow.width, narrow.epochs), (256, 50.0));
        assert_eq!(narrow.patch_drop_rate, 0.0);
        assert_eq!(of("resnet18", Some(512)).width, 512);
        assert_eq!(of("resnet50", None).width, 2048);
        assert_eq!(of("vit_tiny", None).epochs, 100.0);
    }

    #[test]
    fn networks_grow_with_the_images_they_see() {
        let cost = |scale: &Scale| scale.width.pow(2) * scale.depth;
        for scales in [STEMMED, PLAIN] {
            for pair in scales.windows(2) {
                assert!(cost(&pair[0]) < cost(&pair[1]));
                assert!(pair[0].worth_from < pair[1].worth_from);
            }
            assert_eq!(scales[0].worth_from, 0.0);
        }
    }
}
