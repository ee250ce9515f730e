//! A run's figures, whatever happens to its files.

mod common;

use std::fs;
use std::io::Write;
use std::time::Duration;

use common::{Runs, get, local, metrics, page};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// Steps and values of a chart's first line, and the sentence on what is good.
fn line(run: &Value, title: &str) -> Option<(Vec<(f64, f64)>, String)> {
    let charts = run["charts"].as_array().unwrap();
    let chart = charts.iter().find(|chart| chart["title"] == title)?;
    let points = chart["lines"][0][1].as_array().unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let points = points.iter().map(|p| (number(&p[0]), number(&p[1])));
    Some((points.collect(), chart["note"].as_str().unwrap().to_owned()))
}

fn steps(run: &Value) -> Vec<u64> {
    let found = line(run, "Loss").map(|(points, _)| points);
    let steps = found.unwrap_or_default().into_iter();
    steps.map(|(step, _)| step as u64).collect()
}

#[tokio::test]
async fn steps_with_small_crops_are_less_of_the_time_left() {
    let runs = Runs::new();
    let root = runs.add("a", 0.1, 3);
    let small = "low-resolution-epochs = 2\npatch-size = 16\npatch-drop-rate = 0.5\n\
                 global-crops-size = 96\nlocal-crops-size = 48\nlocal-crops-number = 4\n";
    let config = fs::read_to_string(root.join("config.toml")).unwrap();
    fs::write(root.join("config.toml"), config + small).unwrap();
    fs::write(root.join("lock"), "1").unwrap();
    let page = page(std::slice::from_ref(&root));
    let left = async || get(&page, "/api/runs").await.json()[0]["seconds_left"].as_f64();
    // Views of 48 and 32 px have 31 tokens, of 96 and 48 px 78.
    let cost = 31.0 / 78.0;
    let expected = (5.0 * cost + 8.0) / cost * 10.0 / 5.0;
    let found = left().await.unwrap();
    assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    fs::write(root.join("metrics.jsonl"), metrics(1..=9)).unwrap();
    assert_eq!(left().await, Some(7.0 * 10.0 / 5.0));
}

#[tokio::test]
async fn curves_are_those_of_the_file_while_it_grows_shrinks_and_goes() {
    let runs = Runs::new();
    let root = runs.add("a", 0.1, 3);
    let file = root.join("metrics.jsonl");
    let page = page(std::slice::from_ref(&root));
    let run = async || get(&page, "/api/runs").await.json()[0].clone();
    let first = run().await;
    let (points, note) = line(&first, "Loss").unwrap();
    assert_eq!(points, [(1.0, 99.0), (2.0, 98.0), (3.0, 97.0)]);
    assert!(note.contains("should fall"), "{note}");
    assert_eq!(first["steps"], 16, "4 epochs of 40 / 10 steps");
    assert_eq!(first["speed"], 5.0);
    assert_eq!(first["waiting"], 0.25);
    assert_eq!(first["activity"], "stopped");
    assert_eq!(first["seconds_left"], Value::Null);
    for chart in first["charts"].as_array().unwrap() {
        assert!(chart["note"].as_str().unwrap().ends_with('.'), "{chart}");
    }

    fs::write(root.join("lock"), "1").unwrap();
    let training = run().await;
    assert_eq!(training["activity"], "training");
    assert_eq!(training["seconds_left"], 13.0 * 10.0 / 5.0);

    let mut open = fs::OpenOptions::new().append(true).open(&file).unwrap();
    write!(open, "{}{{\"kind\":\"tra", metrics(4..=5)).unwrap();
    assert_eq!(steps(&run().await), [1, 2, 3, 4, 5]);
    fs::write(&file, metrics(1..=2)).unwrap();
    assert_eq!(steps(&run().await), [1, 2], "resumed from an earlier step");
    fs::write(&file, metrics(7..=20)).unwrap();
    let rewritten = run().await;
    assert_eq!(steps(&rewritten), (7..=20).collect::<Vec<_>>());
    assert_eq!(rewritten["activity"], "finished");
    fs::remove_file(&file).unwrap();
    assert!(steps(&run().await).is_empty());
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(run().await["activity"], "gone");
    assert_eq!(
        get(&page, "/api/settings").await.json()["rows"],
        Value::Array(vec![])
    );
}

#[tokio::test]
async fn warnings_are_listed_once_with_their_epochs() {
    let runs = Runs::new();
    let root = runs.add("a", 0.1, 3);
    let epoch = |epoch: u64, texts: &str| {
        format!(
            "{{\"kind\":\"epoch\",\"step\":{epoch},\"epoch\":{epoch},\"warnings\":[{texts}]}}\n"
        )
    };
    let text = [
        epoch(0, ""),
        epoch(1, "\"Loss rises. What may help: lower it.\""),
        epoch(2, "\"Loss rises. What may help: lower it.\", \"Other.\""),
    ];
    fs::write(root.join("metrics.jsonl"), text.concat()).unwrap();
    let run = get(&page(&[root]), "/api/runs").await.json();
    let expected = [
        "Epochs 2–3: Loss rises. What may help: lower it.",
        "Epoch 3: Other.",
    ];
    assert_eq!(run[0]["warnings"], serde_json::json!(expected));
}

#[tokio::test]
async fn changes_are_sent_as_they_happen() {
    let runs = Runs::new();
    let (a, b) = (runs.add("a", 0.1, 3), runs.add("b", 0.2, 5));
    let page = page(&[a.clone(), b]);
    let response = page.oneshot(local("GET", "/api/events")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || loop {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame());
        let frame = frame.await.expect("an event in time").unwrap().unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
            return serde_json::from_str::<Value>(data).unwrap();
        }
    };
    assert_eq!(steps(&next().await).len(), 3);
    assert_eq!(steps(&next().await).len(), 5);
    fs::write(a.join("metrics.jsonl"), metrics(1..=4)).unwrap();
    let changed = next().await;
    assert_eq!(
        (changed["run"].as_u64(), steps(&changed).len()),
        (Some(0), 4)
    );
}

#[tokio::test]
async fn of_several_runs_settings_that_differ_are_shown() {
    let runs = Runs::new();
    let page = page(&[runs.add("a", 0.1, 1), runs.add("b", 0.2, 1)]);
    let table = get(&page, "/api/settings").await.json();
    assert_eq!(table["rows"], serde_json::json!([["lr", ["0.1", "0.2"]]]));
    assert_eq!(table["runs"], serde_json::json!(["a", "b"]));
}
