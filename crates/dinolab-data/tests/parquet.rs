//! Images in Parquet files: the same images, names and labels as in a folder.
#![cfg(feature = "parquet")]

mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinolab_data::augment::MultiCrop;
use dinolab_data::source::{SourceOptions, open};
use dinolab_data::{Crops, Error, Loader, LoaderConfig, Source};
use image::{ImageFormat, Rgb, RgbImage};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;
use written::{How, Row, parquet};

const V1: WriterVersion = WriterVersion::PARQUET_1_0;
const V2: WriterVersion = WriterVersion::PARQUET_2_0;

/// A picture that differs from those of other numbers, as a file.
fn picture(number: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_fn(30 + number, 40, |x, y| {
        Rgb([(x * 5) as u8, (y * 3) as u8, (number * 9) as u8])
    })
    .write_to(&mut bytes, ImageFormat::Png)
    .unwrap();
    bytes.into_inner()
}

/// Twenty images of four classes.
fn rows() -> Vec<Row> {
    (0..20)
        .map(|number| Row {
            bytes: Some(picture(number)),
            path: Some(format!("class-{}/{number:02}.png", number / 5)),
            label: Some((number / 5).into()),
        })
        .collect()
}

fn classes() -> Option<Vec<String>> {
    Some((0..4).map(|class| format!("class-{class}")).collect())
}

fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn read(path: &Path) -> Arc<dyn Source> {
    Arc::from(open(path, &SourceOptions::default()).unwrap())
}

/// A file of some rows, opened.
fn source(rows: &[Row], how: &How) -> (TempDir, Arc<dyn Source>) {
    let root = TempDir::new().unwrap();
    let path = put(root.path(), "set.parquet", parquet(rows, how));
    let source = read(&path);
    (root, source)
}

/// A file of other columns, without rows.
fn empty(columns: &str) -> Vec<u8> {
    let schema = parse_message_type(&format!("message schema {{ {columns} }}")).unwrap();
    let mut file = Vec::new();
    let properties = Arc::new(WriterProperties::builder().build());
    SerializedFileWriter::new(&mut file, Arc::new(schema), properties)
        .unwrap()
        .close()
        .unwrap();
    file
}

