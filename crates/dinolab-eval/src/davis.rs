//! Video object segmentation by the DAVIS benchmark.
//!
//! The objects of a sequence are given in its first frame and to be found in all others. Scores
//! are the region similarity *J* and the boundary measure *F* of each object
//! (Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
//! Segmentation", CVPR 2016; Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object
//! Segmentation"), with mean, recall and decay as the benchmark's evaluation of 2017 computes
//! them for its semi-supervised task.

mod boundary;
mod measures;
mod palette;
mod results;
mod tree;

pub use measures::{Statistics, boundary_measure, region_similarity};
pub(crate) use results::object_count;
pub use results::{
    DavisSummary, ObjectScore, read_mask, score_first_mask, score_folder, score_sequence,
    write_mask,
};
pub use tree::{Sequence, Tree, Year};
