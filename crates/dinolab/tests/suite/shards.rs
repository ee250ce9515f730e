//! Tar shards give what the folder gave that they were packed from, in whatever order they are read.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Train, assert_same, checkpoint_steps, figures, picture, program, text};
use dinolab_data::augment::MultiCrop;
use dinolab_data::source::{SourceOptions, open};
use dinolab_data::{Crops, Loader, LoaderConfig, Source};
use tempfile::TempDir;

const IMAGES: u32 = 40;

/// A folder of four classes, and several shards of its files.
fn sources() -> (TempDir, PathBuf, PathBuf) {
    let root = TempDir::new().unwrap();
    let (photos, shards) = (root.path().join("photos"), root.path().join("shards"));
    for i in 0..IMAGES {
        // About 110 kB each.
        let name = format!("class-{}/{i:02}.bmp", i / 10);
        picture(&photos.join(name), 150 + i, i);
    }
    let output = program()
        .args(["data", "pack", "--shard-size", "1"])
        .args([&photos, &shards])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(fs::read_dir(&shards).unwrap().count() >= 3);
    (root, photos, shards)
}

fn read(path: &Path) -> Arc<dyn Source> {
    Arc::from(open(path, &SourceOptions::default()).unwrap())
}

fn batches(
    source: &Arc<dyn Source>,
    workers: usize,
    shuffle_buffer: usize,
    first: usize,
) -> Vec<Crops> {
    let crops = MultiCrop {
        global_size: 32.into(),
        local_size: 16.into(),
        local_views: 2,
        ..MultiCrop::default()
    };
    let config = LoaderConfig {
        batch_size: 3,
        workers,
        read_ahead: if workers == 1 { 0 } else { 5 },
        seed: 7,
        max_unusable: 0.1,
        shuffle_buffer,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(Arc::clone(source), crops, config).unwrap();
    loader.epoch(2, first).map(Result::unwrap).collect()
}

/// Which images, and the bytes of their crops.
fn bytes(batches: &[Crops]) -> Vec<(Vec<usize>, Vec<u8>)> {
    let bytes = |crops: &Crops| {
        let values = crops.global().into_iter().chain(crops.local());
        values.flat_map(f32::to_ne_bytes).collect()
    };
    batches
        .iter()
        .map(|crops| (crops.indices(), bytes(crops)))
        .collect()
}

fn shards_of(source: &dyn Source, batches: &[Crops]) -> BTreeSet<usize> {
    let indices = batches.iter().flat_map(Crops::indices);
    indices.filter_map(|index| source.shard(index)).collect()
}

#[test]
fn crops_are_those_of_the_folder_for_any_threads_and_any_start() {
    let (_root, photos, shards) = sources();
    let (folder, shards) = (read(&photos), read(&shards));
    assert_eq!(folder.len(), shards.len());

    let whole = batches(&folder, 1, 0, 0);
    assert_eq!(whole.len(), 13);
    let expected = bytes(&whole);
    for source in [&folder, &shards] {
        for workers in [1, 2] {
            assert!(bytes(&batches(source, workers, 0, 0)) == expected);
            assert!(bytes(&batches(source, workers, 0, 5)) == expected[5..]);
        }
    }
    // A buffer means nothing to a folder.
    assert!(bytes(&batches(&folder, 2, 4, 0)) == expected);

    let buffered = batches(&shards, 1, 4, 0);
    let in_order = bytes(&buffered);
    // The same images, each cropped as before, in another order.
    let sorted = |all: &[Crops]| {
        let mut all: Vec<_> = all.iter().flat_map(|c| c.images.clone()).collect();
        all.sort_by_key(|image| image.index);
        all
    };
    assert!(in_order != expected);
    let mut compared = 0;
    for image in sorted(&buffered) {
        // Each order leaves out one image, because batches are whole.
        let other = sorted(&whole).into_iter().find(|o| o.index == image.index);
        compared += usize::from(other.is_some());
        assert!(other.is_none_or(|other| other == image), "{}", image.index);
    }
    assert!(compared >= 38);
    for first in 1..buffered.len() {
        let (before, after) = buffered.split_at(first);
        let (before, after) = (shards_of(&*shards, before), shards_of(&*shards, after));
        let inside = before.intersection(&after).next().is_some();
        // Most starts are inside a shard; the test needs some.
        assert!(inside || first != 5, "batch 5 begins a shard");
        for workers in [1, 2] {
            let resumed = batches(&shards, workers, 4, first);
            assert!(bytes(&resumed) == in_order[first..], "from batch {first}");
        }
    }
}

#[test]
fn a_damaged_image_is_replaced_alike() {
    let (root, photos, _) = sources();
    let broken = photos.join("class-1/15.bmp");
    let bytes_of = fs::read(&broken).unwrap();
    fs::write(&broken, &bytes_of[..1000]).unwrap();
    let shards = root.path().join("broken");
    let packed = program()
        .args(["data", "pack", "--shard-size", "1"])
        .args([&photos, &shards])
        .output()
        .unwrap();
    assert!(packed.status.success());
    let (folder, shards) = (read(&photos), read(&shards));
    assert!(folder.image(15).is_err() && shards.image(15).is_err());
    let expected = batches(&folder, 2, 0, 0);
    assert!(expected.iter().all(|crops| !crops.indices().contains(&15)));
    assert!(bytes(&batches(&shards, 2, 0, 0)) == bytes(&expected));
}

/// Nine steps an epoch (four of the forty images are held out), a checkpoint every other step.
fn run(out: &Path, images: &Path) -> Train {
    Train::tiny(out)
        .without("shapes-images")
        .on(images)
        .with("batch-size", 4)
        .with("epochs", 10)
        .with("checkpoint-every-steps", 2)
        .with("eval-every", 5)
        .with("attention-images", 1)
}

#[test]
fn training_on_shards_is_training_on_the_folder() {
    let (root, photos, shards) = sources();
    let out = |name: &str| root.path().join(name);
    run(&out("folder"), &photos).with("epochs", 5).succeed();
    run(&out("shards"), &shards).with("epochs", 5).succeed();
    assert_same(&out("folder"), &out("shards"));
    assert!(!figures(&out("shards"), "evaluation", "step").is_empty());
}

fn start(run: &Train) -> Child {
    run.command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_run_through_a_shuffle_buffer_is_resumed_inside_an_epoch() {
    const EPOCH: u64 = 9;
    let (root, _, shards) = sources();
    let out = |name: &str| root.path().join(name);
    let buffered = |name: &str| run(&out(name), &shards).with("shuffle-buffer", 6);
    buffered("whole").succeed();
    let steps = figures(&out("whole"), "train", "step");
    assert_eq!(steps.len() as u64, 10 * EPOCH);
    // The buffer does change the order.
    run(&out("plain"), &shards).with("epochs", 1).succeed();
    let losses = |name: &str| figures(&out(name), "train", "loss");
    assert_ne!(losses("plain"), losses("whole")[..EPOCH as usize]);

    let mut inside = 0;
    for (after, workers) in [(2, 1), (22, 2), (42, 1), (62, 2)] {
        let mut child = start(&buffered("killed").with("num-workers", workers));
        let began = Instant::now();
        while checkpoint_steps(&out("killed")).first() < Some(&after) {
            assert!(began.elapsed() < Duration::from_secs(120));
            assert!(child.try_wait().unwrap().is_none(), "it ended before");
            std::thread::sleep(Duration::from_micros(300));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "the kill came too late");
        let left = checkpoint_steps(&out("killed"))[0];
        assert!(left < 10 * EPOCH);
        inside += u64::from(!left.is_multiple_of(EPOCH));
    }
    assert!(inside > 0, "each kill hit the end of an epoch");
    let said = buffered("killed").succeed();
    assert!(said.contains("from step"), "{said}");
    assert_same(&out("whole"), &out("killed"));
}
