use super::features::{MAX_FEATURES, Reservoir, scatter};
use super::remedy::short;
use super::rows::exp_below_zero;
use super::*;

/// Repeatable numbers, roughly normal.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64)
        .map(|i| {
            let sum: f64 = (0..4)
                .map(|j| scatter(seed * 1_000_003 + i * 4 + j) as f64 / u64::MAX as f64 - 0.5)
                .sum();
            (sum * 3f64.sqrt()) as f32
        })
        .collect()
}

const K: usize = 64;
const N: usize = 32;
const D: usize = 16;

struct Outputs {
    teacher: Vec<f32>,
    student: Vec<f32>,
    features: Vec<f32>,
    loss: f64,
}

fn epoch(epoch: usize, steps: u64, outputs: impl Fn(u64) -> Outputs) -> Health {
    let mut meter = HealthMeter::new(Some(K), N).unwrap();
    for step in 0..steps {
        let o = outputs(epoch as u64 * 1000 + step);
        meter.step(o.loss, Some(1.0));
        if step % 10 == 0 {
            meter
                .sample(&Sample {
                    features: &o.features,
                    feature_dim: D,
                    prototypes: Some(PrototypeSample {
                        teacher: &o.teacher,
                        student: &o.student,
                        centre: Some(&[0.0; K]),
                        teacher_temp: 0.04,
                        student_temp: 0.1,
                    }),
                    embeddings: None,
                })
                .unwrap();
        }
    }
    meter.close(epoch)
}

fn run(epochs: usize, outputs: impl Fn(usize, u64) -> Outputs) -> Vec<Health> {
    (0..epochs)
        .map(|e| epoch(e, 100, |seed| outputs(e, seed)))
        .collect()
}

fn context() -> Context {
    Context {
        images: 1000,
        epochs: 100.0,
        warmup_epochs: 2.0,
        lr: 0.0005,
        teacher: Some(TeacherContext {
            teacher_temp: 0.04,
            momentum_teacher: 0.996,
            center_momentum: 0.9,
            suited_out_dim: 1024,
        }),
        sigreg_weight: None,
        visreg_weight: None,
        coding_rate_weight: None,
        weight_decay_end: 0.4,
        clip_grad: None,
        reduced_precision: false,
    }
}

/// What a warning's remedies change.
fn changes(warning: &Warning) -> Vec<(Setting, f64)> {
    let lists = warning.remedies.iter().filter_map(|remedy| match remedy {
        Remedy::Resume(list) | Remedy::NewRun(list) => Some(list),
        _ => None,
    });
    lists.flatten().map(|a| (a.setting, a.to)).collect()
}

/// The failure modes found at each epoch of a run.
fn failures(run: &[Health]) -> Vec<Vec<FailureMode>> {
    (0..run.len())
        .map(|i| {
            let warnings = diagnose(&run[i], &run[..i], &context());
            warnings.iter().map(|w| w.failure).collect()
        })
        .collect()
}

fn learning(e: usize, seed: u64) -> Outputs {
    // Logits that differ between images ever more.
    let strength = 0.02 + 0.03 * e as f32;
    let teacher: Vec<f32> = noise(seed, N * K).iter().map(|v| v * strength).collect();
    Outputs {
        student: teacher.iter().map(|v| v * 1.5).collect(),
        teacher,
        features: noise(seed + 7, N * D),
        loss: 4.1 - 0.2 * e as f64,
    }
}

#[test]
fn a_healthy_run_is_left_alone() {
    let run = run(8, learning);
    assert_eq!(failures(&run), vec![vec![]; 8], "{run:#?}");
    assert!(run[7].mutual_information.unwrap() > run[1].mutual_information.unwrap());
    assert!(run[7].active_prototypes.unwrap() > 0.9);
    assert!(run[7].feature_rank.unwrap() > 14.0);
    assert!(run[7].feature_std.unwrap() > 0.95);
}

