//! Images on other machines: a server on loopback stands for S3, and behaves as networks do.
#![cfg(feature = "remote")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dinolab_data::augment::MultiCrop;
use dinolab_data::source::{self, CacheOptions, RemoteOptions, SourceOptions};
use dinolab_data::{Crops, Loader, LoaderConfig, Result, Source};
use image::{ImageFormat, Rgb, RgbImage};

#[path = "remote/server.rs"]
mod server;

use server::{Behaviour, Faults, Lie, Server};

/// A tenth of all answers goes wrong in each way.
const FAULTS: Faults = Faults {
    refuse: 100,
    drop: 100,
    stall: 50,
    internal: 100,
    unavailable: 100,
};

/// Of a server, with short times.
fn remote(server: &Server) -> RemoteOptions {
    let environment = [
        ("AWS_ENDPOINT_URL", server.url().as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "here"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    RemoteOptions {
        attempts: 40,
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(20),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_secs(10),
        cache: None,
        environment: Some(BTreeMap::from(environment)),
    }
}

fn options(remote: RemoteOptions) -> SourceOptions {
    SourceOptions {
        remote,
        ..SourceOptions::default()
    }
}

fn open(location: &str, remote: &RemoteOptions) -> Result<Box<dyn Source>> {
    source::open(Path::new(location), &options(remote.clone()))
}

fn open_local(path: &Path) -> Box<dyn Source> {
    source::open(path, &SourceOptions::default()).unwrap()
}

fn picture(number: usize, side: u32) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    RgbImage::from_fn(side, side + 3, |x, y| {
        Rgb([x as u8 * 5, (y as usize * number) as u8, number as u8 * 9])
    })
    .write_to(&mut file, ImageFormat::Png)
    .unwrap();
    file.into_inner()
}

/// A folder of `count` images of three classes, with what commonly lies beside them.
fn photos(folder: &Path, count: usize) {
    for number in 0..count {
        let class = folder.join(["a cat", "b&b", "c%20#"][number % 3]);
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join(format!("{number:03}.png")), picture(number, 24)).unwrap();
    }
    std::fs::write(folder.join("a cat/without-extension"), picture(77, 24)).unwrap();
    std::fs::write(folder.join("a cat/README"), "no image").unwrap();
    std::fs::write(folder.join("a cat/empty"), "").unwrap();
    std::fs::write(folder.join("a cat/.hidden.png"), picture(78, 24)).unwrap();
    std::fs::create_dir_all(folder.join(".cache")).unwrap();
    std::fs::write(folder.join(".cache/x.png"), picture(79, 24)).unwrap();
    std::fs::write(folder.join("notes.txt"), "x").unwrap();
    // In place of one of the images.
    let mut photograph = Cursor::new(Vec::new());
    RgbImage::from_fn(64, 48, |x, y| Rgb([x as u8 * 4, y as u8 * 5, 90]))
        .write_to(&mut photograph, ImageFormat::Jpeg)
        .unwrap();
    std::fs::write(folder.join("b&b/004.png"), photograph.into_inner()).unwrap();
}

/// Packs images into shards of `each`.
fn shards(folder: &Path, count: usize, each: usize, side: u32) {
    for shard in 0..count.div_ceil(each) {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: String, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content).unwrap();
        };
        for number in shard * each..((shard + 1) * each).min(count) {
            add(format!("{number:03}.png"), &picture(number, side));
            add(
                format!("{number:03}.cls"),
                (number % 3).to_string().as_bytes(),
            );
        }
        let path = folder.join(format!("shard-{shard:06}.tar"));
        std::fs::write(path, archive.into_inner().unwrap()).unwrap();
    }
}

/// Names, labels, classes and files.
fn assert_same(remote: &dyn Source, local: &dyn Source) {
    assert_eq!(remote.len(), local.len());
    assert_eq!(remote.classes(), local.classes());
    for index in 0..local.len() {
        assert_eq!(remote.name(index), local.name(index));
        assert_eq!(remote.label(index), local.label(index));
        assert_eq!(remote.shard(index), local.shard(index));
        let bytes = local.encoded(index).unwrap();
        assert_eq!(remote.encoded(index).unwrap(), bytes);
        // Large photographs are decoded at a smaller scale, here as there.
        let [a, b] = [remote, local].map(|source| {
            let scaled = source.decode_scaled(index, bytes.as_ref().unwrap(), &|_, _| 2);
            scaled.map(|scaled| (scaled.scale, scaled.image))
        });
        assert_eq!(a.ok(), b.ok());
    }
}

