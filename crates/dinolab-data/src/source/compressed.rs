//! Recognises compressed archives, which do not allow random access, to name the command that unpacks them.

use std::path::Path;

/// The first bytes of a format, its name, and what unpacks it.
const KNOWN: [(&[u8], &str, Unpack); 9] = [
    (b"\x1f\x8b", "gzip", Unpack::Stream("gzip -dc")),
    (b"\x28\xb5\x2f\xfd", "zstd", Unpack::Stream("zstd -dc")),
    (b"\xfd7zXZ\0", "xz", Unpack::Stream("xz -dc")),
    (b"BZh", "bzip2", Unpack::Stream("bzip2 -dc")),
    (b"\x04\x22\x4d\x18", "lz4", Unpack::Stream("lz4 -dc")),
    (b"\x1f\x9d", "compress", Unpack::Stream("gzip -dc")),
    (b"PK\x03\x04", "zip", Unpack::Folder("unzip", "-d FOLDER")),
    (
        b"7z\xbc\xaf\x27\x1c",
        "7-Zip",
        Unpack::Folder("7z x", "-oFOLDER"),
    ),
    (b"Rar!\x1a\x07", "RAR", Unpack::Folder("unrar x", "FOLDER/")),
];

/// What a command makes of an archive.
#[derive(Clone, Copy, Debug)]
enum Unpack {
    /// A tar file, on its standard output.
    Stream(&'static str),
    /// A folder: the command, and how it is given the folder.
    Folder(&'static str, &'static str),
}

/// Extensions of compressed archives.
const EXTENSIONS: [&str; 17] = [
    "gz", "tgz", "zst", "tzst", "bz2", "tbz", "tbz2", "xz", "txz", "lz4", "lzma", "br", "z", "zip",
    "7z", "rar", "tlz",
];

/// How many of a file's first bytes are looked at.
pub(super) const HEAD: usize = 262;

/// Why a file with these first bytes is no tar file that can be read, where it is a compressed one.
pub(super) fn reason(head: &[u8], path: &Path) -> Option<String> {
    // The name of a tar file's first member may begin in any way.
    if head.get(257..262) == Some(b"ustar") {
        return None;
    }
    let (_, name, unpack) = KNOWN.iter().find(|(magic, ..)| head.starts_with(magic))?;
    let path = quoted(path);
    let how = match unpack {
        Unpack::Stream(command) => format!("{command} {path} > unpacked.tar"),
        Unpack::Folder(command, folder) => format!("{command} {path} {folder}"),
    };
    Some(format!(
        "compressed ({name}), and cannot be read at random; unpack it first: {how}"
    ))
}

/// The same of a file that says so by its extension.
pub(super) fn is_extension(extension: &str) -> bool {
    EXTENSIONS.contains(&extension)
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_archives_are_told_from_tar_files() {
        let path = Path::new("my set/a.tar");
        let told = reason(b"\x1f\x8b\x08\0", path).unwrap();
        assert!(
            told.contains("gzip -dc 'my set/a.tar' > unpacked.tar"),
            "{told}"
        );
        assert!(
            reason(b"PK\x03\x04\0", Path::new("b.tar"))
                .unwrap()
                .contains("unzip b.tar -d")
        );
        assert_eq!(reason(&[0; 512], path), None);
        let mut member = [0; 512];
        member[..7].copy_from_slice(b"BZh.jpg");
        member[257..262].copy_from_slice(b"ustar");
        assert_eq!(reason(&member, path), None);
    }
}
