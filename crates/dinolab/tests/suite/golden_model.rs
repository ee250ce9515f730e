//! A checkpoint of the reference implementation, from file to features and attention, against
//! the numbers that implementation computed; through the libraries and through the program.
//!
//! Patch 16, trained size 224, width 128, depth 6, 2 heads; random weights. The images are
//! decoded and resized here by our own code, so that the deviations are those of the whole
//! way from JPEG to feature.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Arrays, device, device_name, one_error, program, relative, text};
use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::eval;
use dinolab_data::augment::resize::CropBox;
use dinolab_data::{Image, decode};
use dinolab_features::{Preprocess, attend, whole_patches};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{LoadOptions, NetworkRole, Weights, file_arrays, load, read};
use dinolab_nn::{Head, ProjectionHead, Tensor, Vit};
use dinolab_run::npy::read_npy_f32;

const IMAGES: [&str; 2] = ["n01532829_house_finch", "n07753592_banana"];
const CLS224: f64 = 5e-5;
const ATTENTION: f64 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/vit_custom")
        .join(name)
}

fn expected() -> Arrays {
    let path = fixture("expected.safetensors");
    file_arrays(&path, &fs::read(&path).unwrap()).unwrap().0
}

fn backbone(weights: &Weights) -> Vit {
    let config = weights.vit_config(None).unwrap();
    let mut vit = Vit::new(&config, &mut Init::new(0), &device()).unwrap();
    let report = load(&mut vit, "backbone", weights, LoadOptions::default()).unwrap();
    assert!(
        report.missing.is_empty() && report.resized.is_empty(),
        "{report}"
    );
    assert!(
        report
            .left_over
            .iter()
            .all(|name| name.starts_with("head.")),
        "{report}"
    );
    vit
}

fn image(stem: &str) -> Image {
    let name = format!("{stem}.jpg");
    decode::decode(&name, &fs::read(fixture(&name)).unwrap(), u64::MAX).unwrap()
}

fn normaliser() -> ChannelNormaliser {
    let preprocess = Preprocess::default();
    preprocess.normaliser().unwrap()
}

/// A batch of one image as it is.
fn input(view: &Image) -> Tensor<4> {
    let planes = normaliser().planes(view).unwrap();
    let flat = Tensor::<1>::from_floats(planes.as_slice(), &device());
    flat.reshape([1, 3, view.height, view.width])
}

/// Prints a deviation (shown with `--nocapture`) and checks it.
fn check(what: &str, found: &[f32], expected: &[f32], limit: f64) {
    let deviation = relative(found, expected);
    println!("{what}: {deviation:.2e} of {limit:.0e}");
    assert!(deviation < limit, "{what}: {deviation}");
}

/// As [`check`], for each head's map by itself.
fn check_maps(what: &str, found: &[f32], expected: &[f32], heads: usize) {
    assert_eq!(found.len(), expected.len());
    let size = found.len() / heads;
    for (head, (ours, theirs)) in found.chunks(size).zip(expected.chunks(size)).enumerate() {
        check(&format!("{what} head {head}"), ours, theirs, ATTENTION);
    }
}

#[test]
fn sizes_are_read_from_the_checkpoint() {
    let weights = read(&fixture("checkpoint.pth"), NetworkRole::Teacher).unwrap();
    let vit = weights.vit_config(None).unwrap();
    assert_eq!((vit.patch_size, vit.image_size, vit.channels), (16, 224, 3));
    assert_eq!(
        (vit.width, vit.depth, vit.heads, vit.mlp_ratio),
        (128, 6, 2, 4)
    );
    let head = weights.head_config().unwrap();
    assert_eq!(
        (head.hidden_dim, head.bottleneck_dim, head.out_dim),
        (192, 64, 256)
    );
    assert_eq!((head.layers, head.use_bn), (3, false));
}

#[test]
fn class_tokens_and_logits_of_the_evaluation_view() {
    let (weights, expected) = (
        read(&fixture("checkpoint.pth"), NetworkRole::Teacher).unwrap(),
        expected(),
    );
    let vit = backbone(&weights);
    let config = weights.head_config().unwrap();
    let mut head = Head::new(&config, vit.config().width, &mut Init::new(0), &device()).unwrap();
    load(&mut head, "head", &weights, LoadOptions::default()).unwrap();
    for stem in IMAGES {
        let view = eval::features(&image(stem), 256, 224).unwrap();
        let input = input(&view);
        let cls = vit.forward(input.clone());
        let of = |name: &str| &expected[&format!("{stem}.{name}")].data;
        check(
            &format!("{stem} cls224"),
            &to_host_f32(cls.clone()),
            of("cls224"),
            CLS224,
        );
        check(
            &format!("{stem} head"),
            &to_host_f32(head.forward(cls)),
            of("head"),
            CLS224,
        );
        // Class tokens of the last four blocks, each after the final norm, earliest first.
        let tokens = vit.intermediate(input, 4);
        let features: Vec<f32> = tokens
            .into_iter()
            .flat_map(|t| to_host_f32(t.narrow(1, 0, 1)))
            .collect();
        check(
            &format!("{stem} linear_feat"),
            &features,
            of("linear_feat"),
            CLS224,
        );
    }
}

