//! Distillation against numbers derived independently in PyTorch (`fixtures/distill/README.md`), its gradients
//! against finite differences, and what it does with few and equal images, parts of a batch and teachers of
//! other kinds.

use std::collections::BTreeMap;

use crate::common::device;
use crate::common::golden::*;
use crate::common::joint_embedding::{take, varied, views};
use burn::tensor::{Tensor, TensorData};
use dinolab_nn::init::Init;
use dinolab_nn::weights::{LoadOptions, Weights, load};
use dinolab_nn::{
    AnyBackbone, BackboneConfig, Feature, LoraConfig, Parameters, ResNetConfig, VitConfig,
};
use dinolab_train::checkpoint::{Checkpoint, TrainState, save};
use dinolab_train::{
    AdaptConfig, AverageSchedule, BatchShape, Distill, DistillConfig, FrozenTeacher, Method,
    Normalised, OptimiserKind, Schedule, ScheduleConfig, StepHyperparams, Views,
};

fn vit(width: usize, patch_size: usize) -> BackboneConfig {
    VitConfig {
        image_size: 16,
        patch_size,
        width,
        depth: 2,
        heads: 2,
        ..Default::default()
    }
    .into()
}

fn resnet() -> BackboneConfig {
    ResNetConfig {
        width: 4,
        ..ResNetConfig::named("resnet18").unwrap()
    }
    .into()
}

fn teacher_of(config: &BackboneConfig, seed: u64) -> FrozenTeacher {
    let mut init = Init::new(seed);
    let mut backbone = AnyBackbone::new(config, &mut init, &device()).unwrap();
    // Initial weights say the same of all images.
    backbone.visit_mut("", &mut |name, param| {
        if name.ends_with("weight") && param.shape().len() > 1 {
            param.set_flat(param.flat() * 6.0);
        }
    });
    FrozenTeacher::new(backbone, Feature::Class)
}

fn teacher() -> FrozenTeacher {
    FrozenTeacher {
        feature: Feature::Both,
        // 16 pixels are not a whole number of its patches.
        ..teacher_of(&vit(12, 5), 7)
    }
}

fn small() -> DistillConfig {
    DistillConfig {
        backbone: vit(8, 4),
        drop_path: 0.2,
        seed: 4,
        ..DistillConfig::default()
    }
}

fn adapted() -> DistillConfig {
    DistillConfig {
        feature: Feature::Both,
        head_layers: 2,
        head_hidden_dim: 16,
        patch_weight: 0.3,
        adapt: AdaptConfig {
            preserve: 0.5,
            lora: Some(LoraConfig {
                rank: 2,
                alpha: 4.0,
            }),
            ..AdaptConfig::default()
        },
        ..small()
    }
}

fn new(config: &DistillConfig) -> Distill {
    Distill::new(config, teacher(), &device()).unwrap()
}

#[test]
fn six_steps_on_class_tokens_follow_pytorch() {
    six_steps(Feature::Class);
}

#[test]
fn six_steps_on_both_kinds_of_tokens_follow_pytorch() {
    six_steps(Feature::Both);
}

