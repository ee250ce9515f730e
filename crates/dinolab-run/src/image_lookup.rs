//! Images named in a list, perhaps without their extension, in one folder.

use std::path::{Path, PathBuf};

use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, decode};
use dinolab_features::{Error, Result};

const EXTENSIONS: [&str; 6] = ["jpg", "JPG", "jpeg", "png", "webp", "tif"];

/// A folder in which names are looked up.
pub struct ImageLookup<'a> {
    folder: &'a Path,
    names: &'a [String],
}

impl<'a> ImageLookup<'a> {
    /// The images `names` in `folder`.
    pub fn new(folder: &'a Path, names: &'a [String]) -> Self {
        Self { folder, names }
    }

    /// The name of an image.
    pub fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// Reads and decodes an image.
    ///
    /// # Errors
    /// No image of that name, or one that cannot be used.
    pub fn image(&self, index: usize) -> Result<Image> {
        let name = self.name(index);
        let path = self.file(name).ok_or_else(|| Error::Format {
            path: self.folder.join(name),
            reason: format!("no such image (.{})", EXTENSIONS.join(", .")),
        })?;
        let bytes = dinolab_data::file::read(&path)?;
        let name = path.display().to_string();
        Ok(decode::decode(
            &name,
            &bytes,
            SourceOptions::default().max_pixels,
        )?)
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        let whole = std::iter::once(name.to_owned());
        let longer = EXTENSIONS.iter().map(|end| format!("{name}.{end}"));
        whole
            .chain(longer)
            .map(|file| self.folder.join(file))
            .find(|path| path.is_file())
    }
}
