//! Training on folders as people have them: broken files among good ones, and none at all.
//! Errors are one line that says what, where and what to do.

use crate::common;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Train, assert_same, figures, one_error, picture, program, usage_error};
use image::{ImageBuffer, Luma, Rgb};

/// Sixty files. Five percent, three of them, cannot be used; the odd ones among the others can.
fn mixed(folder: &Path) -> BTreeSet<String> {
    for i in 0..53 {
        picture(&folder.join(format!("plain/{i:02}.jpg")), 48, i);
    }
    let at = |name: &str| folder.join(name);
    // Can be used: grey, grey with 16 bits, colour with 16 bits, CMYK.
    let grey = ImageBuffer::from_fn(40, 32, |x, y| Luma([(x * 5 + y) as u8]));
    grey.save(at("grey.png")).unwrap();
    let deep = ImageBuffer::from_fn(40, 32, |x, y| Luma([(x * 1500 + y * 9) as u16]));
    deep.save(at("grey-16.png")).unwrap();
    let deep = ImageBuffer::from_fn(40, 32, |x, y| Rgb([x as u16 * 1600, y as u16 * 2000, 9000]));
    deep.save(at("deep.png")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dinolab-jpeg/tests/fixtures");
    fs::copy(fixtures.join("cmyk_adobe.jpg"), at("cmyk.jpg")).unwrap();
    // Cannot: cut short, empty, of a single pixel.
    let whole = fs::read(at("plain/00.jpg")).unwrap();
    fs::write(at("plain/broken.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("empty.jpg"), b"").unwrap();
    ImageBuffer::from_pixel(1, 1, Rgb([9u8, 9, 9]))
        .save(at("pixel.png"))
        .unwrap();
    // No images, and not counted.
    fs::write(at("notes.txt"), "not an image").unwrap();
    fs::write(at(".hidden.jpg"), "not one either").unwrap();
    ["empty.jpg", "pixel.png", "plain/broken.jpg"]
        .map(str::to_owned)
        .into()
}

/// Rows of `skipped.tsv`: name and reason.
fn skipped(run: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(run.join("skipped.tsv")).unwrap();
    let row = |line: &str| {
        let (name, reason) = line
            .split_once('\t')
            .unwrap_or_else(|| panic!("no reason: {line}"));
        (name.to_owned(), reason.to_owned())
    };
    text.lines().map(row).collect()
}

#[test]
fn unusable_images_are_skipped_and_listed() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    let bad = mixed(&folder);
    // A batch of 6 divides 60: every image is met.
    let settings = Train::tiny(&run)
        .on(&folder)
        .with("batch-size", 6)
        .with("epochs", 2);
    let said = settings.clone().with("max-unusable-percent", 10).succeed();
    assert!(said.contains("60 images in"), "{said}");
    assert!(said.contains("3 images could not be used"), "{said}");
    assert_eq!(figures(&run, "train", "step").len(), 20);
    let found = skipped(&run);
    assert_eq!(
        found
            .iter()
            .map(|row| row.0.clone())
            .collect::<BTreeSet<_>>(),
        bad
    );
    assert_eq!(found.len(), 3, "each once");
    let reason = |name: &str| &found.iter().find(|row| row.0 == name).unwrap().1;
    assert!(reason("empty.jpg").contains("empty"), "{found:?}");
    assert!(reason("pixel.png").contains('1'), "{found:?}");
    assert!(!reason("plain/broken.jpg").is_empty(), "{found:?}");

    // Whatever the threads, the crops that take their places are the same.
    let other = root.path().join("other");
    Train::tiny(&other)
        .on(&folder)
        .with("batch-size", 6)
        .with("epochs", 2)
        .with("max-unusable-percent", 10)
        .with("num-workers", 1)
        .threads(1)
        .succeed();
    assert_same(&run, &other);
}

#[test]
fn too_many_unusable_images_end_the_run() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    let bad = mixed(&folder);
    let settings = Train::tiny(&run)
        .on(&folder)
        .with("batch-size", 6)
        .with("epochs", 2);
    let error = settings.fail();
    assert!(error.contains("--max-unusable-percent"), "{error}");
    assert!(error.contains("of 60") && error.contains("1%"), "{error}");
    let named = skipped(&run);
    assert!(
        !named.is_empty() && named.iter().all(|row| bad.contains(&row.0)),
        "{named:?}"
    );
    // Another attempt in the same folder begins as if there had been none.
    let allowed = settings
        .with("max-unusable-percent", 10)
        .with("eval-every", 1);
    allowed.succeed();
    let clean = root.path().join("clean");
    Train::tiny(&clean)
        .on(&folder)
        .with("batch-size", 6)
        .with("epochs", 2)
        .with("max-unusable-percent", 10)
        .with("eval-every", 1)
        .succeed();
    assert_same(&clean, &run);
    assert_eq!(skipped(&clean), skipped(&run));
}

#[test]
fn a_failed_attempt_leaves_no_metrics_behind() {
    let root = tempfile::tempdir().unwrap();
    let (run, clean) = (root.path().join("run"), root.path().join("clean"));
    // The untrained network is evaluated before the first batch fails.
    let folder = root.path().join("images");
    mixed(&folder);
    let settings = |out: &Path| {
        Train::tiny(out)
            .on(&folder)
            .with("batch-size", 6)
            .with("epochs", 1)
            .with("eval-every", 1)
    };
    settings(&run).fail();
    settings(&run).with("max-unusable-percent", 10).succeed();
    settings(&clean).with("max-unusable-percent", 10).succeed();
    assert_same(&clean, &run);
}

#[test]
fn skipped_images_stay_listed_over_a_resume() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    let bad = mixed(&folder);
    let settings = Train::tiny(&run)
        .on(&folder)
        .with("batch-size", 6)
        .with("epochs", 2)
        .with("max-unusable-percent", 10);
    settings.clone().with("stop-after-epochs", 1).succeed();
    assert_eq!(skipped(&run).len(), bad.len());
    // The second part of the run meets only some of them in its few steps.
    settings.clone().with("stop-after-epochs", 1.1).succeed();
    assert_eq!(skipped(&run).len(), bad.len());
    settings.succeed();
    let listed: BTreeSet<String> = skipped(&run).into_iter().map(|row| row.0).collect();
    assert_eq!(listed, bad);
}

