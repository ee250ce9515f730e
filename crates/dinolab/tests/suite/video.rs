//! `dinolab eval video`, and pictures of videos.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{one_error, picture, program, text, usage_error};
use dinolab_data::Mask;
use dinolab_data::video;
use dinolab_eval::davis::Year;
use dinolab_view::GifWriter;
use dinolab_view::Rgb;
use image::codecs::jpeg::JpegEncoder;
use serde_json::Value;

/// A small network of random weights.
fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vit_custom/checkpoint.pth")
}

const SIZE: (usize, usize) = (96, 128);

/// A frame: two squares of colours of their own, which move over a striped ground.
fn frame(t: usize) -> image::RgbImage {
    image::RgbImage::from_fn(SIZE.1 as u32, SIZE.0 as u32, |x, y| {
        match object(x as usize, y as usize, t) {
            1 => image::Rgb([230, 40, 30]),
            2 => image::Rgb([20, 60, 220]),
            _ => image::Rgb([90 + (x % 8) as u8 * 4, 140, 90]),
        }
    })
}

fn object(x: usize, y: usize, t: usize) -> u8 {
    let square =
        |left: usize, top: usize| (left..left + 32).contains(&x) && (top..top + 32).contains(&y);
    if square(8 + 6 * t, 16) {
        1
    } else if square(88 - 4 * t, 56) {
        2
    } else {
        0
    }
}

fn mask(t: usize) -> Mask {
    let (height, width) = SIZE;
    Mask {
        width,
        height,
        data: (0..height * width)
            .map(|i| object(i % width, i / width, t))
            .collect(),
    }
}

fn davis(root: &Path, year: Year, frames: usize) {
    let list = root.join(match year {
        Year::Single => "ImageSets/480p/val.txt",
        Year::Multiple => "ImageSets/2017/val.txt",
    });
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    fs::write(list, "squares\n").unwrap();
    fs::create_dir_all(root.join("JPEGImages/480p/squares")).unwrap();
    for t in 0..frames {
        let image = root.join(format!("JPEGImages/480p/squares/{t:05}.jpg"));
        frame(t).save(image).unwrap();
        let annotation = root.join(format!("Annotations/480p/squares/{t:05}.png"));
        year.write_mask(&annotation, &mask(t)).unwrap();
    }
}