#[test]
fn constant_output() {
    let run = run(6, |e, seed| {
        let mut o = learning(e, seed);
        for row in o.teacher.chunks_mut(K) {
            row.fill(0.0);
            row[5] = 1.0;
        }
        o.student.clone_from(&o.teacher);
        o.loss = 0.001;
        o
    });
    assert_eq!(
        failures(&run)[5],
        [FailureMode::ConstantOutput],
        "{:?}",
        run[5]
    );
    assert!(run[5].teacher_entropy.unwrap() < 1e-6);
    assert!(run[5].marginal_entropy.unwrap() < 1e-6);
    assert_eq!(run[5].active_prototypes, Some(1.0 / K as f64));
    assert!(failures(&run)[0].is_empty() && failures(&run)[1].is_empty());
    let warning = &diagnose(&run[5], &run[..5], &context())[0];
    assert_eq!(
        changes(warning),
        [
            (Setting::TeacherMomentum, 0.998),
            (Setting::LearningRate, 0.00025),
            (Setting::TeacherTemp, 0.06)
        ]
    );
    let said = warning.to_string();
    assert!(
        said.contains("raise the teacher's momentum from 0.996 to 0.998; or lower the"),
        "{said}"
    );
    assert!(!said.contains("--"), "flags are the program's: {said}");
    assert!(warning.seen.contains("1.0 of 64"), "{warning}");
    // One image may have one answer.
    let one = Context {
        images: 1,
        ..context()
    };
    assert!(diagnose(&run[5], &run[..5], &one).is_empty());
}

#[test]
fn uniform_output() {
    let run = run(6, |e, seed| {
        let mut o = learning(e, seed);
        o.teacher.iter_mut().for_each(|v| *v *= 1e-3);
        o.student.iter_mut().for_each(|v| *v *= 1e-3);
        o.loss = (K as f64).ln();
        o
    });
    let found = failures(&run);
    assert!(found[0].is_empty() && found[1].is_empty());
    assert_eq!(found[5], [FailureMode::UniformOutput]);
    let warning = &diagnose(&run[5], &run[..5], &context())[0];
    assert_eq!(
        changes(warning),
        [(Setting::TeacherTemp, 0.02), (Setting::WarmupEpochs, 10.0)]
    );
}

#[test]
fn divergence() {
    let climbing = run(8, |e, seed| {
        let mut o = learning(e.min(3), seed);
        o.loss = if e < 4 {
            3.0
        } else {
            3.0 + 0.3 * (e - 3) as f64
        };
        o
    });
    let found = failures(&climbing);
    assert!(found[..6].iter().all(Vec::is_empty), "{found:?}");
    assert_eq!(found[7], [FailureMode::Divergence]);

    let broken = epoch(0, 3, |seed| Outputs {
        loss: f64::NAN,
        ..learning(0, seed)
    });
    assert_eq!(broken.non_finite_steps, 3);
    assert_eq!(broken.loss, None);
    assert_eq!(failures(&[broken])[0], [FailureMode::Divergence]);

    let mut exploding = run(5, learning);
    exploding[4].grad_norm = Some(50.0);
    assert_eq!(failures(&exploding)[4], [FailureMode::Divergence]);

    let mut guessing = run(5, learning);
    guessing[4].loss = Some(9.0);
    assert_eq!(failures(&guessing)[4], [FailureMode::Divergence]);

    // A teacher that becomes less sure takes the loss with it; that is no failure either.
    let mut wider = climbing.clone();
    for h in &mut wider {
        h.teacher_entropy = h.teacher_entropy.map(|e| e + h.loss.unwrap() - 3.0);
    }
    assert!(failures(&wider).iter().all(Vec::is_empty));

    // A teacher that is being warmed up raises the loss; that is no failure.
    let mut warming = climbing;
    for h in &mut warming {
        h.teacher_temp = Some(0.04 + 0.001 * h.epoch as f64);
    }
    assert!(failures(&warming).iter().all(Vec::is_empty));
}

