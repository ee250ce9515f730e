//! The built-in set: the same everywhere, balanced, and nothing but form tells the class.

use std::collections::HashSet;

use dinolab_data::shapes::{CLASSES, Shapes, ShapesOptions};
use dinolab_data::{Error, Image, Mask, Source};

/// Colours and lines only: no noise, light, clutter or occluder between mask and image.
fn plain(size: usize) -> ShapesOptions {
    ShapesOptions {
        size,
        clutter: 0.0,
        occlusion: 0.0,
        texture: 0.0,
        background: 0.0,
        noise: 0.0,
        ..ShapesOptions::default()
    }
}

fn luminance(image: &Image) -> Vec<f64> {
    let weigh = |p: &[u8]| {
        (0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2])) / 255.0
    };
    image.data.chunks_exact(3).map(weigh).collect()
}

fn mean_where(values: &[f64], mask: &Mask, label: u8) -> f64 {
    let chosen: Vec<f64> = values
        .iter()
        .zip(&mask.data)
        .filter(|&(_, &m)| m == label)
        .map(|(&v, _)| v)
        .collect();
    chosen.iter().sum::<f64>() / chosen.len() as f64
}

#[test]
fn an_image_depends_on_seed_and_index_only() {
    let (short, long) = (Shapes::new(7, 20), Shapes::new(7, 2_000));
    for index in [19, 3, 0, 3] {
        assert_eq!(short.render(index), long.render(index));
        assert_eq!(short.name(index), long.name(index));
    }
    assert_ne!(
        short.image(3).unwrap(),
        Shapes::new(8, 20).image(3).unwrap()
    );
    let all: HashSet<Vec<u8>> = (0..500).map(|i| long.image(i).unwrap().data).collect();
    assert_eq!(all.len(), 500);
}

#[test]
fn classes_are_balanced_in_every_stretch_and_not_told_by_the_index() {
    assert!(CLASSES.len() >= 12 && CLASSES.is_sorted());
    let shapes = Shapes::new(1, CLASSES.len() * 40);
    assert_eq!(shapes.classes(), CLASSES);
    let labels: Vec<usize> = (0..shapes.len())
        .map(|i| shapes.label(i).unwrap())
        .collect();
    for block in labels.chunks(CLASSES.len()) {
        assert_eq!(block.iter().collect::<HashSet<_>>().len(), CLASSES.len());
    }
    let at_the_start: HashSet<usize> = labels.iter().copied().step_by(CLASSES.len()).collect();
    assert!(at_the_start.len() > 8);
    for (index, &label) in labels.iter().enumerate().take(40) {
        assert!(shapes.name(index).contains(CLASSES[label]));
    }
}

#[test]
fn image_and_mask_have_the_asked_size() {
    for size in [16, 33, 64, 224] {
        let shapes = Shapes::with_options(
            0,
            40,
            ShapesOptions {
                size,
                ..ShapesOptions::default()
            },
        )
        .unwrap();
        for index in 0..shapes.len() {
            let (image, mask) = shapes.render(index);
            assert_eq!(
                (image.width, image.height, image.channels, image.data.len()),
                (size, size, 3, size * size * 3)
            );
            assert_eq!(
                (mask.width, mask.height, mask.data.len()),
                (size, size, size * size)
            );
            assert!(
                mask.data.iter().all(|&m| m <= 1)
                    && mask.data.contains(&1)
                    && mask.data.contains(&0)
            );
            assert_eq!(shapes.mask(index).unwrap(), Some(mask));
        }
    }
}

#[test]
fn the_mask_is_where_the_object_shows() {
    // With flat colours and little light the mask can be told from the pixels alone:
    // every pixel is nearer to its own side's mean, but for those on the edge.
    let shapes = Shapes::with_options(3, 64, plain(96)).unwrap();
    for index in 0..shapes.len() {
        let (image, mask) = shapes.render(index);
        let values = luminance(&image);
        let (object, ground) = (mean_where(&values, &mask, 1), mean_where(&values, &mask, 0));
        let agree = values
            .iter()
            .zip(&mask.data)
            .filter(|&(v, &m)| ((v - object).abs() < (v - ground).abs()) == (m == 1))
            .count();
        let share = agree as f64 / values.len() as f64;
        assert!(share > 0.96, "{}: {share}", shapes.name(index));
    }
}

