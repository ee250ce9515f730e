//! Images of four channels and 16 bits, from training to features and pictures.

use crate::common;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{Train, assert_same, device, figures, newest, one_error, program, text};
use dinolab_nn::weights::file_arrays;
use dinolab_train::checkpoint::{self, Checkpoint, TrainState};
use dinolab_train::{Dino, DinoConfig, DinoSchedule, OptimiserKind};
use tempfile::TempDir;
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::RGBA16;

const WIDTH: usize = 60;
const HEIGHT: usize = 40;

/// A sample of picture `seed`: a ramp and waves of all 16 bits, another per channel.
fn sample(x: usize, y: usize, channel: usize, seed: usize) -> u16 {
    let wave = (x * (7 + seed % 5) * 400 + y * (3 + channel) * 300) % 40_000;
    (wave + channel * 5000 + seed * 97) as u16
}

/// A NumPy array `[height, width, channels]` of unsigned 16-bit numbers.
fn npy(path: &Path, channels: usize, seed: usize) {
    let mut header = format!(
        "{{'descr': '<u2', 'fortran_order': False, 'shape': ({HEIGHT}, {WIDTH}, {channels}), }}"
    );
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            bytes.extend((0..channels).flat_map(|c| sample(x, y, c, seed).to_le_bytes()));
        }
    }
    fs::write(path, bytes).unwrap();
}

/// A TIFF of four samples of 16 bits.
fn tiff(path: &Path, seed: usize) {
    let pixel = |i: usize| [0, 1, 2, 3].map(|c| sample(i % WIDTH, i / WIDTH, c, seed));
    let samples: Vec<u16> = (0..WIDTH * HEIGHT).flat_map(pixel).collect();
    TiffEncoder::new(fs::File::create(path).unwrap())
        .unwrap()
        .write_image::<RGBA16>(WIDTH as u32, HEIGHT as u32, &samples)
        .unwrap();
}

/// A folder of `count` images, every other one a TIFF.
fn images(root: &TempDir, count: usize) -> PathBuf {
    let folder = root.path().join("images");
    fs::create_dir_all(&folder).unwrap();
    for i in 0..count {
        match i % 2 {
            0 => npy(&folder.join(format!("{i:02}.npy")), 4, i),
            _ => tiff(&folder.join(format!("{i:02}.tif")), i),
        }
    }
    folder
}

/// Two epochs of three steps, on crops that are no squares.
fn training(out: &Path, images: &Path) -> Train {
    Train::tiny(out)
        .on(images)
        .without("shapes-images")
        .with("in-chans", 4)
        .with("stem", "patchify")
        .with("global-crops-size", "32x48")
        .with("local-crops-size", "16x24")
        .with("epochs", 2)
        .with("eval-every", 1)
        .with("attention-images", 2)
}