fn six_steps(feature: Feature) {
    let log = json(&format!("distill/{feature}.json"));
    let (inputs, initial) = (
        arrays("training/inputs.safetensors"),
        arrays("distill/initial.safetensors"),
    );
    let c = &log["config"];
    let numbers = |name: &str| -> Vec<f32> {
        let list = c[name].as_array().unwrap();
        list.iter().map(|value| number(value) as f32).collect()
    };
    let normalised = |mean: &str, std: &str| Normalised {
        mean: numbers(mean),
        std: numbers(std),
    };
    let teacher_config = BackboneConfig::from(VitConfig {
        image_size: 60,
        patch_size: 10,
        width: 40,
        depth: 2,
        heads: 2,
        ..Default::default()
    });
    let mut backbone = AnyBackbone::new(&teacher_config, &mut Init::new(0), &device()).unwrap();
    let own = |prefix: &str| {
        let own = initial.iter();
        let own = own.filter_map(|(name, array)| {
            Some((name.strip_prefix(prefix)?.to_owned(), array.clone()))
        });
        own.collect::<BTreeMap<_, _>>()
    };
    let load_all = |network: &mut dyn Parameters, arrays: BTreeMap<_, _>| {
        let weights = Weights {
            arrays,
            ..Weights::default()
        };
        let report = load(network, "", &weights, LoadOptions::default()).unwrap();
        assert!(
            report.left_over.is_empty() && report.missing.is_empty(),
            "{report}"
        );
    };
    load_all(&mut backbone, own("teacher."));
    let teacher = FrozenTeacher {
        backbone,
        feature,
        size: 0,
        normalisation: Some([
            normalised("teacher_mean", "teacher_std"),
            normalised("mean", "std"),
        ]),
    };
    let momentum = number(&c["average_momentum"]);
    let config = DistillConfig {
        backbone: VitConfig {
            image_size: size(&c["img_size"]),
            patch_size: size(&c["patch_size"]),
            width: size(&c["embed_dim"]),
            depth: size(&c["depth"]),
            heads: size(&c["num_heads"]),
            ..Default::default()
        }
        .into(),
        feature,
        head_hidden_dim: size(&c["head_hidden_dim"]),
        head_layers: size(&c["head_layers"]),
        feature_weight: number(&c["teacher_feature_weight"]),
        patch_weight: number(&c["teacher_patch_weight"]),
        clip_grad: number(&c["clip_grad"]),
        average: AverageSchedule {
            momentum,
            momentum_end: momentum,
        },
        ..DistillConfig::default()
    };
    let schedule = Schedule::new(ScheduleConfig {
        epochs: number(&c["epochs"]),
        steps_per_epoch: c["iters_per_epoch"].as_u64().unwrap(),
        lr: number(&c["base_lr"]),
        min_lr: number(&c["min_lr"]),
        warmup_epochs: number(&c["warmup_epochs"]),
        freeze_backbone_epochs: 0.0,
        weight_decay: number(&c["weight_decay"]),
        weight_decay_end: number(&c["weight_decay_end"]),
    });
    let mut method = Distill::new(&config, teacher, &device()).unwrap();
    let mut start = own("student.");
    for (name, array) in &inputs {
        let name = name.strip_prefix("init.student.");
        if let Some(name) = name.filter(|name| name.starts_with("backbone.")) {
            start.insert(name.to_owned(), array.clone());
        }
    }
    if feature == Feature::Both {
        for (name, array) in &mut start {
            if name.starts_with("head.feature") && name != "head.feature.mlp.0.bias" {
                let width = array
                    .shape
                    .last()
                    .copied()
                    .filter(|_| name.contains("mlp.0"));
                let twice = |row: &[f32]| [row, row].concat();
                // Each row twice for more inputs, the whole twice for more outputs.
                array.data = match width {
                    Some(width) => array.data.chunks(width).flat_map(twice).collect(),
                    None => twice(&array.data),
                };
                array.shape[usize::from(width.is_some())] *= 2;
            }
        }
    }
    load_all(&mut method.student, start.clone());
    let of_backbone = start
        .iter()
        .filter(|(name, _)| name.starts_with("backbone."));
    let of_backbone = Weights {
        arrays: of_backbone
            .map(|(name, array)| (name.clone(), array.clone()))
            .collect(),
        ..Weights::default()
    };
    method
        .start_from(&of_backbone, LoadOptions::default())
        .unwrap();

    let steps = log["log"].as_array().unwrap();
    let joined = size(&c["joined_steps"]);
    for (step, expected) in steps.iter().enumerate() {
        let crop = |j: usize| {
            let of_step = |step: usize| {
                let name = format!("step{}.crop{j}", step % steps.len());
                tensor::<4>(&inputs[&name], &device())
            };
            Tensor::cat((step..step + joined).map(of_step).collect(), 0)
        };
        let views = Views {
            batch: size(&c["batch"]) * joined,
            global: Tensor::cat(vec![crop(0), crop(1)], 0),
            local: None,
        };
        let report = method.step(&[views], &schedule.at(step as u64)).unwrap();
        near("loss", report.loss, &expected["loss"], 1e-4);
        let names: Vec<_> = report.terms.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["feature", "patches"]);
        for (name, value) in &report.terms {
            near(name, *value, &expected[*name], 1e-4);
        }
        let theirs = log["names"].as_array().unwrap().iter();
        let theirs = theirs.zip(expected["grad_norms"].as_array().unwrap());
        let theirs: BTreeMap<_, _> = theirs
            .map(|(name, norm)| (name.as_str().unwrap(), number(norm)))
            .collect();
        let order = method.trained_names();
        assert_eq!(order.len(), theirs.len());
        for (name, ours) in order.iter().zip(&report.grad_norms) {
            let (ours, theirs) = (f64::from(*ours), theirs[name.as_str()]);
            assert!(
                (ours - theirs).abs() <= 2e-3 * theirs + 1e-5,
                "step {step}, {name}: {ours} {theirs}"
            );
        }
    }
    let state = method.state();
    for part in ["network", "average"] {
        for (name, golden) in log["final"][part].as_object().unwrap() {
            // Softmax cancels the keys' bias: Adam scales rounding up to steps.
            if name.ends_with("attn.qkv.bias") {
                continue;
            }
            let values = &state.tensors[&format!("{part}.{name}")].data;
            let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
            near(name, squares.sqrt(), &golden["norm"], 1e-4);
            let change = values.iter().zip(&start[name].data);
            let change: Vec<f64> = change.map(|(a, b)| f64::from(a - b)).collect();
            let norm = change.iter().map(|v| v * v).sum::<f64>().sqrt();
            near(name, norm, &golden["change_norm"], 2e-3);
            // A pattern in which misplaced values show.
            let places = change.iter().enumerate();
            let pattern: f64 = places.map(|(i, v)| (1.0 + i as f64).cos() * v).sum();
            let error = (pattern - number(&golden["change_cos"])).abs();
            assert!(
                error <= 5e-3 * number(&golden["change_norm"]) + 1e-7,
                "{part} {name}: {pattern} {golden}"
            );
        }
    }
}

