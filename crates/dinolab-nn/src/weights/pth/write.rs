//! PyTorch checkpoints, written as `torch.save` lays them out.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::io;
use super::pickle::{Value, pickle};
use crate::files::write_whole;
use crate::Result;

/// The folder inside the archive, whatever the file is called.
const ROOT: &str = "archive";

/// Writes a checkpoint that `torch.load(…, weights_only=True)` reads. `path` holds either its
/// old content or all of the new.
///
/// # Errors
/// [`crate::Error::Io`] where the file cannot be written.
pub fn write_pth(path: &Path, value: &Value) -> Result<()> {
    write_whole(path, |out| archive(out, value)).map_err(io(path))
}

fn archive(out: &mut BufWriter<File>, value: &Value) -> std::io::Result<()> {
    let (pickle, storages) = pickle(value);
    let mut archive = ZipWriter::new(out);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let small: [(&str, &[u8]); 3] = [
        ("data.pkl", &pickle),
        ("byteorder", b"little"),
        ("version", b"3\n"),
    ];
    for (name, content) in small {
        archive.start_file(format!("{ROOT}/{name}"), options)?;
        archive.write_all(content)?;
    }
    for (i, array) in storages.into_iter().enumerate() {
        // PyTorch maps such files into memory, where values must be aligned.
        let options = options
            .with_alignment(64)
            .large_file(array.data.len() as u64 * 4 > u64::from(u32::MAX));
        archive.start_file(format!("{ROOT}/data/{i}"), options)?;
        for chunk in array.data.chunks(1 << 14) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            archive.write_all(&bytes)?;
        }
    }
    archive.finish()?;
    Ok(())
}