fn loader(source: Box<dyn Source>, shuffle_buffer: usize) -> Loader {
    let crops = MultiCrop {
        global_size: 16.into(),
        local_size: 8.into(),
        local_views: 2,
        ..MultiCrop::default()
    };
    let config = LoaderConfig {
        batch_size: 4,
        workers: 2,
        read_ahead: 8,
        max_bad_images: 0.5,
        shuffle_buffer,
        ..LoaderConfig::default()
    };
    Loader::new(Arc::from(source), crops, config).unwrap()
}

fn epoch(loader: &Loader, number: u64) -> Vec<Crops> {
    loader.epoch(number, 0).collect::<Result<_>>().unwrap()
}

fn assert_each_once(batches: &[Crops], images: usize) {
    let mut seen: Vec<usize> = batches.iter().flat_map(Crops::indices).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..images).collect::<Vec<_>>());
}

fn assert_all_happened(server: &Server) {
    let counts = server.counts();
    println!("{counts:?}");
    for count in [
        counts.refuse,
        counts.drop,
        counts.stall,
        counts.internal,
        counts.unavailable,
    ] {
        assert!(count > 0, "{counts:?}");
    }
}

fn faulty(seed: u64) -> Server {
    Server::start(
        seed,
        Behaviour {
            faults: FAULTS,
            page: 7,
            ..Behaviour::default()
        },
    )
}

#[test]
fn an_epoch_over_a_folder_is_complete_whatever_the_network_does() {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 59);
    let server = faulty(1);
    server.put_folder("bucket/set/photos", folder.path());
    server.put("bucket/set/photos-of-another", "x");
    let local = open_local(folder.path());
    let images = local.len();
    assert_eq!(images, 60);
    let expected = epoch(&loader(local, 0), 0);

    let source = open("s3://bucket/set/photos/", &remote(&server)).unwrap();
    assert_same(&*source, &*open_local(folder.path()));
    let loader = loader(source, 0);
    let batches = epoch(&loader, 0);
    assert_each_once(&batches, images);
    assert!(
        batches == expected,
        "other crops than those of the local files"
    );
    assert_eq!(loader.bad_images(), []);
    assert_all_happened(&server);
}

#[test]
fn an_epoch_over_shards_is_complete_whatever_the_network_does() {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path(), 120, 17, 24);
    let server = faulty(2);
    server.put_folder("bucket/shards", folder.path());
    let remote = remote(&server);
    let source = open("s3://bucket/shards", &remote).unwrap();
    assert_same(&*source, &*open_local(folder.path()));
    for shuffle_buffer in [20, 0] {
        let expected = epoch(&loader(open_local(folder.path()), shuffle_buffer), 1);
        let source = open("s3://bucket/shards/shard-{000000..000007}.tar", &remote).unwrap();
        let loader = loader(source, shuffle_buffer);
        let batches = epoch(&loader, 1);
        assert_each_once(&batches, 120);
        assert!(
            batches == expected,
            "other crops than those of the local files"
        );
        assert_eq!(loader.bad_images(), []);
    }
    assert_all_happened(&server);
}

/// Without faults.
/// Row groups and pages are read in parts, and so again where they break off.
#[cfg(feature = "parquet")]
#[test]
fn parquet_files_are_read_whatever_the_network_does() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    let server = faulty(5);
    let folder = tempfile::tempdir().unwrap();
    for name in ["brotli.parquet", "zstd.parquet"] {
        let content = std::fs::read(fixtures.join(name)).unwrap();
        std::fs::write(folder.path().join(name), &content).unwrap();
        server.put(&format!("bucket/rows/{name}"), content);
    }
    let remote = remote(&server);
    let local = open_local(folder.path());
    for round in 0..4 {
        let source = open("s3://bucket/rows", &remote).unwrap();
        assert_same(&*source, &*local);
        let batches = epoch(&loader(source, 4 * (round % 2)), 0);
        let same = epoch(&loader(open_local(folder.path()), 4 * (round % 2)), 0);
        assert_eq!(batches, same);
    }
    let one = open("s3://bucket/rows/zstd.parquet", &remote).unwrap();
    assert_same(&*one, &*open_local(&folder.path().join("zstd.parquet")));
    assert_all_happened(&server);
}

