//! From a path to a source.

use std::fs;
use std::path::{Path, PathBuf};

use super::dataset::Source;
#[cfg(not(feature = "parquet"))]
use super::file_kind;
use super::file_kind::{extension, not_a_source};
use super::files::io_error;
use super::options::SourceOptions;
#[cfg(feature = "parquet")]
use super::parquet;
use super::{braces, folder, list, remote, tar, voc};
use crate::{Error, Result};

/// Opens a folder, a list file, a tar or Parquet file, shards or a VOC tree, whichever `path` is.
///
/// | `path` | read as |
/// |---|---|
/// | a folder with `JPEGImages` and `ImageSets` | Pascal VOC: the images of [`SourceOptions::split`], with masks |
/// | a folder with images, at any depth | those images, sorted by path; where all of them lie in subfolders, or more in several subfolders than beside these, the first folder level is the class |
/// | a folder with `.tar` files and no images | tar shards in the order of their names |
/// | a folder with `.parquet` files, no images and no tar files | those files in the order of their names |
/// | `name-{000..012}.tar`, `name-{000..012}.parquet` | those files |
/// | a `.tar` file | its images; labels from `key.cls` members, or from its folders as above |
/// | a `.parquet` file (feature `parquet`) | the images of its column `image`, labels from `label` |
/// | a `.txt`, `.tsv` or `.lst` file | one path per line, optionally a tab and a label |
///
/// With the feature `remote`, all but the VOC tree may be remote:
/// `s3://bucket/folder`, and likewise `gs://` and `az://`; at `http://` and `https://`, which cannot
/// list folders, `.tar` files, shards and lists. Names, labels and order are those of the same files in
/// a local folder. The lines of any list may be locations.
///
/// Entries that are images by their names are counted as such, whether they can be opened or not.
/// What was left out, and what was decided about labels, is in [`Source::notes`].
///
/// # Errors
/// A source without any image is [`Error::NoImages`]; one that cannot be reached is
/// [`Error::Unreachable`]; without the feature, a remote location is [`Error::BadSource`].
pub fn open(path: &Path, options: &SourceOptions) -> Result<Box<dyn Source>> {
    if is_remote(path) {
        #[cfg(feature = "remote")]
        return remote::open(path, options);
        #[cfg(not(feature = "remote"))]
        return Err(Error::BadSource {
            path: path.to_path_buf(),
            reason: remote::not_built(path.to_str().and_then(remote::scheme).unwrap_or_default()),
        });
    }
    if let Some(shards) = braces::expand(path)? {
        if extension(path) == "parquet" {
            return open_parquet(path, &shards, options);
        }
        return Ok(Box::new(tar::Tar::open(path, shards, options)?));
    }
    let kind = fs::metadata(path).map_err(|source| io_error(path, source))?;
    if kind.is_dir() {
        if path.join("JPEGImages").is_dir() && path.join("ImageSets").is_dir() {
            return Ok(Box::new(voc::Voc::open(path, options)?));
        }
        return match folder::scan(path, options.pixels)? {
            found if found.images.is_empty() && !found.tars.is_empty() => {
                Ok(Box::new(tar::Tar::open(path, found.tars, options)?))
            }
            found if found.images.is_empty() && !found.parquets.is_empty() => {
                open_parquet(path, &found.parquets, options)
            }
            found => Ok(Box::new(folder::Folder::new(path, found, options)?)),
        };
    }
    match extension(path).as_str() {
        "tar" => Ok(Box::new(tar::Tar::open(
            path,
            vec![path.to_path_buf()],
            options,
        )?)),
        "parquet" => open_parquet(path, &[path.to_path_buf()], options),
        "txt" | "tsv" | "lst" => Ok(Box::new(list::List::open(path, options)?)),
        other => Err(Error::BadSource {
            path: path.to_path_buf(),
            reason: not_a_source(other),
        }),
    }
}

#[cfg(feature = "parquet")]
fn open_parquet(
    path: &Path,
    files: &[PathBuf],
    options: &SourceOptions,
) -> Result<Box<dyn Source>> {
    Ok(Box::new(parquet::Parquet::open(path, files, options)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(path: &Path, _: &[PathBuf], _: &SourceOptions) -> Result<Box<dyn Source>> {
    Err(file_kind::no_parquet(path))
}

/// Whether a path is a remote location, such as `s3://bucket/folder`.
pub fn is_remote(path: &Path) -> bool {
    path.to_str().and_then(remote::scheme).is_some() && !path.exists()
}

/// Refuses a remote location as an output path, which the system would otherwise create as a folder.
///
/// # Errors
/// [`Error::BadSource`], with advice.
pub fn refuse_remote(path: &Path) -> Result<()> {
    if !is_remote(path) {
        return Ok(());
    }
    Err(Error::BadSource {
        path: path.to_path_buf(),
        reason: "remote locations cannot be written to; write to a local folder, and copy that"
            .into(),
    })
}
