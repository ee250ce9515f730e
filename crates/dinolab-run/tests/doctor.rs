//! Logs of other programs are read, and judged by what they have.

use std::fs;

use dinolab_run::doctor::examine;
use dinolab_run::health::FailureMode;

fn log(lines: &[String]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines.join("\n")).unwrap();
    file
}

/// Lines as facebookresearch/dino writes them.
fn of_reference(losses: &[f64]) -> Vec<String> {
    let line = |(epoch, loss): (usize, &f64)| {
        format!(
            r#"{{"train_loss": {loss}, "train_lr": 0.0005, "train_wd": 0.05, "epoch": {epoch}}}"#
        )
    };
    losses.iter().enumerate().map(line).collect()
}

#[test]
fn a_log_of_the_reference_is_judged_by_its_loss() {
    let ln_k = 65_536f64.ln();
    let cases: [(&[f64], Option<FailureMode>); 4] = [
        (&[10.9, 9.8, 8.1, 7.0, 6.2, 5.9], None),
        (
            &[11.0, ln_k, ln_k, ln_k, ln_k],
            Some(FailureMode::UniformOutput),
        ),
        (
            &[9.0, 2.0, 0.05, 0.01, 0.004],
            Some(FailureMode::ConstantOutput),
        ),
        (&[9.0, 8.0, 9.1, 10.2, 11.3], Some(FailureMode::Divergence)),
    ];
    for (losses, expected) in cases {
        let file = log(&of_reference(losses));
        let found = examine(file.path(), None).unwrap();
        assert_eq!(found.cause(), expected, "{found}");
        assert_eq!(found.is_healthy(), expected.is_none());
        assert!(found.not_judged.len() >= 4, "{found}");
    }
    // 1,024 prototypes: a loss of 6.93 is guessing.
    let file = log(&of_reference(&[6.9, 6.93, 6.93, 6.93]));
    let found = examine(file.path(), Some(1024)).unwrap();
    assert_eq!(found.cause(), Some(FailureMode::UniformOutput));
}

#[test]
fn a_loss_that_is_no_number_is_told() {
    let mut lines = of_reference(&[9.0, 8.0]);
    lines.push(r#"{"train_loss": NaN, "train_lr": 0.0005, "epoch": 2}"#.into());
    let found = examine(log(&lines).path(), None).unwrap();
    assert_eq!(found.cause(), Some(FailureMode::Divergence), "{found}");
    assert_eq!(found.epochs, 3);
}

#[test]
fn what_is_no_log_is_refused_in_words() {
    let message = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        examine(log(&lines).path(), None).unwrap_err().to_string()
    };
    assert!(message(&["{}", "{}"]).contains("no line has figures of an epoch"));
    assert!(message(&["text", "{}"]).contains("line 1 is no JSON object"));
    let folder = tempfile::tempdir().unwrap();
    let error = examine(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("without metrics.jsonl"), "{error}");
    let error = examine(&folder.path().join("none"), None).unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
}

#[test]
fn a_line_that_is_being_written_is_left_out() {
    let mut lines = of_reference(&[9.0, 8.0]);
    lines.push(r#"{"train_loss": 7."#.into());
    assert_eq!(examine(log(&lines).path(), None).unwrap().epochs, 2);
}
