//! Several processes train what one does. Here they are threads.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use dinolab_comm::{Communicator, Local};
use dinolab_data::augment::MultiCrop;
use dinolab_data::loader::UnusableImage;
use dinolab_data::shapes::Shapes;
use dinolab_data::{LoaderConfig, Size};
use dinolab_nn::init::Init;
use dinolab_nn::{
    AnyBackbone, BottleneckConfig, Feature, HeadConfig, LoraConfig, PatchHeadConfig,
    ProjectionConfig, ResNetConfig, VitConfig, device,
};
use dinolab_train::checkpoint::Checkpoint;
use dinolab_train::{
    AdaptConfig, Centering, Dino, DinoConfig, DinoV2, DinoV2Config, Distill, DistillConfig, Error,
    Event, FrozenTeacher, IbotConfig, JointEmbedding, JointEmbeddingConfig, LeJepaObjective,
    MaskConfig, Method, Observer, OptimiserKind, Ranks, Result, RunOutcome, ScheduleConfig,
    SimDino, SimDinoConfig, State, TrainConfig, Trainer, VisRegObjective,
};

use crate::common::threads::Threads;

const STEPS: u64 = 6;
const BATCH: usize = 16;

fn vit() -> VitConfig {
    VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 16,
        depth: 2,
        heads: 2,
        ..VitConfig::default()
    }
}

