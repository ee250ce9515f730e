//! `--weights hf:OWNER/NAME` by the program, from a hub on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Train, one_error, picture, pictures, program, tensors, text};
use crate::hub_server::{Access, Server, TOKEN};
use dinolab_nn::weights::file_arrays;
use tempfile::TempDir;

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

/// A folder that Hugging Face's library wrote.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dinolab-nn/tests/fixtures/weights/hf_vit")
}

struct Place {
    server: Server,
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let server = Server::new();
        let names = [
            "config.json",
            "preprocessor_config.json",
            "model.safetensors",
        ];
        let contents = names.map(|name| fs::read(folder().join(name)).unwrap());
        let mut files: Vec<_> = names
            .into_iter()
            .zip(contents.iter().map(Vec::as_slice))
            .collect();
        files.push(("README.md", b"---\nlicense: cc-by-4.0\n---\n"));
        server.commit("o/n", FIRST, &files);
        let root = tempfile::tempdir().unwrap();
        pictures(&root.path().join("images"), 6);
        Self { server, root }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn here(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            let named = name.to_string_lossy();
            if named.starts_with("HF_")
                || named.starts_with("HUGGING")
                || named.starts_with("TRANSFORMERS")
            {
                command.env_remove(&name);
            }
        }
        command
            .env("HF_HOME", self.at("home"))
            .env("HF_ENDPOINT", self.server.endpoint());
        command
    }

    /// `VERB … --weights W`.
    fn run(&self, words: &[&str], weights: &str) -> Command {
        let mut command = self.here(program());
        command
            .args(words)
            .arg("--weights")
            .arg(weights)
            .current_dir(self.root.path());
        command
    }

    fn requests(&self) -> usize {
        self.server.seen().len()
    }
}

