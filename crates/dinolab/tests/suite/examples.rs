//! The commands in `--help`, the README and `docs/`: all are understood, and those that need nothing but this
//! machine do what they say, in a folder that holds what they name.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Train, picture, signal, text};
use clap::error::ErrorKind;
use dinolab_data::Source;
use dinolab_data::shapes::Shapes;
use dinolab_eval::davis::Year;
use dinolab_view::{GifWriter, Rgb};

/// Why a command cannot be run here, by a part of it.
const ELSEWHERE: [(&str, &str); 11] = [
    ("hf:", "needs a network; tests/suite/hub.rs"),
    ("://", "needs a network"),
    ("data fetch", "needs a network"),
    ("--remote-cache", "needs a network"),
    ("mpirun", "needs MPI; tests/suite/processes.rs"),
    ("srun", "needs Slurm"),
    ("podman", "needs a container engine"),
    ("parquet", "needs a feature; tests/suite/parts.rs"),
    ("embed --verify", "needs a feature; tests/suite/parts.rs"),
    (
        "features/_whitening",
        "needs a feature; tests/suite/parts.rs",
    ),
    ("clip.mp4", "needs ffmpeg; tests/suite/video.rs"),
];

/// Pages whose commands are long experiments on datasets.
const EXPERIMENTS: [&str; 2] = ["docs/benchmarks", "docs/small-sets"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A command, and where it stands.
#[derive(Debug)]
struct Example {
    page: String,
    line: String,
}

impl Example {
    fn elsewhere(&self) -> bool {
        ELSEWHERE.iter().any(|(part, _)| self.line.contains(part))
    }

    fn is_experiment(&self) -> bool {
        EXPERIMENTS.iter().any(|page| self.page.starts_with(page))
    }

    fn is_slow(&self) -> bool {
        let slow = ["dinolab bench", "dinolab overfit", "dinolab eval transfer"];
        slow.iter().any(|part| self.line.contains(part))
    }
}

/// The blocks of shell commands in the README and `docs/`, with their calls of the program.
fn of_the_pages() -> Vec<Vec<Example>> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None => folders.push(path),
                Some(end) if end == "md" => pages.push(path),
                Some(_) => {}
            }
        }
    }
    pages.sort();
    let mut blocks = Vec::new();
    for path in pages {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let page = fs::read_to_string(&path).unwrap();
        for block in page.split("\n```sh\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            let whole = block.replace("\\\n", " ");
            let calls = whole
                .lines()
                .filter(|line| calls(line))
                .map(|line| Example {
                    page: name.clone(),
                    line: line.trim().to_owned(),
                });
            blocks.push(calls.collect());
        }
    }
    blocks
}

/// Whether a line of a shell has the program as one of its words.
fn calls(line: &str) -> bool {
    // An image of a container may have its name.
    !line.starts_with("podman build") && words(line).iter().any(|word| word == "dinolab")
}

/// The words of a line of a shell, without its comment and where its output goes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ' ') if !word.is_empty() => words.push(std::mem::take(&mut word)),
            (None, ' ') => {}
            (None, '#' | '>' | '|' | '&') if word.is_empty() => break,
            _ => word.push(c),
        }
    }
    words
}

/// The example of each command's help.
fn of_the_help() -> Vec<Example> {
    fn below(command: &clap::Command, name: &str, found: &mut Vec<Example>) {
        let about = command.get_long_about().map(ToString::to_string);
        for line in about.iter().flat_map(|about| about.lines()) {
            if let Some(line) = line.trim().strip_prefix("Example: ") {
                found.push(Example {
                    page: format!("{name} --help"),
                    line: line.to_owned(),
                });
            }
        }
        for inner in command.get_subcommands() {
            below(inner, &format!("{name} {}", inner.get_name()), found);
        }
    }
    let mut found = Vec::new();
    below(&dinolab::command(), "dinolab", &mut found);
    assert!(found.len() > 20, "{found:?}");
    found
}

