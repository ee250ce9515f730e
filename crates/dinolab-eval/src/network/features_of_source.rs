//! Features of a source's images with the names and labels that the source knows.

use dinolab_data::Source;

use super::features::Features;
use crate::feature_set::{FeatureSet, names_and_labels};

impl FeatureSet {
    /// Adds the source's names and labels to the features of its images.
    pub fn of_source(features: Features, source: &dyn Source) -> Self {
        let (names, labels) = names_and_labels(&features.indices, source);
        Self {
            dim: features.dim,
            data: features.data,
            names: Some(names),
            labels,
        }
    }
}