fn joint<O>(objective: O) -> JointEmbeddingConfig<O> {
    JointEmbeddingConfig {
        backbone: vit().into(),
        feature: Default::default(),
        head: ProjectionConfig {
            hidden_dim: 24,
            out_dim: 8,
            layers: 3,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: 3.0,
        objective,
        directions: 32,
        average_momentum: 0.9,
        average_momentum_end: 0.99,
        drop_path: 0.2,
        patch_drop: 0.3,
        seed: 4,
        precision: Default::default(),
        adapt: Default::default(),
    }
}

fn dino() -> DinoConfig {
    DinoConfig {
        backbone: vit().into(),
        head: HeadConfig {
            hidden_dim: 24,
            bottleneck_dim: 12,
            out_dim: 48,
            ..HeadConfig::default()
        },
        drop_path: 0.2,
        patch_drop: 0.3,
        freeze_last_layer: 0,
        ..DinoConfig::default()
    }
}

fn simdino() -> SimDinoConfig {
    SimDinoConfig {
        backbone: vit().into(),
        feature: Default::default(),
        head: BottleneckConfig {
            hidden_dim: 24,
            out_dim: 8,
            layers: 3,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: 3.0,
        coding_rate_weight: 0.5,
        coding_rate_epsilon: 0.5,
        momentum_teacher: 0.9,
        momentum_teacher_end: 1.0,
        average: None,
        drop_path: 0.2,
        patch_drop: 0.3,
        seed: 4,
        precision: Default::default(),
        adapt: Default::default(),
    }
}

/// Preserved features and a change of low rank.
fn adapt() -> AdaptConfig {
    AdaptConfig {
        preserve: 2.0,
        lora: Some(LoraConfig {
            rank: 2,
            alpha: 4.0,
        }),
        ..AdaptConfig::default()
    }
}

fn dinov2() -> DinoV2Config {
    let DinoConfig { backbone, head, .. } = dino();
    DinoV2Config {
        backbone,
        ibot: Some(IbotConfig {
            head: PatchHeadConfig::Apart(HeadConfig {
                out_dim: 20,
                ..head.clone()
            }),
            masks: MaskConfig {
                probability: 0.1,
                ..MaskConfig::default()
            },
            ..IbotConfig::default()
        }),
        head,
        drop_path: 0.2,
        freeze_last_layer: 0,
        ..DinoV2Config::default()
    }
}

/// From a teacher with another number of patches.
fn distill(adapt: AdaptConfig) -> Distill {
    let device = device::by_name("cpu").unwrap();
    let teacher = VitConfig {
        patch_size: 16,
        width: 24,
        ..vit()
    };
    let teacher = AnyBackbone::new(&teacher.into(), &mut Init::new(9), &device).unwrap();
    let config = DistillConfig {
        backbone: vit().into(),
        drop_path: 0.2,
        adapt,
        ..DistillConfig::default()
    };
    let teacher = FrozenTeacher::new(teacher, Feature::Both);
    Distill::new(&config, teacher, &device).unwrap()
}

/// Every method, and every way in which DINO and DINOv2 look at a whole batch. So few views are masked that some
/// processes have none.
const METHODS: [&str; 13] = [
    "dino",
    "sinkhorn",
    "terms",
    "lejepa",
    "visreg",
    "simdino",
    "dinov2",
    "ibot",
    "adapted dino",
    "adapted lejepa",
    "distill",
    "adapted distill",
    "adapted dinov2",
];

/// Networks with batch normalisation, whose statistics are those of the whole batch.
const BATCH_NORM: [&str; 4] = [
    "resnet dino",
    "resnet lejepa",
    "resnet simdino",
    "normalised head",
];

fn resnet() -> ResNetConfig {
    ResNetConfig {
        channels: 3,
        width: 4,
        blocks: [1, 1, 1, 1],
        bottleneck: false,
    }
}

fn method(name: &str) -> Box<dyn Method> {
    let device = device::by_name("cpu").unwrap();
    let of_dino = |config: DinoConfig| Box::new(Dino::new(&config, &device).unwrap());
    match name {
        "dino" => of_dino(dino()),
        "sinkhorn" => of_dino(DinoConfig {
            centering: Centering::Sinkhorn,
            ..dino()
        }),
        "normalised head" => of_dino(DinoConfig {
            head: HeadConfig {
                use_bn: true,
                ..dino().head
            },
            ..dino()
        }),
        "terms" => of_dino(DinoConfig {
            koleo_weight: 0.1,
            sigreg_weight: 0.05,
            sigreg_directions: 32,
            ..dino()
        }),
        "resnet dino" => of_dino(DinoConfig {
            backbone: resnet().into(),
            patch_drop: 0.0,
            ..dino()
        }),
        "resnet lejepa" => {
            let config = joint(LeJepaObjective {
                sigreg_weight: 0.05,
            });
            let config = JointEmbeddingConfig {
                backbone: resnet().into(),
                patch_drop: 0.0,
                ..config
            };
            Box::new(JointEmbedding::new(&config, &device).unwrap())
        }
        "resnet simdino" => {
            let config = SimDinoConfig {
                backbone: resnet().into(),
                patch_drop: 0.0,
                ..simdino()
            };
            Box::new(SimDino::new(&config, &device).unwrap())
        }
        "adapted dino" => of_dino(DinoConfig {
            adapt: adapt(),
            ..dino()
        }),
        "adapted lejepa" => {
            let config = joint(LeJepaObjective {
                sigreg_weight: 0.05,
            });
            let config = JointEmbeddingConfig {
                adapt: adapt(),
                ..config
            };
            Box::new(JointEmbedding::new(&config, &device).unwrap())
        }
        "lejepa" => {
            let config = joint(LeJepaObjective {
                sigreg_weight: 0.05,
            });
            Box::new(JointEmbedding::new(&config, &device).unwrap())
        }
        "visreg" => {
            let config = joint(VisRegObjective { visreg_weight: 0.5 });
            Box::new(JointEmbedding::new(&config, &device).unwrap())
        }
        "simdino" => Box::new(SimDino::new(&simdino(), &device).unwrap()),
        "adapted dinov2" => {
            let config = DinoV2Config {
                adapt: adapt(),
                ..dinov2()
            };
            Box::new(DinoV2::new(&config, &device).unwrap())
        }
        "dinov2" => Box::new(DinoV2::new(&dinov2(), &device).unwrap()),
        "ibot" => {
            let config = DinoV2Config {
                centering: Centering::Centre,
                ibot: Some(IbotConfig {
                    head: PatchHeadConfig::Shared,
                    ..dinov2().ibot.unwrap()
                }),
                koleo_weight: 0.0,
                ..dinov2()
            };
            Box::new(DinoV2::new(&config, &device).unwrap())
        }
        "distill" => Box::new(distill(AdaptConfig::default())),
        "adapted distill" => Box::new(distill(adapt())),
        other => panic!("no method {other}"),
    }
}

fn config(accumulate: usize) -> TrainConfig {
    TrainConfig {
        schedule: ScheduleConfig {
            epochs: STEPS as f64 / 3.0,
            warmup_epochs: 0.0,
            lr: 2e-3,
            ..ScheduleConfig::default()
        },
        crops: MultiCrop {
            global_size: Size::square(32),
            local_size: Size::square(16),
            local_views: 2,
            ..MultiCrop::default()
        },
        loader: LoaderConfig {
            batch_size: BATCH / accumulate,
            workers: 1,
            ..LoaderConfig::default()
        },
        accumulate,
        config: "method = \"tested\"".into(),
        ..TrainConfig::default()
    }
}

/// Losses and outputs of a run.
#[derive(Default)]
struct Watch {
    losses: Vec<f64>,
    /// Values of the features and, of DINO, the teacher's logits, of every step.
    outputs: Vec<f32>,
    stop_after: Option<usize>,
}

impl Observer for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }
    fn on(&mut self, event: &Event, _: &dyn Method) -> Result<()> {
        if let Event::Stepped { report, .. } = event {
            self.losses.push(report.loss);
            let outputs = &report.outputs;
            let prototypes = outputs.prototypes.as_ref();
            let logits = prototypes.map(|outputs| outputs.teacher.clone());
            for rows in [Some(outputs.features.clone()), logits]
                .into_iter()
                .flatten()
            {
                self.outputs.extend(device::to_host_f32(rows));
            }
        }
        Ok(())
    }
    fn stop_requested(&self) -> bool {
        self.stop_after
            .is_some_and(|steps| self.losses.len() >= steps)
    }
}

