//! Video object segmentation by the DAVIS benchmark.
//!
//! The objects of a sequence are given in its first frame and to be found in all others. Scores
//! are the region similarity *J* and the boundary measure *F* of each object
//! (Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
//! Segmentation", CVPR 2016; Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object
//! Segmentation"), with mean, recall and decay as the benchmark's evaluation of 2017 computes
//! them for its semi-supervised task.
//!
//! [`VideoSegmentation`](crate::network::VideoSegmentation) makes the masks, by [`Propagation`] of the
//! labels from frame to frame.

mod boundary;
mod measures;
mod palette;
mod results;
mod tree;

pub use crate::propagation::Propagation;
pub use measures::Statistics;
pub(crate) use results::object_count;
pub use results::{DavisSummary, ObjectScore};
pub use tree::{Sequence, Tree, Year};
