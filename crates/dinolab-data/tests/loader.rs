//! The loader: what a batch holds must depend on seed, epoch and source alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dinolab_data::augment::{MultiCrop, Scratch};
use dinolab_data::loader::ImageCrops;
use dinolab_data::random::epoch_order;
use dinolab_data::{Crops, Error, Image, Loader, LoaderConfig, Result, Source};

/// Images that differ in size and content, some of which cannot be used.
#[derive(Default)]
struct Made {
    len: usize,
    bad: BTreeSet<usize>,
    panics: BTreeSet<usize>,
    delay: Duration,
    decoded: AtomicUsize,
}

impl Made {
    fn new(len: usize) -> Self {
        Self {
            len,
            ..Self::default()
        }
    }

    fn with_bad(len: usize, bad: impl IntoIterator<Item = usize>) -> Self {
        Self {
            len,
            bad: bad.into_iter().collect(),
            ..Self::default()
        }
    }

    fn make(index: usize) -> Image {
        let mut image = Image::new(20 + index % 7, 18 + index % 5, 3);
        for (place, value) in image.data.iter_mut().enumerate() {
            *value = (place * (index + 3) % 251) as u8;
        }
        image
    }
}

impl Source for Made {
    fn len(&self) -> usize {
        self.len
    }
    fn name(&self, index: usize) -> String {
        format!("{index}.png")
    }
    fn label(&self, _: usize) -> Option<usize> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn image(&self, index: usize) -> Result<Image> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        // Later images are faster, so that workers overtake each other.
        std::thread::sleep(self.delay * (self.len - index) as u32);
        assert!(!self.panics.contains(&index), "a defect of a decoder");
        if self.bad.contains(&index) {
            return Err(Error::BadImage {
                name: self.name(index),
                reason: "is truncated".into(),
            });
        }
        Ok(Self::make(index))
    }
}

fn crops() -> MultiCrop {
    MultiCrop {
        global_size: 12.into(),
        local_size: 6.into(),
        local_views: 2,
        ..MultiCrop::default()
    }
}

fn config(batch_size: usize, workers: usize) -> LoaderConfig {
    LoaderConfig {
        batch_size,
        workers,
        seed: 5,
        max_unusable: 0.5,
        ..LoaderConfig::default()
    }
}

fn loader(source: Made, config: LoaderConfig) -> Loader {
    Loader::new(Arc::new(source), crops(), config).unwrap()
}

fn epoch(loader: &Loader, epoch: u64, first: usize) -> Vec<Crops> {
    loader.epoch(epoch, first).collect::<Result<_>>().unwrap()
}

/// Fails instead of hanging when `work` does not end.
fn within_seconds<T: Send + 'static>(seconds: u64, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    receive
        .recv_timeout(Duration::from_secs(seconds))
        .expect("hangs or panics")
}

#[test]
fn fixed_crops_come_again_in_another_order() {
    let config = LoaderConfig {
        fixed_crops: 2,
        ..config(4, 2)
    };
    let loader = loader(Made::new(12), config);
    let by_image = |number: u64| -> Vec<(usize, Vec<f32>)> {
        let batches = epoch(&loader, number, 0).into_iter();
        let images = batches.flat_map(|batch| batch.images);
        images.map(|image| (image.index, image.global)).collect()
    };
    let sorted = |mut images: Vec<(usize, Vec<f32>)>| {
        images.sort_by_key(|(index, _)| *index);
        images
    };
    let (first, third) = (by_image(0), by_image(2));
    assert_ne!(first, third);
    assert_eq!(sorted(first.clone()), sorted(third));
    assert_eq!(sorted(by_image(1)), sorted(by_image(5)));
    let (first, second) = (sorted(first), sorted(by_image(1)));
    assert!(
        first
            .iter()
            .zip(&second)
            .all(|(a, b)| a.0 == b.0 && a.1 != b.1)
    );
}