#[test]
fn feature_collapse() {
    let same = run(5, |e, seed| {
        let mut o = learning(e, seed);
        let tiny = noise(seed + 9, N * D);
        let one = noise(1, D);
        for (row, tiny) in o.features.chunks_mut(D).zip(tiny.chunks(D)) {
            for ((f, one), t) in row.iter_mut().zip(&one).zip(tiny) {
                *f = one + 1e-3 * t;
            }
        }
        o
    });
    assert_eq!(failures(&same)[4], [FailureMode::FeatureCollapse]);
    let line = run(5, |e, seed| {
        let mut o = learning(e, seed);
        for (i, row) in o.features.chunks_mut(D).enumerate() {
            row.fill(0.0);
            row[i % 2] = 1.0;
        }
        o
    });
    assert!((line[4].feature_rank.unwrap() - 1.0).abs() < 1e-6);
    assert_eq!(failures(&line)[4], [FailureMode::FeatureCollapse]);
}

#[test]
fn student_not_following() {
    let lost = run(8, |e, seed| {
        let mut o = learning(3, seed);
        o.student = o.teacher.iter().map(|v| -v * e as f32 * 1.2).collect();
        o.loss = 4.0 + 0.01 * e as f64;
        o
    });
    let found = failures(&lost);
    assert_eq!(
        found[7],
        [FailureMode::StudentNotFollowing],
        "{:?}",
        lost[7]
    );
    assert!(found[2].is_empty());
    // The same with a falling loss is a teacher that sharpens.
    let mut falling = lost;
    for h in &mut falling {
        h.loss = Some(4.0 - 0.1 * h.epoch as f64);
    }
    assert!(failures(&falling)[7].is_empty());
}

#[test]
fn figures_by_the_formula() {
    // Two rows, K = 3, all by hand in f64.
    let (teacher, student) = (
        [0.1f32, 0.0, -0.1, 0.0, 0.2, 0.0],
        [0.3f32, 0.1, 0.0, 0.0, 0.1, 0.5],
    );
    let centre = [0.05f32, 0.0, -0.05];
    let softmax = |logits: &[f32], c: &[f32], t: f64| {
        let e: Vec<f64> = logits
            .iter()
            .zip(c)
            .map(|(&l, &c)| ((f64::from(l) - f64::from(c)) / t).exp())
            .collect();
        let z: f64 = e.iter().sum();
        e.into_iter().map(|v| v / z).collect::<Vec<_>>()
    };
    let h = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
    let p: Vec<_> = teacher
        .chunks(3)
        .map(|r| softmax(r, &centre, 0.04))
        .collect();
    let q: Vec<_> = student
        .chunks(3)
        .map(|r| softmax(r, &[0.0; 3], 0.1))
        .collect();
    let mean: Vec<f64> = (0..3).map(|i| (p[0][i] + p[1][i]) / 2.0).collect();
    let kl: f64 = p
        .iter()
        .zip(&q)
        .map(|(p, q)| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>() / 2.0)
        .sum();

    let mut meter = HealthMeter::new(Some(3), 64).unwrap();
    meter
        .sample(&Sample {
            features: &[],
            feature_dim: 0,
            prototypes: Some(PrototypeSample {
                teacher: &teacher,
                student: &student,
                centre: Some(&centre),
                teacher_temp: 0.04,
                student_temp: 0.1,
            }),
            embeddings: None,
        })
        .unwrap();
    let health = meter.close(4);
    let near = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-5, "{a:?} {b}");
    near(health.teacher_entropy, (h(&p[0]) + h(&p[1])) / 2.0);
    near(health.marginal_entropy, h(&mean));
    near(health.prototype_perplexity, h(&mean).exp() / 3.0);
    near(
        health.mutual_information,
        h(&mean) - (h(&p[0]) + h(&p[1])) / 2.0,
    );
    near(health.kl, kl);
    near(health.active_prototypes, 2.0 / 3.0);
    near(health.centre_norm, 0.05 * 2f64.sqrt());
    assert_eq!(
        (health.epoch, health.rows, health.feature_rank),
        (4, 2, None)
    );
    assert_eq!(meter.close(5).rows, 0, "a closed meter starts anew");

    let json = serde_json::to_string(&health).unwrap();
    let back: Health = serde_json::from_str(&json).unwrap();
    near(back.kl, kl);
    assert_eq!((back.epoch, back.loss), (4, None));
}

