//! One module per verb.

pub mod attend;
pub mod attention;
pub mod bench;
pub mod classify;
pub mod convert;
pub mod copy;
pub mod data;
pub mod embed;
pub mod knn;
pub mod linear;
pub mod neighbours;
pub mod overfit;
pub mod pca;
pub mod retrieval;
pub mod segmentation;
pub mod train;
pub mod transfer;
pub mod video;
