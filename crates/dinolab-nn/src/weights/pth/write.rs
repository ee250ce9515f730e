//! PyTorch checkpoints, written as `torch.save` lays them out.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::{bad, io};
use super::pickle::{Value, pickle};
use crate::Result;

/// The folder inside the archive, whatever the file is called.
const ROOT: &str = "archive";

/// Writes a checkpoint that `torch.load(…, weights_only=True)` reads. `path` holds either its
/// old content or all of the new.
///
/// # Errors
/// [`crate::Error::Io`] where the file cannot be written.
pub fn write_pth(path: &Path, value: &Value) -> Result<()> {
    let part = path.with_extension("part");
    let written =
        archive(&part, path, value).and_then(|()| std::fs::rename(&part, path).map_err(io(path)));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn archive(part: &Path, path: &Path, value: &Value) -> Result<()> {
    let (pickle, storages) = pickle(value);
    let zip = |error: zip::result::ZipError| bad(path, error.to_string());
    let file = BufWriter::new(File::create(part).map_err(io(part))?);
    let mut archive = ZipWriter::new(file);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let small: [(&str, &[u8]); 3] = [
        ("data.pkl", &pickle),
        ("byteorder", b"little"),
        ("version", b"3\n"),
    ];
    for (name, content) in small {
        archive
            .start_file(format!("{ROOT}/{name}"), options)
            .map_err(zip)?;
        archive.write_all(content).map_err(io(path))?;
    }
    for (i, array) in storages.into_iter().enumerate() {
        // PyTorch maps such files into memory, where values must be aligned.
        let options = options
            .with_alignment(64)
            .large_file(array.data.len() as u64 * 4 > u64::from(u32::MAX));
        archive
            .start_file(format!("{ROOT}/data/{i}"), options)
            .map_err(zip)?;
        for chunk in array.data.chunks(1 << 14) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            archive.write_all(&bytes).map_err(io(path))?;
        }
    }
    let file = archive.finish().map_err(zip)?;
    let file = file
        .into_inner()
        .map_err(|error| io(path)(error.into_error()))?;
    file.sync_all().map_err(io(path))
}