/// Global views of images number `images`, each image with pixels of its own.
fn views_of(images: std::ops::Range<usize>) -> Views {
    let mut data = Vec::new();
    for view in 0..2 {
        for image in images.clone() {
            let pixel = varied((view * 100 + image) as u64);
            data.extend((0..3 * 16 * 16).map(pixel));
        }
    }
    let shape = [2 * images.len(), 3, 16, 16];
    Views {
        batch: images.len(),
        global: Tensor::from_data(TensorData::new(data, shape), &device()),
        local: None,
    }
}

fn hyperparams(step: u64, lr: f64) -> StepHyperparams {
    StepHyperparams {
        step,
        epoch: 1,
        steps: 20,
        lr,
        backbone_rate: 1.0,
        weight_decay: 0.0,
    }
}

/// A step of gradient descent without clipping, momentum and decay changes a parameter by its gradient.
#[test]
fn gradients_are_those_of_finite_differences() {
    for (config, names) in [
        (
            small(),
            &[
                "backbone.patch_embed.proj.weight",
                "backbone.pos_embed",
                "backbone.blocks.1.mlp.fc2.weight",
                "head.feature.mlp.weight",
                "head.patches.mlp.bias",
            ][..],
        ),
        (
            adapted(),
            &[
                "head.feature.mlp.0.weight",
                "head.patches.mlp.2.weight",
                "lora.backbone.blocks.0.attn.qkv.values.b",
            ],
        ),
    ] {
        let config = DistillConfig {
            optimizer: OptimiserKind::Sgd,
            clip_grad: 0.0,
            drop_path: 0.0,
            ..config
        };
        // Away from the initial weights, whose change of low rank is 0.
        let start = || {
            let mut method = new(&config);
            for step in 0..3 {
                let hp = hyperparams(step, 0.02);
                method.step(&[views_of(10..14)], &hp).unwrap();
            }
            method
        };
        let loss = |method: &mut Distill, lr: f64| {
            let hp = hyperparams(3, lr);
            method.step(&[views_of(0..4)], &hp).unwrap().loss
        };
        let values = |method: &Distill| {
            let mut all = BTreeMap::new();
            method.student.visit("", &mut |name, param| {
                all.insert(name.to_owned(), param.to_vec());
            });
            all
        };
        let mut method = start();
        let (before, moments) = (values(&method), method.state());
        loss(&mut method, 1.0);
        let after = values(&method);
        for name in names {
            let name: &str = name;
            let moments = &moments.tensors;
            let buffer = &moments[&format!("optimiser.0.{name}")].data;
            let gradient: Vec<f64> = (before[name].iter().zip(&after[name]).zip(buffer))
                .map(|((b, a), buffer)| f64::from(b - a) - 0.9 * f64::from(*buffer))
                .collect();
            let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(length > 1e-4, "{name}: {length}");
            let h = 0.005;
            let moved = |sign: f64| {
                let mut method = start();
                method.student.visit_mut("", &mut |own, param| {
                    if own == name {
                        let moved = before[name].iter().zip(&gradient);
                        let moved: Vec<f32> = moved
                            .map(|(b, g)| (f64::from(*b) + sign * h * g / length) as f32)
                            .collect();
                        let data = TensorData::new(moved, [gradient.len()]);
                        param.set_flat(Tensor::from_data(data, &device()));
                    }
                });
                loss(&mut method, 0.0)
            };
            let difference = (moved(1.0) - moved(-1.0)) / (2.0 * h);
            assert!(
                (difference - length).abs() < 0.02 * length + 4e-4,
                "{name}: {difference} {length}"
            );
        }
    }
}

