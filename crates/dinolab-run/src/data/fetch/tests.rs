//! Whole calls against a web server on this machine.

mod archives;
mod server;

use std::time::Duration;

use dinolab_data::source::{self, SourceOptions};
use sha2::Digest;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::*;
use archives::{gz, noise, png, raw, tar, zip};
use server::{Manners, Server};

fn env() -> Environment<'static> {
    Environment::default()
}

/// Five attempts within moments.
fn retry() -> RetryPolicy {
    RetryPolicy {
        answer: Duration::from_secs(10),
        pause: Duration::from_millis(1),
        attempts: 5,
    }
}

fn sha256(bytes: &[u8]) -> &'static str {
    let sum: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    sum.leak()
}

fn dataset(url: &'static str, bytes: &[u8]) -> Dataset {
    Dataset {
        name: "little",
        about: "",
        url,
        bytes: Some(bytes.len() as u64),
        sha256: Some(sha256(bytes)),
        layout: Layout::Tree,
        images: "",
    }
}

fn little() -> Vec<u8> {
    gz(&tar(&[
        ("set/cat/1.png", &png(1)),
        ("set/dog/2.png", &png(2)),
        ("set/noise.bin", &noise(600_000)),
    ]))
}

/// Everything below a folder.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(folder).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

fn words(result: Result<Fetched>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_set_is_downloaded_once_and_is_ready_for_its_reader() {
    let bytes = little();
    let server = Server::new(bytes.clone(), Manners::Good);
    let set = dataset(server.url("little.tgz"), &bytes);
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("sets/little");
    assert_eq!(
        fetch(&env(), &set, &dir, None, &retry()).unwrap(),
        Fetched::Now
    );
    assert_eq!(fs::read(dir.join("noise.bin")).unwrap(), noise(600_000));
    let images = source::open(&dir, &SourceOptions::default()).unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!(images.classes(), ["cat", "dog"]);
    assert!(!folder.path().join("sets/little.download").exists());
    assert_eq!(
        fetch(&env(), &set, &dir, None, &retry()).unwrap(),
        Fetched::Before
    );
    assert_eq!(server.asked(), [None]);

    let other = Dataset {
        name: "other",
        ..set
    };
    assert!(words(fetch(&env(), &other, &dir, None, &retry())).contains("contains little"));
}

#[test]
fn what_broke_off_goes_on_by_range() {
    let bytes = little();
    let server = Server::new(bytes.clone(), Manners::Drops(2));
    let set = dataset(server.url("little.tgz"), &bytes);
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("little");
    fetch(&env(), &set, &dir, None, &retry()).unwrap();
    let half = bytes.len() / 2;
    let quarter = (bytes.len() - half) / 2;
    assert_eq!(
        server.asked(),
        [None, Some(half), Some(half + quarter)],
        "each try asks for the rest"
    );
    assert!(dir.join("cat/1.png").is_file());
}

#[test]
fn another_call_goes_on_where_one_gave_up() {
    let bytes = little();
    let server = Server::new(bytes.clone(), Manners::Drops(1));
    let set = dataset(server.url("little.tgz"), &bytes);
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("little");
    let once = RetryPolicy {
        attempts: 1,
        ..retry()
    };
    let error = words(fetch(&env(), &set, &dir, None, &once));
    assert!(error.contains("run the same command to resume"), "{error}");
    assert!(!dir.exists());
    fetch(&env(), &set, &dir, None, &once).unwrap();
    assert_eq!(server.asked(), [None, Some(bytes.len() / 2)]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let bytes = little();
    let server = Server::new(bytes.clone(), Manners::DropsWithoutRanges(1));
    let set = dataset(server.url("little.tgz"), &bytes);
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("little");
    fetch(&env(), &set, &dir, None, &retry()).unwrap();
    assert_eq!(server.asked(), [None, Some(bytes.len() / 2)]);
    assert_eq!(fs::read(dir.join("noise.bin")).unwrap(), noise(600_000));

    // Without an end to its failures there is an end to the tries.
    let server = Server::new(bytes.clone(), Manners::DropsWithoutRanges(usize::MAX));
    let set = dataset(server.url("little.tgz"), &bytes);
    let error = words(fetch(
        &env(),
        &set,
        &folder.path().join("b"),
        None,
        &retry(),
    ));
    assert!(error.contains("gave up after 5 attempts"), "{error}");
}

#[test]
fn servers_that_are_busy_hang_or_send_another_part() {
    let bytes = little();
    let folder = TempDir::new().unwrap();
    let server = Server::new(bytes.clone(), Manners::Busy(3));
    let set = dataset(server.url("little.tgz"), &bytes);
    fetch(&env(), &set, &folder.path().join("a"), None, &retry()).unwrap();
    assert_eq!(server.asked().len(), 4);

    let server = Server::new(bytes.clone(), Manners::Busy(usize::MAX));
    let set = dataset(server.url("little.tgz"), &bytes);
    let error = words(fetch(
        &env(),
        &set,
        &folder.path().join("b"),
        None,
        &retry(),
    ));
    assert!(
        error.contains("503") && error.contains("5 attempts"),
        "{error}"
    );

    let server = Server::new(bytes.clone(), Manners::Hangs);
    let set = dataset(server.url("little.tgz"), &bytes);
    let short = RetryPolicy {
        answer: Duration::from_millis(300),
        attempts: 1,
        ..retry()
    };
    let error = words(fetch(&env(), &set, &folder.path().join("c"), None, &short));
    assert!(error.contains("gave up"), "{error}");

    let server = Server::new(bytes.clone(), Manners::WrongPart);
    let set = dataset(server.url("little.tgz"), &bytes);
    let dir = folder.path().join("d");
    fs::create_dir(folder.path().join("d.download")).unwrap();
    fs::write(folder.path().join("d.download/lock"), "").unwrap();
    fs::write(
        folder.path().join("d.download/little.tgz.part"),
        &bytes[..9],
    )
    .unwrap();
    let error = words(fetch(&env(), &set, &dir, None, &retry()));
    assert!(error.contains("another part"), "{error}");
}

#[test]
fn another_file_is_not_unpacked() {
    let bytes = little();
    let folder = TempDir::new().unwrap();
    let server = Server::new(bytes.clone(), Manners::Good);
    let right = dataset(server.url("little.tgz"), &bytes);

    let longer = Dataset {
        bytes: Some(bytes.len() as u64 + 1),
        ..right.clone()
    };
    let dir = folder.path().join("a");
    let error = words(fetch(&env(), &longer, &dir, None, &retry()));
    assert!(error.contains("another file"), "{error}");
    assert!(!dir.exists());

    let wrong = Dataset {
        sha256: Some(sha256(b"something else")),
        ..right.clone()
    };
    let dir = folder.path().join("b");
    let error = words(fetch(&env(), &wrong, &dir, None, &retry()));
    assert!(error.contains(sha256(&bytes)), "{error}");
    assert!(error.contains(sha256(b"something else")), "{error}");
    assert!(!dir.exists());
    let kept = folder.path().join("b.download/little.tgz");
    assert_eq!(fs::read(&kept).unwrap(), bytes, "nothing is thrown away");

    // A file of the user's stays where it is, whatever becomes of it.
    let file = folder.path().join("file");
    fs::write(&file, &bytes).unwrap();
    let from = file.to_str().unwrap();
    let dir = folder.path().join("c");
    words(fetch(&env(), &wrong, &dir, Some(from), &retry()));
    fetch(&env(), &right, &dir, Some(from), &retry()).unwrap();
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn folders_with_something_else_stay_as_they_are() {
    let bytes = little();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("little.tgz");
    fs::write(&file, &bytes).unwrap();
    let from = file.to_str();
    let set = dataset("http://127.0.0.1:9/little.tgz", &bytes);
    let dir = folder.path().join("photos");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mine.txt"), "mine").unwrap();
    let error = words(fetch(&env(), &set, &dir, from, &retry()));
    assert!(error.contains("choose another folder"), "{error}");
    assert_eq!(listing(&dir), ["mine.txt"]);

    fs::remove_file(dir.join("mine.txt")).unwrap();
    let beside = folder.path().join("photos.download");
    fs::create_dir_all(beside.join("unpacked")).unwrap();
    fs::write(beside.join("unpacked/mine.txt"), "mine").unwrap();
    let error = words(fetch(&env(), &set, &dir, from, &retry()));
    assert!(error.contains("holds something else"), "{error}");
    assert_eq!(listing(&beside), ["unpacked", "unpacked/mine.txt"]);

    fs::remove_dir_all(&beside).unwrap();
    // While another process is at work, nothing is done.
    let held = lock(&beside).unwrap();
    let error = words(fetch(&env(), &set, &dir, from, &retry()));
    assert!(error.contains("another process"), "{error}");
    drop(held);
    fetch(&env(), &set, &dir, from, &retry()).unwrap();
    assert!(dir.join("dog/2.png").is_file());
}

#[test]
fn without_https_the_address_is_named() {
    let set = dataset("https://127.0.0.1:9/little.tgz", b"x");
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("little");
    let error = words(fetch(&env(), &set, &dir, None, &retry()));
    if cfg!(feature = "https") {
        assert!(error.contains("gave up"), "{error}");
    } else {
        assert!(error.contains("https://127.0.0.1:9/little.tgz"), "{error}");
        assert!(listing(folder.path()).is_empty());
    }
}

/// Unpacks an archive that must be refused, from a folder that must not change.
fn refused(bytes: &[u8], reason: &str) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("archive");
    fs::write(&file, bytes).unwrap();
    let set = dataset("http://127.0.0.1:9/archive", bytes);
    let dir = folder.path().join("in/set");
    let error = words(fetch(&env(), &set, &dir, file.to_str(), &retry()));
    assert!(error.contains(reason), "{reason}: {error}");
    let outside: Vec<String> = listing(folder.path())
        .into_iter()
        .filter(|name| !name.starts_with("in/set.download"))
        .collect();
    assert_eq!(outside, ["archive", "in"], "{reason}");
    assert!(!Path::new("/dinolab-must-not-write-this").exists());
}

#[test]
fn archives_that_reach_outside_write_nothing_there() {
    let bad: &[(&str, &str)] = &[
        ("../x", "leaves the folder"),
        ("a/../../../x", "leaves the folder"),
        ("/dinolab-must-not-write-this", "absolute path"),
        ("..\\x", "not a portable path"),
    ];
    for (name, reason) in bad {
        refused(&tar(&[(name, b"x")]), reason);
        refused(&gz(&tar(&[("ok", b"x"), (name, b"x")])), reason);
        refused(&zip(&[("ok", b"x"), (name, b"x")]), reason);
    }
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
        let mut archive = tar::Builder::new(Vec::new());
        raw(&mut archive, "link", kind, b"");
        raw(&mut archive, "link/x", tar::EntryType::Regular, b"x");
        refused(&archive.into_inner().unwrap(), "a link");
    }
    let mut archive = tar::Builder::new(Vec::new());
    raw(&mut archive, "pipe", tar::EntryType::Fifo, b"");
    refused(&archive.into_inner().unwrap(), "neither a file");

    let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    archive
        .add_symlink("link", "../../..", SimpleFileOptions::default())
        .unwrap();
    refused(&archive.finish().unwrap().into_inner(), "a link");
}

#[test]
fn archives_that_grow_or_are_damaged_are_refused() {
    let zeros = vec![0; 8 << 20];
    refused(&gz(&tar(&[("zeros", &zeros)])), "its own size");
    refused(&zip(&[("zeros", &zeros)]), "its own size");

    let whole = tar(&[("noise", &noise(5000))]);
    refused(&whole[..3000], "of 5000 bytes");
    let mut flipped = gz(&whole);
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    refused(&flipped, "cannot unpack");
    let mut flipped = zip(&[("noise", &noise(5000))]);
    flipped[2000] ^= 1;
    refused(&flipped, "noise");
    refused(b"<html>not found</html>", "cannot unpack");
    refused(b"", "contains no files");
    refused(&zip(&[]), "contains no files");
}

#[test]
fn voc_is_where_its_reader_finds_it() {
    let list = b"one\n";
    let bytes = tar(&[
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", list),
        (
            "VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt",
            list,
        ),
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", list),
        ("VOCdevkit/VOC2012/JPEGImages/one.jpg", &png(1)),
    ]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("voc.tar");
    fs::write(&file, &bytes).unwrap();
    let set = Dataset {
        bytes: Some(bytes.len() as u64),
        sha256: Some(sha256(&bytes)),
        ..datasets::by_name("voc2012").unwrap().clone()
    };
    let dir = folder.path().join("voc");
    fetch(&env(), &set, &dir, file.to_str(), &retry()).unwrap();
    let images = source::open(&dir.join(set.images), &SourceOptions::default()).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images.name(0), "JPEGImages/one.jpg");
    assert_eq!(images.image(0).unwrap().width, 8);
}

#[test]
fn zip_archives_without_a_known_checksum() {
    let bytes = zip(&[
        ("DAVIS/JPEGImages/480p/bear/00000.jpg", &png(1)),
        ("DAVIS/Annotations/480p/bear/00000.png", &png(2)),
    ]);
    let server = Server::new(bytes, Manners::Drops(1));
    let set = Dataset {
        url: server.url("DAVIS-data.zip"),
        ..datasets::by_name("davis2016").unwrap().clone()
    };
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("davis");
    fetch(&env(), &set, &dir, None, &retry()).unwrap();
    assert!(dir.join("JPEGImages/480p/bear/00000.jpg").is_file());
    assert!(dir.join("Annotations/480p/bear/00000.png").is_file());
    assert_eq!(server.asked().len(), 2);
}

/// A record of CIFAR-10 whose pixel at column `x`, row `y` is `[x, y, shade]`.
fn record(class: u8, shade: u8) -> Vec<u8> {
    let mut record = vec![class];
    record.extend((0..1024).map(|at| (at % 32) as u8));
    record.extend((0..1024).map(|at| (at / 32) as u8));
    record.extend([shade; 1024]);
    record
}

fn cifar(test: &[u8]) -> Vec<u8> {
    let batches: Vec<Vec<u8>> = (0..5)
        .map(|batch| [record(batch % 2, batch), record(1, 100 + batch)].concat())
        .collect();
    let names: Vec<String> = (1..=5)
        .map(|batch| format!("cifar-10-batches-bin/data_batch_{batch}.bin"))
        .collect();
    let mut members: Vec<(&str, &[u8])> = names
        .iter()
        .zip(&batches)
        .map(|(name, batch)| (name.as_str(), batch.as_slice()))
        .collect();
    members.push(("cifar-10-batches-bin/test_batch.bin", test));
    members.push((
        "cifar-10-batches-bin/batches.meta.txt",
        b"airplane\ncat\n\n",
    ));
    members.push(("cifar-10-batches-bin/readme.html", b"<html>"));
    gz(&tar(&members))
}

#[test]
fn cifar_becomes_folders_of_classes() {
    let folder = TempDir::new().unwrap();
    let convert = |bytes: &[u8], dir: &Path| {
        let file = folder.path().join("cifar.tar.gz");
        fs::write(&file, bytes).unwrap();
        let set = Dataset {
            bytes: Some(bytes.len() as u64),
            sha256: Some(sha256(bytes)),
            ..datasets::by_name("cifar10").unwrap().clone()
        };
        fetch(&env(), &set, dir, file.to_str(), &retry())
    };
    let dir = folder.path().join("cifar");
    convert(&cifar(&record(0, 77)), &dir).unwrap();
    let train = source::open(&dir.join("train"), &SourceOptions::default()).unwrap();
    assert_eq!(train.classes(), ["airplane", "cat"]);
    assert_eq!(train.len(), 10);
    let airplanes: Vec<String> = (0..10)
        .filter(|&index| train.label(index) == Some(0))
        .map(|index| train.name(index))
        .collect();
    assert_eq!(
        airplanes,
        [
            "airplane/00000.png",
            "airplane/00004.png",
            "airplane/00008.png"
        ]
    );
    let third = image::open(dir.join("train/airplane/00004.png"))
        .unwrap()
        .to_rgb8();
    assert_eq!(third.dimensions(), (32, 32));
    assert_eq!(third.get_pixel(5, 9).0, [5, 9, 2]);
    let test = image::open(dir.join("test/airplane/00000.png")).unwrap();
    assert_eq!(test.to_rgb8().get_pixel(31, 0).0, [31, 0, 77]);
    assert!(!dir.join("readme.html").exists());

    let cut = words(convert(
        &cifar(&record(0, 0)[..99]),
        &folder.path().join("b"),
    ));
    assert!(cut.contains("not a whole number of records"), "{cut}");
    let unnamed = words(convert(&cifar(&record(2, 0)), &folder.path().join("c")));
    assert!(unnamed.contains("class 2, of 2"), "{unnamed}");
}
