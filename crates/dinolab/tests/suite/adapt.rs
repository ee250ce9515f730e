//! Runs that adapt weights that there are.

use std::fs;
use std::path::Path;

use crate::common::{
    Train, figures, newest, of_kind, picture, program, relative, same_however_it_is_run, tensors,
    text,
};
use serde_json::Value;

/// Labelled pictures, some to train on and some to evaluate.
fn labelled(root: &Path) {
    for (part, count) in [("train", 16), ("val", 6)] {
        for i in 0..count {
            let class = ["a", "b"][i as usize % 2];
            let name = format!("{part}/{class}/{i}.png");
            picture(&root.join(name), 40, 3 * i + (part.len() as u32));
        }
    }
}

#[test]
fn an_adapted_run_is_the_same_however_it_is_run() {
    let root = tempfile::tempdir().unwrap();
    let first = root.path().join("first");
    Train::tiny_lejepa(&first).succeed();
    type With = fn(Train) -> Train;
    let kinds: [(&str, With); 4] = [
        ("lejepa", |train| train),
        ("visreg", |train| train.with("method", "visreg")),
        ("dino", |train| {
            let train = train.with("method", "dino").without("proj-dim");
            train.without("directions").with("out-dim", 32)
        }),
        ("simdino", |train| {
            let train = train.with("method", "simdino").without("proj-dim");
            train.without("directions")
        }),
    ];
    for (name, with) in kinds {
        let whole = same_however_it_is_run(&root.path().join(name), |out| {
            let train = Train::tiny_lejepa(out).with("weights", first.display());
            with(train)
                .with("layer-decay", 0.8)
                .with("patch-embed-lr-scale", 0.2)
                .with("freeze-backbone-epochs", 0.75)
                .with("preserve", 0.5)
                .with("lora-rank", 2)
        });
        let drift = figures(&whole, "train", "drift");
        // Three steps leave the backbone as it is; then branches are dropped.
        assert!(
            drift[..3].iter().all(|drift| drift.abs() < 1e-6),
            "{drift:?}"
        );
        assert!(drift[11] > 1e-6, "{drift:?}");
    }
}

#[test]
fn the_first_figure_is_that_of_the_weights_and_the_report_shows_both() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    labelled(root.path());
    let train = |out: &Path| {
        Train::tiny_lejepa(out)
            .on(&path("train"))
            .with("val", path("val").display())
            .with("feature", "patches")
            .without("shapes-images")
            .with("eval-every", 1)
            .with("knn-k", 3)
    };
    train(&path("first")).with("eval-resize", 36).succeed();
    let knn = |weights: &Path| {
        let output = program()
            .args(["eval", "knn", "--json", "--k", "3", "--weights"])
            .arg(weights)
            .arg("--train")
            .arg(path("train"))
            .arg("--val")
            .arg(path("val"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        found["knn"][0]["top1"].as_f64().unwrap()
    };
    for method in ["lejepa", "dino", "simdino"] {
        let out = path(method);
        let adapted = train(&out)
            .without("feature")
            .with("weights", path("first").display())
            .with("method", method)
            .with("lr", 0.01)
            .with("epochs", 2);
        let adapted = match method {
            "lejepa" => adapted,
            _ => adapted.without("proj-dim").without("directions"),
        };
        let said = adapted.succeed();
        let (of_method, recorded) = match method {
            "lejepa" => ("--preserve 1, so that", "preserve = 1.0"),
            _ => ("--layer-decay 0.8, since", "layer-decay = 0.8"),
        };
        assert!(said.contains(of_method), "{said}");
        assert!(
            said.contains("--freeze-backbone-epochs 0.2, so that"),
            "{said}"
        );
        assert!(!said.contains("--lr 0.01,"), "{said}");
        assert!(
            said.contains("as given") && said.contains("adapted"),
            "{said}"
        );
        let found = figures(&out, "evaluation", "knn");
        let start = knn(&path("first"));
        assert_eq!((found[0], found.len()), (start, 3), "{method}");
        assert_eq!(found[2], knn(&out), "{method}");
        let report = fs::read_to_string(out.join("report.html")).unwrap();
        let both = format!("{start:.1}% as given, {:.1}% adapted", found[2]);
        assert!(report.contains(&both), "{method}: no {both}");
        let config = fs::read_to_string(out.join("config.toml")).unwrap();
        for line in ["feature = \"patches\"", "eval-resize = 36", recorded] {
            assert!(config.contains(line), "{line} in {config}");
        }
    }
    let again = |run: &str, optimizer: &str| {
        let adapted = train(&path(run)).without("feature");
        let adapted = adapted.with("weights", path("first").display());
        let adapted = match optimizer {
            "" => adapted,
            name => adapted.with("optimizer", name),
        };
        adapted.with("epochs", 1).succeed()
    };
    // By AdamW the rate is a quarter of the usual one if none is given, by Muon the usual one.
    let said = again("rate", "adamw");
    assert!(said.contains("--lr 0.001, a quarter"), "{said}");
    let said = again("usual", "");
    assert!(!said.contains("--lr"), "{said}");
    let config = fs::read_to_string(path("usual").join("config.toml")).unwrap();
    for line in ["optimizer = \"muon\"", "lr = 0.012", "layer-decay = 1.0"] {
        assert!(config.contains(line), "{line} in {config}");
    }
    // The same command resumes it, also without the weights.
    fs::rename(path("first"), path("moved")).unwrap();
    for (run, optimizer) in [("rate", "adamw"), ("usual", "")] {
        let before = tensors(&path(run));
        let said = again(run, optimizer);
        assert!(said.contains("resuming"), "{said}");
        assert!(tensors(&path(run)) == before);
    }
}

#[test]
fn an_adapted_run_leaves_weights_of_a_plain_network() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    labelled(root.path());
    Train::tiny_lejepa(&path("first")).succeed();
    let said = Train::tiny_lejepa(&path("adapted"))
        .with("weights", path("first").display())
        .with("freeze-backbone-epochs", 0)
        .with("lora-rank", 2)
        .with("lora-alpha", 4)
        .with("lr", 0.05)
        .succeed();
    assert!(said.contains("and the head learn"), "{said}");
    for role in ["average", "network"] {
        let out = path(&format!("{role}.safetensors"));
        let converted = program()
            .args(["convert", "--checkpoint-key", role])
            .args([newest(&path("adapted")), out.clone()])
            .output()
            .unwrap();
        assert!(converted.status.success(), "{}", text(&converted.stderr));
        let bytes = fs::read(&out).unwrap();
        let (arrays, _) = dinolab_nn::weights::file_arrays(&out, &bytes).unwrap();
        assert!(
            arrays.keys().all(|name| !name.contains("lora")),
            "{arrays:?}"
        );
        let own = tensors(&path("adapted"));
        let (weight, prefix) = ("backbone.blocks.1.mlp.fc1.weight", format!("{role}."));
        let found = arrays
            .iter()
            .find(|(name, _)| name.ends_with("blocks.1.mlp.fc1.weight"));
        assert_eq!(
            found.unwrap().1.data,
            own[&format!("{prefix}{weight}")].data
        );
        let embed = |weights: &Path, more: &[&str], to: &str| {
            let output = program()
                .arg("embed")
                .arg(path("val"))
                .arg("--weights")
                .arg(weights)
                .args(more)
                .arg("--out")
                .arg(path(to))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            fs::read(path(to)).unwrap()
        };
        let from_file = embed(&out, &[], "file.npy");
        let key = ["--checkpoint-key", role];
        assert_eq!(
            from_file,
            embed(&path("adapted"), &key, "run.npy"),
            "{role}"
        );
        assert_ne!(from_file, embed(&path("first"), &[], "first.npy"), "{role}");
    }
    assert!(of_kind(&path("adapted"), "train").len() == 12);
}

