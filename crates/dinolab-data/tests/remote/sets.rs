//! Images, servers that hold them, and what they must come to.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dinolab_data::augment::MultiCrop;
use dinolab_data::source::{self, RemoteOptions, SourceOptions};
use dinolab_data::{Crops, Loader, LoaderConfig, Result, Source};
use image::{ImageFormat, Rgb, RgbImage};

use crate::server::{self, Behaviour, Faults, Server};

/// A tenth of all answers goes wrong in each way.
pub(crate) const FAULTS: Faults = Faults {
    refuse: 100,
    drop: 100,
    stall: 50,
    internal: 100,
    unavailable: 100,
    lost: 100,
};

/// Of a server, with short times.
pub(crate) fn remote(server: &Server) -> RemoteOptions {
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

pub(crate) fn options(remote: RemoteOptions) -> SourceOptions {
    SourceOptions {
        remote,
        ..SourceOptions::default()
    }
}

pub(crate) fn open(location: &str, remote: &RemoteOptions) -> Result<Box<dyn Source>> {
    source::open(Path::new(location), &options(remote.clone()))
}

pub(crate) fn open_local(path: &Path) -> Box<dyn Source> {
    source::open(path, &SourceOptions::default()).unwrap()
}

pub(crate) fn picture(number: usize, side: u32) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    RgbImage::from_fn(side, side + 3, |x, y| {
        Rgb([x as u8 * 5, (y as usize * number) as u8, number as u8 * 9])
    })
    .write_to(&mut file, ImageFormat::Png)
    .unwrap();
    file.into_inner()
}

/// A folder of `count` images of three classes, with what commonly lies beside them.
pub(crate) fn photos(folder: &Path, count: usize) {
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
pub(crate) fn shards(folder: &Path, count: usize, each: usize, side: u32) {
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
pub(crate) fn assert_same(remote: &dyn Source, local: &dyn Source) {
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
            let scaled = source.decode_scaled(index, bytes.as_ref().unwrap(), &|_| 2);
            scaled.map(|scaled| (scaled.scale, scaled.image))
        });
        assert_eq!(a.ok(), b.ok());
    }
}

pub(crate) fn loader(source: Box<dyn Source>, shuffle_buffer: usize) -> Loader {
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
        max_unusable: 0.5,
        shuffle_buffer,
        ..LoaderConfig::default()
    };
    Loader::new(Arc::from(source), crops, config).unwrap()
}

pub(crate) fn epoch(loader: &Loader, number: u64) -> Vec<Crops> {
    loader.epoch(number, 0).collect::<Result<_>>().unwrap()
}

pub(crate) fn assert_each_once(batches: &[Crops], images: usize) {
    let mut seen: Vec<usize> = batches.iter().flat_map(Crops::indices).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..images).collect::<Vec<_>>());
}

pub(crate) fn assert_all_happened(server: &Server) {
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

pub(crate) fn faulty(seed: u64) -> Server {
    Server::start(
        seed,
        Behaviour {
            faults: FAULTS,
            page: 7,
            ..Behaviour::default()
        },
    )
}

pub(crate) fn kind() -> Server {
    Server::start(0, Behaviour::default())
}

pub(crate) fn reads(server: &Server) -> Vec<server::Request> {
    let mut requests = server.requests();
    requests.retain(|request| request.method == "GET" && !request.target.ends_with('?'));
    requests
}

pub(crate) fn shards_to(server: &Server, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path(), 4, 4, 24);
    let archive = std::fs::read(folder.path().join("shard-000000.tar")).unwrap();
    server.put(name, archive);
}
