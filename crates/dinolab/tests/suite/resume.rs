//! A run that is killed, stopped or loses a checkpoint ends as if nothing had happened.
#![cfg(unix)]

use crate::common;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Train, assert_same, checkpoint_steps, figures, newest, signal, text};

/// Five steps an epoch and a checkpoint every three: kills hit epochs and checkpoints alike.
fn settings(out: &Path) -> Train {
    Train::tiny(out)
        .with("shapes-images", 40)
        .with("epochs", 24)
        .with("checkpoint-every-steps", 3)
        .with("eval-every", 8)
        .with("attention-images", 1)
}

const STEPS: u64 = 120;

fn start(run: &Train) -> Child {
    run.command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the run has a checkpoint of at least `step`. `false`: it ended before.
fn wait_for(run: &Path, step: u64, child: &mut Child) -> bool {
    let patience = Instant::now();
    while checkpoint_steps(run)
        .first()
        .is_none_or(|&newest| newest < step)
    {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(
            patience.elapsed() < Duration::from_secs(120),
            "no checkpoint of step {step}"
        );
        std::thread::sleep(Duration::from_micros(300));
    }
    true
}

#[test]
fn a_killed_run_ends_like_an_unbroken_one() {
    let root = tempfile::tempdir().unwrap();
    let (whole, killed) = (root.path().join("whole"), root.path().join("killed"));
    settings(&whole).succeed();
    assert_eq!(figures(&whole, "train", "step").len() as u64, STEPS);

    let mut kills = 0;
    // Steps to wait for, and how long after; the delays spread over a step and its checkpoint.
    for (step, delay) in [
        (0, 900),
        (3, 0),
        (20, 1700),
        (41, 3100),
        (62, 500),
        (80, 2300),
    ] {
        let mut child = start(&settings(&killed));
        let running = step == 0 || wait_for(&killed, step, &mut child);
        std::thread::sleep(Duration::from_micros(delay));
        // SIGKILL: nothing in the program can soften it.
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(
            running && !status.success(),
            "the kill after step {step} came too late: {status}"
        );
        kills += 1;
    }
    assert!(kills >= 5);
    let left = checkpoint_steps(&killed)[0];
    assert!(
        (80..STEPS).contains(&left),
        "killed in the middle, at {left}"
    );
    let said = settings(&killed).succeed();
    assert!(said.contains(&format!("from step {left}")), "{said}");
    assert_same(&whole, &killed);
    let pictures = |run: &Path| fs::read(run.join("pictures/attention-epoch-0024.png")).unwrap();
    assert!(pictures(&whole) == pictures(&killed));
}

/// Everything that draws by step or changes by epoch, stopped before, at and after the changes.
#[test]
fn a_run_in_pieces_ends_like_an_unbroken_one() {
    let root = tempfile::tempdir().unwrap();
    let (whole, pieces) = (root.path().join("whole"), root.path().join("pieces"));
    let run = |out: &Path| {
        Train::tiny(out)
            .with("epochs", 4)
            .with("low-resolution-epochs", 2)
            .with("patch-drop-rate", 0.3)
            .with("centering", "sinkhorn")
            .with("koleo-weight", 0.1)
            .with("sigreg-weight", 0.02)
            .with("directions", 16)
            .with("momentum-teacher-end", 0.99)
    };
    run(&whole).threads(1).succeed();
    for stop in [0.5, 1.75, 2.0, 3.25] {
        run(&pieces).with("stop-after-epochs", stop).succeed();
    }
    run(&pieces).succeed();
    assert_same(&whole, &pieces);
    // Steps at half the resolution see other crops.
    let other = root.path().join("other");
    run(&other).with("low-resolution-epochs", 0).succeed();
    let losses = |run: &Path| figures(run, "train", "loss");
    assert_ne!(losses(&whole)[0], losses(&other)[0]);
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let (whole, other) = (root.path().join("whole"), root.path().join("other"));
    settings(&whole).with("epochs", 4).succeed();
    let run = settings(&other).with("epochs", 4);
    run.succeed();
    assert_eq!(checkpoint_steps(&other), [20, 18]);

    // Cut short, as a full disk leaves it; and one bit turned, as a bad one does.
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() * 2 / 3);
    let turn = |bytes: &mut Vec<u8>| {
        let at = bytes.len() * 2 / 3;
        bytes[at] ^= 0x10;
    };
    for damage in [&cut as &dyn Fn(&mut Vec<u8>), &turn] {
        let path = newest(&other);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let output = run.output();
        let (said, warned) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{warned}");
        let warning = warned
            .lines()
            .find(|line| line.starts_with("warning"))
            .unwrap_or_default();
        assert!(warning.contains("step-000000020.safetensors"), "{warned}");
        assert!(warning.contains("damaged"), "{warned}");
        assert!(said.contains("from step 18"), "{said}");
        assert_same(&whole, &other);
    }

    // None is whole: an error that names the newest, and nothing is overwritten.
    for path in dinolab_train::checkpoint::list(&other.join("checkpoints")) {
        fs::write(path, b"no checkpoint").unwrap();
    }
    let error = run.fail();
    assert!(error.contains("step-000000020.safetensors"), "{error}");
    assert_eq!(fs::read(newest(&other)).unwrap(), b"no checkpoint");
    // Unless that is asked for.
    run.clone().switch("fresh").succeed();
    assert_same(&whole, &other);
}

