//! Features, patch tokens and attention maps of images, and models trained on top of a network.
//!
//! | items | return |
//! |---|---|
//! | [`Embedder`], [`Tokens`] | the feature, tokens or attention of one image: for other programs |
//! | [`Preprocess`], [`whole_patches`] | the input of a network |
//! | [`embed`], [`embed_usable`], [`Features`]; [`FeatureExtractor`], [`Rows`], [`View`], [`at_once`] | features of the images of a source |
//! | [`MapKind`], [`attend`], [`activation`], [`AttentionMaps`] | attention of the class token, shares of positions in the feature |
//! | [`BlockFeatures`] | features from the last blocks |
//! | [`RandomView`] | random views, for training on top of a network |
//! | [`descriptor`] | vectors for retrieval: several scales, class token and pooled patches |
//! | [`FrozenSegmentation`], [`SegmentationRun`] | a linear layer on frozen patch tokens |
//! | [`transfer`] | frozen, fine-tuned and from-scratch networks on the same labels |
//! | [`VideoSegmentation`] | masks of the objects of a DAVIS sequence |
//!
//! Features are scored by the crate `dinolab-eval`.

#![forbid(unsafe_code)]

mod block_features;
pub mod descriptor;
mod embedder;
mod error;
mod features;
mod frozen_segmentation;
mod map_kind;
mod random_view;
mod segmentation;
pub mod transfer;
mod video_segmentation;

pub use block_features::BlockFeatures;
pub use embedder::{Embedder, Tokens};
pub use error::{Error, Result};
pub use features::{
    AttentionMaps, FeatureExtractor, Features, Preprocess, Rows, View, activation, at_once, attend,
    embed, embed_usable, whole_patches,
};
pub use frozen_segmentation::{FrozenSegmentation, SegmentationRun};
pub use map_kind::MapKind;
pub use random_view::RandomView;
pub use video_segmentation::VideoSegmentation;
