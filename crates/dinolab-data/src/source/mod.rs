//! Where images come from.
//!
//! [`open`] tells a folder, a list file, tar shards, Parquet files and a VOC tree apart; all of
//! them are read through the one trait [`Source`]. [`Subset`] and [`split`] cut a source
//! into parts.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::decode::{self, Pixels, ScaleOf, Scaled, decode_scaled, decode_to};
use crate::{Error, Image, Mask, Result};

mod braces;
mod compressed;
mod files;
mod folder;
mod labels;
mod list;
mod note;
#[cfg(feature = "parquet")]
mod parquet;
mod remote;
mod run_folder;
mod subset;
mod tar;
mod text;
mod voc;

use labels::Labels;
pub use note::{Note, Tally};
pub use remote::{CacheOptions, RemoteOptions};
pub use subset::{Subset, split};
pub use tar::contents::CLASSES as SHARD_CLASSES;
pub use voc::VOC_CLASSES;

/// Limits and choices that apply to every source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceOptions {
    /// Images with more pixels than this are refused before they are decoded.
    pub max_pixels: u64,
    /// What images are decoded to. Where they are taken as stored, `.npy` files are images too.
    pub pixels: Pixels,
    /// The VOC split to read (`ImageSets/Segmentation/<split>.txt`).
    pub split: String,
    /// What the masks of a VOC tree tell apart.
    pub masks: MaskKind,
    /// How locations of other machines are read.
    pub remote: RemoteOptions,
}

/// What the values of a VOC tree's masks stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskKind {
    /// Objects where the tree has such masks, else classes.
    #[default]
    Objects,
    /// Classes, [`VOC_CLASSES`]; a tree without such masks has none then.
    Classes,
}

impl SourceOptions {
    fn decoding(&self) -> Decoding {
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
    fn decode(self, name: &str, bytes: &[u8]) -> Result<Image> {
        decode_to(self.pixels, name, bytes, self.max_pixels)
    }

    fn decode_scaled(self, name: &str, bytes: &[u8], scale_of: ScaleOf) -> Result<Scaled> {
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

    /// Index into [`Source::classes`], where the image has a label. In a source with classes, some
    /// images may have none.
    fn label(&self, index: usize) -> Option<usize>;

    /// Class names in label order; empty where there are no labels.
    fn classes(&self) -> &[String];

    /// What the source left out, or decided about labels: the user should be told, once.
    fn notes(&self) -> &[Note] {
        &[]
    }

    /// Reads and decodes an image (8-bit RGB unless the source was opened for other pixels).
    fn image(&self, index: usize) -> Result<Image>;

    /// An image as its file holds it (JPEG, PNG, …), readable or not; `None` where there is no
    /// such file, as for images that are made.
    ///
    /// Apart from decoding, so that files can be fetched while others are decoded.
    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let _ = index;
        Ok(None)
    }

    /// The files of the first of some images, read at once: as many of them as lie one behind the
    /// other within `most` bytes, at least one. None where images cannot be read together.
    fn encoded_run(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
        let _ = (indices, most);
        Ok(Vec::new())
    }

    /// How many of some images [`Source::encoded_run`] would read, where that is known without reading:
    /// then several runs can be read at once. 0 where it is not.
    fn run_length(&self, indices: &[usize], most: u64) -> usize {
        let _ = (indices, most);
        0
    }

    /// How its files are decoded; `None` where it has none, or decodes them by itself.
    fn decoding(&self) -> Option<Decoding> {
        None
    }

    /// What [`Source::image`] makes of the bytes that [`Source::encoded`] gave for an image.
    fn decode(&self, index: usize, bytes: &[u8]) -> Result<Image> {
        match self.decoding() {
            Some(decoding) => decoding.decode(&self.name(index), bytes),
            None => self.image(index),
        }
    }

    /// [`Source::decode`] to fewer pixels where an image is a large JPEG; `scale_of` gives the factor
    /// for an image of some width and height ([`decode_scaled`]). In full where a source has no way
    /// to do it.
    fn decode_scaled(&self, index: usize, bytes: &[u8], scale_of: ScaleOf) -> Result<Scaled> {
        match self.decoding() {
            Some(decoding) => decoding.decode_scaled(&self.name(index), bytes, scale_of),
            None => self.decode(index, bytes).map(Scaled::full),
        }
    }

    /// The number of the shard that holds an image, where the source consists of files that are
    /// best read from front to back. The images of a shard lie in it in the order of their
    /// indices.
    fn shard(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The file that holds the image: its own, or an archive of many; `None` where there is none.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let _ = index;
        None
    }

    /// Size in bytes, and time of the last change in nanoseconds since 1970, of the file that holds
    /// the image, where they are known: they tell that it was replaced.
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

/// Opens a folder, a list file, a tar or Parquet file, shards or a VOC tree, told apart by what it finds.
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
/// With the feature `remote`, all but the VOC tree may lie on another machine:
/// `s3://bucket/folder`, and likewise `gs://` and `az://`; at `http://` and `https://`, which tell of
/// no folders, `.tar` files, shards and lists. Names, labels and order are those of the same files in
/// a local folder. The lines of any list may be locations.
///
/// Entries that are images by their names are counted as such, whether they can be opened or not.
/// What was left out, and what was decided about labels, is in [`Source::notes`].
///
/// # Errors
/// A source without any image is [`Error::NoImages`]; one that cannot be reached is
/// [`Error::Unreachable`]; a location of another machine is [`Error::BadSource`] without the feature.
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
    Err(Error::BadSource {
        path: path.to_path_buf(),
        reason: "this program reads no Parquet files; build it with `--features parquet`".into(),
    })
}

/// Whether a path is a location of another machine, such as `s3://bucket/folder`.
pub fn is_remote(path: &Path) -> bool {
    path.to_str().and_then(remote::scheme).is_some() && !path.exists()
}

/// Refuses a location of another machine where something is to be written, which the system would
/// take for a folder.
///
/// # Errors
/// [`Error::BadSource`], which says what to do.
pub fn refuse_remote(path: &Path) -> Result<()> {
    if !is_remote(path) {
        return Ok(());
    }
    Err(Error::BadSource {
        path: path.to_path_buf(),
        reason: "nothing is written to other machines; write to a local folder, and copy that"
            .into(),
    })
}

fn not_a_source(extension: &str) -> String {
    const WANTED: &str =
        "a folder, a list (.txt, .tsv, .lst), a .tar or .parquet file, shards or a VOC tree";
    match extension {
        e if compressed::is_extension(e) => {
            format!(
                "a compressed archive cannot be read at random; unpack it to a .tar file or a folder first (wanted: {WANTED})"
            )
        }
        e if IMAGE_EXTENSIONS.contains(&e) => {
            format!("this is a single image; give its folder (wanted: {WANTED})")
        }
        "" => format!("a file without an extension; wanted {WANTED}"),
        e => format!("a .{e} file; wanted {WANTED}"),
    }
}

/// Extensions of images, those that cannot be read included: such a file is reported, not skipped.
const IMAGE_EXTENSIONS: &[&str] = &[
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif", "avif", "heic",
    "heif", "jp2", "jxl",
];

/// Extensions of files that commonly lie beside images and are none.
const OTHER_EXTENSIONS: &[&str] = &[
    "txt",
    "tsv",
    "lst",
    "csv",
    "json",
    "jsonl",
    "md",
    "xml",
    "html",
    "yaml",
    "yml",
    "toml",
    "ini",
    "log",
    "cls",
    "py",
    "rs",
    "sh",
    "npy",
    "npz",
    "mat",
    "pkl",
    "pt",
    "pth",
    "onnx",
    "safetensors",
    "parquet",
    "h5",
    "db",
    "tar",
    "gz",
    "tgz",
    "bz2",
    "xz",
    "zst",
    "zip",
    "7z",
    "mp4",
    "avi",
    "mov",
    "mkv",
    "webm",
    "pdf",
    "svg",
    "wav",
    "mp3",
];

/// What a file's name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    Other,
    /// Only the content can tell.
    Unknown,
}