fn told(bytes: &[u8]) -> String {
    let root = TempDir::new().unwrap();
    let path = put(root.path(), "set.parquet", bytes);
    match open(&path, &SourceOptions::default()) {
        Err(Error::BadSource { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(source) => panic!("opened with {} images", source.len()),
    }
}

fn names(source: &dyn Source) -> Vec<String> {
    (0..source.len()).map(|i| source.name(i)).collect()
}

fn labels(source: &dyn Source) -> Vec<Option<usize>> {
    (0..source.len()).map(|i| source.label(i)).collect()
}

fn batches(source: &Arc<dyn Source>, workers: usize, buffer: usize, first: usize) -> Vec<Crops> {
    let crops = MultiCrop {
        global_size: 24.into(),
        local_size: 12.into(),
        local_views: 2,
        ..MultiCrop::default()
    };
    let config = LoaderConfig {
        batch_size: 3,
        workers,
        read_ahead: if workers == 1 { 0 } else { 4 },
        seed: 7,
        max_unusable: 0.2,
        shuffle_buffer: buffer,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(Arc::clone(source), crops, config).unwrap();
    loader.epoch(1, first).map(Result::unwrap).collect()
}

/// The kinds of files that programs write.
fn ways() -> Vec<How> {
    let mut ways = Vec::new();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::LZ4_RAW,
    ] {
        for version in [V1, V2] {
            for (dictionary, index) in [(false, false), (true, true), (false, true), (true, false)]
            {
                ways.push(How {
                    compression,
                    version,
                    dictionary,
                    index,
                    classes: classes(),
                    ..How::default()
                });
            }
        }
    }
    ways.push(How {
        encoding: Encoding::DELTA_LENGTH_BYTE_ARRAY,
        ..ways[0].clone()
    });
    ways
}

#[test]
fn crops_are_those_of_a_folder_of_the_same_files() {
    let root = TempDir::new().unwrap();
    for row in rows() {
        put(root.path(), &row.path.unwrap(), row.bytes.unwrap());
    }
    let folder = read(root.path());
    let expected = batches(&folder, 1, 0, 0);
    assert_eq!(expected.len(), 6);
    for how in ways() {
        let (_root, source) = source(&rows(), &how);
        assert_eq!(names(&*source), names(&*folder), "{how:?}");
        assert_eq!(labels(&*source), labels(&*folder), "{how:?}");
        assert_eq!(source.classes(), folder.classes());
        for index in (0..20).rev() {
            assert!(source.encoded(index).unwrap() == folder.encoded(index).unwrap());
        }
        assert!(batches(&source, 1, 0, 0) == expected, "{how:?}");
        assert!(batches(&source, 2, 0, 0) == expected, "{how:?}");
        assert!(batches(&source, 2, 0, 4) == expected[4..], "{how:?}");

        let buffered = batches(&source, 2, 5, 0);
        assert!(buffered != expected);
        assert!(batches(&source, 1, 5, 3) == buffered[3..], "{how:?}");
        // Each image is cropped as it always is, in whatever order it comes.
        for image in buffered.iter().flat_map(|crops| &crops.images) {
            let mut all = expected.iter().flat_map(|crops| &crops.images);
            let same = all.find(|other| other.index == image.index);
            assert!(same.is_none_or(|same| same == image));
        }
    }
}

#[test]
fn a_run_of_rows_is_read_at_once_as_far_as_its_page() {
    let (_root, source) = source(&rows(), &How::default());
    // Row groups of seven rows, pages of three.
    let sizes: Vec<u64> = rows()
        .iter()
        .map(|r| r.bytes.as_ref().unwrap().len() as u64)
        .collect();
    let run = |indices: &[usize], most| source.read_contiguous(indices, most).unwrap().len();
    assert_eq!(run(&[0, 1, 2, 3, 4], u64::MAX), 3);
    assert_eq!(run(&[0, 2], u64::MAX), 2);
    assert_eq!(run(&[4, 5, 6, 7], u64::MAX), 2);
    assert_eq!(run(&[6, 7], u64::MAX), 1);
    assert_eq!(run(&[0, 1, 2], sizes[0] + sizes[1]), 2);
    assert_eq!(run(&[0, 1, 2], 0), 1);
    assert_eq!(run(&[1, 0], u64::MAX), 1);
    assert_eq!(run(&[], u64::MAX), 0);
    let files = source.read_contiguous(&[7, 9], u64::MAX).unwrap();
    assert_eq!(files, [picture(7), picture(9)]);
    // Row groups are the shards.
    let shards: Vec<_> = (0..20).map(|index| source.shard(index).unwrap()).collect();
    assert_eq!([shards[0], shards[6], shards[7], shards[19]], [0, 0, 1, 2]);
}

#[test]
fn several_files_are_one_source() {
    let root = TempDir::new().unwrap();
    let all = rows();
    for (shard, rows) in all.chunks(8).enumerate() {
        let name = format!("data/train-{shard:05}-of-00003.parquet");
        put(root.path(), &name, parquet(rows, &How::default()));
    }
    put(root.path(), "data/README.md", "text");
    let folder = read(&root.path().join("data"));
    let pattern = root
        .path()
        .join("data/train-{00000..00002}-of-00003.parquet");
    for source in [folder, read(&pattern)] {
        assert_eq!(source.len(), 20);
        assert_eq!(
            source.name(8),
            "train-00001-of-00003.parquet/class-1/08.png"
        );
        assert_eq!(source.encoded(19).unwrap(), Some(picture(19)));
        let file = source.file(19).unwrap();
        assert!(file.ends_with("data/train-00002-of-00003.parquet"));
    }
    let part = root
        .path()
        .join("data/train-{00001..00002}-of-00003.parquet");
    assert_eq!(read(&part).encoded(0).unwrap(), Some(picture(8)));

    let other = How {
        classes: classes(),
        ..How::default()
    };
    let name = "data/train-00002-of-00003.parquet";
    put(root.path(), name, parquet(&all[16..], &other));
    let of_others = How {
        classes: Some(vec!["one".into(), "other".into()]),
        ..How::default()
    };
    let name = "data/train-00001-of-00003.parquet";
    put(root.path(), name, parquet(&all[8..16], &of_others));
    let error = open(&pattern, &SourceOptions::default()).err().unwrap();
    assert!(error.to_string().contains("classes"), "{error}");
}

#[test]
fn names_are_told_apart() {
    let paths = [
        Some("a.jpg"),
        None,
        Some("a.jpg"),
        Some("../../etc/b.jpg"),
        Some("C:\\photos\\c.jpg"),
        Some("/"),
        Some("new\nline"),
        Some(""),
    ];
    let rows: Vec<Row> = paths
        .iter()
        .map(|path| Row {
            bytes: Some(picture(1)),
            path: path.map(str::to_owned),
            label: None,
        })
        .collect();
    let (_root, source) = source(&rows, &How::default());
    let row = |row: usize| format!("set.parquet/{row}");
    let expected = [
        "a.jpg".into(),
        row(1),
        row(2),
        "etc/b.jpg".into(),
        "C:/photos/c.jpg".into(),
        row(5),
        row(6),
        row(7),
    ];
    assert_eq!(names(&*source), expected);
    assert!(source.classes().is_empty());
}

#[test]
fn an_image_that_is_missing_or_damaged_is_one_bad_image() {
    let mut rows = rows();
    rows[3].bytes = None;
    rows[8].bytes = Some(Vec::new());
    rows[12].bytes.as_mut().unwrap().truncate(60);
    for version in [V1, V2] {
        let how = How {
            version,
            ..How::default()
        };
        let (_root, source) = source(&rows, &how);
        for (index, name) in [
            (3, "class-0/03.png"),
            (8, "class-1/08.png"),
            (12, "class-2/12.png"),
        ] {
            match source.image(index) {
                Err(Error::BadImage { name: told, .. }) => assert_eq!(told, name),
                other => panic!("{other:?}"),
            }
        }
        assert!(source.image(4).is_ok() && source.image(13).is_ok());
        let used: Vec<usize> = batches(&source, 2, 4, 0)
            .iter()
            .flat_map(Crops::indices)
            .collect();
        assert!(!used.iter().any(|index| [3, 8, 12].contains(index)));
    }
}

#[test]
fn labels_are_numbers_with_or_without_names() {
    let with = |labels: &[Option<i64>]| -> Vec<Row> {
        let row = |&label: &Option<i64>| Row {
            bytes: Some(picture(1)),
            path: None,
            label,
        };
        labels.iter().map(row).collect()
    };
    let (_root, plain) = source(&with(&[Some(2), Some(0)]), &How::default());
    assert_eq!(labels(&*plain), [Some(2), Some(0)]);
    assert_eq!(plain.classes(), ["0", "1", "2"]);
    for none in [Some(-1), None] {
        let (_root, none) = source(&with(&[none, none]), &How::default());
        assert_eq!(labels(&*none), [None, None]);
        assert!(none.classes().is_empty());
    }
    let reason = told(&parquet(&with(&[Some(0), Some(-1)]), &How::default()));
    assert_eq!(reason, "row 1: it has no label, others have one");
    let named = How {
        classes: classes(),
        ..How::default()
    };
    let reason = told(&parquet(&with(&[Some(0), Some(4)]), &named));
    assert!(
        reason.contains("row 1") && reason.contains("4 classes"),
        "{reason}"
    );
}

#[test]
fn what_cannot_be_read_is_told() {
    let reason = told(&empty(
        "optional int64 picture; optional binary text (UTF8);",
    ));
    assert!(
        reason.ends_with("there are picture (int64), text (byte_array)"),
        "{reason}"
    );
    assert!(told(b"no such file").contains("no Parquet file"));
    assert!(told(&[]).contains("no Parquet file"));
    let whole = parquet(&rows(), &How::default());
    let mut encrypted = whole.clone();
    let end = encrypted.len() - 1;
    encrypted[end] = b'E';
    assert!(told(&encrypted).contains("encrypted"));
    let mut long = whole.clone();
    let end = long.len() - 8;
    long[end..end + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(told(&long).contains("footer"));

    let lz4 = How {
        compression: Compression::LZ4,
        ..How::default()
    };
    assert!(told(&parquet(&rows(), &lz4)).contains("LZ4"));

    // An encoding is told of when its page is met.
    let delta = How {
        encoding: Encoding::DELTA_BYTE_ARRAY,
        ..How::default()
    };
    let (_root, source) = source(&rows(), &delta);
    let error = source.image(0).unwrap_err().to_string();
    assert!(error.contains("DELTA_BYTE_ARRAY"), "{error}");
}

#[test]
fn files_of_other_programs_are_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["zstd.parquet", "brotli.parquet"] {
        let source = read(&fixtures.join("parquet").join(name));
        assert_eq!(source.classes(), ["cat", "dog", "hen"]);
        assert_eq!(labels(&*source), [0, 1, 2, 2, 1, 0].map(Some));
        assert_eq!(source.name(2), format!("{name}/2"));
        assert!(source.image(2).is_err());
        for index in [0, 1, 3, 4, 5] {
            let name = source.name(index);
            let file = match name.ends_with(".jpg") {
                true => fixtures
                    .join("../../../dinolab-jpeg/tests/fixtures")
                    .join(name),
                false => fixtures.join("decode").join(name),
            };
            assert_eq!(
                source.encoded(index).unwrap(),
                Some(fs::read(file).unwrap())
            );
        }
    }
}

/// Found by the fuzzer: a field of the wrong kind, behind which the crate would find a list of more
/// than a thousand million truth values, and pass over them without reading a byte.
#[test]
fn a_footer_without_end_is_refused_at_once() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/endless.parquet");
    let error = open(&file, &SourceOptions::default())
        .err()
        .expect("no footer")
        .to_string();
    // Words of our own check: the crate's would come after the long walk, and with its reason.
    assert!(error.ends_with("its footer cannot be read"), "{error}");
}
