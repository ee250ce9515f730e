//! `dinolab embed --format parquet`: a folder that several processes fill, and that is whole in the end.
#![cfg(feature = "parquet")]

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Train, one_error, picture, program, text};
use dinolab_nn::weights::file_arrays;
use dinolab_run::feature_set::FeatureSet;
use tempfile::TempDir;

/// Images, of which one cannot be read.
const IMAGES: usize = 40;
/// Images of a part.
const SIZE: usize = 7;

/// A run, and pictures of two classes.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        for i in 0..IMAGES as u32 - 1 {
            picture(
                &place.path(&format!("photos/{}/{i}.png", ["a", "b"][i as usize % 2])),
                48,
                7 * i,
            );
        }
        fs::write(place.path("photos/b/broken.png"), "no picture").unwrap();
        Train::tiny(&place.path("run")).with("epochs", 1).succeed();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn embed(&self, out: &str, flags: &[&str]) -> Command {
        let mut command = program();
        command
            .args(["embed", "--weights"])
            .arg(self.path("run"))
            .arg(self.path("photos"));
        command.arg("--out").arg(self.path(out)).args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn parts(&self, out: &str, flags: &[&str]) -> Command {
        let size = SIZE.to_string();
        self.embed(
            out,
            &[&["--format", "parquet", "--part-size", &size][..], flags].concat(),
        )
    }

    fn single(&self) -> FeatureSet {
        succeed(&mut self.embed("single.npy", &[]));
        FeatureSet::read(&self.path("single.npy")).unwrap()
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Arrays and metadata of a safetensors file.
fn arrays(path: &Path) -> (common::Arrays, BTreeMap<String, String>) {
    file_arrays(path, &fs::read(path).unwrap()).unwrap()
}

fn verify(folder: &Path) -> Result<String, String> {
    let output = program()
        .args(["embed", "--verify"])
        .arg(folder)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(one_error(&output)),
    }
}

/// The parts that are there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "parquet")
    });
    found.sort();
    found
}

#[test]
fn shards_in_any_order_are_the_single_run() {
    let place = Place::new();
    let single = place.single();
    assert_eq!(single.len(), IMAGES - 1);
    let folder = place.path("f");
    let told = succeed(&mut place.parts("f", &["--shard", "3/3"]));
    assert!(
        told.contains("2 parts written") && told.contains("40 images in 6 parts"),
        "{told}"
    );
    assert!(
        verify(&folder)
            .unwrap_err()
            .contains("4 of 6 parts are missing: 0, 1, 3, 4")
    );
    succeed(&mut place.parts("f", &["--shard", "1/3"]));
    let array = [("ID", "5"), ("COUNT", "3"), ("MIN", "4"), ("MAX", "6")];
    let array = array.map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value));
    let told = succeed(place.parts("f", &[]).envs(array));
    assert!(told.contains("2 parts written"), "{told}");
    let told = verify(&folder).unwrap();
    assert!(
        told.contains("39 features, 1 images that could not be used"),
        "{told}"
    );
    // Bit for bit, with names and classes.
    assert_eq!(FeatureSet::read(&folder).unwrap(), single);
    // Nothing is left to do, and nothing is touched.
    let before: Vec<_> = files(&folder)
        .iter()
        .map(|path| fs::metadata(path).unwrap().modified().unwrap())
        .collect();
    let told = succeed(&mut place.parts("f", &[]));
    assert!(
        told.contains("0 parts written") && told.contains("6 were there"),
        "{told}"
    );
    let after: Vec<_> = files(&folder)
        .iter()
        .map(|path| fs::metadata(path).unwrap().modified().unwrap())
        .collect();
    assert_eq!(before, after);
    // Verbs take the folder for saved features.
    let knn = |features: &Path| {
        let mut command = program();
        command
            .args(["eval", "knn", "--json", "--train"])
            .arg(features)
            .arg("--val")
            .arg(features);
        succeed(&mut command)
    };
    let file = place.path("single.npy");
    assert_eq!(knn(&folder), knn(&file));
    let linear = |features: &Path| {
        let mut command = program();
        command.args(["eval", "linear", "--json", "--standardise", "--epochs", "3"]);
        command
            .arg("--train")
            .arg(features)
            .arg("--val")
            .arg(features);
        command.arg("--out").arg(place.path("classifier"));
        (succeed(&mut command), arrays(&place.path("classifier")))
    };
    assert!(linear(&folder) == linear(&file));
    let retrieval = |features: &Path| {
        let mut command = program();
        succeed(command.args(["eval", "retrieval", "--json"]).arg(features))
    };
    assert_eq!(retrieval(&folder), retrieval(&file));
}