#[test]
fn places_without_images_are_named() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let train = |images: &Path| Train::tiny(&run).on(images).fail();
    let missing = root.path().join("missing");
    let error = train(&missing);
    assert!(error.contains("missing"), "{error}");
    assert_eq!(
        error.matches("No such file").count(),
        1,
        "said once: {error}"
    );

    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(train(&empty).contains("no files"));
    fs::write(empty.join("notes.txt"), "text").unwrap();
    fs::write(empty.join("table.csv"), "1,2").unwrap();
    let error = train(&empty);
    assert!(
        error.contains("2 files") && error.contains("none of them an image"),
        "{error}"
    );

    // Images by name only.
    let broken = root.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for i in 0..3 {
        fs::write(broken.join(format!("{i}.jpg")), "no image").unwrap();
    }
    let error = Train::tiny(&run)
        .on(&broken)
        .with("max-unusable-percent", 100)
        .fail();
    assert!(
        error.contains("0.jpg") && error.contains("all 3"),
        "{error}"
    );

    let single = root.path().join("single.jpg");
    picture(&single, 40, 1);
    assert!(train(&single).contains("single image; give its folder"));
    assert!(!run.join("checkpoints").exists(), "no run has begun");
}

#[test]
fn settings_files_are_checked() {
    let root = tempfile::tempdir().unwrap();
    let (run, file) = (root.path().join("run"), root.path().join("my.toml"));
    let train = |text: &str| {
        fs::write(&file, text).unwrap();
        Train::bare(&run).with("config", file.display()).fail()
    };
    let error = train("epochs = 3\nlearning-rate = 0.1\n");
    assert!(
        error.contains("my.toml") && error.contains("line 2"),
        "{error}"
    );
    assert!(error.contains("learning-rate"), "{error}");
    let error = train("epochs = \"many\"\n");
    assert!(
        error.contains("line 1") && error.contains("many"),
        "{error}"
    );
    let error = train("epochs = \n");
    assert!(
        error.contains("my.toml") && error.contains("line 1"),
        "{error}"
    );
    fs::remove_file(&file).unwrap();
    let error = Train::bare(&run).with("config", file.display()).fail();
    assert!(error.contains("my.toml"), "{error}");
    assert!(!run.exists());
}

