//! The multi-crop augmentation as a whole.

use dinolab_data::augment::multicrop::{JitterOp, MultiCrop, ViewPlan};
use dinolab_data::augment::{CropBox, Filter, Resizer, Scratch, blur, colour, planes};
use dinolab_data::{Error, Image, Size};

/// The size of a width and a height.
fn of(width: usize, height: usize) -> Size {
    Size { height, width }
}

/// A smooth colourful image with an edge.
fn image(width: usize, height: usize) -> Image {
    let mut image = Image::new(width, height, 3);
    for (place, pixel) in image.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (place % width, place / width);
        pixel[0] = (x * 255 / width) as u8;
        pixel[1] = (y * 255 / height) as u8;
        pixel[2] = if x > y { 200 } else { 30 };
    }
    image
}

fn small() -> MultiCrop {
    MultiCrop {
        global_size: 24.into(),
        local_size: 12.into(),
        local_views: 3,
        ..MultiCrop::default()
    }
}

fn apply(crops: &MultiCrop, image: &Image, key: (u64, u64, u64)) -> (Vec<f32>, Vec<f32>) {
    let mut global = vec![f32::NAN; crops.global_len()];
    let mut local = vec![f32::NAN; crops.local_len()];
    crops
        .apply(
            image,
            key.0,
            key.1,
            key.2,
            &mut Scratch::default(),
            &mut global,
            &mut local,
        )
        .unwrap();
    (global, local)
}

#[test]
fn probabilities_per_view() {
    let crops = MultiCrop::default();
    let draws = 4_000;
    for view in 0..4 {
        let plans: Vec<ViewPlan> = (0..draws)
            .map(|i| crops.plan(of(300, 200), (7, 1, i), view))
            .collect();
        let share = |what: &str, expected: f64, has: &dyn Fn(&ViewPlan) -> bool| {
            let share = plans.iter().filter(|plan| has(plan)).count() as f64 / draws as f64;
            // Five standard deviations; none for 0 and 1.
            let tolerance = 5.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!(
                (share - expected).abs() <= tolerance,
                "view {view}, {what}: {share}"
            );
        };
        share("flip", 0.5, &|plan| plan.flip);
        share("jitter", 0.8, &|plan| plan.jitter.is_some());
        share("greyscale", 0.2, &|plan| plan.greyscale);
        share("blur", [1.0, 0.1, 0.5, 0.5][view], &|plan| {
            plan.blur.is_some()
        });
        share("solarise", [0.0, 0.2, 0.0, 0.0][view], &|plan| {
            plan.solarise
        });

        let (low, high) = if view < 2 { (0.4, 1.0) } else { (0.05, 0.4) };
        for plan in &plans {
            let CropBox { width, height, .. } = plan.crop;
            let area = (width * height) as f64 / 60_000.0;
            assert!(
                area > low - 0.01 && area < high + 0.01,
                "view {view}: {area}"
            );
            assert!(plan.blur.is_none_or(|radius| (0.1..2.0).contains(&radius)));
        }
    }
}

#[test]
fn blur_follows_the_size_of_the_crops_where_asked() {
    let alike = MultiCrop {
        global_size: 112.into(),
        local_size: Size {
            height: 96,
            width: 56,
        },
        ..MultiCrop::default()
    };
    let in_proportion = MultiCrop {
        blur_side: Some(224.0),
        ..alike.clone()
    };
    let mut blurred = [0; 2];
    for index in 0..200 {
        for view in 0..4 {
            let plan = |crops: &MultiCrop| crops.plan(of(300, 200), (3, 0, index), view);
            let (reference, plan) = (plan(&alike), plan(&in_proportion));
            let factor = if view < 2 { 0.5 } else { 0.25 };
            match (reference.blur, plan.blur) {
                (Some(reference), Some(blur)) => {
                    assert!((blur - factor * reference).abs() < 1e-9, "{view}");
                    blurred[view / 2] += 1;
                }
                (None, None) => {}
                other => panic!("{other:?}"),
            }
            let rest = |plan: ViewPlan| (plan.crop, plan.flip, plan.greyscale, plan.solarise);
            assert_eq!(rest(plan), rest(reference));
        }
    }
    assert!(blurred.iter().all(|&count| count > 100), "{blurred:?}");
}

