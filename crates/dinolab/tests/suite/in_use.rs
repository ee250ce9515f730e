//! One process trains in a run folder; others are told, or only read.
#![cfg(unix)]

use crate::common;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::{Train, assert_same, checkpoint_steps, program, text, wait_for_checkpoint};

/// A run that does not end by itself.
fn endless(out: &Path) -> Train {
    Train::tiny(out)
        .with("epochs", 100_000)
        .with("checkpoint-every-steps", 2)
}

fn start(run: &Train) -> Child {
    let mut command = run.command();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn a_second_process_is_refused_and_a_dead_one_does_not_block() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let mut child = start(&endless(&run));
    wait_for_checkpoint(&run, 0, &mut child);
    let holder = format!("process {}", child.id());
    let others = [
        endless(&run),
        endless(&run).switch("fresh"),
        Train::bare(&run).switch("resume"),
        Train::bare(&run)
            .switch("resume")
            .switch("change-settings")
            .with("lr", 0.1),
    ];
    for other in others {
        let error = other.fail();
        assert!(error.contains("in use by"), "{error}");
        assert!(error.contains(&holder), "{error}");
    }
    assert!(child.try_wait().unwrap().is_none(), "it was left alone");

    // Readers are welcome, again and again while checkpoints come and go.
    let folder = root.path().join("pictures");
    common::pictures(&folder, 2);
    for _ in 0..5 {
        let mut embed = program();
        embed.arg("embed").arg("--weights").arg(&run).arg(&folder);
        let output = embed.arg("--out").arg(root.path().join("f.npy")).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    // Killed, it leaves a lock file with its number, and no lock.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!fs::read_to_string(run.join("lock")).unwrap().is_empty());
    let step = checkpoint_steps(&run)[0];
    let epochs = (step + 4).div_ceil(4);
    let said = endless(&run).with("stop-after-epochs", epochs).succeed();
    assert!(said.contains("from step"), "{said}");
    assert_eq!(fs::read_to_string(run.join("lock")).unwrap(), "");
}

#[test]
fn of_two_that_begin_together_one_trains() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    let settings = |out: &Path| Train::tiny(out).with("epochs", 8);
    settings(&whole).succeed();
    for round in 0..4 {
        let run = root.path().join(format!("run-{round}"));
        let children: Vec<_> = (0..2)
            .map(|_| {
                let mut command = settings(&run).command();
                command.stdout(Stdio::null()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        let outputs: Vec<_> = children
            .into_iter()
            .map(|child| child.wait_with_output().unwrap())
            .collect();
        let good = outputs.iter().filter(|o| o.status.success()).count();
        assert!(good >= 1, "{}", text(&outputs[0].stderr));
        // The second may have come so late that it found the run finished.
        for output in outputs.iter().filter(|o| !o.status.success()) {
            let error = common::one_error(output);
            assert!(
                error.contains("in use by") || error.contains("another process"),
                "{error}"
            );
        }
        assert_same(&whole, &run);
    }
}
