//! DINOv2 against numbers derived independently in PyTorch (`fixtures/dinov2/README.md`), its gradients against
//! finite differences, and what it does with few and equal images and with parts of a batch.

use std::collections::BTreeMap;

use crate::common::device;
use crate::common::golden::*;
use crate::common::joint_embedding::{take, varied, views};
use burn::tensor::{Tensor, TensorData};
use dinolab_nn::weights::{LoadOptions, Weights, load};
use dinolab_nn::{
    HeadConfig, LoraConfig, MaskedNetwork, Parameters, PatchHeadConfig, ResNetConfig, VitConfig,
    ops,
};
use dinolab_train::checkpoint::{Checkpoint, TrainState, save};
use dinolab_train::{
    AdaptConfig, AverageSchedule, BatchShape, Centering, DinoSchedule, DinoV2, DinoV2Config,
    IbotConfig, MaskConfig, Method, OptimiserKind, Schedule, ScheduleConfig, StepHyperparams,
    StepMasks, Views,
};
use serde_json::Value;

fn head(out_dim: usize) -> HeadConfig {
    HeadConfig {
        hidden_dim: 16,
        bottleneck_dim: 8,
        out_dim,
        ..HeadConfig::default()
    }
}

fn small() -> DinoV2Config {
    DinoV2Config {
        backbone: VitConfig {
            image_size: 16,
            patch_size: 4,
            width: 8,
            depth: 2,
            heads: 2,
            ..Default::default()
        }
        .into(),
        head: head(12),
        ibot: Some(IbotConfig {
            head: PatchHeadConfig::Apart(head(10)),
            ..IbotConfig::default()
        }),
        freeze_last_layer: 0,
        drop_path: 0.2,
        seed: 4,
        ..DinoV2Config::default()
    }
}

fn shared() -> DinoV2Config {
    DinoV2Config {
        centering: Centering::Centre,
        ibot: Some(IbotConfig {
            head: PatchHeadConfig::Shared,
            weight: 0.7,
            ..IbotConfig::default()
        }),
        average: Some(AverageSchedule {
            momentum: 0.9,
            momentum_end: 0.99,
        }),
        ..small()
    }
}

