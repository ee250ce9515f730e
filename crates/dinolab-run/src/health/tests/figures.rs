//! The figures of an epoch.

use super::super::features::{MAX_FEATURES, Reservoir};
use super::super::rows::exp_below_zero;
use super::*;

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
