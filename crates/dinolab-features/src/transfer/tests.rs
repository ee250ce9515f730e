use dinolab_data::Size;
use dinolab_data::random::Random;
use dinolab_data::shapes::Shapes;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::{
    AnyBackbone, ConvNextConfig, Feature, Parameters, ResNetConfig, Vit, VitConfig, device,
};
use proptest::prelude::*;

use super::*;
use crate::block_features::BlockFeatures;
use crate::features::Preprocess;
use crate::random_view::RandomView;
use dinolab_eval::segmentation::{ClassMasks, MaskRule};

fn vit() -> Vit {
    let config = VitConfig {
        width: 32,
        depth: 2,
        heads: 2,
        mlp_ratio: 2,
        ..VitConfig::named("vit_tiny", 8, 32).unwrap()
    };
    Vit::new(&config, &mut Init::new(1), &device::by_name("cpu").unwrap()).unwrap()
}

fn backbone() -> AnyBackbone {
    vit().into()
}

fn resnet() -> AnyBackbone {
    let config = ResNetConfig {
        width: 8,
        blocks: [1, 1, 1, 1],
        bottleneck: false,
        ..ResNetConfig::default()
    };
    let cpu = device::by_name("cpu").unwrap();
    AnyBackbone::new(&config.into(), &mut Init::new(1), &cpu).unwrap()
}

fn convnext() -> AnyBackbone {
    let config = ConvNextConfig {
        widths: [8, 12, 16, 24],
        depths: [1, 1, 1, 1],
        ..ConvNextConfig::default()
    };
    let cpu = device::by_name("cpu").unwrap();
    AnyBackbone::new(&config.into(), &mut Init::new(1), &cpu).unwrap()
}

fn preprocess() -> Preprocess {
    Preprocess {
        resize: Size::square(32),
        crop: Size::square(32),
        ..Default::default()
    }
}

fn values(network: &dyn Parameters) -> Vec<f32> {
    let mut values = Vec::new();
    network.visit("", &mut |_, p| values.extend(p.to_vec()));
    values
}

const ONE: BlockFeatures = BlockFeatures {
    n_last_blocks: 1,
    avgpool_patchtokens: false,
    feature: Feature::Class,
};

const TWO: BlockFeatures = BlockFeatures {
    n_last_blocks: 2,
    avgpool_patchtokens: true,
    feature: Feature::Class,
};

const VIEW: RandomView = RandomView {
    size: Size::square(32),
    scale: (0.5, 1.0),
};

#[test]
fn shares_are_read() {
    assert_eq!("5%".parse(), Ok(Share::Percent(5.0)));
    assert_eq!("0.5 %".parse(), Ok(Share::Percent(0.5)));
    assert_eq!("12".parse(), Ok(Share::PerClass(12)));
    for text in ["", "0", "0%", "101%", "-1", "x%", "1.5"] {
        assert!(text.parse::<Share>().is_err(), "{text}");
    }
    assert_eq!(Share::Percent(2.5).to_string(), "2.5%");
}

proptest! {
    #[test]
    fn shares_are_even_and_nested(sizes in prop::collection::vec(1usize..40, 1..5), seed: u64, percent in 1f64..100.0) {
        let groups: Vec<usize> = sizes.iter().enumerate().flat_map(|(g, &n)| vec![g; n]).collect();
        let drawn = Share::Percent(percent).draw(&groups, seed).unwrap();
        prop_assert!(drawn.is_sorted_by(|a, b| a < b));
        for (group, &n) in sizes.iter().enumerate() {
            let count = drawn.iter().filter(|&&place| groups[place] == group).count();
            prop_assert_eq!(count, ((n as f64 * percent / 100.0).round() as usize).max(1));
        }
        let all = Share::PerClass(40).draw(&groups, seed).unwrap();
        prop_assert_eq!(all.len(), groups.len());
        let few = Share::PerClass(1).draw(&groups, seed).unwrap();
        prop_assert!(few.iter().all(|place| drawn.contains(place)));
    }
}

