//! Sources: what is found, in which order, with which labels, and what is said when it is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinolab_data::source::{MaskKind, SourceOptions, Subset, open, split};
use dinolab_data::{Error, Image, Mask, Result, Source};
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

fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn tree(files: &[(&str, u8)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for &(name, red) in files {
        put(root.path(), name, picture(red));
    }
    root
}

fn read(path: &Path) -> Box<dyn Source> {
    open(path, &SourceOptions::default()).unwrap()
}

fn error(path: &Path) -> Error {
    match open(path, &SourceOptions::default()) {
        Err(error) => error,
        Ok(source) => panic!("opened with {} images", source.len()),
    }
}

fn names(source: &dyn Source) -> Vec<String> {
    (0..source.len()).map(|i| source.name(i)).collect()
}

fn labels(source: &dyn Source) -> Vec<Option<usize>> {
    (0..source.len()).map(|i| source.label(i)).collect()
}

fn reds(source: &dyn Source) -> Vec<u8> {
    (0..source.len())
        .map(|i| source.image(i).unwrap().data[0])
        .collect()
}

#[test]
fn a_flat_folder_is_sorted_and_has_no_labels() {
    let root = tree(&[("b.png", 2), ("a.PNG", 1), ("c.jpeg", 3)]);
    put(root.path(), "notes.txt", "no image");
    put(root.path(), ".hidden.png", picture(9));
    let source = read(root.path());
    assert_eq!(names(&*source), ["a.PNG", "b.png", "c.jpeg"]);
    assert_eq!(reds(&*source), [1, 2, 3]);
    assert_eq!(labels(&*source), [None; 3]);
    assert!(source.classes().is_empty());
    assert_eq!(source.mask(0).unwrap(), None);
}

#[test]
fn first_level_folders_are_classes() {
    let root = tree(&[
        ("dog/x/2.png", 4),
        ("cat/9.png", 2),
        ("cat/10.png", 1),
        ("dog/1.png", 3),
        (".git/0.png", 9),
    ]);
    let source = read(root.path());
    assert_eq!(
        names(&*source),
        ["cat/10.png", "cat/9.png", "dog/1.png", "dog/x/2.png"]
    );
    assert_eq!(source.classes(), ["cat", "dog"]);
    assert_eq!(labels(&*source), [Some(0), Some(0), Some(1), Some(1)]);
    assert_eq!(reds(&*source), [1, 2, 3, 4]);
}

#[test]
fn an_image_beside_the_folders_has_no_label_itself() {
    let root = tree(&[("cat/1.png", 1), ("dog/1.png", 2), ("cover.png", 3)]);
    let source = read(root.path());
    assert_eq!(labels(&*source), [Some(0), None, Some(1)]);
    assert_eq!(source.notes().len(), 1);
}

#[test]
fn files_without_a_telling_name_are_judged_by_content() {
    let root = tree(&[("n000123", 1), ("b.weird", 2)]);
    put(root.path(), "README", "text");
    put(root.path(), "c.dat", [0; 100]);
    assert_eq!(names(&*read(root.path())), ["b.weird", "n000123"]);
}

#[test]
fn broken_images_are_counted_and_reported_when_read() {
    let root = tree(&[("a.png", 1)]);
    put(root.path(), "b.jpg", "not a picture");
    put(root.path(), "c.png", "");
    put(root.path(), "d.gif", "GIF89a");
    let source = read(root.path());
    assert_eq!(source.len(), 4);
    assert!(source.image(0).is_ok());
    for (index, name) in [(1, "b.jpg"), (2, "c.png"), (3, "d.gif")] {
        match source.image(index) {
            Err(Error::BadImage { name: found, .. }) => assert_eq!(found, name),
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    let outside = tree(&[("1.png", 1)]);
    let root = tree(&[("a/0.png", 0)]);
    std::os::unix::fs::symlink(root.path(), root.path().join("a/up")).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("b")).unwrap();
    assert_eq!(names(&*read(root.path())), ["a/0.png", "b/1.png"]);
}

#[test]
fn the_pixel_limit_reaches_the_decoder() {
    let root = tree(&[("a.png", 1)]);
    let options = SourceOptions {
        max_pixels: 11,
        ..SourceOptions::default()
    };
    assert!(open(root.path(), &options).unwrap().image(0).is_err());
}

#[test]
fn what_is_no_source_is_explained() {
    let root = TempDir::new().unwrap();
    assert!(matches!(error(root.path()), Error::NoImages { .. }));
    let arrays = TempDir::new().unwrap();
    put(arrays.path(), "a.npy", b"\x93NUMPY");
    assert!(matches!(error(arrays.path()), Error::OnlyArrays { .. }));
    put(root.path(), "a.txt", "");
    put(root.path(), "b.csv", "");
    assert!(error(root.path()).to_string().contains("2 files"));
    assert!(matches!(
        error(&root.path().join("absent")),
        Error::Io { .. }
    ));
    let single = put(root.path(), "p.png", picture(0));
    assert!(error(&single).to_string().contains("single image"));
    let packed = put(root.path(), "p.tar.gz", "");
    assert!(error(&packed).to_string().contains("compressed"));
    let other = put(root.path(), "p.doc", "");
    assert!(error(&other).to_string().contains(".doc"));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_files_need_a_feature() {
    let root = TempDir::new().unwrap();
    let file = put(root.path(), "train.parquet", "PAR1");
    for path in [
        file,
        root.path().to_path_buf(),
        root.path().join("train-{0..1}.parquet"),
    ] {
        let told = error(&path).to_string();
        assert!(told.contains("cargo feature `parquet`"), "{told}");
    }
    // Beside images such a file is just another file.
    put(root.path(), "a.png", picture(1));
    assert_eq!(names(&*read(root.path())), ["a.png"]);
}

#[test]
fn a_list_keeps_its_order_and_its_labels() {
    let root = tree(&[("pics/a.png", 1), ("pics/b.png", 2), ("c.png", 3)]);
    let absolute = root.path().join("c.png");
    let text = format!(
        "pics/b.png\tzebra\r\n\npics/a.png\tape\n{}\tzebra\n",
        absolute.display()
    );
    let source = read(&put(root.path(), "list.txt", text));
    assert_eq!(reds(&*source), [2, 1, 3]);
    assert_eq!(source.name(0), "pics/b.png");
    assert_eq!(source.classes(), ["ape", "zebra"]);
    assert_eq!(labels(&*source), [Some(1), Some(0), Some(1)]);

    let plain = read(&put(root.path(), "plain.lst", "c.png\npics/a.png"));
    assert_eq!(reds(&*plain), [3, 1]);
    assert!(plain.classes().is_empty());
}

#[test]
fn numbers_in_a_list_are_the_labels_themselves() {
    let root = tree(&[("a.png", 1), ("b.png", 2)]);
    let source = read(&put(root.path(), "list.tsv", "a.png\t11\nb.png\t2\n"));
    assert_eq!(labels(&*source), [Some(11), Some(2)]);
    assert_eq!(source.classes().len(), 12);
    assert_eq!(source.classes()[11], "11");
}

#[test]
fn list_errors_name_the_line() {
    let root = tree(&[("a.png", 1)]);
    for (text, line) in [
        ("a.png\tx\na.png\n".as_bytes(), "line 2"),
        (b"a.png\na.png\tx\n", "line 2"),
        (b"a.png\n\n\tx\n", "line 3"),
        (b"a.png\tx\ty\n", "line 1"),
        (b"a.png\t\n", "line 1"),
        (b"a.png\n\xFF.png\n", "line 2"),
    ] {
        let error = error(&put(root.path(), "list.txt", text));
        assert!(
            matches!(error, Error::BadSource { .. }) && error.to_string().contains(line),
            "{error}"
        );
    }
    assert!(matches!(
        error(&put(root.path(), "list.txt", "\n\n")),
        Error::NoImages { .. }
    ));

    let source = read(&put(root.path(), "list.txt", "a.png\n\ngone.png\n"));
    let message = source.image(1).unwrap_err().to_string();
    assert!(
        message.contains("gone.png") && message.contains("line 3"),
        "{message}"
    );
}

fn tar(path: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
    path.to_path_buf()
}

#[test]
fn a_tar_file_keeps_its_order_and_reads_labels() {
    let root = TempDir::new().unwrap();
    let long = format!("{}/3.png", "deep".repeat(60));
    let path = tar(
        &root.path().join("set.tar"),
        &[
            ("./7.png", &picture(7)),
            ("7.cls", b"2\n"),
            ("7.json", b"{}"),
            ("1.cls", b"0"),
            ("1.png", &picture(1)),
            ("._1.png", b"a desktop's leavings"),
            (&long, &picture(3)),
            (&long.replace("png", "cls"), b"1"),
        ],
    );
    let source = read(&path);
    assert_eq!(names(&*source), ["7.png", "1.png", long.as_str()]);
    assert_eq!(reds(&*source), [7, 1, 3]);
    assert_eq!(labels(&*source), [Some(2), Some(0), Some(1)]);
    assert_eq!(source.classes(), ["0", "1", "2"]);
}

#[test]
fn folders_in_a_tar_file_are_classes_below_what_they_share() {
    let root = TempDir::new().unwrap();
    let files: &[(&str, &[u8])] = &[
        ("set/train/cat/1.png", &picture(1)),
        ("set/train/dog/1.png", &picture(2)),
    ];
    let source = read(&tar(&root.path().join("a.tar"), files));
    assert_eq!(source.classes(), ["cat", "dog"]);
    let flat: &[(&str, &[u8])] = &[("set/1.png", &picture(1)), ("set/2.png", &picture(2))];
    assert!(
        read(&tar(&root.path().join("b.tar"), flat))
            .classes()
            .is_empty()
    );
}

#[test]
fn shards_are_read_by_folder_or_by_pattern() {
    let root = TempDir::new().unwrap();
    for shard in 8..12u8 {
        let key = format!("{shard}.png");
        let label = format!("{shard}.cls");
        let text = if shard % 2 == 0 { "even" } else { "odd" };
        tar(
            &root.path().join(format!("s-{shard:03}.tar")),
            &[(&key, &picture(shard)), (&label, text.as_bytes())],
        );
    }
    let all = read(root.path());
    assert_eq!(reds(&*all), [8, 9, 10, 11]);
    assert_eq!(all.name(2), "s-010.tar/10.png");
    assert_eq!(all.classes(), ["even", "odd"]);
    assert_eq!(labels(&*all), [Some(0), Some(1), Some(0), Some(1)]);

    let some = read(&root.path().join("s-{009..010}.tar"));
    assert_eq!(reds(&*some), [9, 10]);
    assert!(matches!(
        error(&root.path().join("s-{009..012}.tar")),
        Error::Io { .. }
    ));
    for pattern in ["s-{9.tar", "s-{9}.tar", "s-{a..b}.tar", "s-{011..009}.tar"] {
        assert!(
            matches!(error(&root.path().join(pattern)), Error::BadSource { .. }),
            "{pattern}"
        );
    }
}

#[test]
fn equal_keys_of_different_shards_keep_their_own_labels() {
    let root = TempDir::new().unwrap();
    for (shard, label) in [("a.tar", "1"), ("b.tar", "0")] {
        tar(
            &root.path().join(shard),
            &[("0.png", &picture(1)), ("0.cls", label.as_bytes())],
        );
    }
    assert_eq!(labels(&*read(root.path())), [Some(1), Some(0)]);
}

#[test]
fn wrong_tar_files_are_explained() {
    let root = TempDir::new().unwrap();
    let junk = put(root.path(), "junk.tar", vec![7; 2048]);
    assert!(matches!(error(&junk), Error::BadSource { .. }));

    let no_image = tar(&root.path().join("none.tar"), &[("a.txt", b"x")]);
    assert!(matches!(error(&no_image), Error::NoImages { .. }));

    let half = tar(
        &root.path().join("half.tar"),
        &[
            ("1.png", &picture(1)),
            ("1.cls", b"0"),
            ("2.png", &picture(2)),
        ],
    );
    assert_eq!(labels(&*read(&half)), [Some(0), None]);

    let whole = tar(
        &root.path().join("whole.tar"),
        &[("1.png", &picture(1)), ("2.bmp", &[0; 4096])],
    );
    let bytes = fs::read(&whole).unwrap();
    let cut = put(root.path(), "cut.tar", &bytes[..4000]);
    assert!(
        error(&cut).to_string().contains("truncated"),
        "{}",
        error(&cut)
    );
}

#[test]
fn tar_files_can_be_read_from_many_threads() {
    let root = TempDir::new().unwrap();
    let pictures: Vec<(String, Vec<u8>)> = (0..50)
        .map(|i| (format!("{i:02}.png"), picture(i)))
        .collect();
    let files: Vec<(&str, &[u8])> = pictures
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let source = read(&tar(&root.path().join("a.tar"), &files));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(reds(&*source), (0..50).collect::<Vec<u8>>()));
        }
    });
}

