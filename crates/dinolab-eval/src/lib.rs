//! Evaluation of trained features.
//!
//! The protocols work on plain slices. Only [`network`] runs a network, to make the features,
//! tokens and attention maps that the protocols score.
//!
//! | module | protocol |
//! |---|---|
//! | [`knn`] | weighted k-nearest-neighbour classification |
//! | [`linear`] | linear classification of frozen features |
//! | [`segmentation`] | semantic segmentation: masks of classes, mean IoU |
//! | [`attention`] | attention against object masks: masks by mass, Jaccard index |
//! | [`retrieval`] | image retrieval: revisited Oxford and Paris, labelled sets |
//! | [`copy`] | copy detection: altered copies among distractors |
//! | [`davis`] | video object segmentation: J and F of the DAVIS benchmark |
//! | [`propagation`] | label propagation from frame to frame |
//!
//! | module | features |
//! |---|---|
//! | [`network`] | features, tokens and attention of a network; fine-tuning and transfer |
//! | [`duplicates`] | groups of near-duplicates |
//! | [`whitening`], [`pca`] | covariance, whitening, principal components |
//! | [`patch_colours`] | the principal components of patches as colours |
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
mod bilinear;
pub mod copy;
mod covariance;
mod cross_entropy;
pub mod davis;
pub mod duplicates;
mod error;
mod file;
pub mod knn;
pub mod linear;
pub mod network;
pub mod patch_colours;
pub mod pca;
pub mod propagation;
mod random_view;
pub mod retrieval;
mod rows;
pub mod segmentation;
mod similarity;
pub mod whitening;

pub use error::{Error, Result};
pub use network::Embedder;