#[test]
fn threads_and_queue_do_not_change_the_crops() {
    let slow = || Made {
        delay: Duration::from_micros(50),
        ..Made::new(29)
    };
    let one = epoch(&loader(slow(), config(4, 1)), 3, 0);
    assert_eq!(one.len(), 7);
    for (workers, queue, cache_bytes) in [(3, 0, 0), (8, 50, 0), (2, 1, 1 << 20), (2, 9, 5_000)] {
        let config = LoaderConfig {
            queue,
            cache_bytes,
            ..config(4, workers)
        };
        let loader = loader(slow(), config);
        assert_eq!(
            one,
            epoch(&loader, 3, 0),
            "{workers} workers, queue of {queue}"
        );
        assert_eq!(one, epoch(&loader, 3, 0), "a second time");
    }
}

#[test]
fn a_batch_holds_the_crops_of_its_images_view_by_view() {
    let batches = epoch(&loader(Made::new(10), config(3, 2)), 2, 0);
    let order = epoch_order(5, 2, 10);
    let crops = crops();
    let mut global = vec![0.0; crops.global_len()];
    let mut local = vec![0.0; crops.local_len()];
    for (number, batch) in batches.iter().enumerate() {
        assert_eq!(batch.indices(), order[number * 3..][..3]);
        assert_eq!((batch.batch(), batch.channels), (3, 3));
        assert_eq!(
            (batch.global_size, batch.local_size, batch.local_views),
            (12.into(), 6.into(), 2)
        );
        for (place, &index) in batch.indices().iter().enumerate() {
            let image = Made::make(index);
            let mut scratch = Scratch::default();
            crops
                .apply(
                    &image,
                    5,
                    2,
                    index as u64,
                    &mut scratch,
                    &mut global,
                    &mut local,
                )
                .unwrap();
            let (large, small) = (3 * 12 * 12, 3 * 6 * 6);
            for view in 0..2 {
                let expected = &global[view * large..][..large];
                assert_eq!(
                    &batch.global()[(view * 3 + place) * large..][..large],
                    expected
                );
                assert_eq!(batch.view(view, place), expected);
                let expected = &local[view * small..][..small];
                assert_eq!(
                    &batch.local()[(view * 3 + place) * small..][..small],
                    expected
                );
                assert_eq!(batch.view(2 + view, place), expected);
            }
        }
    }
}