#[test]
fn shards_are_whitened_as_all_features_at_once_are() {
    let place = Place::new();
    succeed(&mut place.embed("white.npy", &["--whiten"]));
    let single = FeatureSet::read(&place.path("white.npy")).unwrap();
    let folder = place.path("f");
    // The first process has nothing to fit to yet.
    let told = succeed(&mut place.parts("f", &["--whiten", "--shard", "1/2"]));
    assert!(
        told.contains("3 parts written") && told.contains("not whitened yet: 3 parts"),
        "{told}"
    );
    assert!(
        verify(&folder)
            .unwrap_err()
            .contains("_manifest.json is missing")
    );
    assert!(
        verify(&folder.join("_unwhitened"))
            .unwrap_err()
            .contains("3 of 6 parts are missing")
    );
    // The second has, and whitens its own.
    let told = succeed(&mut place.parts("f", &["--whiten", "--shard", "2/2"]));
    assert!(
        told.contains("3 parts written") && !told.contains("not whitened"),
        "{told}"
    );
    assert!(
        verify(&folder)
            .unwrap_err()
            .contains("3 of 6 parts are missing")
    );
    // One is killed in the middle, and run again.
    let mut child = place.parts("f", &["--whiten"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(60));
    let _ = child.kill();
    child.wait().unwrap();
    succeed(&mut place.parts("f", &["--whiten"]));
    assert!(verify(&folder).unwrap().contains("39 features, 1 images"));
    let transform = folder.join("_whitening.safetensors");
    assert!(arrays(&transform) == arrays(&place.path("white.whitening.safetensors")));
    assert_eq!(FeatureSet::read(&folder).unwrap(), single);
    // The first pass is features like any others.
    assert_eq!(
        FeatureSet::read(&folder.join("_unwhitened")).unwrap(),
        place.single()
    );
    // Without it, there is nothing left to do either.
    fs::remove_dir_all(folder.join("_unwhitened")).unwrap();
    let told = succeed(&mut place.parts("f", &["--whiten"]));
    assert!(
        told.contains("0 parts written") && told.contains("6 were there"),
        "{told}"
    );
    assert!(!folder.join("_unwhitened").exists());
    // In half precision it is the same transform.
    succeed(&mut place.parts("half", &["--whiten", "--feature-type", "f16"]));
    assert!(arrays(&place.path("half/_whitening.safetensors")) == arrays(&transform));
    // Queries are whitened by it.
    let mut command = program();
    command.args(["neighbours", "--json", "--k", "1", "--weights"]);
    command
        .arg(place.path("run"))
        .arg("--whitening")
        .arg(&transform);
    let found = succeed(command.arg(&folder).arg(place.path("photos/a/10.png")));
    assert!(found.contains("a/10.png"), "{found}");
    // Neither plain features nor those of another transform go here.
    for flags in [
        &[][..],
        &[
            "--whitening",
            transform.to_str().unwrap(),
            "--feature-type",
            "f16",
        ],
    ] {
        let told = one_error(&place.parts("f", flags).output().unwrap());
        assert!(told.contains("holds features of another"), "{told}");
    }
}

#[test]
fn patch_tokens_are_those_of_a_file() {
    let place = Place::new();
    succeed(&mut place.embed("tokens.npy", &["--patch-tokens"]));
    let npy = dinolab_run::npy::read_npy_f32(place.path("tokens.npy")).unwrap();
    let [images, rows, columns, width] = npy.shape[..] else {
        panic!("{:?}", npy.shape);
    };
    assert_eq!(images, IMAGES - 1);
    let folder = place.path("f");
    succeed(&mut place.parts("f", &["--patch-tokens", "--shard", "1/2"]));
    succeed(&mut place.parts("f", &["--patch-tokens"]));
    assert!(
        verify(&folder)
            .unwrap()
            .contains("whole: 40 images in 6 parts")
    );
    // The numbers lie plainly in the files, an image's after the other's.
    let parts: Vec<Vec<u8>> = files(&folder)
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    let (mut part, mut place_in) = (0, 0);
    for image in npy.data.chunks(rows * columns * width) {
        let bytes: Vec<u8> = image.iter().flat_map(|value| value.to_le_bytes()).collect();
        let find = |all: &[u8]| all.windows(bytes.len()).position(|window| window == bytes);
        match find(&parts[part][place_in..]) {
            Some(found) => place_in += found + bytes.len(),
            None => {
                part += 1;
                place_in = find(&parts[part]).expect("the next part has it") + bytes.len();
            }
        }
    }
    assert_eq!(part, parts.len() - 1);
    let shape = format!("[{rows}, {columns}, {width}]");
    let has = |all: &[u8]| {
        all.windows(shape.len())
            .any(|window| window == shape.as_bytes())
    };
    assert!(
        parts.iter().all(|part| has(part)),
        "the footers say the shape"
    );
    let manifest = fs::read_to_string(folder.join("_manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let grid = &manifest["patch_tokens"];
    let found = ["rows", "columns", "width"].map(|key| grid[key].as_u64().unwrap() as usize);
    assert_eq!(found, [rows, columns, width]);
    // They are no features, and no features go with them.
    let error = FeatureSet::read(&folder).unwrap_err().to_string();
    assert!(error.contains("holds patch tokens"), "{error}");
    let refused = |flags: &[&str]| one_error(&place.parts("f", flags).output().unwrap());
    assert!(refused(&[]).contains("holds features of patch tokens"));
    let other = refused(&["--patch-tokens", "--crop", "16"]);
    assert!(
        other.contains("--crop") || other.contains("prepared in another way"),
        "{other}"
    );
}

/// Whole images of several sizes: every array of a `.safetensors` file is in the parts, in the order of the names.
#[test]
fn grids_that_differ_have_columns() {
    let place = Place::new();
    for (image, [width, height]) in [(3, [64, 40]), (4, [40, 72]), (20, [32, 96])] {
        let picture = image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 3) as u8, (y * 2) as u8, image])
        });
        let class = ["a", "b"][usize::from(image) % 2];
        let path = place.path(&format!("photos/{class}/{image}.png"));
        picture.save(path).unwrap();
    }
    let flags = ["--patch-tokens", "--whole", "--resize", "32"];
    succeed(&mut place.embed("tokens.safetensors", &flags));
    let (single, _) = arrays(&place.path("tokens.safetensors"));
    let shapes: BTreeSet<_> = single.values().map(|array| &array.shape).collect();
    assert!(shapes.len() > 2, "{shapes:?}");
    let folder = place.path("w");
    let shards: Vec<_> = [&["--shard", "2/2"], &["--shard", "1/2"]]
        .map(|shard| [&flags[..], shard].concat())
        .to_vec();
    for flags in &shards {
        succeed(&mut place.parts("w", flags));
    }
    let told = verify(&folder).unwrap();
    assert!(told.contains("whole: 40 images in 6 parts"), "{told}");
    let parts = files(&folder).into_iter();
    let all: Vec<u8> = parts.flat_map(|path| fs::read(path).unwrap()).collect();
    let mut first = 0;
    for (name, array) in &single {
        let bytes = array.data.iter().flat_map(|value| value.to_le_bytes());
        let bytes: Vec<u8> = bytes.collect();
        let found = all[first..].windows(bytes.len());
        let found = found.into_iter().position(|window| window == bytes);
        first += found.unwrap_or_else(|| panic!("{name} is missing or out of order"));
    }
    let width = single.values().next().unwrap().shape[2];
    let shape = format!("[null, null, {width}]").into_bytes();
    assert!(all.windows(shape.len()).any(|window| window == shape));
    let manifest = fs::read_to_string(folder.join("_manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(
        manifest["patch_tokens"],
        serde_json::json!({ "width": width })
    );
    // Equal grids do not go there.
    let told = one_error(&place.parts("w", &["--patch-tokens"]).output().unwrap());
    assert!(
        told.contains("another number of patches") || told.contains("another way"),
        "{told}"
    );
}

