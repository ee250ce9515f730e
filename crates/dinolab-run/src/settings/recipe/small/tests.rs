//! What the recipe decides, and for what.

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

/// The configuration of 4,000 images of `side` px with these settings.
fn config(settings: Settings, side: usize) -> crate::Config {
    let settings = settings.over_recipe(RecipeKind::Small, facts(4_000, side), None);
    settings.resolve(4_000).unwrap().0
}

const METHODS: [MethodKind; 6] = [
    MethodKind::Dino,
    MethodKind::SimDino,
    MethodKind::LeJepa,
    MethodKind::VisReg,
    MethodKind::DinoV2,
    MethodKind::Distill,
];

#[test]
fn stems_are_used_where_they_fit() {
    let of = |settings, side| {
        let config = config(settings, side);
        (config.arch, config.stem)
    };
    let conv = ("custom".to_owned(), StemKind::Conv);
    let patchify = ("custom".to_owned(), StemKind::Patchify);
    let nothing = Settings::default;
    assert_eq!(of(nothing(), 64), conv);
    for method in METHODS {
        let settings = Settings {
            method: Some(method),
            ..nothing()
        };
        assert_eq!(of(settings, 128), conv, "{method}");
    }
    let patches = |patch_size| Settings {
        patch_size: Some(patch_size),
        ..nothing()
    };
    assert_eq!(of(patches(32), 128), conv);
    assert_eq!(of(patches(14), 128), patchify);
    let width = Settings {
        width: Some(66),
        heads: Some(6),
        ..nothing()
    };
    assert_eq!(of(width, 128), patchify);
    // A network that is named keeps what its name says.
    let arch = |arch: &str| Settings {
        arch: Some(arch.into()),
        ..nothing()
    };
    assert_eq!(of(arch("custom"), 128), conv);
    assert_eq!(of(arch("vit_tiny"), 128).1, StemKind::Patchify);
    assert_eq!(of(arch("resnet18"), 128).1, StemKind::Patchify);
}

#[test]
fn muon_is_the_optimiser_at_rates_of_its_own() {
    let of = |method, optimizer, weights: Option<&str>| {
        let settings = Settings {
            method: Some(method),
            optimizer,
            weights: weights.map(Into::into),
            stem: Some(StemKind::Patchify),
            ..Settings::default()
        };
        let config = config(settings, 128);
        (config.optimizer, config.lr)
    };
    let (muon, adamw) = (OptimiserKind::Muon, OptimiserKind::AdamW);
    // Rates by Muon and AdamW, and what adapts weights.
    let expected = [
        (MethodKind::Dino, 0.004, 0.002, adamw),
        (MethodKind::SimDino, 0.004, 0.002, adamw),
        (MethodKind::DinoV2, 0.004, 0.002, adamw),
        (MethodKind::LeJepa, 0.012, 0.004, muon),
        (MethodKind::VisReg, 0.012, 0.004, muon),
        (MethodKind::Distill, 0.012, 0.004, muon),
    ];
    for (method, by_muon, by_adamw, adapts) in expected {
        assert_eq!(of(method, None, None), (muon, by_muon), "{method}");
        assert_eq!(of(method, Some(adamw), None), (adamw, by_adamw), "{method}");
        // A run from random weights says so.
        assert_eq!(of(method, None, Some("")), (muon, by_muon), "{method}");
        let weights = Some("weights.pth");
        let rate = if adapts == muon { by_muon } else { by_adamw };
        assert_eq!(of(method, None, weights), (adapts, rate), "{method}");
        assert_eq!(of(method, Some(muon), weights), (muon, by_muon), "{method}");
    }
}

#[test]
fn what_is_given_stays_for_every_method() {
    for method in METHODS {
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
    for pair in SCALES.windows(2) {
        assert!(cost(&pair[0]) < cost(&pair[1]));
        assert!(pair[0].worth_from < pair[1].worth_from);
    }
    assert_eq!(SCALES[0].worth_from, 0.0);
}