#[test]
fn jitter_covers_ranges_and_orders() {
    let crops = MultiCrop::default();
    let mut orders = std::collections::BTreeSet::new();
    let mut extremes = [(f64::MAX, f64::MIN); 4];
    for index in 0..3_000 {
        let Some(jitter) = crops.plan(of(50, 50), (0, 0, index), 0).jitter else {
            continue;
        };
        let order = jitter.map(|change| {
            let (kind, value) = match change {
                JitterOp::Brightness(factor) => (0, f64::from(factor)),
                JitterOp::Contrast(factor) => (1, f64::from(factor)),
                JitterOp::Saturation(factor) => (2, f64::from(factor)),
                JitterOp::Hue(turn) => (3, turn),
            };
            extremes[kind].0 = extremes[kind].0.min(value);
            extremes[kind].1 = extremes[kind].1.max(value);
            kind
        });
        orders.insert(order);
    }
    assert_eq!(orders.len(), 24);
    for ((low, high), (least, most)) in
        extremes
            .into_iter()
            .zip([(0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)])
    {
        let margin = (most - least) / 100.0;
        assert!(
            low >= least - 1e-6 && low < least + margin,
            "{low} for {least}"
        );
        assert!(
            high <= most + 1e-6 && high > most - margin,
            "{high} for {most}"
        );
    }
}

#[test]
fn operations_happen_in_order() {
    let image = image(40, 30);
    let plan = ViewPlan {
        crop: CropBox {
            top: 3,
            left: 5,
            height: 20,
            width: 22,
        },
        flip: true,
        jitter: Some([
            JitterOp::Hue(0.07),
            JitterOp::Contrast(1.3),
            JitterOp::Brightness(0.7),
            JitterOp::Saturation(1.2),
        ]),
        greyscale: true,
        blur: Some(1.1),
        solarise: true,
    };
    let mut scratch = Scratch::default();
    let ours = MultiCrop::default()
        .render(&image, &plan, 16.into(), &mut scratch)
        .unwrap()
        .to_vec();

    let mut pixels = Vec::new();
    Resizer::new()
        .resize(
            &image,
            plan.crop,
            Size::square(16),
            Filter::Bicubic,
            &mut pixels,
        )
        .unwrap();
    let mut mirrored = Vec::new();
    planes::split(&pixels, 16, true, &mut mirrored);
    let mut pixels = mirrored;
    colour::hue(&mut pixels, 0.07);
    colour::contrast(&mut pixels, 1.3);
    colour::brightness(&mut pixels, 0.7);
    colour::saturation(&mut pixels, 1.2);
    colour::greyscale(&mut pixels);
    blur::gaussian(&mut pixels, 16, 1.1, &mut blur::Scratch::default());
    colour::solarise(&mut pixels, 128);
    assert_eq!(ours, pixels);
}

#[test]
fn layout_is_view_channel_row_column() {
    let (crops, image) = (small(), image(60, 45));
    let (global, local) = apply(&crops, &image, (1, 2, 3));
    let mut scratch = Scratch::default();
    for view in 0..crops.views() {
        let side = crops.view_size(view);
        let pixels = crops.view(&image, (1, 2, 3), view, &mut scratch).unwrap();
        let (buffer, place) = if view < 2 {
            (&global, view)
        } else {
            (&local, view - 2)
        };
        for (c, plane) in pixels.chunks_exact(side.area()).enumerate() {
            for (at, pixel) in plane.iter().enumerate() {
                let value = buffer[(place * 3 + c) * side.area() + at];
                let expected = (f32::from(*pixel) / 255.0 - crops.mean[c]) / crops.std[c];
                assert_eq!(value, expected, "view {view}");
            }
        }
    }
}

#[test]
fn keys_decide_and_nothing_else() {
    let (crops, image) = (small(), image(60, 45));
    let base = apply(&crops, &image, (1, 2, 3));
    assert_eq!(base, apply(&crops, &image, (1, 2, 3)));
    for key in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
        assert_ne!(base, apply(&crops, &image, key));
    }
    // Scratch that has seen other sizes makes no difference.
    let mut scratch = Scratch::default();
    let other = MultiCrop {
        global_size: 40.into(),
        ..small()
    };
    other.view(&image, (9, 9, 9), 0, &mut scratch).unwrap();
    let mut global = vec![0.0; crops.global_len()];
    let mut local = vec![0.0; crops.local_len()];
    crops
        .apply(&image, 1, 2, 3, &mut scratch, &mut global, &mut local)
        .unwrap();
    assert_eq!(base, (global, local));
}

#[test]
fn views_do_not_depend_on_each_other() {
    let image = image(60, 45);
    let (global, local) = apply(&small(), &image, (1, 2, 3));
    let changed = MultiCrop {
        local_views: 5,
        blur_probability: [0.0, 1.0, 0.5],
        solarise_probability: [1.0, 1.0, 0.0],
        ..small()
    };
    let (other_global, other_local) = apply(&changed, &image, (1, 2, 3));
    assert_ne!(global, other_global);
    assert_eq!(local, other_local[..local.len()]);
    let views: Vec<&[f32]> = other_local.chunks_exact(3 * 12 * 12).collect();
    for a in 0..views.len() {
        for b in 0..a {
            assert_ne!(views[a], views[b], "local views {a} and {b} are the same");
        }
    }
}

