//! Weights as people have them, images of any shape, and patch tokens, by the program.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{Arrays, Train, newest, one_error, program, text};
use dinolab_nn::init::Init;
use dinolab_nn::weights::{Value, arrays, file_arrays, write_pth};
use dinolab_nn::{Vit, VitConfig, device};
use dinolab_run::npy::read_npy_f32;
use image::{GrayImage, Luma};
use tempfile::TempDir;

fn config(channels: usize) -> VitConfig {
    VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 16,
        depth: 2,
        heads: 2,
        channels,
        ..VitConfig::default()
    }
}

fn backbone(channels: usize) -> Arrays {
    let device = device::by_name("cpu").unwrap();
    arrays(
        &Vit::new(&config(channels), &mut Init::new(5), &device).unwrap(),
        "",
    )
}

/// A state dictionary as PyTorch's files have it.
fn save(path: &Path, arrays: &Arrays) -> PathBuf {
    let named = arrays
        .iter()
        .map(|(k, v)| (k.clone(), Value::Tensor(v.clone())));
    write_pth(path, &Value::dict(named)).unwrap();
    path.into()
}

/// A path as an argument; the tests end soon enough to let it be.
fn place(folder: &Path, name: &str) -> &'static str {
    folder.join(name).display().to_string().leak()
}

fn picture(path: &Path, width: u32, height: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let value = |x: u32, y: u32| (x * 7 + y * 13 + x * y % 31) as u8;
    GrayImage::from_fn(width, height, |x, y| Luma([value(x, y)]))
        .save(path)
        .unwrap();
}

fn run(verb: &str, weights: &Path, rest: &[&str]) -> Output {
    let mut command = program();
    command
        .arg(verb)
        .arg("--weights")
        .arg(weights)
        .args(["--heads", "2"]);
    command.args(rest).output().unwrap()
}

fn done(output: &Output) -> String {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_network_of_one_channel_is_used_by_the_numbers_that_are_asked_for() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| place(root.path(), name);
    let weights = save(&root.path().join("grey.pth"), &backbone(1));
    for i in 0..3 {
        picture(&root.path().join(format!("grey/{i}.png")), 40 + 9 * i, 50);
    }
    let (images, out) = (at("grey"), at("first.npy"));
    let told = one_error(&run("embed", &weights, &[images, "--out", out]));
    assert!(told.contains("1 channel,"), "{told}");
    // What it says to do, done.
    let advice = told.split("as in ").nth(1).unwrap();
    let flags: Vec<&str> = advice.split_whitespace().collect();
    assert_eq!(flags, ["--mean", "0.5", "--std", "0.25"]);
    done(&run(
        "embed",
        &weights,
        &[&[images, "--out", out], &flags[..]].concat(),
    ));
    let first = read_npy_f32(out).unwrap();
    assert_eq!(first.shape, [3, 16]);
    // Other numbers are other features; half of them, or too many, are refused.
    let other = at("other.npy");
    let numbers = ["--mean", "0.4", "--std", "0.2"];
    done(&run(
        "embed",
        &weights,
        &[&[images, "--out", other], &numbers[..]].concat(),
    ));
    assert_ne!(read_npy_f32(other).unwrap().data, first.data);
    for wrong in [
        &["--mean", "0.5"][..],
        &["--std", "0.5"],
        &["--mean", "0.5,0.5", "--std", "1,1"],
        &["--mean", "0.5", "--std", "0"],
    ] {
        let all = [&[images, "--out", other], wrong].concat();
        let told = one_error(&run("embed", &weights, &all));
        assert!(told.contains(wrong[0]) || told.contains("--std"), "{told}");
    }
    // Converted with them, the file says them itself.
    for (name, to) in [
        ("a.safetensors", "reference"),
        ("b", "hf"),
        ("c", "timm"),
        ("d", "run"),
    ] {
        let mut convert = program();
        let to = ["--to", to, "--heads", "2", "--position-rule", "dino"];
        convert
            .arg("convert")
            .arg(&weights)
            .arg(at(name))
            .args(to)
            .args(&flags);
        done(&convert.output().unwrap());
        let again = at("again.npy");
        let converted = root.path().join(name);
        let rule = ["--position-rule", "dino"];
        done(&run(
            "embed",
            &converted,
            &[&[images, "--out", again], &rule[..]].concat(),
        ));
        assert_eq!(read_npy_f32(again).unwrap(), first, "{name}");
        done(&run("attend", &converted, &[images, "--out", at("maps")]));
        done(&run("pca", &converted, &[images, "--out", at("maps")]));
    }
}

