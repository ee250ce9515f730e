//! The program on images of another machine: the same results as on a local copy.
#![cfg(feature = "remote")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{
    Train, assert_same, checkpoint_steps, metrics, one_error, picture, program, text,
};
use crate::object_server::{Behaviour, Faults, Server};
use tempfile::TempDir;

/// A third of all answers goes wrong.
const FAULTS: Faults = Faults {
    refuse: 80,
    drop: 80,
    stall: 30,
    internal: 80,
    unavailable: 80,
    lost: 80,
};

/// A folder of four classes, and shards of its files; and a server that has both.
fn sources(faults: Faults) -> (TempDir, Server) {
    let root = TempDir::new().unwrap();
    for i in 0..40 {
        let name = format!("photos/class-{}/{i:02}.png", i / 10);
        picture(&root.path().join(name), 40 + i, i);
    }
    let [photos, shards] = ["photos", "shards"].map(|name| root.path().join(name));
    let packed = program()
        .args(["data", "pack"])
        .args([&photos, &shards])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let server = Server::start(
        3,
        Behaviour {
            faults,
            page: 9,
            ..Behaviour::default()
        },
    );
    server.put_folder("bucket/photos", &photos);
    server.put_folder("bucket/shards", &shards);
    (root, server)
}

/// Lets a command find the server, whatever else this shell has set.
fn with(mut command: Command, server: &Server) -> Command {
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command
        .env("AWS_ENDPOINT_URL", server.url())
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "here")
        .env_remove("DINOLAB_REMOTE_CACHE");
    command
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    with(program(), server).args(arguments).output().unwrap()
}

