use std::borrow::Cow;

use dinolab_data::random::{Purpose, Random};
use dinolab_nn::init::Init;
use proptest::prelude::*;

use super::*;

/// `rows` points around one centre per class, `spread` apart from it; labels in turn.
fn clouds(
    rows: usize,
    dim: usize,
    classes: usize,
    spread: f32,
    seed: u64,
) -> (Vec<f32>, Vec<usize>) {
    let centres = Init::new(7).truncated_normal(classes * dim, 1.0);
    let noise = Init::new(seed).truncated_normal(rows * dim, 1.0);
    let labels: Vec<usize> = (0..rows).map(|r| r % classes).collect();
    let features = (0..rows * dim)
        .map(|i| centres[labels[i / dim] * dim + i % dim] + spread * noise[i])
        .collect();
    (features, labels)
}

fn run(
    (features, labels): &(Vec<f32>, Vec<usize>),
    judged: &(Vec<f32>, Vec<usize>),
    classes: usize,
    lrs: &[f64],
    config: &LinearConfig,
) -> Result<Vec<LinearRun>> {
    let problem = Problem {
        dim: features.len() / labels.len(),
        classes,
        labels,
        validation: Labelled {
            features: &judged.0,
            dim: features.len() / labels.len(),
            labels: &judged.1,
        },
    };
    let mut cached = |_| Ok(Cow::Borrowed(features.as_slice()));
    train::<Error>(&mut cached, &problem, lrs, config, &mut |_| {})
}

#[test]
fn classes_that_can_be_parted_are() {
    let (train, val) = (clouds(300, 16, 6, 0.3, 1), clouds(120, 16, 6, 0.3, 2));
    let config = LinearConfig {
        epochs: 30,
        batch_size: 32,
        ..Default::default()
    };
    let runs = run(&train, &val, 6, &[1e-9, 1.0], &config).unwrap();
    assert_eq!(LinearRun::best_of(&runs).unwrap().lr, runs[1].lr);
    assert!(LinearRun::best_of(&[]).is_none());
    let last = runs[1].last();
    assert_eq!(
        last.accuracy,
        Accuracy {
            top1: 100.0,
            top5: Some(100.0)
        }
    );
    assert!(last.loss < 0.1 && runs[1].history[0].loss > last.loss);
    assert!(runs[1].best().epoch <= last.epoch);
    // A rate of nearly nothing leaves the layer as it started: near chance.
    assert!((runs[0].last().loss - 6f64.ln()).abs() < 0.05);
}

/// The whole protocol in double precision, written out plainly.
fn naive(
    features: &[f32],
    labels: &[usize],
    classes: usize,
    lr: f64,
    config: &LinearConfig,
) -> (Vec<f64>, Vec<f64>, f64) {
    let dim = features.len() / labels.len();
    let mut w: Vec<f64> = Init::new(config.seed)
        .truncated_normal(classes * dim, 0.01)
        .into_iter()
        .map(f64::from)
        .collect();
    let mut b = vec![0.0; classes];
    let (mut vw, mut vb) = (vec![0.0; classes * dim], vec![0.0; classes]);
    let mut loss = 0.0;
    for epoch in 0..config.epochs {
        loss = 0.0;
        let share = epoch as f64 / config.epochs as f64;
        let now = lr * config.batch_size as f64 / 256.0
            * (1.0 + (std::f64::consts::PI * share).cos())
            / 2.0;
        let mut order: Vec<usize> = (0..labels.len()).collect();
        Random::new(config.seed, epoch as u64, 0, Purpose::Order).shuffle(&mut order);
        for batch in order.chunks(config.batch_size) {
            let (mut gw, mut gb) = (vec![0.0; classes * dim], vec![0.0; classes]);
            for &row in batch {
                let x: Vec<f64> = features[row * dim..][..dim]
                    .iter()
                    .map(|&v| f64::from(v))
                    .collect();
                let z: Vec<f64> = (0..classes)
                    .map(|k| b[k] + (0..dim).map(|d| w[k * dim + d] * x[d]).sum::<f64>())
                    .collect();
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                loss += total.ln() - z[labels[row]];
                for k in 0..classes {
                    let p = z[k].exp() / total - f64::from(u8::from(k == labels[row]));
                    gb[k] += p / batch.len() as f64;
                    for d in 0..dim {
                        gw[k * dim + d] += p * x[d] / batch.len() as f64;
                    }
                }
            }
            for (v, g) in vw.iter_mut().chain(&mut vb).zip(gw.iter().chain(&gb)) {
                *v = config.momentum * *v + g;
            }
            for (value, v) in w.iter_mut().chain(&mut b).zip(vw.iter().chain(&vb)) {
                *value -= now * v;
            }
        }
    }
    (w, b, loss / labels.len() as f64)
}