/// A palette PNG of 4×3 labels.
fn label_map(labels: &[u8; 12]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 4, 3);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(
        (0..=255u8)
            .rev()
            .flat_map(|i| [i, i, 0])
            .collect::<Vec<u8>>(),
    );
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(labels).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn a_voc_tree_gives_the_split_and_its_masks() {
    let labels = [0, 0, 15, 15, 0, 255, 15, 15, 0, 0, 0, 0];
    let root = tree(&[
        ("JPEGImages/b.jpg", 2),
        ("JPEGImages/a.jpg", 1),
        ("JPEGImages/c.jpg", 3),
    ]);
    put(root.path(), "ImageSets/Segmentation/val.txt", "b\na\n");
    put(root.path(), "ImageSets/Segmentation/train.txt", "c\n");
    put(root.path(), "SegmentationClass/a.png", label_map(&labels));
    let source = read(root.path());
    assert_eq!(names(&*source), ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]);
    assert_eq!(reds(&*source), [1, 2]);
    assert_eq!(
        source.mask(0).unwrap(),
        Some(Mask {
            width: 4,
            height: 3,
            data: labels.to_vec()
        })
    );
    assert_eq!(source.mask(1).unwrap(), None);
    assert!(source.classes().is_empty());

    // Object masks take precedence.
    put(root.path(), "SegmentationObject/a.png", label_map(&[1; 12]));
    assert_eq!(read(root.path()).mask(0).unwrap().unwrap().data, [1; 12]);
    let options = SourceOptions {
        masks: MaskKind::Classes,
        ..SourceOptions::default()
    };
    let classes = open(root.path(), &options).unwrap();
    assert_eq!(classes.mask(0).unwrap().unwrap().data, labels);

    let options = SourceOptions {
        split: "train".into(),
        ..SourceOptions::default()
    };
    assert_eq!(reds(&*open(root.path(), &options).unwrap()), [3]);
    let options = SourceOptions {
        split: "test".into(),
        ..SourceOptions::default()
    };
    let error = open(root.path(), &options).err().unwrap().to_string();
    assert!(error.contains("train, val"), "{error}");
}