#[test]
fn micro_batches_equal_a_large_batch() {
    for config in [small(), adapted()] {
        let run = |size: usize| {
            let mut method = new(&config);
            let mut losses = Vec::new();
            for step in 0..3 {
                let parts = (0..6).step_by(size).map(|first| first..first + size);
                let views: Vec<_> = parts.map(views_of).collect();
                let report = method.step(&views, &hyperparams(step, 0.01)).unwrap();
                losses.push(report.loss);
            }
            (losses, method.state())
        };
        let ((whole, state), (cut, cut_state)) = (run(6), run(2));
        for (a, b) in whole.iter().zip(&cut) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let (mut squares, mut all) = (0.0, 0.0);
        let learned = |name: &str| name.starts_with("network") || name.starts_with("targets");
        for (name, array) in state.tensors.iter().filter(|(name, _)| learned(name)) {
            for (a, b) in array.data.iter().zip(&cut_state.tensors[name].data) {
                squares += f64::from(a - b).powi(2);
                all += f64::from(*a).powi(2);
            }
        }
        let difference = (squares / all).sqrt();
        assert!(difference < 1e-3, "{difference}");
    }
}

#[test]
fn one_image_and_equal_images_stay_finite() {
    for config in [small(), adapted()] {
        for (batch, equal) in [(1, false), (4, true)] {
            let mut method = new(&config);
            for step in 0..10 {
                let views = match equal {
                    true => views(batch, |_| 0.25),
                    false => views(batch, varied(step)),
                };
                let report = take(&mut method, views, step);
                assert!(report.loss.is_finite());
                assert!(report.grad_norms.iter().all(|norm| norm.is_finite()));
                assert_eq!(report.outputs.features.dims()[0], 2 * batch);
            }
            assert_eq!(method.state().not_finite(), None);
        }
    }
}

