//! Scores of result folders against those that the definitions of the benchmark's own evaluation
//! (davis2017-evaluation) give with NumPy, OpenCV and scikit-image, computed once from the same
//! masks.

use std::fs;
use std::path::Path;

use dinolab_data::Mask;
use dinolab_eval::davis::{DavisSummary, Tree, Year};

/// A picture of object numbers.
struct Canvas(Mask);

impl Canvas {
    fn new(height: usize, width: usize) -> Self {
        Self(Mask {
            width,
            height,
            data: vec![0; width * height],
        })
    }

    fn fill(&mut self, object: u8, inside: impl Fn(i64, i64) -> bool) {
        let width = self.0.width;
        for (i, pixel) in self.0.data.iter_mut().enumerate() {
            if inside((i % width) as i64, (i / width) as i64) {
                *pixel = object;
            }
        }
    }

    fn disc(&mut self, cx: i64, cy: i64, r: i64, object: u8) {
        self.fill(object, |x, y| (x - cx).pow(2) + (y - cy).pow(2) <= r * r);
    }

    fn rectangle(&mut self, (x0, y0): (i64, i64), (x1, y1): (i64, i64), object: u8) {
        self.fill(object, |x, y| {
            (x0..x1).contains(&x) && (y0..y1).contains(&y)
        });
    }
}

/// Three objects at an odd size; the third is never found.
fn several(t: i64) -> [Canvas; 2] {
    let [mut truth, mut found] = [Canvas::new(97, 131), Canvas::new(97, 131)];
    truth.disc(20 + 7 * t, 30 + 2 * t, 17, 1);
    found.disc(21 + 6 * t, 30 + 3 * t, 16, 1);
    truth.rectangle((60, 40 + 3 * t), (100, 80 + 3 * t), 2);
    found.rectangle((58 + t, 42 + 3 * t), (97 + t, 80 + 2 * t), 2);
    truth.disc(110, 80, 9, 3);
    [truth, found]
}

/// An object that leaves the picture and is lost in between: empty masks on either side and on
/// both.
fn vanishing(t: i64) -> [Canvas; 2] {
    let [mut truth, mut found] = [Canvas::new(64, 80), Canvas::new(64, 80)];
    if t < 7 {
        truth.disc(10 + 5 * t, 32, 12, 1);
    }
    if t != 3 && t != 8 {
        found.disc(10 + 7 * t, 32, 12, 1);
    }
    [truth, found]
}

/// Many small pieces, up to all edges of the picture, at an odd size.
fn torn(t: i64) -> [Canvas; 2] {
    let [mut truth, mut found] = [Canvas::new(45, 33), Canvas::new(45, 33)];
    let object = |x: i64, y: i64| if (x / 8 + y / 9) % 3 == 0 { 2 } else { 1 };
    for label in [1, 2] {
        truth.fill(label, |x, y| {
            (x * 7 + y * 11 + t * 5) % 17 < 8 && (x + y) % 5 > 0 && object(x, y) == label
        });
        found.fill(label, |x, y| {
            (x * 7 + y * 13 + t * 3) % 17 < 8 && (x - y) % 7 != 0 && object(x, y) == label
        });
    }
    [truth, found]
}

/// The benchmark's own size, where boundaries may be eight pixels off; objects are cut by the
/// picture's edges and drift apart.
fn large(t: i64) -> [Canvas; 2] {
    let [mut truth, mut found] = [Canvas::new(480, 854), Canvas::new(480, 854)];
    truth.disc(200 + 90 * t, 240, 150, 1);
    truth.rectangle((0, 300), (500, 480), 2);
    found.disc(200 + 84 * t, 244, 144, 1);
    found.rectangle((0, 310 + 9 * t), (508, 480), 2);
    [truth, found]
}

