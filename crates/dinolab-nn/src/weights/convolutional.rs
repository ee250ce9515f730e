//! The sizes of convolutional networks, from the tensors that were read.

use super::{Array, Weights, bad, convnext, resnet};
use crate::{BackboneConfig, Result};

/// What precedes the names of a backbone.
pub(super) const BACKBONE: &str = "backbone.";

impl Weights {
    /// The sizes of the backbone, of whatever kind; `heads` is that of
    /// [`vit_config`](Self::vit_config).
    ///
    /// # Errors
    /// As [`vit_config`](Self::vit_config), and likewise for a convolutional network.
    pub fn backbone_config(&self, heads: Option<usize>) -> Result<BackboneConfig> {
        match self.convolutional_config()? {
            Some(config) => Ok(config),
            None => Ok(self.vit_config(heads)?.into()),
        }
    }

    /// The sizes of the convolutional network; `None` for weights of a transformer.
    ///
    /// # Errors
    /// [`crate::Error::BadWeights`] if tensors are missing or of other shapes. A network of the
    /// returned sizes is not larger than the tensors that were read.
    pub fn convolutional_config(&self) -> Result<Option<BackboneConfig>> {
        if resnet::is(&self.arrays) {
            return Ok(Some(resnet::config(self)?.into()));
        }
        if convnext::is(&self.arrays) {
            return Ok(Some(convnext::config(self)?.into()));
        }
        Ok(None)
    }

    /// The shape of the backbone's tensor `name`.
    pub(super) fn backbone_shape(&self, name: &str) -> Option<&[usize]> {
        let array = self.arrays.get(&format!("{BACKBONE}{name}"));
        array.map(|array| array.shape.as_slice())
    }

    /// Checks that the backbone has these tensors, and that the sizes in the metadata, if there are any, are
    /// `config`.
    pub(super) fn check_backbone(
        &self,
        tensors: impl Iterator<Item = (String, Vec<usize>)>,
        config: &BackboneConfig,
    ) -> Result<()> {
        for (name, expected) in tensors {
            let reason = match self.backbone_shape(&name) {
                Some(found) if found == expected => continue,
                Some(found) => format!("tensor {name} has shape {found:?}, not {expected:?}"),
                None => format!("has no tensor {name}"),
            };
            return Err(bad(&self.path, reason));
        }
        let (key, _) = config.metadata_entry();
        let Some(text) = self.metadata.get(&key) else {
            return Ok(());
        };
        match serde_json::from_str(text).ok() == Some(config.sizes()) {
            true => Ok(()),
            false => {
                let reason = format!("its metadata {key} does not fit its tensors: {text}");
                Err(bad(&self.path, reason))
            }
        }
    }
}

/// Refuses networks with tensors that would be computed wrongly, or not at all: those of the backbone
/// that are not `known`.
///
/// # Errors
/// [`crate::Error::BadWeights`].
pub(super) fn check_known<'a>(
    path: &std::path::Path,
    arrays: impl Iterator<Item = (&'a String, &'a Array)>,
    known: impl Fn(&str) -> bool,
) -> Result<()> {
    let names = arrays.filter_map(|(name, _)| name.strip_prefix(BACKBONE));
    let unknown: Vec<_> = names.filter(|name| !known(name)).collect();
    let Some(first) = unknown.first() else {
        return Ok(());
    };
    let count = unknown.len();
    let reason =
        format!("has parts that dinolab does not compute: {count} tensors, the first is {first}");
    Err(bad(path, reason))
}
