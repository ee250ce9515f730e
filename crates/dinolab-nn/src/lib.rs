//! The networks of DINO on Burn: vision transformer, residual network, ConvNeXt, projection head, and the
//! operations they are made of; weights in and out.
//!
//! Tokens are `[B, N, D]` throughout (images, tokens, width), images `[B, C, H, W]`.
//! Model code reaches every heavy operation through [`ops`], so that an operation
//! can get a faster body without the model noticing.

pub mod backbone;
pub mod convnext;
pub mod device;
pub mod error;
pub mod feature;
pub mod head;
pub mod init;
pub mod lora;
pub mod masked_network;
pub mod network;
pub mod onnx;
pub mod ops;
pub mod optim;
pub mod param;
pub mod position;
pub mod precision;
pub mod resnet;
pub mod vit;
pub mod weights;

pub use burn::tensor::{Device, Tensor};

pub use crate::backbone::{
    AnyBackbone, AttentionMaps, Backbone, BackboneConfig, BlockTokens, Tokens,
};
pub use crate::convnext::{ConvNext, ConvNextConfig};
pub use crate::error::{Error, Result};
pub use crate::feature::Feature;
pub use crate::head::{
    Bottleneck, BottleneckConfig, Head, HeadConfig, Projection, ProjectionConfig, ProjectionHead,
    Regression, RegressionConfig, TokenWidths,
};
pub use crate::lora::{Lora, LoraConfig};
pub use crate::masked_network::{MaskedNetwork, PatchHeadConfig};
pub use crate::network::Network;
pub use crate::param::{Param, Parameters};
pub use crate::precision::Precision;
pub use crate::resnet::{ResNet, ResNetConfig};
pub use crate::vit::{MAX_PATCHES, Vit, VitConfig, check_patches};