#[test]
fn weights_that_are_no_numbers_make_no_files() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| place(root.path(), name);
    common::pictures(&root.path().join("images"), 4);
    let mut all = backbone(3);
    all.get_mut("blocks.0.attn.proj.bias").unwrap().data[4] = f32::NEG_INFINITY;
    let weights = save(&root.path().join("w.pth"), &all);
    let images = at("images");
    for (verb, out) in [("embed", "f.npy"), ("attend", "maps"), ("pca", "maps")] {
        let told = one_error(&run(verb, &weights, &[images, "--out", at(out)]));
        assert!(
            told.contains("blocks.0.attn.proj.bias") && told.contains("[4]"),
            "{told}"
        );
        assert!(!root.path().join(out).exists(), "{verb}");
    }
    let told = Train::tiny(&root.path().join("run"))
        .with("weights", weights.display())
        .with("width", 16)
        .fail();
    assert!(told.contains("blocks.0.attn.proj.bias"), "{told}");
    // Weights that are finite, and too large to compute with.
    let mut all = backbone(3);
    for (name, array) in &mut all {
        if name.ends_with("fc1.weight") || name.ends_with("fc2.weight") {
            array.data.iter_mut().for_each(|value| *value *= 3e33);
        }
    }
    let weights = save(&root.path().join("large.pth"), &all);
    for (verb, out) in [("embed", "f.npy"), ("pca", "maps"), ("attend", "maps")] {
        let told = one_error(&run(verb, &weights, &[images, "--out", at(out)]));
        assert!(
            told.contains("image-000.jpg") && told.contains("not finite"),
            "{told}"
        );
    }
    assert!(!root.path().join("f.npy").exists());
    // Features that were made so by something else.
    let good = save(&root.path().join("good.pth"), &backbone(3));
    done(&run("embed", &good, &[images, "--out", at("f.npy")]));
    let path = root.path().join("f.npy");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    fs::write(root.path().join("f.labels.txt"), "a\nb\na\nb\n").unwrap();
    let mut knn = program();
    knn.args([
        "eval",
        "knn",
        "--k",
        "1",
        "--train",
        at("f.npy"),
        "--val",
        at("f.npy"),
    ]);
    let told = one_error(&knn.output().unwrap());
    assert!(told.contains("row 3 (image-003.jpg)"), "{told}");
}

#[test]
fn names_of_the_file_are_in_the_error() {
    let root = TempDir::new().unwrap();
    common::pictures(&root.path().join("images"), 1);
    let images = root.path().join("images").display().to_string();
    let out = root.path().join("f.npy").display().to_string();
    let refuse_with = |arrays: &Arrays, flags: &[&str]| {
        let weights = save(&root.path().join("w.pth"), arrays);
        let flags = [&[&images, "--out", &out], flags].concat();
        one_error(&run("embed", &weights, &flags))
    };
    let refuse = |arrays: &Arrays| refuse_with(arrays, &[]);
    let named = |f: &dyn Fn(&str) -> String| -> Arrays {
        backbone(3).into_iter().map(|(k, v)| (f(&k), v)).collect()
    };
    let told = refuse(&named(&|k| {
        k.replace("cls_token", "class_embedding")
            .replace("patch_embed", "conv1")
    }));
    assert!(
        told.contains("blocks.0.attn.proj.bias") && told.contains("tensors"),
        "{told}"
    );
    let student = named(&|k| format!("student.net.{k}"));
    let told = refuse_with(&student, &["--checkpoint-key", "teacher"]);
    assert!(told.contains("has no teacher, only student"), "{told}");
    let flags = told
        .split("choose by ")
        .nth(1)
        .unwrap()
        .split(' ')
        .collect::<Vec<_>>();
    let weights = root.path().join("w.pth");
    done(&run(
        "embed",
        &weights,
        &[&[&images[..], "--out", &out], &flags[..]].concat(),
    ));
    let mut two = named(&|k| format!("vision.{k}"));
    two.extend(named(&|k| format!("depth.{k}")));
    let told = refuse(&two);
    assert!(told.contains("depth., vision."), "{told}");
}

