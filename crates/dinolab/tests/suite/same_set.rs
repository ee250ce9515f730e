//! A run's set is what is in it, not how its path is spelled.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::{
    Train, assert_same, checkpoint_steps, one_error, picture, pictures, program, text,
};

fn settings(out: &Path, images: &Path) -> Train {
    Train::tiny(out).without("shapes-images").on(images)
}

/// Runs a suggested command in `at`.
fn follow(error: &str, at: &Path, more: &[&str]) -> Output {
    let command = error.split("dinolab train ").nth(1).expect("a command");
    let command = command.split("; ").next().unwrap();
    let mut run = program();
    run.arg("train").args(command.split_whitespace()).args(more);
    run.current_dir(at).output().unwrap()
}

#[test]
fn the_same_images_by_another_path_are_the_same_set() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    pictures(&at("tree/one"), 6);
    pictures(&at("tree/two"), 10);
    let (whole, run) = (at("whole"), at("run"));
    settings(&whole, &at("tree")).succeed();
    let part = |images: &str, cwd: &Path, epochs: f64| {
        let train = settings(&run, Path::new(images)).with("stop-after-epochs", epochs);
        let output = train.command().current_dir(cwd).output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{said}");
        said
    };
    part("tree", root.path(), 0.5);
    let said = part("./tree", root.path(), 1.0);
    assert!(said.contains("from step 1"), "{said}");
    part("../tree/", &at("tree"), 1.5);
    part(at("tree").to_str().unwrap(), root.path(), 2.0);
    // Its own settings hold from any working directory.
    let mut resume = Train::bare(&run)
        .switch("resume")
        .with("stop-after-epochs", 2.5)
        .command();
    assert!(resume.current_dir("/").status().unwrap().success());
    // Moved.
    fs::rename(at("tree"), at("moved")).unwrap();
    let error = Train::bare(&run).switch("resume").fail();
    assert!(
        error.contains("tree") && error.contains("IMAGES"),
        "{error}"
    );
    part("moved", root.path(), 0.0);
    assert_same(&whole, &run);
}

#[test]
fn a_changed_set_is_told_and_refused() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    for i in 0..12 {
        picture(&folder.join(format!("a/{i:02}.png")), 40, i);
        picture(&folder.join(format!("b/{i:02}.png")), 40, 50 + i);
    }
    let train = settings(&run, &folder).with("holdout", 0.25);
    train.clone().with("stop-after-epochs", 1).succeed();
    let step = checkpoint_steps(&run);
    let resumes = || {
        let error = train.fail();
        assert!(error.contains("other images"), "{error}");
        assert_eq!(checkpoint_steps(&run), step);
        error
    };
    let extra = folder.join("a/99.png");
    picture(&extra, 40, 99);
    let error = resumes();
    assert!(error.contains("1 new (a/99.png)"), "{error}");
    // What it suggests works on the changed set.
    let output = follow(&error, root.path(), &["--epochs", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::remove_file(&extra).unwrap();

    let kept = fs::read(folder.join("b/03.png")).unwrap();
    fs::remove_file(folder.join("b/03.png")).unwrap();
    let error = resumes();
    assert!(error.contains("1 gone (b/03.png)"), "{error}");
    fs::write(folder.join("b/03.png"), [&kept[..], b"more"].concat()).unwrap();
    let error = resumes();
    assert!(error.contains("1 of another size (b/03.png)"), "{error}");
    fs::write(folder.join("b/03.png"), kept).unwrap();
    // As it was, it goes on.
    let said = train.succeed();
    assert!(said.contains("from step"), "{said}");
}

#[test]
fn other_sources_are_compared_too() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("images");
    pictures(&folder, 8);
    let list = root.path().join("list.txt");
    let write = |order: &[u32]| {
        let lines: String = order
            .iter()
            .map(|i| format!("images/image-{i:03}.jpg\n"))
            .collect();
        fs::write(&list, lines).unwrap();
    };
    write(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let run = root.path().join("run");
    let train = settings(&run, &list);
    train.clone().with("stop-after-epochs", 1).succeed();
    write(&[1, 0, 2, 3, 4, 5, 6, 7]);
    assert!(train.fail().contains("another order"));
    write(&[0, 1, 2, 3, 4, 5, 6, 7]);
    // Another --val is another set as well.
    assert!(
        train
            .clone()
            .with("val", folder.display())
            .fail()
            .contains("8 new")
    );
    train.succeed();
}

#[test]
fn a_run_without_a_record_gets_one() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    pictures(&folder, 8);
    let train = settings(&run, &folder);
    train.clone().with("stop-after-epochs", 1).succeed();
    let record = fs::read(run.join("images.tsv")).unwrap();
    fs::remove_file(run.join("images.tsv")).unwrap();
    let other = root.path().join("other");
    pictures(&other, 9);
    let refused = settings(&run, &other).output();
    assert!(one_error(&refused).contains("other images"));
    let said = train.clone().with("stop-after-epochs", 2).succeed();
    assert!(said.contains("images.tsv"), "{said}");
    assert_eq!(fs::read(run.join("images.tsv")).unwrap(), record);
    assert!(!train.succeed().contains("no record"), "said once");
}

#[test]
fn images_that_were_away_for_a_moment_are_not_blamed_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    pictures(&folder, 16);
    fs::write(folder.join("broken.jpg"), "no image").unwrap();
    let train = settings(&run, &folder)
        .with("max-unusable-percent", 50)
        .with("epochs", 4);
    // As a reading error of a network drive: the bytes are not those of the file.
    let away = ["image-003.jpg", "image-007.jpg"].map(|name| folder.join(name));
    let bytes = away.clone().map(|path| fs::read(path).unwrap());
    for (path, bytes) in away.iter().zip(&bytes) {
        fs::write(path, vec![0; bytes.len()]).unwrap();
    }
    train.clone().with("stop-after-epochs", 2).succeed();
    let listed = || fs::read_to_string(run.join("skipped.tsv")).unwrap();
    assert_eq!(listed().lines().count(), 3, "{}", listed());
    for (path, bytes) in away.iter().zip(&bytes) {
        fs::write(path, bytes).unwrap();
    }
    let said = train.clone().with("stop-after-epochs", 2.5).succeed();
    assert!(
        said.contains("2 of 3 images listed in skipped.tsv"),
        "{said}"
    );
    assert_eq!(listed().lines().count(), 1);
    assert!(listed().starts_with("broken.jpg\t"), "{}", listed());
}