fn kind() -> Server {
    Server::start(0, Behaviour::default())
}

fn reads(server: &Server) -> Vec<server::Request> {
    let mut requests = server.requests();
    requests.retain(|request| request.method == "GET" && !request.target.ends_with('?'));
    requests
}

#[test]
fn lists_and_archives_are_read_wherever_they_lie() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    photos(&root.join("photos"), 9);
    shards(root, 10, 5, 24);
    let server = kind();
    let remote = remote(&server);
    let lines = "photos/a cat/000.png\tcat\nphotos/b&b/001.png\tdog\n";
    std::fs::write(root.join("list.tsv"), lines).unwrap();
    server.put_folder("bucket/all", root);
    let web = server.url();

    let list = open_local(&root.join("list.tsv"));
    assert_same(&*open("s3://bucket/all/list.tsv", &remote).unwrap(), &*list);
    let found = open(&format!("{web}/bucket/all/list.tsv"), &remote).unwrap();
    // Addresses of the web are written with %20.
    assert_eq!(found.name(0), "photos/a cat/000.png");
    assert_same(&*found, &*list);
    let file = found.file(1).unwrap();
    assert_eq!(
        file.to_str().unwrap(),
        format!("{web}/bucket/all/photos/b&b/001.png")
    );

    // A local list of locations, of local files, or of both.
    let mixed = root.join("mixed.txt");
    let lines = format!(
        "s3://bucket/all/photos/a cat/000.png\n{web}/bucket/all/photos/b&b/001.png\nphotos/a cat/003.png\n"
    );
    std::fs::write(&mixed, lines).unwrap();
    let mixed = open(mixed.to_str().unwrap(), &remote).unwrap();
    for (index, name) in ["a cat/000.png", "b&b/001.png", "a cat/003.png"]
        .iter()
        .enumerate()
    {
        let bytes = std::fs::read(root.join("photos").join(name)).unwrap();
        assert_eq!(mixed.encoded(index).unwrap(), Some(bytes));
    }

    let archive = open_local(&root.join("shard-000001.tar"));
    for location in [
        "s3://bucket/all/shard-000001.tar".to_owned(),
        format!("{web}/bucket/all/shard-000001.tar"),
        format!("{web}/bucket/all/shard-000001.tar?signature=a/b.c"),
    ] {
        assert_same(&*open(&location, &remote).unwrap(), &*archive);
    }
    let pattern = format!("{web}/bucket/all/shard-{{000000..000001}}.tar");
    let both = open_local(&root.join("shard-{000000..000001}.tar"));
    assert_same(&*open(&pattern, &remote).unwrap(), &*both);
}

#[test]
fn what_cannot_be_read_is_refused_in_one_line() {
    let server = kind();
    let remote = remote(&server);
    server.put("bucket/texts/a.txt", "x");
    server.put("bucket/one/photo.jpg", picture(1, 24));
    server.put("bucket/voc/JPEGImages/a.jpg", picture(1, 24));
    server.put("bucket/voc/ImageSets/Main/val.txt", "a");
    server.put("bucket/secret/a.tar", "x");
    server.put("bucket/broken.tar", vec![7; 2000]);
    server.behave(|behaviour| behaviour.forbidden = Some("secret".into()));
    let web = server.url();
    for (location, words) in [
        (
            format!("{web}/bucket/photos/"),
            "a web server does not tell",
        ),
        ("s3://bucket/texts".into(), "1 files, none of them an image"),
        ("s3://bucket/nothing".into(), "nothing lies there"),
        (
            "s3://bucket/nothing.tar".into(),
            "cannot read s3://bucket/nothing.tar: not found",
        ),
        (format!("{web}/bucket/nothing.tar"), "not found"),
        ("s3://bucket/one/photo.jpg".into(), "a single image"),
        ("s3://bucket/voc".into(), "a Pascal VOC tree"),
        ("s3://bucket/broken.tar".into(), "damaged or not a tar file"),
        (
            "s3://bucket/secret/a.tar".into(),
            "refused (403): these credentials may not",
        ),
        (
            format!("{web}/bucket/secret/a.tar"),
            "refused (403) (1 attempt)",
        ),
        ("ftp://bucket/x".into(), "ftp:// is not known"),
    ] {
        server.requests();
        let error = open(&location, &remote).err().unwrap().to_string();
        assert!(error.contains(words), "{location}: {error}");
        assert!(!error.contains('\n'), "{error}");
        // None of these gets better by asking again.
        assert!(server.requests().len() <= 3, "{location}");
    }
    server.behave(|behaviour| behaviour.ranges = false);
    let error = open(&format!("{web}/bucket/broken.tar"), &remote)
        .err()
        .unwrap();
    assert!(error.to_string().contains("does not give parts"), "{error}");
}

