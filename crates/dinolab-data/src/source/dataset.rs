//! The trait that all sets of images are read through.

use std::path::PathBuf;

use super::files::stamp_of;
use super::note::Note;
use super::options::Decoding;
use crate::decode::{ScaleOf, Scaled};
use crate::{Image, Mask, Result};

/// A set of images in a fixed, sorted order. All methods may be called from several threads.
///
/// An `index` is below [`Source::len`]; a larger one is a mistake of the caller and panics.
pub trait Source: Send + Sync {
    /// Number of images, usable or not.
    fn len(&self) -> usize;

    /// Whether there is no image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image's name: its path relative to the source's root, or as listed.
    fn name(&self, index: usize) -> String;

    /// Index into [`Source::classes`], if the image has a label. In a source with classes, some
    /// images may have none.
    fn label(&self, index: usize) -> Option<usize>;

    /// Class names in label order; empty if there are no labels.
    fn classes(&self) -> &[String];

    /// What the source left out, or decided about labels. Report it to the user once.
    fn notes(&self) -> &[Note] {
        &[]
    }

    /// Reads and decodes an image (8-bit RGB unless the source was opened for other pixels).
    fn image(&self, index: usize) -> Result<Image>;

    /// An image as its file holds it (JPEG, PNG, …), readable or not; `None` where there is no
    /// such file, as for images that are made.
    ///
    /// Separate from decoding, so that files can be fetched while others are decoded.
    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let _ = index;
        Ok(None)
    }

    /// Reads the files of several images at once: as many of the first `indices` as are stored
    /// contiguously within `most` bytes, at least one. Empty if images cannot be read together.
    fn read_contiguous(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
        let _ = (indices, most);
        Ok(Vec::new())
    }

    /// Returns how many images [`Source::read_contiguous`] would read, or 0 if that is not known in
    /// advance. If it is, several stretches can be read at once.
    fn contiguous_len(&self, indices: &[usize], most: u64) -> usize {
        let _ = (indices, most);
        0
    }

    /// How the files are decoded; `None` if there are none, or if the source decodes them itself.
    fn decoding(&self) -> Option<Decoding> {
        None
    }

    /// Decodes the bytes that [`Source::encoded`] returned for an image, as [`Source::image`] does.
    fn decode(&self, index: usize, bytes: &[u8]) -> Result<Image> {
        match self.decoding() {
            Some(decoding) => decoding.decode(&self.name(index), bytes),
            None => self.image(index),
        }
    }

    /// [`Source::decode`] to fewer pixels where an image is a large JPEG; `scale_of` gives the factor
    /// for an image of some size ([`decode_scaled`](crate::decode::decode_scaled)). In full if the source cannot scale.
    fn decode_scaled(&self, index: usize, bytes: &[u8], scale_of: ScaleOf) -> Result<Scaled> {
        match self.decoding() {
            Some(decoding) => decoding.decode_scaled(&self.name(index), bytes, scale_of),
            None => self.decode(index, bytes).map(Scaled::full),
        }
    }

    /// The number of the shard that holds an image, if the source consists of files that are best
    /// read sequentially. The images of a shard lie in it in the order of their
    /// indices.
    fn shard(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The file that holds the image: its own, or an archive of many; `None` if there is none.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let _ = index;
        None
    }

    /// Size in bytes, and time of the last change in nanoseconds since 1970, of the file that holds
    /// the image, if they are known. They change when the file is replaced.
    fn stamp(&self, index: usize) -> Option<(u64, i64)> {
        self.file(index).and_then(|file| stamp_of(&file))
    }

    /// Size in bytes of the image as it is stored, where it is known without reading it; of its
    /// archive where no size of its own is known.
    fn size(&self, index: usize) -> Option<u64> {
        self.stamp(index).map(|(size, _)| size)
    }

    /// The object or class mask of an image, of the image's own size, where there is one.
    fn mask(&self, index: usize) -> Result<Option<Mask>> {
        let _ = index;
        Ok(None)
    }
}

/// [`Source::image`] of a source whose images have files.
pub(super) fn read_image(source: &impl Source, index: usize) -> Result<Image> {
    let bytes = source.encoded(index)?.unwrap_or_default();
    source.decode(index, &bytes)
}