#[test]
fn a_mask_of_another_size_than_its_image_is_refused() {
    let root = TempDir::new().unwrap();
    let mut large = std::io::Cursor::new(Vec::new());
    RgbImage::new(5, 3)
        .write_to(&mut large, ImageFormat::Png)
        .unwrap();
    put(root.path(), "JPEGImages/a.jpg", large.into_inner());
    put(root.path(), "ImageSets/Segmentation/val.txt", "a\n");
    put(root.path(), "SegmentationClass/a.png", label_map(&[0; 12]));
    let error = read(root.path()).mask(0).unwrap_err().to_string();
    assert!(error.contains("4×3") && error.contains("5×3"), "{error}");
}

/// A source with `labels`, to cut up.
struct Labelled {
    labels: Vec<Option<usize>>,
    classes: Vec<String>,
}

impl Source for Labelled {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn name(&self, index: usize) -> String {
        format!("{index}")
    }
    fn label(&self, index: usize) -> Option<usize> {
        self.labels[index]
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn image(&self, index: usize) -> Result<Image> {
        Ok(Image {
            data: vec![index as u8; 12],
            ..Image::new(2, 2, 3)
        })
    }
}

fn labelled(counts: &[usize]) -> Arc<dyn Source> {
    let labels = counts
        .iter()
        .enumerate()
        .flat_map(|(class, &n)| vec![Some(class); n])
        .collect();
    Arc::new(Labelled {
        labels,
        classes: (0..counts.len()).map(|c| format!("c{c}")).collect(),
    })
}

#[test]
fn images_tell_the_file_that_holds_them() {
    let root = tree(&[("in/a.png", 1), ("in/b.png", 2)]);
    let folder = read(&root.path().join("in"));
    assert_eq!(folder.file(1), Some(root.path().join("in/b.png")));
    let list = put(root.path(), "list.txt", "in/b.png\nin/a.png\n");
    assert_eq!(read(&list).file(0), Some(root.path().join("in/b.png")));
    let packed = tar(&root.path().join("set.tar"), &[("x.png", &picture(3))]);
    let packed_source = read(&packed);
    assert_eq!(packed_source.file(0), Some(packed));
    let part = Subset::new(Arc::from(folder), vec![1]).unwrap();
    assert_eq!(part.file(0), Some(root.path().join("in/b.png")));
    assert_eq!(labelled(&[1]).file(0), None, "made, not read");
}

#[test]
fn a_subset_maps_everything() {
    let subset = Subset::new(labelled(&[3, 3]), vec![4, 0]).unwrap();
    assert_eq!(names(&subset), ["4", "0"]);
    assert_eq!(labels(&subset), [Some(1), Some(0)]);
    assert_eq!(reds(&subset), [4, 0]);
    assert_eq!(subset.classes(), ["c0", "c1"]);
    assert!(matches!(
        Subset::new(labelled(&[3]), vec![3]),
        Err(Error::BadSetting { .. })
    ));
}

#[test]
fn a_split_is_stratified_complete_and_repeatable() {
    let source = labelled(&[40, 10, 2, 1]);
    let (kept, held) = split(source.clone(), 0.2, 5).unwrap();
    let count = |part: &Subset, class| {
        labels(part)
            .iter()
            .filter(|&&label| label == Some(class))
            .count()
    };
    assert_eq!([0, 1, 2, 3].map(|class| count(&held, class)), [8, 2, 1, 0]);
    let mut all = [kept.indices(), held.indices()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..53).collect::<Vec<_>>());
    assert!(held.indices().is_sorted() && kept.indices().is_sorted());

    let again = split(source.clone(), 0.2, 5).unwrap().1;
    assert_eq!(again.indices(), held.indices());
    assert_ne!(
        split(source.clone(), 0.2, 6).unwrap().1.indices(),
        held.indices()
    );
    for fraction in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(matches!(
            split(source.clone(), fraction, 0),
            Err(Error::BadSetting { .. })
        ));
    }
}

#[test]
fn a_split_without_labels_takes_the_fraction_of_all() {
    let source: Arc<dyn Source> = Arc::new(Labelled {
        labels: vec![None; 50],
        classes: vec![],
    });
    let (kept, held) = split(source, 0.1, 0).unwrap();
    assert_eq!((kept.len(), held.len()), (45, 5));
}