/// Images that would be millions of patches, beside one that is not.
#[test]
fn strips_are_left_out_with_advice_that_helps() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| place(root.path(), name);
    let weights = save(&root.path().join("w.pth"), &backbone(3));
    for (width, height) in [(6000, 3), (3, 6000), (5000, 90), (40, 30)] {
        picture(
            &root.path().join(format!("images/{width}x{height}.png")),
            width,
            height,
        );
    }
    let images = at("images");
    for flags in [&[][..], &["--joint"]] {
        let all = [&[images, "--out", at("colours")], flags].concat();
        let told = done(&run("pca", &weights, &all));
        assert!(
            told.contains("colours of 1 image ") && told.contains("3 skipped"),
            "{told}"
        );
        for name in ["6000x3.png", "3x6000.png", "5000x90.png"] {
            let line = told
                .lines()
                .find(|line| line.contains(&format!("skipped {name}")));
            let line = line.unwrap_or_else(|| panic!("{name}: {told}"));
            assert!(
                line.contains("patches") && line.contains("--size HEIGHTxWIDTH"),
                "{line}"
            );
        }
    }
    let all = [images, "--out", at("colours"), "--size", "480x480"];
    let told = done(&run("pca", &weights, &all));
    assert!(told.contains("colours of 4 images"), "{told}");
    // The same of frames, which are of one size.
    for verb in ["pca", "attend"] {
        let frames = at("frames");
        picture(&root.path().join("frames/0.png"), 5000, 40);
        let told = one_error(&run(
            verb,
            &weights,
            &[frames, "--video", "--out", at("film")],
        ));
        assert!(told.contains("--size HEIGHTxWIDTH"), "{told}");
        let sized = [frames, "--video", "--out", at("film"), "--size", "480x480"];
        done(&run(verb, &weights, &sized));
    }
    // One alone: no image is left.
    let one = at("images/6000x3.png");
    one_error(&run("pca", &weights, &[one, "--out", at("colours")]));
    // What squeezes or cuts takes them all.
    let told = done(&run("attend", &weights, &[images, "--out", at("maps")]));
    assert!(told.contains("attention maps of 4 images"), "{told}");
    let told = done(&run("embed", &weights, &[images, "--out", at("f.npy")]));
    assert!(told.contains("4 features"), "{told}");
    // Whole tokens: left out too, with what helps.
    let whole = [
        images,
        "--patch-tokens",
        "--whole",
        "--out",
        at("t.safetensors"),
    ];
    let told = done(&run("embed", &weights, &whole));
    assert!(
        told.contains("skipped 6000x3.png") && told.contains("--size"),
        "{told}"
    );
    let sized = [
        images,
        "--patch-tokens",
        "--size",
        "64x32",
        "--out",
        at("t.npy"),
    ];
    done(&run("embed", &weights, &sized));
    assert_eq!(read_npy_f32(at("t.npy")).unwrap().shape, [4, 8, 4, 16]);
}

#[test]
fn sizes_that_no_machine_computes_are_refused_by_their_flag() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| place(root.path(), name);
    let weights = save(&root.path().join("w.pth"), &backbone(3));
    common::pictures(&root.path().join("images"), 2);
    let (images, out) = (at("images"), at("f.npy"));
    for flags in [
        &["--size", "9000"][..],
        &["--resize", "5000", "--crop", "4800"],
        &["--patch-tokens", "--size", "9000"],
    ] {
        let all = [&[images, "--out", out], flags].concat();
        let told = one_error(&run("embed", &weights, &all));
        assert!(told.contains("patches") && told.contains("--"), "{told}");
    }
    let told = one_error(&run(
        "attend",
        &weights,
        &[images, "--out", at("m"), "--size", "1000000"],
    ));
    assert!(told.contains("no image could be used"), "{told}");
    for flag in ["global-crops-size", "attention-size"] {
        let told = Train::tiny(&root.path().join("run"))
            .with(flag, 1_000_000)
            .fail();
        assert!(told.contains(&format!("--{flag}")), "{told}");
    }
    for flag in ["--global-crops-size", "--local-crops-size"] {
        let mut bench = program();
        bench.args(["bench", "step", flag, "1000000", "--steps", "1"]);
        one_error(&bench.output().unwrap());
    }
}

