//! A run that diverges: what is kept, what the message says, and that following it works.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{
    Train, assert_same, checkpoint_steps, figures, of_kind, one_error, program, text,
};

/// Two steps an epoch, a checkpoint after each step, and steps that are far too large.
fn ruined(out: &Path, lr: &str) -> Train {
    Train::tiny(out)
        .with("shapes-images", 16)
        .with("epochs", 60)
        .with("lr", lr)
        .with("clip-grad", 0)
        .with("warmup-epochs", 1)
        .with("checkpoint-every-steps", 1)
}

/// The commands in a message, as they stand in it.
fn commands(message: &str) -> Vec<String> {
    let parts = message.split("dinolab train ").skip(1);
    parts
        .map(|part| {
            let end = part.find("; ").unwrap_or(part.len());
            part[..end].trim_end_matches('.').to_owned()
        })
        .collect()
}

/// Runs a suggested command, whose arguments need no quotes here, with further flags.
fn follow(command: &str, more: &[&str]) -> Output {
    let mut run = program();
    run.arg("train").args(command.split_whitespace()).args(more);
    run.output().unwrap()
}

fn asides(run: &Path) -> Vec<PathBuf> {
    dinolab_train::checkpoint::aside(&run.join("checkpoints"))
}

#[test]
fn the_last_sound_checkpoint_is_named_and_resumed_from() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let output = ruined(&run, "1e30").output();
    let error = one_error(&output);
    // The first step has a learning rate of 0, so that its checkpoint holds the first weights.
    assert_eq!(checkpoint_steps(&run), [1], "{error}");
    assert!(error.contains("diverged"), "{error}");
    assert!(
        error.contains("step-000000001.safetensors (step 1)"),
        "{error}"
    );
    let latest = fs::read_to_string(run.join("checkpoints/latest")).unwrap();
    assert_eq!(latest, "step-000000001.safetensors");
    assert!(!asides(&run).is_empty(), "those after it are kept apart");
    let lines = figures(&run, "train", "step").len();
    assert!(lines > 1, "its curves tell why");

    // Resumed without a change, it says what comes.
    let again = Train::bare(&run).switch("resume").output();
    let warned = text(&again.stderr);
    assert!(warned.contains("diverged after this step"), "{warned}");
    assert!(text(&again.stdout).contains("from step 1"), "{warned}");
    assert!(one_error(&again).contains("(step 1)"));

    let suggested = commands(&error);
    assert!(suggested[0].contains("--resume --change-settings --lr 0.0005 --clip-grad 3"));
    let output = follow(&suggested[0], &["--stop-after-epochs", "3"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("from step 1"), "{said}");
    assert!(said.contains("--lr 0.0005 (before step 1, 1e30)"), "{said}");
    assert!(asides(&run).is_empty(), "the run has gone on without them");
    assert_eq!(checkpoint_steps(&run)[0], 6);
    let steps: Vec<f64> = (1..=6).map(f64::from).collect();
    assert_eq!(figures(&run, "train", "step"), steps, "cut and gone on");
    assert!(figures(&run, "train", "loss").iter().all(|l| l.is_finite()));

    // The change is in the run's record, its settings and its report.
    let changes = of_kind(&run, "setting");
    let lr = changes.iter().find(|line| line["setting"] == "lr").unwrap();
    assert_eq!((&lr["step"], &lr["to"]), (&1.into(), &"0.0005".into()));
    assert_eq!(changes.len(), 2, "{changes:?}");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("lr = 0.0005\n"), "{config}");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("Settings changed during the run"));

    // Once changed, it is resumed like any other run.
    let said = Train::bare(&run)
        .switch("resume")
        .with("stop-after-epochs", 4)
        .succeed();
    assert!(said.contains("from step 6"), "{said}");
    assert_eq!(of_kind(&run, "setting").len(), 2, "said once");
    let embedded = program()
        .arg("embed")
        .arg("--weights")
        .arg(&run)
        .arg(pictured(root.path()))
        .arg("--out")
        .arg(root.path().join("features.npy"))
        .output()
        .unwrap();
    assert!(embedded.status.success(), "{}", text(&embedded.stderr));
}

fn pictured(root: &Path) -> PathBuf {
    let folder = root.join("pictures");
    common::pictures(&folder, 3);
    folder
}

