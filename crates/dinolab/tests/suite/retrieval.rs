//! `eval retrieval` and `eval copy` as a user calls them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Train, one_error, picture, program, usage_error};
use serde_json::Value;
use tempfile::TempDir;

/// The weights of a tiny run.
fn weights(folder: &TempDir) -> PathBuf {
    let run = folder.path().join("run");
    Train::tiny(&run).with("epochs", 1).succeed();
    run
}

fn json(command: &mut Command) -> (Value, String) {
    let output = command.arg("--json").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    (serde_json::from_slice(&output.stdout).unwrap(), told)
}

fn eval(verb: &str, weights: &Path) -> Command {
    let mut command = program();
    command.args(["eval", verb, "--weights"]).arg(weights);
    command
}

/// A benchmark in which queries are parts of database images.
fn benchmark(folder: &Path) -> PathBuf {
    for i in 0..8 {
        picture(&folder.join(format!("jpg/place_{i}.png")), 64, i * 5 + 1);
    }
    // Queries: a picture within a larger one of another colour.
    for i in 0..3u32 {
        let inside = image::open(folder.join(format!("jpg/place_{i}.png"))).unwrap();
        let mut outside = image::RgbImage::from_pixel(100, 90, image::Rgb([255, 0, 200]));
        image::imageops::replace(&mut outside, &inside.to_rgb8(), 20, 10);
        outside
            .save(folder.join(format!("jpg/query_{i}.png")))
            .unwrap();
    }
    let list =
        |kind: &str, n: usize| -> Vec<String> { (0..n).map(|i| format!("{kind}_{i}")).collect() };
    let bbx = [20.0, 10.0, 84.0, 74.0];
    let gnd = serde_json::json!({
        "imlist": list("place", 8),
        "qimlist": list("query", 3),
        "gnd": [
            {"easy": [0], "hard": [5], "junk": [6], "bbx": bbx},
            {"easy": [1], "hard": [], "junk": [0], "bbx": bbx},
            {"easy": [], "hard": [2], "junk": [], "bbx": bbx},
        ],
    });
    let file = folder.join("gnd.json");
    fs::write(&file, gnd.to_string()).unwrap();
    file
}

#[test]
fn revisited_protocol_with_boxes_and_scales() {
    let folder = TempDir::new().unwrap();
    let weights = weights(&folder);
    let file = benchmark(folder.path());
    let run = |flags: &[&str]| {
        let mut command = eval("retrieval", &weights);
        json(
            command
                .arg("--ground-truth")
                .arg(&file)
                .args(["--imsize", "64"])
                .args(flags),
        )
        .0
    };
    // Cut to its box, a query is an image of the database: found at once.
    let found = run(&[]);
    assert_eq!(found["protocol"], "revisited");
    let easy = &found["settings"]["easy"];
    assert_eq!(easy["map"], 1.0);
    assert_eq!(easy["queries"], 2);
    assert_eq!(easy["precision"]["1"], 1.0);
    assert!(easy["average_precision"]["query_2"].is_null());
    let hard = &found["settings"]["hard"];
    assert_eq!(hard["queries"], 2);
    assert_eq!(hard["average_precision"]["query_2"], 1.0);
    // Junk and easy images are out of the way of hard ones, so that place 5 competes with the
    // five others: one of six places.
    let of_hard = hard["average_precision"]["query_0"].as_f64().unwrap();
    assert!((1.0 / 12.0 - 1e-12..=1.0).contains(&of_hard), "{of_hard}");
    let several = run(&["--multiscale"]);
    assert_eq!(several["settings"]["easy"]["map"], 1.0);
    assert_ne!(several, found);
    let whole = run(&["--query-crop", "false"]);
    assert_ne!(whole["settings"], found["settings"]);
    // The same whatever the threads and the batches.
    let mut again = eval("retrieval", &weights);
    again
        .arg("--ground-truth")
        .arg(&file)
        .args(["--imsize", "64"]);
    again.env("RAYON_NUM_THREADS", "1");
    assert_eq!(json(&mut again).0, found);
    let blocks = eval("retrieval", &weights)
        .arg("--ground-truth")
        .arg(&file)
        .args(["--n-last-blocks", "2"])
        .output()
        .unwrap();
    assert!(!blocks.status.success());
    let told = String::from_utf8(blocks.stderr).unwrap();
    assert!(told.contains("without --n-last-blocks"), "{told}");
    let table = eval("retrieval", &weights)
        .arg("--ground-truth")
        .arg(&file)
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("setting"), "{table}");
    assert!(
        table.contains("mP@10 %") && table.contains("medium"),
        "{table}"
    );
}

