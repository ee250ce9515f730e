//! `dinolab data` as a user calls it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{one_error, picture, program, text, usage_error};
use dinolab_data::Source;
use dinolab_data::augment::{Filter, eval};
use dinolab_data::source::{SourceOptions, open};
use image::{ImageBuffer, Luma, Rgb, Rgba};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::Gray16;

fn read(path: &Path) -> Box<dyn Source> {
    open(path, &SourceOptions::default()).unwrap()
}

/// Runs `dinolab data`, which must succeed; returns both streams.
fn data(args: &[&str], paths: &[&Path]) -> (String, String) {
    let output = program()
        .arg("data")
        .args(args)
        .args(paths)
        .output()
        .unwrap();
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}");
    (said, told)
}

fn fails(args: &[&str]) -> String {
    one_error(&program().arg("data").args(args).output().unwrap())
}

fn shards(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

/// Name without the shard.
fn member(source: &dyn Source, index: usize) -> String {
    let name = source.name(index);
    match name.split_once(".tar/") {
        Some((_, member)) => member.to_owned(),
        None => name,
    }
}

#[test]
fn packing_gives_the_same_bytes_and_the_same_images() {
    let root = TempDir::new().unwrap();
    let photos = root.path().join("photos");
    // About half a MiB each, so that a shard of one MiB holds two.
    for (i, name) in [
        "cat/a.bmp",
        "cat/a.png",
        "cat/b.1.bmp",
        "dog/deep/a.bmp",
        "dog/z.bmp",
        "zebra/1.bmp",
    ]
    .iter()
    .enumerate()
    {
        picture(&photos.join(name), 400, i as u32);
    }
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    let (said, _) = data(&["pack", "--shard-size", "1"], &[&photos, &first]);
    assert!(said.contains("images: 6"), "{said}");
    let one_thread = program()
        .args(["data", "pack", "--shard-size", "1"])
        .args([&photos, &second])
        .env("RAYON_NUM_THREADS", "1")
        .output();
    assert!(one_thread.unwrap().status.success());

    let files = shards(&first);
    assert!(files.len() > 2, "{files:?}");
    assert!(said.contains(&format!("shards: {}", files.len())), "{said}");
    for (a, b) in files.iter().zip(shards(&second)) {
        assert_eq!(a.file_name(), b.file_name());
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{a:?}");
    }

    let (folder, packed) = (read(&photos), read(&first));
    assert_eq!(packed.len(), 6);
    assert_eq!(packed.classes(), ["cat", "dog", "zebra"]);
    let names: Vec<String> = (0..6).map(|i| member(&*packed, i)).collect();
    assert_eq!(
        names,
        [
            "cat/a.bmp",
            "cat/a-1.png",
            "cat/b_1.bmp",
            "dog/deep/a.bmp",
            "dog/z.bmp",
            "zebra/1.bmp"
        ]
    );
    for (i, name) in names.iter().enumerate() {
        assert_eq!(packed.label(i), folder.label(i));
        let file = fs::read(photos.join(folder.name(i))).unwrap();
        assert!(packed.encoded(i).unwrap() == Some(file), "{name}");
    }

    // Shards can be packed again, and nothing is overwritten.
    let again = root.path().join("again");
    data(&["pack"], &[&first, &again]);
    let again = read(&again);
    assert_eq!((again.len(), again.classes()), (6, packed.classes()));
    assert!((0..6).all(|i| again.label(i) == packed.label(i)));
    let args = ["pack", photos.to_str().unwrap(), first.to_str().unwrap()];
    let error = fails(&args);
    assert!(
        error.contains(".tar already; choose another folder"),
        "{error}"
    );
}

#[test]
fn images_without_labels_have_none_in_shards() {
    let root = TempDir::new().unwrap();
    picture(&root.path().join("cat/1.png"), 8, 1);
    picture(&root.path().join("dog/1.png"), 8, 2);
    let list = root.path().join("list.txt");
    fs::write(&list, "dog/1.png\ncat/1.png\n").unwrap();
    let out = root.path().join("out");
    data(&["pack"], &[&list, &out]);
    let packed = read(&out);
    assert_eq!(
        [member(&*packed, 0), member(&*packed, 1)],
        ["dog/1.png", "cat/1.png"]
    );
    assert!(packed.classes().is_empty());
    assert_eq!(packed.label(0), None);
}

/// Pictures of all kinds: 60 × 40 pixels unless small.
fn kinds(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let level = |x: u32, y: u32| (x * 4 + y) as u8;
    let deep = |x: u32, y: u32| (x * 1000 + y * 17 + 3) as u16;
    let save = |name: &str| folder.join(name);
    ImageBuffer::from_fn(60, 40, |x, y| Rgb([level(x, y), level(y, x), 9]))
        .save(save("a-rgb.png"))
        .unwrap();
    ImageBuffer::from_fn(60, 40, |x, y| Rgb([deep(x, y), deep(y, x), 9]))
        .save(save("b-rgb16.png"))
        .unwrap();
    let samples: Vec<u16> = (0..60 * 40).map(|i| deep(i % 60, i / 60)).collect();
    TiffEncoder::new(fs::File::create(save("c-grey16.tif")).unwrap())
        .unwrap()
        .write_image::<Gray16>(60, 40, &samples)
        .unwrap();
    ImageBuffer::from_fn(60, 40, |x, y| Luma([level(x, y)]))
        .save(save("d-grey.jpg"))
        .unwrap();
    ImageBuffer::from_fn(60, 40, |x, y| Rgba([level(x, y), 7, 9, level(y, x)]))
        .save(save("e-rgba.png"))
        .unwrap();
    picture(&save("f-small.jpg"), 24, 5);
    picture(&save("g-tall.jpg"), 64, 6);
}

#[test]
fn large_rgb_images_are_shrunk_and_others_kept() {
    let root = TempDir::new().unwrap();
    let photos = root.path().join("photos");
    kinds(&photos);
    let (jpeg, png) = (root.path().join("jpeg"), root.path().join("png"));
    let shrink = ["pack", "--longest-side", "30"];
    for out in [&jpeg, &png] {
        let lossless: &[&str] = if out == &png { &["--png"] } else { &[] };
        let (said, told) = data(&[&shrink[..], lossless].concat(), &[&photos, out]);
        assert!(said.contains("shrunk to 30 pixels: 2"), "{said}");
        assert!(said.contains("not RGB): 4"), "{said}");
        assert!(!said.contains("cannot") && told.is_empty(), "{said}{told}");
    }
    let (folder, jpeg, png) = (read(&photos), read(&jpeg), read(&png));
    // All but the two large RGB ones, byte for byte.
    for i in 1..6 {
        for packed in [&jpeg, &png] {
            assert_eq!(packed.name(i), folder.name(i));
            assert!(packed.encoded(i).unwrap() == folder.encoded(i).unwrap());
        }
    }
    assert_eq!([jpeg.name(0), png.name(0)], ["a-rgb.jpg", "a-rgb.png"]);
    for (i, (width, height)) in [(0, (30, 20)), (6, (30, 30))] {
        let whole = folder.image(i).unwrap();
        let expected = eval::resize(&whole, width, height, Filter::Bicubic).unwrap();
        assert_eq!(png.image(i).unwrap(), expected);
        let lossy = jpeg.image(i).unwrap();
        assert_eq!((lossy.width, lossy.height), (width, height));
        let off = |(&a, &b): (&u8, &u8)| f64::from(a.abs_diff(b));
        let error: f64 = lossy.data.iter().zip(&expected.data).map(off).sum();
        assert!(error / (lossy.data.len() as f64) < 12.0, "{error}");
    }
    let output = |args: &[&str]| {
        program()
            .args(["data", "pack"])
            .args([&photos, &root.path().join("none")])
            .args(args)
            .output()
            .unwrap()
    };
    for args in [
        &["--png"][..],
        &["--quality", "80"],
        &["--longest-side", "9", "--png", "--quality", "80"],
        &["--longest-side", "9", "--quality", "101"],
    ] {
        usage_error(&output(args));
    }
    for args in [["--longest-side", "1"], ["--shard-size", "0"]] {
        assert!(one_error(&output(&args)).contains(args[0]));
    }
}

/// Three good pictures with three damaged ones between them.
fn damaged(folder: &Path) {
    for (i, name) in ["a.jpg", "c.jpg", "f.png"].iter().enumerate() {
        picture(&folder.join(name), 40, i as u32);
    }
    let whole = fs::read(folder.join("a.jpg")).unwrap();
    fs::write(folder.join("b.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("d.png"), "").unwrap();
    fs::write(folder.join("e.gif"), "GIF89a").unwrap();
}

#[test]
fn damaged_files_are_packed_named_and_keep_the_numbers_of_others() {
    let root = TempDir::new().unwrap();
    let photos = root.path().join("photos");
    damaged(&photos);
    let (plain, shrunk) = (root.path().join("plain"), root.path().join("shrunk"));
    data(&["pack"], &[&photos, &plain]);
    let (said, told) = data(&["pack", "--longest-side", "20"], &[&photos, &shrunk]);
    assert!(said.contains("cannot be decoded, packed unchanged: 3"));
    assert!(said.contains("shrunk to 20 pixels: 3"), "{said}");
    for (name, reason) in [
        ("b.jpg", "truncated"),
        ("d.png", "empty"),
        ("e.gif", "GIF images are not supported"),
    ] {
        let line = told.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.contains(reason), "{line}");
    }
    assert_eq!(told.lines().count(), 3, "{told}");
    let folder = read(&photos);
    for packed in [read(&plain), read(&shrunk)] {
        assert_eq!(packed.len(), 6);
        for i in 0..6 {
            assert_eq!(packed.name(i)[..1], folder.name(i)[..1]);
            let (a, b) = (packed.image(i), folder.image(i));
            assert_eq!(a.is_ok(), b.is_ok(), "{}", folder.name(i));
            if a.is_err() {
                assert_eq!(packed.encoded(i).unwrap(), folder.encoded(i).unwrap());
            }
        }
    }
    // What a list names and is not there is named, and keeps its number too.
    let list = root.path().join("list.txt");
    fs::write(&list, "photos/gone.jpg\nphotos/a.jpg\n").unwrap();
    let out = root.path().join("out");
    let (_, told) = data(&["pack"], &[&list, &out]);
    assert!(
        told.contains("gone.jpg") && told.contains("line 1"),
        "{told}"
    );
    let packed = read(&out);
    assert_eq!(packed.len(), 2);
    assert!(packed.image(0).is_err() && packed.name(1) == "photos/a.jpg");
}

#[test]
fn inspect_tells_what_a_source_holds() {
    let root = TempDir::new().unwrap();
    let photos = root.path().join("photos");
    kinds(&photos.join("kinds"));
    damaged(&photos.join("broken"));
    fs::copy(photos.join("broken/c.jpg"), photos.join("kinds/z.jpg")).unwrap();
    fs::write(photos.join("notes.txt"), "no image").unwrap();
    let (said, told) = data(&["inspect", "--json"], &[&photos]);
    assert!(told.is_empty(), "{told}");
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["images"], 14);
    let bytes: u64 = read(&photos)
        .classes()
        .iter()
        .flat_map(|class| fs::read_dir(photos.join(class)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(found["bytes"], bytes);
    // 24, 40 three times and in the copy, 60 five times, 64.
    let spread =
        |min: f64, median: f64, max: f64| json!({"min": min, "median": median, "max": max});
    assert_eq!(found["width"], spread(24.0, 60.0, 64.0));
    assert_eq!(found["height"], spread(24.0, 40.0, 64.0));
    assert_eq!(found["megapixels"], spread(0.000_576, 0.0024, 0.004_096));
    assert_eq!(
        found["formats"],
        json!({"GIF": 1, "JPEG": 7, "PNG": 4, "TIFF": 1, "unknown": 1})
    );
    assert_eq!(
        found["stored"],
        json!({
            "1 channel, 16 bit": 1, "1 channel, 8 bit": 1, "3 channels, 16 bit": 1,
            "3 channels, 8 bit": 7, "4 channels, 8 bit": 1
        })
    );
    assert_eq!(found["classes"], json!({"broken": 6, "kinds": 8}));
    assert_eq!(
        found["duplicates"],
        json!([["broken/c.jpg", "kinds/z.jpg"]])
    );
    let bad = found["unreadable"].as_array().unwrap();
    let names: Vec<&str> = bad.iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["broken/b.jpg", "broken/d.png", "broken/e.gif"]);
    assert!(bad[0]["reason"].as_str().unwrap().starts_with("truncated"));

    let (said, _) = data(&["inspect"], &[&photos]);
    for line in [
        "duplicates: broken/c.jpg, kinds/z.jpg",
        "unusable: broken/d.png: the file is empty",
    ] {
        assert!(said.lines().any(|found| found == line), "{said}");
    }
    let row = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        let cells = line.unwrap_or_default().rsplit("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .next()
    };
    assert_eq!(row("images").as_deref(), Some("14"));
    assert_eq!(row("files of 3 channels, 16 bit").as_deref(), Some("1"));
    assert_eq!(row("class kinds").as_deref(), Some("8"));
}

// What a program with the feature does instead: tests/suite/remote.rs.
#[cfg(not(feature = "remote"))]
#[test]
fn locations_of_other_machines_are_refused_by_name() {
    use crate::common::Train;

    let root = TempDir::new().unwrap();
    picture(&root.path().join("photos/1.png"), 8, 1);
    let photos = root.path().join("photos");
    let error = fails(&["pack", photos.to_str().unwrap(), "s3://bucket/out"]);
    assert!(
        error.contains("s3://bucket/out: remote locations cannot be written to"),
        "{error}"
    );
    let wanted = "this build cannot read s3:// locations: it needs the cargo feature `remote`";
    for error in [
        fails(&["inspect", "s3://bucket/x"]),
        fails(&["inspect", "s3://bucket/x-{000..003}.tar"]),
        fails(&["pack", "s3://bucket/x", "out"]),
        Train::tiny(&root.path().join("run"))
            .on(Path::new("s3://bucket/x"))
            .fail(),
    ] {
        assert!(error.contains(wanted), "{error}");
        assert!(error.contains("s3://bucket/"), "{error}");
    }
    let list = root.path().join("list.txt");
    fs::write(&list, "photos/1.png\nhttps://host/2.png\n").unwrap();
    let error = fails(&["inspect", list.to_str().unwrap()]);
    assert!(
        error.contains("line 2") && error.contains("https:// locations"),
        "{error}"
    );
}

/// A build without https names the commands that do without it.
#[test]
fn without_https_the_commands_are_named() {
    if cfg!(feature = "https") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["data", "fetch", "imagenette160", "set"]);
    let error = one_error(&command.current_dir(root.path()).output().unwrap());
    let archive = "imagenette2-160.tgz";
    assert!(
        error.contains(&format!("curl -L -C - -o {archive} https://")),
        "{error}"
    );
    let next = format!("dinolab data fetch imagenette160 set --from {archive}");
    assert!(error.ends_with(&next), "{error}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
