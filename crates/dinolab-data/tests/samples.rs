//! What members of tar files and lines of lists belong to: labels, links, further pictures.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dinolab_data::source::{Note, SourceOptions, Subset, open, split};
use dinolab_data::{Error, Result, Source};
use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

/// A plain PNG, told from others by its colour.
fn picture(red: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(4, 3, Rgb([red, 9, 9]))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// A tar file in the making.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.of_kind(tar::EntryType::Regular, name, bytes)
    }

    fn of_kind(mut self, kind: tar::EntryType, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        self.0.append_data(&mut header, name, bytes).unwrap();
        self
    }

    /// With a header as this crate would not write it.
    fn raw(mut self, kind: tar::EntryType, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn write(self, root: &TempDir, name: &str) -> PathBuf {
        put(root, name, self.bytes())
    }
}

fn put(root: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = root.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn read(path: &Path) -> Result<Box<dyn Source>> {
    open(path, &SourceOptions::default())
}

fn error(path: &Path) -> String {
    match read(path) {
        Err(error) => error.to_string(),
        Ok(source) => panic!("opened with {} images", source.len()),
    }
}

/// Each image's name and class.
fn told(source: &dyn Source) -> Vec<String> {
    let class = |index| match source.label(index) {
        Some(label) => source.classes()[label].as_str(),
        None => "-",
    };
    (0..source.len())
        .map(|index| format!("{} {}", source.name(index), class(index)))
        .collect()
}

fn notes(source: &dyn Source) -> Vec<String> {
    source.notes().iter().map(Note::to_string).collect()
}

fn reds(source: &dyn Source) -> Vec<u8> {
    (0..source.len())
        .map(|i| source.image(i).unwrap().data[0])
        .collect()
}

const HARD: tar::EntryType = tar::EntryType::Link;
const SYMBOLIC: tar::EntryType = tar::EntryType::Symlink;

#[test]
fn labels_belong_to_the_image_of_their_name() {
    let root = TempDir::new().unwrap();
    let path = Tar::new()
        .file("IMG 1.5 left.png", picture(1))
        .file("IMG 1.5 left.cls", "8")
        .file("IMG 1.5 right.png", picture(2))
        .file("IMG 1.5 right.cls", "9\n")
        .file("s/7.png", picture(3))
        .file("s/7.depth.png", picture(4))
        .file("s/7.CLS", "3")
        .file("s/7.json", "{\"label\": 1}")
        .file("none.png", picture(5))
        .file("lost.cls", "4")
        .file("bad.png", picture(6))
        .file("bad.cls", b"\xff\xfe1\0")
        .write(&root, "a.tar");
    let source = read(&path).unwrap();
    assert_eq!(
        told(&*source),
        [
            "IMG 1.5 left.png 8",
            "IMG 1.5 right.png 9",
            "s/7.png 3",
            "none.png -",
            "bad.png -"
        ]
    );
    assert_eq!(reds(&*source), [1, 2, 3, 5, 6]);
    let notes = notes(&*source);
    let said = |words: &str| {
        assert!(
            notes.iter().any(|note| note.contains(words)),
            "{words}: {notes:?}"
        );
    };
    said("left out: s/7.depth.png");
    said("1 label (.cls) belongs to no image: lost.cls");
    said("1 label (.cls) cannot be read: bad.cls (UTF-16");
    said("2 images have no label (.cls), while others have one: none.png, bad.png");
    said("1 .json");
    assert_eq!(notes.len(), 5, "{notes:?}");
}

#[test]
fn nothing_is_said_of_ordinary_shards() {
    let root = TempDir::new().unwrap();
    let path = Tar::new()
        .of_kind(tar::EntryType::Directory, "./cat/", "")
        .file("./cat/._1.png", "a desktop's leavings")
        .file("./cat/1.png", picture(1))
        .file("./dog/1.png", picture(2))
        .file("./.DS_Store", "")
        .file("__MACOSX/cat/1.png", "")
        .write(&root, "a.tar");
    let source = read(&path).unwrap();
    assert_eq!(told(&*source), ["cat/1.png cat", "dog/1.png dog"]);
    assert_eq!(notes(&*source), [""; 0]);
}

#[test]
fn links_are_what_they_link_to() {
    let root = TempDir::new().unwrap();
    let path = Tar::new()
        .link(SYMBOLIC, "early.png", "b/./2.png")
        .file("a/1.png", picture(1))
        .file("b/2.png", picture(2))
        .file("b/2.cls", "ape")
        .link(HARD, "a/3.png", "a/1.png")
        .link(HARD, "a/3.cls", "b/2.cls")
        .link(SYMBOLIC, "a/noname", "../a/3.png")
        .link(HARD, "./b/2.png", "./b/2.png")
        .link(SYMBOLIC, "gone.png", "/data/x.png")
        .link(HARD, "late.png", "later.png")
        .link(SYMBOLIC, "loop.png", "loop.png")
        .link(SYMBOLIC, "folder", "a")
        .link(SYMBOLIC, "gone.txt", "x.txt")
        .of_kind(tar::EntryType::Fifo, "pipe.png", "")
        .raw(tar::EntryType::GNUSparse, "sparse.png", "")
        .file("end.png", picture(3))
        .write(&root, "a.tar");
    let source = read(&path).unwrap();
    assert_eq!(
        told(&*source),
        [
            "early.png -",
            "a/1.png -",
            "b/2.png ape",
            "a/3.png ape",
            "a/noname -",
            "gone.png -",
            "late.png -",
            "loop.png -",
            "pipe.png -",
            "sparse.png -",
            "end.png -"
        ]
    );
    for (index, red) in [(0, 2), (1, 1), (2, 2), (3, 1), (4, 1), (10, 3)] {
        assert_eq!(source.image(index).unwrap().data[0], red, "{index}");
    }
    for (index, why) in [
        (5, "a link to /data/x.png"),
        (6, "a link to later.png"),
        (7, "back to itself"),
        (8, "a device or a pipe"),
        (9, "sparse"),
    ] {
        match source.image(index) {
            Err(Error::BadImage { reason, .. }) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(source.read_contiguous(&[index, 10], 1 << 20).is_err());
    }
    // Reading on from one image takes none for another.
    let all: Vec<usize> = (0..source.len()).collect();
    for start in [0, 1, 2, 3, 4, 10] {
        let run = source.read_contiguous(&all[start..], 1 << 20).unwrap();
        assert!(!run.is_empty());
        for (&index, file) in all[start..].iter().zip(run) {
            assert_eq!(source.encoded(index).unwrap(), Some(file), "{index}");
        }
    }
    let notes = notes(&*source);
    assert!(
        notes
            .iter()
            .any(|note| note.contains("1 link leads") && note.contains("folder")),
        "{notes:?}"
    );
}

#[test]
fn the_last_member_of_a_name_counts() {
    let root = TempDir::new().unwrap();
    let path = Tar::new()
        .file("a.png", picture(1))
        .file("a.cls", "0")
        .file("b.png", picture(2))
        .link(HARD, "c.png", "a.png")
        .file("./a.png", picture(3))
        .file("a.cls", "1")
        .file("b.cls", "0")
        .write(&root, "a.tar");
    let source = read(&path).unwrap();
    // What was linked to before keeps the earlier file, as when the archive is unpacked.
    assert_eq!(told(&*source), ["b.png 0", "c.png -", "a.png 1"]);
    assert_eq!(reds(&*source), [2, 1, 3]);
    assert!(notes(&*source)[0].contains("2 members are replaced"));
}

#[test]
fn archives_behind_one_another_are_read_on() {
    let root = TempDir::new().unwrap();
    let first = Tar::new().file("a.png", picture(1)).bytes();
    let second = Tar::new().file("b.png", picture(2)).bytes();
    let both = [&first[..], &[0; 9 * 512], &second, &[0; 512]].concat();
    let source = read(&put(&root, "both.tar", &both)).unwrap();
    assert_eq!(reds(&*source), [1, 2]);
    assert_eq!(notes(&*source), [""; 0]);

    let more = [&first[..], &b"checksum".repeat(64)].concat();
    let source = read(&put(&root, "more.tar", more)).unwrap();
    assert_eq!(reds(&*source), [1]);
    assert!(notes(&*source)[0].contains("after the end of 1 archive"));
    // A lone header of settings for all members is an archive without any.
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XGlobalHeader);
    header.set_size(0);
    header.set_cksum();
    let lone = [&first[..], header.as_bytes(), &[0; 1024]].concat();
    assert_eq!(read(&put(&root, "lone.tar", lone)).unwrap().len(), 1);
}

#[test]
fn images_beside_class_folders_are_left_without_a_label() {
    let root = TempDir::new().unwrap();
    let path = Tar::new()
        .file("set/cover.png", picture(0))
        .file("set/ape/1.png", picture(1))
        .file("set/emu/1.png", picture(2))
        .raw(tar::EntryType::Regular, "../up.png", picture(3))
        .file("set/emu/2.png", picture(4))
        .write(&root, "a.tar");
    let source = read(&path).unwrap();
    assert_eq!(
        told(&*source),
        [
            "set/cover.png -",
            "set/ape/1.png ape",
            "set/emu/1.png emu",
            "up.png -",
            "set/emu/2.png emu"
        ]
    );
    assert_eq!(
        notes(&*source),
        ["2 images outside the class folders have no label: set/cover.png, up.png"]
    );
    // Nothing without a label is held out of what is trained on, and parts know what was left out.
    let source: std::sync::Arc<dyn Source> = source.into();
    let (kept, held) = split(source.clone(), 0.5, 1).unwrap();
    assert!(held.indices().iter().all(|&i| source.label(i).is_some()));
    assert_eq!(kept.len() + held.len(), 5);
    assert_eq!(held.len(), 1);
    let part = Subset::new(source, vec![0]).unwrap();
    assert_eq!(part.notes().len(), 1);
}

#[test]
fn compressed_archives_are_called_so() {
    let root = TempDir::new().unwrap();
    for (magic, command) in [
        (&b"\x1f\x8b\x08\0\0\0"[..], "gzip -dc"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd -dc"),
        (b"\xfd7zXZ\0\0", "xz -dc"),
        (b"BZh91AY", "bzip2 -dc"),
        (b"PK\x03\x04\x14", "unzip"),
        (b"7z\xbc\xaf\x27\x1c\0", "7z x"),
    ] {
        let path = put(&root, "s-0.tar", [magic, &[7; 2000]].concat());
        for path in [path, root.path().join("s-{0..0}.tar"), root.path().into()] {
            let told = error(&path);
            assert!(
                told.contains("compressed") && told.contains(command) && told.contains("s-0.tar"),
                "{told}"
            );
        }
    }
    for name in ["a.tgz", "a.tar.zst", "a.tar.lz4", "a.zip"] {
        assert!(
            error(&put(&root, name, "x")).contains("compressed"),
            "{name}"
        );
    }
    fs::remove_file(root.path().join("s-0.tar")).unwrap();
    let told = error(root.path());
    assert!(told.contains("4 are compressed archives; unpack"), "{told}");
}

#[test]
fn lists_come_from_any_editor() {
    let root = TempDir::new().unwrap();
    for (name, red) in [("a.png", 1), ("b c.png", 2), ("d.png", 3)] {
        put(&root, name, picture(red));
    }
    for text in [
        &b"\xef\xbb\xbfa.png\tx \r\nb c.png \ty\r\nd.png\tx\r\n"[..],
        b"\xef\xbb\xbf\r\n  a.png\tx\n\xef\xbb\xbfb c.png\ty\nd.png\t x",
        b"a.png\tx\rb c.png\ty\rd.png\tx\r",
    ] {
        let source = read(&put(&root, "list.txt", text)).unwrap();
        assert_eq!(told(&*source), ["a.png x", "b c.png y", "d.png x"]);
        assert_eq!(reds(&*source), [1, 2, 3]);
    }
    let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}a.png\r\n".encode_utf16().flat_map(order).collect()
    };
    let marked = utf16(u16::to_le_bytes);
    for text in [&marked[..], &marked[2..], &utf16(u16::to_be_bytes)] {
        let told = error(&put(&root, "list.txt", text));
        assert!(told.contains("UTF-16") && told.contains("UTF-8"), "{told}");
    }
    let latin = error(&put(&root, "list.txt", b"a.png\ncaf\xe9.png\n"));
    assert!(latin.contains("line 2"), "{latin}");
}