struct Run {
    watch: Watch,
    state: State,
    outcome: RunOutcome,
}

/// One process of a run with its checkpoints in `folder`.
fn process(
    name: &str,
    ranks: Ranks,
    folder: &Path,
    accumulate: usize,
    mut watch: Watch,
) -> Result<Run> {
    let config = config(accumulate);
    let newest = Checkpoint::latest(folder)?.map(|(newest, _)| newest);
    // All have read before one writes.
    ranks.comm().barrier()?;
    let source = Arc::new(Shapes::new(0, 3 * BATCH));
    let trainer = Trainer::among(ranks, &config, method(name), source, folder, newest)?;
    let (method, outcome) = trainer.run(&mut [&mut watch])?;
    Ok(Run {
        watch,
        state: method.state(),
        outcome,
    })
}

/// The processes of a run, of which the last is asked to stop after some steps. Shards, where their
/// number is given, make it reproducible.
fn processes(
    name: &str,
    size: usize,
    shards: Option<usize>,
    folder: &Path,
    (accumulate, stop_after): (usize, Option<usize>),
) -> Vec<Result<Run>> {
    thread::scope(|scope| {
        let start = |end: Threads| {
            scope.spawn(move || {
                let watch = Watch {
                    stop_after: stop_after.filter(|_| end.rank() + 1 == size),
                    ..Watch::default()
                };
                let comm = Rc::new(end);
                let ranks = match shards {
                    None => Ranks::new(comm),
                    Some(shards) => Ranks::reproducible(comm, shards)?,
                };
                process(name, ranks, folder, accumulate, watch)
            })
        };
        let threads: Vec<_> = Threads::connected(size).into_iter().map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// A whole run: the first process' losses and outputs, and the state, which is that of all.
fn run(name: &str, size: usize, shards: Option<usize>, accumulate: usize) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = processes(name, size, shards, folder.path(), (accumulate, None));
    let first = runs.remove(0).unwrap();
    assert_eq!(first.watch.losses.len() as u64, STEPS);
    for other in runs {
        assert!(other.unwrap().state == first.state, "{name}: states differ");
    }
    let newest = Checkpoint::latest(folder.path()).unwrap().unwrap().0;
    assert_eq!(newest.position.step, STEPS);
    first
}

/// Biases that batch normalisation takes off again: their gradients vanish but for rounding, which
/// Adam scales to whole steps.
const VANISHING: [&str; 3] = ["backbone.norm.bias", "head.mlp.0.bias", "head.mlp.3.bias"];

/// Root mean square difference of all weights over their root mean square.
fn difference(a: &State, b: &State) -> f64 {
    let (mut squares, mut all) = (0.0, 0.0);
    let normalised = ["network.head.mlp.0.bias", "student.head.mlp.1.running_mean"];
    let normalised = normalised.iter().any(|name| a.tensors.contains_key(*name));
    for (name, array) in &a.tensors {
        let vanishes = normalised && VANISHING.iter().any(|bias| name.ends_with(bias));
        if vanishes || name.starts_with("optimiser") {
            continue;
        }
        for (x, y) in array.data.iter().zip(&b.tensors[name].data) {
            squares += f64::from(x - y).powi(2);
            all += f64::from(*x).powi(2);
        }
    }
    (squares / all).sqrt()
}

#[test]
fn any_number_of_processes_trains_as_one_but_for_rounding() {
    for name in METHODS.into_iter().chain(BATCH_NORM) {
        let one = run(name, 1, None, 1);
        for size in [2, 4] {
            let several = run(name, size, None, 1);
            for (step, (a, b)) in one
                .watch
                .losses
                .iter()
                .zip(&several.watch.losses)
                .enumerate()
            {
                assert!(
                    (a - b).abs() < 1e-4,
                    "{name}, {size} processes, step {step}: {a} {b}"
                );
            }
            let difference = difference(&one.state, &several.state);
            assert!(difference < 1e-3, "{name}, {size} processes: {difference}");
            let (a, b) = (&one.watch.outputs, &several.watch.outputs);
            assert_eq!(
                a.len(),
                b.len(),
                "{name}: figures of health are of the whole batch"
            );
            let largest = a
                .iter()
                .zip(b)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(
                largest < 1e-2,
                "{name}, {size} processes: outputs differ by {largest}"
            );
        }
    }
}

#[test]
fn with_a_number_of_shards_the_bits_do_not_depend_on_the_processes() {
    for name in METHODS {
        let one = run(name, 1, Some(4), 1);
        for size in [2, 4] {
            let several = run(name, size, Some(4), 1);
            assert!(
                one.watch.losses == several.watch.losses,
                "{name}, {size}: losses"
            );
            assert!(
                one.watch.outputs == several.watch.outputs,
                "{name}, {size}: outputs"
            );
            assert!(one.state == several.state, "{name}, {size}: states");
        }
    }
}

#[test]
fn micro_batches_are_divided_as_well() {
    let one = run("dino", 1, None, 1);
    let plain = run("dino", 2, None, 2);
    let difference = difference(&one.state, &plain.state);
    assert!(difference < 1e-3, "{difference}");
    for name in ["dino", "sinkhorn"] {
        let one = run(name, 1, Some(4), 2);
        for size in [2, 4] {
            assert!(
                one.state == run(name, size, Some(4), 2).state,
                "{name}, {size}"
            );
        }
    }
}

#[test]
fn a_process_that_is_asked_to_stop_stops_all_and_another_number_goes_on() {
    for name in METHODS {
        let unbroken = run(name, 1, Some(4), 1);
        let folder = tempfile::tempdir().unwrap();
        let mut losses = Vec::new();
        for (size, stop_after) in [(4, Some(2)), (1, Some(1)), (2, None)] {
            let runs = processes(name, size, Some(4), folder.path(), (1, stop_after));
            let mut runs: Vec<Run> = runs.into_iter().map(Result::unwrap).collect();
            let stopped = stop_after.is_some();
            let interrupted = |run: &Run| (run.outcome == RunOutcome::Interrupted) == stopped;
            assert!(runs.iter().all(interrupted), "{name}, {size}");
            let first = runs.remove(0);
            losses.extend(first.watch.losses);
            if !stopped {
                assert!(first.state == unbroken.state, "{name}: states differ");
            }
        }
        assert_eq!(losses, unbroken.watch.losses, "{name}");
    }
}

/// The error of two processes.
fn refused(name: &str, size: usize, shards: Option<usize>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = processes(name, size, shards, folder.path(), (1, None));
    match runs.remove(0) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{name} is trained by {size} processes"),
    }
}

#[test]
fn what_cannot_be_divided_is_refused() {
    let three = refused("dino", 3, None);
    assert!(
        three.contains("batch-size: 16 images cannot be divided among 3 processes; give 15 or 18"),
        "{three}"
    );
    let shards = refused("dino", 1, Some(6));
    assert!(
        shards.contains("reproducible-ranks: must be a power of two"),
        "{shards}"
    );
    let more = refused("dino", 4, Some(2));
    assert!(
        more.contains("2 shards cannot be divided among 4 processes"),
        "{more}"
    );
    let parts = refused("resnet dino", 2, Some(4));
    assert!(parts.contains("start 4 processes"), "{parts}");
    let many = refused("lejepa", 1, Some(32));
    assert!(many.contains("among 32 shards; give 32"), "{many}");

    let parts = refused("normalised head", 2, Some(4));
    assert!(
        parts.contains("use-bn-in-head") && parts.contains("start 4 processes"),
        "{parts}"
    );
    let config = DinoV2Config {
        head: HeadConfig {
            use_bn: true,
            ..dino().head
        },
        ..dinov2()
    };
    let mut method = DinoV2::new(&config, &device::by_name("cpu").unwrap()).unwrap();
    let ranks = Ranks::reproducible(Rc::new(Local), 2).unwrap();
    let error = method.distribute(&ranks).unwrap_err().to_string();
    assert!(error.contains("use-bn-in-head"), "{error}");
    method.distribute(&Ranks::default()).unwrap();
}

/// Calls `f` in each of two connected threads.
fn in_two<T: Send>(f: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let f = &f;
        let start = |end| scope.spawn(move || f(Ranks::new(Rc::new(end))));
        let threads: Vec<_> = Threads::connected(2).into_iter().map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn states_that_drift_apart_are_found_with_the_tensor() {
    let errors = in_two(|ranks| {
        let mut state = method("lejepa").state();
        ranks.check_alike(1, || state.clone()).unwrap();
        if ranks.rank() == 1 {
            let bias = state.tensors.get_mut("network.backbone.norm.bias").unwrap();
            bias.data[3] += 1e-7;
        }
        ranks.check_alike(2, || state).unwrap_err()
    });
    for error in errors {
        let Error::Drift {
            step: 2,
            tensor,
            rank: 1,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(tensor, "network.backbone.norm.bias");
    }
}

#[test]
fn unusable_images_of_all_processes_count() {
    let image = |index: usize| UnusableImage {
        index,
        name: format!("{index}.jpg"),
        reason: "truncated".into(),
    };
    let found = in_two(|ranks| {
        let own = vec![image(7), image(ranks.rank())];
        let within = ranks
            .unusable(own.clone(), 100, 0.03)
            .map_err(|error| error.to_string());
        let beyond = ranks
            .unusable(own, 100, 0.02)
            .map_err(|error| error.to_string());
        (within, beyond)
    });
    for (within, beyond) in found {
        assert_eq!(within.unwrap(), [image(0), image(1), image(7)]);
        assert!(beyond.unwrap_err().contains("0.jpg (truncated)"));
    }
}

#[test]
fn different_settings_are_shown() {
    let found = in_two(|ranks| {
        let same = ranks.differing("seed = 0").unwrap();
        (
            same,
            ranks
                .differing(&format!("seed = {}", ranks.rank()))
                .unwrap(),
        )
    });
    for (same, different) in found {
        assert_eq!(same, None);
        assert_eq!(
            different,
            Some((1, ["seed = 0".to_owned(), "seed = 1".to_owned()]))
        );
    }
}
