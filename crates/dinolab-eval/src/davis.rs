//! Video object segmentation by the DAVIS benchmark.
//!
//! The objects of a sequence are given in its first frame and to be found in all others. Scores
//! are the region similarity *J* and the boundary measure *F* of each object
//! (Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
//! Segmentation", CVPR 2016; Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object
//! Segmentation"), with mean, recall and decay as the benchmark's evaluation of 2017 computes
//! them for its semi-supervised task.
//!
//! Masks are made by [`Propagation`] of the labels of the first frame to the others, by the similarity
//! of patches ([`Propagator`]).

mod boundary;
mod measures;
mod palette;
mod results;
mod tree;

pub use crate::propagation::{Propagation, Propagator, labels_of_mask, mask_of_labels};
pub use measures::Statistics;
pub use results::{DavisSummary, ObjectScore, object_count};
pub use tree::{Sequence, Tree, Year};
