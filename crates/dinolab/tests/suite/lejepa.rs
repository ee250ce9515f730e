//! Runs of LeJEPA: the same at any number of threads, resumed exactly, used like any other, and given
//! nothing that it does not have.

use std::fs;

use crate::common::{
    Train, figures, of_kind, one_error, pictures, program, same_however_it_is_run, tensors, text,
};

#[test]
fn threads_and_interruptions_do_not_show() {
    let root = tempfile::tempdir().unwrap();
    let whole = same_however_it_is_run(root.path(), Train::tiny_lejepa);
    assert_eq!(figures(&whole, "train", "sigreg").len(), 12);
}

#[test]
fn metrics_are_its_own() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let said = Train::tiny_lejepa(&run).succeed();
    assert!(
        said.contains("embedding std") && !said.contains("teacher"),
        "{said}"
    );
    for line in of_kind(&run, "epoch") {
        assert!(line.contains_key("embedding_rank") && line.contains_key("terms"));
        for absent in [
            "teacher_entropy",
            "kl",
            "active_prototypes",
            "centre_norm",
            "out_dim",
        ] {
            assert!(!line.contains_key(absent), "{absent}");
        }
    }
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(
        config.contains("method = \"lejepa\"") && !config.contains("teacher"),
        "{config}"
    );
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("LeJEPA") && !report.contains("KL(teacher"));
    let names: Vec<String> = tensors(&run).into_keys().collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("average.backbone."))
    );
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("teacher.") || name == "centre")
    );
}

#[test]
fn what_it_does_not_have_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let run = || Train::tiny_lejepa(&root.path().join("run"));
    let error = run().with("accumulate", 2).fail();
    assert!(
        error.contains("--accumulate") && error.contains("LeJEPA"),
        "{error}"
    );
    let error = run().with("teacher-temp", 0.04).fail();
    assert!(
        error.contains("teacher-temp") && error.contains("dino"),
        "{error}"
    );
    let error = run().with("sigreg-weight", 1.5).fail();
    assert!(error.contains("--sigreg-weight"), "{error}");
    // Under its name of before.
    let error = run()
        .without("directions")
        .with("sigreg-directions", 0)
        .fail();
    assert!(error.contains("--directions"), "{error}");
    let dino = Train::tiny(&root.path().join("dino"));
    let error = dino.with("proj-dim", 8).fail();
    assert!(
        error.contains("proj-dim") && error.contains("lejepa"),
        "{error}"
    );
    assert!(!root.path().join("run/checkpoints").exists());
    // Nor does a run change its method because a command does not name it.
    let started = Train::tiny_lejepa(&root.path().join("started"));
    started.with("stop-after-epochs", 1).succeed();
    let other = Train::tiny(&root.path().join("started")).fail();
    assert!(other.contains("method"), "{other}");
}

#[test]
fn the_averaged_backbone_serves_every_command() {
    let root = tempfile::tempdir().unwrap();
    let (run, images) = (root.path().join("run"), root.path().join("images"));
    pictures(&images, 4);
    Train::tiny_lejepa(&run).succeed();
    let embed = |name: &str, role: &[&str]| {
        let out = root.path().join(name);
        let output = program()
            .args(["embed", "--weights"])
            .arg(&run)
            .arg(&images)
            .arg("--out")
            .arg(&out)
            .args(role)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(out).unwrap()
    };
    let evaluated = embed("evaluated.npy", &[]);
    assert!(evaluated == embed("average.npy", &["--checkpoint-key", "average"]));
    assert!(evaluated != embed("network.npy", &["--checkpoint-key", "network"]));
    let attend = program()
        .args(["attend", "--weights"])
        .arg(&run)
        .arg(&images)
        .arg("--out")
        .arg(root.path().join("attention"))
        .output()
        .unwrap();
    assert!(attend.status.success(), "{}", text(&attend.stderr));
    // There is no teacher to export, and the error says which networks there are.
    let teacher = program()
        .args(["embed", "--checkpoint-key", "teacher", "--weights"])
        .arg(&run)
        .arg(&images)
        .arg("--out")
        .arg(root.path().join("teacher.npy"))
        .output()
        .unwrap();
    let error = one_error(&teacher);
    assert!(
        error.contains("average") && error.contains("network"),
        "{error}"
    );
    // Either method starts from the other's weights.
    Train::tiny(&root.path().join("dino"))
        .with("weights", run.display())
        .succeed();
    let from_dino = Train::tiny_lejepa(&root.path().join("back"));
    from_dino
        .with("weights", root.path().join("dino").display())
        .succeed();
}
