//! The heavy operations, each behind one function.
//!
//! Bodies are composed of Burn primitives, which run on every device and derive their
//! own gradients. Shapes and layouts are those a fused body wants: tokens `[B, N, D]`,
//! attention from the joint query-key-value buffer, losses from raw logits.

mod attention;
mod gelu;
mod layer_norm;
mod linear;
mod loss;
mod update;

pub use attention::{attention, attention_probabilities};
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_gelu};
pub use loss::{dino_loss, teacher_probabilities};
pub use update::{AdamW, Lars, Sgd, clip_by_norm, ema, norm};