#[test]
fn without_credentials_requests_are_not_signed() {
    let server = kind();
    let mut remote = remote(&server);
    let variables = remote.environment.as_mut().unwrap();
    variables.retain(|name, _| !name.contains("KEY"));
    variables.insert("AWS_SKIP_SIGNATURE".into(), "true".into());
    server.put("bucket/a/b.png", picture(1, 24));
    assert_eq!(open("s3://bucket/a", &remote).unwrap().len(), 1);
    server.behave(|behaviour| behaviour.forbidden = Some("b.png".into()));
    let error = open("s3://bucket/a", &remote)
        .unwrap()
        .image(0)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no credentials were found; set AWS_ACCESS"),
        "{error}"
    );
}

#[test]
fn a_machine_without_a_role_is_told_so() {
    let server = kind();
    let mut remote = remote(&server);
    server.put("bucket/x.tar", "x");
    let variables = remote.environment.as_mut().unwrap();
    variables.retain(|name, _| !name.contains("KEY"));
    // Stands for the address that a cloud's machines ask, and knows of no role.
    variables.insert("AWS_METADATA_ENDPOINT".into(), server.url());
    let error = open("s3://bucket/x.tar", &remote).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("this machine has no role"), "{error}");
    assert!(error.contains("AWS_SKIP_SIGNATURE=true"), "{error}");
}

#[test]
fn the_other_clouds_are_asked_at_their_addresses() {
    let server = kind();
    let mut remote = remote(&server);
    shards_to(&server, "bucket/x.tar");
    shards_to(&server, "account/container/x.tar");
    let variables = remote.environment.as_mut().unwrap();
    for (name, value) in [
        ("GOOGLE_BASE_URL", server.url()),
        ("GOOGLE_ALLOW_HTTP", "true".into()),
        ("GOOGLE_SKIP_SIGNATURE", "true".into()),
        ("AZURE_STORAGE_ACCOUNT_NAME", "account".into()),
        ("AZURE_ENDPOINT", format!("{}/account", server.url())),
        ("AZURE_ALLOW_HTTP", "true".into()),
        ("AZURE_SKIP_SIGNATURE", "true".into()),
    ] {
        variables.insert(name.into(), value);
    }
    for location in ["gs://bucket/x.tar", "az://container/x.tar"] {
        let source = open(location, &remote).unwrap();
        assert_eq!((source.len(), source.name(1)), (4, "001.png".into()));
        assert!(source.image(3).is_ok());
    }
    // Google lists as S3 does; Azure's listing is another language, which this server does not speak.
    server.put("bucket/photos/a.png", picture(1, 24));
    let source = open("gs://bucket/photos", &remote).unwrap();
    assert_eq!((source.len(), source.name(0)), (1, "a.png".into()));
    assert!(source.image(0).is_ok());
}

fn shards_to(server: &Server, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path(), 4, 4, 24);
    let archive = std::fs::read(folder.path().join("shard-000000.tar")).unwrap();
    server.put(name, archive);
}