#[test]
fn rank_and_spread_by_hand() {
    // Four unit vectors along two axes and their opposites: even in the plane, rank 2.
    let cross = [1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0];
    let (spread, rank) = feature_figures(&cross, 2).unwrap();
    assert!((spread - 1.0).abs() < 1e-9 && (rank - 2.0).abs() < 1e-9);
    // The same within four dimensions: two of them idle; more values than rows or not.
    let wide: Vec<f32> = cross
        .chunks(2)
        .flat_map(|v| [v[0], v[1], 0.0, 0.0, 0.0])
        .collect();
    let (spread, rank) = feature_figures(&wide, 5).unwrap();
    assert!((rank - 2.0).abs() < 1e-9, "Gram matrix: {rank}");
    assert!((spread - 2.0 * 0.5f64.sqrt() / 5.0 * 5f64.sqrt()).abs() < 1e-9);
    let same = [0.6f32, 0.8, 0.6, 0.8];
    assert_eq!(feature_figures(&same, 2), Some((0.0, 0.0)));
    assert_eq!(feature_figures(&same, 4), None);
    assert_eq!(feature_figures(&[], 0), None);
    assert_eq!(feature_figures(&[f32::NAN, 0.0, 1.0, 0.0], 2), None);
}

#[test]
fn exponential_is_close() {
    for i in 0..=86_000 {
        let x = -(i as f32) / 1000.0;
        let exact = f64::from(x).exp();
        let error = (f64::from(exp_below_zero(x)) - exact).abs() / exact;
        assert!(error < 5e-7, "{x}: {error}");
    }
    assert_eq!(exp_below_zero(0.0), 1.0);
    assert!(exp_below_zero(-1e30) < 1e-37);
}

#[test]
fn odd_input() {
    let mut meter = HealthMeter::new(Some(2), 4).unwrap();
    let good = Sample {
        features: &[f32::INFINITY, 0.0, 1.0, 0.0],
        feature_dim: 2,
        prototypes: Some(PrototypeSample {
            teacher: &[0.0, f32::NAN, 1.0, 0.0],
            student: &[],
            centre: Some(&[0.0, 0.0]),
            teacher_temp: 0.04,
            student_temp: 0.1,
        }),
        embeddings: None,
    };
    meter.sample(&good).unwrap();
    let health = meter.close(0);
    assert_eq!(
        (health.rows, health.non_finite_rows, health.kl),
        (1, 1, None)
    );
    assert_eq!(health.feature_rank, None);
    let prototypes = good.prototypes.unwrap();
    let with = |prototypes| Sample {
        prototypes: Some(prototypes),
        ..good
    };
    let short = with(PrototypeSample {
        teacher: &prototypes.teacher[1..],
        ..prototypes
    });
    assert!(meter.sample(&short).is_err());
    let cold = with(PrototypeSample {
        teacher_temp: 0.0,
        ..prototypes
    });
    assert!(meter.sample(&cold).is_err());
    assert!(HealthMeter::new(Some(0), 1).is_err());
}

#[test]
fn a_reservoir_stays_even_and_bounded() {
    let mut r = Reservoir::default();
    for i in 0..4000 {
        let angle = i as f32 / 4000.0 * std::f32::consts::FRAC_PI_2;
        r.offer(&[angle.cos(), angle.sin()], 2).unwrap();
    }
    assert_eq!(r.rows.len(), MAX_FEATURES * 2);
    let early = r.rows.chunks(2).filter(|v| v[0] > v[1]).count();
    assert!((200..312).contains(&early), "{early}");
}

#[test]
fn thread_count_does_not_matter() {
    let teacher = noise(3, 40 * 1000);
    let work = || {
        let mut meter = HealthMeter::new(Some(1000), 37).unwrap();
        meter
            .sample(&Sample {
                features: &teacher,
                feature_dim: 100,
                prototypes: Some(PrototypeSample {
                    teacher: &teacher,
                    student: &teacher,
                    centre: Some(&[0.1; 1000]),
                    teacher_temp: 0.5,
                    student_temp: 0.5,
                }),
                embeddings: None,
            })
            .unwrap();
        meter.close(0)
    };
    let alone = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    assert_eq!(alone.install(work), work());
}

