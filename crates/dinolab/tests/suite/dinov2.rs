//! Runs of DINOv2: the same at any number of threads, resumed exactly, with figures of masked patches, and
//! given nothing that it does not have.

use std::fs;

use crate::common::{
    Train, figures, of_kind, pictures, program, relative, same_however_it_is_run, tensors, text,
};
use dinolab_nn::weights::read;

#[test]
fn threads_and_interruptions_do_not_show() {
    let root = tempfile::tempdir().unwrap();
    let whole = same_however_it_is_run(root.path(), Train::tiny_dinov2);
    for term in ["dino", "ibot", "koleo"] {
        assert_eq!(figures(&whole, "train", term).len(), 12, "{term}");
    }
}

#[test]
fn with_centres_and_a_shared_head_as_well() {
    let root = tempfile::tempdir().unwrap();
    let whole = same_however_it_is_run(root.path(), |run| {
        Train::tiny_dinov2(run)
            .with("centering", "centre")
            .with("ibot-head", "shared")
            .without("ibot-out-dim")
            .with("koleo-weight", 0)
            .with("accumulate", 2)
            .with("batch-size", 4)
            .with("evaluated", "average")
    });
    let names: Vec<String> = tensors(&whole).into_keys().collect();
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    assert!(has("centre") && has("patch_centre") && has("average.backbone.mask_token"));
    assert!(!has("student.ibot_head"));
}

#[test]
fn metrics_are_its_own() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let said = Train::tiny_dinov2(&run).succeed();
    for figure in ["ibot", "koleo", "patch entropy", "masked"] {
        assert!(said.contains(figure), "{said}");
    }
    let epochs = of_kind(&run, "epoch");
    assert_eq!(epochs.len(), 3);
    for line in epochs {
        let number = |name: &str| line[name].as_f64().unwrap();
        assert_eq!(number("patch_out_dim"), 24.0);
        // Of 16 patches, half of the views lose 1 to 8.
        assert!((0.05..0.25).contains(&number("masked_fraction")));
        let (each, all) = (number("patch_entropy"), number("patch_marginal_entropy"));
        assert!(
            0.0 < each && each <= all && all < 24f64.ln() + 1e-6,
            "{each} {all}"
        );
        assert!(number("patch_kl") >= 0.0);
    }
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    for line in [
        "centering = \"sinkhorn\"",
        "koleo-weight = 0.2",
        "ibot-weight = 1.0",
        "ibot-head = \"apart\"",
        "mask-ratio = [0.1, 0.5]",
        "mask-sample-probability = 0.5",
    ] {
        assert!(config.contains(line), "{line}: {config}");
    }
    assert!(!config.contains("use-bn-in-head") && !config.contains("sigreg"));
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("DINOv2") && report.contains("Masked patches"));
}

#[test]
fn its_backbone_is_used_and_its_mask_token_goes_along() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    Train::tiny_dinov2(&run)
        .with("layer-scale", "true")
        .succeed();
    let token = tensors(&run)["teacher.backbone.mask_token"].clone();
    assert!(token.data.iter().any(|&value| value != 0.0));

    let images = root.path().join("images");
    pictures(&images, 4);
    let features = root.path().join("features.npy");
    let mut embed = program();
    embed.arg("embed").arg("--weights").arg(&run).arg(&images);
    let output = embed.arg("--out").arg(&features).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let file = root.path().join("converted.pth");
    let mut convert = program();
    let output = convert
        .arg("convert")
        .arg(&run)
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let weights = read(&file, None).unwrap();
    assert_eq!(weights.arrays["backbone.mask_token"].data, token.data);

    // Nothing moves at a learning rate of 0: what is there is what was given.
    let next = root.path().join("next");
    Train::tiny_dinov2(&next)
        .with("weights", file.display())
        .with("lr", 0)
        .with("min-lr", 0)
        .with("epochs", 1)
        .succeed();
    for who in ["student", "teacher"] {
        let kept = &tensors(&next)[&format!("{who}.backbone.mask_token")];
        assert!(relative(&kept.data, &token.data) < 1e-6, "{who}");
    }
}

#[test]
fn what_it_does_not_have_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    for (flag, value, named) in [
        ("accumulate", "2", "KoLeo"),
        ("feature", "patches", "DINOv2"),
        ("patch-drop-rate", "0.5", "DINOv2"),
        ("use-bn-in-head", "true", "dino"),
        ("ibot-weight", "-1", "below 0"),
        ("mask-ratio", "0.5,0.1", "smaller number first"),
        ("mask-sample-probability", "0", "above 0"),
        ("arch", "resnet18", "patches to mask"),
    ] {
        let run = Train::tiny_dinov2(&root.path().join("run"));
        let run = match flag {
            "arch" => run
                .without("width")
                .without("depth")
                .without("heads")
                .without("patch-size"),
            _ => run,
        };
        let error = run.with(flag, value).fail();
        assert!(error.contains(flag) && error.contains(named), "{error}");
    }
    let shared = Train::tiny_dinov2(&root.path().join("run")).with("ibot-head", "shared");
    let error = shared.fail();
    assert!(
        error.contains("ibot-out-dim") && error.contains("32 prototypes"),
        "{error}"
    );
    let other = Train::tiny(&root.path().join("run")).with("ibot-weight", 0.5);
    assert!(other.fail().contains("belongs to dinov2"));
    assert!(!root.path().join("run/checkpoints").exists());
}
