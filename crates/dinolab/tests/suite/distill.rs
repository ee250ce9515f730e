//! Runs of distillation: the same at any number of threads, resumed exactly, from a teacher that stays what it
//! was, and given nothing that it does not have.

use std::fs;
use std::path::Path;

use crate::common::{
    Train, figures, of_kind, pictures, program, same_however_it_is_run, teacher, tensors, text,
};

#[test]
fn threads_and_interruptions_do_not_show() {
    let root = tempfile::tempdir().unwrap();
    let whole = same_however_it_is_run(root.path(), Train::tiny_distill);
    for term in ["feature", "patches"] {
        assert_eq!(figures(&whole, "train", term).len(), 12, "{term}");
    }
}

#[test]
fn with_micro_batches_and_weights_to_start_from_as_well() {
    let root = tempfile::tempdir().unwrap();
    let start = root.path().join("start");
    Train::tiny_distill(&start).with("epochs", 1).succeed();
    let whole = same_however_it_is_run(root.path(), |run| {
        Train::tiny_distill(run)
            .with("weights", start.display())
            .with("preserve", 0.5)
            .with("accumulate", 2)
            .with("batch-size", 4)
            .with("freeze-backbone-epochs", 1)
            .with("teacher-size", 56)
    });
    assert_eq!(figures(&whole, "train", "drift").len(), 12);
}

/// Also when what is kept of the teacher is there from before, or gone.
#[test]
fn with_crops_that_come_again_as_well() {
    let root = tempfile::tempdir().unwrap();
    let fixed = |run: &Path| Train::tiny_distill(run).with("fixed-crops", 1);
    let whole = same_however_it_is_run(root.path(), fixed);
    let kept = whole.join("teacher-outputs");
    assert!(kept.is_dir());
    let state = tensors(&whole);
    let again = root.path().join("again");
    fixed(&again).with("stop-after-epochs", 2).succeed();
    fs::remove_dir_all(again.join("teacher-outputs")).unwrap();
    fixed(&again).succeed();
    assert_eq!(tensors(&again), state);
    fixed(&whole)
        .switch("fresh")
        .with("epochs", 1)
        .with("fixed-crops", 0)
        .succeed();
    assert!(!kept.exists());
}

#[test]
fn a_student_learns_and_is_used_without_its_teacher() {
    let root = tempfile::tempdir().unwrap();
    let (run, weights) = (root.path().join("run"), root.path().join("teacher"));
    fs::create_dir(&weights).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(teacher().join(file), weights.join(file)).unwrap();
    }
    let train = Train::tiny_distill(&run)
        .with("teacher-weights", weights.display())
        .with("epochs", 20)
        .with("lr", 0.1);
    let said = train.succeed();
    assert!(
        said.contains("feature") && said.contains("patches"),
        "{said}"
    );
    let losses = |name: &str| -> Vec<f64> {
        let of = |line: &serde_json::Map<_, _>| {
            let value = line.get(name).unwrap_or_else(|| &line["terms"][name]);
            value.as_f64().unwrap()
        };
        of_kind(&run, "epoch").iter().map(of).collect()
    };
    for name in ["loss", "feature", "patches"] {
        let all = losses(name);
        assert!(all[19] < 0.8 * all[1], "{name}: {all:?}");
    }
    let names: Vec<String> = tensors(&run).into_keys().collect();
    let of_teacher = |name: &&String| name.starts_with("teacher.");
    assert_eq!(names.iter().filter(of_teacher).count(), 1, "{names:?}");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("distillation from"));

    let images = root.path().join("images");
    pictures(&images, 4);
    let features = root.path().join("features.npy");
    let mut embed = program();
    embed.arg("embed").arg("--weights").arg(&run).arg(&images);
    let output = embed.arg("--out").arg(&features).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = root.path().join("student.safetensors");
    let mut convert = program();
    let output = convert
        .arg("convert")
        .arg(&run)
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let weights_of = dinolab_nn::weights::read(&file, None).unwrap();
    assert!(
        weights_of
            .arrays
            .keys()
            .all(|name| name.starts_with("backbone."))
    );

    // The run goes on with its teacher and with no other.
    let longer = |train: &Train| {
        train
            .clone()
            .switch("resume")
            .switch("change-settings")
            .with("epochs", 21)
    };
    let file = weights.join("model.safetensors");
    let aside = weights.join("aside.json");
    fs::rename(&file, &aside).unwrap();
    let error = longer(&train).fail();
    assert!(error.contains("teacher-weights"), "{error}");
    fs::rename(&aside, &file).unwrap();
    longer(&train).succeed();
    let other = root.path().join("other");
    Train::tiny(&other).with("epochs", 1).succeed();
    let error = longer(&train)
        .with("epochs", 22)
        .with("teacher-weights", other.display())
        .fail();
    assert!(
        error.contains("weights of the teacher") || error.contains("targets.feature"),
        "{error}"
    );
}

#[test]
fn what_it_does_not_have_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    for (flag, value, named) in [
        ("local-crops-number", "2", "global crops"),
        ("patch-drop-rate", "0.5", "all patch tokens"),
        ("teacher-feature-weight", "-1", "below 0"),
        ("teacher-temp", "0.04", "belongs to dino"),
        ("teacher-weights", "nowhere", "no such file"),
    ] {
        let error = Train::tiny_distill(&run).with(flag, value).fail();
        assert!(
            error.contains(flag) && error.contains(named),
            "{flag}: {error}"
        );
    }
    let error = Train::tiny_distill(&run).without("teacher-weights").fail();
    assert!(error.contains("needs --teacher-weights"), "{error}");
    let nothing = Train::tiny_distill(&run)
        .with("teacher-feature-weight", 0)
        .with("teacher-patch-weight", 0)
        .fail();
    assert!(nothing.contains("teacher-patch-weight"), "{nothing}");
    let other = Train::tiny_lejepa(&run).with("teacher-weights", teacher().display());
    let error = other.fail();
    assert!(error.contains("belongs to distill"), "{error}");
    assert!(!run.exists());
}