/// A loss below that of guessing on other views of the images that it has learned from.
#[test]
fn networks_of_all_kinds_teach_and_learn() {
    let vits = [vit(8, 4), vit(12, 5)];
    for (student, teacher) in [
        (&vits[0], &vits[1]),
        (&vits[0], &resnet()),
        (&resnet(), &vits[1]),
    ] {
        let config = DistillConfig {
            backbone: student.clone(),
            drop_path: 0.0,
            ..small()
        };
        let teacher = FrozenTeacher {
            // A residual network sees one position of 16 pixels.
            size: 32,
            ..teacher_of(teacher, 7)
        };
        let mut method = Distill::new(&config, teacher, &device()).unwrap();
        let mut last = f64::INFINITY;
        for step in 0..60 {
            let report = method
                .step(&[views_of(0..8)], &hyperparams(step, 0.01))
                .unwrap();
            last = report.loss;
        }
        let guessing = method.loss_of_guessing().unwrap();
        assert!(last < 0.7 * guessing, "{student:?}: {last} of {guessing}");
    }
}

#[test]
fn a_restored_run_continues_exactly() {
    for config in [small(), adapted()] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = new(&config);
        for step in 0..3 {
            take(&mut first, views(3, varied(step)), step);
        }
        let position = TrainState::default();
        let path = save(folder.path(), &first, &position, &BTreeMap::new()).unwrap();
        let mut second = new(&config);
        take(&mut second, views(3, varied(9)), 9);
        let checkpoint = Checkpoint::read(&path).unwrap();
        assert_eq!(checkpoint.method(), "distill");
        checkpoint.restore(&mut second).unwrap();
        assert_eq!(second.state(), first.state());
        for step in 3..6 {
            let losses = [&mut first, &mut second]
                .map(|method| take(method, views(3, varied(step)), step).loss);
            assert_eq!(losses[0], losses[1]);
        }
        assert_eq!(second.state(), first.state());

        let other = FrozenTeacher {
            feature: Feature::Both,
            ..teacher_of(&vit(12, 5), 8)
        };
        let mut third = Distill::new(&config, other, &device()).unwrap();
        let error = checkpoint.restore(&mut third).unwrap_err().to_string();
        assert!(
            error.contains("weights of the teacher are not those"),
            "{error}"
        );
    }
}

/// What the teacher is shown depends on its size, and not on how the student's images are normalised.
#[test]
fn a_teacher_is_shown_images_as_it_wants_them() {
    let loss = |change: &dyn Fn(&mut FrozenTeacher), scale: f32| {
        let mut teacher = teacher();
        change(&mut teacher);
        let mut method = Distill::new(&small(), teacher, &device()).unwrap();
        let mut views = views_of(0..4);
        views.global = views.global * scale;
        let report = method.step(&[views], &hyperparams(0, 0.0)).unwrap();
        assert_eq!(report.terms.len(), 2);
        method.state().tensors["targets.feature.mean"].data.clone()
    };
    let normalised = |std: f32| Normalised {
        mean: vec![0.0; 3],
        std: vec![std; 3],
    };
    let as_it_is = loss(&|_| {}, 1.0);
    let rescaled = loss(
        &|teacher| teacher.normalisation = Some([normalised(1.0), normalised(0.5)]),
        2.0,
    );
    for (a, b) in as_it_is.iter().zip(&rescaled) {
        assert!((a - b).abs() < 1e-5);
    }
    let larger = loss(&|teacher| teacher.size = 40, 1.0);
    assert!(
        as_it_is
            .iter()
            .zip(&larger)
            .any(|(a, b)| (a - b).abs() > 1e-3)
    );
}

#[test]
fn every_trained_parameter_has_a_gradient() {
    for (feature_weight, patch_weight) in [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)] {
        let config = DistillConfig {
            feature_weight,
            patch_weight,
            ..small()
        };
        let mut method = new(&config);
        let report = take(&mut method, views(3, varied(0)), 0);
        assert_eq!(report.grad_norms.len(), method.trained_names().len());
    }
}

