//! Names of images as text, the same on every system.

use std::ffi::OsStr;
use std::path::Path;

/// A relative path with `/` on every system, so that names, and what is keyed by them, are the same everywhere.
pub(super) fn slashed(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .map(|part| readable(part.as_os_str()))
        .collect();
    parts.join("/")
}

/// A name as text. What is not UTF-8 in it is written in hexadecimal (`caf\xE9`), so that different
/// names stay different.
pub(super) fn readable(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}
