use proptest::prelude::*;

use super::*;

/// The protocol as it is written down, in double precision and without any shortcut: all
/// affinities, zero outside the neighbourhood, zero below the k-th greatest.
fn naive(
    settings: Propagation,
    (h, w): (usize, usize),
    dim: usize,
    query: &[f64],
    known: &[(Vec<f64>, Vec<f64>)],
) -> Vec<f64> {
    let n = h * w;
    let classes = known[0].1.len() / n;
    let unit = |row: &[f64]| -> Vec<f64> {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|v| v / length).collect()
    };
    let reach = settings.size_mask_neighborhood;
    let mut out = Vec::new();
    for i in 0..n {
        let q = unit(&query[i * dim..][..dim]);
        let mut affinity = Vec::new();
        for (features, _) in known {
            for j in 0..n {
                let k = unit(&features[j * dim..][..dim]);
                let dot: f64 = q.iter().zip(&k).map(|(a, b)| a * b).sum();
                let inside = (i / w).abs_diff(j / w) <= reach && (i % w).abs_diff(j % w) <= reach;
                affinity.push(match reach == 0 || inside {
                    true => (dot / settings.temperature).exp(),
                    false => 0.0,
                });
            }
        }
        let mut sorted = affinity.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let least = sorted[settings.topk.min(sorted.len()) - 1];
        affinity
            .iter_mut()
            .for_each(|a| *a *= f64::from(u8::from(*a >= least)));
        let sum: f64 = affinity.iter().sum();
        for class in 0..classes {
            let labels = known.iter().flat_map(|(_, labels)| labels.chunks(classes));
            let mixed: f64 = affinity.iter().zip(labels).map(|(a, l)| a * l[class]).sum();
            out.push(mixed / sum);
        }
    }
    out
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn equals_the_written_protocol(
        h in 1usize..6, w in 1usize..40, reach in 0usize..5, topk in 1usize..7,
        last in 0usize..4, seed in 0u64..1000,
    ) {
        let (dim, classes, n) = (6, 3, h * w);
        let mut state = seed;
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            }).collect()
        };
        let settings = Propagation {
            n_last_frames: last,
            size_mask_neighborhood: reach,
            topk,
            temperature: 0.1,
        };
        let frames: Vec<Vec<f32>> = (0..5).map(|_| draw(n * dim)).collect();
        let labels: Vec<f32> = draw(n * classes).iter().map(|v| v + 0.5).collect();
        let mut propagator =
            Propagator::new(settings, (h, w), dim, frames[0].clone(), labels.clone()).unwrap();
        let mut known = vec![(wide(&frames[0]), wide(&labels))];
        for frame in &frames[1..] {
            let found = propagator.next(frame.clone()).unwrap();
            let expected = naive(settings, (h, w), dim, &wide(frame), &known);
            for (a, b) in found.iter().zip(&expected) {
                prop_assert!((f64::from(*a) - b).abs() < 1e-4, "{a} {b}");
            }
            known.push((wide(frame), wide(&found)));
            if known.len() > 1 + last {
                known.remove(1);
            }
        }
    }
}

#[test]
fn a_moving_patch_takes_its_label_along() {
    // One bright feature on a grid of 3 × 20 moves three columns per frame.
    let (h, w, dim) = (3, 20, 2);
    let frame = |column: usize| -> Vec<f32> {
        (0..h * w)
            .flat_map(|i| match i == w + column {
                true => [1.0, 0.0],
                false => [0.0, 1.0],
            })
            .collect()
    };
    let mask: Vec<u8> = (0..h * w).map(|i| u8::from(i == w + 2)).collect();
    let labels = labels_of_mask(&mask, Size::new(h, w), (h, w), 2).unwrap();
    let start = |reach: usize| {
        let settings = Propagation {
            size_mask_neighborhood: reach,
            topk: 1,
            n_last_frames: 1,
            ..Propagation::default()
        };
        Propagator::new(settings, (h, w), dim, frame(2), labels.clone()).unwrap()
    };
    let mut near = start(3);
    for column in [5, 8, 11] {
        let labels = near.next(frame(column)).unwrap();
        let mask = mask_of_labels(&labels, (h, w), 1, Size::new(h, w)).unwrap();
        let found: Vec<usize> = (0..h * w).filter(|&i| mask[i] == 1).collect();
        assert_eq!(found, [w + column]);
    }
    // It is out of reach of two columns and does not appear elsewhere.
    let labels = start(2).next(frame(5)).unwrap();
    let mask = mask_of_labels(&labels, (h, w), 1, Size::new(h, w)).unwrap();
    assert_eq!(mask.iter().filter(|&&m| m == 1).count(), 0);
}

