//! `dinolab convert` to ONNX.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{one_error, program, text};
use serde_json::Value;

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vit_custom/checkpoint.pth")
}

fn convert(out: &Path, flags: &[&str]) -> Output {
    let mut command = program();
    command
        .arg("convert")
        .arg(checkpoint())
        .arg(out)
        .args(flags);
    command.output().unwrap()
}

#[test]
fn the_program_writes_onnx() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("vit.onnx");
    let flags = ["--attention", "--patch-features", "--head", "--json"];
    let output = convert(&out, &flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["bytes"], fs::metadata(&out).unwrap().len());
    let checks = report["checks"].as_array().unwrap();
    for what in ["features", "patch_features", "attention", "logits"] {
        let of_one: Vec<_> = checks
            .iter()
            .filter(|check| check["what"] == what)
            .collect();
        let sizes = of_one
            .iter()
            .map(|c| [&c["images"], &c["height"], &c["width"]]);
        let expected = [[1, 224, 224], [1, 271, 271], [3, 120, 133]];
        let sizes: Vec<_> = sizes
            .map(|size| size.map(|n| n.as_u64().unwrap()))
            .collect();
        assert_eq!(sizes, expected, "{what}");
        for check in of_one {
            assert!(check["relative_error"].as_f64().unwrap() < 1e-5, "{check}");
        }
    }
    // The file says how images are prepared.
    let bytes = fs::read(&out).unwrap();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(holds(b"\x0a\x04crop\x12\x03224"));
    assert!(holds(b"\x0a\x04mean\x12\x13[0.485,0.456,0.406]"));

    let output = convert(&out, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("features") && table.contains("224 × 224"),
        "{table}"
    );
    assert!(!table.contains("attention"), "{table}");
    // Fewer outputs, and no parameters of a head.
    assert!(fs::metadata(&out).unwrap().len() < bytes.len() as u64);
}

#[test]
fn flags_that_do_not_go_together_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |out: &str, flags: &[&str]| {
        let out = folder.path().join(out);
        let error = one_error(&convert(&out, flags));
        assert!(!out.exists(), "{error}");
        error
    };
    assert!(refused("vit.onnx", &["--to", "timm"]).contains("--to"));
    assert!(refused("vit.onnx", &["--full"]).contains("--full"));
    assert!(refused("vit.onnx", &["--image-size", "96"]).contains("--image-size"));
    assert!(refused("vit.safetensors", &["--attention"]).contains("--attention"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(refused("file/vit.onnx", &[]).contains("file is a file"));
}