#[test]
fn rates_by_hand() {
    let settings = FineTune {
        warmup: 0.2,
        ..Default::default()
    };
    let rates: Vec<f64> = (0..10).map(|step| settings.rate(1.0, step, 10)).collect();
    assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
    assert!((rates[6] - 0.5).abs() < 1e-12);
    assert!(rates.windows(2).skip(2).all(|pair| pair[1] < pair[0]));
    let bare = FineTune {
        warmup: 0.0,
        ..settings
    };
    assert_eq!(bare.rate(2.0, 0, 10), 2.0);
    assert_eq!(
        FineTune {
            epochs: 3,
            batch_size: 8,
            ..bare
        }
        .steps(17),
        9
    );
}

/// AdamW as PyTorch defines it, in double precision, on a head over fixed inputs.
#[test]
fn the_head_of_a_frozen_network_takes_the_steps_of_adamw() {
    let (train, val) = (Shapes::new(1, 8), Shapes::new(2, 4));
    let task = Task::classification(&train, &val, ONE, VIEW, &preprocess(), 8).unwrap();
    let settings = FineTune {
        epochs: 3,
        batch_size: 8,
        warmup: 0.0,
        weight_decay: 0.1,
        layer_decay: 1.0,
    };
    let labelled: Vec<usize> = (0..8).collect();
    let (lr, seed) = (0.01, 5);
    let fitted = settings
        .fit(
            &*task.0,
            backbone(),
            true,
            &labelled,
            (lr, seed),
            &mut |_| {},
        )
        .unwrap();
    assert_eq!(values(&fitted.backbone), values(&vit()), "frozen");

    let (k, d) = (16, 32);
    let mut init = Init::new(seed ^ 0x6865_6164);
    let start = init.truncated_normal(k * d, 0.02);
    let mut w: Vec<f64> = start
        .into_iter()
        .map(f64::from)
        .chain(vec![0.0; k])
        .collect();
    let (mut m, mut v) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    for epoch in 0..3u64 {
        let mut g = vec![0.0; w.len()];
        for place in 0..8 {
            let mut random = Random::new(
                seed,
                epoch,
                place as u64,
                dinolab_data::random::Purpose::Crops,
            );
            let example = task.0.example(place, &mut random).unwrap();
            let images = crate::features::batch(&vit(), &[example.planes], 32, 32);
            let x: Vec<f64> = to_host_f32(vit().forward(images))
                .into_iter()
                .map(f64::from)
                .collect();
            let z: Vec<f64> = (0..k)
                .map(|c| w[k * d + c] + (0..d).map(|i| w[c * d + i] * x[i]).sum::<f64>())
                .collect();
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            for c in 0..k {
                let p = (z[c].exp() / total - f64::from(example.targets[c])) / 8.0;
                g[k * d + c] += p;
                (0..d).for_each(|i| g[c * d + i] += p * x[i]);
            }
        }
        let now = settings.rate(lr, epoch as usize, 3);
        for i in 0..w.len() {
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            let t = epoch as i32 + 1;
            let step =
                m[i] / (1.0 - 0.9f64.powi(t)) / ((v[i] / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
            let decay = if i < k * d { 1.0 - now * 0.1 } else { 1.0 };
            w[i] = w[i] * decay - now * step;
        }
    }
    let found = [
        fitted.head.weight.to_vec(),
        fitted.head.bias.unwrap().to_vec(),
    ]
    .concat();
    for (found, wanted) in found.iter().zip(&w) {
        assert!(
            (f64::from(*found) - wanted).abs() < 2e-4,
            "{found} {wanted}"
        );
    }
}

fn tiny() -> TransferConfig {
    TransferConfig {
        fine_tune: FineTune {
            epochs: 12,
            batch_size: 16,
            weight_decay: 0.0,
            ..Default::default()
        },
        share: Share::PerClass(4),
        seeds: vec![0, 1],
        lrs: vec![1e-3, 1e-5],
        frozen_lrs: vec![1e-2],
    }
}

#[test]
fn all_arms_learn_their_few_labels_alike_at_any_number_of_threads() {
    let (train, val) = (Shapes::new(1, 96), Shapes::new(2, 48));
    let task = Task::classification(&train, &val, ONE, VIEW, &preprocess(), 16).unwrap();
    let mut config = tiny();
    config.fine_tune.epochs = 4;
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (mut steps, mut total) = (0, 0);
            let trials = config
                .compare(&task, &backbone(), &TransferMode::ALL, &mut |now| {
                    steps += 1;
                    assert_eq!(now.step, steps);
                    total = now.steps;
                })
                .unwrap();
            assert_eq!((steps, total), (2 * 5 * 4 * 4, 2 * 5 * 4 * 4));
            trials
        })
    };
    let trials = run(2);
    let arms: Vec<(TransferMode, f64)> = trials.iter().map(|t| (t.mode, t.lr)).collect();
    let wanted = [
        (TransferMode::Frozen, 1e-2),
        (TransferMode::FineTuned, 1e-3),
        (TransferMode::FineTuned, 1e-5),
        (TransferMode::Scratch, 1e-3),
        (TransferMode::Scratch, 1e-5),
    ];
    assert_eq!(arms, wanted);
    assert_eq!(trials.iter().filter(|t| t.best).count(), 3, "one per arm");
    assert!(
        trials
            .iter()
            .all(|t| t.scores.len() == 2 && t.spread().is_some())
    );
    for threads in [1, 3] {
        assert_eq!(run(threads), trials);
    }
}

