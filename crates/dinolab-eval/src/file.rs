//! Writing files completely or not at all, with this crate's errors.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use crate::{Error, Result};

/// [`dinolab_files::write_whole`] with an error that names the file.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    dinolab_files::write_whole(path, fill).map_err(|source| Error::Write {
        path: path.into(),
        source,
    })
}
