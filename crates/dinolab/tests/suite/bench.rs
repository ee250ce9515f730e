//! `bench crops` on a small folder, and `bench embed` of networks.

use crate::common::{one_error, pictures, program, usage_error};

#[test]
fn crops_are_timed_by_stage() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 5);
    std::fs::write(folder.path().join("broken.jpg"), b"\xff\xd8\xff broken").unwrap();
    let bench = |seconds: &str| {
        program()
            .args(["bench", "crops", "--json", "--threads", "2"])
            .args(["--seconds", seconds, "--batch-size", "4"])
            .arg(folder.path())
            .output()
            .unwrap()
    };
    let output = bench("0.2");
    assert!(output.status.success());
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for rate in ["images_per_s", "images_per_s_one_thread"] {
        assert!(found[rate].as_f64().unwrap() > 0.0, "{found}");
    }
    assert_eq!(
        (&found["threads"], &found["skipped"]),
        (&2.into(), &1.into())
    );
    let stages = found["stages"].as_array().unwrap();
    assert_eq!(stages[0]["stage"], "read and decode");
    let shares: Vec<f64> = stages
        .iter()
        .map(|s| s["share"].as_f64().unwrap())
        .collect();
    assert!(
        (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9,
        "{shares:?}"
    );
    assert!(
        shares.iter().filter(|&&share| share > 0.0).count() >= 7,
        "{shares:?}"
    );

    assert!(one_error(&bench("0")).contains("--seconds"));
}

#[test]
fn narrow_networks_are_timed_and_other_widths_refused() {
    let bench = |flags: &[&str]| {
        let sizes = ["--crop", "32", "--batch-size", "1", "--steps", "1"];
        let mut command = program();
        command.args(["bench", "embed"]).args(sizes).args(flags);
        command.output().unwrap()
    };
    let narrow = bench(&["--arch", "resnet18", "--width", "64"]);
    let said = String::from_utf8(narrow.stdout).unwrap();
    assert!(said.starts_with("resnet18 of width 64, "), "{said}");
    let error = one_error(&bench(&["--arch", "resnet18", "--width", "65"]));
    assert!(
        error.contains("--width 65") && error.contains("multiple of 8"),
        "{error}"
    );
    let error = one_error(&bench(&["--width", "64"]));
    assert!(
        error.contains("--width 64") && error.contains("leave it out"),
        "{error}"
    );
}

#[test]
fn steps_are_timed_by_optimiser() {
    let bench = |flags: &[&str]| {
        let mut command = program();
        command
            .args(["bench", "step", "--method", "lejepa", "--arch", "vit_tiny"])
            .args(["--global-crops-size", "32", "--local-crops-number", "0"])
            .args(["--batch-size", "2", "--steps", "1", "--warmup", "0"]);
        command.args(flags).output().unwrap()
    };
    for (flags, name) in [(&[][..], "AdamW"), (&["--optimizer", "muon"], "Muon")] {
        let said = String::from_utf8(bench(flags).stdout).unwrap();
        assert!(said.contains(&format!(", {name}, ")), "{said}");
    }
    let error = usage_error(&bench(&["--optimizer", "adam"]));
    assert!(error.contains("one of adamw, sgd, lars, muon"), "{error}");
}
