//! One module per verb.

pub mod attend;
pub mod attention;
pub mod bench;
pub mod convert;
pub mod copy;
pub mod embed;
pub mod knn;
pub mod neighbours;
pub mod overfit;
pub mod retrieval;
pub mod train;