#[test]
fn patch_tokens_are_written_as_they_are_asked_for() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| place(root.path(), name);
    let weights = save(&root.path().join("w.pth"), &backbone(3));
    for (name, width, height) in [
        ("a/1.png", 60, 40),
        ("a/2.png", 40, 60),
        ("b/3.png", 64, 64),
    ] {
        picture(&root.path().join("images").join(name), width, height);
    }
    fs::write(root.path().join("images/b/4.png"), "no picture").unwrap();
    let images = at("images");
    let embed = |rest: &[&str]| run("embed", &weights, &[&[images], rest].concat());
    let told = done(&embed(&[
        "--patch-tokens",
        "--resize",
        "40",
        "--crop",
        "32x40",
        "--out",
        at("t.npy"),
    ]));
    assert!(
        told.contains("[3, 4, 5, 16]") && told.contains("skipped b/4.png"),
        "{told}"
    );
    let tokens = read_npy_f32(at("t.npy")).unwrap();
    assert_eq!(tokens.shape, [3, 4, 5, 16]);
    assert_eq!(
        fs::read_to_string(at("t.paths.txt")).unwrap(),
        "a/1.png\na/2.png\nb/3.png\n"
    );
    assert_eq!(fs::read_to_string(at("t.labels.txt")).unwrap(), "a\na\nb\n");
    // Their mean is the feature that is called so.
    let mean = [
        "--avgpool-patchtokens",
        "true",
        "--resize",
        "40",
        "--crop",
        "32x40",
        "--out",
        at("m.npy"),
    ];
    done(&embed(&mean));
    let features = read_npy_f32(at("m.npy")).unwrap();
    for (image, feature) in tokens.data.chunks(4 * 5 * 16).zip(features.data.chunks(32)) {
        for d in 0..16 {
            let mean = image.iter().skip(d).step_by(16).sum::<f32>() / 20.0;
            assert!((mean - feature[16 + d]).abs() < 1e-5);
        }
    }
    // Whole images: an array each, by their paths.
    let out = at("w.safetensors");
    done(&embed(&[
        "--patch-tokens",
        "--whole",
        "--resize",
        "32",
        "--n-last-blocks",
        "2",
        "--out",
        out,
    ]));
    let (arrays, _) = file_arrays(out.as_ref(), &fs::read(out).unwrap()).unwrap();
    let shapes: Vec<_> = arrays
        .iter()
        .map(|(k, v)| (k.as_str(), v.shape.clone()))
        .collect();
    assert_eq!(
        shapes,
        [
            ("a/1.png", vec![4, 6, 32]),
            ("a/2.png", vec![6, 4, 32]),
            ("b/3.png", vec![4, 4, 32])
        ]
    );
    // What does not go together.
    let told = one_error(&embed(&["--patch-tokens", "--whole", "--out", at("w.npy")]));
    assert!(told.contains(".safetensors"), "{told}");
    assert!(!root.path().join("w.npy").exists());
    assert_eq!(embed(&["--whole", "--out", out]).status.code(), Some(2));
}

/// A run's own checkpoint goes on as it was.
#[test]
fn runs_are_read_as_before() {
    let root = TempDir::new().unwrap();
    let run_folder = root.path().join("run");
    Train::tiny(&run_folder).with("epochs", 1).succeed();
    let weights = dinolab_nn::weights::read(&newest(&run_folder), None).unwrap();
    let tensors = common::tensors(&run_folder);
    assert_eq!(
        weights.arrays["backbone.cls_token"],
        tensors["teacher.backbone.cls_token"]
    );
    assert_eq!(weights.centre.as_ref(), Some(&tensors["centre"].data));
    let teachers = tensors
        .keys()
        .filter(|name| name.starts_with("teacher."))
        .count();
    assert_eq!(weights.arrays.len(), teachers);
}