#[test]
fn what_adapts_no_weights_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    for (flag, value) in [("preserve", "0.5"), ("lora-rank", "2")] {
        let error = Train::tiny_lejepa(&run).with(flag, value).fail();
        let named = error.contains(&format!("--{flag}")) && error.contains("--weights");
        assert!(named, "{error}");
        assert!(!run.exists());
    }
    let first = root.path().join("first");
    Train::tiny_lejepa(&first).succeed();
    let adapted = Train::tiny_lejepa(&run).with("weights", first.display());
    let error = adapted.clone().with("lora-rank", 33).fail();
    assert!(
        error.contains("--lora-rank") && error.contains("32"),
        "{error}"
    );
    for (flag, value) in [
        ("layer-decay", "0"),
        ("layer-decay", "1.5"),
        ("patch-embed-lr-scale", "-1"),
        ("freeze-backbone-epochs", "-1"),
        ("lora-alpha", "0"),
        ("preserve", "-1"),
    ] {
        let error = adapted.clone().with(flag, value).fail();
        assert!(error.contains(&format!("--{flag}")), "{error}");
    }
}

/// A head of DINO comes along in its own sizes; one of other sizes is begun anew, and warms up.
#[test]
fn a_head_that_fits_is_taken_over() {
    let root = tempfile::tempdir().unwrap();
    let first = root.path().join("first");
    Train::tiny(&first).with("out-dim", 48).succeed();
    let given = tensors(&first);
    let sizes = ["out-dim", "head-hidden-dim", "head-bottleneck-dim"];
    for (out_dim, taken) in [(None, true), (Some(24), false)] {
        let run = root.path().join(format!("{taken}"));
        let still = sizes
            .iter()
            .fold(Train::tiny(&run), |train, size| train.without(size));
        let still = still
            .with("weights", first.display())
            .with("lr", 0)
            .with("min-lr", 0)
            .with("epochs", 1);
        let still = match out_dim {
            Some(out_dim) => still.with("out-dim", out_dim),
            None => still,
        };
        let said = still.succeed();
        assert_eq!(said.contains("random head"), !taken, "{said}");
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        let expected = format!("out-dim = {}\n", out_dim.unwrap_or(48));
        assert!(config.contains(&expected), "{config}");
        let found = tensors(&run);
        let kept = |name: &str| relative(&found[name].data, &given[name].data) < 1e-6;
        assert!(kept("teacher.backbone.norm.weight"));
        let head = "teacher.head.last_layer.weight_v";
        assert!(found[head].data.len() != given[head].data.len() || kept(head));
        assert_eq!(found[head].data.len() == given[head].data.len(), taken);
        // The same command goes on.
        still.succeed();
    }
}