#[test]
fn attention_maps_of_both_sizes() {
    let (weights, expected) = (
        read(&fixture("checkpoint.pth"), NetworkRole::Teacher).unwrap(),
        expected(),
    );
    let vit = backbone(&weights);
    for stem in IMAGES {
        let view = eval::features(&image(stem), 256, 224).unwrap();
        let maps = attend(&vit, &view, &normaliser()).unwrap();
        assert_eq!((maps.heads, maps.grid), (2, (14, 14)));
        check_maps(
            &format!("{stem} attn224"),
            &maps.maps,
            &expected[&format!("{stem}.attn224")].data,
            2,
        );
        let large = whole_patches(&image(stem), Some((480, 480)), 16).unwrap();
        let maps = attend(&vit, &large, &normaliser()).unwrap();
        assert_eq!(maps.grid, (30, 30));
        check_maps(
            &format!("{stem} attn480"),
            &maps.maps,
            &expected[&format!("{stem}.attn480")].data,
            2,
        );
    }
}

#[test]
fn a_rectangle_resamples_the_position_embeddings() {
    let (weights, expected) = (
        read(&fixture("checkpoint.pth"), NetworkRole::Teacher).unwrap(),
        expected(),
    );
    let vit = backbone(&weights);
    for stem in IMAGES {
        let large = whole_patches(&image(stem), Some((480, 480)), 16).unwrap();
        let corner = CropBox {
            top: 0,
            left: 0,
            height: 320,
            width: 448,
        };
        let corner = eval::crop(&large, corner).unwrap();
        let input = input(&corner);
        let found = to_host_f32(vit.forward(input));
        check(
            &format!("{stem} cls320x448"),
            &found,
            &expected[&format!("{stem}.cls320x448")].data,
            CLS224,
        );
    }
}

/// A folder with the two images, whose names do not sort as their paths' depth does.
fn images(root: &Path) -> PathBuf {
    let folder = root.join("images");
    fs::create_dir_all(folder.join("a")).unwrap();
    // The banana comes first: `a/…` sorts before `n…`.
    fs::copy(
        fixture("n07753592_banana.jpg"),
        folder.join("a/n07753592_banana.jpg"),
    )
    .unwrap();
    fs::copy(
        fixture("n01532829_house_finch.jpg"),
        folder.join("n01532829_house_finch.jpg"),
    )
    .unwrap();
    folder
}

#[test]
fn the_program_embeds() {
    let root = tempfile::tempdir().unwrap();
    let (folder, out) = (images(root.path()), root.path().join("features.npy"));
    let embed = |out: &Path| {
        let mut command = program();
        command
            .arg("embed")
            .arg("--weights")
            .arg(fixture("checkpoint.pth"));
        command.args(["--device", &device_name()]);
        command.arg(&folder).arg("--out").arg(out).output().unwrap()
    };
    let output = embed(&out);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The account of the loaded weights is for people, on standard error.
    assert!(
        text(&output.stderr).contains("loaded"),
        "{}",
        text(&output.stderr)
    );

    let features = read_npy_f32(&out).unwrap();
    assert_eq!(features.shape, [2, 128]);
    let paths = fs::read_to_string(out.with_extension("paths.txt")).unwrap();
    assert_eq!(paths, "a/n07753592_banana.jpg\nn01532829_house_finch.jpg\n");
    let expected = expected();
    for (row, path) in features.data.chunks(128).zip(paths.lines()) {
        let stem = Path::new(path).file_stem().unwrap().to_str().unwrap();
        check(
            &format!("embed {stem}"),
            row,
            &expected[&format!("{stem}.cls224")].data,
            CLS224,
        );
    }

    let out = root.path().join("features.safetensors");
    assert!(embed(&out).status.success());
    let (arrays, _) = file_arrays(&out, &fs::read(&out).unwrap()).unwrap();
    assert_eq!(arrays["features"].shape, [2, 128]);
    assert_eq!(arrays["features"].data, features.data);
    assert!(one_error(&embed(&root.path().join("features.csv"))).contains("--out"));
}

#[test]
fn the_program_shows_attention() {
    let root = tempfile::tempdir().unwrap();
    let (folder, out) = (images(root.path()), root.path().join("attention"));
    let output = program()
        .args(["attend", "--size", "480", "--threshold", "0.6"])
        .args(["--device", &device_name(), "--weights"])
        .arg(fixture("checkpoint.pth"))
        .arg(&folder)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = expected();
    for (stem, written) in IMAGES
        .into_iter()
        .zip(["n01532829_house_finch", "a-n07753592_banana"])
    {
        let maps = read_npy_f32(out.join(format!("{written}-attention.npy"))).unwrap();
        assert_eq!(maps.shape, [2, 30, 30]);
        let theirs = &expected[&format!("{stem}.attn480")].data;
        check_maps(&format!("attend {stem}"), &maps.data, theirs, 2);
        for which in ["head0", "head1", "mean"] {
            for kind in ["", "-overlay", "-mask"] {
                let file = out.join(format!("{written}-{which}{kind}.png"));
                let picture =
                    image::open(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                assert_eq!((picture.width(), picture.height()), (480, 480));
            }
        }
    }
}

#[test]
fn weights_that_are_none_are_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    let embed = |weights: &Path| {
        let mut command = program();
        command
            .arg("embed")
            .arg("--weights")
            .arg(weights)
            .arg(&folder);
        one_error(
            &command
                .arg("--out")
                .arg(root.path().join("x.npy"))
                .output()
                .unwrap(),
        )
    };
    let whole = fs::read(fixture("checkpoint.pth")).unwrap();
    let cut = root.path().join("cut.pth");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    assert!(embed(&cut).contains("cut.pth"));
    fs::write(&cut, b"").unwrap();
    assert!(embed(&cut).contains("cut.pth"));
    assert!(embed(&folder.join("n01532829_house_finch.jpg")).contains("neither"));
    assert!(embed(&root.path().join("absent.pth")).contains("absent.pth"));
    assert!(embed(&folder).contains("checkpoints"));
    assert!(!root.path().join("x.npy").exists());
}
