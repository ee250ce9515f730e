//! How requests are made, and made again.

use std::time::{Duration, Instant};

use dinolab_data::Result;
use dinolab_data::source::RemoteOptions;

use crate::server::{Faults, Lie};
use crate::sets::*;

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
    let bad = images.unusable_images();
    let names: Vec<&str> = bad.iter().map(|bad| bad.name.as_str()).collect();
    assert_eq!(names, ["a cat/000.png", "b&b/001.png"]);
    assert!(bad[1].reason.contains("not found"), "{}", bad[1].reason);

    let shards = open("s3://bucket/shard-{000000..000003}.tar", &remote).unwrap();
    let shards = loader(shards, 20);
    let expected = epoch(&shards, 1);
    for loader in [images, shards] {
        let mut batches = loader.epoch(1, 0);
        let before = loader.unusable_images();
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
        assert_eq!(loader.unusable_images(), before);
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
