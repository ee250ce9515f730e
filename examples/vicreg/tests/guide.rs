//! The example trains, resumes, and is what the guide shows.

use std::path::Path;
use std::process::Command;

use dinolab_nn::weights::read_arrays;

fn train(folder: &Path, steps: u32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_vicreg"))
        .arg(folder)
        .arg(steps.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn loss(text: &str, step: u32) -> f64 {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("step {step:>4}")));
    let line = line.unwrap_or_else(|| panic!("no step {step}: {text}"));
    let word = line
        .split("loss ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    word.parse().unwrap()
}

#[test]
fn it_learns_and_resumes_exactly() {
    let root = tempfile::tempdir().unwrap();
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    let text = train(&whole, 40);
    assert!(loss(&text, 40) < loss(&text, 10), "{text}");
    train(&parts, 25);
    let resumed = train(&parts, 40);
    assert_eq!(loss(&resumed, 40), loss(&text, 40));
    let newest = "step-000000040.safetensors";
    let read = |folder: &Path| read_arrays(&folder.join(newest)).unwrap().0;
    assert!(read(&whole) == read(&parts), "other weights than in one go");
}

#[test]
fn the_guide_quotes_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(root.join("../../docs/architecture.md")).unwrap();
    let source = std::fs::read_to_string(root.join("src/vicreg.rs")).unwrap();
    assert!(source.lines().count() <= 150, "a method of 150 lines");
    let section = guide.split("\n## Add a method\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks: Vec<&str> = section.split("```rust\n").skip(1).collect();
    assert!(blocks.len() >= 4, "the guide shows the example");
    for block in blocks {
        let code = block.split("```").next().unwrap();
        assert!(source.contains(code), "not in src/vicreg.rs:\n{code}");
    }
}
