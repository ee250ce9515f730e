//! Runs that are chosen: by a recipe, and by the time that they may take.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::{Train, checkpoint_steps, one_error, picture, pictures, text, usage_error};

/// A setting as the run recorded it.
fn recorded(run: &Path, setting: &str) -> String {
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let line = config.lines().find_map(|line| {
        let (key, value) = line.split_once(" = ")?;
        (key == setting).then(|| value.trim_matches('"').to_owned())
    });
    line.unwrap_or_else(|| panic!("no {setting} in {config}"))
}

/// A tiny network on some pictures, whose length is open.
fn open_ended(run: &Path, images: &Path) -> Train {
    Train::tiny_lejepa(run)
        .on(images)
        .without("epochs")
        .without("eval-every")
        .without("shapes-images")
}

#[test]
fn a_run_takes_about_the_time_it_is_given_and_is_then_like_any_other() {
    let root = tempfile::tempdir().unwrap();
    let (images, run) = (root.path().join("images"), root.path().join("run"));
    pictures(&images, 64);
    // Steps long enough to outweigh what is around them.
    let train = open_ended(&run, &images).with("time", "12s");
    let train = train
        .with("width", 96)
        .with("depth", 6)
        .with("batch-size", 16);
    let began = Instant::now();
    let said = train.succeed();
    let seconds = began.elapsed().as_secs_f64();
    // Whole epochs, of up to two seconds on a slow machine.
    let estimated = [10, 11, 12].map(|seconds| format!("on this machine: {seconds}s ("));
    assert!(estimated.iter().any(|line| said.contains(line)), "{said}");
    // Loosely, since other tests run beside it and end at some time.
    assert!((4.0..40.0).contains(&seconds), "{seconds} s: {said}");

    assert_eq!(recorded(&run, "time"), "12s");
    let epochs: f64 = recorded(&run, "epochs").parse().unwrap();
    let steps = (4.0 * epochs).round() as u64;
    assert_eq!(checkpoint_steps(&run)[0], steps);
    // The width was given.
    assert_eq!(recorded(&run, "width"), "96");

    // The same command finds it finished and measures nothing.
    let again = train.succeed();
    assert!(again.contains(&format!("from step {steps}")), "{again}");
    assert!(!again.contains("measuring"), "{again}");
    // So does a resumed run; another time is another run.
    Train::bare(&run).switch("resume").succeed();
    let other = Train::bare(&run).switch("resume").with("time", "1h").fail();
    assert!(other.contains("another --time"), "{other}");

    // Its file makes the same run anywhere, without measuring.
    let copy = root.path().join("copy");
    let from_file = Train::bare(&copy).with("config", run.join("config.toml").display());
    let said = from_file.with("stop-after-epochs", 1).succeed();
    assert!(!said.contains("measuring"), "{said}");
    assert_eq!(recorded(&copy, "epochs"), recorded(&run, "epochs"));
}

#[test]
fn times_that_make_no_run_are_refused_with_one_that_does() {
    let root = tempfile::tempdir().unwrap();
    let (images, run) = (root.path().join("images"), root.path().join("run"));
    pictures(&images, 32);
    let open = open_ended(&run, &images);
    let both = open.clone().with("time", "10m").with("epochs", 3).fail();
    assert!(
        both.contains("--time 10m") && both.contains("--epochs"),
        "{both}"
    );
    for time in ["10", "soon", "-5m"] {
        let error = usage_error(&open.clone().with("time", time).output());
        assert!(error.contains("--time"), "{error}");
    }
    assert!(!run.exists(), "nothing was begun");
    let short = open.clone().with("time", "1ms").fail();
    let least = short.rsplit(' ').next().unwrap().to_owned();
    assert!(short.contains("too short"), "{short}");
    assert!(!run.exists(), "nothing was begun");
    // As advised; the machine may be slower now than when it was measured.
    let least: u64 = least.strip_suffix('s').unwrap().parse().unwrap();
    open.with("time", format!("{}s", 5 * least)).succeed();
}

#[test]
fn a_folder_on_a_processor_gets_the_small_recipe_and_says_how_long_that_takes() {
    let root = tempfile::tempdir().unwrap();
    let (images, run) = (root.path().join("images"), root.path().join("run"));
    for i in 0..6 {
        picture(&images.join(format!("{i}.png")), 40, i);
    }
    let train = Train::bare(&run).on(&images);
    let said = train.clone().with("stop-after-epochs", 1).succeed();
    assert!(
        said.contains("on this machine") && said.contains("--time 8h"),
        "{said}"
    );
    let settings = ["recipe", "method", "patch-size", "epochs", "time"];
    assert_eq!(
        settings.map(|setting| recorded(&run, setting)),
        ["small", "lejepa", "8", "400.0", "0s"]
    );

    // What the method does not have is refused, with the way to have it.
    let other = train.clone().with("teacher-temp", 0.04).output();
    let error = one_error(&other);
    assert!(
        error.contains("--teacher-temp") && error.contains("--method dino"),
        "{error}"
    );
    // The message's advice.
    let run = root.path().join("dino");
    let tiny = Train::bare(&run).on(&images).with("stop-after-epochs", 1);
    let tiny = tiny
        .with("arch", "custom")
        .with("width", 32)
        .with("depth", 2);
    tiny.with("teacher-temp", 0.04)
        .with("method", "dino")
        .with("epochs", 1)
        .succeed();
    assert_eq!(recorded(&run, "method"), "dino");

    // Weights bring their network.
    let from = root.path().join("from");
    let start = Train::bare(&from)
        .on(&images)
        .with("weights", run.display());
    start.with("epochs", 1).succeed();
    let sizes = ["width", "depth", "image-size"].map(|size| recorded(&from, size));
    assert_eq!(sizes, ["32", "2", &recorded(&run, "image-size")]);

    // The paper's is one flag away.
    let run = root.path().join("paper");
    let paper = Train::bare(&run).on(&images).with("recipe", "paper");
    let error = one_error(&paper.with("accumulate", 99).output());
    assert!(error.contains("accumulate"), "{error}");
    assert!(text(&other.stdout).is_empty());
}

#[test]
fn photographs_get_a_transformer_with_a_stem_unless_another_network_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    for i in 0..4 {
        picture(&images.join(format!("{i}.png")), 100, i);
    }
    let train = |name: &str| {
        let train = Train::bare(&root.path().join(name)).on(&images);
        train.with("epochs", 1).with("batch-size", 4)
    };
    train("stem").succeed();
    let run = root.path().join("stem");
    let settings = ["arch", "width", "stem", "optimizer"];
    let chosen = settings.map(|setting| recorded(&run, setting));
    assert_eq!(chosen, ["custom", "192", "conv", "muon"]);
    assert!(run.join("pictures/attention-epoch-0001.png").exists());

    train("residual").with("arch", "resnet18").succeed();
    let run = root.path().join("residual");
    let chosen = settings.map(|setting| recorded(&run, setting));
    assert_eq!(chosen, ["resnet18", "256", "patchify", "muon"]);
    assert!(run.join("pictures/activation-epoch-0001.png").exists());
}
