//! Checksums of files.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::Digest;

use crate::environment::Environment;
use crate::error::{Context, Result};

/// The digest of `prefix` and a file's content, in hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn of_file<D: Digest>(
    env: &Environment<'_>,
    path: &Path,
    prefix: &[u8],
) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let length = file.metadata().with_context(cannot)?.len();
    let mut digest = D::new();
    digest.update(prefix);
    let progress = env.progress("verified MB", (length / 1_000_000) as usize);
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer).with_context(cannot)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        done += read;
        progress.set(done / 1_000_000, "");
    }
    progress.finish();
    let mut digits = String::new();
    for byte in digest.finalize() {
        let _ = write!(digits, "{byte:02x}");
    }
    Ok(digits)
}
