//! Video object segmentation by the DAVIS benchmark.
//!
//! The objects of a sequence are given in its first frame and asked for in all others. Scores
//! are the region similarity *J* and the boundary measure *F* of each object
//! (Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
//! Segmentation", CVPR 2016; Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object
//! Segmentation"), with mean, recall and decay as the benchmark's evaluation of 2017 computes
//! them for its semi-supervised task.
//!
//! | module | holds |
//! |---|---|
//! | [`measures`] | J and F of one mask, mean, recall and decay over frames |
//! | [`results`] | masks on the disk in the benchmark's layout, and the scores of a set |
//! | [`tree`] | which sequences, frames and annotations a DAVIS tree has |

mod boundary;
pub mod measures;
mod palette;
pub mod results;
pub mod tree;

pub use measures::{Statistics, boundary_measure, region_similarity};
pub use palette::palette;
pub use results::{
    ObjectScore, SequenceMeter, Summary, object_count, read_mask, score_folder, score_sequence,
    write_mask,
};
pub use tree::{Sequence, Tree, Year};
