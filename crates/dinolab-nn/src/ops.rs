//! The heavy operations, each behind one function.
//!
//! Every operation has a composite body of Burn primitives, which runs on every device and
//! derives its own gradient. On the CPU, in single precision, a fused body from
//! `dinolab-kernels` with a hand-written gradient takes its place; the environment variable
//! `DINOLAB_OPS=composite` turns that off, for comparison.
//!
//! A composite body computes in the numbers of its operands, a linear layer in those of its
//! weights; see [`Precision`](crate::Precision). What needs `f32` inside converts by itself.
//!
//! Shapes and layouts are those a fused body wants: tokens of all images in one matrix `[R, D]`,
//! a residual branch as a whole, attention from the joint query-key-value buffer, losses from
//! raw logits.

mod attention;
mod batch_sums;
pub mod branch;
mod branch_kind;
mod coding_rate;
pub mod conv;
mod depthwise;
mod fused;
mod gelu;
// With Burn's fusion tensors are promises, on which no kernel can be launched.
#[cfg(all(feature = "gpu", not(feature = "fusion")))]
mod gpu;
mod koleo;
mod layer_norm;
mod linear;
mod loss;
mod matmul;
mod muon;
mod prototypes;
mod rotary;
mod sigreg;
mod sinkhorn;
mod swiglu;
mod update;
mod visreg;

pub use attention::{attention, attention_probabilities, first_attention_probabilities};
pub(crate) use batch_sums::batch_mean;
pub use batch_sums::{BatchSums, sums_batches, with_batch_sums};
pub use branch::{branch, branch_onto};
pub use coding_rate::coding_rate;
pub use conv::{channels_last, conv, conv_affine, conv_bias, conv_norm, max_pool};
pub use depthwise::depthwise_conv;
pub use gelu::gelu;
pub use koleo::koleo;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_gelu};
pub use loss::{dino_loss, teacher_probabilities, weighted_cross_entropy};
pub use matmul::{matmul, matmul_f32};
pub use muon::{Muon, newton_schulz};
pub use prototypes::prototypes;
pub use rotary::rotate;
pub use sigreg::sigreg;
pub use sinkhorn::sinkhorn;
pub use update::{AdamW, Average, Lars, ParamUpdate, Sgd, ema, norm};
pub use visreg::visreg;

/// The composite bodies, which tests compare the fused ones with.
pub mod composite {
    pub use super::attention::composite as attention;
    pub use super::branch::{composite as branch, composite_onto as branch_onto};
    pub use super::coding_rate::composite as coding_rate;
    pub use super::conv::{
        composite as conv, composite_norm as conv_norm, composite_pool as max_pool,
    };
    pub use super::depthwise::composite as depthwise_conv;
    pub use super::gelu::composite as gelu;
    pub use super::koleo::composite as koleo;
    pub use super::layer_norm::composite as layer_norm;
    pub use super::linear::{composite as linear, composite_gelu as linear_gelu};
    pub use super::loss::{
        composite as dino_loss, composite_probabilities as teacher_probabilities,
        composite_weighted as weighted_cross_entropy,
    };
    pub use super::muon::composite as newton_schulz;
    pub use super::prototypes::composite as prototypes;
    pub use super::sigreg::composite as sigreg;
    pub use super::sinkhorn::composite as sinkhorn;
    pub use super::visreg::composite as visreg;
}
