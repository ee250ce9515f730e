//! Where parts lie: in a folder of this machine, or of a store.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
#[cfg(feature = "remote")]
use dinolab_data::source::{FoundObject, Objects};
use dinolab_data::source::{RemoteOptions, is_remote};
use dinolab_files::{write_atomically, write_new};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Context, Error, Result};
use crate::feature_set::MANIFEST;

/// A folder of parts. What is written appears whole or not at all.
#[derive(Clone, Debug)]
pub(crate) struct PartFolder {
    path: PathBuf,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Local,
    #[cfg(feature = "remote")]
    Store(Objects),
}

impl PartFolder {
    /// The folder at a path, or at a location such as `s3://bucket/folder`.
    ///
    /// # Errors
    /// A location that cannot be written to, or that this build does not know.
    pub fn open(path: &Path, remote: &RemoteOptions) -> Result<Self> {
        let place = match is_remote(path) {
            #[cfg(feature = "remote")]
            true => Place::Store(Objects::open(path, remote)?),
            #[cfg(not(feature = "remote"))]
            true => {
                let _ = remote;
                bail!(
                    "{}: this build cannot read and write remote locations: it needs the cargo \
                     feature remote",
                    path.display()
                )
            }
            false => Place::Local,
        };
        Ok(Self {
            path: path.to_owned(),
            place,
        })
    }

    /// The manifest as it is written, if there is one.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn manifest(&self) -> Result<Option<String>> {
        let text = self.read(MANIFEST)?.map(String::from_utf8).transpose();
        text.ok()
            .with_context(|| format!("{self}: {MANIFEST} is damaged"))
    }

    /// The content of the file `name`, if there is one.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(match &self.place {
            Place::Local => {
                let path = self.path.join(name);
                found(fs::read(&path)).with_context(|| path.display().to_string())?
            }
            #[cfg(feature = "remote")]
            Place::Store(objects) => objects.read(name)?,
        })
    }

    /// Writes the file `name` where there is none.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub fn write_new(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match &self.place {
            Place::Local => {
                let path = self.path.join(name);
                write_new(&path, bytes)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            #[cfg(feature = "remote")]
            // Not every store keeps what is there.
            Place::Store(objects) => {
                if objects.find(name)?.is_none() {
                    objects.write_new(name, bytes.to_vec())?;
                }
            }
        }
        Ok(())
    }

    /// Part `number` to be read, if it is there.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn part(&self, number: usize) -> Result<Option<PartReader>> {
        Ok(match &self.place {
            Place::Local => found(File::open(self.path_of(number)))?.map(PartReader::File),
            #[cfg(feature = "remote")]
            Place::Store(objects) => objects.find(&name(number))?.map(PartReader::Object),
        })
    }

    /// Writes part `number`.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub fn write_part(&self, number: usize, bytes: Vec<u8>) -> Result<()> {
        match &self.place {
            Place::Local => {
                let path = self.path_of(number);
                write_atomically(&path, &bytes)
                    .with_context(|| format!("cannot write {}", path.display()))
            }
            #[cfg(feature = "remote")]
            Place::Store(objects) => Ok(objects.write(&name(number), bytes)?),
        }
    }

    /// Path or location of part `number`.
    pub fn path_of(&self, number: usize) -> PathBuf {
        self.path_to(&name(number))
    }

    /// Path or location of the file `name`.
    pub fn path_to(&self, name: &str) -> PathBuf {
        match &self.place {
            Place::Local => self.path.join(name),
            #[cfg(feature = "remote")]
            Place::Store(objects) => objects.path(name),
        }
    }
}

impl fmt::Display for PartFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The file of part `number`, from 0.
fn name(number: usize) -> String {
    format!("part-{number:06}.parquet")
}

fn found<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is wrong with a part that the reader of Parquet files refused: it is damaged, unless it could not be
/// fetched.
pub(crate) fn refused(error: &ParquetError) -> Error {
    let mut causes: Vec<&(dyn std::error::Error + 'static)> = vec![error];
    while let Some(&last) = causes.last() {
        // An error of the system does not call what is in it its source.
        let inner = last
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match inner.map(|inner| inner as _).or_else(|| last.source()) {
            Some(cause) => causes.push(cause),
            None => break,
        }
    }
    match causes.iter().find_map(|cause| cause.downcast_ref()) {
        Some(dinolab_data::Error::Unreachable {
            location,
            attempts,
            reason,
        }) => Error::Data(dinolab_data::Error::Unreachable {
            location: location.clone(),
            attempts: *attempts,
            reason: reason.clone(),
        }),
        Some(dinolab_data::Error::Io { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            Error::Invalid("is missing".into())
        }
        _ => Error::Invalid(format!("is damaged: {error}")),
    }
}

/// A part that is read. Of a store's, footer and columns are requested as they are needed.
pub(crate) enum PartReader {
    File(File),
    #[cfg(feature = "remote")]
    Object(FoundObject),
    /// All of a store's, in memory.
    #[cfg(feature = "remote")]
    Bytes(Bytes),
}

impl PartReader {
    /// The same, read by one request if it is a store's.
    ///
    /// # Errors
    /// A part that cannot be read.
    pub fn whole(self) -> Result<Self> {
        Ok(match self {
            #[cfg(feature = "remote")]
            Self::Object(object) => Self::Bytes(object.read(0..object.size())?.into()),
            here => here,
        })
    }
}

impl Length for PartReader {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => Length::len(file),
            #[cfg(feature = "remote")]
            Self::Object(object) => object.size(),
            #[cfg(feature = "remote")]
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl ChunkReader for PartReader {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(match self {
            Self::File(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(start))?;
                Box::new(BufReader::new(file))
            }
            #[cfg(feature = "remote")]
            Self::Object(object) => Box::new(BufReader::with_capacity(
                AHEAD,
                ObjectReader {
                    object: object.clone(),
                    next: start,
                },
            )),
            #[cfg(feature = "remote")]
            Self::Bytes(bytes) => Box::new(bytes.get_read(start)?),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Self::File(file) => file.get_bytes(start, length),
            #[cfg(feature = "remote")]
            Self::Object(object) => object
                .read(start..start.saturating_add(length as u64))
                .map(Bytes::from)
                .map_err(|error| ParquetError::External(error.into())),
            #[cfg(feature = "remote")]
            Self::Bytes(bytes) => bytes.get_bytes(start, length),
        }
    }
}

/// Bytes of an object that are requested at a time.
#[cfg(feature = "remote")]
const AHEAD: usize = 1 << 20;

/// An object, from some place on.
#[cfg(feature = "remote")]
struct ObjectReader {
    object: FoundObject,
    next: u64,
}

#[cfg(feature = "remote")]
impl Read for ObjectReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let end = self.object.size().min(self.next + to.len() as u64);
        let bytes = self.object.read(self.next.min(end)..end);
        let bytes = bytes.map_err(io::Error::other)?;
        to[..bytes.len()].copy_from_slice(&bytes);
        self.next += bytes.len() as u64;
        Ok(bytes.len())
    }
}