#[test]
fn all_are_understood() {
    let blocks = of_the_pages();
    let mut count = 0;
    for example in blocks.iter().flatten().chain(&of_the_help()) {
        let needs = |feature: &str| example.line.contains(feature);
        if needs("--remote-cache") && !cfg!(feature = "remote")
            || needs("parquet") && !cfg!(feature = "parquet")
        {
            continue;
        }
        let words = words(&example.line);
        let call = words.iter().position(|word| word == "dinolab").unwrap();
        let Err(error) = dinolab::command().try_get_matches_from(&words[call..]) else {
            count += 1;
            continue;
        };
        // `--seed S`, `--shard {}/8`: the reader's.
        let open = |word: &String| {
            word.contains("{}") || (word.len() == 1 && word.chars().all(char::is_uppercase))
        };
        let reader = error.kind() == ErrorKind::ValueValidation && words.iter().any(open);
        assert!(reader, "{example:?}: {error}");
    }
    assert!(count > 90, "{count}");
}

/// A folder with what the pages name, and the run that they speak of.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let at = |name: &str| place.0.path().join(name);
        for (split, count) in [("train", 8), ("val", 4)] {
            for (kind, class) in ["cat", "dog"].iter().enumerate() {
                for i in 0..count {
                    let seed = 40 * i + 7 * kind as u32 + u32::from(split == "val");
                    picture(&at(&format!("photos/{split}/{class}/{i}.jpg")), 64, seed);
                }
            }
        }
        for (folder, seed) in [
            ("photos", 90),
            ("holidays", 91),
            ("new-photos", 92),
            ("more", 93),
            ("originals", 94),
            ("others", 95),
            ("database/a", 96),
            ("database/b", 97),
            ("queries/a", 98),
            ("queries/b", 99),
            ("yfcc10k", 108),
            ("yfcc20k", 112),
            ("copydays", 100),
            ("copydays/original", 104),
        ] {
            for i in 0..4 {
                let path = at(folder).join(format!("200{i}00.jpg"));
                picture(&path, 64, seed + 30 * i);
            }
        }
        picture(&at("photos/cat.jpg"), 80, 5);
        picture(&at("cat.jpg"), 80, 5);
        picture(&at("other/dog.png"), 80, 6);
        for folder in [".local/share/bash-completion/completions", ".zfunc"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        segmentation(&at("VOCdevkit/VOC2012"));
        segmentation(&at("voc/VOCdevkit/VOC2012"));
        video(&at("DAVIS"));
        animation(&at("clip.gif"));
        buildings(&at("roxford5k"));
        bands(&at("bands"));
        Train::tiny(&at("runs/photos"))
            .on(&at("photos"))
            .with("val", at("photos/val").display())
            .without("shapes-images")
            .with("epochs", 1)
            .with("depth", 4)
            // Hugging Face has no network with a convolutional stem.
            .with("stem", "patchify")
            .succeed();
        for command in [
            "cp -r runs/photos runs/a",
            "cp -r runs/photos runs/b",
            "cp -r runs/photos runs/large",
            "cp -r runs/photos W",
            "dinolab embed --weights W photos --out F.npy",
            "dinolab convert W dino_deitsmall16_pretrain.pth",
            "dinolab convert W dinov2.safetensors",
            "dinolab convert W dinov2-small --to hf",
            "cp -r dinov2-small dinov2-large",
            "dinolab convert W dinov3-vits16 --to hf",
            "dinolab data pack photos shards",
            "dinolab eval linear --weights W --train photos/train --val photos/val --epochs 2 \
             --out photos.classifier",
        ] {
            place.succeeds(command);
        }
        for split in ["train", "val"] {
            place.succeeds(&format!(
                "dinolab embed --weights W photos/{split} --out {split}.npy"
            ));
        }
        for (set, out) in [("database", "database.npy"), ("queries", "queries.npy")] {
            place.succeeds(&format!("dinolab embed --weights W {set} --out {out}"));
        }
        place
    }

    /// Another one with the same contents.
    fn copy(&self) -> Self {
        let copy = tempfile::tempdir().unwrap();
        let from = self.0.path().join(".");
        let copied = Command::new("cp")
            .arg("-r")
            .args([&from, copy.path()])
            .status();
        assert!(copied.unwrap().success());
        Self(copy)
    }

    /// A command for this folder, which is the user's home as well.
    fn shell(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_dinolab")).parent().unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("PATH", format!("{}:{path}", program.display()))
            .stdin(Stdio::null());
        shell
    }

    fn succeeds(&self, line: &str) {
        let output = self.shell(line).output().unwrap();
        assert!(
            output.status.success(),
            "{line}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }

    /// Does what an example says; what would take hours or does not end is stopped once it has begun.
    fn runs(&self, example: &Example) {
        let words = words(&example.line);
        let call = words.iter().position(|word| word == "dinolab").unwrap();
        let resumes = words.iter().any(|word| word == "--resume");
        // The place has what these make.
        let made = match words[call + 1].as_str() {
            "train" if !resumes => words.iter().position(|word| word == "--out"),
            "data" if words[call + 2] == "pack" => Some(call + 3),
            _ => None,
        };
        if let Some(before) = made {
            let _ = fs::remove_dir_all(self.0.path().join(&words[before + 1]));
        }
        match words[call + 1].as_str() {
            "train" => self.begins(example, &["a new run in", "resuming"], true),
            "view" => self.begins(example, &["http://"], false),
            _ => self.succeeds(&example.line),
        }
    }

    fn begins(&self, example: &Example, begun: &[&str], ends: bool) {
        let mut child = self
            .shell(&format!("exec {}", example.line))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !begun.iter().any(|words| said.contains(words)) {
            if out.read_line(&mut said).unwrap() == 0 {
                panic!("{example:?}: {said}{}", rest(&mut child));
            }
        }
        // Not INT, which a shell in the background has children ignore.
        signal("TERM", &child);
        out.read_to_string(&mut said).unwrap();
        let errors = rest(&mut child);
        let status = child.wait().unwrap();
        let saved = said.contains("stopped and saved") || status.success();
        assert!(!ends || saved, "{example:?}: {status}: {said}{errors}");
    }
}

fn rest(child: &mut Child) -> String {
    let mut said = String::new();
    let mut errors = child.stderr.take().unwrap();
    errors.read_to_string(&mut said).unwrap();
    said
}

/// A VOC tree of shapes.
fn segmentation(root: &Path) {
    let shapes = Shapes::new(8, 48);
    let sets = root.join("ImageSets/Segmentation");
    fs::create_dir_all(&sets).unwrap();
    for (split, range) in [("train", 0..5), ("val", 5..8)] {
        let mut list = String::new();
        for index in range {
            let image = shapes.image(index).unwrap();
            let mask = shapes.mask(index).unwrap().unwrap();
            let side = image.width as u32;
            let file = |folder: &str, end: &str| {
                fs::create_dir_all(root.join(folder)).unwrap();
                root.join(folder).join(format!("{index:03}.{end}"))
            };
            image::RgbImage::from_raw(side, side, image.data)
                .unwrap()
                .save(file("JPEGImages", "jpg"))
                .unwrap();
            for folder in ["SegmentationClass", "SegmentationObject"] {
                image::GrayImage::from_raw(side, side, mask.data.clone())
                    .unwrap()
                    .save(file(folder, "png"))
                    .unwrap();
            }
            list += &format!("{index:03}\n");
        }
        fs::write(sets.join(format!("{split}.txt")), list).unwrap();
    }
}

/// A frame of a square that moves.
fn frame(t: u32) -> image::RgbImage {
    image::RgbImage::from_fn(96, 64, |x, y| match square(x, y, t) {
        true => image::Rgb([220, 40, 40]),
        false => image::Rgb([90 + (x % 8) as u8, 140, 90]),
    })
}

fn square(x: u32, y: u32, t: u32) -> bool {
    (8 + 4 * t..40 + 4 * t).contains(&x) && (16..48).contains(&y)
}

fn video(root: &Path) {
    let list = root.join("ImageSets/2017/val.txt");
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    fs::write(list, "blackswan\n").unwrap();
    fs::create_dir_all(root.join("JPEGImages/480p/blackswan")).unwrap();
    for t in 0..3 {
        let image = root.join(format!("JPEGImages/480p/blackswan/{t:05}.jpg"));
        frame(t).save(image).unwrap();
        let pixels = (0..64 * 96).map(|i| u8::from(square(i % 96, i / 96, t)));
        let mask = dinolab_data::Mask {
            width: 96,
            height: 64,
            data: pixels.collect(),
        };
        let annotation = root.join(format!("Annotations/480p/blackswan/{t:05}.png"));
        Year::Multiple.write_mask(&annotation, &mask).unwrap();
    }
}

fn animation(path: &Path) {
    let mut gif = GifWriter::create(path).unwrap();
    for t in 0..3 {
        gif.add(&Rgb::new(96, 64, frame(t).into_raw()).unwrap(), 0.1)
            .unwrap();
    }
    gif.finish().unwrap();
}

/// A retrieval benchmark.
fn buildings(root: &Path) {
    for i in 0..4 {
        picture(&root.join(format!("jpg/place_{i}.jpg")), 64, 7 * i + 1);
    }
    picture(&root.join("jpg/query_0.jpg"), 64, 1);
    let ground_truth = serde_json::json!({
        "imlist": ["place_0", "place_1", "place_2", "place_3"],
        "qimlist": ["query_0"],
        "gnd": [{"easy": [0], "hard": [1], "junk": [2], "bbx": [0.0, 0.0, 60.0, 60.0]}],
    });
    // What kind of file it is, is seen from its contents.
    fs::write(root.join("gnd_roxford5k.pkl"), ground_truth.to_string()).unwrap();
}

/// Images of four channels.
fn bands(root: &Path) {
    for i in 0..16u8 {
        let folder = root.join(format!("{}", i % 2));
        fs::create_dir_all(&folder).unwrap();
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (96, 128, 4), }";
        let header = format!("{header:<117}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend((0..96 * 128 * 4u32).map(|k| (k % (97 + u32::from(i))) as u8));
        fs::write(folder.join(format!("{i:02}.npy")), bytes).unwrap();
    }
}

#[test]
fn those_of_the_help_and_the_readme_are_run() {
    let place = Place::new();
    let help = of_the_help().into_iter().map(|example| vec![example]);
    let readme = of_the_pages();
    let readme = readme.into_iter().filter(|block| {
        let first = block.first();
        first.is_some_and(|example| example.page == "README.md")
    });
    assert!(run_all(&place, help.chain(readme), false) > 25);
}

/// `cargo test --release --workspace --test suite examples:: -- --ignored`, a few minutes.
#[test]
#[ignore = "takes minutes"]
fn those_of_the_docs_and_the_slow_ones_are_run() {
    let place = Place::new();
    let help = of_the_help().into_iter().map(|example| vec![example]);
    let slow = help.filter(|block| block[0].is_slow());
    assert!(run_all(&place, slow.chain(of_the_pages()), true) > 60);
}

/// Runs blocks, each in a place of its own, its lines in order; returns how many lines were run.
fn run_all(place: &Place, blocks: impl Iterator<Item = Vec<Example>>, slow: bool) -> usize {
    let mut count = 0;
    for block in blocks {
        let here = place.copy();
        for example in block {
            if example.elsewhere() || example.is_experiment() || (example.is_slow() && !slow) {
                continue;
            }
            let began = std::time::Instant::now();
            here.runs(&example);
            println!("{:6.1} s  {}", began.elapsed().as_secs_f64(), example.line);
            count += 1;
        }
    }
    count
}
