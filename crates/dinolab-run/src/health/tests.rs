//! Runs that learn or fail in known ways, for the tests.

mod diagnosis;
mod figures;
mod remedies;

use super::features::scatter;
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
                        centre: Some(&[0.05; K]),
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
        freeze_backbone_epochs: 0.0,
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
