//! One module per verb.

pub mod attend;
pub mod attention;
pub mod bench;
pub mod embed;
pub mod knn;
pub mod overfit;
pub mod train;