/// What the program prints to standard output; it has to succeed.
fn succeed(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn eval(tree: &Path) -> std::process::Command {
    let mut command = program();
    command.args(["eval", "video", "--json"]).arg(tree);
    command
}

#[test]
fn objects_are_followed_and_scored() {
    let root = tempfile::tempdir().unwrap();
    let (tree, out) = (root.path().join("davis"), root.path().join("masks"));
    davis(&tree, Year::Multiple, 6);
    let run = |out: &Path, threads: &str| -> Value {
        let said = succeed(
            eval(&tree)
                .args(["--size", "96", "--baselines", "--out"])
                .arg(out)
                .arg("--weights")
                .arg(weights())
                .env("RAYON_NUM_THREADS", threads),
        );
        serde_json::from_str(&said).unwrap()
    };
    let scores = run(&out, "2");
    assert_eq!(scores["year"], "2017");
    let methods: Vec<&str> = scores["video"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["method"].as_str().unwrap())
        .collect();
    assert_eq!(
        methods,
        ["network", "untrained network", "first mask copied"]
    );
    let number = |method: usize, key: &str| scores["video"][method][key].as_f64().unwrap();
    // Colours alone tell these squares apart, so that even random weights follow them.
    assert!(number(0, "j_and_f") > 0.5, "{scores}");
    assert!(number(0, "j_and_f") > number(2, "j_and_f"), "{scores}");
    assert_eq!(scores["video"][0]["objects"].as_array().unwrap().len(), 2);
    assert!(number(0, "frames_per_second") > 0.0);

    // The first mask is the given one; the others have its objects and the frames' size.
    for t in 0..6 {
        let found = Year::Multiple
            .read_mask(&out.join(format!("squares/{t:05}.png")))
            .unwrap();
        assert_eq!((found.height, found.width), SIZE);
        assert!(found.data.iter().all(|&label| label <= 2));
        if t == 0 {
            assert_eq!(found, mask(0));
        }
    }
    // Scored from the disk they are worth the same.
    let again = succeed(eval(&tree).arg("--results").arg(&out));
    let again: Value = serde_json::from_str(&again).unwrap();
    for key in ["j_and_f", "j", "f", "objects"] {
        assert_eq!(again["video"][0][key], scores["video"][0][key]);
    }
    // Whatever the threads.
    let other = root.path().join("other");
    run(&other, "1");
    for t in 0..6 {
        let name = format!("squares/{t:05}.png");
        assert_eq!(
            fs::read(out.join(&name)).unwrap(),
            fs::read(other.join(&name)).unwrap()
        );
    }
}

#[test]
fn one_object_without_annotations_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let (tree, out) = (root.path().join("davis"), root.path().join("masks"));
    davis(&tree, Year::Single, 4);
    for t in 1..4 {
        fs::remove_file(tree.join(format!("Annotations/480p/squares/{t:05}.png"))).unwrap();
    }
    let said = succeed(
        program()
            .args(["eval", "video", "--size", "64", "--out"])
            .arg(&out)
            .arg("--weights")
            .arg(weights())
            .arg(&tree),
    );
    assert!(said.contains("not scored"), "{said}");
    let last = Year::Single
        .read_mask(&out.join("squares/00003.png"))
        .unwrap();
    assert!(last.data.contains(&1));
    let error = one_error(&eval(&tree).arg("--results").arg(&out).output().unwrap());
    assert!(
        error.contains("squares") && error.contains("annotated"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("davis");
    davis(&tree, Year::Multiple, 3);
    let results = root.path().join("results");
    let error = one_error(&eval(&tree).arg("--results").arg(&results).output().unwrap());
    assert!(error.contains("00001.png"), "{error}");
    let error = one_error(
        &eval(root.path())
            .arg("--results")
            .arg(&results)
            .output()
            .unwrap(),
    );
    assert!(error.contains("ImageSets/2017/val.txt"), "{error}");
    let error = one_error(&eval(&tree).arg("--out").arg(&results).output().unwrap());
    assert!(error.contains("--weights"), "{error}");
    let error = usage_error(&eval(&tree).output().unwrap());
    assert!(
        error.contains("--out") || error.contains("required"),
        "{error}"
    );
    let mut hot = eval(&tree);
    hot.arg("--out")
        .arg(&results)
        .arg("--weights")
        .arg(weights());
    let error = one_error(&hot.args(["--size", "64", "--topk", "0"]).output().unwrap());
    assert!(error.contains("topk"), "{error}");
}

fn jpeg(t: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(t)
        .write_with_encoder(JpegEncoder::new(&mut bytes))
        .unwrap();
    bytes
}

fn attend(input: &Path, out: &Path) -> std::process::Command {
    let mut command = program();
    command.arg("attend").arg(input).arg("--out").arg(out);
    command.args(["--size", "64", "--weights"]).arg(weights());
    command
}

fn gif(path: &Path, frames: usize) {
    let mut gif = GifWriter::create(path).unwrap();
    for t in 0..frames {
        let image = frame(t);
        let picture = Rgb::new(SIZE.1, SIZE.0, image.into_raw()).unwrap();
        gif.add(&picture, 0.12).unwrap();
    }
    gif.finish().unwrap();
}

#[test]
fn attention_of_an_animation() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    gif(&at("clip.gif"), 3);
    // A folder of numbered frames, a kind and a map each.
    let said = succeed(attend(&at("clip.gif"), &at("out")).args([
        "--maps",
        "all",
        "--show",
        "heat,overlay,mask",
        "--threshold",
        "0.6",
    ]));
    assert!(said.contains("3 frames"), "{said}");
    for folder in ["mean", "mean-overlay", "head0-mask", "head1-overlay"] {
        let frames = fs::read_dir(at("out").join(folder)).unwrap().count();
        assert_eq!(frames, 3, "{folder}");
        let first = image::open(at("out").join(folder).join("00000.png")).unwrap();
        // The short side is 64, the long one cut to whole patches.
        assert_eq!(first.height(), 64);
        assert!((80..=85).contains(&first.width()));
    }
    // An animation as fast as the video, or as asked for.
    succeed(&mut attend(&at("clip.gif"), &at("mean.gif")));
    let frames: Vec<_> = video::open(&at("mean.gif"), 1 << 20)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(frames.len(), 3);
    assert!((frames[0].seconds - 0.12).abs() < 1e-9);
    assert_eq!(frames[0].image.height, 64);
    succeed(attend(&at("clip.gif"), &at("fast.gif")).args(["--fps", "20", "--maps", "all"]));
    let fast = video::open(&at("fast.gif"), 1 << 20)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert!((fast.seconds - 0.05).abs() < 1e-9);
    assert!(fast.image.width > 2 * frames[0].image.width);
}

#[test]
fn attention_of_motion_jpeg_and_of_folders() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let stream: Vec<u8> = (0..4).flat_map(jpeg).collect();
    fs::write(at("clip.mjpeg"), &stream).unwrap();
    let said = succeed(attend(&at("clip.mjpeg"), &at("a.gif")).arg("--json"));
    assert!(said.contains("\"frames\":4"), "{said}");
    for t in 0..4 {
        fs::create_dir_all(at("frames")).unwrap();
        fs::write(at("frames").join(format!("{t:03}.jpg")), jpeg(t)).unwrap();
    }
    succeed(attend(&at("frames"), &at("b.gif")).arg("--video"));
    // The same frames at the same speed: the same file.
    assert!(fs::read(at("a.gif")).unwrap() == fs::read(at("b.gif")).unwrap());
    // Cut short, it is an error that names the frame, and no file is left.
    fs::write(at("cut.mjpeg"), &stream[..stream.len() - 40]).unwrap();
    let error = one_error(&attend(&at("cut.mjpeg"), &at("c.gif")).output().unwrap());
    assert!(error.contains("frame 3"), "{error}");
    assert!(!at("c.gif").exists());
    let error = one_error(&attend(&at("frames"), &at("d.gif")).output().unwrap());
    assert!(error.contains("--video"), "{error}");
    // Images are pictures of their own, of the maps that are asked for.
    let mut stills = attend(&at("frames"), &at("stills"));
    succeed(stills.args(["--maps", "1", "--show", "overlay"]));
    assert!(at("stills/000-head1-overlay.png").exists());
    assert!(at("stills/000-attention.npy").exists());
    assert!(!at("stills/000-mean-overlay.png").exists());
    let error = one_error(
        &attend(&at("frames"), &at("e"))
            .args(["--maps", "99"])
            .output()
            .unwrap(),
    );
    assert!(error.contains("--maps 99"), "{error}");
}