/// Crops that come again are the same to the student, whether the teacher's outputs are kept or not, and
/// whether what was kept is whole.
#[test]
fn what_is_kept_changes_nothing() {
    let config = DistillConfig {
        repeated_crops: true,
        ..adapted()
    };
    let root = tempfile::tempdir().unwrap();
    let run = |folder: Option<&std::path::Path>, steps: std::ops::Range<u64>| {
        let mut method = new(&config);
        if let Some(folder) = folder {
            method.keep_in(folder).unwrap();
        }
        for step in steps {
            let first = step as usize % 3 * 4;
            // The last image of each batch is another one in later rounds.
            let images = [
                views_of(first..first + 3),
                views_of(20 + step as usize..21 + step as usize),
            ];
            method.step(&images, &hyperparams(step, 0.01)).unwrap();
        }
        method.state()
    };
    let without = run(None, 0..9);
    let folder = root.path().join("kept");
    assert_eq!(run(Some(&folder), 0..9), without);
    let files = || -> Vec<_> {
        let of_teacher = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
        let files = std::fs::read_dir(of_teacher.path()).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    };
    // Two views each of three batches of three images, and of nine more.
    let [file] = &files()[..] else {
        panic!("one size, one file")
    };
    let bytes = std::fs::read(file).unwrap();
    let record = 20 + 2 * (24 + 16 * 12);
    assert_eq!(bytes.len(), (2 * 9 + 2 * 9) * record);
    assert_eq!(run(Some(&folder), 0..9), without);
    assert_eq!(std::fs::read(file).unwrap(), bytes);
    // What is kept is used.
    let damaged: Vec<u8> = bytes
        .chunks(record)
        .flat_map(|record| {
            let mut record = record.to_vec();
            record[24] ^= 0x80;
            let sum = [&record[..16], &record[20..]].concat();
            record[16..20].copy_from_slice(&crc32fast::hash(&sum).to_le_bytes());
            record
        })
        .collect();
    std::fs::write(file, damaged).unwrap();
    assert_ne!(run(Some(&folder), 0..9), without);
    // Damage that shows, and a record that was cut off.
    let mut damaged = bytes.clone();
    damaged[record + 30] ^= 1;
    damaged.truncate(bytes.len() - 3);
    std::fs::write(file, damaged).unwrap();
    assert_eq!(run(Some(&folder), 0..9), without);
    // Another precision, another run.
    let plain = DistillConfig {
        repeated_crops: false,
        ..config.clone()
    };
    let mut plain = new(&plain);
    plain.keep_in(&root.path().join("nothing")).unwrap();
    plain
        .step(&[views_of(0..3)], &hyperparams(0, 0.01))
        .unwrap();
    assert!(!root.path().join("nothing").exists());
}

#[test]
fn what_it_cannot_do_is_refused() {
    for (config, field) in [
        (
            DistillConfig {
                feature_weight: -1.0,
                ..small()
            },
            "teacher-feature-weight",
        ),
        (
            DistillConfig {
                feature_weight: 0.0,
                patch_weight: 0.0,
                ..small()
            },
            "teacher-patch-weight",
        ),
    ] {
        let error = Distill::new(&config, teacher(), &device()).err().unwrap();
        assert!(error.to_string().starts_with(field), "{error}");
    }
    let grey = VitConfig {
        channels: 1,
        width: 8,
        heads: 2,
        depth: 1,
        ..VitConfig::default()
    };
    let error = Distill::new(&small(), teacher_of(&grey.into(), 1), &device());
    let error = error.err().unwrap().to_string();
    assert!(
        error.starts_with("teacher-weights") && error.contains("1 channels, not of 3"),
        "{error}"
    );
    let config = DistillConfig {
        backbone: resnet(),
        ..small()
    };
    let shape = BatchShape {
        micro_batch: 4,
        accumulate: 2,
    };
    let error = new(&config).check(shape).unwrap_err().to_string();
    assert!(error.contains("batch normalisation"), "{error}");
    assert!(new(&small()).check(shape).is_ok());
}
