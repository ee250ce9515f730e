//! Images given one by one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Source, decode};

use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::sources;

/// Image files, each named by its path; without labels or masks.
struct ImageFiles {
    paths: Vec<PathBuf>,
    max_pixels: u64,
}

impl Source for ImageFiles {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }

    fn label(&self, _: usize) -> Option<usize> {
        None
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn image(&self, index: usize) -> dinolab_data::Result<Image> {
        let path = &self.paths[index];
        let bytes = dinolab_data::file::read(path)?;
        decode::decode(&self.name(index), &bytes, self.max_pixels)
    }
}

/// Opens paths of which some may be single images: those together make one source, each other
/// path one of its own.
///
/// # Errors
/// Paths that cannot be read, or hold no image.
pub fn open(env: &Environment<'_>, paths: &[PathBuf]) -> Result<Vec<Arc<dyn Source>>> {
    let max_pixels = SourceOptions::default().max_pixels;
    let (mut files, mut sources) = (Vec::new(), Vec::<Arc<dyn Source>>::new());
    for path in paths {
        if is_image(path)? {
            files.push(path.clone());
        } else {
            sources.push(sources::open(env, path)?);
        }
    }
    if !files.is_empty() {
        let paths = files;
        sources.insert(0, Arc::new(ImageFiles { paths, max_pixels }));
    }
    Ok(sources)
}

/// Whether a path is that of a file that begins as an image does.
fn is_image(path: &Path) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut head = [0; 64];
    let read = std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read(&mut file, &mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(decode::sniff(&head[..read]).is_some())
}
