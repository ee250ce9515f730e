//! Whole epochs over a network that fails.

use crate::sets::*;

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
    assert_eq!(loader.unusable_images(), []);
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
        assert_eq!(loader.unusable_images(), []);
    }
    assert_all_happened(&server);
}

/// Without faults.
/// Row groups and pages are read in parts, and so again where they break off.
#[cfg(feature = "parquet")]
#[test]
fn parquet_files_are_read_whatever_the_network_does() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
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