#[test]
fn every_step_is_that_of_a_naive_double_precision_version() {
    // 53 rows in batches of 8: the last batch of an epoch is smaller.
    let data = clouds(53, 11, 5, 1.0, 3);
    for epochs in [1, 2, 7] {
        let config = LinearConfig {
            epochs,
            batch_size: 8,
            seed: 4,
            ..Default::default()
        };
        let found = run(&data, &data, 5, &[0.7], &config).unwrap().remove(0);
        let (w, b, loss) = naive(&data.0, &data.1, 5, 0.7, &config);
        let layer = &found.classifier;
        for (found, wanted) in layer
            .weight
            .iter()
            .chain(&layer.bias)
            .zip(w.iter().chain(&b))
        {
            assert!(
                (f64::from(*found) - wanted).abs() < 2e-6,
                "{found} {wanted}"
            );
        }
        assert!((found.last().loss - loss).abs() < 2e-6);
    }
}

#[test]
fn threads_change_nothing() {
    let (train, val) = (clouds(700, 40, 12, 2.0, 1), clouds(1500, 40, 12, 2.0, 2));
    let config = LinearConfig {
        epochs: 3,
        ..Default::default()
    };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| run(&train, &val, 12, &[0.1, 1.0], &config).unwrap())
    };
    let one = with(1);
    for threads in [2, 3] {
        for (a, b) in one.iter().zip(with(threads)) {
            assert_eq!((&a.classifier, &a.history), (&b.classifier, &b.history));
        }
    }
}

#[test]
fn each_rate_learns_as_if_it_were_alone() {
    let data = clouds(60, 8, 3, 1.0, 3);
    let config = LinearConfig {
        epochs: 4,
        batch_size: 16,
        ..Default::default()
    };
    let both = run(&data, &data, 3, &[0.1, 0.5], &config).unwrap();
    let alone = run(&data, &data, 3, &[0.5], &config).unwrap();
    assert_eq!(both[1].classifier, alone[0].classifier);
}

#[test]
fn features_may_change_with_the_epoch() {
    let data = clouds(60, 8, 3, 1.0, 3);
    let problem = Problem {
        dim: 8,
        classes: 3,
        labels: &data.1,
        validation: Labelled {
            features: &data.0,
            dim: 8,
            labels: &data.1,
        },
    };
    let config = LinearConfig {
        epochs: 3,
        ..Default::default()
    };
    let mut asked = Vec::new();
    let mut fresh = |epoch| {
        asked.push(epoch);
        let shift = epoch as f32;
        Ok(Cow::Owned(data.0.iter().map(|v| v + shift).collect()))
    };
    let mut heard = 0;
    train::<Error>(&mut fresh, &problem, &[0.1], &config, &mut |_| heard += 1).unwrap();
    assert_eq!((asked, heard), (vec![0, 1, 2], 3));
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let data = clouds(10, 4, 2, 1.0, 1);
    let config = LinearConfig::default();
    let refused = |lrs: &[f64], config: &LinearConfig| run(&data, &data, 2, lrs, config).is_err();
    assert!(refused(&[], &config));
    assert!(refused(&[0.0], &config));
    assert!(refused(&[f64::NAN], &config));
    assert!(refused(
        &[0.1],
        &LinearConfig {
            epochs: 0,
            ..config.clone()
        }
    ));
    assert!(refused(
        &[0.1],
        &LinearConfig {
            batch_size: 0,
            ..config.clone()
        }
    ));
    assert!(refused(
        &[0.1],
        &LinearConfig {
            momentum: 1.0,
            ..config.clone()
        }
    ));
    assert!(
        run(&data, &data, 1, &[0.1], &config).is_err(),
        "a label that is no class"
    );
    let mut broken = data.clone();
    broken.0[3] = f32::NAN;
    assert!(run(&broken, &data, 2, &[0.1], &config).is_err());
    let told = run(&data, &data, 2, &[1e38], &config)
        .unwrap_err()
        .to_string();
    assert!(told.contains("too high"), "{told}");
}

