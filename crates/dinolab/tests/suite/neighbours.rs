//! `dinolab neighbours` as a user calls it.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Train, one_error, picture, program, usage_error};
use serde_json::Value;
use tempfile::TempDir;

struct Setting {
    folder: TempDir,
    run: PathBuf,
    images: PathBuf,
}

/// A tiny run and ten pictures, of which 3 and 7 are the same.
fn setting() -> Setting {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    Train::tiny(&run).with("epochs", 1).succeed();
    let images = folder.path().join("my images");
    for i in 0..10 {
        let seed = if i == 7 { 3 } else { i };
        picture(&images.join(format!("{i}.png")), 48, seed * 13 + 1);
    }
    Setting {
        folder,
        run,
        images,
    }
}

impl Setting {
    fn command(&self) -> Command {
        let mut command = program();
        command
            .arg("neighbours")
            .arg("--weights")
            .arg(&self.run)
            .arg(&self.images);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn json(command: &mut Command) -> (Value, String) {
    let output = command.arg("--json").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    (serde_json::from_slice(&output.stdout).unwrap(), told)
}

fn near(found: &Value, query: usize) -> Vec<(String, f64)> {
    found["queries"][query]["neighbours"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| {
            let name = n["image"].as_str().unwrap().to_owned();
            (name, n["similarity"].as_f64().unwrap())
        })
        .collect()
}

#[test]
fn the_nearest_of_files_and_names() {
    let setting = setting();
    let outside = setting.path("elsewhere.png");
    fs::copy(setting.images.join("5.png"), &outside).unwrap();
    let mut command = setting.command();
    command
        .arg(setting.images.join("3.png"))
        .arg("3.png")
        .arg(&outside);
    let (found, _) = json(command.args(["--k", "4"]));
    assert_eq!(
        (&found["images"], &found["embedded"]),
        (&10.into(), &10.into())
    );
    // A member does not find itself, but its twin.
    let first = near(&found, 0);
    assert_eq!(first.len(), 4);
    assert_eq!(first[0].0, "7.png");
    assert!((first[0].1 - 1.0).abs() < 1e-5);
    assert!(first.windows(2).all(|w| w[0].1 >= w[1].1));
    assert!(first.iter().all(|(name, _)| name != "3.png"));
    assert_eq!(first, near(&found, 1));
    // A file from elsewhere finds its like.
    let third = near(&found, 2);
    assert_eq!(third[0].0, "5.png");
    assert!((third[0].1 - 1.0).abs() < 1e-5);
    let path = found["queries"][2]["neighbours"][0]["path"]
        .as_str()
        .unwrap();
    assert!(Path::new(path).is_file());
    // More than there are: all the others.
    let (found, _) = json(setting.command().args(["3.png", "--k", "99"]));
    assert_eq!(near(&found, 0).len(), 9);
}

#[test]
fn only_what_is_new_is_embedded() {
    let setting = setting();
    let embedded = |command: &mut Command| {
        let found = json(command).0;
        let count = found["embedded"].as_u64().unwrap();
        (count, PathBuf::from(found["index"].as_str().unwrap()))
    };
    let (count, path) = embedded(&mut setting.command());
    assert_eq!(count, 10);
    assert!(
        path.starts_with(setting.run.join("index")),
        "{}",
        path.display()
    );
    let query = |setting: &Setting| near(&json(setting.command().arg("2.png")).0, 0);
    let before = query(&setting);
    assert_eq!(embedded(&mut setting.command()).0, 0);
    // One is new, one has changed, one is gone.
    picture(&setting.images.join("new.png"), 48, 77);
    picture(&setting.images.join("4.png"), 52, 500);
    fs::remove_file(setting.images.join("6.png")).unwrap();
    assert_eq!(embedded(&mut setting.command()).0, 2);
    let after = query(&setting);
    assert!(after.iter().any(|(name, _)| name == "new.png"));
    assert!(after.iter().all(|(name, _)| name != "6.png"));
    // As if made anew.
    let other = setting.path("other.safetensors");
    let mut fresh = setting.command();
    fresh.arg("2.png").arg("--index").arg(&other);
    let (fresh, _) = json(&mut fresh);
    assert_eq!(fresh["embedded"], 10);
    assert_eq!(near(&fresh, 0), after);
    assert_ne!(before, after);
    // Another preprocessing, another network: nothing is taken over.
    assert_eq!(embedded(setting.command().args(["--resize", "40"])).0, 10);
    assert_eq!(embedded(&mut setting.command()).0, 10);
    assert_eq!(
        embedded(setting.command().args(["--checkpoint-key", "student"])).0,
        10
    );
    // A damaged file is made anew, with a word.
    fs::write(&path, b"not an index").unwrap();
    let (found, told) = json(&mut setting.command());
    assert_eq!(found["embedded"], 10);
    assert!(
        told.contains("warning") && told.contains("rebuilding it"),
        "{told}"
    );
    // Where it cannot be kept the answer is given all the same.
    let mut nowhere = setting.command();
    nowhere
        .arg("2.png")
        .arg("--index")
        .arg(setting.images.join("0.png/x"));
    let (found, told) = json(&mut nowhere);
    assert!(told.contains("--index"), "{told}");
    assert_eq!(near(&found, 0), after);
}

#[test]
fn bad_images_are_listed_and_left_out() {
    let setting = setting();
    fs::write(setting.images.join("bad.jpg"), b"\xff\xd8\xff broken").unwrap();
    let (found, told) = json(setting.command().arg("1.png"));
    assert!(told.contains("skipped bad.jpg"), "{told}");
    assert_eq!(
        (&found["images"], &found["skipped"]),
        (&10.into(), &1.into())
    );
    // It is tried again, since it may have been mended in place.
    let (found, told) = json(&mut setting.command());
    assert!(told.contains("skipped bad.jpg"), "{told}");
    assert_eq!(
        (&found["embedded"], &found["skipped"]),
        (&0.into(), &1.into())
    );
    let fail = |query: &str| one_error(&setting.command().arg(query).output().unwrap());
    assert!(fail("none.png").contains("none.png"));
    assert!(fail("bad.jpg").contains("bad.jpg"));
    let bad = setting.images.join("bad.jpg");
    assert!(fail(bad.to_str().unwrap()).contains("bad.jpg"));
    let both = setting
        .command()
        .args(["1.png", "--duplicates"])
        .output()
        .unwrap();
    assert!(usage_error(&both).contains("cannot be used with"));
    let sheet = setting
        .command()
        .args(["1.png", "--out", "x.gif"])
        .output()
        .unwrap();
    assert!(one_error(&sheet).contains(".html"));
}

#[test]
fn sheets_as_picture_and_page() {
    let setting = setting();
    let (png, html) = (setting.path("near.png"), setting.path("near.html"));
    let outside = setting.path("a & b.png");
    fs::copy(setting.images.join("5.png"), &outside).unwrap();
    for out in [&png, &html] {
        let mut command = setting.command();
        command
            .arg("3.png")
            .arg(&outside)
            .args(["--k", "3", "--out"])
            .arg(out);
        assert!(command.output().unwrap().status.success());
    }
    // Two rows of a query and three neighbours.
    let sheet = image::open(&png).unwrap();
    assert!(sheet.width() >= 4 * 48 && sheet.width() < 6 * 48);
    assert!(sheet.height() >= 2 * 48);
    let page = fs::read_to_string(&html).unwrap();
    assert_eq!(page.matches("<figure>").count(), 8);
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 8);
    assert!(page.contains("a &amp; b.png") && page.contains("my%20images/7.png"));
    assert!(!page.contains("src=\"http"));
}

#[test]
fn near_duplicates_are_grouped() {
    let setting = setting();
    // A third of the kind, and a pair of its own in a list.
    fs::copy(
        setting.images.join("3.png"),
        setting.images.join("a copy.png"),
    )
    .unwrap();
    let html = setting.path("groups.html");
    let run = |flags: &[&str]| {
        let mut command = setting.command();
        json(command.arg("--duplicates").args(flags))
    };
    let (found, told) = run(&["--threshold", "1.0", "--out", html.to_str().unwrap()]);
    let groups = found["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 1, "{found}");
    let names: Vec<&str> = groups[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["image"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["3.png", "7.png", "a copy.png"]);
    assert!(told.contains("1 groups with 3 images"), "{told}");
    assert!(
        fs::read_to_string(&html)
            .unwrap()
            .contains("group 1: 3 images")
    );
    // Any two images are this similar.
    let (found, _) = run(&["--threshold", "-0.9999"]);
    assert_eq!(found["groups"][0].as_array().unwrap().len(), 11);
    let output = setting
        .command()
        .args(["--duplicates", "--threshold", "2"])
        .output()
        .unwrap();
    assert!(one_error(&output).contains("--threshold"));
}

#[test]
fn archives_serve_as_well() {
    let setting = setting();
    let tar = setting.path("images.tar");
    let mut archive = tar::Builder::new(fs::File::create(&tar).unwrap());
    archive.append_dir_all("in", &setting.images).unwrap();
    archive.finish().unwrap();
    let mut command = program();
    command
        .arg("neighbours")
        .arg("--weights")
        .arg(common::newest(&setting.run))
        .arg(&tar);
    let (found, _) = json(command.arg("in/3.png"));
    assert_eq!(near(&found, 0)[0].0, "in/7.png");
    assert!(found["queries"][0]["neighbours"][0]["path"].is_null());
    // Of a checkpoint of a run the index is in the run, too.
    let path = PathBuf::from(found["index"].as_str().unwrap());
    assert!(
        path.starts_with(setting.run.join("index")),
        "{}",
        path.display()
    );
}