fn verb(name: &str, run: &Path) -> Command {
    let mut command = program();
    command.arg(name).arg("--weights").arg(run);
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// The numbers of a `.npy` of single precision, and its header.
fn numbers(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = text(&bytes[10..10 + length]);
    assert!(header.contains("'<f4'"), "{header}");
    let (values, _) = bytes[10 + length..].as_chunks::<4>();
    let values = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
    (header, values)
}

#[test]
fn four_channels_of_16_bits_train_embed_and_attend() {
    let root = TempDir::new().unwrap();
    let images = images(&root, 24);
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    let told = training(&whole, &images).succeed();
    assert!(told.contains("measured over 24 images"), "{told}");
    assert!(told.contains("4 channels as stored: --mean"), "{told}");
    assert!(told.contains("32x48") && told.contains("16x24"), "{told}");
    assert_eq!(figures(&whole, "train", "step").len(), 6);
    let patches = &common::tensors(&whole)["teacher.backbone.patch_embed.proj.weight"];
    assert_eq!(patches.shape, [32, 4, 8, 8]);

    // In two parts, the second with --resume alone; another number of threads besides.
    let first = training(&parts, &images).with("stop-after-epochs", 1);
    first.with("num-workers", 1).succeed();
    Train::bare(&parts)
        .switch("resume")
        .with("stop-after-epochs", 0)
        .succeed();
    assert_same(&whole, &parts);

    let out = root.path().join("features.npy");
    let output = verb("embed", &whole)
        .arg(&images)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let (header, features) = numbers(&out);
    assert!(header.contains("(24, 32"), "{header}");
    assert!(features.iter().all(|value| value.is_finite()));
    let (one, other) = (&features[..32], &features[32..64]);
    assert!(one != other, "images differ, and so do their features");

    for name in ["04.npy", "05.tif"] {
        let (folder, stem) = (root.path().join("attention"), &name[..2]);
        let mut attend = verb("attend", &whole);
        attend.arg(images.join(name)).arg("--out").arg(&folder);
        let output = attend.args(["--size", "32x48"]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let (header, maps) = numbers(&folder.join(format!("{stem}-attention.npy")));
        assert!(header.contains("(2, 4, 6"), "{header}");
        assert!(maps.iter().all(|value| value.is_finite()));
        let picture = image::open(folder.join(format!("{stem}-mean-overlay.png"))).unwrap();
        assert_eq!((picture.width(), picture.height()), (48, 32));
    }
}

#[test]
fn a_file_of_other_channels_is_named() {
    let root = TempDir::new().unwrap();
    let images = images(&root, 16);
    npy(&images.join("three.npy"), 3, 1);
    let run = training(&root.path().join("run"), &images)
        .with("eval-every", 0)
        .with("epochs", 1);
    let reason = "has 3 channels instead of 4";
    let error = run.fail();
    assert!(
        error.contains("three.npy") && error.contains(reason),
        "{error}"
    );
    // Where so many may be bad, it is left out and listed.
    let run = run.with("max-unusable-percent", 10);
    run.succeed();
    let folder = root.path().join("run");
    let listed = fs::read_to_string(folder.join("skipped.tsv")).unwrap();
    assert!(
        listed.contains("three.npy\t") && listed.contains(reason),
        "{listed}"
    );

    let out = root.path().join("features.npy");
    let output = verb("embed", &folder)
        .arg(&images)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("three.npy") && told.contains(reason),
        "{told}"
    );
    assert!(numbers(&out).0.contains("(16, 32"), "{told}");

    // By itself it is an error, as is a set of which no image fits.
    let three = images.join("three.npy");
    let mut attend = verb("attend", &folder);
    attend
        .arg(&three)
        .arg("--out")
        .arg(root.path().join("attention"));
    let output = attend.output().unwrap();
    one_error(&output);
    let told = said(&output);
    assert!(told.contains("three.npy: has 3 channels"), "{told}");
    let error = training(&root.path().join("five"), &images)
        .with("in-chans", 5)
        .fail();
    assert!(error.contains("instead of 5"), "{error}");
}

#[test]
fn other_verbs_work_or_say_that_they_do_not() {
    let root = TempDir::new().unwrap();
    let images = images(&root, 16);
    let run = root.path().join("run");
    training(&run, &images)
        .with("eval-every", 0)
        .with("epochs", 1)
        .succeed();
    let output = |command: &mut Command| command.output().unwrap();

    // The copy of a member finds it, as a file from elsewhere and by its name.
    let copy = root.path().join("copy.npy");
    fs::copy(images.join("06.npy"), &copy).unwrap();
    fs::copy(images.join("06.npy"), images.join("twin.npy")).unwrap();
    let sheet = root.path().join("near.png");
    let mut near = verb("neighbours", &run);
    near.arg(&images).arg(&copy).arg("06.npy").arg("--json");
    let answer = output(near.arg("--out").arg(&sheet));
    assert!(answer.status.success(), "{}", said(&answer));
    let found: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let first = |query: usize, rank: usize| &found["queries"][query]["neighbours"][rank];
    assert_eq!(first(0, 0)["image"], "06.npy");
    assert_eq!(first(0, 1)["image"], "twin.npy");
    assert_eq!(first(1, 0)["image"], "twin.npy");
    assert!(first(1, 0)["similarity"].as_f64().unwrap() > 0.9999);
    assert!(image::open(&sheet).unwrap().height() > 100);

    let pca = root.path().join("pca");
    let answer = output(verb("pca", &run).arg(&images).arg("--out").arg(&pca));
    assert!(answer.status.success(), "{}", said(&answer));

    // Labelled arrays alone, of which a verb for RGB would see none.
    let labelled = root.path().join("labelled");
    for i in 0..24 {
        let class = labelled.join(["a", "b"][i % 2]);
        fs::create_dir_all(&class).unwrap();
        npy(&class.join(format!("{i}.npy")), 4, i);
    }
    let eval = |name: &str| {
        let mut command = program();
        command.args(["eval", name]).arg("--weights").arg(&run);
        command
    };
    let both = |command: &mut Command| {
        command
            .arg("--train")
            .arg(&labelled)
            .arg("--val")
            .arg(&labelled);
        output(command)
    };
    for answer in [
        both(&mut eval("knn")),
        output(eval("retrieval").arg(&labelled)),
    ] {
        assert!(answer.status.success(), "{}", said(&answer));
    }
    for answer in [
        both(&mut eval("linear")),
        both(&mut eval("transfer")),
        output(eval("copy").arg(&labelled)),
    ] {
        let error = one_error(&answer);
        assert!(error.contains("trained on 4 channels as stored"), "{error}");
    }
}

#[test]
fn inspect_tells_channels_and_bits_and_measures() {
    let root = TempDir::new().unwrap();
    let images = images(&root, 8);
    npy(&images.join("three.npy"), 3, 1);
    fs::write(images.join("broken.npy"), b"\x93NUMPY\x01\x00").unwrap();
    common::picture(&images.join("plain.png"), 20, 1);
    let inspect = |flags: &[&str]| {
        let mut command = program();
        command.args(["data", "inspect"]).arg(&images).args(flags);
        command.output().unwrap()
    };
    let answer = inspect(&["--in-chans", "4", "--stats", "--json"]);
    assert!(answer.status.success(), "{}", said(&answer));
    let found: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(found["images"], 11);
    assert_eq!(found["formats"]["NumPy"], 6);
    assert_eq!(found["stored"]["4 channels, 16 bit"], 8);
    assert_eq!(found["stored"]["3 channels, 16 bit"], 1);
    assert_eq!(found["stored"]["3 channels, 8 bit"], 1);
    let unreadable = found["unreadable"].as_array().unwrap();
    let named: Vec<_> = unreadable.iter().map(|bad| &bad["name"]).collect();
    assert_eq!(named, ["broken.npy", "plain.png", "three.npy"]);
    // Those of the eight that fit, in double precision.
    let key = |name: &str, channel: usize| found[name][channel].as_f64().unwrap();
    assert_eq!(found["mean"].as_array().unwrap().len(), 4);
    for channel in 0..4 {
        let values = (0..8).flat_map(|seed| {
            let places = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
            places.map(move |(x, y)| f64::from(sample(x, y, channel, seed)) / 65535.0)
        });
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count;
        let squares = values.map(|v| (v - mean).powi(2)).sum::<f64>();
        assert!((key("mean", channel) - mean).abs() < 1e-9);
        assert!((key("std", channel) - (squares / count).sqrt()).abs() < 1e-9);
    }

    // What it prints for people is what train takes, and what train would measure.
    let answer = inspect(&["--in-chans", "4", "--stats"]);
    let told = text(&answer.stdout);
    let line = told.lines().find(|line| line.starts_with("--mean "));
    let words: Vec<&str> = line.expect("a line of flags").split(' ').collect();
    let run = |name: &str| {
        training(&root.path().join(name), &images)
            .with("eval-every", 0)
            .with("epochs", 1)
            .with("max-unusable-percent", 50)
    };
    let measured = run("measured").succeed();
    assert!(measured.contains(line.unwrap()), "{measured}");
    run("given")
        .with("mean", words[1])
        .with("std", words[3])
        .succeed();
    assert_same(&root.path().join("measured"), &root.path().join("given"));

    // As 8-bit RGB arrays are no images, and TIFFs of four channels are read all the same.
    let answer = inspect(&["--json"]);
    let found: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(found["images"], 5);
    assert_eq!(found["stored"]["4 channels, 16 bit"], 4);
    assert!(found.get("mean").is_none());
    let error = one_error(&inspect(&["--in-chans", "17"]));
    assert!(error.contains("--in-chans 17"), "{error}");
}

#[test]
fn weights_of_other_channels_are_refused() {
    let root = TempDir::new().unwrap();
    let images = images(&root, 16);
    let (rgb, four) = (root.path().join("rgb"), root.path().join("four"));
    Train::tiny(&rgb).with("epochs", 1).succeed();
    let start = training(&four, &images).with("epochs", 1);
    let error = start.clone().with("weights", rgb.display()).fail();
    assert!(
        error.contains("--weights") && error.contains("3 channels, not of --in-chans 4"),
        "{error}"
    );
    start.succeed();
    let error = Train::tiny(&root.path().join("other"))
        .with("weights", four.display())
        .fail();
    assert!(error.contains("4 channels, not of --in-chans 3"), "{error}");
    // The shapes have their own.
    let error = Train::tiny(&root.path().join("shapes"))
        .with("in-chans", 4)
        .fail();
    assert!(error.contains("--in-chans"), "{error}");
    // Four numbers for four channels.
    let error = training(&root.path().join("numbers"), &images)
        .with("mean", "0.5,0.5,0.5")
        .with("std", "0.2,0.2,0.2")
        .fail();
    assert!(
        error.contains("--mean") && error.contains("--in-chans 4"),
        "{error}"
    );
}

/// Settings that came later than the first runs.
const LATER: [&str; 5] = [
    "in-chans",
    "pixels",
    "read-ahead",
    "shuffle-buffer",
    "scaled-decoding",
];

fn without_later(config: &str) -> String {
    let kept = |line: &&str| {
        let key = line.split(" = ").next().unwrap_or_default();
        !LATER.contains(&key)
    };
    let lines: Vec<&str> = config.lines().filter(kept).collect();
    assert_eq!(
        lines.len() + LATER.len(),
        config.lines().count(),
        "{config}"
    );
    lines.join("\n") + "\n"
}

/// Makes of a run one that was begun before those settings existed.
fn begun_earlier(run: &Path) {
    let path = newest(run);
    let (_, facts) = file_arrays(&path, &fs::read(&path).unwrap()).unwrap();
    let config = DinoConfig {
        backbone: dinolab_nn::BackboneConfig::Vit(serde_json::from_str(&facts["vit"]).unwrap()),
        head: serde_json::from_str(&facts["head"]).unwrap(),
        optimizer: OptimiserKind::AdamW,
        clip_grad: 3.0,
        freeze_last_layer: 1,
        student_temp: 0.1,
        center_momentum: 0.9,
        schedule: DinoSchedule {
            momentum_teacher: 0.99,
            warmup_teacher_temp: 0.04,
            teacher_temp: 0.04,
            warmup_teacher_temp_epochs: 0,
            ..Default::default()
        },
        drop_path: 0.1,
        seed: 0,
        precision: Default::default(),
        ..Default::default()
    };
    let mut dino = Dino::new(&config, &device()).unwrap();
    let saved = Checkpoint::read(&path).unwrap();
    saved.restore(&mut dino).unwrap();
    let position = TrainState {
        config: without_later(&saved.position.config),
        ..saved.position
    };
    // How images are prepared is now said besides; then it was not.
    let mut kept: BTreeMap<String, String> = facts;
    assert!(kept.remove("preprocess").is_some());
    kept.retain(|name, _| name == "epoch");
    checkpoint::save(&run.join("checkpoints"), &dino, &position, &kept).unwrap();
    let path = run.join("config.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, without_later(&config)).unwrap();
}

#[test]
fn runs_begun_before_the_settings_existed_go_on() {
    let root = TempDir::new().unwrap();
    let (whole, earlier) = (root.path().join("whole"), root.path().join("earlier"));
    Train::tiny(&whole).with("epochs", 2).succeed();
    let run = Train::tiny(&earlier).with("epochs", 2);
    run.clone().with("stop-after-epochs", 1).succeed();
    begun_earlier(&earlier);

    // It serves as it is.
    let images = root.path().join("images");
    common::pictures(&images, 3);
    let out = root.path().join("features.npy");
    let output = verb("embed", &earlier)
        .arg(&images)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // By its own settings, and by the command that began it.
    Train::bare(&earlier)
        .switch("resume")
        .with("stop-after-epochs", 1)
        .succeed();
    let told = run.succeed();
    assert!(told.contains("from step 4"), "{told}");
    assert_same(&whole, &earlier);
    // Another kind of images is another run.
    let error = run
        .with("pixels", "stored")
        .with("mean", "0,0,0")
        .with("std", "1,1,1")
        .fail();
    assert!(error.contains("--pixels"), "{error}");
}
