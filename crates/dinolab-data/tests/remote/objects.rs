//! Objects that are written.

use std::path::Path;

use dinolab_data::source::{Objects, RemoteOptions};

use crate::server::Faults;
use crate::sets::*;

fn folder(remote: &RemoteOptions) -> Objects {
    Objects::open(Path::new("s3://bucket/features/"), remote).unwrap()
}

#[test]
fn what_is_written_is_read_through_all_faults() {
    let server = kind();
    server.behave(|behaviour| behaviour.faults = FAULTS);
    let remote = RemoteOptions {
        attempts: 100,
        ..remote(&server)
    };
    let objects = folder(&remote);
    for i in 0..20usize {
        let bytes: Vec<u8> = (0..i * 5000).map(|byte| (byte * 7 + i) as u8).collect();
        let name = format!("part-{i}");
        assert!(objects.find(&name).unwrap().is_none());
        assert!(objects.read(&name).unwrap().is_none());
        objects.write(&name, vec![1, 2, 3]).unwrap();
        objects.write(&name, bytes.clone()).unwrap();
        assert_eq!(
            server.get(&format!("bucket/features/{name}")),
            Some(bytes.clone())
        );
        assert_eq!(objects.read(&name).unwrap(), Some(bytes.clone()));
        let found = objects.find(&name).unwrap().unwrap();
        assert_eq!(found.size(), bytes.len() as u64);
        let half = found.size() / 2;
        assert_eq!(
            found.read(half..found.size()).unwrap(),
            bytes[half as usize..]
        );
        assert!(found.read(half..found.size() + 1).is_err());
    }
    let counts = server.counts();
    assert!(
        counts.lost > 0 && counts.refuse > 0 && counts.internal > 0,
        "{counts:?}"
    );
    assert_eq!(
        objects.path("part-1"),
        Path::new("s3://bucket/features/part-1")
    );
}

#[test]
fn of_several_writers_one_is_first() {
    for create in [true, false] {
        let server = kind();
        server.behave(|behaviour| {
            behaviour.faults = FAULTS;
            behaviour.create = create;
        });
        let remote = RemoteOptions {
            attempts: 100,
            ..remote(&server)
        };
        std::thread::scope(|scope| {
            for i in 0..8u8 {
                let objects = folder(&remote);
                scope.spawn(move || objects.write_new("manifest", vec![i; 100]).unwrap());
            }
        });
        let first = server.get("bucket/features/manifest").unwrap();
        assert_eq!(first, [first[0]; 100]);
        folder(&remote).write_new("manifest", vec![99]).unwrap();
        let now = server.get("bucket/features/manifest").unwrap();
        // A store that cannot promise it takes the last.
        assert_eq!(now == first, create);
    }
}

#[test]
fn what_cannot_be_written_says_why() {
    let server = kind();
    let mut remote = remote(&server);
    remote.attempts = 3;
    let objects = folder(&remote);
    server.behave(|behaviour| {
        behaviour.faults = Faults {
            internal: 1000,
            ..Faults::default()
        };
    });
    let error = objects.write("x", vec![1]).unwrap_err();
    assert!(error.is_unreachable());
    let error = error.to_string();
    assert!(
        error.contains("3 attempts") && error.contains("s3://bucket/features/x"),
        "{error}"
    );
    server.behave(|behaviour| {
        behaviour.faults = Faults::default();
        behaviour.forbidden = Some("features".into());
    });
    let error = objects.write("x", vec![1]).unwrap_err().to_string();
    assert!(
        error.contains("403") && error.contains("AWS_ACCESS_KEY_ID"),
        "{error}"
    );
    assert_eq!(server.names(), Vec::<String>::new());
    let web = Objects::open(Path::new("https://host/folder"), &remote);
    assert!(web.unwrap_err().to_string().contains("takes no files"));
}
