//! `eval knn` and `eval attention` as a user calls them.

use crate::common;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{Train, one_error, program};
use dinolab_run::feature_set::FeatureSet;
use serde_json::Value;
use tempfile::TempDir;

fn golden_knn() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dinolab-eval/tests/fixtures/knn")
}

fn succeed(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(command: &mut std::process::Command) -> Value {
    serde_json::from_str(&succeed(command.arg("--json"))).unwrap()
}

fn path(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

#[test]
fn saved_features_score_as_the_reference_does() {
    let folder = TempDir::new().unwrap();
    let bytes = std::fs::read(golden_knn().join("knn.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for set in ["train", "test"] {
        let features = tensors.tensor(&format!("{set}_features")).unwrap();
        let labels = tensors.tensor(&format!("{set}_labels")).unwrap();
        let (floats, _) = features.data().as_chunks::<4>();
        let (numbers, _) = labels.data().as_chunks::<8>();
        FeatureSet {
            dim: features.shape()[1],
            data: floats.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            names: None,
            labels: Some(
                numbers
                    .iter()
                    .map(|b| Some(format!("class {}", i64::from_le_bytes(*b))))
                    .collect(),
            ),
        }
        .write(&path(&folder, &format!("{set}.npy")))
        .unwrap();
    }
    let golden: Value =
        serde_json::from_slice(&std::fs::read(golden_knn().join("knn.json")).unwrap()).unwrap();
    let expected = golden["result"].as_object().unwrap();
    let k: Vec<&str> = expected.keys().map(String::as_str).collect();
    let found = json(program().args(["eval", "knn", "--k", &k.join(",")]).args([
        "--train".as_ref(),
        path(&folder, "train.npy").as_os_str(),
        "--val".as_ref(),
        path(&folder, "test.npy").as_os_str(),
    ]));
    let rows = found["knn"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for row in rows {
        let golden = &expected[&row["k"].to_string()];
        for figure in ["top1", "top5"] {
            let (ours, theirs) = (
                row[figure].as_f64().unwrap(),
                golden[figure].as_f64().unwrap(),
            );
            assert_eq!(format!("{ours:.2}"), format!("{theirs:.2}"), "{row}");
        }
    }

    // Features without labels, and images without weights, are refused by name.
    std::fs::remove_file(path(&folder, "test.labels.txt")).unwrap();
    let refused = |val: &Path| -> Output {
        program()
            .args(["eval", "knn", "--train"])
            .arg(path(&folder, "train.npy"))
            .arg("--val")
            .arg(val)
            .output()
            .unwrap()
    };
    let told = one_error(&refused(&path(&folder, "test.npy")));
    assert!(
        told.contains("--val") && told.contains("test.labels.txt"),
        "{told}"
    );
    let images = path(&folder, "images/cat");
    std::fs::create_dir_all(&images).unwrap();
    common::picture(&images.join("1.png"), 40, 1);
    let told = one_error(&refused(&path(&folder, "images")));
    assert!(told.contains("--weights"), "{told}");
}

#[test]
fn features_embedded_once_score_as_images_do() {
    let folder = TempDir::new().unwrap();
    let run = path(&folder, "run");
    Train::tiny(&run).succeed();
    for (i, class) in ["a", "b", "a", "b", "a", "b"].iter().enumerate() {
        let images = path(&folder, "images").join(class);
        std::fs::create_dir_all(&images).unwrap();
        common::picture(&images.join(format!("{i}.png")), 40, i as u32);
    }
    let images = path(&folder, "images");
    succeed(
        program()
            .args(["embed", "--weights"])
            .arg(&run)
            .arg(&images)
            .arg("--out")
            .arg(path(&folder, "f.safetensors")),
    );
    let saved = FeatureSet::read(&path(&folder, "f.safetensors")).unwrap();
    let classes: Vec<String> = saved.labels.unwrap().into_iter().flatten().collect();
    assert_eq!(classes, ["a", "a", "a", "b", "b", "b"]);
    assert_eq!(saved.names.unwrap()[3], "b/1.png");
    let score = |train: &Path, val: &Path| {
        json(
            program()
                .args(["eval", "knn", "--k", "1,3", "--weights"])
                .arg(&run)
                .arg("--train")
                .arg(train)
                .arg("--val")
                .arg(val),
        )
    };
    let file = path(&folder, "f.safetensors");
    let from_images = score(&images, &images);
    assert_eq!(from_images["train_images"], 6);
    assert_eq!(score(&file, &images), from_images);
    assert_eq!(score(&file, &file), from_images);
}

#[test]
fn attention_is_compared_with_what_knows_nothing() {
    let folder = TempDir::new().unwrap();
    let run = path(&folder, "run");
    Train::tiny(&run).succeed();
    let evaluate = |threshold: &str| {
        json(
            program()
                .args(["eval", "attention", "--shapes-images", "16", "--threshold"])
                .arg(threshold)
                .arg("--weights")
                .arg(&run),
        )
    };
    let found = evaluate("0.6");
    assert_eq!(
        (&found["images"], &found["objects"]),
        (&16.into(), &16.into())
    );
    let figure = |found: &Value, name: &str| found[name].as_f64().unwrap();
    let single = found["single_head"]["jaccard"].as_f64().unwrap();
    // One head for all objects cannot do better than the best of each.
    assert!(single <= figure(&found, "jaccard"));
    assert!(figure(&found, "uniform_map") < figure(&found, "whole_image"));
    let classes = found["classes"].as_array().unwrap();
    let objects: u64 = classes.iter().map(|c| c["objects"].as_u64().unwrap()).sum();
    assert_eq!(objects, 16);
    let weighted: f64 = classes
        .iter()
        .map(|c| c["objects"].as_f64().unwrap() * c["jaccard"].as_f64().unwrap())
        .sum();
    assert!((weighted / 16.0 - figure(&found, "jaccard")).abs() < 1e-9);
    // With all of the attention kept every mask is the whole image.
    let all = evaluate("1");
    for name in ["jaccard", "uniform_map"] {
        assert!((figure(&all, name) - figure(&all, "whole_image")).abs() < 1e-9);
    }
    assert!(
        (all["random_weights"]["jaccard"].as_f64().unwrap() - figure(&all, "whole_image")).abs()
            < 1e-9
    );
}

#[test]
fn objects_of_a_voc_tree_take_the_class_under_them() {
    let folder = TempDir::new().unwrap();
    let run = path(&folder, "run");
    Train::tiny(&run).succeed();
    let tree = path(&folder, "voc");
    for part in [
        "ImageSets/Segmentation",
        "JPEGImages",
        "SegmentationClass",
        "SegmentationObject",
    ] {
        std::fs::create_dir_all(tree.join(part)).unwrap();
    }
    std::fs::write(tree.join("ImageSets/Segmentation/val.txt"), "a\n").unwrap();
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 7, y as u8 * 7, 90]))
        .save(tree.join("JPEGImages/a.jpg"))
        .unwrap();
    // Two objects, left and right, of the classes cat (8) and dog (12), void between them.
    let mask = |left, right| {
        image::GrayImage::from_fn(32, 32, |x, _| {
            image::Luma([if x < 10 {
                left
            } else if x < 22 {
                255
            } else {
                right
            }])
        })
    };
    mask(1, 2)
        .save(tree.join("SegmentationObject/a.png"))
        .unwrap();
    mask(8, 12)
        .save(tree.join("SegmentationClass/a.png"))
        .unwrap();
    let evaluate = |masks: &str| {
        json(
            program()
                .args([
                    "eval",
                    "attention",
                    "--random-baselines",
                    "0",
                    "--masks",
                    masks,
                    "--weights",
                ])
                .arg(&run)
                .arg(&tree),
        )
    };
    let found = evaluate("objects");
    let names: Vec<&str> = found["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["class"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["cat", "dog"]);
    assert_eq!(found["random_weights"]["jaccard"], Value::Null);
    // Each object covers half of what is not void.
    assert!((found["whole_image"].as_f64().unwrap() - 50.0).abs() < 5.0);
    assert_eq!(evaluate("classes")["jaccard"], found["jaccard"]);
}