#[test]
fn masks_to_labels_and_back() {
    // 4 × 6 pixels, patches of 2: the pixel at the middle of a patch is its lower right one.
    let mask = [
        0, 0, 0, 1, 2, 2, //
        0, 2, 0, 1, 0, 2, //
        0, 0, 0, 0, 0, 0, //
        0, 0, 1, 1, 1, 0,
    ];
    let labels = labels_of_mask(&mask, Size::new(4, 6), (2, 3), 3).unwrap();
    let classes = |labels: &[f32]| -> Vec<usize> {
        labels
            .chunks(3)
            .map(|l| l.iter().position(|&v| v == 1.0).unwrap())
            .collect()
    };
    assert_eq!(classes(&labels), [2, 1, 2, 0, 1, 0]);
    let back = mask_of_labels(&labels, (2, 3), 1, Size::new(2, 3)).unwrap();
    assert_eq!(back, [2, 1, 2, 0, 1, 0]);
    assert!(labels_of_mask(&mask, Size::new(4, 6), (2, 3), 2).is_err());
    assert!(labels_of_mask(&mask[1..], Size::new(4, 6), (2, 3), 3).is_err());
    // Faint classes are stretched: 0.2 against 0.8 wins where it is at its greatest.
    let faint = [1.0, 0.0, 0.8, 0.2];
    assert_eq!(
        mask_of_labels(&faint, (1, 2), 1, Size::new(1, 2)).unwrap(),
        [0, 1]
    );
    // A class that is nowhere never wins, and one class alone is everywhere.
    assert_eq!(
        mask_of_labels(&[0.5, 0.0, 0.5, 0.0], (1, 2), 1, Size::new(1, 2)).unwrap(),
        [0, 0]
    );
    assert_eq!(
        mask_of_labels(&[1.0; 4], (2, 2), 2, Size::new(3, 5)).unwrap(),
        [0; 15]
    );
    assert!(mask_of_labels(&[], (2, 2), 2, Size::new(3, 5)).is_err());
}

#[test]
fn enlarged_between_the_middles_of_patches() {
    // Two patches of 4 pixels, background 1 → 0 and object 0 → 1: they meet in the middle,
    // and equal values go to the first class.
    let labels = [1.0, 0.0, 0.0, 1.0];
    let mask = mask_of_labels(&labels, (1, 2), 4, Size::new(4, 8)).unwrap();
    assert_eq!(mask[..8], [0, 0, 0, 0, 1, 1, 1, 1]);
    // Pillow's nearest: 8 columns to 5 take 0, 2, 4, 5, 7.
    let mask = mask_of_labels(&labels, (1, 2), 4, Size::new(4, 5)).unwrap();
    assert_eq!(mask[..5], [0, 0, 1, 1, 1]);
}

#[test]
fn ties_share() {
    let mut best = NearestPatches::new(2);
    for (patch, similarity) in [0.5, 0.9, 0.5, 0.1, 0.5].into_iter().enumerate() {
        best.offer(similarity, 0, patch);
    }
    let patches: Vec<usize> = best.entries.iter().map(|entry| entry.2).collect();
    assert_eq!(patches, [1, 0, 2, 4]);
    best.offer(0.7, 1, 9);
    assert_eq!(best.entries.len(), 2);
}

#[test]
fn refuses_what_does_not_fit() {
    let new = |settings, features: Vec<f32>, labels: Vec<f32>| {
        Propagator::new(settings, (2, 2), 3, features, labels).map(|_| ())
    };
    let settings = Propagation::default();
    assert!(new(settings, vec![1.0; 12], vec![1.0; 8]).is_ok());
    assert!(new(settings, vec![1.0; 11], vec![1.0; 8]).is_err());
    assert!(new(settings, vec![1.0; 12], vec![1.0; 7]).is_err());
    assert!(new(settings, vec![1.0; 12], vec![]).is_err());
    assert!(new(settings, vec![f32::NAN; 12], vec![1.0; 8]).is_err());
    let none = Propagation {
        topk: 0,
        ..settings
    };
    assert!(new(none, vec![1.0; 12], vec![1.0; 8]).is_err());
    let cold = Propagation {
        temperature: 0.0,
        ..settings
    };
    assert!(new(cold, vec![1.0; 12], vec![1.0; 8]).is_err());
    let mut propagator = Propagator::new(settings, (2, 2), 3, vec![1.0; 12], vec![1.0; 8]).unwrap();
    assert_eq!(propagator.classes, 2);
    assert!(propagator.next(vec![1.0; 9]).is_err());
}