fn adapted() -> DinoV2Config {
    DinoV2Config {
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

fn masks_of(value: &Value) -> Vec<Vec<usize>> {
    let places = |view: &Value| view.as_array().unwrap().iter().map(size).collect();
    value.as_array().unwrap().iter().map(places).collect()
}

#[test]
fn the_loss_of_masked_patches_and_its_gradient() {
    for case in json("dinov2/loss.json")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let masks = masks_of(&case["masks"]);
        // The weights as the method has them.
        let views = masks.len() as f32;
        let weights = masks.iter().flat_map(|places| {
            std::iter::repeat_n(1.0 / (places.len() as f32 * views), places.len())
        });
        let student = tensor::<2>(&array(&case["student"]), &device());
        let student = Tensor::from_inner(student).require_grad();
        let targets = Tensor::from_inner(tensor(&array(&case["targets"]), &device()));
        let value = ops::weighted_cross_entropy(student.clone(), targets, weights.collect(), 0.1);
        let found = f64::from(value.clone().into_scalar::<f32>());
        near(name, found, &case["value"], 1e-4);
        let gradient = to_host_f32(student.grad(&value.backward()).unwrap());
        close(name, &gradient, &array(&case["grad"]).data, 1e-4, 1e-4);
    }
}

#[test]
fn six_steps_with_sinkhorn_and_a_head_apart_follow_pytorch() {
    six_steps("sinkhorn_apart");
}

#[test]
fn six_steps_with_centres_and_a_shared_head_follow_pytorch() {
    six_steps("centre_shared");
}

fn six_steps(name: &str) {
    let log = json(&format!("dinov2/{name}.json"));
    let inputs = arrays("training/inputs.safetensors");
    let c = &log["config"];
    let head = |out_dim: usize| HeadConfig {
        out_dim,
        hidden_dim: size(&c["head_hidden_dim"]),
        bottleneck_dim: size(&c["bottleneck_dim"]),
        ..HeadConfig::default()
    };
    let apart = c["ibot_head"] == "apart";
    let config = DinoV2Config {
        backbone: VitConfig {
            image_size: size(&c["img_size"]),
            patch_size: size(&c["patch_size"]),
            width: size(&c["embed_dim"]),
            depth: size(&c["depth"]),
            heads: size(&c["num_heads"]),
            ..Default::default()
        }
        .into(),
        head: head(size(&c["out_dim"])),
        ibot: Some(IbotConfig {
            weight: number(&c["ibot_weight"]),
            head: match apart {
                true => PatchHeadConfig::Apart(head(size(&c["ibot_out_dim"]))),
                false => PatchHeadConfig::Shared,
            },
            masks: MaskConfig::default(),
        }),
        optimizer: OptimiserKind::AdamW,
        clip_grad: number(&c["clip_grad"]),
        freeze_last_layer: c["freeze_last_layer"].as_u64().unwrap(),
        student_temp: number(&c["student_temp"]),
        centering: match c["centering"] == "sinkhorn" {
            true => Centering::Sinkhorn,
            false => Centering::Centre,
        },
        center_momentum: number(&c["center_momentum"]),
        koleo_weight: number(&c["koleo_weight"]),
        schedule: DinoSchedule {
            momentum_teacher: number(&c["momentum_teacher"]),
            momentum_teacher_end: number(&c["momentum_teacher_end"]),
            warmup_teacher_temp: number(&c["warmup_teacher_temp"]),
            teacher_temp: number(&c["teacher_temp"]),
            warmup_teacher_temp_epochs: c["warmup_teacher_temp_epochs"].as_u64().unwrap(),
        },
        drop_path: 0.0,
        ..small()
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
    let mut method = DinoV2::new(&config, &device()).unwrap();
    let mut start = arrays("dinov2/initial.safetensors");
    start.retain(|name, _| apart || !name.starts_with("ibot_head"));
    for (name, array) in &inputs {
        if let Some(name) = name.strip_prefix("init.student.") {
            start.insert(name.to_owned(), array.clone());
        }
    }
    let weights = Weights {
        arrays: start.clone(),
        ..Weights::default()
    };
    for network in [&mut method.student, &mut method.teacher] {
        let report = load(network, "", &weights, LoadOptions::default()).unwrap();
        assert!(
            report.left_over.is_empty() && report.missing.is_empty(),
            "{report}"
        );
    }
    let steps = log["log"].as_array().unwrap();
    let joined = size(&c["joined_steps"]);
    for (step, expected) in steps.iter().enumerate() {
        let hp = schedule.at(step as u64);
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
            local: Some(Tensor::cat((2..6).map(crop).collect(), 0)),
        };
        let masks = StepMasks::new(views.batch, masks_of(&expected["masks"]));
        let report = method.step_masked(&[views], &hp, &masks).unwrap();
        near("loss", report.loss, &expected["loss"], 1e-4);
        let names: Vec<_> = report.terms.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["dino", "ibot", "koleo"]);
        for (name, value) in &report.terms {
            near(name, *value, &expected[*name], 1e-4);
        }
        for (name, value) in &report.scheduled {
            let golden = match *name {
                "momentum" => &expected["teacher_momentum"],
                name => &expected[name],
            };
            near(name, *value, golden, 1e-9);
        }
        let order = method.trained_names();
        assert_eq!(order.len(), report.grad_norms.len());
        let theirs = log["names"].as_array().unwrap().iter();
        let theirs = theirs.zip(expected["grad_norms"].as_array().unwrap());
        let theirs: BTreeMap<_, _> = theirs
            .map(|(name, norm)| (name.as_str().unwrap(), number(norm)))
            .collect();
        assert_eq!(order.len(), theirs.len());
        for (name, ours) in order.iter().zip(&report.grad_norms) {
            let (ours, theirs) = (f64::from(*ours), theirs[name.as_str()]);
            assert!(
                (ours - theirs).abs() <= 2e-3 * theirs + 1e-5,
                "step {step}, {name}: {ours} {theirs}"
            );
        }
    }
    for (who, network) in [("student", &method.student), ("teacher", &method.teacher)] {
        network.visit("", &mut |name, param| {
            // Softmax cancels the keys' bias: Adam scales rounding up to steps.
            if name.ends_with("attn.qkv.bias") {
                return;
            }
            let golden = &log["final"][who][name];
            let values = param.to_vec();
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
                "{who} {name}: {pattern} {golden}"
            );
        });
    }
}

