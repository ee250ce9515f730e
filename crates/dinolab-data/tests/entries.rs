//! Folders as they are met: with links that lead nowhere, pipes, folders that cannot be listed, runs.
#![cfg(unix)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dinolab_data::augment::MultiCrop;
use dinolab_data::source::{Note, SourceOptions, open};
use dinolab_data::{Error, Loader, LoaderConfig, Pixels, Source};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

fn picture(path: &Path, red: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(20, 20, Rgb([red, 0, 0]))
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}

fn folder(files: &[&str]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (red, name) in files.iter().enumerate() {
        picture(&root.path().join(name), red as u8);
    }
    root
}

fn read(path: &Path) -> Box<dyn Source> {
    open(path, &SourceOptions::default()).unwrap()
}

fn names(source: &dyn Source) -> Vec<String> {
    (0..source.len()).map(|i| source.name(i)).collect()
}

fn notes(source: &dyn Source) -> Vec<String> {
    source.notes().iter().map(Note::to_string).collect()
}

/// Why an image cannot be used.
fn trouble(source: &dyn Source, name: &str) -> String {
    let index = names(source).iter().position(|n| n == name).unwrap();
    source.image(index).unwrap_err().to_string()
}

#[test]
fn images_that_cannot_be_opened_are_images_that_cannot_be_used() {
    let root = folder(&["ape/1.png", "emu/1.png"]);
    let at = |name: &str| root.path().join(name);
    symlink("/no/such/disk/2.jpg", at("ape/2.jpg")).unwrap();
    symlink("self.tif", at("ape/self.tif")).unwrap();
    symlink("/dev/zero", at("emu/endless.png")).unwrap();
    let _socket = UnixListener::bind(at("emu/s.webp")).unwrap();
    let made = Command::new("mkfifo").arg(at("emu/pipe.jpeg")).status();
    assert!(made.unwrap().success());
    // What is no image by its name does not matter, wherever it leads.
    symlink("/no/such/disk/notes.md", at("notes.md")).unwrap();
    symlink("log.csv", at("log.csv")).unwrap();
    let _other = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("emu/folder.jpg")).unwrap();

    let source = read(root.path());
    let all = [
        "ape/1.png",
        "ape/2.jpg",
        "ape/self.tif",
        "emu/1.png",
        "emu/endless.png",
        "emu/pipe.jpeg",
        "emu/s.webp",
    ];
    assert_eq!(names(&*source), all);
    assert_eq!(source.classes(), ["ape", "emu"]);
    assert_eq!(notes(&*source), [""; 0]);
    let start = Instant::now();
    for name in ["ape/2.jpg", "ape/self.tif"] {
        assert!(trouble(&*source, name).contains("cannot read"), "{name}");
    }
    for name in ["emu/endless.png", "emu/pipe.jpeg", "emu/s.webp"] {
        assert!(trouble(&*source, name).contains("not a file"), "{name}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));

    // The loader counts them, and goes on with the others.
    let crops = MultiCrop {
        global_size: 8.into(),
        local_size: 8.into(),
        ..MultiCrop::default()
    };
    let config = |max_unusable| LoaderConfig {
        batch_size: 7,
        workers: 1,
        max_unusable,
        ..LoaderConfig::default()
    };
    let source: Arc<dyn Source> = Arc::from(source);
    let loader = Loader::new(source.clone(), crops.clone(), config(0.8)).unwrap();
    assert!(loader.epoch(0, 0).all(|batch| batch.is_ok()));
    let bad: Vec<String> = loader
        .unusable_images()
        .into_iter()
        .map(|b| b.name)
        .collect();
    assert_eq!(bad, [all[1], all[2], all[4], all[5], all[6]]);
    let strict = Loader::new(source, crops, config(0.01)).unwrap();
    match strict.epoch(0, 0).find_map(Result::err) {
        Some(error @ Error::TooManyUnusable { .. }) => {
            // How to allow more is for the program to say.
            assert!(!error.to_string().contains("--"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// A folder below `root` whose path is as long as the system takes, with a link to `target` in it: what
/// lies there has a name that is too long to be opened by anybody.
fn deep(root: &Path, target: &Path) -> PathBuf {
    let mut path = root.to_path_buf();
    while path.as_os_str().len() < 3900 {
        let left = 3960 - path.as_os_str().len();
        path.push("d".repeat(left.min(200)));
    }
    fs::create_dir_all(&path).unwrap();
    symlink(target, path.join("link")).unwrap();
    path
}

#[test]
fn a_folder_that_cannot_be_listed_is_named() {
    let root = folder(&["1.png"]);
    let outside = folder(&[]);
    let long = |c: &str| c.repeat(180);
    picture(&outside.path().join(long("f")).join("2.png"), 2);
    picture(&outside.path().join(format!("{}.png", long("p"))), 3);
    picture(&outside.path().join(long("q")), 4);
    fs::write(outside.path().join(format!("{}.txt", long("t"))), "").unwrap();
    deep(root.path(), outside.path());

    let source = read(root.path());
    assert_eq!(source.len(), 2, "one of them cannot be read");
    assert!(source.image(0).is_ok() && source.image(1).is_err());
    match source.notes() {
        [
            Note::UnreadableFolders(folders),
            Note::Unopened(entries),
            Note::NotClasses { .. },
        ] => {
            assert_eq!((folders.count, entries.count), (1, 1));
            assert!(folders.first[0].contains(&long("f")));
            assert!(entries.first[0].contains(&long("q")));
            assert!(!folders.first[0].contains("os error"), "{folders}");
        }
        other => panic!("{other:?}"),
    }

    // Where there is nothing else, the error says why.
    fs::remove_file(root.path().join("1.png")).unwrap();
    fs::remove_file(outside.path().join(format!("{}.png", long("p")))).unwrap();
    match open(root.path(), &SourceOptions::default()).err() {
        Some(Error::NoImages { reason, .. }) => {
            assert!(reason.contains("1 folder cannot be read"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_folder_itself_must_be_there() {
    let root = folder(&[]);
    symlink("/no/such/disk", root.path().join("photos")).unwrap();
    match open(&root.path().join("photos"), &SourceOptions::default()).err() {
        Some(Error::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
}

#[test]
fn links_that_may_have_been_folders_are_named() {
    let root = folder(&["ape/1.png", "emu/1.png"]);
    symlink("/no/such/disk/gnu", root.path().join("gnu")).unwrap();
    symlink("..", root.path().join("emu/up.jpg")).unwrap();
    let source = read(root.path());
    assert_eq!(names(&*source), ["ape/1.png", "emu/1.png"]);
    let notes = notes(&*source);
    assert!(notes.len() == 1 && notes[0].contains("gnu ("), "{notes:?}");
    assert_eq!(source.classes(), ["ape", "emu"]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf8_stay_different() {
    let root = folder(&["plain.png"]);
    for (byte, red) in [(0xE8, 1), (0xE9, 2)] {
        let name = [b"caf", &[byte][..]].concat();
        picture(
            &root
                .path()
                .join(std::ffi::OsStr::from_bytes(&name))
                .join("x.png"),
            red,
        );
    }
    fs::remove_file(root.path().join("plain.png")).unwrap();
    let source = read(root.path());
    assert_eq!(names(&*source), ["caf\\xE8/x.png", "caf\\xE9/x.png"]);
    assert_eq!(source.classes(), ["caf\\xE8", "caf\\xE9"]);
    assert_eq!(source.image(1).unwrap().data[0], 2);
}

#[test]
fn runs_and_what_systems_leave_are_no_images() {
    let root = folder(&[
        "ape/1.png",
        "emu/1.png",
        "runs/one/pictures/attention.png",
        "runs/begun/pictures/attention.png",
        "site/pictures/mine.png",
        "__MACOSX/ape/1.png",
        "ape/@eaDir/1.png/thumb.jpg",
        "lost+found/2.png",
        "emu/._1.png",
    ]);
    let settings = "arch = \"custom\"\nout-dim = 64\nmomentum-teacher = 0.996\n";
    for run in ["runs/one", "runs/begun"] {
        fs::write(root.path().join(run).join("config.toml"), settings).unwrap();
    }
    // Another program's settings make no run.
    fs::write(root.path().join("site/config.toml"), "out-dim = 3\n").unwrap();
    fs::write(root.path().join("Thumbs.db"), "x").unwrap();
    let source = read(root.path());
    assert_eq!(
        names(&*source),
        ["ape/1.png", "emu/1.png", "site/pictures/mine.png"]
    );
    let notes = notes(&*source);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("2 folders of a training run"),
        "{notes:?}"
    );
    assert!(notes[0].contains("runs/one") && notes[0].contains("runs/begun"));
    // Who asks for the folder of a run gets it.
    assert_eq!(
        names(&*read(&root.path().join("runs/one"))),
        ["pictures/attention.png"]
    );
}

#[test]
fn shards_that_cannot_be_opened_are_missed() {
    let root = TempDir::new().unwrap();
    symlink("/no/such/disk/s-1.tar", root.path().join("s-1.tar")).unwrap();
    match open(root.path(), &SourceOptions::default()).err() {
        Some(Error::Io { path, .. }) => assert!(path.ends_with("s-1.tar")),
        other => panic!("{other:?}"),
    }
    // A pipe keeps nobody waiting.
    fs::remove_file(root.path().join("s-1.tar")).unwrap();
    let made = Command::new("mkfifo")
        .arg(root.path().join("s-2.tar"))
        .status();
    assert!(made.unwrap().success());
    assert!(matches!(
        open(root.path(), &SourceOptions::default()).err(),
        Some(Error::Io { .. })
    ));
    // Beside images shards are not read, which is said.
    picture(&root.path().join("a.png"), 1);
    let source = read(root.path());
    assert!(notes(&*source)[0].contains("s-2.tar"));
}

#[test]
fn lists_and_voc_trees_may_name_what_cannot_be_read() {
    let root = folder(&["a.png"]);
    symlink("gone/b.png", root.path().join("b.png")).unwrap();
    fs::create_dir(root.path().join("c.png")).unwrap();
    symlink("/dev/zero", root.path().join("d.png")).unwrap();
    let list = root.path().join("list.txt");
    fs::write(&list, "a.png\nb.png\nc.png\nd.png\n\"a.png\"\na.png 3\n").unwrap();
    let source = read(&list);
    assert!(source.image(0).is_ok());
    for (name, why) in [
        ("b.png", "line 2"),
        ("c.png", "a folder"),
        ("d.png", "not a file"),
        ("\"a.png\"", "quotation marks"),
        ("a.png 3", "tab"),
    ] {
        let told = trouble(&*source, name);
        assert!(told.contains(why), "{told}");
    }

    let tree = folder(&["JPEGImages/x.jpg"]);
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("ImageSets/Segmentation")).unwrap();
    fs::create_dir(at("SegmentationClass")).unwrap();
    fs::write(
        at("ImageSets/Segmentation/val.txt"),
        b"\xef\xbb\xbfx\r\ny\r\nz\r\n",
    )
    .unwrap();
    symlink("nowhere.jpg", at("JPEGImages/y.jpg")).unwrap();
    symlink("nowhere.png", at("SegmentationClass/x.png")).unwrap();
    let source = read(tree.path());
    assert_eq!(source.len(), 3);
    assert!(source.image(0).is_ok(), "the mark is no part of its name");
    assert!(source.image(1).is_err() && source.image(2).is_err());
    // That is no image without a mask.
    assert!(source.mask(0).is_err());
    assert_eq!(source.mask(1).unwrap(), None);
}

#[test]
fn arrays_alone_are_an_error_of_their_own() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("a.npy"), b"\x93NUMPY").unwrap();
    match open(root.path(), &SourceOptions::default()).err() {
        Some(error @ Error::OnlyArrays { arrays: 1, .. }) => {
            assert!(!error.to_string().contains("--"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let options = SourceOptions {
        pixels: Pixels::Stored { channels: 4 },
        ..SourceOptions::default()
    };
    assert_eq!(open(root.path(), &options).unwrap().len(), 1);
}
