//! What runs a network: images in; features, tokens, attention maps or a trained head out.
//!
//! Everything else in this crate works on plain slices.
//!
//! | items | return |
//! |---|---|
//! | [`Embedder`], [`Tokens`] | the feature, tokens or attention of one image: for other programs |
//! | [`Preprocess`], [`whole_patches`] | the input of a network |
//! | [`embed`], [`Features`], [`FeatureExtractor`] | features of the images of a source |
//! | [`attend`], [`AttentionMaps`] | attention of the class token |
//! | [`BlockFeatures`] | features from the last blocks |
//! | [`descriptor`] | vectors for retrieval: several scales, class token and pooled patches |
//! | [`frozen_segmentation`] | a linear layer on frozen patch tokens |
//! | [`transfer`] | frozen, fine-tuned and from-scratch networks on the same labels |
//! | [`video_segmentation`] | masks of the objects of a DAVIS sequence |

mod block_features;
pub mod descriptor;
mod embedder;
mod features;
pub mod frozen_segmentation;
pub mod transfer;
pub mod video_segmentation;

pub use crate::random_view::{Placement, RandomView};
pub use block_features::BlockFeatures;
pub use embedder::{Embedder, Tokens};
pub use features::{
    AttentionMaps, FeatureExtractor, Features, Preprocess, Rows, Skipped, View, at_once, attend,
    batch, embed, planes, whole_patches,
};
