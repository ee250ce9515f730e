//! Kernels against plain code in double precision. One binary, since each would have to be linked.

mod common;

mod branches;
mod coding_rate;
mod conv;
mod depthwise;
mod koleo;
mod newton_schulz;
mod products;
mod prototypes;
mod rows;
mod sigreg;
mod sinkhorn;
mod update;
mod visreg;