#[test]
fn attempts_are_bounded_and_the_error_says_how_many() {
    let server = kind();
    server.put("bucket/x.tar", "x");
    let remote = RemoteOptions {
        attempts: 4,
        ..remote(&server)
    };
    let start = Instant::now();
    let check = |faults: Faults, words: &str| {
        server.behave(|behaviour| behaviour.faults = faults);
        server.requests();
        let error = open("s3://bucket/x.tar", &remote).err().unwrap();
        assert!(error.is_unreachable());
        let error = error.to_string();
        assert!(
            error.contains(words)
                && error.contains("s3://bucket/x.tar")
                && error.contains("4 attempts"),
            "{error}"
        );
        assert_eq!(server.requests().len(), 4);
    };
    let none = Faults::default();
    check(
        Faults {
            internal: 1000,
            ..none
        },
        "the server answered 500",
    );
    check(
        Faults {
            unavailable: 1000,
            ..none
        },
        "the server answered 503",
    );
    check(
        Faults {
            refuse: 1000,
            ..none
        },
        "the connection broke off",
    );
    // A server that is not there is given up sooner.
    let gone = kind();
    let url = gone.url();
    drop(gone);
    std::thread::sleep(Duration::from_millis(50));
    let error = open(
        &format!("{url}/x.tar"),
        &RemoteOptions {
            attempts: 1000,
            ..remote.clone()
        },
    );
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("no connection") && error.contains("5 attempts"),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn what_was_received_before_a_connection_broke_is_not_sent_again() {
    let server = kind();
    server.put("bucket/a/b.png", picture(1, 100));
    let remote = RemoteOptions {
        attempts: 4,
        ..remote(&server)
    };
    let source = open("s3://bucket/a", &remote).unwrap();
    let size = picture(1, 100).len() as u64;
    let none = Faults::default();
    let faults = [
        (Faults { drop: 1000, ..none }, "broke off"),
        (
            Faults {
                stall: 1000,
                ..none
            },
            "nothing arrived for 300ms",
        ),
    ];
    for (faults, words) in faults {
        server.requests();
        server.behave(|behaviour| behaviour.faults = faults);
        // Half of what is still missing arrives each time.
        let error = source.encoded(0).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("4 attempts"),
            "{error}"
        );
        let starts: Vec<u64> = reads(&server)
            .iter()
            .map(|request| request.range.map_or(0, |range| range.0))
            .collect();
        let half = size / 2;
        assert_eq!(starts[..3], [0, half, half + (size - half) / 2]);
        assert_eq!(starts.len(), 4);
    }
    server.behave(|behaviour| behaviour.faults = none);
    assert_eq!(source.encoded(0).unwrap(), Some(picture(1, 100)));
}

#[test]
fn lies_and_changes_are_found_out() {
    let server = kind();
    let remote = RemoteOptions {
        attempts: 3,
        ..remote(&server)
    };
    shards_to(&server, "bucket/x.tar");
    let source = open("s3://bucket/x.tar", &remote).unwrap();
    for (lie, words) in [(Lie::Range, "Requested"), (Lie::Length, "broke off after")] {
        server.behave(|behaviour| behaviour.lie = lie);
        let error = source.encoded(1).unwrap_err();
        assert!(
            error.is_unreachable() && error.to_string().contains(words),
            "{error}"
        );
    }
    server.behave(|behaviour| behaviour.lie = Lie::None);
    assert!(source.encoded(1).is_ok());

    for tags in [true, false] {
        server.behave(|behaviour| behaviour.tags = tags);
        server.put("bucket/a/b.png", picture(1, 24));
        let source = open("s3://bucket/a", &remote).unwrap();
        assert!(source.encoded(0).is_ok());
        let mut other = picture(1, 24);
        *other.last_mut().unwrap() ^= 1;
        server.put("bucket/a/b.png", other);
        let error = source.encoded(0).unwrap_err();
        assert!(error.is_unreachable(), "{error}");
        assert!(error.to_string().contains("has changed"), "{error}");
    }
}