#[test]
fn a_part_of_unusable_images_is_a_part() {
    let place = Place::new();
    let size = ["--format", "parquet", "--part-size", "1"];
    succeed(&mut place.embed("f", &size));
    assert!(
        verify(&place.path("f"))
            .unwrap()
            .contains("whole: 40 images in 40 parts")
    );
    assert_eq!(FeatureSet::read(&place.path("f")).unwrap(), place.single());
}

#[test]
fn another_set_or_network_is_refused() {
    let place = Place::new();
    succeed(&mut place.parts("f", &["--shard", "1/6"]));
    let refused = |command: &mut Command| one_error(&command.output().unwrap());
    assert!(refused(&mut place.parts("f", &["--feature", "both"])).contains("another --feature"));
    assert!(refused(&mut place.parts("f", &["--crop", "16"])).contains("prepared in another way"));
    assert!(
        refused(&mut place.parts("f", &["--feature-type", "f16"]))
            .contains("another --feature-type")
    );
    let other = place.embed("f", &["--format", "parquet", "--part-size", "8"]);
    assert!(refused(&mut { other }).contains("--part-size 7"));
    Train::tiny(&place.path("other"))
        .with("epochs", 1)
        .with("seed", 5)
        .succeed();
    let mut command = place.parts("f", &[]);
    let other = command.arg("--weights").arg(place.path("other"));
    assert!(text(&other.output().unwrap().stderr).contains("--weights"));
    fs::rename(place.path("run"), place.path("first")).unwrap();
    fs::rename(place.path("other"), place.path("run")).unwrap();
    assert!(refused(&mut place.parts("f", &[])).contains("other weights"));
    fs::rename(place.path("run"), place.path("other")).unwrap();
    fs::rename(place.path("first"), place.path("run")).unwrap();
    fs::rename(
        place.path("photos/a/0.png"),
        place.path("photos/a/zero.png"),
    )
    .unwrap();
    assert!(refused(&mut place.parts("f", &[])).contains("images of other names"));
    fs::remove_file(place.path("photos/a/zero.png")).unwrap();
    assert!(refused(&mut place.parts("f", &[])).contains("40 images, not 39"));
    fs::write(place.path("photos/a/0.png"), "no picture").unwrap();
    assert!(refused(&mut place.parts("f", &["--whiten"])).contains("of another whitening"));
    let tokens = refused(&mut place.parts("f", &["--patch-tokens"]));
    assert!(
        tokens.contains("of whole images, not of patches"),
        "{tokens}"
    );
    assert!(!place.path("f/_unwhitened").exists());
    assert!(refused(&mut place.embed("f", &[])).contains("must end in .npy"));
    assert_eq!(files(&place.path("f")).len(), 1);
}

