//! Images by their features, and what networks see in them.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::StatusCode;
use common::{Runs, add_checkpoint, add_checkpoint_of, get, local, map, page, send};
use dinolab_nn::BackboneConfig;
use dinolab_run::feature_set::FeatureSet;
use dinolab_serve::{ViewRequest, router};
use serde_json::Value;

fn rows(images: &Value) -> Vec<u64> {
    let images = images.as_array().unwrap().iter();
    images.map(|image| image["row"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_map_of_100_000_rows_is_answered_quickly_and_small() {
    let (count, dim) = (100_000, 32);
    // Ten directions with some noise, one for each class.
    let value = |i: usize| ((i * 7919 % 10_007) as f32 / 10_007.0 - 0.5) * 0.2;
    let data = (0..count).flat_map(|row| {
        (0..dim).map(move |d| value(row * dim + d) + f32::from(u8::from(row % 10 == d)))
    });
    let set = FeatureSet {
        dim,
        data: data.collect(),
        names: Some((0..count).map(|row| format!("{row}.jpg")).collect()),
        labels: Some(
            (0..count)
                .map(|row| Some(format!("class {}", row % 10)))
                .collect(),
        ),
    };
    let runs = Runs::new();
    let file = runs.path("features.npy");
    set.write(&file).unwrap();
    let roots = [runs.add("a", 0.1, 1)];
    let request = ViewRequest {
        runs: &roots,
        features: Some(&file),
        ..ViewRequest::default()
    };
    let page = router(&request, None).unwrap();
    let facts = map(&page).await;
    assert_eq!(facts["state"], "ready", "{facts}");
    assert_eq!(facts["rows"], count);
    assert_eq!(facts["classes"].as_array().unwrap().len(), 10);

    let explained = facts["explained"].as_f64().unwrap();
    assert!((0.05..0.5).contains(&explained), "{explained}");

    let began = Instant::now();
    let points = get(&page, "/api/runs/0/map/points").await;
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(points.body.len(), count * 6);
    let value = |i: usize| u16::from_le_bytes([points.body[2 * i], points.body[2 * i + 1]]);
    let axis = |first: usize| (first..first + count).map(value);
    let range = |first| (axis(first).min().unwrap(), axis(first).max().unwrap());
    let widest = [range(0), range(count)].map(|(low, high)| high - low);
    assert_eq!(widest.iter().max(), Some(&u16::MAX));
    assert!((0..count).all(|row| usize::from(value(2 * count + row)) == row % 10));

    let began = Instant::now();
    let image = get(&page, "/api/runs/0/map/images/4").await.json();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(image["image"]["class"], "class 4");
    let near = rows(&image["neighbours"]);
    assert_eq!(near.len(), 18);
    assert!(
        near.iter().all(|row| row % 10 == 4 && *row != 4),
        "{near:?}"
    );

    let clusters = get(&page, "/api/runs/0/map/clusters?k=10").await.json();
    let sizes = clusters.as_array().unwrap().iter();
    assert_eq!(
        sizes.map(|c| c["size"].as_u64().unwrap()).sum::<u64>(),
        count as u64
    );
    let assigned = get(&page, "/api/runs/0/map/assignments?k=10").await;
    assert_eq!(assigned.body.len(), 2 * count);
    let missing = get(&page, "/api/runs/0/map/images/100000").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn twins_and_strangers_of_saved_features_are_found() {
    let mut data: Vec<f32> = (0..40).flat_map(|i| [1.0, 0.01 * i as f32, 0.0]).collect();
    data.extend([1.0, 0.2, 0.0001]);
    data.extend([0.0, 0.0, 1.0]);
    let set = FeatureSet {
        dim: 3,
        data,
        names: None,
        labels: None,
    };
    let runs = Runs::new();
    let file = runs.path("features.safetensors");
    set.write(&file).unwrap();
    let roots = [runs.add("a", 0.1, 1)];
    let request = ViewRequest {
        runs: &roots,
        features: Some(&file),
        ..ViewRequest::default()
    };
    let page = router(&request, None).unwrap();
    map(&page).await;
    let found = get(&page, "/api/runs/0/map/unusual?threshold=0.99999")
        .await
        .json();
    assert_eq!(rows(&found["duplicates"][0]), [20, 40]);
    assert_eq!(rows(&found["outliers"])[0], 41);
    let bad = get(&page, "/api/runs/0/map/unusual?threshold=7").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn images_go_through_the_newest_checkpoint() {
    let runs = Runs::new();
    let root = runs.add("a", 0.1, 1);
    let page = page(std::slice::from_ref(&root));
    let failed = map(&page).await;
    assert_eq!(failed["state"], "failed");
    assert!(
        failed["reason"]
            .as_str()
            .unwrap()
            .contains("no checkpoint yet")
    );

    let name = add_checkpoint(&root);
    let networks = get(&page, "/api/runs/0/networks").await.json();
    assert_eq!(networks["checkpoints"][0]["name"], name.as_str());
    assert_eq!(networks["images"].as_array().unwrap().len(), 3);
    assert_eq!(networks["steps_per_epoch"], 4);
    let path = format!("/api/runs/0/attention?checkpoint={name}&image=1");
    check_seen(&get(&page, &path).await.json());

    let facts = map(&page).await;
    assert_eq!(
        (&facts["state"], &facts["rows"]),
        (&"ready".into(), &40.into()),
        "{facts}"
    );
    assert_eq!(facts["outdated"], false);
    let picture = get(&page, "/api/runs/0/map/images/7/picture?side=16").await;
    assert!(picture.body.starts_with(b"\x89PNG"));
    check_seen(
        &get(&page, "/api/runs/0/map/images/7/attention")
            .await
            .json(),
    );

    // The picture of an image as a photograph: the image itself is nearest.
    let whole = get(&page, "/api/runs/0/map/images/7/picture?side=32").await;
    let mut request = local("POST", "/api/runs/0/map/query");
    *request.body_mut() = Body::from(whole.body);
    let found = send(&page, request).await.json();
    assert_eq!(rows(&found["neighbours"])[0], 7);
    assert!(found["neighbours"][0]["similarity"].as_f64().unwrap() > 0.9999);
    check_seen(&found["attention"]);
    let points = get(&page, "/api/runs/0/map/points").await.body;
    let at = |i: usize| u16::from_le_bytes([points[2 * i], points[2 * i + 1]]);
    assert_eq!(found["place"], serde_json::json!([at(7), at(47)]));

    let mut request = local("POST", "/api/runs/0/map/query");
    *request.body_mut() = Body::from("no photograph");
    assert_eq!(send(&page, request).await.status, StatusCode::BAD_REQUEST);
    fs::remove_dir_all(root.join("checkpoints")).unwrap();
    assert_eq!(get(&page, &path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_network_without_attention_shows_its_activation() {
    let runs = Runs::new();
    let root = runs.add("a", 0.1, 1);
    let resnet = BackboneConfig::convolutional("resnet18", 3).unwrap();
    let name = add_checkpoint_of(&root, &resnet.of_width(64).unwrap());
    let page = page(std::slice::from_ref(&root));
    let path = format!("/api/runs/0/attention?checkpoint={name}&image=1");
    let seen = get(&page, &path).await.json();
    assert_eq!(seen["maps"], "activation");
    let heads = seen["heads"].as_array().unwrap();
    assert_eq!(
        (heads.len(), &seen["grid"]),
        (1, &serde_json::json!([15, 15]))
    );

    map(&page).await;
    let picture = get(&page, "/api/runs/0/map/images/7/picture?side=32").await;
    let mut request = local("POST", "/api/runs/0/map/query");
    *request.body_mut() = Body::from(picture.body);
    let found = send(&page, request).await.json();
    assert_eq!(rows(&found["neighbours"])[0], 7);
    assert_eq!(found["attention"]["maps"], "activation");

    // Pictures that the run drew of it are listed as well.
    fs::create_dir(root.join("pictures")).unwrap();
    for name in [
        "activation-epoch-0002.png",
        "activation-epoch-x.png",
        "other-epoch-0001.png",
    ] {
        fs::write(root.join("pictures").join(name), "picture").unwrap();
    }
    let pictures = get(&page, "/api/runs/0/pictures").await.json();
    let expected = serde_json::json!([{ "epochs": 2, "name": "activation-epoch-0002.png" }]);
    assert_eq!(pictures, expected);
}

/// Maps of 2 heads that each sum to at most 1, and colours, of 4 × 4 patches.
fn check_seen(seen: &Value) {
    assert_eq!(seen["maps"], "attention");
    assert_eq!(seen["heads"].as_array().unwrap().len(), 2);
    let grid = &seen["grid"];
    let patches = grid[0].as_u64().unwrap() * grid[1].as_u64().unwrap();
    for head in seen["heads"].as_array().unwrap() {
        let values: Vec<f64> = head
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect();
        assert_eq!(values.len() as u64, patches);
        let sum: f64 = values.iter().sum();
        assert!(sum > 0.5 && sum <= 1.001, "{sum}");
    }
    assert_eq!(
        seen["colours"].as_array().unwrap().len() as u64,
        3 * patches
    );
    assert!(
        seen["image"]
            .as_str()
            .unwrap()
            .starts_with("data:image/png;base64,")
    );
}
