//! Judging what was learnt.
//!
//! | module | answers |
//! |---|---|
//! | [`features`] | what does a network make of images? |
//! | [`descriptor`] | vectors for retrieval: several scales, class token and pooled patches |
//! | [`embedder`] | one image in, its feature out: for other programs |
//! | [`feature_set`] | features with names and labels, in memory and in files |
//! | [`linear`] | does a linear layer tell the classes apart? the classifier in a file |
//! | [`segmentation`] | does a linear layer on patch tokens tell what each pixel shows? |
//! | [`transfer`] | do the weights help a network that goes on learning, against a cold start? |
//! | [`block_features`], [`views`], [`cross_entropy`] | what the three of them are made from |
//! | [`knn`] | do nearby features share a label? (weighted k-nearest neighbours) |
//! | [`attention`] | does the class token look at objects? (masks and Jaccard index) |
//! | [`davis`] | how well are objects of a video followed? (J and F of the DAVIS benchmark) |
//! | [`propagation`] | labels from frame to frame by features |
//! | [`tracking`] | a network that follows the objects of a DAVIS sequence |
//! | [`health`] | is the run learning, or has it collapsed or diverged? |
//! | [`pca`] | patch features as colours |
//! | [`npy`] | arrays to and from NumPy's `.npy` |
//! | [`retrieval`] | are images of the same thing found first? (revisited Oxford/Paris, labelled sets) |
//! | [`copy`] | are altered copies found among distractors? |
//! | [`moments`] | mean and spread of features that come in parts |
//! | [`whitening`] | features of equal spread in all directions |
//! | [`duplicates`] | groups of images that are nearly the same |
//! | [`index`] | features kept in a file, new images alone embedded |
//!
//! Matrices are row-major: `[N, D]` means `data[n * D + d]`. What runs a network knows tensors
//! ([`features`], [`embedder`], [`descriptor`], [`tracking`], [`block_features`],
//! [`segmentation`], [`transfer`]); what judges its answers knows slices only.

#![forbid(unsafe_code)]

pub mod attention;
mod bilinear;
pub mod block_features;
pub mod copy;
pub mod cross_entropy;
pub mod davis;
pub mod descriptor;
pub mod duplicates;
pub mod embedder;
mod error;
pub mod feature_set;
pub mod features;
mod file;
pub mod health;
pub mod index;
pub mod knn;
pub mod linear;
pub mod moments;
pub mod npy;
pub mod patch_tokens;
pub mod pca;
pub mod propagation;
pub mod retrieval;
pub mod segmentation;
mod similarity;
pub mod tracking;
pub mod transfer;
pub mod views;
pub mod whitening;

pub use embedder::Embedder;
pub use error::{Error, Result};