#[test]
fn values_out_of_range_name_their_flag() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    for (flag, value) in [
        ("arch", "resnet50"),
        ("heads", "5"),
        ("patch-size", "64"),
        ("epochs", "0"),
        ("epochs", "-1"),
        ("teacher-temp", "0"),
        ("lr", "-0.1"),
        ("momentum-teacher", "1.5"),
        ("batch-size", "0"),
        ("accumulate", "0"),
        ("koleo-weight", "-0.1"),
        ("momentum-teacher-end", "1.5"),
        ("head-bottleneck-dim", "0"),
        ("global-crops-scale", "0.5,2"),
        ("local-crops-size", "0"),
        ("max-unusable-percent", "101"),
        ("device", "cuda"),
        ("device", "abacus"),
        ("shapes-images", "0"),
        ("mean", "1,2"),
    ] {
        let error = Train::tiny(&run).with(flag, value).fail();
        assert!(error.contains(flag), "--{flag} {value}: {error}");
    }
    // By the method, which sees them together.
    let together = Train::tiny(&run).with("koleo-weight", 0.1);
    let error = together.with("accumulate", 2).fail();
    assert!(
        error.contains("--accumulate") && error.contains("KoLeo"),
        "{error}"
    );
    assert!(!run.exists());
    // Refused on the command line, before anything is looked at.
    for (flag, value) in [
        ("optimizer", "adam"),
        ("mean", "1,two"),
        ("epochs", "ten"),
        ("seed", "-1"),
    ] {
        let error = usage_error(&Train::tiny(&run).with(flag, value).output());
        assert!(
            error.contains(&format!("--{flag}")) && error.contains(value),
            "{error}"
        );
    }
    assert!(
        usage_error(&Train::tiny(&run).with("no-such-flag", 1).output()).contains("--no-such-flag")
    );
    assert!(!run.join("checkpoints").exists(), "no run has begun");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let run: PathBuf = file.join("run");
    let error = Train::tiny(&run).fail();
    assert!(error.contains("file"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn other_verbs_say_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    common::pictures(&folder, 4);
    Train::tiny(&run).on(&folder).with("epochs", 1).succeed();
    let outcome = |args: &[&str]| {
        let mut command = program();
        command
            .args(args)
            .arg("--weights")
            .arg(&run)
            .current_dir(root.path());
        command.output().unwrap()
    };
    let fails = |args: &[&str]| one_error(&outcome(args));
    assert!(fails(&["embed", "absent", "--out", "x.npy"]).contains("absent"));
    assert!(fails(&["attend", "absent", "--out", "x"]).contains("absent"));
    let refused = outcome(&["attend", "images", "--out", "x", "--size", "big"]);
    assert!(usage_error(&refused).contains("--size"));
    assert!(fails(&["attend", "images", "--out", "x", "--threshold", "2"]).contains("--threshold"));
    let key = ["--checkpoint-key", "both"];
    let refused = outcome(&[&["embed", "images", "--out", "x.npy"][..], &key].concat());
    assert!(usage_error(&refused).contains("both"));
    let error = fails(&["eval", "knn", "--train", "images", "--val", "images"]);
    assert!(
        error.contains("--train") && error.contains("no labels"),
        "{error}"
    );
}