fn kind_of(path: &Path, pixels: Pixels) -> Kind {
    let extension = extension(path);
    let array = pixels != Pixels::Rgb && extension == "npy";
    if array || IMAGE_EXTENSIONS.contains(&extension.as_str()) {
        Kind::Image
    } else if OTHER_EXTENSIONS.contains(&extension.as_str()) {
        Kind::Other
    } else {
        Kind::Unknown
    }
}

/// Folders that systems put among images, with copies of them or with nothing that is meant.
const SYSTEM: [&str; 5] = [
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
];

/// Whether a file or folder of that name is passed over.
fn is_hidden(name: &OsStr) -> bool {
    (name.as_encoded_bytes().first() == Some(&b'.') && name != "..")
        || SYSTEM.iter().any(|system| name == *system)
}

/// The extension in lower case, without the dot; empty where there is none.
fn extension(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    // What a `RangeFile` of another machine met comes as it was.
    source.downcast().unwrap_or_else(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// [`Source::stamp`] of a local file.
fn stamp_of(file: &Path) -> Option<(u64, i64)> {
    let found = file.metadata().ok()?;
    let since = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((found.len(), i64::try_from(since.as_nanos()).ok()?))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    crate::file::read(path)
}

/// [`Source::image`] of a source whose images have files.
fn read_image(source: &impl Source, index: usize) -> Result<Image> {
    let bytes = source.encoded(index)?.unwrap_or_default();
    source.decode(index, &bytes)
}

/// A relative path with `/` on every system, so that names (and what is keyed by them) travel.
fn slashed(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .map(|part| readable(part.as_os_str()))
        .collect();
    parts.join("/")
}

/// A name as text. What is not UTF-8 in it is written in hexadecimal (`caf\xE9`), so that different
/// names stay different.
fn readable(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

/// Reads a mask and checks it against its image, whose header alone is read.
fn read_mask(image: &Path, mask: &Path, name: &str, max_pixels: u64) -> Result<Mask> {
    let bytes = read_file(mask)?;
    let mask_name = mask.to_string_lossy();
    let found = decode::decode_mask(&mask_name, &bytes, max_pixels)?;
    let bytes = read_file(image)?;
    let (width, height) = decode::dimensions(name, &bytes)?;
    if (found.width, found.height) != (width, height) {
        let reason = format!(
            "the mask is {}×{}, its image is {width}×{height}",
            found.width, found.height
        );
        return Err(Error::BadImage {
            name: mask_name.into_owned(),
            reason,
        });
    }
    Ok(found)
}
