//! Writes PyTorch checkpoints in the layout of `torch.save`.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::unwritten;
use super::pickle::{Value, pickle};
use crate::Result;
use dinolab_files::write_whole;

/// The folder inside the archive, independent of the file's name.
const ROOT: &str = "archive";

/// Writes a checkpoint that `torch.load(…, weights_only=True)` reads, complete or not at all.
///
/// # Errors
/// [`crate::Error::Write`].
pub fn write_pth(path: &Path, value: &Value) -> Result<()> {
    write_whole(path, |out| {
        let mut out = Remembering {
            out,
            failed: None,
            at: 0,
        };
        let written = archive(&mut out, value);
        out.failed.map_or(written, Err)
    })
    .map_err(unwritten(path))
}

/// A writer that stores the first error instead of returning it: on an error, the archive would retry
/// when dropped and print to standard error.
struct Remembering<W> {
    out: W,
    failed: Option<io::Error>,
    /// The position, as if no write had failed.
    at: u64,
}

impl<W: Write> Write for Remembering<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        Ok(())
    }
}

impl<W: Seek> Seek for Remembering<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.failed.is_none() {
            match self.out.seek(to) {
                Ok(at) => self.at = at,
                Err(error) => self.failed = Some(error),
            }
        }
        if self.failed.is_some() {
            self.at = match to {
                SeekFrom::Start(at) => at,
                SeekFrom::Current(by) => self.at.saturating_add_signed(by),
                SeekFrom::End(_) => self.at,
            };
        }
        Ok(self.at)
    }
}

fn archive(out: &mut (impl Write + Seek), value: &Value) -> io::Result<()> {
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