#[test]
fn ground_truth_that_cannot_be_used() {
    let folder = TempDir::new().unwrap();
    let weights = weights(&folder);
    let file = benchmark(folder.path());
    let fail = |file: &Path| {
        let output = eval("retrieval", &weights)
            .arg("--ground-truth")
            .arg(file)
            .output();
        one_error(&output.unwrap())
    };
    let trap = folder.path().join("gnd.pkl");
    let mark = folder.path().join("ran");
    let command = format!("cos\nsystem\n(S'touch {}'\ntR.", mark.display());
    fs::write(&trap, command).unwrap();
    let told = fail(&trap);
    assert!(
        told.contains("os.system") && told.contains("refused"),
        "{told}"
    );
    assert!(!mark.exists());
    // A missing image is no zero: the protocol knows of none.
    fs::remove_file(folder.path().join("jpg/place_3.png")).unwrap();
    let told = fail(&file);
    assert!(told.contains("place_3"), "{told}");
    fs::rename(folder.path().join("jpg"), folder.path().join("elsewhere")).unwrap();
    assert!(fail(&file).contains("--image-folder"));
    let both = eval("retrieval", &weights)
        .arg("photos")
        .arg("--ground-truth")
        .arg(&file)
        .output()
        .unwrap();
    assert!(usage_error(&both).contains("cannot be used with"));
    let none = eval("retrieval", &weights).output().unwrap();
    assert!(one_error(&none).contains("--ground-truth"));
}

#[test]
fn labelled_folders() {
    let folder = TempDir::new().unwrap();
    let weights = weights(&folder);
    // Two classes of two identical pictures each, and a class of one.
    let images = folder.path().join("images");
    for (class, seed, count) in [("a", 3, 2), ("b", 8, 2), ("c", 14, 1)] {
        for i in 0..count {
            picture(&images.join(format!("{class}/{i}.png")), 48, seed);
        }
    }
    fs::write(images.join("a/broken.jpg"), b"\xff\xd8\xffnothing").unwrap();
    let (found, told) = json(eval("retrieval", &weights).arg(&images));
    assert!(told.contains("skipped a/broken.jpg"), "{told}");
    assert_eq!(found["map"], 1.0);
    assert_eq!(found["r_precision"], 1.0);
    assert_eq!(found["recall"]["1"], 1.0);
    assert_eq!(found["queries"], 4);
    assert_eq!(found["queries_without_match"], 1);
    // The same as two sets, from saved features: each finds itself, too.
    let saved = folder.path().join("f.npy");
    let embedded = program()
        .arg("embed")
        .arg(&images)
        .arg("--weights")
        .arg(&weights)
        .arg("--out")
        .arg(&saved)
        .output()
        .unwrap();
    assert!(embedded.status.success());
    let mut sets = program();
    sets.args(["eval", "retrieval", "--train"])
        .arg(&saved)
        .arg("--val")
        .arg(&saved);
    let (found, _) = json(&mut sets);
    assert_eq!(found["map"], 1.0);
    assert_eq!(found["queries"], 5);
    let flat = folder.path().join("flat");
    picture(&flat.join("x.png"), 48, 1);
    let output = eval("retrieval", &weights).arg(&flat).output().unwrap();
    assert!(one_error(&output).contains("labels"));
}

/// Originals and distractors, all different.
fn copies(folder: &TempDir) -> (PathBuf, PathBuf) {
    let originals = folder.path().join("originals");
    let others = folder.path().join("others");
    for i in 0..4 {
        picture(&originals.join(format!("photo-{i}.jpg")), 64, 11 + i * 3);
        picture(&others.join(format!("other-{i}.png")), 64, 12 + i * 3);
    }
    (originals, others)
}

