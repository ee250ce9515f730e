//! Judging what was learnt, on plain slices.
//!
//! | module | answers |
//! |---|---|
//! | [`knn`] | do nearby features share a label? (weighted k-nearest neighbours) |
//! | [`attention`] | does the class token look at objects? (masks and Jaccard index) |
//! | [`health`] | is the run learning, or has it collapsed or diverged? |
//! | [`picture`] | heat maps, overlays, contact sheets, PNG |
//! | [`npy`] | arrays to and from NumPy's `.npy` |
//! | [`report`] | one self-contained HTML page about a run |
//!
//! Matrices are row-major: `[N, D]` means `data[n * D + d]`. Nothing in these modules
//! depends on a tensor framework.

#![forbid(unsafe_code)]

pub mod attention;
mod error;
mod file;
pub mod health;
pub mod knn;
pub mod npy;
pub mod picture;
pub mod report;

pub use error::{Error, Result};