#[test]
fn killed_and_doubled_processes_leave_every_image_once() {
    let place = Place::new();
    let single = place.single();
    let folder = place.path("f");
    for kill in 0..12u64 {
        let shard = format!("{}/2", 1 + kill % 2);
        // Two at the same parts.
        let mut children: Vec<_> = (0..2)
            .map(|_| place.parts("f", &["--shard", &shard]).spawn().unwrap())
            .collect();
        std::thread::sleep(Duration::from_millis(15 * kill));
        for child in &mut children {
            let _ = child.kill();
            child.wait().unwrap();
        }
        // Whatever is visible is whole.
        if folder.join("_manifest.json").exists() {
            let told = verify(&folder).unwrap_or_else(|told| told);
            assert!(!told.contains("are wrong"), "{told}");
        }
    }
    succeed(&mut place.parts("f", &[]));
    assert!(verify(&folder).unwrap().contains("whole: 40 images"));
    assert_eq!(FeatureSet::read(&folder).unwrap(), single);
}

#[test]
fn damage_is_found_and_mended() {
    let place = Place::new();
    succeed(&mut place.parts("f", &["--feature-type", "f16"]));
    let folder = place.path("f");
    let (half, single) = (FeatureSet::read(&folder).unwrap(), place.single());
    assert_eq!(half.names, single.names);
    for (half, single) in half.data.iter().zip(&single.data) {
        assert!(
            (half - single).abs() <= 1e-3 * single.abs().max(1e-3),
            "{half} {single}"
        );
    }
    let parts = files(&folder);
    let whole = fs::read(&parts[2]).unwrap();
    // A bit of a feature, an end that is missing, another part's file.
    let mut bit = whole.clone();
    let middle = bit.len() / 3;
    bit[middle] ^= 1;
    for (damaged, reason) in [
        (bit, "damaged"),
        (whole[..whole.len() - 9].to_vec(), "damaged"),
        (fs::read(&parts[3]).unwrap(), "another part"),
    ] {
        fs::write(&parts[2], damaged).unwrap();
        let told = verify(&folder).unwrap_err();
        assert!(
            told.contains("1 of 6 parts are wrong: 2") && told.contains(reason),
            "{told}"
        );
        assert!(FeatureSet::read(&folder).is_err());
    }
    fs::remove_file(&parts[2]).unwrap();
    succeed(&mut place.parts("f", &["--feature-type", "f16"]));
    assert_eq!(FeatureSet::read(&folder).unwrap(), half);
    assert!(
        verify(&place.path("photos"))
            .unwrap_err()
            .contains("_manifest.json")
    );
}

