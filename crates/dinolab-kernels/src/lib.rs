//! The heavy operations of vision transformers and convolutional networks on plain `f32` slices, forward and backward.
//!
//! Matrices are row-major and dense. Every function runs in parallel on rayon's current pool.
//! How work is divided into tasks, and the order of sums, depend on the sizes of the operands
//! alone, so results are bitwise identical for any number of threads.
//!
//! A backward function takes the values that its forward function saved. Functions panic if sizes
//! do not fit together.
//!
//! # Example
//!
//! The MLP branch of a transformer block over three images, one of which stochastic depth drops,
//! and its gradients:
//!
//! ```
//! use dinolab_kernels::{
//!     BranchWeights, MlpActivation, TokenGroup, TokenLayout, mlp_branch, mlp_branch_backward,
//! };
//!
//! let (width, hidden) = (4, 8);
//! let first = vec![0.1; hidden * width];
//! let second = vec![0.2; width * hidden];
//! let weights = BranchWeights {
//!     gamma: &[1.0; 4],
//!     beta: &[0.0; 4],
//!     eps: 1e-6,
//!     first: &first,
//!     first_bias: &[0.5; 8],
//!     second: &second,
//!     second_bias: &[0.0; 4],
//! };
//!
//! // Two images of five tokens and one of two: twelve rows.
//! let groups = [
//!     TokenGroup { images: 2, tokens: 5 },
//!     TokenGroup { images: 1, tokens: 2 },
//! ];
//! let layout = TokenLayout::new(&groups, &[1.5, 0.0, 1.5]);
//! let x: Vec<f32> = (0..12 * width).map(|i| (i % 7) as f32).collect();
//!
//! let (y, saved) = mlp_branch(&x, &weights, MlpActivation::Gelu, &layout);
//! // The second image has passed unchanged.
//! assert_eq!(y[5 * width..10 * width], x[5 * width..10 * width]);
//! assert_ne!(y[..5 * width], x[..5 * width]);
//!
//! let dy = vec![1.0; y.len()];
//! let gradients = mlp_branch_backward(&x, &weights, MlpActivation::Gelu, &layout, &saved, &dy);
//! // Each of the seven rows that take part adds its factor to the gradient of the last bias.
//! assert_eq!(gradients.second_bias, [7.0 * 1.5; 4]);
//! assert_eq!(gradients.x[5 * width..10 * width], dy[5 * width..10 * width]);
//! ```

mod attention;
mod batch_norm;
mod branch;
mod channels_last;
mod coding_rate;
mod conv;
mod cosines;
mod depthwise;
mod embedding_shape;
mod gelu;
mod koleo;
mod layer_norm;
mod linear;
mod loss;
mod max_pool;
mod muon;
mod newton_schulz;
mod normal_quantiles;
mod parallel;
mod product;
pub mod profile;
mod prototypes;
mod rotation;
mod scratch;
mod sigreg;
mod simd;
mod sinkhorn;
mod stored;
mod swiglu;
mod token_layout;
mod update;
mod visreg;

pub use attention::{AttentionShape, attention, attention_backward};
pub use batch_norm::{
    BatchNormGradients, Moments, batch_norm_affine, batch_norm_backward, batch_norm_input_gradient,
    batch_norm_sums, scale_shift,
};
pub use branch::{
    AttentionSaved, BranchGradients, BranchWeights, ClassAttentionSaved, MlpActivation, MlpSaved,
    attention_branch, attention_branch_backward, class_attention_branch,
    class_attention_branch_backward, mlp_branch, mlp_branch_backward, mlp_branch_onto,
    mlp_branch_onto_backward,
};
pub use channels_last::channels_last;
pub use coding_rate::coding_rate;
pub use conv::{
    ConvEpilogue, ConvShape, conv, conv_input_gradient, conv_weight_gradient, conv_with_epilogue,
    conv_with_moments,
};
pub use cosines::cosines;
pub use depthwise::{
    DepthwiseGradients, DepthwiseShape, depthwise_conv, depthwise_input_gradient,
    depthwise_parameter_gradients,
};
pub use embedding_shape::EmbeddingShape;
pub use gelu::{gelu, gelu_backward, gelu_with_derivative};
pub use koleo::koleo;
pub use layer_norm::{LayerNormGradients, layer_norm, layer_norm_backward};
pub use linear::{
    bias_gradient, gelu_bias_gradient, input_gradient, linear, linear_gelu,
    linear_gelu_with_derivative, weight_gradient,
};
pub use loss::{LossShape, dino_loss, softmax_rows, weighted_cross_entropy};
pub use max_pool::{max_pool, max_pool_backward};
pub use muon::{Matrices, MuonStep, muon};
pub use newton_schulz::newton_schulz;
pub use normal_quantiles::normal_quantiles;
pub use product::instructions;
pub use prototypes::{PrototypesGradients, prototypes, prototypes_backward};
pub use rotation::Rotation;
pub use scratch::keep_memory;
pub use sigreg::sigreg;
pub use sinkhorn::sinkhorn;
pub use stored::{append_f16, append_f32};
pub use token_layout::{TokenGroup, TokenLayout};
pub use update::{AdamWStep, EmaStep, adamw, adamw_and_ema, ema, norm, scale};
pub use visreg::visreg;