#[test]
fn shards_name_what_they_leave_out_by_shard() {
    let root = TempDir::new().unwrap();
    for shard in 0..2 {
        Tar::new()
            .file("0.png", picture(shard))
            .file("0.cls", "1")
            .file("0.mask.png", picture(9))
            .file("1.png", picture(shard))
            .file("1.txt", "words")
            .write(&root, &format!("s-{shard}.tar"));
    }
    let source = read(root.path()).unwrap();
    let notes = notes(&*source);
    assert!(
        notes[0].contains("left out: s-0.tar/0.mask.png, s-1.tar/0.mask.png"),
        "{notes:?}"
    );
    assert!(notes.iter().any(|note| note.contains("2 .txt")));
    assert!(
        notes
            .iter()
            .any(|note| note.ends_with("one: s-0.tar/1.png, s-1.tar/1.png"))
    );
    assert_eq!(source.classes().len(), 2);
}

#[test]
fn long_names_belong_together() {
    let root = TempDir::new().unwrap();
    // Longer than a header has room for, which takes a member of its own.
    let long = |end: &str| format!("{}/{}.{end}", "deep".repeat(40), "name".repeat(40));
    let mut bytes = Tar::new()
        .file(&long("png"), picture(4))
        .file(&long("cls"), "6")
        .link(HARD, "copy.png", &long("png"))
        .bytes();
    bytes.flush().unwrap();
    let source = read(&put(&root, "a.tar", bytes)).unwrap();
    assert_eq!(reds(&*source), [4, 4]);
    assert_eq!(source.label(0), Some(6));
}
