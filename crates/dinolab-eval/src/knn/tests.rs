use dinolab_data::slice::SliceError;

use super::search::{QUERY_BLOCK, TRAIN_BLOCK};
use super::*;

fn unit(angles: &[f32]) -> Vec<f32> {
    angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect()
}

#[test]
fn nearest_one_and_weights() {
    let features = unit(&[0.0, 0.5, 0.52]);
    let query = unit(&[0.1]);
    let train = Labelled {
        features: &features,
        dim: 2,
        labels: &[0, 1, 1],
    };
    let test = Labelled {
        features: &query,
        dim: 2,
        labels: &[0],
    };
    // Sharp votes follow the nearest, flat votes the majority.
    for (temperature, expected) in [(0.01, 0), (100.0, 1), (1e-9, 0)] {
        let knn = Knn {
            k: vec![3],
            temperature,
        };
        let scores = knn.evaluate(train, test).unwrap();
        assert_eq!(scores[0].predicted, [expected], "{temperature}");
    }
}

#[test]
fn ties_and_too_many_neighbours() {
    // Two equal rows of different classes: the earlier one is nearer, the lower class
    // wins the equal vote.
    let features = unit(&[0.3, 0.3]);
    let query = unit(&[0.3]);
    for (labels, k, expected) in [([2, 1], 1, 2), ([2, 1], 2, 1), ([2, 1], 50, 1)] {
        let train = Labelled {
            features: &features,
            dim: 2,
            labels: &labels,
        };
        let test = Labelled {
            features: &query,
            dim: 2,
            labels: &[0],
        };
        let knn = Knn {
            k: vec![k],
            temperature: 0.07,
        };
        let score = &knn.evaluate(train, test).unwrap()[0];
        assert_eq!(score.predicted, [expected]);
        assert_eq!(score.top1, 0.0);
        assert_eq!(score.top5, 0.0, "class 0 has no vote");
    }
}

#[test]
fn leaves_itself_out() {
    let features = unit(&[0.0, 0.1, 1.0, 1.1]);
    let set = Labelled {
        features: &features,
        dim: 2,
        labels: &[0, 1, 2, 3],
    };
    let knn = Knn {
        k: vec![1],
        temperature: 0.07,
    };
    assert_eq!(knn.evaluate(set, set).unwrap()[0].top1, 100.0);
    assert_eq!(knn.leave_one_out(set).unwrap()[0].predicted, [1, 0, 3, 2]);
}

#[test]
fn blocks_do_not_show() {
    // More rows than a block of either kind, checked against the plain definition.
    let (n, m, dim, k) = (TRAIN_BLOCK + 77, QUERY_BLOCK + 9, 5, 7);
    let mut train: Vec<f32> = (0..n * dim)
        .map(|i| ((i * 7919 % 1013) as f32 / 500.0) - 1.0)
        .collect();
    let mut queries: Vec<f32> = (0..m * dim)
        .map(|i| ((i * 6151 % 997) as f32 / 500.0) - 1.0)
        .collect();
    l2_normalise(&mut train, dim).unwrap();
    l2_normalise(&mut queries, dim).unwrap();
    let found = nearest_neighbours(&train, &queries, dim, k).unwrap();
    let alone = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let again = alone.install(|| nearest_neighbours(&train, &queries, dim, k).unwrap());
    assert_eq!(found, again);
    for (q, found) in queries.chunks(dim).zip(&found) {
        let mut all: Vec<f64> = train
            .chunks(dim)
            .map(|t| {
                t.iter()
                    .zip(q)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            })
            .collect();
        for n in found {
            assert!((all[n.index] - f64::from(n.similarity)).abs() < 1e-5);
        }
        all.sort_by(|a, b| b.total_cmp(a));
        for (n, best) in found.iter().zip(&all) {
            assert!((f64::from(n.similarity) - best).abs() < 1e-5);
        }
        assert_eq!(found.len(), k);
    }
}

#[test]
fn refuses_what_makes_no_sense() {
    let knn = Knn::default();
    let good = unit(&[0.0, 1.0]);
    let set = |features, labels| Labelled {
        features,
        dim: 2,
        labels,
    };
    let ok = set(&good, &[0, 1]);
    assert!(knn.evaluate(ok, ok).is_ok());
    assert!(matches!(
        knn.evaluate(ok, set(&good, &[0])),
        Err(Error::Slice(SliceError::Length { .. }))
    ));
    assert!(matches!(
        knn.evaluate(ok, set(&[f32::NAN, 0.0], &[0])),
        Err(Error::Slice(SliceError::NonFinite { .. }))
    ));
    assert!(knn.evaluate(ok, set(&[3.0, 0.0], &[0])).is_err());
    assert!(knn.evaluate(ok, set(&[], &[])).is_err());
    let flat = Knn {
        k: vec![1],
        temperature: 0.0,
    };
    assert!(flat.evaluate(ok, ok).is_err());
    let none = Knn {
        k: vec![0],
        temperature: 1.0,
    };
    assert!(none.evaluate(ok, ok).is_err());
    let mut zeros = vec![0.0, 0.0, 3.0, 4.0];
    l2_normalise(&mut zeros, 2).unwrap();
    assert_eq!(zeros, [0.0, 0.0, 0.6, 0.8]);
}

#[test]
fn rows_in_pieces_score_as_all_at_once() {
    let (dim, train_rows, test_rows) = (5, 300, 140);
    let value = |i: usize| ((i * 7919) % 1013) as f32 / 506.0 - 1.0;
    let mut train: Vec<f32> = (0..train_rows * dim).map(value).collect();
    let mut test: Vec<f32> = (0..test_rows * dim).map(|i| value(i + 17)).collect();
    l2_normalise(&mut train, dim).unwrap();
    l2_normalise(&mut test, dim).unwrap();
    // Twice the same rows: the earlier is the nearer, whichever piece it comes in.
    let copy = train[..20 * dim].to_vec();
    train[200 * dim..220 * dim].copy_from_slice(&copy);
    let train_labels: Vec<usize> = (0..train_rows).map(|i| i * 31 % 7).collect();
    let test_labels: Vec<usize> = (0..test_rows).map(|i| i * 17 % 8).collect();
    let set = |features, labels| Labelled {
        features,
        dim,
        labels,
    };
    let knn = Knn {
        k: vec![1, 20, 1000],
        temperature: 0.1,
    };
    let (all, test) = (set(&train, &train_labels), set(&test, &test_labels));
    let expected = knn.evaluate(all, test).unwrap();
    for piece in [1, 7, 128, 299, 300] {
        let mut stream = KnnStream::new(&knn, test, train_rows).unwrap();
        let pieces = train.chunks(piece * dim).zip(train_labels.chunks(piece));
        for (features, labels) in pieces {
            stream.add(set(features, labels)).unwrap();
        }
        assert_eq!(stream.finish().unwrap(), expected);
    }
    let empty = KnnStream::new(&knn, test, train_rows).unwrap();
    assert!(empty.finish().is_err());
    let mut stream = KnnStream::new(&knn, test, train_rows).unwrap();
    assert!(stream.add(set(&train, &[0])).is_err());
    stream.add(all).unwrap();
    assert!(stream.add(set(&train[..dim], &[0])).is_err());
}
