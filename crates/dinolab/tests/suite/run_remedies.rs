//! Every remedy that a warning or an error of training suggests, carried out as it is printed.

use crate::common;
use std::collections::BTreeSet;
use std::path::Path;

use crate::common::{Train, program, text};
use dinolab_run::health::{
    Context, FailureMode, Health, Remedy, TeacherContext, after_divergence, diagnose,
};

#[allow(dead_code, reason = "the program uses the rest")]
use crate::run_commands::Commands;

/// Figures of an epoch of an ordinary run, of DINO or of a method with a projection.
fn ordinary(epoch: usize, dino: bool) -> Health {
    let shared = Health {
        epoch,
        steps: 100,
        loss: Some(3.0),
        grad_norm: Some(1.0),
        grad_norm_max: Some(2.0),
        feature_std: Some(0.5),
        feature_rank: Some(8.0),
        ..Health::default()
    };
    if !dino {
        return Health {
            embedding_std: Some(1.0),
            embedding_rank: Some(8.0),
            ..shared
        };
    }
    Health {
        out_dim: 4096,
        rows: 64,
        teacher_temp: Some(0.04),
        teacher_entropy: Some(2.0),
        marginal_entropy: Some(4.0),
        mutual_information: Some(2.0),
        kl: Some(0.5),
        ..shared
    }
}

/// Epochs of a run that shows a failure mode from its third on.
fn failing(failure: FailureMode, dino: bool) -> Vec<Health> {
    let mut run: Vec<Health> = (0..9).map(|epoch| ordinary(epoch, dino)).collect();
    for (i, health) in run.iter_mut().enumerate().skip(2) {
        match failure {
            FailureMode::ConstantOutput => {
                health.mutual_information = Some(0.0);
                health.teacher_entropy = Some(0.1);
                health.marginal_entropy = Some(0.1);
            }
            FailureMode::UniformOutput => {
                health.teacher_entropy = Some(health.max_entropy());
                health.loss = Some(health.max_entropy());
            }
            FailureMode::Divergence if dino => health.loss = Some(20.0),
            FailureMode::Divergence => health.loss = Some(3.0 + i as f64),
            FailureMode::EmbeddingCollapse => health.embedding_std = Some(0.001),
            FailureMode::FeatureCollapse => health.feature_std = Some(0.001),
            FailureMode::StudentNotFollowing => {
                health.kl = Some(3.0 + i as f64);
            }
            other => unreachable!("{other:?} is not a matter of settings"),
        }
    }
    run
}

const OF_DINO: &[FailureMode] = &[
    FailureMode::ConstantOutput,
    FailureMode::UniformOutput,
    FailureMode::Divergence,
    FailureMode::FeatureCollapse,
    FailureMode::StudentNotFollowing,
];
const OF_A_PROJECTION: &[FailureMode] = &[
    FailureMode::Divergence,
    FailureMode::EmbeddingCollapse,
    FailureMode::FeatureCollapse,
];

