//! Judging what was learnt.
//!
//! | module | answers |
//! |---|---|
//! | [`features`] | what does a network make of images? |
//! | [`embedder`] | one image in, its feature out: for other programs |
//! | [`feature_set`] | features with names and labels, in memory and in files |
//! | [`linear`] | does a linear layer tell the classes apart? the classifier in a file |
//! | [`segmentation`] | does a linear layer on patch tokens tell what each pixel shows? |
//! | [`transfer`] | do the weights help a network that goes on learning, against a cold start? |
//! | [`block_features`], [`views`], [`cross_entropy`] | what the three of them are made from |
//! | [`knn`] | do nearby features share a label? (weighted k-nearest neighbours) |
//! | [`attention`] | does the class token look at objects? (masks and Jaccard index) |
//! | [`health`] | is the run learning, or has it collapsed or diverged? |
//! | [`picture`] | heat maps, overlays, contact sheets, PNG |
//! | [`npy`] | arrays to and from NumPy's `.npy` |
//! | [`report`] | one self-contained HTML page about a run |
//!
//! Matrices are row-major: `[N, D]` means `data[n * D + d]`. What runs a network knows tensors
//! ([`features`], [`embedder`], [`block_features`], [`segmentation`], [`transfer`]); what judges
//! its answers knows slices only.

#![forbid(unsafe_code)]

pub mod attention;
pub mod block_features;
pub mod cross_entropy;
pub mod embedder;
mod error;
pub mod feature_set;
pub mod features;
mod file;
pub mod health;
pub mod knn;
pub mod linear;
pub mod npy;
pub mod picture;
pub mod report;
pub mod segmentation;
pub mod transfer;
pub mod views;

pub use embedder::Embedder;
pub use error::{Error, Result};