#[test]
fn numbers_are_short() {
    let text: Vec<String> = [0.00025, 0.998, 3.0, 123_456.0, 0.0, 1e-9, 0.02]
        .iter()
        .map(|&v| short(v))
        .collect();
    assert_eq!(
        text,
        ["0.00025", "0.998", "3", "123456", "0", "1.00e-9", "0.02"]
    );
}

#[test]
fn what_is_advised_is_another_value_within_its_range() {
    let extreme = |context: Context| {
        let mut remedies = after_divergence(&context);
        // Collapsed in every way at once, for every kind of warning.
        let mut run = run(8, |e, seed| {
            let mut o = learning(3, seed);
            o.student = o.teacher.iter().map(|v| -v * e as f32 * 1.2).collect();
            o.features.fill(1.0);
            o.loss = 4.0 + 0.1 * e as f64;
            o
        });
        let mut uniform = run.clone();
        for h in &mut uniform {
            h.teacher_entropy = Some(h.max_entropy());
            h.loss = Some(h.max_entropy());
        }
        let mut constant = run.clone();
        for h in &mut constant {
            h.mutual_information = Some(0.0);
        }
        run[7].grad_norm = Some(1e6);
        let mut seen = std::collections::BTreeSet::new();
        for run in [&run, &uniform, &constant] {
            for warning in diagnose(&run[7], &run[..7], &context) {
                assert!(!warning.remedies.is_empty(), "{warning}");
                seen.insert(format!("{:?}", warning.failure));
                remedies.extend(warning.remedies);
            }
        }
        assert_eq!(seen.len(), 5, "every kind: {seen:?}");
        remedies
    };
    let ordinary = context();
    let contexts = [
        ordinary.clone(),
        Context {
            lr: 1e30,
            clip_grad: Some(1e9),
            teacher: Some(TeacherContext {
                teacher_temp: 0.01,
                momentum_teacher: 1.0,
                center_momentum: 1.0,
                suited_out_dim: 1024,
            }),
            ..ordinary.clone()
        },
        Context {
            lr: 0.0,
            warmup_epochs: 0.0,
            epochs: 3.0,
            teacher: Some(TeacherContext {
                teacher_temp: 0.5,
                momentum_teacher: 0.999_99,
                center_momentum: 0.9,
                suited_out_dim: 1024,
            }),
            sigreg_weight: Some(0.0),
            visreg_weight: Some(0.9),
            coding_rate_weight: Some(0.0),
            weight_decay_end: 0.0,
            reduced_precision: true,
            ..ordinary
        },
    ];
    for context in contexts {
        for remedy in extreme(context.clone()) {
            let (Remedy::Resume(list) | Remedy::NewRun(list)) = remedy else {
                continue;
            };
            assert!(!list.is_empty());
            for Adjustment { setting, from, to } in list {
                assert!(
                    to != from && to.is_finite() && to >= 0.0,
                    "{setting:?} {to}"
                );
                match setting {
                    Setting::LearningRate => assert!(to < from && to <= 0.005),
                    Setting::WarmupEpochs => assert!(to > from && to <= context.epochs / 2.0),
                    Setting::TeacherTemp => assert!(to > 0.0 && to <= 0.25),
                    Setting::TeacherMomentum => assert!(to > from && to < 1.0),
                    Setting::CentreMomentum => assert_eq!(to, 0.9),
                    Setting::WeightDecayEnd | Setting::OutDim => assert!(to < from),
                    Setting::SigRegWeight => assert!(to > from && to <= 0.5),
                    Setting::CodingRateWeight => assert!(to > from),
                    Setting::VisRegWeight => assert!(to > from && to < 1.0),
                    Setting::GradientClip => assert!(to > 0.0 && to <= 3.0),
                }
            }
        }
    }
}