#[test]
fn a_network_from_scratch_learns_to_fit_its_labels() {
    let (train, val) = (Shapes::new(1, 32), Shapes::new(2, 16));
    let view = RandomView {
        size: Size::square(32),
        scale: (1.0, 1.0),
    };
    let task = Task::classification(&train, &val, TWO, view, &preprocess(), 16).unwrap();
    let mut losses = Vec::new();
    let settings = FineTune {
        epochs: 150,
        batch_size: 8,
        weight_decay: 0.0,
        ..Default::default()
    };
    let labelled: Vec<usize> = (0..16).collect();
    let fitted = settings
        .fit(
            &*task.0,
            backbone(),
            false,
            &labelled,
            (3e-3, 0),
            &mut |loss| losses.push(loss),
        )
        .unwrap();
    assert!(losses[0] > 2.0, "{}", losses[0]);
    assert!(fitted.loss < 0.3, "{}", fitted.loss);
    assert_ne!(values(&fitted.backbone), values(&vit()));
}

#[test]
fn segmentation_transfers_too() {
    let shapes = Shapes::new(1, 24);
    let masks = ClassMasks {
        source: &shapes,
        rule: MaskRule::Classes,
        classes: 2,
    };
    let task = Task::segmentation(
        (masks, (0..16).collect()),
        (masks, (16..24).collect()),
        VIEW,
        &preprocess(),
        &vit(),
    )
    .unwrap();
    let mut config = TransferConfig {
        share: Share::Percent(100.0),
        seeds: vec![0],
        lrs: vec![3e-3],
        ..tiny()
    };
    config.fine_tune.epochs = 60;
    let trials = config
        .compare(&task, &backbone(), &TransferMode::ALL, &mut |_| {})
        .unwrap();
    assert_eq!(trials.len(), 3);
    for trial in &trials {
        assert!((0.0..=100.0).contains(&trial.mean()));
        assert!(trial.second().unwrap() > 50.0, "{trial:?}");
        assert_eq!(trial.spread(), None);
    }
    // Learning all of the network fits the training pixels better than learning the head.
    assert!(trials[1].losses[0] < trials[0].losses[0]);
}

/// Each feature of a convolutional network, and what batch normalisation does while it learns.
#[test]
fn convolutional_networks_transfer_too() {
    let (train, val) = (Shapes::new(1, 32), Shapes::new(2, 16));
    let view = RandomView {
        size: Size::square(64),
        scale: (1.0, 1.0),
    };
    let labelled: Vec<usize> = (0..16).collect();
    for start in [resnet(), convnext()] {
        for (feature, avgpool_patchtokens) in [
            (Feature::Class, false),
            (Feature::Patches, false),
            (Feature::Class, true),
        ] {
            let blocks = BlockFeatures {
                n_last_blocks: 1,
                avgpool_patchtokens,
                feature,
            };
            let task = Task::classification(&train, &val, blocks, view, &preprocess(), 16);
            let task = task.unwrap();
            let settings = FineTune {
                batch_size: 8,
                weight_decay: 0.0,
                ..Default::default()
            };
            let mut losses = Vec::new();
            let fit = |frozen, epochs, losses: &mut Vec<f64>| {
                let settings = FineTune {
                    epochs,
                    ..settings.clone()
                };
                let rate = (3e-3, 0);
                settings
                    .fit(
                        &*task.0,
                        start.clone(),
                        frozen,
                        &labelled,
                        rate,
                        &mut |loss| losses.push(loss),
                    )
                    .unwrap()
            };
            let fitted = fit(false, 25, &mut losses);
            assert!(losses[0] > 2.0, "{}", losses[0]);
            assert!(fitted.loss < 0.7 * losses[0], "{feature} {}", fitted.loss);
            let score = task.0.evaluate(&fitted).unwrap();
            assert!((0.0..=100.0).contains(&score.value));
            // Everything learns, but for a frozen network, whose running statistics stay, too.
            let before = by_name(&start);
            for (name, values) in by_name(&fitted.backbone) {
                assert_ne!(values, before[&name], "{name}");
            }
            let frozen = fit(true, 1, &mut losses);
            assert_eq!(by_name(&frozen.backbone), before);
        }
    }
}