#[test]
fn what_cannot_be_fetched_is_no_bad_image() {
    let folder = tempfile::tempdir().unwrap();
    photos(&folder.path().join("photos"), 30);
    shards(folder.path(), 40, 10, 24);
    let server = kind();
    server.put_folder("bucket", folder.path());
    server.put("bucket/photos/a cat/000.png", "damaged");
    let remote = RemoteOptions {
        attempts: 3,
        ..remote(&server)
    };
    let images = open("s3://bucket/photos", &remote).unwrap();
    server.remove("bucket/photos/b&b/001.png");
    let images = loader(images, 0);
    // An image that is damaged, and one that is gone, are bad images here as anywhere.
    assert_eq!(images.epoch(0, 0).filter(Result::is_ok).count(), 7);
    let bad = images.bad_images();
    let names: Vec<&str> = bad.iter().map(|bad| bad.name.as_str()).collect();
    assert_eq!(names, ["a cat/000.png", "b&b/001.png"]);
    assert!(bad[1].reason.contains("not found"), "{}", bad[1].reason);

    let shards = open("s3://bucket/shard-{000000..000003}.tar", &remote).unwrap();
    let shards = loader(shards, 20);
    let expected = epoch(&shards, 1);
    for loader in [images, shards] {
        let mut batches = loader.epoch(1, 0);
        let before = loader.bad_images();
        let first = batches.next().unwrap().unwrap();
        server.behave(|behaviour| {
            behaviour.faults = Faults {
                internal: 1000,
                ..Faults::default()
            }
        });
        let start = Instant::now();
        let error = batches
            .find_map(Result::err)
            .expect("the epoch cannot be complete");
        assert!(error.is_unreachable(), "{error}");
        assert!(batches.next().is_none());
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(loader.bad_images(), before);
        // Another time, the epoch is what it would have been.
        server.behave(|behaviour| behaviour.faults = Faults::default());
        let again = epoch(&loader, 1);
        assert!(again[0] == first);
        if again.len() == expected.len() {
            assert!(again == expected);
        }
    }
}

#[test]
fn shards_are_read_in_few_requests() {
    let folder = tempfile::tempdir().unwrap();
    let server = kind();
    let remote = remote(&server);
    // 60 small images in 200 kB: one request shows what the shard holds, and one gives them all.
    shards(folder.path(), 60, 60, 30);
    server.put_folder("bucket/small", folder.path());
    server.requests();
    let source = open("s3://bucket/small", &remote).unwrap();
    assert_eq!(reads(&server).len(), 1);
    epoch(&loader(source, 30), 0);
    assert_eq!(reads(&server).len(), 1);

    // Where images are large, little more than the headers is read.
    let large = tempfile::tempdir().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for number in 0..4 {
        let mut header = tar::Header::new_gnu();
        header.set_size(3 << 20);
        let name = format!("{number}.png");
        archive
            .append_data(&mut header, name, &vec![7; 3 << 20][..])
            .unwrap();
    }
    std::fs::write(large.path().join("x.tar"), archive.into_inner().unwrap()).unwrap();
    server.put_folder("bucket/large", large.path());
    assert_eq!(open("s3://bucket/large/x.tar", &remote).unwrap().len(), 4);
    let asked = reads(&server);
    let bytes: u64 = asked
        .iter()
        .filter_map(|r| r.range)
        .map(|(first, last)| last + 1 - first)
        .sum();
    assert!(
        asked.len() <= 5 && bytes < (2 << 20),
        "{bytes} bytes by {asked:?}"
    );
}

fn with_cache(server: &Server, folder: &Path, bytes: u64) -> RemoteOptions {
    RemoteOptions {
        cache: Some(CacheOptions {
            folder: folder.to_path_buf(),
            bytes,
        }),
        ..remote(server)
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            sum += bytes_in(&entry.path());
        } else if let Ok(found) = entry.metadata() {
            sum += found.len();
        }
    }
    sum
}

/// All entries of a cache.
fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found
}