type Case = (&'static str, fn(i64) -> [Canvas; 2], i64);

fn scores(root: &Path, year: Year, folder: &str, cases: &[Case]) -> DavisSummary {
    let results = root.join("results");
    let list = root.join("ImageSets").join(folder).join("val.txt");
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case.0).collect();
    fs::write(list, names.join("\n")).unwrap();
    for &(name, draw, frames) in cases {
        for t in 0..frames {
            let [truth, found] = draw(t);
            let file = format!("{name}/{t:05}.png");
            let annotation = root.join("Annotations/480p").join(&file);
            year.write_mask(&annotation, &truth.0).unwrap();
            // The first and the last frame are not scored, and need not be there.
            if (1..frames - 1).contains(&t) {
                year.write_mask(&results.join(&file), &found.0).unwrap();
            }
        }
    }
    let tree = Tree::open(root, None, "val", "480p").unwrap();
    assert_eq!(tree.year, year);
    tree.score_folder(&results, &mut |_| {}).unwrap()
}

fn assert_scores(summary: &DavisSummary, object: usize, expected: [f64; 6]) {
    let score = &summary.objects[object];
    let found = [
        score.j.mean,
        score.j.recall,
        score.j.decay,
        score.f.mean,
        score.f.recall,
        score.f.decay,
    ];
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-8, "{score:?}: {expected:?}");
    }
}

#[test]
fn several_objects() {
    let root = tempfile::tempdir().unwrap();
    let cases: [Case; 3] = [
        ("large", large, 6),
        ("several", several, 12),
        ("torn", torn, 5),
    ];
    let summary = scores(root.path(), Year::Multiple, "2017", &cases);
    let names: Vec<_> = summary
        .objects
        .iter()
        .map(|o| (o.sequence.as_str(), o.object))
        .collect();
    assert_eq!(
        names[2..5],
        [("several", 1), ("several", 2), ("several", 3)]
    );
    let expected = [
        [0.782631038, 1.0, 0.048235582, 0.292204211, 0.0, 0.123377948],
        [0.808791574, 1.0, 0.097428567, 0.239999099, 0.0, 0.023820921],
        [0.591361375, 0.6, 0.428208845, 0.375162509, 0.3, 0.615597970],
        [0.750925658, 1.0, 0.194248954, 0.575850952, 0.4, 0.538970675],
        [0.0; 6],
        [0.245894997, 0.0, 0.004310476, 0.995365479, 1.0, 0.002606778],
        [
            0.260454250,
            0.0,
            0.000399243,
            0.993117172,
            1.0,
            -0.001448189,
        ],
    ];
    assert_eq!(summary.objects.len(), expected.len());
    for (object, expected) in expected.into_iter().enumerate() {
        assert_scores(&summary, object, expected);
    }
    assert!((summary.j_and_f - 0.493697022).abs() < 1e-8);
    assert!((summary.j.recall - 0.514285714).abs() < 1e-8);
    assert!((summary.f.decay - 0.186132300).abs() < 1e-8);
}

#[test]
fn one_object_that_vanishes() {
    let root = tempfile::tempdir().unwrap();
    let summary = scores(
        root.path(),
        Year::Single,
        "2016",
        &[("vanishing", vanishing, 11)],
    );
    let expected = [
        0.378940040,
        0.333333333,
        0.150759704,
        0.244444444,
        0.222222222,
        -0.046666667,
    ];
    assert_scores(&summary, 0, expected);
    assert!((summary.j_and_f - 0.311692242).abs() < 1e-8);
}

#[test]
fn results_that_do_not_fit_are_named() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    scores(root, Year::Multiple, "2017", &[("several", several, 5)]);
    let tree = Tree::open(root, None, "val", "480p").unwrap();
    let error = |path: &str, mask: &Canvas| {
        Year::Multiple
            .write_mask(&root.join(path), &mask.0)
            .unwrap();
        tree.score_folder(&root.join("results"), &mut |_| {})
            .unwrap_err()
            .to_string()
    };
    let small = error("results/several/00002.png", &Canvas::new(97, 130));
    assert!(
        small.contains("several/00002") && small.contains("130 × 97"),
        "{small}"
    );
    let mut fourth = Canvas::new(97, 131);
    fourth.disc(10, 10, 3, 4);
    let fourth = error("results/several/00002.png", &fourth);
    assert!(fourth.contains("object 4"), "{fourth}");
    fs::remove_file(root.join("results/several/00002.png")).unwrap();
    let missing = tree
        .score_folder(&root.join("results"), &mut |_| {})
        .unwrap_err();
    assert!(missing.to_string().contains("00002.png"), "{missing}");
}