#[test]
fn where_no_checkpoint_is_sound_the_run_is_started_over() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    // Without a warm-up the very first step ruins the weights, with SGD as with AdamW.
    for optimiser in ["adamw", "sgd"] {
        let error = ruined(&run, "1e28")
            .with("warmup-epochs", 0)
            .with("optimizer", optimiser)
            .fail();
        assert!(error.contains("no checkpoint of it is sound"), "{error}");
        assert!(checkpoint_steps(&run).is_empty(), "{error}");
        let suggested = commands(&error);
        assert!(suggested[0].contains("--fresh"), "{suggested:?}");
        let resumed = Train::bare(&run).switch("resume").output();
        if !asides(&run).is_empty() {
            assert!(one_error(&resumed).contains("--fresh"));
        }
        let output = follow(&suggested[0], &["--epochs", "2"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(checkpoint_steps(&run)[0], 4);
        assert!(asides(&run).is_empty());
        fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn weights_that_are_not_finite_are_never_the_newest_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    // Weights overflow in one step; no loss has shown it when the checkpoint is due.
    let error = ruined(&run, "1e38").with("warmup-epochs", 0).fail();
    assert!(error.contains("diverged"), "{error}");
    for path in dinolab_train::checkpoint::list(&run.join("checkpoints")) {
        let bytes = fs::read(&path).unwrap();
        let (arrays, _) = dinolab_nn::weights::file_arrays(&path, &bytes).unwrap();
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        assert!(arrays.values().all(|array| finite(&array.data)));
    }
}

#[test]
fn settings_change_only_when_asked_and_only_those_that_can() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    Train::tiny(&run).with("stop-after-epochs", 1).succeed();
    let resume = || Train::bare(&run).switch("resume");
    // Not asked for: refused, with a command that works.
    let error = resume().with("lr", 0.001).fail();
    let suggested = commands(&error);
    assert!(suggested.iter().any(|c| c.contains("--change-settings")));
    for (flag, value, why) in [
        ("out-dim", "64", "another network"),
        ("seed", "3", "random draws"),
        ("batch-size", "4", "steps of this size"),
        ("optimizer", "sgd", "moments"),
        ("local-crops-number", "3", "other images"),
    ] {
        let error = resume()
            .switch("change-settings")
            .with(flag, value)
            .with("lr", 0.002)
            .fail();
        assert!(
            error.contains(&format!("--{flag}")) && error.contains(why),
            "{error}"
        );
        // The new run that it suggests has both.
        let suggested = commands(&error);
        assert!(suggested[0].contains("--lr 0.002"), "{suggested:?}");
        let output = follow(&suggested[0], &["--epochs", "1"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let error = resume()
        .switch("change-settings")
        .with("epochs", 0.5)
        .fail();
    assert!(error.contains("has already completed 1 epoch"), "{error}");
    assert!(!error.contains("1 epochs"), "{error}");
    assert_eq!(checkpoint_steps(&run), [4], "nothing has happened");

    for command in &suggested {
        let output = follow(command, &["--stop-after-epochs", "1"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let help = common::usage_error(&Train::tiny(&run).switch("change-settings").output());
    assert!(
        help.contains("--resume") || help.contains("required"),
        "{help}"
    );
}

#[test]
fn a_change_survives_kills_and_is_the_same_at_any_time() {
    let root = tempfile::tempdir().unwrap();
    let changed = |name: &str, stops: &[f64]| {
        let run = root.path().join(name);
        let tiny = Train::tiny(&run).with("checkpoint-every-steps", 1);
        tiny.with("stop-after-epochs", 1).succeed();
        let resume = || Train::bare(&run).switch("resume");
        let mut first = resume()
            .switch("change-settings")
            .with("lr", 0.002)
            .with("teacher-temp", 0.05)
            .with("epochs", 4);
        for &stop in stops {
            first.with("stop-after-epochs", stop).succeed();
            first = resume();
        }
        first.with("stop-after-epochs", 0).succeed();
        run
    };
    let (whole, parts) = (changed("whole", &[]), changed("parts", &[1.25, 2.0, 3.5]));
    assert_eq!(figures(&whole, "train", "step").len(), 16);
    assert_eq!(of_kind(&whole, "setting").len(), 3);
    assert_same(&whole, &parts);
}