#[test]
fn draws_are_the_same_on_every_platform() {
    // Numbers of an earlier run: a change here changes every run made so far.
    let plan = MultiCrop::default().plan(of(500, 375), (42, 3, 1234), 1);
    let expected = ViewPlan {
        crop: CropBox {
            top: 78,
            left: 21,
            height: 274,
            width: 357,
        },
        flip: false,
        jitter: Some([
            JitterOp::Contrast(1.0798224),
            JitterOp::Hue(0.07069342051292854),
            JitterOp::Brightness(0.86512876),
            JitterOp::Saturation(0.99104583),
        ]),
        greyscale: false,
        blur: None,
        solarise: true,
    };
    assert_eq!(plan, expected);
}

#[test]
fn identity_shows_the_whole_image() {
    let image = image(32, 32);
    let crops = MultiCrop {
        local_views: 2,
        ..MultiCrop::identity(32)
    };
    crops.validate().unwrap();
    let mut scratch = Scratch::default();
    for view in 0..crops.views() {
        for index in 0..5 {
            let pixels = crops
                .view(&image, (0, 0, index), view, &mut scratch)
                .unwrap();
            assert_eq!(planes::join(pixels), image.data);
        }
    }
    assert_eq!(MultiCrop::identity(32).local_len(), 0);
    let (global, _) = apply(&MultiCrop::identity(16), &image, (0, 0, 0));
    assert_eq!(global[..global.len() / 2], global[global.len() / 2..]);
}

#[test]
fn settings_out_of_range_are_named() {
    type Set = fn(&mut MultiCrop);
    let cases: [(&str, Set); 18] = [
        ("global-crops-size", |c| c.global_size = 0.into()),
        ("local-crops-size", |c| c.local_size = usize::MAX.into()),
        ("local-crops-number", |c| c.local_views = usize::MAX),
        ("global-crops-scale", |c| c.global_scale = (0.0, 1.0)),
        ("global-crops-scale", |c| c.global_scale = (0.5, 0.4)),
        ("local-crops-scale", |c| c.local_scale = (0.1, 1.1)),
        ("local-crops-scale", |c| c.local_scale = (f64::NAN, 0.4)),
        ("flip-probability", |c| c.flip_probability = 1.5),
        ("jitter-probability", |c| c.jitter_probability = -0.1),
        ("greyscale-probability", |c| {
            c.greyscale_probability = f64::NAN
        }),
        ("blur-probability", |c| c.blur_probability[2] = 2.0),
        ("solarise-probability", |c| c.solarise_probability[0] = 2.0),
        ("brightness", |c| c.brightness = -1.0),
        ("hue", |c| c.hue = 0.6),
        ("blur-radius", |c| c.blur_radius = (2.0, 0.1)),
        ("blur-crop-size", |c| c.blur_side = Some(0.0)),
        ("std", |c| c.std[1] = 0.0),
        ("mean", |c| c.mean[1] = f32::NAN),
    ];
    MultiCrop::default().validate().unwrap();
    for (name, set) in cases {
        let mut crops = MultiCrop::default();
        set(&mut crops);
        match crops.validate() {
            Err(Error::BadSetting { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let unused = MultiCrop {
        local_views: 0,
        local_size: 0.into(),
        ..MultiCrop::default()
    };
    unused.validate().unwrap();
}

#[test]
fn buffers_and_images_that_do_not_fit_are_errors() {
    let (crops, image) = (small(), image(60, 45));
    let mut scratch = Scratch::default();
    let mut global = vec![0.0; crops.global_len()];
    let mut local = vec![0.0; crops.local_len() - 1];
    let result = crops.apply(&image, 0, 0, 0, &mut scratch, &mut global, &mut local);
    assert!(matches!(
        result,
        Err(Error::BadSetting { field: "local", .. })
    ));
    local.push(0.0);
    let grey = Image::new(60, 45, 1);
    let result = crops.apply(&grey, 0, 0, 0, &mut scratch, &mut global, &mut local);
    assert!(matches!(result, Err(Error::BadImage { .. })));
    // A single pixel is an image.
    crops
        .apply(
            &Image::new(1, 1, 3),
            0,
            0,
            0,
            &mut scratch,
            &mut global,
            &mut local,
        )
        .unwrap();
}
