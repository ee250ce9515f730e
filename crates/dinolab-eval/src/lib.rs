//! Judging what was learnt.
//!
//! | module | answers |
//! |---|---|
//! | [`features`] | what does a network make of images? |
//! | [`embedder`] | one image in, its feature out: for other programs |
//! | [`feature_set`] | features with names and labels, in memory and in files |
//! | [`knn`] | do nearby features share a label? (weighted k-nearest neighbours) |
//! | [`attention`] | does the class token look at objects? (masks and Jaccard index) |
//! | [`health`] | is the run learning, or has it collapsed or diverged? |
//! | [`picture`] | heat maps, overlays, contact sheets, PNG |
//! | [`npy`] | arrays to and from NumPy's `.npy` |
//! | [`report`] | one self-contained HTML page about a run |
//!
//! Matrices are row-major: `[N, D]` means `data[n * D + d]`. All modules but
//! [`features`] know of no tensor framework.

#![forbid(unsafe_code)]

pub mod attention;
pub mod embedder;
mod error;
pub mod feature_set;
pub mod features;
mod file;
pub mod health;
pub mod knn;
pub mod npy;
pub mod picture;
pub mod report;

pub use embedder::Embedder;
pub use error::{Error, Result};
