//! The heavy operations of a vision transformer on plain `f32` slices, forward and backward.
//!
//! Matrices are row-major and dense. Every function runs in parallel on rayon's current
//! pool. Work is cut and sums are ordered by the sizes of the operands alone, so results are
//! the same bit for bit whatever the number of threads.
//!
//! A backward function takes what its forward function saved. Sizes that do not fit
//! together are a caller's mistake and panic.

mod attention;
mod branch;
mod gelu;
mod layer_norm;
mod linear;
mod loss;
mod parallel;
mod product;
pub mod profile;
mod prototypes;
mod samples;
mod scratch;
mod sigreg;
mod simd;
mod update;

pub use attention::{AttentionShape, attention, attention_backward};
pub use branch::{
    AttentionSaved, BranchGradients, BranchWeights, ClassAttentionSaved, MlpSaved,
    attention_branch, attention_branch_backward, class_attention_branch,
    class_attention_branch_backward, mlp_branch, mlp_branch_backward,
};
pub use gelu::{gelu, gelu_backward, gelu_with_derivative};
pub use layer_norm::{LayerNormGradients, layer_norm, layer_norm_backward};
pub use linear::{
    bias_gradient, gelu_bias_gradient, input_gradient, linear, linear_gelu,
    linear_gelu_with_derivative, weight_gradient,
};
pub use loss::{LossShape, dino_loss, softmax_rows};
pub use prototypes::{PrototypesGradients, prototypes, prototypes_backward};
pub use samples::{Run, Samples};
pub use scratch::keep_memory;
pub use sigreg::{SigRegShape, sigreg};
pub use update::{AdamWStep, EmaStep, adamw, adamw_and_ema, ema, norm, scale};
