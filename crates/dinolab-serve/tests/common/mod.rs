//! A made-up run folder, and requests to its page.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use dinolab_nn::init::Init;
use dinolab_nn::weights::arrays;
use dinolab_nn::{AnyBackbone, BackboneConfig, VitConfig, device};
use dinolab_serve::{ViewRequest, router};
use dinolab_train::checkpoint::save_weights;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// A folder of runs.
pub struct Runs {
    folder: tempfile::TempDir,
}

impl Runs {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run on 40 of the built-in shapes with `steps` logged steps.
    pub fn add(&self, name: &str, lr: f64, steps: u64) -> PathBuf {
        let root = self.path(name);
        fs::create_dir(&root).unwrap();
        let config = format!(
            "method = \"lejepa\"\nlr = {lr}\nepochs = 4.0\nbatch-size = 10\naccumulate = 1\n\
             images = \"\"\nshapes-images = 40\nshapes-size = 32\nattention-images = 3\n"
        );
        fs::write(root.join("config.toml"), config).unwrap();
        fs::write(root.join("metrics.jsonl"), metrics(1..=steps)).unwrap();
        let timing =
            "{\"kind\":\"timing\",\"step\":1,\"images_per_second\":5.0,\"waited_for_data\":0.25}\n";
        fs::write(root.join("timing.jsonl"), timing).unwrap();
        root
    }
}

/// Lines of metrics whose loss is 100 less the step.
pub fn metrics(steps: impl Iterator<Item = u64>) -> String {
    steps
        .map(|step| {
            let loss = 100 - step;
            format!("{{\"kind\":\"train\",\"step\":{step},\"loss\":{loss}.0,\"lr\":0.1}}\n")
        })
        .collect()
}

/// Adds a checkpoint of a small network after `step` steps.
pub fn add_checkpoint(root: &Path) -> String {
    let config = VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 16,
        depth: 1,
        heads: 2,
        ..VitConfig::default()
    };
    add_checkpoint_of(root, &config.into())
}

/// Adds a checkpoint of a new network.
pub fn add_checkpoint_of(root: &Path, config: &BackboneConfig) -> String {
    let cpu = device::by_name("cpu").unwrap();
    let backbone = AnyBackbone::new(config, &mut Init::new(0), &cpu).unwrap();
    let arrays = arrays(&backbone, "teacher.backbone");
    let preprocess = r#"{"resize":32,"crop":32,"mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]}"#;
    let metadata = BTreeMap::from([
        config.metadata_entry(),
        ("preprocess".to_owned(), preprocess.to_owned()),
    ]);
    let file = save_weights(&root.join("checkpoints"), &arrays, &metadata).unwrap();
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The page of some runs.
pub fn page(runs: &[PathBuf]) -> Router {
    let request = ViewRequest {
        runs,
        ..ViewRequest::default()
    };
    router(&request, None).unwrap()
}

/// An answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The answer to a request.
pub async fn send(page: &Router, request: Request<Body>) -> Answer {
    let response = page.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

/// A request of this machine.
pub fn local(method: &str, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", "127.0.0.1:8642");
    request.body(Body::empty()).unwrap()
}

pub async fn get(page: &Router, path: &str) -> Answer {
    send(page, local("GET", path)).await
}

/// Makes the map of run 0 and waits for it.
pub async fn map(page: &Router) -> Value {
    send(page, local("POST", "/api/runs/0/map")).await.json();
    let began = Instant::now();
    loop {
        let progress = get(page, "/api/runs/0/map").await.json();
        if progress["state"] != "working" {
            return progress;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{progress}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
