//! The functions that are fuzzed, and whole files to begin with.

#[cfg(feature = "images")]
pub mod images;
#[cfg(feature = "weights")]
pub mod weights;