fn by_name(network: &AnyBackbone) -> std::collections::BTreeMap<String, Vec<f32>> {
    let mut values = std::collections::BTreeMap::new();
    network.visit("", &mut |name, param| {
        values.insert(name.to_owned(), param.to_vec());
    });
    values
}

#[test]
fn segmentation_by_a_convolutional_network_scores_positions_of_its_last_grid() {
    let shapes = Shapes::new(1, 12);
    let masks = ClassMasks {
        source: &shapes,
        rule: MaskRule::Classes,
        classes: 2,
    };
    let view = |side| RandomView {
        size: Size::square(side),
        scale: (0.5, 1.0),
    };
    for network in [resnet(), convnext()] {
        let task = |side| {
            let sets = ((masks, (0..8).collect()), (masks, (8..12).collect()));
            Task::segmentation(sets.0, sets.1, view(side), &preprocess(), &network)
        };
        let mut config = TransferConfig {
            share: Share::Percent(100.0),
            seeds: vec![0],
            lrs: vec![3e-3],
            ..tiny()
        };
        config.fine_tune.epochs = 40;
        let task_64 = task(64).unwrap();
        let trials = config.compare(&task_64, &network, &TransferMode::ALL, &mut |_| {});
        let trials = trials.unwrap();
        assert!(trials.iter().all(|trial| trial.second().unwrap() > 50.0));
        assert!(trials[1].losses[0] < trials[0].losses[0]);
        let error = task(48).err().unwrap().to_string();
        assert!(error.contains("multiple of the patch size 32"), "{error}");
    }
}

#[test]
fn spread_by_hand() {
    let score = |value| Score {
        value,
        second: None,
    };
    let trial = Trial {
        mode: TransferMode::Frozen,
        lr: 1.0,
        scores: vec![score(1.0), score(3.0), score(5.0)],
        losses: vec![0.0; 3],
        best: true,
    };
    assert_eq!(
        (trial.mean(), trial.spread(), trial.second()),
        (3.0, Some(2.0), None)
    );
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (train, val) = (Shapes::new(1, 16), Shapes::new(2, 8));
    let task = Task::classification(&train, &val, ONE, VIEW, &preprocess(), 16).unwrap();
    let refused = |config: &TransferConfig| {
        config
            .compare(&task, &backbone(), &[TransferMode::Frozen], &mut |_| {})
            .is_err()
    };
    assert!(refused(&TransferConfig {
        seeds: vec![],
        ..tiny()
    }));
    assert!(refused(&TransferConfig {
        frozen_lrs: vec![],
        ..tiny()
    }));
    assert!(refused(&TransferConfig {
        frozen_lrs: vec![-1.0],
        ..tiny()
    }));
    for fine_tune in [
        FineTune {
            epochs: 0,
            ..Default::default()
        },
        FineTune {
            warmup: 1.0,
            ..Default::default()
        },
        FineTune {
            weight_decay: -1.0,
            ..Default::default()
        },
        FineTune {
            layer_decay: 0.0,
            ..Default::default()
        },
    ] {
        assert!(refused(&TransferConfig {
            fine_tune,
            ..tiny()
        }));
    }
    let none = Shapes::new(1, 0);
    assert!(Task::classification(&none, &val, ONE, VIEW, &preprocess(), 16).is_err());
}