#[test]
fn epochs_differ_and_show_each_image_once() {
    let loader = loader(Made::new(12), config(4, 2));
    let (first, second) = (epoch(&loader, 0, 0), epoch(&loader, 1, 0));
    for batches in [&first, &second] {
        let mut seen: Vec<usize> = batches.iter().flat_map(|b| b.indices()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
    }
    assert_ne!(first, second);
    let indices = |batches: &[Crops]| batches.iter().map(|b| b.indices()).collect::<Vec<_>>();
    assert_ne!(indices(&first), indices(&second));
}

#[test]
fn resuming_gives_the_rest() {
    let whole = epoch(&loader(Made::with_bad(23, [4, 11]), config(3, 2)), 6, 0);
    for first in 0..=whole.len() + 1 {
        let fresh = loader(Made::with_bad(23, [4, 11]), config(3, 3));
        assert_eq!(epoch(&fresh, 6, first), whole[first.min(whole.len())..]);
    }
}

#[test]
fn batches_run_on_through_the_epochs() {
    let loader = loader(Made::new(11), config(3, 2));
    let mut expected = epoch(&loader, 4, 1);
    expected.extend(epoch(&loader, 5, 0));
    expected.extend(epoch(&loader, 6, 0));
    let mut stream = loader.batches(4, 1);
    let mut positions = Vec::new();
    let mut batches = Vec::new();
    for _ in 0..expected.len() {
        positions.push(stream.position());
        batches.push(stream.next().unwrap().unwrap());
    }
    assert_eq!(batches, expected);
    assert_eq!(positions[..4], [(4, 1), (4, 2), (5, 0), (5, 1)]);
    assert_eq!(stream.position(), (7, 0));
    // Starting past an epoch's end is starting in the next.
    assert_eq!(loader.batches(4, 3).next().unwrap().unwrap(), expected[2]);
}

#[test]
fn a_stretch_takes_the_first_batches_of_each_epoch_and_no_more() {
    let source = Arc::new(Made::new(11));
    let config = LoaderConfig {
        queue: 50,
        ..config(2, 2)
    };
    let loader = Loader::new(source.clone(), crops(), config).unwrap();
    // Five batches in an epoch, of which three are used, from the second one on.
    let mut expected = epoch(&loader, 4, 1)[..2].to_vec();
    expected.extend_from_slice(&epoch(&loader, 5, 0)[..3]);
    expected.extend_from_slice(&epoch(&loader, 6, 0)[..1]);
    source.decoded.store(0, Ordering::Relaxed);
    let found: Vec<Crops> = loader
        .train_batches(4, 1, 3, 6)
        .collect::<Result<_>>()
        .unwrap();
    assert_eq!(found, expected);
    // Nothing was decoded in vain.
    assert_eq!(source.decoded.load(Ordering::Relaxed), 12);
    assert_eq!(loader.train_batches(4, 0, 3, 0).count(), 0);
    assert_eq!(loader.train_batches(4, 0, 0, 5).count(), 0);
    assert_eq!(loader.train_batches(4, 0, 99, 5).count(), 5);
}

#[test]
fn recycled_buffers_are_filled_completely() {
    let expected = epoch(&loader(Made::new(12), config(4, 2)), 0, 0);
    let loader = loader(Made::new(12), config(4, 2));
    for _ in 0..3 {
        for (batch, expected) in loader.epoch(0, 0).zip(&expected) {
            let mut batch = batch.unwrap();
            assert_eq!(&batch, expected);
            for image in &mut batch.images {
                image.global.fill(f32::NAN);
                image.local.fill(f32::NAN);
                image.index = 99;
            }
            loader.recycle(batch);
        }
    }
    // Buffers of another shape are reshaped.
    loader.recycle(Crops {
        images: vec![ImageCrops {
            global: vec![1.0; 3],
            ..ImageCrops::default()
        }],
        ..Crops::default()
    });
    assert_eq!(epoch(&loader, 0, 0), expected);
}

#[test]
fn a_bad_image_is_replaced_by_the_next_usable_one() {
    let order = epoch_order(5, 0, 12);
    // The last in the order and the two before it: replacements wrap around.
    let bad = [order[1], order[9], order[10], order[11]];
    let run = |workers| {
        let loader = loader(Made::with_bad(12, bad), config(4, workers));
        (epoch(&loader, 0, 0), loader.unusable_images())
    };
    let (batches, register) = run(1);
    for workers in [2, 5] {
        assert_eq!((&batches, &register), (&run(workers).0, &run(workers).1));
    }
    let used: Vec<usize> = batches.iter().flat_map(|b| b.indices()).collect();
    assert_eq!(used[0], order[0]);
    assert_eq!(used[1], order[2]);
    assert_eq!(used[9..], [order[0]; 3]);

    // Stand-ins are drawn by the key of the image they stand in for.
    let views: Vec<&[f32]> = [0, 9, 10, 11]
        .map(|at| batches[at / 4].view(0, at % 4))
        .to_vec();
    for a in 0..views.len() {
        for b in 0..a {
            assert_ne!(views[a], views[b]);
        }
    }
    let mut scratch = Scratch::default();
    let key = (5, 0, order[1] as u64);
    let crops = crops();
    let pixels = crops
        .view(&Made::make(order[2]), key, 0, &mut scratch)
        .unwrap();
    let mut expected = vec![0.0; pixels.len()];
    crops
        .normaliser()
        .unwrap()
        .apply_planes(pixels, &mut expected);
    assert_eq!(batches[0].view(0, 1), expected);

    let mut sorted = bad;
    sorted.sort_unstable();
    let found: Vec<usize> = register.iter().map(|bad| bad.index).collect();
    assert_eq!(found, sorted);
    assert_eq!(register[0].name, format!("{}.png", sorted[0]));
    assert_eq!(register[0].reason, "is truncated");
}

#[test]
fn known_bad_images_are_not_decoded_again() {
    let source = Arc::new(Made::with_bad(10, [3, 6]));
    let loader = Loader::new(source.clone(), crops(), config(5, 1)).unwrap();
    let first = epoch(&loader, 0, 0);
    // Ten places and two failures.
    assert_eq!(source.decoded.swap(0, Ordering::Relaxed), 12);
    assert_eq!(epoch(&loader, 0, 0), first);
    assert_eq!(source.decoded.load(Ordering::Relaxed), 10);
    assert_eq!(loader.unusable_images().len(), 2);
}

#[test]
fn the_cache_saves_decoding() {
    let source = Arc::new(Made::new(10));
    let config = LoaderConfig {
        cache_bytes: 1 << 20,
        ..config(5, 1)
    };
    let loader = Loader::new(source.clone(), crops(), config).unwrap();
    epoch(&loader, 0, 0);
    assert_eq!(source.decoded.swap(0, Ordering::Relaxed), 10);
    epoch(&loader, 1, 0);
    assert_eq!(source.decoded.load(Ordering::Relaxed), 0);
}

#[test]
fn a_panicking_decoder_is_a_bad_image() {
    let source = Made {
        panics: [2].into(),
        ..Made::new(9)
    };
    let loader = loader(source, config(3, 2));
    let batches = epoch(&loader, 0, 0);
    assert!(batches.iter().all(|batch| !batch.indices().contains(&2)));
    assert_eq!(loader.unusable_images()[0].index, 2);
}

#[test]
fn too_many_bad_images_end_the_epoch() {
    // floor(0.25 × 10) = 2 are allowed.
    let limit = |workers| LoaderConfig {
        max_unusable: 0.25,
        ..config(5, workers)
    };
    let allowed = loader(Made::with_bad(10, [1, 8]), limit(2));
    assert_eq!(epoch(&allowed, 0, 0).len(), 2);
    for workers in [1, 3] {
        let loader = loader(Made::with_bad(10, [1, 7, 8]), limit(workers));
        for _ in 0..2 {
            let mut epoch = loader.epoch(0, 0);
            let error = epoch.by_ref().find_map(Result::err).unwrap();
            let Error::TooManyUnusable {
                bad,
                total,
                limit_percent,
                first,
            } = error
            else {
                panic!("{error}")
            };
            assert_eq!((bad, total, limit_percent), (3, 10, 25.0));
            assert_eq!(first, "1.png (is truncated)");
            assert!(epoch.next().is_none());
        }
    }
}

#[test]
fn no_usable_image_is_an_error() {
    for (len, limit) in [(1, 0.0), (6, 1.0)] {
        let error = within_seconds(20, move || {
            let config = LoaderConfig {
                max_unusable: limit,
                ..config(1, 2)
            };
            let loader = loader(Made::with_bad(len, 0..len), config);
            loader.epoch(0, 0).find_map(Result::err)
        });
        assert!(matches!(error, Some(Error::NoImages { .. })), "{error:?}");
    }
    let empty = Loader::new(Arc::new(Made::new(0)), crops(), config(1, 1));
    assert!(matches!(empty.err(), Some(Error::NoImages { .. })));
}

#[test]
fn one_image_is_a_source() {
    let loader = loader(Made::new(1), config(1, 4));
    assert_eq!(loader.batches_per_epoch(), 1);
    let (first, second) = (epoch(&loader, 0, 0), epoch(&loader, 1, 0));
    assert_eq!((first.len(), &first[0].indices()[..]), (1, &[0][..]));
    assert_ne!(first, second);
}

#[test]
fn fewer_images_than_a_batch_are_no_batch() {
    let loader = loader(Made::new(3), config(4, 2));
    assert_eq!(loader.batches_per_epoch(), 0);
    assert!(loader.epoch(0, 0).next().is_none());
    assert!(loader.batches(0, 0).next().is_none());
}

#[test]
fn dropping_early_ends_the_workers() {
    within_seconds(20, || {
        for taken in 0..4 {
            let source: Arc<dyn Source> = Arc::new(Made {
                delay: Duration::from_micros(20),
                ..Made::new(60)
            });
            let config = LoaderConfig {
                queue: 20,
                ..config(4, 3)
            };
            let loader = Loader::new(source.clone(), crops(), config).unwrap();
            let mut epoch = loader.epoch(0, 0);
            for _ in 0..taken {
                epoch.next().unwrap().unwrap();
            }
            drop(epoch);
            drop(loader);
            // Every worker held a share in the source.
            assert_eq!(Arc::strong_count(&source), 1);
        }
    });
}

#[test]
fn workers_run_ahead_only_as_far_as_told() {
    let source = Arc::new(Made::new(64));
    let config = LoaderConfig {
        queue: 6,
        ..config(4, 2)
    };
    let loader = Loader::new(source.clone(), crops(), config).unwrap();
    let mut epoch = loader.epoch(0, 0);
    for given in 1..=3 {
        epoch.next().unwrap().unwrap();
        let expected = given * 4 + 6;
        let start = Instant::now();
        while source.decoded.load(Ordering::Relaxed) < expected {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(source.decoded.load(Ordering::Relaxed), expected);
    }
}

/// A source whose files come from far away.
struct Remote {
    inside: Made,
    latency: Duration,
    reading: AtomicUsize,
    most: AtomicUsize,
}

impl Source for Remote {
    fn len(&self) -> usize {
        self.inside.len
    }
    fn name(&self, index: usize) -> String {
        self.inside.name(index)
    }
    fn label(&self, _: usize) -> Option<usize> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn image(&self, index: usize) -> Result<Image> {
        self.decode(index, &self.encoded(index)?.unwrap())
    }
    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let now = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(self.latency);
        self.reading.fetch_sub(1, Ordering::SeqCst);
        Ok(Some(index.to_le_bytes().to_vec()))
    }
    fn decode(&self, index: usize, bytes: &[u8]) -> Result<Image> {
        assert_eq!(bytes, index.to_le_bytes());
        self.inside.image(index)
    }
}

#[test]
fn slow_storage_is_read_ahead() {
    let expected = epoch(&loader(Made::with_bad(64, [5, 40]), config(4, 1)), 1, 0);
    let run = |read_ahead| {
        let source = Arc::new(Remote {
            inside: Made::with_bad(64, [5, 40]),
            latency: Duration::from_millis(10),
            reading: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let config = LoaderConfig {
            read_ahead,
            queue: 32,
            ..config(4, 1)
        };
        let loader = Loader::new(source.clone(), crops(), config).unwrap();
        let start = Instant::now();
        assert_eq!(epoch(&loader, 1, 0), expected, "{read_ahead} read ahead");
        (start.elapsed(), source.most.load(Ordering::SeqCst))
    };
    let (alone, most) = run(0);
    assert_eq!(most, 1);
    // One after the other takes 64 × 10 ms, sixteen at once a sixteenth of it.
    let (ahead, most) = run(16);
    assert!((8..=17).contains(&most), "{most} at once");
    assert!(ahead < alone / 2, "{ahead:?}, {alone:?}");
}

#[test]
fn waiting_is_measured() {
    // 200 ms of decoding stand between the start and the first batch.
    let source = Made {
        delay: Duration::from_millis(20),
        ..Made::new(4)
    };
    let loader = loader(source, config(4, 1));
    let mut epoch = loader.epoch(0, 0);
    assert_eq!(epoch.waited(), Duration::ZERO);
    epoch.next().unwrap().unwrap();
    let waited = epoch.waited();
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(epoch.waited(), waited);
}

#[test]
fn settings_out_of_range_are_named() {
    let cases = [
        (
            "batch-size",
            LoaderConfig {
                batch_size: 0,
                ..config(1, 1)
            },
        ),
        (
            "num-workers",
            LoaderConfig {
                workers: 0,
                ..config(1, 1)
            },
        ),
        (
            "queue",
            LoaderConfig {
                queue: usize::MAX,
                ..config(1, 1)
            },
        ),
        (
            "max-unusable",
            LoaderConfig {
                max_unusable: 1.5,
                ..config(1, 1)
            },
        ),
        (
            "max-unusable",
            LoaderConfig {
                max_unusable: f64::NAN,
                ..config(1, 1)
            },
        ),
    ];
    for (name, config) in cases {
        match Loader::new(Arc::new(Made::new(4)), crops(), config).err() {
            Some(Error::BadSetting { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let crops = MultiCrop {
        global_size: 0.into(),
        ..crops()
    };
    assert!(Loader::new(Arc::new(Made::new(4)), crops, config(1, 1)).is_err());
}