/// Two sizes of views of images number `images`, each image with pixels of its own.
fn views_of(images: std::ops::Range<usize>) -> Views {
    let make = |views: usize, side: usize| {
        let mut data = Vec::new();
        for view in 0..views {
            for image in images.clone() {
                let pixel = varied((view * 100 + image) as u64);
                data.extend((0..3 * side * side).map(pixel));
            }
        }
        let shape = [views * images.len(), 3, side, side];
        Tensor::from_data(TensorData::new(data, shape), &device())
    };
    Views {
        batch: images.len(),
        global: make(2, 16),
        local: Some(make(3, 8)),
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
    for config in [small(), shared(), adapted()] {
        let config = DinoV2Config {
            optimizer: OptimiserKind::Sgd,
            clip_grad: 0.0,
            drop_path: 0.0,
            average: None,
            ..config
        };
        // Away from the initial weights, whose mask token is 0, and whose features are so much alike that rounding
        // decides on their distances.
        let start = || {
            let mut method = DinoV2::new(&config, &device()).unwrap();
            let mut number = 0;
            method.student.visit_mut("", &mut |_, param| {
                number += 1;
                if param.trainable() {
                    let values = param.to_vec().into_iter().zip((0..).map(varied(number)));
                    let moved: Vec<f32> =
                        values.map(|(value, other)| value + 0.2 * other).collect();
                    let shape = [moved.len()];
                    param.set_flat(Tensor::from_data(TensorData::new(moved, shape), &device()));
                }
            });
            for step in 0..3 {
                method
                    .step(&[views_of(10..14)], &hyperparams(step, 0.05))
                    .unwrap();
            }
            method
        };
        let loss = |method: &mut DinoV2| {
            let report = method
                .step(&[views_of(0..4)], &hyperparams(3, 1.0))
                .unwrap();
            report.loss
        };
        let values = |network: &MaskedNetwork| {
            let mut all = BTreeMap::new();
            network.visit("", &mut |name, param| {
                if param.trainable() {
                    all.insert(name.to_owned(), param.to_vec());
                }
            });
            all
        };
        let mut method = start();
        let before = values(&method.student);
        let moments = method.state();
        loss(&mut method);
        let after = values(&method.student);
        let mut names = vec!["backbone.mask_token", "head.last_layer.weight_v"];
        names.extend(match config.adapt.lora {
            Some(_) => vec![
                "lora.backbone.blocks.0.attn.qkv.queries.b",
                "lora.backbone.blocks.1.mlp.fc2.all.a",
            ],
            None => vec![
                "backbone.patch_embed.proj.weight",
                "backbone.pos_embed",
                "backbone.blocks.1.mlp.fc2.weight",
            ],
        });
        if method.student.patch_head.is_some() {
            names.extend(["ibot_head.mlp.0.weight", "ibot_head.last_layer.weight_v"]);
        }
        for name in names {
            // The momentum buffer is 0.9 times that of before plus the gradient.
            let buffer = &moments.tensors[&format!("optimiser.0.{name}")].data;
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
                loss(&mut method)
            };
            let difference = (moved(1.0) - moved(-1.0)) / (2.0 * h);
            assert!(
                (difference - length).abs() < 0.005 * length + 1e-4,
                "{name}: {difference} {length}"
            );
        }
    }
}