/// Runs that the remedies are for, as diagnoses know them.
fn runs() -> [(&'static str, Context); 5] {
    let plain = Context {
        images: 32,
        epochs: 8.0,
        warmup_epochs: 1.0,
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
        clip_grad: Some(3.0),
        reduced_precision: false,
    };
    let odd = Context {
        lr: 5.0,
        teacher: Some(TeacherContext {
            teacher_temp: 0.5,
            momentum_teacher: 0.0,
            center_momentum: 1.0,
            suited_out_dim: 1024,
        }),
        weight_decay_end: 0.04,
        clip_grad: None,
        reduced_precision: true,
        ..plain.clone()
    };
    let lejepa = Context {
        teacher: None,
        sigreg_weight: Some(0.05),
        ..plain.clone()
    };
    let simdino = Context {
        sigreg_weight: None,
        coding_rate_weight: Some(0.1),
        ..lejepa.clone()
    };
    let visreg = Context {
        sigreg_weight: None,
        visreg_weight: Some(0.6),
        ..lejepa.clone()
    };
    [
        ("plain", plain),
        ("odd", odd),
        ("lejepa", lejepa),
        ("visreg", visreg),
        ("simdino", simdino),
    ]
}

/// The settings of such a run.
fn flags(context: &Context) -> Vec<(&'static str, f64)> {
    let mut flags = vec![
        ("lr", context.lr),
        ("weight-decay-end", context.weight_decay_end),
        ("clip-grad", context.clip_grad.unwrap_or(0.0)),
        ("warmup-epochs", context.warmup_epochs),
        ("epochs", context.epochs),
    ];
    if let Some(teacher) = &context.teacher {
        flags.extend([
            ("out-dim", 4096.0),
            ("teacher-temp", teacher.teacher_temp),
            ("momentum-teacher", teacher.momentum_teacher),
            ("center-momentum", teacher.center_momentum),
        ]);
    }
    flags.extend(
        context
            .sigreg_weight
            .map(|weight| ("sigreg-weight", weight)),
    );
    flags.extend(
        context
            .visreg_weight
            .map(|weight| ("visreg-weight", weight)),
    );
    flags.extend(
        context
            .coding_rate_weight
            .map(|weight| ("coding-rate-weight", weight)),
    );
    flags
}

/// Runs a command as a shell does.
fn carry_out(command: &str, more: &str) {
    let rest = command
        .strip_prefix("dinolab ")
        .expect("a command of the program");
    let program = program();
    let line = format!("{} {rest} {more}", program.get_program().display());
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(&line)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

fn begun(out: &Path, context: &Context) {
    let tiny = match (&context.teacher, context.visreg_weight) {
        (Some(_), _) => Train::tiny(out),
        (None, None) if context.coding_rate_weight.is_some() => Train::tiny_simdino(out),
        (None, None) => Train::tiny_lejepa(out),
        (None, Some(_)) => Train::tiny_visreg(out),
    };
    let run = flags(context)
        .iter()
        .fold(tiny, |run, (flag, value)| run.with(flag, value));
    run.with("stop-after-epochs", 0.5).succeed();
}

#[test]
#[cfg(unix)]
fn every_remedy_of_every_failure_mode_works() {
    for (name, context) in runs() {
        let mut remedies: Vec<Remedy> = after_divergence(&context);
        let dino = context.teacher.is_some();
        for &failure in if dino { OF_DINO } else { OF_A_PROJECTION } {
            let run = failing(failure, dino);
            let warnings = diagnose(&run[8], &run[..8], &context);
            let found = warnings.iter().find(|warning| warning.failure == failure);
            let found = found.unwrap_or_else(|| panic!("{failure:?}: {warnings:?}"));
            remedies.extend(found.remedies.clone());
        }
        let root = tempfile::tempdir().unwrap();
        // A name that a shell would take apart.
        let run = root.path().join(format!("a {name} run's"));
        begun(&run, &context);
        let mut tried = BTreeSet::new();
        for remedy in &remedies {
            let Some(command) = Commands::new(&run).remedy(remedy, true) else {
                continue;
            };
            if tried.insert(command.clone()) {
                carry_out(&command, "--stop-after-epochs 0.75");
            }
        }
        let least = if dino { 8 } else { 4 };
        assert!(tried.len() >= least, "{tried:?}");
        // Where nothing is sound, what resumes starts over.
        for remedy in after_divergence(&context) {
            let command = Commands::new(&run).remedy(&remedy, false).unwrap();
            carry_out(&command, "--stop-after-epochs 0.5");
        }
    }
}

#[test]
#[cfg(unix)]
fn every_other_command_works() {
    let root = tempfile::tempdir().unwrap();
    let (images, run) = (root.path().join("my images"), root.path().join("run"));
    common::pictures(&images, 8);
    Train::tiny(&run)
        .without("shapes-images")
        .on(&images)
        .with("stop-after-epochs", 1)
        .succeed();
    let commands = Commands::new(&run);
    let other = [("lr".to_owned(), "0.001".to_owned())];
    carry_out(&commands.resume(), "--stop-after-epochs 2");
    carry_out(&commands.change(&other), "--stop-after-epochs 2");
    carry_out(&commands.new_run(&other), "");
    carry_out(&commands.new_run_from_weights(Some(&images)), "");
    carry_out(&commands.new_run_from_weights(None), "");
    let moved = root.path().join("moved");
    std::fs::rename(&images, &moved).unwrap();
    carry_out(&commands.resume_on(&moved.display().to_string()), "");
    carry_out(&commands.start_over(&other), "");
}

#[test]
fn a_warning_of_a_run_names_commands() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    // A teacher that is the student, and no centre: one answer for all images soon.
    let said = Train::tiny(&run)
        .with("shapes-images", 128)
        .with("epochs", 30)
        .with("lr", 0.02)
        .with("warmup-epochs", 0)
        .with("clip-grad", 0)
        .with("momentum-teacher", 0)
        .with("center-momentum", 1)
        .with("teacher-temp", 0.02)
        .succeed();
    let command = said
        .split("stop the run, and ")
        .nth(1)
        .and_then(|rest| rest.split("dinolab train ").nth(1))
        .unwrap_or_else(|| panic!("no warning: {said}"));
    let command = command.split(['\n', ';']).next().unwrap();
    assert!(command.contains(&run.display().to_string()), "{command}");
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(lines.contains("What may help: "), "in the metrics as well");
    assert!(
        !lines.contains("dinolab train"),
        "without the folder's name"
    );
}