#[test]
fn other_settings_do_not_mix_with_a_run() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let run = Train::tiny(&out).with("stop-after-epochs", 1);
    run.succeed();
    let before = fs::read(newest(&out)).unwrap();
    for (flag, value) in [
        ("lr", "0.1"),
        ("out-dim", "64"),
        ("seed", "3"),
        ("teacher-temp", "0.05"),
    ] {
        let error = run.clone().with(flag, value).fail();
        assert!(error.contains(&format!("--{flag}")), "{error}");
        assert!(
            error.contains("--fresh") && error.contains("--out"),
            "what to do: {error}"
        );
    }
    assert_eq!(fs::read(newest(&out)).unwrap(), before);
    assert_eq!(figures(&out, "train", "step").len(), 4);

    // --resume takes the run's own settings, and wants a run.
    Train::bare(&out)
        .switch("resume")
        .with("stop-after-epochs", 0)
        .succeed();
    assert_eq!(checkpoint_steps(&out)[0], 12);
    let error = Train::bare(&root.path().join("none"))
        .switch("resume")
        .fail();
    assert!(
        error.contains("--resume") && error.contains("no checkpoint"),
        "{error}"
    );
    let output = run.clone().switch("resume").switch("fresh").output();
    assert!(common::usage_error(&output).contains("--fresh"));
}

#[test]
fn a_signal_finishes_the_step_and_saves() {
    let root = tempfile::tempdir().unwrap();
    let (whole, stopped) = (root.path().join("whole"), root.path().join("stopped"));
    // No checkpoints but those of signals and of the end. Forty epochs of five steps.
    let run = |out: &Path| {
        settings(out)
            .with("checkpoint-every-steps", 0)
            .with("checkpoint-every", 1000)
            .with("epochs", 40)
            .with("eval-every", 10)
    };
    run(&whole).succeed();
    assert_eq!(checkpoint_steps(&whole), [200]);
    let mut begun = 0;
    for name in ["INT", "TERM", "INT"] {
        // The next evaluation's picture tells that the run has come so far.
        let epochs = if begun == 0 { 0 } else { (begun / 50 + 1) * 10 };
        let sign = stopped.join(format!("pictures/attention-epoch-{epochs:04}.png"));
        assert!(!sign.exists());
        let mut child = start(&run(&stopped));
        let patience = Instant::now();
        while !sign.exists() && child.try_wait().unwrap().is_none() {
            assert!(
                patience.elapsed() < Duration::from_secs(120),
                "no {}",
                sign.display()
            );
            std::thread::sleep(Duration::from_micros(300));
        }
        signal(name, &child);
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(if name == "TERM" { 143 } else { 130 }),
            "stopped by SIG{name}: {said}"
        );
        assert!(said.contains("stopping after this step"), "{said}");
        let step = checkpoint_steps(&stopped)[0];
        assert!(step > begun && step < 200, "from step {begun} to {step}");
        // All steps up to the checkpoint are in the metrics, and none after it.
        let steps = figures(&stopped, "train", "step");
        assert_eq!(steps.len() as u64, step);
        begun = step;
    }
    run(&stopped).succeed();
    assert_same(&whole, &stopped);
}