/// With nothing that looks for neighbours, cutting a batch changes rounding alone; a micro-batch without masked
/// patches is among those.
#[test]
fn micro_batches_equal_a_large_batch() {
    for config in [small(), shared(), adapted()] {
        let config = DinoV2Config {
            koleo_weight: 0.0,
            ..config
        };
        let masks = |batch: usize| {
            let views = (0..2 * batch).map(|view| match view % batch {
                // Both views of the last two images are seen in full.
                image if image + 2 >= batch => Vec::new(),
                image => vec![image, 5 + view],
            });
            StepMasks::new(batch, views.collect())
        };
        let run = |size: usize| {
            let mut method = DinoV2::new(&config, &device()).unwrap();
            let mut losses = Vec::new();
            for step in 0..3 {
                let parts = (0..6).step_by(size).map(|first| first..first + size);
                let views: Vec<_> = parts.map(views_of).collect();
                let report = method.step_masked(&views, &hyperparams(step, 0.01), &masks(6));
                losses.push(report.unwrap().loss);
            }
            (losses, method.state())
        };
        let ((whole, state), (cut, cut_state)) = (run(6), run(2));
        for (a, b) in whole.iter().zip(&cut) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let (mut squares, mut all) = (0.0, 0.0);
        for (name, array) in state
            .tensors
            .iter()
            .filter(|(name, _)| !name.starts_with("optimiser"))
        {
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
    for config in [small(), shared(), adapted()] {
        for (batch, equal) in [(1, false), (4, true)] {
            let mut method = DinoV2::new(&config, &device()).unwrap();
            for step in 0..10 {
                let views = match equal {
                    true => views(batch, |_| 0.25),
                    false => views(batch, varied(step)),
                };
                let report = take(&mut method, views, step);
                assert!(report.loss.is_finite());
                assert!(report.grad_norms.iter().all(|norm| norm.is_finite()));
                let patches = report.outputs.patches.unwrap();
                assert!(patches.masked > 0.0 && patches.masked < 0.5);
                let [rows, prototypes] = patches.teacher.unwrap().dims();
                assert_eq!(prototypes, patches.prototypes);
                let masked = (patches.masked * (2 * batch * 16) as f64).round() as usize;
                assert_eq!(rows, masked);
            }
            assert_eq!(method.state().not_finite(), None);
        }
    }
}

#[test]
fn a_restored_run_continues_exactly() {
    for config in [small(), shared(), adapted()] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = DinoV2::new(&config, &device()).unwrap();
        for step in 0..3 {
            take(&mut first, views(3, varied(step)), step);
        }
        let position = TrainState::default();
        let path = save(folder.path(), &first, &position, &BTreeMap::new()).unwrap();
        let mut second = DinoV2::new(&config, &device()).unwrap();
        take(&mut second, views(3, varied(9)), 9);
        let checkpoint = Checkpoint::read(&path).unwrap();
        assert_eq!(checkpoint.method(), "dinov2");
        checkpoint.restore(&mut second).unwrap();
        assert_eq!(second.state(), first.state());
        for step in 3..6 {
            let losses = [&mut first, &mut second]
                .map(|method| take(method, views(3, varied(step)), step).loss);
            assert_eq!(losses[0], losses[1]);
        }
        assert_eq!(second.state(), first.state());
        let token = &first.state().tensors["teacher.backbone.mask_token"];
        assert_eq!(token.shape, [1, 8]);
        assert!(token.data.iter().any(|&value| value != 0.0));
    }
}

/// Backbone, mask token and both heads.
#[test]
fn a_run_starts_from_all_that_another_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = DinoV2::new(&small(), &device()).unwrap();
    for step in 0..3 {
        take(&mut first, views(3, varied(step)), step);
    }
    let position = TrainState::default();
    let path = save(folder.path(), &first, &position, &BTreeMap::new()).unwrap();
    let weights = dinolab_nn::weights::read(&path, None).unwrap();
    let mut second = DinoV2::new(&DinoV2Config { seed: 9, ..small() }, &device()).unwrap();
    let report = second.start_from(&weights, LoadOptions::default()).unwrap();
    assert!(
        report.left_over.is_empty() && report.missing.is_empty(),
        "{report}"
    );
    let (first, second) = (first.state(), second.state());
    for (name, array) in &first.tensors {
        let Some(part) = name.strip_prefix("teacher.") else {
            continue;
        };
        for who in ["student", "teacher"] {
            assert_eq!(
                &second.tensors[&format!("{who}.{part}")],
                array,
                "{who}: {part}"
            );
        }
    }
}

/// The same loss as DINO's, and nothing of patches in the state.
#[test]
fn without_masked_patches_there_is_no_mask_token() {
    let config = DinoV2Config {
        ibot: None,
        ..small()
    };
    let mut method = DinoV2::new(&config, &device()).unwrap();
    let report = take(&mut method, views(3, varied(0)), 0);
    let names: Vec<_> = report.terms.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["dino", "koleo"]);
    assert!(report.outputs.patches.is_none());
    assert_eq!(method.trained_names().len(), report.grad_norms.len());
    let state = method.state();
    let of_patches = |name: &&String| name.contains("mask_token") || name.contains("ibot");
    assert_eq!(state.tensors.keys().find(of_patches), None);
}

#[test]
fn what_it_cannot_do_is_refused() {
    let method = DinoV2::new(&small(), &device()).unwrap();
    let shape = |accumulate| BatchShape {
        micro_batch: 4,
        accumulate,
    };
    assert!(method.check(shape(1)).is_ok());
    let error = method.check(shape(2)).unwrap_err().to_string();
    assert!(
        error.contains("accumulate") && error.contains("KoLeo"),
        "{error}"
    );
    let alone = DinoV2Config {
        koleo_weight: 0.0,
        ..small()
    };
    let alone = DinoV2::new(&alone, &device()).unwrap();
    assert!(alone.check(shape(2)).is_ok());
    let ibot = |change: fn(&mut IbotConfig)| {
        let mut ibot = IbotConfig::default();
        change(&mut ibot);
        DinoV2Config {
            ibot: Some(ibot),
            ..small()
        }
    };
    for (config, field) in [
        (ibot(|ibot| ibot.weight = -1.0), "ibot-weight"),
        (
            ibot(|ibot| ibot.masks.probability = 2.0),
            "mask-sample-probability",
        ),
        (ibot(|ibot| ibot.masks.ratio = (0.6, 0.5)), "mask-ratio"),
        (
            DinoV2Config {
                koleo_weight: f64::NAN,
                ..small()
            },
            "koleo-weight",
        ),
        (
            DinoV2Config {
                backbone: ResNetConfig::named("resnet18").unwrap().into(),
                ..small()
            },
            "arch",
        ),
    ] {
        let error = DinoV2::new(&config, &device()).err().unwrap().to_string();
        assert!(error.starts_with(field), "{error}");
    }
}
