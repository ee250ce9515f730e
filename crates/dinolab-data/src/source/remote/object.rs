//! Objects read in ranges, from the cache if they are there.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::client::{Client, Version};
use super::location::Location;
use crate::source::files::ReadRange;
use crate::{Error, Result};

/// Parts of shards are kept in blocks of this many bytes.
const BLOCK: u64 = 1 << 20;
/// The walk over a shard's headers reads on where the next one is no farther than this: another
/// request takes as long as about this many bytes.
const NEAR: u64 = 512 << 10;
/// What it reads at a time where headers are near each other, and where they are not.
const AHEAD: usize = 1 << 20;
const APART: usize = 4 << 10;

impl Client {
    /// A part of an object whose version is known.
    pub(super) fn part(
        &self,
        location: &Location,
        version: &Version,
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        let Some(cache) = &self.cache else {
            return self.fetched(location, version, range);
        };
        let description = self.description(location, version, &range)?;
        if let Some(bytes) = cache.get(&description) {
            return Ok(bytes);
        }
        let bytes = self.fetched(location, version, range)?;
        cache.put(&description, &bytes);
        Ok(bytes)
    }

    /// All of an object whose version is known.
    pub(super) fn whole(&self, location: &Location, version: &Version) -> Result<Vec<u8>> {
        self.part(location, version, 0..version.size)
    }

    fn fetched(
        &self,
        location: &Location,
        version: &Version,
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        // Servers that do not know ranges can still give the whole.
        let range = (range != (0..version.size)).then_some(range);
        Ok(self.read(location, Some(version), range)?.0)
    }

    /// Keeps a whole object that was read otherwise.
    pub(super) fn keep(&self, location: &Location, version: &Version, bytes: &[u8]) -> Result<()> {
        if let Some(cache) = &self.cache {
            let range = 0..version.size;
            cache.put(&self.description(location, version, &range)?, bytes);
        }
        Ok(())
    }

    /// The cache key of a part.
    fn description(
        &self,
        location: &Location,
        version: &Version,
        range: &Range<u64>,
    ) -> Result<String> {
        Ok(format!(
            "{} {}-{}",
            self.described(location, version)?,
            range.start,
            range.end
        ))
    }

    /// The cache key of an object.
    pub(super) fn described(&self, location: &Location, version: &Version) -> Result<String> {
        Ok(format!(
            "{} {} {} {} {}",
            self.store(location)?.endpoint,
            location.text(),
            version.size,
            version.e_tag.as_deref().unwrap_or("-"),
            version.modified,
        ))
    }
}

/// A large object of which parts are read.
#[derive(Debug)]
pub(super) struct Object {
    client: Arc<Client>,
    location: Location,
    path: PathBuf,
    version: Version,
    /// Whether parts are kept in blocks, which serve any read; as they were asked for otherwise.
    blocks: bool,
}

impl Object {
    /// `blocks`: whether all of it, and of the others beside it, may be kept.
    pub(super) fn new(
        client: &Arc<Client>,
        location: Location,
        version: Version,
        blocks: bool,
    ) -> Self {
        Self {
            client: Arc::clone(client),
            path: location.path(),
            location,
            version,
            blocks,
        }
    }

    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>> {
        match &self.client.cache {
            Some(_) if self.blocks => self.by_blocks(range),
            _ => self.client.part(&self.location, &self.version, range),
        }
    }

    /// Adjacent missing blocks are one request.
    fn by_blocks(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let cache = self.client.cache.as_ref().expect("there is one");
        let of = |block: u64| block * BLOCK..((block + 1) * BLOCK).min(self.version.size);
        let describe =
            |block: u64| (self.client).description(&self.location, &self.version, &of(block));
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        let mut held = Vec::with_capacity((blocks.end - blocks.start) as usize);
        for block in blocks.clone() {
            held.push(cache.get(&describe(block)?));
        }
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        let mut append = |block: u64, content: &[u8]| {
            let its = of(block);
            let start = range.start.max(its.start) - its.start;
            let end = range.end.min(its.end) - its.start;
            bytes.extend_from_slice(&content[start as usize..end as usize]);
        };
        let mut block = blocks.start;
        while block < blocks.end {
            let at = |block: u64| (block - blocks.start) as usize;
            if let Some(content) = &held[at(block)] {
                append(block, content);
                block += 1;
                continue;
            }
            let end = (block..blocks.end)
                .find(|&next| held[at(next)].is_some())
                .unwrap_or(blocks.end);
            let span = of(block).start..of(end - 1).end;
            let content = self.client.fetched(&self.location, &self.version, span)?;
            for (content, block) in content.chunks(BLOCK as usize).zip(block..end) {
                cache.put(&describe(block)?, content);
                append(block, content);
            }
            block = end;
        }
        Ok(bytes)
    }
}

impl ReadRange for Object {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> u64 {
        self.version.size
    }

    fn stamp(&self) -> Option<(u64, i64)> {
        Some(self.version.stamp())
    }

    fn read(&self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        let range = within(start, bytes.len(), self.len())?;
        let found = self.bytes(range).map_err(io::Error::other)?;
        bytes.copy_from_slice(&found);
        Ok(())
    }
}

fn within(start: u64, length: usize, size: u64) -> io::Result<Range<u64>> {
    match start.checked_add(length as u64) {
        Some(end) if end <= size => Ok(start..end),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// An [`Object`] while its headers are looked through, once: what is read is kept only where all of
/// the object is.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    object: &'a Object,
    /// Readers of archives put errors into words of their own; this is the first one as it was.
    failed: Mutex<Option<Error>>,
}

impl<'a> Walk<'a> {
    pub(super) fn over(object: &'a Object) -> Self {
        Self {
            object,
            failed: Mutex::default(),
        }
    }

    /// Why it could not be read, where it could not.
    pub(super) fn failure(self) -> Option<Error> {
        self.failed
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadRange for Walk<'_> {
    fn path(&self) -> &Path {
        &self.object.path
    }

    fn len(&self) -> u64 {
        self.object.len()
    }

    fn ahead(&self, skipped: u64, _block: usize) -> usize {
        if skipped <= NEAR { AHEAD } else { APART }
    }

    fn read(&self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        let object = self.object;
        let range = within(start, bytes.len(), self.len())?;
        let found = if object.blocks && object.client.cache.is_some() {
            object.by_blocks(range)
        } else {
            object
                .client
                .fetched(&object.location, &object.version, range)
        };
        match found {
            Ok(found) => {
                bytes.copy_from_slice(&found);
                Ok(())
            }
            Err(error) => {
                let told = io::Error::other(error.to_string());
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
                Err(told)
            }
        }
    }
}