fn done(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn every_command_takes_weights_of_the_hub() {
    let place = Place::new();
    let local = folder().display().to_string();
    let embed = |out: &str, weights: &str| place.run(&["embed", "images", "--out", out], weights);
    done(embed("local.npy", &local));
    assert_eq!(place.requests(), 0);
    let said = done(embed("hub.npy", "hf:o/n"));
    let told =
        format!("note: hf:o/n: commit {FIRST}, licence cc-by-4.0, downloading model.safetensors");
    assert_eq!(said.matches(&told).count(), 1, "{said}");
    assert!(place.requests() > 0);
    let file = |name: &str| fs::read(place.at(name)).unwrap();
    assert!(file("hub.npy") == file("local.npy"));

    // Offline from now on.
    let said = done(embed("again.npy", "hf:o/n"));
    assert!(
        said.contains(&format!(
            "commit {FIRST}, licence cc-by-4.0, from the cache"
        )),
        "{said}"
    );
    assert!(file("again.npy") == file("local.npy"));
    done(place.run(&["pca", "images", "--out", "pca"], "hf:o/n"));
    done(place.run(
        &["attend", "images/image-000.jpg", "--out", "attend"],
        "hf:o/n",
    ));
    for i in 0..4 {
        picture(&place.at(&format!("classes/{}/{i}.png", i % 2)), 48, i);
    }
    let images = ["--train", "classes", "--val", "classes"];
    let retrieval = [&["eval", "retrieval"], &images[..], &["--json"]].concat();
    let of = |weights| {
        let output = place.run(&retrieval, weights).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(of("hf:o/n"), of(&local));
    let image = fs::read_dir(place.at("images"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let image = image.display().to_string();
    done(place.run(&["neighbours", "images", &image], "hf:o/n"));
    let index = place.at("home/hub/models--o--n/dinolab/index");
    assert_eq!(fs::read_dir(index).unwrap().count(), 1);
    let convert = |weights: &str, out: &str| {
        let mut command = place.here(program());
        command.arg("convert").arg(weights).arg(place.at(out));
        done(command);
    };
    convert("hf:o/n", "hub.safetensors");
    convert(&local, "local.safetensors");
    let arrays = |name: &str| file_arrays(&place.at(name), &file(name)).unwrap();
    assert!(arrays("hub.safetensors") == arrays("local.safetensors"));
    assert_eq!(place.requests(), 0);
    let mut snapshot: Vec<_> =
        fs::read_dir(place.at("home/hub/models--o--n/snapshots").join(FIRST))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
    snapshot.sort();
    assert_eq!(
        snapshot,
        [
            "README.md",
            "config.json",
            "model.safetensors",
            "preprocessor_config.json"
        ]
    );
}

#[test]
fn a_run_records_the_commit_and_is_resumed_with_it() {
    let place = Place::new();
    let train = |out: &str, weights: &str| {
        let train = Train::bare(&place.at(out))
            .with("weights", weights)
            .with("method", "lejepa")
            .with("proj-dim", 8)
            .with("directions", 16)
            .with("global-crops-size", 28)
            .with("local-crops-size", 14)
            .with("local-crops-number", 2)
            .with("head-hidden-dim", 32)
            .with("batch-size", 8)
            .with("shapes-images", 16)
            .with("epochs", 2)
            .with("eval-every", 0)
            .with("num-workers", 2);
        place.here(train.command())
    };
    let part = |out: &str, weights: &str| {
        let mut command = train(out, weights);
        command.arg("--stop-after-epochs=1");
        command
    };
    done(train("whole", "hf:o/n"));
    let recorded = fs::read_to_string(place.at("whole/config.toml")).unwrap();
    let line = format!("weights = \"hf:o/n@{FIRST}\"");
    assert!(recorded.lines().any(|found| found == line), "{recorded}");

    done(part("parts", "hf:o/n"));
    place.requests();
    // The branch leads elsewhere, and another program has noticed.
    place.server.commit("o/n", SECOND, &[]);
    place.server.set_ref("o/n", "other", SECOND);
    fs::write(place.at("home/hub/models--o--n/refs/main"), SECOND).unwrap();
    let error = one_error(&train("parts", "hf:o/n@other").output().unwrap());
    assert!(error.contains("started from other --weights"), "{error}");
    assert!(error.contains(&format!("hf:o/n@{FIRST}")), "{error}");
    // The weights are in the checkpoint.
    fs::remove_dir_all(place.at("home")).unwrap();
    done(train("parts", "hf:o/n"));
    assert!(tensors(&place.at("parts")) == tensors(&place.at("whole")));
    done(train("parts", &format!("hf:o/n@{FIRST}")));
    let error = one_error(&train("parts", "hf:o/other").output().unwrap());
    assert!(error.contains("started from other --weights"), "{error}");
    assert_eq!(place.requests(), 0);
}

#[test]
fn errors_are_one_line_and_have_their_codes() {
    let place = Place::new();
    let embed = |weights: &str| place.run(&["embed", "images", "--out", "x.npy"], weights);
    let refused = |mut command: Command, code: i32| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains(TOKEN));
        one_error(&output)
    };
    let error = refused(embed("hf:n"), 1);
    assert_eq!(
        error,
        "error: hf:n: not hf:OWNER/NAME or hf:OWNER/NAME@REVISION: the owner is missing"
    );
    let error = refused(embed("hf:o/missing"), 1);
    assert!(
        error.contains("no such model at http://127.0.0.1"),
        "{error}"
    );
    place.server.set_access(Access::Gated);
    let error = refused(embed("hf:o/n"), 1);
    assert!(
        error.contains("hf:o/n is gated: accept its conditions at http://127.0.0.1"),
        "{error}"
    );
    let mut command = embed("hf:o/n");
    command.env("HF_HUB_OFFLINE", "1");
    let error = refused(command, 1);
    assert!(error.contains("is not whole in the cache"), "{error}");
    if !cfg!(feature = "https") {
        let mut command = embed("hf:o/n");
        command.env_remove("HF_ENDPOINT");
        let error = refused(command, 1);
        assert!(
            error.contains("this build has no https to download it from https://huggingface.co"),
            "{error}"
        );
        assert!(error.contains("`hf download o/n`"), "{error}");
    }
    let mut command = embed("hf:o/n");
    command.env("HF_TOKEN", TOKEN);
    done(command);
    place.requests();
    // What was downloaded is read without the token.
    done(embed("hf:o/n"));
    assert_eq!(place.requests(), 0);
}
