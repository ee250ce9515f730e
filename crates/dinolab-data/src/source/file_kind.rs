//! Kinds of files by their names.

use std::ffi::OsStr;
use std::path::Path;

use super::compressed;
use crate::decode::Pixels;

/// Extensions of images, those that cannot be read included: such a file is reported, not skipped.
pub(super) const IMAGE_EXTENSIONS: &[&str] = &[
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif", "avif", "heic",
    "heif", "jp2", "jxl",
];

/// Extensions of files that are commonly found next to images and are not images.
pub(super) const OTHER_EXTENSIONS: &[&str] = &[
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

/// The kind of a file by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Other,
    /// To be decided by the content.
    Unknown,
}

pub(super) fn kind_of(path: &Path, pixels: Pixels) -> Kind {
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

/// Folders that operating systems create among images, with copies of them or with other data.
pub(super) const SYSTEM: [&str; 5] = [
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
];

/// Whether a file or folder of that name is skipped.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    (name.as_encoded_bytes().first() == Some(&b'.') && name != "..")
        || SYSTEM.iter().any(|system| name == *system)
}

/// The extension in lower case, without the dot; empty if there is none.
pub(super) fn extension(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Why a path with this extension cannot be opened.
pub(super) fn not_a_source(extension: &str) -> String {
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

/// Why a program without the feature does not read a file.
#[cfg(not(feature = "parquet"))]
pub(super) fn no_parquet(path: &Path) -> crate::Error {
    crate::Error::BadSource {
        path: path.to_path_buf(),
        reason: "this build does not read Parquet files; it needs the cargo feature `parquet`"
            .into(),
    }
}