#[test]
fn the_object_keeps_its_size_and_stays_inside() {
    let options = ShapesOptions {
        object: (0.5, 0.5),
        ..plain(64)
    };
    let shapes = Shapes::with_options(5, 160, options).unwrap();
    let mut corners = HashSet::new();
    for index in 0..shapes.len() {
        let mask = shapes.render(index).1;
        let on = || (0..64 * 64).filter(|&i| mask.data[i] == 1);
        let (left, right) = (
            on().map(|i| i % 64).min().unwrap(),
            on().map(|i| i % 64).max().unwrap(),
        );
        let (top, bottom) = (
            on().map(|i| i / 64).min().unwrap(),
            on().map(|i| i / 64).max().unwrap(),
        );
        let longer = (right - left).max(bottom - top) + 1;
        assert!(
            (29..=33).contains(&longer),
            "{}: {longer}",
            shapes.name(index)
        );
        corners.insert((left / 8, top / 8));
    }
    assert!(corners.len() > 12, "the object hardly moves: {corners:?}");
}

#[test]
fn object_and_ground_differ_by_the_asked_contrast() {
    for contrast in [0.2, 0.4] {
        let shapes = Shapes::with_options(
            2,
            200,
            ShapesOptions {
                contrast,
                ..plain(64)
            },
        )
        .unwrap();
        for index in 0..shapes.len() {
            let (image, mask) = shapes.render(index);
            let values = luminance(&image);
            let gap = (mean_where(&values, &mask, 1) - mean_where(&values, &mask, 0)).abs();
            // Edge pixels are mixed, and the light adds up to 15 % at the rim.
            assert!(gap > contrast * 0.6, "{}: {gap}", shapes.name(index));
        }
    }
}

#[test]
fn an_occluder_hides_some_of_the_object_but_never_most() {
    let with = |occlusion| {
        Shapes::with_options(
            4,
            200,
            ShapesOptions {
                occlusion,
                ..plain(64)
            },
        )
        .unwrap()
    };
    let (free, covered) = (with(0.0), with(1.0));
    let area = |shapes: &Shapes, index| {
        shapes
            .render(index)
            .1
            .data
            .iter()
            .map(|&m| f64::from(m))
            .sum::<f64>()
    };
    let shares: Vec<f64> = (0..200)
        .map(|i| area(&covered, i) / area(&free, i))
        .collect();
    assert!(
        shares.iter().all(|&share| (0.6..=1.0).contains(&share)),
        "{shares:?}"
    );
    assert!(shares.iter().filter(|&&share| share < 0.95).count() > 80);
}

#[test]
fn each_option_changes_the_image() {
    let base = plain(64);
    let changes = [
        ShapesOptions {
            object: (0.2, 0.3),
            ..base.clone()
        },
        ShapesOptions {
            rotation: 180.0,
            ..base.clone()
        },
        ShapesOptions {
            clutter: 10.0,
            ..base.clone()
        },
        ShapesOptions {
            occlusion: 1.0,
            ..base.clone()
        },
        ShapesOptions {
            texture: 1.0,
            ..base.clone()
        },
        ShapesOptions {
            background: 1.0,
            ..base.clone()
        },
        ShapesOptions {
            noise: 9.0,
            ..base.clone()
        },
        ShapesOptions {
            contrast: 0.4,
            ..base.clone()
        },
        ShapesOptions {
            coat: 0.0,
            texture: 1.0,
            ..base.clone()
        },
        ShapesOptions {
            patterned: 1.0,
            background: 1.0,
            ..base.clone()
        },
        ShapesOptions {
            colour: 1.0,
            ..base.clone()
        },
        ShapesOptions {
            light: 0.4,
            ..base.clone()
        },
    ];
    let draw = |options: ShapesOptions| {
        let shapes = Shapes::with_options(0, 20, options).unwrap();
        (0..20)
            .map(|i| shapes.image(i).unwrap())
            .collect::<Vec<_>>()
    };
    let reference = draw(base);
    for options in changes {
        assert_ne!(draw(options.clone()), reference, "{options:?}");
    }
}

