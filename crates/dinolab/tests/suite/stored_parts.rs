//! `dinolab embed --out s3://… --format parquet`: parts in a store that fails at random.
#![cfg(all(feature = "parquet", feature = "remote"))]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Train, one_error, picture, program, text};
use crate::object_server::{Behaviour, Faults, Server};
use dinolab_data::source::RemoteOptions;
use dinolab_run::feature_set::FeatureSet;
use tempfile::TempDir;

/// Two fifths of all answers go wrong.
const FAULTS: Faults = Faults {
    refuse: 80,
    drop: 80,
    stall: 10,
    internal: 80,
    unavailable: 80,
    lost: 80,
};
const FOLDER: &str = "s3://bucket/features/photos";

/// Pictures of two classes of which one cannot be read, a run, and a store.
struct Place {
    root: TempDir,
    server: Server,
    images: usize,
    part_size: usize,
    attempts: &'static str,
}

impl Place {
    fn new(images: usize, part_size: usize) -> Self {
        let place = Self {
            root: TempDir::new().unwrap(),
            server: Server::start(
                7,
                Behaviour {
                    faults: FAULTS,
                    page: 9,
                    stall: Duration::from_millis(700),
                    ..Behaviour::default()
                },
            ),
            images,
            part_size,
            attempts: "60",
        };
        for i in 0..images as u32 - 1 {
            let name = format!("photos/{}/{i:06}.png", ["a", "b"][i as usize % 2]);
            picture(&place.path(&name), 32, 7 * i);
        }
        fs::write(place.path("photos/b/broken.png"), "no picture").unwrap();
        Train::tiny(&place.path("run")).with("epochs", 1).succeed();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn variables(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("AWS_ENDPOINT_URL", self.server.url()),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_ACCESS_KEY_ID", "key".into()),
            ("AWS_SECRET_ACCESS_KEY", "secret".into()),
            ("AWS_REGION", "here".into()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command.envs(self.variables()).args(arguments);
        command.args([
            "--remote-attempts",
            self.attempts,
            "--remote-timeout",
            "0.4",
        ]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn embed(&self, out: &str, flags: &[&str]) -> Command {
        let mut command = self.command(&["embed"]);
        command.arg("--weights").arg(self.path("run"));
        command
            .arg(self.path("photos"))
            .args(["--out", out])
            .args(flags);
        command
    }

    fn parts(&self, flags: &[&str]) -> Command {
        let size = self.part_size.to_string();
        self.embed(
            FOLDER,
            &[&["--format", "parquet", "--part-size", &size][..], flags].concat(),
        )
    }

    fn single(&self) -> FeatureSet {
        let path = self.path("single.npy");
        succeed(&mut self.embed(path.to_str().unwrap(), &[]));
        FeatureSet::read(&path).unwrap()
    }

    fn verify(&self) -> Result<String, String> {
        let output = self
            .command(&["embed", "--verify", FOLDER])
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(one_error(&output)),
        }
    }

    fn stored(&self) -> FeatureSet {
        let remote = RemoteOptions {
            attempts: 60,
            first_pause: Duration::from_millis(5),
            stall_timeout: Duration::from_millis(400),
            environment: Some(self.variables()),
            ..RemoteOptions::default()
        };
        FeatureSet::load(Path::new(FOLDER), &remote).unwrap()
    }

    /// Embeds by `shards` processes, two at the same shard by mistake, and kills them at random times, `kills`
    /// of them.
    fn killed(&self, shards: usize, kills: usize, longest: u64) {
        let mut killed = 0;
        let mut random = 1u64;
        while killed < kills {
            let shard = format!("{}/{shards}", 1 + killed / 2 % shards);
            let mut children: Vec<_> = (0..2)
                .map(|_| self.parts(&["--shard", &shard]).spawn().unwrap())
                .collect();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            std::thread::sleep(Duration::from_millis((random >> 33) % longest));
            for child in &mut children {
                killed += usize::from(child.try_wait().unwrap().is_none());
                let _ = child.kill();
                child.wait().unwrap();
            }
        }
        // Whatever is visible is whole.
        let told = self.verify().unwrap_or_else(|told| told);
        assert!(!told.contains("are wrong"), "{told}");
    }

    fn assert_whole(&self, single: &FeatureSet) {
        let told = self.verify().unwrap();
        let images = self.images;
        assert!(told.contains(&format!("whole: {images} images")), "{told}");
        // Bit for bit, with names and classes.
        assert!(&self.stored() == single);
        let names = self.server.names();
        assert_eq!(
            names.len(),
            1 + images.div_ceil(self.part_size),
            "{names:?}"
        );
        let counts = self.server.counts();
        let faults = [
            counts.refuse,
            counts.drop,
            counts.internal,
            counts.unavailable,
            counts.lost,
        ];
        assert!(faults.iter().sum::<usize>() > 10, "{counts:?}");
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn parts_in_a_store_are_the_single_run() {
    let place = Place::new(40, 7);
    let single = place.single();
    place.killed(2, 6, 120);
    succeed(&mut place.parts(&["--shard", "2/2"]));
    succeed(&mut place.parts(&[]));
    place.assert_whole(&single);
    let told = succeed(&mut place.parts(&[]));
    assert!(
        told.contains("0 parts written") && told.contains("6 were there") && told.contains(FOLDER),
        "{told}"
    );

    // Verbs take the location for saved features.
    let knn = |features: &str| {
        let pair = ["--train", features, "--val", features];
        succeed(place.command(&["eval", "knn", "--json"]).args(pair))
    };
    assert_eq!(knn(FOLDER), knn(place.path("single.npy").to_str().unwrap()));
    let linear = |features: &str| {
        let pair = ["--train", features, "--val", features, "--epochs", "2"];
        succeed(place.command(&["eval", "linear", "--json"]).args(pair))
    };
    // Copies of the parts are gone in the end.
    let temporary = place.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let retrieval = |features: &str| {
        let mut command = place.command(&["eval", "retrieval", "--json", features]);
        succeed(command.env("TMPDIR", &temporary))
    };
    let single_file = place.path("single.npy");
    let single_file = single_file.to_str().unwrap();
    assert_eq!(linear(FOLDER), linear(single_file));
    assert_eq!(retrieval(FOLDER), retrieval(single_file));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    let mut near = place.command(&["neighbours", "--json", "--k", "3"]);
    near.arg("--weights").arg(place.path("run"));
    near.args([FOLDER, "a/000010.png"]);
    let near: serde_json::Value = serde_json::from_str(&succeed(&mut near)).unwrap();
    let near = near["queries"][0]["neighbours"].as_array().unwrap();
    assert!(near.len() == 3 && near[0]["similarity"].as_f64().unwrap() <= 1.0);

    // Of another set, damaged, missing; and what is none.
    let refused = |command: &mut Command| one_error(&command.output().unwrap());
    assert!(refused(&mut place.parts(&["--feature", "both"])).contains("another --feature"));
    // Nor by a store that does not know how to keep what is there.
    place.server.behave(|behaviour| behaviour.create = false);
    assert!(refused(&mut place.parts(&["--feature", "both"])).contains("another --feature"));
    let part = "bucket/features/photos/part-000002.parquet";
    let mut damaged = place.server.get(part).unwrap();
    damaged[100] ^= 1;
    place.server.put(part, damaged);
    let told = place.verify().unwrap_err();
    assert!(told.contains("1 of 6 parts are wrong: 2"), "{told}");
    place.server.remove(part);
    assert!(
        place
            .verify()
            .unwrap_err()
            .contains("1 of 6 parts are missing: 2")
    );
    succeed(&mut place.parts(&[]));
    place.assert_whole(&single);
    let web = place.embed("https://host/folder", &["--format", "parquet"]);
    assert!(refused(&mut { web }).contains("takes no files"));
}

#[test]
fn whitened_parts_in_a_store_are_the_single_run() {
    let place = Place::new(20, 6);
    let file = place.path("white.npy");
    succeed(&mut place.embed(file.to_str().unwrap(), &["--whiten"]));
    let told = succeed(&mut place.parts(&["--whiten", "--shard", "1/2"]));
    assert!(told.contains("not whitened yet: 2 parts"), "{told}");
    succeed(&mut place.parts(&["--whiten", "--shard", "2/2"]));
    succeed(&mut place.parts(&["--whiten"]));
    assert!(
        place
            .verify()
            .unwrap()
            .contains("whole: 20 images in 4 parts")
    );
    assert!(place.stored() == FeatureSet::read(&file).unwrap());
}

#[test]
fn a_store_that_fails_for_good_is_for_another_time() {
    let mut place = Place::new(12, 5);
    place.attempts = "2";
    place.server.behave(|behaviour| {
        behaviour.faults = Faults::default();
        behaviour.outage_after = Some(4);
    });
    let output = place.parts(&[]).output().unwrap();
    // The code for "try again".
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(one_error(&output).contains("cannot reach s3://bucket/features/photos/"));
    place
        .server
        .behave(|behaviour| behaviour.outage_after = None);
    succeed(&mut place.parts(&[]));
    assert!(
        place
            .verify()
            .unwrap()
            .contains("whole: 12 images in 3 parts")
    );
}

/// `cargo test --release --workspace --features dinolab/parquet,dinolab/remote --test suite stored_parts:: -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_images_in_a_store_that_fails() {
    let place = Place::new(100_000, 500);
    let single = place.single();
    place.killed(8, 30, 4000);
    for shard in 1..=8 {
        succeed(&mut place.parts(&["--shard", &format!("{shard}/8")]));
    }
    place.assert_whole(&single);
}