#[test]
fn neighbours_in_a_folder_are_those_among_the_images() {
    let place = Place::new();
    succeed(&mut place.parts("f", &[]));
    let near = |images: &str, flags: &[&str], queries: &[&str]| {
        let mut command = program();
        command.args(["neighbours", "--json", "--k", "5", "--weights"]);
        command.arg(place.path("run")).args(flags);
        command.arg(place.path(images)).args(queries);
        command.output().unwrap()
    };
    let found = |images: &str, queries: &[&str]| -> Vec<(String, f64)> {
        let output = near(images, &[], queries);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let queries = answer["queries"].as_array().unwrap().iter();
        let neighbours = queries.flat_map(|query| query["neighbours"].as_array().unwrap());
        let pair = |one: &serde_json::Value| {
            let similarity = one["similarity"].as_f64().unwrap();
            (one["image"].as_str().unwrap().to_owned(), similarity)
        };
        neighbours.map(pair).collect()
    };
    // One of the set, by its name, and a picture from elsewhere.
    picture(&place.path("other.png"), 48, 999);
    let other = place.path("other.png").display().to_string();
    let queries = ["a/10.png", &other];
    let expected = found("photos", &queries);
    assert_eq!(expected.len(), 10);
    for ((image, similarity), (name, same)) in found("f", &queries).iter().zip(&expected) {
        assert_eq!(image, name);
        assert!(
            (similarity - same).abs() < 1e-6,
            "{image}: {similarity} {same}"
        );
    }

    // All pairs, too.
    let groups = |images: &str| -> Vec<Vec<(String, f64)>> {
        let output = near(images, &["--duplicates", "--threshold", "0.9"], &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let pair = |one: &serde_json::Value| {
            let similarity = one["similarity"].as_f64().unwrap();
            (one["image"].as_str().unwrap().to_owned(), similarity)
        };
        let groups = answer["groups"].as_array().unwrap().iter();
        let members =
            |group: &serde_json::Value| group.as_array().unwrap().iter().map(pair).collect();
        groups.map(members).collect()
    };
    let expected = groups("photos");
    assert!(!expected.is_empty());
    assert_eq!(groups("f"), expected);

    for (flags, queries, part) in [
        (
            &["--out", "near.html"][..],
            &["a/10.png"][..],
            "--out: shows pictures",
        ),
        (&["--index", "i"], &["a/10.png"], "--index: is of images"),
        (
            &["--whiten"],
            &["a/10.png"],
            "--whiten: is fitted to all images",
        ),
        (
            &["--feature", "both"],
            &["a/10.png"],
            "holds features of another --feature",
        ),
        (
            &[],
            &["a/99.png"],
            "a/99.png: is neither a file nor an image of",
        ),
    ] {
        let error = one_error(&near("f", flags, queries));
        assert!(error.contains(part), "{error}");
    }
    Train::tiny(&place.path("other"))
        .with("epochs", 1)
        .with("seed", 1)
        .succeed();
    let mut command = program();
    command
        .args(["neighbours", "--weights"])
        .arg(place.path("other"));
    let error = one_error(
        &command
            .arg(place.path("f"))
            .arg("a/10.png")
            .output()
            .unwrap(),
    );
    assert!(error.contains("holds features of other weights"), "{error}");
}