#[test]
fn identical_images_come_first_and_copies_repeat() {
    let folder = TempDir::new().unwrap();
    let weights = weights(&folder);
    let (originals, others) = copies(&folder);
    let saved = folder.path().join("copies");
    let run = |flags: &[&str]| {
        let mut command = eval("copy", &weights);
        command.arg(&originals).arg("--distractors").arg(&others);
        json(
            command
                .args(["--imsize", "32", "--whitening"])
                .arg(&others)
                .args(flags),
        )
    };
    let attacks = [
        "--attacks",
        "original,jpeg,crop,blur,contrast,text,flip,rotate",
    ];
    let few = [
        "--jpeg",
        "10,75",
        "--crop",
        "20,60",
        "--blur",
        "2",
        "--contrast",
        "0.5",
        "--text",
        "20",
        "--rotate",
        "-10,90",
    ];
    let all = [&attacks[..], &few].concat();
    let (found, told) = run(&[&all[..], &["--save-queries", saved.to_str().unwrap()]].concat());
    assert!(told.contains("learned from 4 images only"), "{told}");
    let blocks = found["blocks"].as_array().unwrap();
    let names: Vec<&str> = blocks
        .iter()
        .map(|b| b["block"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "original",
            "jpeg/10",
            "jpeg/75",
            "crop/20",
            "crop/60",
            "blur/2",
            "contrast/0.5",
            "text/20",
            "flip",
            "rotate/-10",
            "rotate/90"
        ]
    );
    for block in blocks {
        assert_eq!(block["queries"], 4);
        let map = block["map"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&map));
        assert!(map >= block["rank1"].as_f64().unwrap() - 1e-12);
    }
    // A picture finds itself, with and without whitening.
    assert_eq!(
        (&blocks[0]["map"], &blocks[0]["rank1"]),
        (&1.0.into(), &1.0.into())
    );
    assert_eq!(
        (&found["originals"], &found["distractors"]),
        (&4.into(), &4.into())
    );
    let mean = blocks
        .iter()
        .map(|b| b["map"].as_f64().unwrap())
        .sum::<f64>()
        / 11.0;
    assert!((found["all"]["map"].as_f64().unwrap() - mean).abs() < 1e-9);
    assert_eq!(found["families"][0]["queries"], 8);

    // The same seed, the same figures; another one, other crops.
    assert_eq!(run(&all).0, found);
    let again = folder.path().join("again");
    run(&[
        &all[..],
        &["--seed", "1", "--save-queries", again.to_str().unwrap()],
    ]
    .concat());
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).unwrap();
    assert_ne!(
        read(&saved, "crop/60/photo-1.png"),
        read(&again, "crop/60/photo-1.png")
    );
    assert_eq!(
        read(&saved, "blur/2/photo-1.png"),
        read(&again, "blur/2/photo-1.png")
    );

    // Saved copies score as those in memory, as a list and as a folder.
    for queries in [saved.join("queries.tsv"), saved.clone()] {
        let (given, _) = run(&["--queries", queries.to_str().unwrap()]);
        let given = given["blocks"].as_array().unwrap();
        assert_eq!(given.len(), blocks.len());
        for block in blocks {
            let same = given.iter().find(|b| b["block"] == block["block"]).unwrap();
            assert_eq!(same, block);
        }
    }
}

#[test]
fn copies_without_an_original_are_refused() {
    let folder = TempDir::new().unwrap();
    let weights = weights(&folder);
    let (originals, others) = copies(&folder);
    let fail = |flags: &[&str]| {
        let output = eval("copy", &weights).arg(&originals).args(flags).output();
        one_error(&output.unwrap())
    };
    assert!(fail(&["--queries", others.to_str().unwrap()]).contains("other-0"));
    let list = folder.path().join("pairs.tsv");
    fs::write(&list, "x.png\tphoto-9.jpg\n").unwrap();
    let told = fail(&["--queries", list.to_str().unwrap()]);
    assert!(told.contains("pairs.tsv line 1"), "{told}");
    assert!(fail(&["--attacks", "melt"]).contains("melt"));
    assert!(fail(&["--crop", "120"]).contains("--crop"));
    assert!(fail(&["--imsize", "4"]).contains("imsize"));
    // A copy of two originals in a list of its own.
    fs::copy(originals.join("photo-1.jpg"), folder.path().join("x.jpg")).unwrap();
    fs::write(
        &list,
        "x.jpg\tphoto-1.jpg\tpair\nx.jpg\tphoto-2.jpg\tpair\n",
    )
    .unwrap();
    let mut command = eval("copy", &weights);
    command
        .arg(&originals)
        .args(["--imsize", "32", "--queries"])
        .arg(&list);
    let (found, _) = json(&mut command);
    assert_eq!(found["blocks"][0]["queries"], 1);
    assert_eq!(found["blocks"][0]["rank1"], 1.0);
    assert!(found["blocks"][0]["map"].as_f64().unwrap() > 0.5);
}