#[test]
fn other_videos_take_ffmpeg() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::write(at("clip.mp4"), b"\0\0\0\x18ftypmp42").unwrap();
    let empty = at("empty");
    fs::create_dir(&empty).unwrap();
    let error = one_error(
        &attend(&at("clip.mp4"), &at("a.gif"))
            .env("PATH", &empty)
            .output()
            .unwrap(),
    );
    assert!(
        error.contains("ffmpeg") && error.contains("install"),
        "{error}"
    );
}

/// A stand-in for ffmpeg that describes any input and writes pictures, or fails.
#[cfg(unix)]
#[test]
fn pictures_come_from_ffmpeg_by_a_pipe() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let mut stream = Vec::new();
    for t in 0..3 {
        stream.extend(format!("P6\n{} {}\n255\n", SIZE.1, SIZE.0).bytes());
        stream.extend(frame(t).into_raw());
    }
    fs::write(at("pictures.ppm"), &stream).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*hide_banner*) echo '  Stream #0:0: Video: h264, 10 fps, 10 tbr' >&2; exit 1;;\n\
         *broken*) echo 'moov atom not found' >&2; exit 1;;\n*) cat '{}';;\nesac\n",
        at("pictures.ppm").display()
    );
    fs::create_dir(at("bin")).unwrap();
    fs::write(at("bin/ffmpeg"), script).unwrap();
    fs::set_permissions(at("bin/ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", at("bin").display());
    fs::write(at("clip.mp4"), "stands for a video").unwrap();
    let mut command = attend(&at("clip.mp4"), &at("a.gif"));
    succeed(command.env("PATH", &path));
    let frames: Vec<_> = video::open(&at("a.gif"), 1 << 20)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(frames.len(), 3);
    assert!((frames[0].seconds - 0.1).abs() < 1e-9);
    fs::write(at("broken.mp4"), "stands for no video").unwrap();
    let mut command = attend(&at("broken.mp4"), &at("b.gif"));
    let error = one_error(&command.env("PATH", &path).output().unwrap());
    assert!(error.contains("moov atom not found"), "{error}");
}

#[test]
fn colours_of_patches() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let pca = |input: &Path, out: &Path| {
        let mut command = program();
        command.arg("pca").arg(input).arg("--out").arg(out);
        command.args(["--size", "64", "--weights"]).arg(weights());
        command
    };
    for i in 0..3 {
        picture(&at(&format!("images/{i}.png")), 70, i);
    }
    fs::write(at("images/broken.png"), "none").unwrap();
    let own = pca(&at("images"), &at("own")).output().unwrap();
    assert!(own.status.success(), "{}", text(&own.stderr));
    assert!(
        text(&own.stderr).contains("skipped broken.png"),
        "{}",
        text(&own.stderr)
    );
    let said = succeed(pca(&at("images"), &at("joint")).args(["--joint", "--json"]));
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap()["skipped"],
        serde_json::json!(1)
    );
    let open = |path: &str| image::open(at(path)).unwrap().into_rgb8();
    assert_eq!(open("own/0-pca.png").dimensions(), (64, 64));
    // Components that are shared give other colours than an image's own.
    assert_ne!(open("own/0-pca.png"), open("joint/0-pca.png"));
    succeed(pca(&at("images"), &at("front")).args([
        "--joint",
        "--foreground",
        "--side-by-side",
        "--no-interpolation",
    ]));
    let beside = open("front/1-pca.png");
    assert_eq!(beside.dimensions(), (64 * 2 + 3 * 4, 64 + 2 * 4));
    gif(&at("clip.gif"), 3);
    let said = succeed(&mut pca(&at("clip.gif"), &at("clip-pca.gif")));
    assert!(said.contains("3 frames"), "{said}");
    assert_eq!(
        video::open(&at("clip-pca.gif"), 1 << 20).unwrap().count(),
        3
    );
    succeed(&mut pca(&at("clip.gif"), &at("frames")));
    assert_eq!(fs::read_dir(at("frames")).unwrap().count(), 3);
    fs::create_dir(at("none")).unwrap();
    fs::write(at("none/broken.png"), "none").unwrap();
    let error = one_error(
        &pca(&at("none"), &at("x"))
            .args(["--joint"])
            .output()
            .unwrap(),
    );
    assert!(error.contains("no image could be used"), "{error}");
}
