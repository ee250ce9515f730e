//! What was read before.

use std::path::Path;

use dinolab_data::Source;
use dinolab_data::source::{CacheOptions, RemoteOptions};

use crate::server::Server;
use crate::sets::*;

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
