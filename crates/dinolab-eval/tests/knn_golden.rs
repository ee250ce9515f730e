//! Accuracies of the reference implementation on fixed features.

use std::path::Path;

use dinolab_eval::knn::{Knn, Labelled, l2_normalise};
use safetensors::SafeTensors;

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap().data().to_vec();
    data.as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

fn labels(tensors: &SafeTensors<'_>, name: &str) -> Vec<usize> {
    let data = tensors.tensor(name).unwrap().data().to_vec();
    data.as_chunks::<8>()
        .0
        .iter()
        .map(|b| usize::try_from(i64::from_le_bytes(*b)).unwrap())
        .collect()
}

#[test]
fn same_accuracy_to_the_digit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/knn");
    let bytes = std::fs::read(folder.join("knn.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let json = std::fs::read(folder.join("knn.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&json).unwrap();

    let dim = tensors.tensor("train_features").unwrap().shape()[1];
    let mut train = floats(&tensors, "train_features");
    let mut test = floats(&tensors, "test_features");
    l2_normalise(&mut train, dim).unwrap();
    l2_normalise(&mut test, dim).unwrap();
    let train_labels = labels(&tensors, "train_labels");
    let test_labels = labels(&tensors, "test_labels");

    let expected = golden["result"].as_object().unwrap();
    let knn = Knn {
        k: expected.keys().map(|k| k.parse().unwrap()).collect(),
        temperature: golden["temperature"].as_f64().unwrap(),
    };
    let scores = knn
        .evaluate(
            Labelled {
                features: &train,
                dim,
                labels: &train_labels,
            },
            Labelled {
                features: &test,
                dim,
                labels: &test_labels,
            },
        )
        .unwrap();
    assert_eq!(scores.len(), 6);
    for score in scores {
        let want = &expected[&score.k.to_string()];
        assert_eq!(score.top1, want["top1"].as_f64().unwrap(), "k {}", score.k);
        assert_eq!(score.top5, want["top5"].as_f64().unwrap(), "k {}", score.k);
    }
}
