//! What is advised.

use super::super::remedy::short;
use super::*;

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
