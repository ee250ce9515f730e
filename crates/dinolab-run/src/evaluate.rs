//! Evaluations: weights and images, or saved features, to figures.

pub mod attention;
pub mod copy;
pub mod knn;
pub mod linear;
pub mod retrieval;
pub mod segmentation;
pub mod transfer;
pub mod video;

/// A fraction in percent.
pub(crate) fn percent(share: Option<f64>) -> Option<f64> {
    share.map(|share| 100.0 * share)
}
