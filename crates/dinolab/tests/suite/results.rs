//! Results: each under a name of its own, whole, and none left behind on a full disk.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::{Train, one_error, picture, pictures, program, text};
use dinolab_run::npy::read_npy_f32;

fn weights(root: &Path) -> PathBuf {
    let run = root.join("weights");
    Train::tiny(&run).with("epochs", 0.25).succeed();
    run
}

/// Files below a folder, by their path in it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => {
                    found.insert(path.strip_prefix(folder).unwrap().to_owned());
                }
            }
        }
    }
    found
}

/// Images whose names a verb may take for one another; another picture each.
fn confusable(folder: &Path) -> usize {
    let names: [&[u8]; 11] = [
        b"a.jpg",
        b"a.bmp",
        b"a.jpg.png",
        b"A.png",
        b"x/b.jpg",
        b"x-b.jpg",
        b"x:b.jpg",
        b"a-head0.jpg",
        b"a-attention.jpg",
        b"no\xfftext.jpg",
        b"no\xfetext.jpg",
    ];
    for (seed, name) in names.iter().enumerate() {
        // The name comes after the picture: not every writer takes what is no text.
        let plain = folder.join("picture.png");
        picture(&plain, 48, seed as u32);
        let path = folder.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::rename(&plain, path).unwrap();
    }
    names.len()
}

/// `eval linear` but for where the classifier goes.
const LINEAR: [&str; 17] = [
    "eval",
    "linear",
    "--weights",
    "W",
    "--n-last-blocks",
    "2",
    "--crop",
    "32",
    "--resize",
    "32",
    "--epochs",
    "1",
    "--train",
    "IMAGES",
    "--val",
    "IMAGES",
    "--out",
];

#[test]
fn no_image_takes_the_results_of_another() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    let count = confusable(&images);
    let weights = weights(root.path());
    let run = |verb: &str, out: &Path, more: &[&str]| {
        let mut command = program();
        command
            .arg(verb)
            .arg("--weights")
            .arg(&weights)
            .arg(&images);
        let output = command.args(more).arg("--out").arg(out).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let out = root.path().join("out");
    // Into the same folder: verbs do not take each other's names either.
    run("attend", &out, &["--size", "48"]);
    run("pca", &out, &["--size", "48"]);
    let found = files(&out);
    // Per image two pictures of each head and of the mean, the numbers, and the colours.
    assert_eq!(found.len(), count * (2 * 3 + 2), "{found:?}");
    let maps = found
        .iter()
        .filter(|path| path.extension() == Some("npy".as_ref()));
    let maps: BTreeSet<Vec<u32>> = maps
        .map(|path| read_npy_f32(out.join(path)).unwrap().data)
        .map(|data| data.iter().map(|v| v.to_bits()).collect())
        .collect();
    assert_eq!(maps.len(), count, "each image has maps of its own");
    let folded: BTreeSet<String> = found
        .iter()
        .map(|path| path.to_str().unwrap().to_lowercase())
        .collect();
    assert_eq!(folded.len(), found.len());
    // The same names each time, and in each verb.
    let again = root.path().join("again");
    run("attend", &again, &["--size", "48"]);
    let mut both = found.clone();
    both.retain(|path| !path.to_str().unwrap().ends_with("-pca.png"));
    assert_eq!(files(&again), both);
    assert!(found.contains(Path::new("a-head0-attention.npy")));
    assert!(found.contains(Path::new("a.bmp-pca.png")));
}

#[test]
fn copies_are_saved_once_each() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    for (seed, name) in ["p/a.jpg", "p/a.png", "P/A.jpg", "p/a.jpg.bmp"]
        .iter()
        .enumerate()
    {
        picture(&images.join(name), 48, seed as u32);
    }
    let out = root.path().join("copies");
    let output = program()
        .args([
            "eval",
            "copy",
            "--imsize",
            "32",
            "--attacks",
            "flip",
            "--weights",
        ])
        .arg(weights(root.path()))
        .arg(&images)
        .arg("--save-queries")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = files(&out);
    assert_eq!(found.len(), 5, "{found:?}");
    let list = fs::read_to_string(out.join("queries.tsv")).unwrap();
    let named: BTreeSet<&str> = list.lines().filter_map(|l| l.split('\t').next()).collect();
    assert_eq!(named.len(), 4, "{list}");
    assert!(named.iter().all(|name| out.join(name).is_file()), "{list}");
}