fn succeed(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn train(server: &Server, train: &Train) -> Output {
    with(train.command(), server).output().unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn training_on_another_machine_is_training_on_the_local_copy() {
    let (root, server) = sources(FAULTS);
    for (name, shuffle_buffer) in [("photos", 0), ("shards", 12)] {
        let tiny = |images: PathBuf, out: &str| {
            Train::tiny(&root.path().join(out))
                .on(&images)
                .with("eval-every", 1)
                .with("cache-mb", 0)
                .with("shuffle-buffer", shuffle_buffer)
        };
        let local = format!("local-{name}");
        tiny(root.path().join(name), &local).succeed();
        let away = format!("remote-{name}");
        // A path would lose one of the two slashes.
        let remote = tiny(format!("s3://bucket/{name}").into(), &away)
            .with("remote-attempts", 40)
            .with("remote-timeout", 0.4);
        let first = train(&server, &remote.clone().with("stop-after-epochs", 1));
        assert!(first.status.success(), "{}", text(&first.stderr));
        let config = fs::read_to_string(root.path().join(&away).join("config.toml")).unwrap();
        assert!(
            config.contains(&format!("\"s3://bucket/{name}\"")),
            "{config}"
        );
        let rest = train(&server, &remote);
        assert!(rest.status.success(), "{}", text(&rest.stderr));
        assert!(text(&rest.stdout).contains("from step"));
        let [local, away] = [local, away].map(|out| root.path().join(out));
        assert_same(&away, &local);
        assert!(
            metrics(&away)
                .iter()
                .any(|line| line["kind"] == "evaluation")
        );
        assert!(!away.join("skipped.tsv").exists());
    }
    let counts = server.counts();
    assert!(
        counts.refuse > 0 && counts.drop > 0 && counts.stall > 0 && counts.internal > 0,
        "{counts:?}"
    );
}

#[test]
fn a_run_that_lost_its_images_goes_on_another_time() {
    let (root, server) = sources(Faults::default());
    let tiny = |images: &str, out: &str| {
        Train::tiny(&root.path().join(out))
            .on(Path::new(images))
            .with("cache-mb", 0)
            .with("checkpoint-every", 1)
            .with("read-ahead", 2)
    };
    let local = root.path().join("photos");
    tiny(path(&local), "local").succeed();
    // 40 images an epoch of which 32 or more are trained on, and a listing of 5 pages.
    server.behave(|behaviour| behaviour.outage_after = Some(70));
    let remote = tiny("s3://bucket/photos", "away").with("remote-attempts", 3);
    let error = one_error(&train(&server, &remote));
    for words in [
        "run the same command again to resume from its last checkpoint",
        "cannot reach s3://bucket/photos/class-",
        "the server answered 500 (3 attempts)",
    ] {
        assert!(error.contains(words), "{error}");
    }
    let away = root.path().join("away");
    assert!(!checkpoint_steps(&away).is_empty());
    assert!(!away.join("skipped.tsv").exists());
    server.behave(|behaviour| behaviour.outage_after = None);
    let rest = train(&server, &remote);
    assert!(rest.status.success(), "{}", text(&rest.stderr));
    assert!(text(&rest.stdout).contains("from step"));
    assert_same(&away, &root.path().join("local"));
}

#[test]
fn other_verbs_read_other_machines_too() {
    let (root, server) = sources(Faults::default());
    let photos = root.path().join("photos");
    let json = |source: &str| succeed(&server, &["data", "inspect", "--json", "--stats", source]);
    assert_eq!(json("s3://bucket/photos"), json(path(&photos)));
    assert_eq!(
        json("s3://bucket/shards"),
        json(path(&root.path().join("shards")))
    );

    let packed = root.path().join("packed");
    succeed(
        &server,
        &["data", "pack", "s3://bucket/photos", path(&packed)],
    );
    let shard = |folder: &str| fs::read(root.path().join(folder).join("shard-000000.tar")).unwrap();
    assert!(shard("packed") == shard("shards"));
    let error = one_error(&run(
        &server,
        &["data", "pack", path(&photos), "s3://bucket/out"],
    ));
    assert!(
        error.contains("remote locations cannot be written to"),
        "{error}"
    );

    let out = root.path().join("run");
    let tiny = Train::tiny(&out).on(&photos).with("epochs", 1);
    tiny.succeed();
    let features = |source: &str, name: &str| {
        let file = root.path().join(name);
        let weights = [
            "embed",
            "--weights",
            path(&out),
            source,
            "--out",
            path(&file),
        ];
        succeed(&server, &weights);
        fs::read(file).unwrap()
    };
    let same = features("s3://bucket/shards", "a.npy") == features(path(&photos), "b.npy");
    assert!(same, "other features than those of the local files");

    // What cannot be fetched is not left out of what is written.
    server.behave(|behaviour| behaviour.outage_after = Some(0));
    let file = root.path().join("c.npy");
    let weights = ["embed", "--weights", path(&out), "--remote-attempts", "2"];
    let output = run(
        &server,
        &[&weights[..], &["s3://bucket/photos", "--out", path(&file)]].concat(),
    );
    assert!(one_error(&output).contains("2 attempts"));
    assert!(!file.exists());
    let seen = root.path().join("photos.txt");
    fs::write(&seen, "s3://bucket/photos/class-0/00.png\n").unwrap();
    let output = run(
        &server,
        &["data", "inspect", "--remote-attempts", "2", path(&seen)],
    );
    assert!(one_error(&output).contains("cannot reach s3://bucket/photos/class-0/00.png"));
}

#[test]
fn programs_share_a_cache() {
    let (root, server) = sources(Faults::default());
    let cache = root.path().join("cache");
    let inspect = || {
        let mut command = with(program(), &server);
        command
            .args(["data", "inspect", "--json", "s3://bucket/shards"])
            .env("DINOLAB_REMOTE_CACHE", &cache)
            .stdout(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let both = [inspect(), inspect()].map(|child| child.wait_with_output().unwrap());
    server.requests();
    let third = inspect().wait_with_output().unwrap();
    for output in both {
        assert!(output.status.success());
        assert_eq!(text(&output.stdout), text(&third.stdout));
    }
    assert!(third.stdout.len() > 100);
    let methods: Vec<String> = server
        .requests()
        .into_iter()
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    assert_eq!(methods, ["GET bucket?"]);
}