#[test]
fn noise_has_the_asked_deviation() {
    let quiet = Shapes::with_options(6, 20, plain(64)).unwrap();
    let noisy = Shapes::with_options(
        6,
        20,
        ShapesOptions {
            noise: 8.0,
            ..plain(64)
        },
    )
    .unwrap();
    let mut squares = Vec::new();
    for index in 0..20 {
        let (a, b) = (quiet.image(index).unwrap(), noisy.image(index).unwrap());
        let middle = a
            .data
            .iter()
            .zip(&b.data)
            .filter(|&(&a, _)| (48..208).contains(&a));
        squares.extend(middle.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)));
    }
    let deviation = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
    assert!((7.5..8.5).contains(&deviation), "{deviation}");
}

/// The share of images whose class a nearest-centroid rule tells from the mean hues of the
/// object and of the ground. (Its tones are the coat, which two classes share.)
#[test]
fn colours_do_not_tell_the_class() {
    let shapes = Shapes::new(9, CLASSES.len() * 120);
    let feature = |index: usize| {
        let (image, mask) = shapes.render(index);
        let mut sums = [0.0; 4];
        let mut counts = [0.0; 2];
        for (pixel, &label) in image.data.chunks_exact(3).zip(&mask.data) {
            let part = usize::from(label);
            let [red, green, blue] = [0, 1, 2].map(|c| f64::from(pixel[c]) / 255.0);
            counts[part] += 1.0;
            sums[2 * part] += red - green;
            sums[2 * part + 1] += blue - green;
        }
        std::array::from_fn::<f64, 4, _>(|i| sums[i] / counts[i / 2])
    };
    let half = shapes.len() / 2;
    let mut centroids = [[0.0; 4]; CLASSES.len()];
    for index in 0..half {
        let label = shapes.label(index).unwrap();
        centroids[label]
            .iter_mut()
            .zip(feature(index))
            .for_each(|(c, f)| *c += f / (half / CLASSES.len()) as f64);
    }
    let hits = (half..shapes.len())
        .filter(|&index| {
            let found = feature(index);
            let distance = |c: &[f64; 4]| {
                c.iter()
                    .zip(found)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
            };
            let nearest = (0..CLASSES.len())
                .min_by(|&a, &b| distance(&centroids[a]).total_cmp(&distance(&centroids[b])));
            nearest == shapes.label(index)
        })
        .count();
    // Chance is 1/16 = 60 of 960; five standard deviations above it are 98.
    assert!(hits < 98, "{hits} of 960");
}

#[test]
fn options_out_of_range_are_refused() {
    let base = ShapesOptions::default();
    for options in [
        ShapesOptions {
            size: 15,
            ..base.clone()
        },
        ShapesOptions {
            object: (0.5, 0.4),
            ..base.clone()
        },
        ShapesOptions {
            object: (0.5, 1.1),
            ..base.clone()
        },
        ShapesOptions {
            rotation: -1.0,
            ..base.clone()
        },
        ShapesOptions {
            clutter: f64::NAN,
            ..base.clone()
        },
        ShapesOptions {
            occlusion: 1.1,
            ..base.clone()
        },
        ShapesOptions {
            texture: -0.1,
            ..base.clone()
        },
        ShapesOptions {
            background: 2.0,
            ..base.clone()
        },
        ShapesOptions {
            noise: 65.0,
            ..base.clone()
        },
        ShapesOptions {
            contrast: 0.0,
            ..base.clone()
        },
    ] {
        assert!(matches!(
            Shapes::with_options(0, 1, options),
            Err(Error::BadSetting { .. })
        ));
    }
}
