//! Evaluation of trained features.
//!
//! The protocols work on plain slices. The features, tokens and attention maps that they score are
//! computed by the crate `dinolab-features`.
//!
//! | module | holds |
//! |---|---|
//! | [`knn`] | weighted k-nearest-neighbour classification, nearest neighbours |
//! | [`duplicates`] | groups of near-duplicates |
//! | [`linear`] | linear classification of frozen features |
//! | [`retrieval`] | image retrieval: revisited Oxford and Paris, labelled sets |
//! | [`copy`] | copy detection: altered copies among distractors |
//! | [`attention`] | attention against object masks: masks by mass, Jaccard index |
//! | [`segmentation`] | semantic segmentation: masks of classes, mean IoU |
//! | [`davis`] | video object segmentation: label propagation, J and F of the DAVIS benchmark |
//! | [`whitening`], [`pca`] | covariance, whitening, principal components |
//! | [`cross_entropy`] | the loss of classifiers |
//! | [`feature_rows`] | features that are read some rows at a time |
//!
//! Callers read and write files of features, classifiers and pictures.
//!
//! Matrices are row-major: `[N, D]` means `data[n * D + d]`. Sizes are in pixels
//! ([`Size`](dinolab_data::Size)), grids are (rows, columns) of patches.
//!
//! ```
//! use dinolab_eval::knn::{Knn, Labelled, l2_normalise};
//!
//! // Two classes of two training features each, of width 2, and a test feature of either class.
//! let mut train = vec![1.0, 0.1, 0.9, 0.0, 0.1, 1.0, 0.0, 0.8];
//! let mut test = vec![2.0, 0.1, 0.2, 3.0];
//! l2_normalise(&mut train, 2)?;
//! l2_normalise(&mut test, 2)?;
//! let train = Labelled { features: &train, dim: 2, labels: &[0, 0, 1, 1] };
//! let test = Labelled { features: &test, dim: 2, labels: &[0, 1] };
//! let knn = Knn { k: vec![2], temperature: 0.07 };
//! let scores = knn.evaluate(train, test)?;
//! assert_eq!(scores[0].top1, 100.0);
//! # Ok::<(), dinolab_eval::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod attention;
pub mod copy;
mod covariance;
pub mod cross_entropy;
pub mod davis;
pub mod duplicates;
mod error;
pub mod feature_rows;
mod file;
pub mod knn;
pub mod linear;
pub mod pca;
mod propagation;
pub mod retrieval;
mod rows;
pub mod segmentation;
mod similarity;
pub mod whitening;

pub use error::{Error, Result};
