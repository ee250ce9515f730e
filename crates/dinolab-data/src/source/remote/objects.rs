//! Objects of a folder that others than sources read, and write.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RemoteOptions;
use super::client::{Client, Version};
use super::location::{Location, Scheme};
use crate::{Error, Result};

/// The objects of a folder such as `s3://bucket/folder`. What is written appears whole or not at
/// all.
#[derive(Clone, Debug)]
pub struct Objects {
    client: Arc<Client>,
    folder: Location,
}

/// An object as it was when it was found.
#[derive(Clone, Debug)]
pub struct FoundObject {
    client: Arc<Client>,
    location: Location,
    version: Version,
}

impl Objects {
    /// The folder at a location; nothing is asked of the store yet. There is no cache.
    ///
    /// # Errors
    /// [`Error::BadSource`] for a location that is none, or that of a web server.
    pub fn open(folder: &Path, options: &RemoteOptions) -> Result<Self> {
        let location = Location::parse(&folder.to_string_lossy())?;
        if location.scheme == Scheme::Http {
            return Err(Error::BadSource {
                path: location.path(),
                reason: "a web server takes no files; give a folder of a bucket, such as \
                         s3://BUCKET/FOLDER"
                    .into(),
            });
        }
        let options = RemoteOptions {
            cache: None,
            ..options.clone()
        };
        Ok(Self {
            client: Client::new(&options)?,
            folder: location,
        })
    }

    /// The location of an object.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder
            .below(name)
            .map_or_else(|_| PathBuf::from(name), |location| location.path())
    }

    /// The object `name`, if there is one.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn find(&self, name: &str) -> Result<Option<FoundObject>> {
        let location = self.folder.below(name)?;
        Ok(
            found(self.client.version(&location))?.map(|version| FoundObject {
                client: Arc::clone(&self.client),
                location,
                version,
            }),
        )
    }

    /// The content of the object `name`, if there is one.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let read = self.client.read(&self.folder.below(name)?, None, None);
        Ok(found(read)?.map(|(bytes, _)| bytes))
    }

    /// Writes the object `name`, in place of one that is there.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn write(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.client.write(&self.folder.below(name)?, bytes, false)
    }

    /// Writes the object `name` unless there is one, which of several writers then only one does.
    /// Stores that cannot promise that (`NotImplemented`) are written to all the same.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn write_new(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.client.write(&self.folder.below(name)?, bytes, true)
    }
}

impl FoundObject {
    /// Bytes of the object.
    pub fn size(&self) -> u64 {
        self.version.size
    }

    /// A part of it.
    ///
    /// # Errors
    /// [`Error::Io`] (`UnexpectedEof`) for a range beyond its end; [`Error::Unreachable`], also where
    /// it is another object by now.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.end > self.version.size || range.start > range.end {
            return Err(Error::Io {
                path: self.location.path(),
                source: io::ErrorKind::UnexpectedEof.into(),
            });
        }
        (self.client).part(&self.location, &self.version, range)
    }
}

/// Takes an object that is not there for no error.
fn found<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
