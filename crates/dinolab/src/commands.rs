//! One module per verb.

pub mod attend;
pub mod attention;
pub mod bench;
pub mod classify;
pub mod convert;
pub mod embed;
pub mod knn;
pub mod linear;
pub mod overfit;
pub mod segmentation;
pub mod train;
pub mod transfer;