#[test]
fn accuracy_by_hand() {
    let logits = [
        0.1, 0.9, 0.0, 0.0, 0.0, 0.0, // class 1, then 0, then ties by number
        0.5, 0.5, 0.0, 0.0, 0.0, 0.0, // class 0 by number
    ];
    let of = |labels: &[usize]| {
        let found = accuracy(&logits, 6, labels).unwrap();
        (found.top1, found.top5.unwrap())
    };
    assert_eq!(of(&[1, 0]), (100.0, 100.0));
    assert_eq!(of(&[1, 1]), (50.0, 100.0));
    assert_eq!(of(&[5, 4]), (0.0, 50.0));
    assert_eq!(of(&[0, 9]), (0.0, 50.0), "a class that is not known");
    assert_eq!(accuracy(&[1.0, 0.0], 2, &[0]).unwrap().top5, None);
    assert!(accuracy(&logits, 6, &[0]).is_err());
    assert!(accuracy(&[], 6, &[]).is_err());
}

#[test]
fn rates_by_hand() {
    let config = LinearConfig {
        epochs: 4,
        batch_size: 128,
        ..Default::default()
    };
    assert_eq!(config.rate(0.002, 0), 0.001);
    assert!((config.rate(0.002, 2) - 0.0005).abs() < 1e-12);
    assert!((config.rate(0.002, 1) - 0.0005 * (1.0 + 0.5f64.sqrt())).abs() < 1e-12);
}

proptest! {
    #[test]
    fn a_folded_layer_says_the_same(seed: u64) {
        let (mut features, _) = clouds(20, 5, 2, 3.0, seed);
        features.iter_mut().skip(2).step_by(5).for_each(|v| *v = 4.0);
        let standardiser = Standardiser::of(&features, 5).unwrap();
        let layer = LinearClassifier { dim: 5, weight: Init::new(seed).truncated_normal(15, 1.0), bias: vec![0.5, -1.0, 2.0] };
        let folded = standardiser.fold_into(&layer).logits(&features).unwrap();
        standardiser.apply(&mut features);
        for column in 0..5 {
            let values: Vec<f32> = features[column..].iter().step_by(5).copied().collect();
            let mean = values.iter().sum::<f32>() / 20.0;
            let square = values.iter().map(|v| v * v).sum::<f32>() / 20.0;
            prop_assert!(mean.abs() < 1e-4);
            prop_assert!((square - f32::from(u8::from(column != 2))).abs() < 1e-3);
        }
        for (a, b) in folded.iter().zip(layer.logits(&features).unwrap()) {
            prop_assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}

#[test]
fn rows_that_are_read_in_turn_train_the_same_layer() {
    // More validation rows than are read at a time.
    let (mut train_set, mut val) = (clouds(500, 12, 7, 2.0, 1), clouds(9000, 12, 7, 2.0, 2));
    let config = LinearConfig {
        epochs: 3,
        ..Default::default()
    };
    let standardiser = Standardiser::of(&train_set.0, 12).unwrap();
    let plain = (train_set.clone(), val.clone());
    standardiser.apply(&mut train_set.0);
    standardiser.apply(&mut val.0);
    let expected = run(&train_set, &val, 7, &[0.1, 1.0], &config).unwrap();
    let [rows, val_rows] = [&plain.0.0, &plain.1.0].map(|features| StandardisedRows {
        rows: RowsInMemory::new(features, 12).unwrap(),
        standardiser: standardiser.clone(),
    });
    let problem = Problem {
        dim: 12,
        classes: 7,
        labels: &plain.0.1,
        validation: LabelledRows {
            rows: &val_rows,
            labels: &plain.1.1,
        },
    };
    let mut features = |_| Ok(Box::new(&rows) as Box<dyn FeatureRows>);
    let found =
        train_rows::<Error>(&mut features, &problem, &[0.1, 1.0], &config, &mut |_| {}).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.classifier, expected.classifier);
        assert_eq!(found.history, expected.history);
    }
    // Of another number of rows, or another width.
    let short = RowsInMemory::new(&plain.0.0[12..], 12).unwrap();
    let mut features = |_| Ok(Box::new(&short) as Box<dyn FeatureRows>);
    assert!(train_rows::<Error>(&mut features, &problem, &[0.1], &config, &mut |_| {}).is_err());
    let narrow = RowsInMemory::new(&plain.0.0[..500 * 6], 6).unwrap();
    let mut features = |_| Ok(Box::new(&narrow) as Box<dyn FeatureRows>);
    assert!(train_rows::<Error>(&mut features, &problem, &[0.1], &config, &mut |_| {}).is_err());
}