/// The program where no file may become larger than so many half-KiB.
fn limited(blocks: u32, arguments: &[&OsStr]) -> Output {
    Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -f {blocks}; exec \"$@\""))
        .args(["sh", env!("CARGO_BIN_EXE_dinolab")])
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    pictures(&images.join("a"), 2);
    picture(&images.join("b/large.png"), 256, 7);
    let weights = weights(root.path());
    let classifier = root.path().join("c.classifier");
    let weights_and = |words: &[&str]| -> Vec<PathBuf> {
        let words = words.iter().map(|&word| match word {
            "W" => weights.clone(),
            "IMAGES" => images.clone(),
            "OUT" => root.path().join("out"),
            inside if inside.starts_with("OUT/") => root.path().join("out").join(&inside[4..]),
            other => other.into(),
        });
        words.collect()
    };
    let linear = weights_and(&LINEAR);
    let made = program().args(&linear).arg(&classifier).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let classify = classifier.to_str().unwrap();
    let small = ["--crop", "32", "--resize", "32"];
    let cases: Vec<(u32, Vec<&str>)> = vec![
        (
            1,
            [
                &[
                    "embed",
                    "--weights",
                    "W",
                    "IMAGES",
                    "--out",
                    "OUT/deep/f.npy",
                ][..],
                &small,
                &["--n-last-blocks", "2", "--avgpool-patchtokens", "true"],
            ]
            .concat(),
        ),
        (
            0,
            [
                &[
                    "embed",
                    "--weights",
                    "W",
                    "IMAGES",
                    "--out",
                    "OUT/f.safetensors",
                ][..],
                &small,
            ]
            .concat(),
        ),
        // The first images fit, the last does not.
        (
            16,
            vec![
                "attend",
                "--weights",
                "W",
                "IMAGES",
                "--out",
                "OUT/maps",
                "--size",
                "0",
            ],
        ),
        (
            16,
            vec![
                "pca",
                "--weights",
                "W",
                "IMAGES",
                "--out",
                "OUT/colours",
                "--size",
                "0",
            ],
        ),
        (
            4,
            vec![
                "attend",
                "--weights",
                "W",
                "IMAGES",
                "--video",
                "--size",
                "48",
                "--out",
                "OUT/a.gif",
            ],
        ),
        (
            4,
            vec![
                "attend",
                "--weights",
                "W",
                "IMAGES",
                "--video",
                "--size",
                "48",
                "--out",
                "OUT/frames",
            ],
        ),
        (16, vec!["convert", "W", "OUT/deep/w.pth"]),
        (16, vec!["convert", "W", "OUT/deep/w.safetensors"]),
        (16, vec!["convert", "W", "OUT/deep/w.onnx"]),
        (16, vec!["convert", "W", "OUT/hf", "--to", "hf"]),
        (16, vec!["convert", "W", "OUT/timm", "--to", "timm"]),
        (16, vec!["convert", "W", "OUT/run", "--to", "run"]),
        (64, vec!["data", "pack", "IMAGES", "OUT/shards"]),
        (1, [&LINEAR[..], &["OUT/c"]].concat()),
        (
            0,
            vec![
                "classify",
                "--weights",
                "W",
                "--classifier",
                classify,
                "IMAGES",
                "--out",
                "OUT/deep/c.tsv",
            ],
        ),
        (
            1,
            vec![
                "neighbours",
                "--weights",
                "W",
                "IMAGES",
                "--duplicates",
                "--threshold",
                "-0.9",
                "--index",
                "OUT/deep/i",
                "--out",
                "OUT/n.html",
            ],
        ),
        (
            16,
            vec![
                "eval",
                "copy",
                "--weights",
                "W",
                "IMAGES",
                "--imsize",
                "32",
                "--attacks",
                "original",
                "--save-queries",
                "OUT/copies",
            ],
        ),
    ];
    for (blocks, words) in cases {
        let arguments = weights_and(&words);
        let arguments: Vec<&OsStr> = arguments.iter().map(|a| a.as_os_str()).collect();
        let output = limited(blocks, &arguments);
        let error = one_error(&output);
        // What a small animation lacks shows at its end only.
        let told = error.contains("too large") || error.contains("be written to its end");
        assert!(told, "{words:?}: {error}");
        let named = root.path().join("out");
        assert!(
            error.contains(named.to_str().unwrap()),
            "{words:?}: {error}"
        );
        assert!(!named.exists(), "{words:?} left {:?}", files(&named));
        assert!(
            !text(&output.stderr).contains("index in"),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn what_is_in_the_way_is_named() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    pictures(&images, 2);
    let weights = weights(root.path());
    let taken = root.path().join("taken");
    fs::write(&taken, "a file").unwrap();
    for (verb, out) in [
        ("embed", "deep/f.npy"),
        ("attend", "maps"),
        ("pca", "deep/colours"),
    ] {
        let mut command = program();
        command
            .arg(verb)
            .arg("--weights")
            .arg(&weights)
            .arg(&images);
        let output = command.arg("--out").arg(taken.join(out)).output().unwrap();
        let error = one_error(&output);
        assert!(error.contains("taken is a file, not a folder"), "{error}");
    }
    let mut convert = program();
    convert
        .arg("convert")
        .arg(&weights)
        .arg(taken.join("w.pth"));
    let error = one_error(&convert.output().unwrap());
    assert!(error.contains("taken is a file, not a folder"), "{error}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "a file");
}

#[test]
fn an_index_that_is_not_kept_is_not_named() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    pictures(&images, 3);
    let taken = root.path().join("taken");
    fs::write(&taken, "a file").unwrap();
    let weights = weights(root.path());
    let neighbours = |index: &Path| {
        let mut command = program();
        command
            .args(["neighbours", "--json", "--weights"])
            .arg(&weights);
        let output = command
            .arg(&images)
            .arg("--index")
            .arg(index)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (json["index"].clone(), text(&output.stderr))
    };
    let (index, said) = neighbours(&taken.join("i.safetensors"));
    assert!(index.is_null(), "{index}");
    assert!(said.contains("the index is not kept"), "{said}");
    assert!(!said.contains("index in"), "{said}");
    let kept = root.path().join("i.safetensors");
    let (index, said) = neighbours(&kept);
    assert_eq!(index, kept.to_str().unwrap());
    assert!(said.contains("index in"), "{said}");
}