#[test]
fn what_was_read_before_comes_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    photos(&folder.path().join("photos"), 30);
    shards(folder.path(), 40, 10, 24);
    std::fs::write(
        folder.path().join("list.txt"),
        "photos/a cat/000.png\nphotos/b&b/001.png\n",
    )
    .unwrap();
    let server = kind();
    server.put_folder("bucket", folder.path());
    let web = server.url();
    for (location, shuffle_buffer, checks) in [
        ("s3://bucket/photos".to_owned(), 0, 0),
        ("s3://bucket/shard-{000000..000003}.tar".into(), 0, 0),
        ("s3://bucket/shard-{000000..000003}.tar".into(), 20, 0),
        // Nobody lists these: the list is read, and each is asked for.
        (format!("{web}/bucket/list.txt"), 0, 3),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let remote = with_cache(&server, cache.path(), 1 << 30);
        let batch = |source: Box<dyn Source>, number| {
            let files: Vec<_> = (0..source.len())
                .map(|index| source.encoded(index).unwrap())
                .collect();
            let loader = loader(source, shuffle_buffer);
            (files, epoch(&loader, number))
        };
        let source = open(&location, &remote).unwrap();
        let loader = loader(source, shuffle_buffer);
        for number in 0..3 {
            assert_eq!(epoch(&loader, number).len(), loader.batches_per_epoch());
        }
        let first = batch(open(&location, &remote).unwrap(), 0);
        assert!(!reads(&server).is_empty());
        // Another epoch, in another order.
        epoch(&loader, 3);
        assert_eq!(reads(&server), [], "{location}");
        // Another run.
        let second = batch(open(&location, &remote).unwrap(), 0);
        assert_eq!(reads(&server).len(), checks, "{location}");
        assert!(first == second);
        // Damaged and shortened entries are noticed, and fetched again.
        for (number, entry) in entries(cache.path()).iter().enumerate() {
            let mut bytes = std::fs::read(entry).unwrap();
            // Which version a location had is less than a file: it would be asked for anyway.
            if bytes[28..].starts_with(b"version ") {
                continue;
            }
            match number % 3 {
                0 => *bytes.last_mut().unwrap() ^= 1,
                1 => bytes.truncate(bytes.len() / 2),
                _ => bytes[3] ^= 1,
            }
            std::fs::write(entry, bytes).unwrap();
        }
        let third = batch(open(&location, &remote).unwrap(), 0);
        assert!(reads(&server).len() > checks, "{location}");
        assert!(first == third);
        let fourth = batch(open(&location, &remote).unwrap(), 0);
        assert_eq!(reads(&server).len(), checks, "{location}");
        assert!(first == fourth);
    }
}

#[test]
fn an_object_that_changed_is_not_taken_from_the_cache() {
    let server = kind();
    let cache = tempfile::tempdir().unwrap();
    let remote = with_cache(&server, cache.path(), 1 << 20);
    let list = cache.path().with_extension("txt");
    std::fs::write(&list, "s3://bucket/a/b.png\n").unwrap();
    for number in 1..4 {
        server.put("bucket/a/b.png", picture(number, 24));
        for location in ["s3://bucket/a", list.to_str().unwrap()] {
            let source = open(location, &remote).unwrap();
            assert_eq!(source.encoded(0).unwrap(), Some(picture(number, 24)));
        }
    }
    std::fs::remove_file(list).unwrap();
}

#[test]
fn the_cache_keeps_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    photos(&folder.path().join("photos"), 60);
    shards(folder.path(), 100, 25, 40);
    let server = kind();
    server.put_folder("bucket", folder.path());
    let cache = tempfile::tempdir().unwrap();
    let bound = 20_000;
    for location in [
        "s3://bucket/photos",
        "s3://bucket/shard-{000000..000003}.tar",
    ] {
        // Two programs at a time.
        let loaders = [0, 1].map(|_| {
            let remote = with_cache(&server, cache.path(), bound);
            loader(open(location, &remote).unwrap(), 0)
        });
        let plain = loader(open(location, &remote(&server)).unwrap(), 0);
        let expected = epoch(&plain, 0);
        std::thread::scope(|scope| {
            for loader in &loaders {
                let (expected, cache) = (&expected, cache.path());
                scope.spawn(move || {
                    for (batch, expected) in loader.epoch(0, 0).zip(expected) {
                        assert!(batch.unwrap() == *expected);
                        // One file may be about to be renamed.
                        let bytes = bytes_in(cache);
                        assert!(bytes <= bound + 6000, "{bytes}");
                    }
                });
            }
        });
        assert!(bytes_in(cache.path()) > bound / 2);
        assert!(reads(&server).len() > 60);
    }
}

#[test]
fn a_folder_of_other_files_is_no_cache() {
    let server = kind();
    server.put("bucket/a/b.png", picture(1, 24));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("precious.txt"), "x").unwrap();
    let error = open(
        "s3://bucket/a",
        &with_cache(&server, folder.path(), 1 << 20),
    );
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("holds other files")
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
