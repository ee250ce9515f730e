//! Options of every source: limits, kinds of pixels and masks.

use super::remote::RemoteOptions;
use crate::decode::{Pixels, ScaleOf, Scaled, decode_scaled, decode_to};
use crate::{Image, Result};

/// Limits and choices that apply to every source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceOptions {
    /// Images with more pixels than this are refused before they are decoded.
    pub max_pixels: u64,
    /// What images are decoded to. If they are taken as stored, `.npy` files count as images.
    pub pixels: Pixels,
    /// The VOC split to read (`ImageSets/Segmentation/<split>.txt`).
    pub split: String,
    /// Which masks of a VOC tree are read.
    pub masks: MaskKind,
    /// How remote locations are read.
    pub remote: RemoteOptions,
}

/// The meaning of the values in a VOC tree's masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskKind {
    /// Objects if the tree has such masks, else classes.
    #[default]
    Objects,
    /// Classes, [`VOC_CLASSES`](crate::source::VOC_CLASSES); a tree without such masks has none then.
    Classes,
}

impl SourceOptions {
    pub(super) fn decoding(&self) -> Decoding {
        Decoding {
            max_pixels: self.max_pixels,
            pixels: self.pixels,
        }
    }
}

/// How a source decodes its images.
#[derive(Clone, Copy, Debug)]
pub struct Decoding {
    /// As [`SourceOptions::max_pixels`].
    pub max_pixels: u64,
    /// As [`SourceOptions::pixels`].
    pub pixels: Pixels,
}

impl Decoding {
    pub(super) fn decode(self, name: &str, bytes: &[u8]) -> Result<Image> {
        decode_to(self.pixels, name, bytes, self.max_pixels)
    }

    pub(super) fn decode_scaled(
        self,
        name: &str,
        bytes: &[u8],
        scale_of: ScaleOf,
    ) -> Result<Scaled> {
        decode_scaled(self.pixels, name, bytes, self.max_pixels, scale_of)
    }
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            max_pixels: 178_956_970,
            pixels: Pixels::Rgb,
            split: "val".into(),
            masks: MaskKind::default(),
            remote: RemoteOptions::default(),
        }
    }
}
