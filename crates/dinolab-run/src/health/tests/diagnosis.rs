//! What is found wrong with a run.

use super::*;

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

    // A backbone that has begun to learn has other gradients than its head alone.
    let mut thawed = run(4, learning);
    thawed[3].grad_norm = Some(50.0);
    assert_eq!(failures(&thawed)[3], [FailureMode::Divergence]);
    let frozen = Context {
        freeze_backbone_epochs: 2.5,
        ..context()
    };
    assert!(diagnose(&thawed[3], &thawed[..3], &frozen).is_empty());

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

/// An epoch of learning whose masked patches have the outputs `row(patch, seed)`, at a loss of several terms.
fn masking(epoch_number: usize, row: &dyn Fn(usize, u64) -> Vec<f32>) -> Health {
    let mut meter = HealthMeter::new(Some(K), N).unwrap();
    for step in 0..100 {
        let seed = epoch_number as u64 * 1000 + step;
        let o = learning(epoch_number, seed);
        // The sum is far above ln K; DINO's part is not.
        meter.step(o.loss + 4.0, Some(1.0));
        meter.terms(&[("dino", o.loss), ("ibot", 4.0)]);
        if step % 10 == 0 {
            let of_classes = PrototypeSample {
                teacher: &o.teacher,
                student: &o.student,
                centre: None,
                teacher_temp: 0.04,
                student_temp: 0.1,
            };
            meter
                .sample(&Sample {
                    features: &o.features,
                    feature_dim: D,
                    prototypes: Some(of_classes),
                    embeddings: None,
                })
                .unwrap();
            let rows: Vec<f32> = (0..N).flat_map(|patch| row(patch, seed)).collect();
            let student: Vec<f32> = rows.iter().map(|v| v * 2.5).collect();
            meter
                .patches(&PatchSample {
                    out_dim: 8,
                    masked: 0.15,
                    prototypes: PrototypeSample {
                        teacher: &rows,
                        student: &student,
                        ..of_classes
                    },
                })
                .unwrap();
        }
    }
    meter.close(epoch_number)
}

#[test]
fn masked_patches_with_the_same_output() {
    let run = |row: &dyn Fn(usize, u64) -> Vec<f32>| -> Vec<Health> {
        (0..6).map(|epoch| masking(epoch, row)).collect()
    };
    let healthy = run(&|patch, seed| {
        let mut row = noise(seed + patch as u64, 8);
        row[patch % 8] += 1.0;
        row
    });
    assert_eq!(failures(&healthy), vec![vec![]; 6], "{:?}", healthy[5]);
    let figures = &healthy[5].patches;
    assert_eq!(figures.out_dim, 8);
    assert!((figures.masked_fraction.unwrap() - 0.15).abs() < 1e-12);
    assert!(figures.patch_entropy.unwrap() < 1.0 && figures.patch_marginal_entropy.unwrap() > 1.9);
    assert!(figures.patch_kl.unwrap() < 0.1);

    let constant = run(&|_, _| (0..8).map(|k| if k == 3 { 1.0 } else { 0.0 }).collect());
    assert_eq!(failures(&constant)[5], [FailureMode::PatchCollapse]);
    let warning = &diagnose(&constant[5], &constant[..5], &context())[0];
    assert_eq!(changes(warning)[0].0, Setting::TeacherMomentum);
    let uniform = run(&|_, _| vec![0.25; 8]);
    assert_eq!(failures(&uniform)[5], [FailureMode::PatchCollapse]);
    let warning = &diagnose(&uniform[5], &uniform[..5], &context())[0];
    assert_eq!(changes(warning)[0].0, Setting::TeacherTemp);
    assert!(failures(&uniform)[1].is_empty(), "too early to tell");
}