/// An epoch of a method with a projection, whose embeddings are `rows` `[N, D]`.
fn projected(epoch: usize, loss: f64, rows: &dyn Fn(u64) -> Vec<f32>) -> Health {
    let mut meter = HealthMeter::new(None, N).unwrap();
    for step in 0..100 {
        meter.step(loss, Some(1.0));
        meter.terms(&[("invariance", 0.25 * loss), ("sigreg", f64::NAN)]);
        if step % 10 == 0 {
            let seed = epoch as u64 * 1000 + step;
            let (features, rows) = (noise(seed + 7, N * D), rows(seed));
            meter
                .sample(&Sample {
                    features: &features,
                    feature_dim: D,
                    prototypes: None,
                    embeddings: Some(EmbeddingSample {
                        rows: &rows,
                        dim: D,
                    }),
                })
                .unwrap();
        }
    }
    meter.close(epoch)
}

#[test]
fn a_method_without_prototypes_has_figures_of_its_own() {
    let run: Vec<Health> = (0..6)
        .map(|e| projected(e, 2.0 - 0.1 * e as f64, &|seed| noise(seed, N * D)))
        .collect();
    assert_eq!(failures(&run), vec![vec![]; 6]);
    let last = &run[5];
    assert!((last.embedding_std.unwrap() - 1.0).abs() < 0.1, "{last:?}");
    assert!(last.embedding_rank.unwrap() > 14.0);
    assert!((last.terms["invariance"] - 0.375).abs() < 1e-12);
    assert!(!last.terms.contains_key("sigreg"), "never finite");
    assert_eq!(
        (last.teacher_entropy, last.kl, last.active_prototypes),
        (None, None, None)
    );
    let written = serde_json::to_string(last).unwrap();
    for absent in ["entropy", "kl", "prototypes", "out_dim", "centre", "null"] {
        assert!(!written.contains(absent), "{absent}: {written}");
    }
    assert_eq!(&serde_json::from_str::<Health>(&written).unwrap(), last);
}

#[test]
fn collapsed_embeddings_and_rising_losses_without_prototypes() {
    let sigreg = Context {
        teacher: None,
        sigreg_weight: Some(0.05),
        ..context()
    };
    let constant = |seed| noise(seed, N * D).iter().map(|v| 3.0 + 0.01 * v).collect();
    let line = |seed| {
        let along = noise(seed, N);
        along.iter().flat_map(|&v| [v; D]).collect::<Vec<f32>>()
    };
    let kinds: [&dyn Fn(u64) -> Vec<f32>; 2] = [&constant, &line];
    for rows in kinds {
        let run: Vec<Health> = (0..4).map(|e| projected(e, 1.0, rows)).collect();
        let warnings = diagnose(&run[3], &run[..3], &sigreg);
        assert_eq!(warnings[0].failure, FailureMode::EmbeddingCollapse);
        assert!(changes(&warnings[0]).contains(&(Setting::SigRegWeight, 0.1)));
        let visreg = Context {
            sigreg_weight: None,
            visreg_weight: Some(0.6),
            ..sigreg.clone()
        };
        let warnings = diagnose(&run[3], &run[..3], &visreg);
        assert!(changes(&warnings[0]).contains(&(Setting::VisRegWeight, 0.8)));
        let simdino = Context {
            sigreg_weight: None,
            coding_rate_weight: Some(0.25),
            ..sigreg.clone()
        };
        let warnings = diagnose(&run[3], &run[..3], &simdino);
        assert!(changes(&warnings[0]).contains(&(Setting::CodingRateWeight, 0.5)));
    }
    let run: Vec<Health> = (0..6)
        .map(|e| projected(e, 1.0 + 0.1 * e as f64, &|seed| noise(seed, N * D)))
        .collect();
    let warnings = diagnose(&run[5], &run[..5], &sigreg);
    assert_eq!(warnings[0].failure, FailureMode::Divergence);
    assert!(
        !warnings[0].to_string().contains("teacher"),
        "{}",
        warnings[0]
    );
}

#[test]
fn meters_of_before_are_read() {
    let mut meter = HealthMeter::new(Some(K), N).unwrap();
    meter.step(1.0, Some(1.0));
    let mut state = serde_json::to_value(&meter).unwrap();
    for new in ["terms", "embeddings"] {
        assert!(state.as_object_mut().unwrap().remove(new).is_some());
    }
    state["features"].as_object_mut().unwrap().remove("raw");
    let mut old: HealthMeter = serde_json::from_value(state).unwrap();
    assert_eq!(old.close(0), meter.close(0));
}
