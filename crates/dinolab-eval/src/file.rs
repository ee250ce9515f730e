//! Writing files whole or not at all, with this crate's errors.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use dinolab_nn::files;

use crate::{Error, Result};

/// [`files::write_whole`] with an error that names the file.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    files::write_whole(path, fill).map_err(unwritten(path))
}

/// The error of a file that could not be written.
pub(crate) fn unwritten(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::Write {
        path: path.into(),
        source,
    }
}
