//! What is read where, and what is refused.

use crate::sets::*;

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
        ("s3://bucket/nothing".into(), "nothing at this location"),
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
            "refused (403): these credentials do not",
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

#[test]
fn what_is_left_out_is_the_same_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let set = root.join("set");
    photos(&set, 9);
    std::fs::write(set.join("poster.png"), picture(5, 24)).unwrap();
    let settings = "out-dim = 64\nmomentum-teacher = 0.996\n";
    for (name, content) in [
        ("run/config.toml", settings.as_bytes().to_vec()),
        ("run/pictures/attention.png", picture(6, 24)),
        ("a cat/config.toml", b"title = 1\n".to_vec()),
        ("__MACOSX/a cat/000.png", picture(7, 24)),
    ] {
        let path = set.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    shards(root, 1, 5, 24);
    let shard = std::fs::read(root.join("shard-000000.tar")).unwrap();
    // A shard in which a member is replaced.
    std::fs::write(set.join("x.tar"), [shard.clone(), shard].concat()).unwrap();
    std::fs::write(root.join("gz.tar"), b"\x1f\x8b\x08\0\0\0\0\0\0").unwrap();
    let server = kind();
    let remote = remote(&server);
    server.put_folder("bucket/all", root);

    for name in ["set", "set/x.tar"] {
        let local = open_local(&root.join(name));
        let found = open(&format!("s3://bucket/all/{name}"), &remote).unwrap();
        assert_same(&*found, &*local);
        assert_eq!(found.notes(), local.notes());
        assert!(!local.notes().is_empty());
    }
    let local = open_local(&set);
    assert_eq!((local.len(), local.notes().len()), (11, 3));
    for location in [
        "s3://bucket/all/gz.tar".to_owned(),
        format!("{}/bucket/all/gz.tar", server.url()),
        format!("{}/bucket/all/other.tar.gz", server.url()),
    ] {
        let told = open(&location, &remote).err().unwrap().to_string();
        assert!(told.contains("compressed"), "{told}");
    }
}
